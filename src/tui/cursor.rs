//! The cursor of a list: what it stands on, by name and never by row.
//!
//! Owns the rule that keeps a key from hitting what slid under the cursor: for [`GUARD`] after the
//! row under the cursor became another, or another content, without the user's doing, keys that
//! act on it do nothing.

/// How long, in milliseconds, a change under the cursor keeps keys off, and a new prompt is deaf.
pub(super) const GUARD: u64 = 300;

/// A place in a list of things that have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor<K> {
    selected: Option<K>,
    /// Its row when last looked at: where the cursor stays when the thing goes.
    row: usize,
    /// When what is under the cursor last changed without the user's doing.
    shaken: Option<u64>,
}

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self { selected: None, row: 0, shaken: None }
    }
}

impl<K: Clone + PartialEq> Cursor<K> {
    /// What it stands on.
    pub fn selected(&self) -> Option<&K> {
        self.selected.as_ref()
    }

    /// Its row when the list was last settled.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Whether keys that act on what it stands on are to do nothing at `now`.
    pub fn guarded(&self, now: u64) -> bool {
        self.shaken.is_some_and(|at| now < at.saturating_add(GUARD))
    }

    /// What it stands on shows something else from now on.
    pub fn shake(&mut self, now: u64) {
        self.shaken = Some(now);
    }

    /// Follows the thing to its new row; where it went, stands on what took its place.
    pub fn settle(&mut self, rows: &[K], now: u64) {
        let found = self.selected.as_ref().and_then(|key| rows.iter().position(|row| row == key));
        if let Some(row) = found {
            self.row = row;
            return;
        }
        self.row = self.row.min(rows.len().saturating_sub(1));
        let next = rows.get(self.row).cloned();
        if next != self.selected {
            self.selected = next;
            self.shaken = Some(now);
        }
    }

    /// The user moves it by `steps` rows, at most to either end.
    pub fn step(&mut self, rows: &[K], steps: isize) {
        let last = rows.len().saturating_sub(1);
        self.go(rows, self.row.saturating_add_signed(steps).min(last));
    }

    /// The user moves it to a row.
    pub fn go(&mut self, rows: &[K], row: usize) {
        if let Some(key) = rows.get(row) {
            self.row = row;
            if self.selected.as_ref() != Some(key) {
                self.selected = Some(key.clone());
                self.shaken = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_follows_its_thing_and_not_its_row() {
        let mut cursor = Cursor::default();
        cursor.settle(&[7, 8, 9], 0);
        cursor.step(&[7, 8, 9], 1);
        cursor.settle(&[1, 2, 7, 8, 9], 1000);
        assert_eq!((cursor.selected(), cursor.row()), (Some(&8), 3));
        assert!(!cursor.guarded(1000), "the same thing is still under it");
    }

    #[test]
    fn what_took_the_place_of_a_thing_that_went_is_guarded() {
        let mut cursor = Cursor::default();
        cursor.settle(&[7, 8, 9], 0);
        cursor.settle(&[8, 9], 1000);
        assert_eq!(cursor.selected(), Some(&8));
        assert!(cursor.guarded(1299) && !cursor.guarded(1300));
        cursor.step(&[8, 9], 1);
        assert!(!cursor.guarded(1001), "the user moved there");
    }

    #[test]
    fn a_step_that_moves_nothing_lifts_no_guard() {
        let mut cursor = Cursor::default();
        cursor.settle(&[7], 1000);
        cursor.step(&[7], 1);
        assert!(cursor.guarded(1001));
        cursor.settle(&[], 2000);
        assert_eq!(cursor.selected(), None);
    }
}
