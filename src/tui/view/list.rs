//! Which rows of a list are on the screen.
//!
//! Owns the window: the row under the cursor stays in the middle while rows come and go around it,
//! and only what is seen is made.

use crate::tui::strip::Strip;

/// The rows of a list that are seen.
pub(super) struct Rows {
    /// What stands above them.
    pub(super) heading: Vec<Strip>,
    /// The rows from top to bottom, by their place in the list.
    pub(super) seen: Vec<(usize, Vec<Strip>)>,
    /// The row under the cursor.
    pub(super) selected: Option<usize>,
}

impl Rows {
    /// The row whose lines stand `line` lines below the heading.
    pub(super) fn at(&self, line: usize) -> Option<usize> {
        let mut end = 0;
        self.seen.iter().find_map(|(row, lines)| {
            end += lines.len();
            (line < end).then_some(*row)
        })
    }
}

/// Of `count` rows those around `selected` that fill `height` lines. The one under the cursor is
/// always among them; at the edges a row may be cut.
pub(super) fn window(
    count: usize,
    selected: usize,
    height: usize,
    row: impl Fn(usize) -> Vec<Strip>,
) -> Vec<(usize, Vec<Strip>)> {
    if count == 0 || height == 0 {
        return Vec::new();
    }
    let selected = selected.min(count - 1);
    let own = row(selected);
    let mut used = own.len();
    let mut above = Vec::new();
    let mut next = selected;
    while next > 0 && above_lines(&above) < height.saturating_sub(own.len()) / 2 {
        next -= 1;
        above.push((next, row(next)));
    }
    used += above_lines(&above);
    let mut below = Vec::new();
    for at in selected + 1..count {
        if used >= height {
            break;
        }
        let lines = row(at);
        used += lines.len();
        below.push((at, lines));
    }
    while next > 0 && used < height {
        next -= 1;
        let lines = row(next);
        used += lines.len();
        above.push((next, lines));
    }
    // What is too much goes at the top, so that the cursor's row is whole.
    while used > height && above_lines(&above) + own.len() > height {
        match above.pop() {
            Some((_, lines)) => used -= lines.len(),
            None => break,
        }
    }
    above.reverse();
    above.push((selected, own));
    above.extend(below);
    clip(above, height)
}

fn above_lines(rows: &[(usize, Vec<Strip>)]) -> usize {
    rows.iter().map(|(_, lines)| lines.len()).sum()
}

fn clip(rows: Vec<(usize, Vec<Strip>)>, height: usize) -> Vec<(usize, Vec<Strip>)> {
    let mut left = height;
    let clipped = rows.into_iter().map(|(row, mut lines)| {
        lines.truncate(left);
        left -= lines.len();
        (row, lines)
    });
    clipped.filter(|(_, lines)| !lines.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(row: usize) -> Vec<Strip> {
        vec![Strip::new(); 1 + row % 4]
    }

    #[test]
    fn the_row_under_the_cursor_is_whole_and_the_screen_is_full() {
        for count in 1..40 {
            for selected in 0..count {
                for height in 4..20 {
                    let rows = window(count, selected, height, lines);
                    let own = rows.iter().find(|(row, _)| *row == selected).unwrap();
                    assert_eq!(own.1.len(), lines(selected).len());
                    let whole: usize = (0..count).map(|row| lines(row).len()).sum();
                    let seen: usize = rows.iter().map(|(_, lines)| lines.len()).sum();
                    assert!(seen <= height, "{count} {selected} {height}");
                    // A row that does not fit at the top leaves at most its own lines free.
                    assert!(seen + 3 >= whole.min(height), "{count} {selected} {height}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_seen_is_made() {
        let made = std::cell::Cell::new(0);
        let rows = window(100_000, 50_000, 20, |row| {
            made.set(made.get() + 1);
            lines(row)
        });
        assert!(!rows.is_empty() && made.get() <= 21, "{}", made.get());
    }
}
