//! The responses that a sandbox made and may ask for again: where each is, and what of its cost is
//! not known yet.

use super::ledger::Owed;
use std::collections::VecDeque;
use std::sync::Arc;

/// Responses that are remembered; the oldest is forgotten first.
pub const REMEMBERED: usize = 4096;

/// The longest id that is remembered, in bytes; a provider's has 53.
const LONGEST: usize = 96;

/// The responses of one sandbox.
#[derive(Debug, Default)]
pub struct Made {
    list: VecDeque<One>,
    /// How many of the last ones nobody has taken to keep them.
    fresh: usize,
}

#[derive(Debug)]
struct One {
    id: Box<str>,
    route: Arc<str>,
    owed: Option<Owed>,
}

impl Made {
    /// Whether `id` can be one that is remembered, and asked for in a path as it stands.
    pub fn is_id(id: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(plain)
    }

    /// Remembers that `route` made a response, and what it still owes.
    pub fn note(&mut self, id: &str, route: &Arc<str>, owed: Option<Owed>) {
        self.push(id, route, owed);
        self.fresh = (self.fresh + 1).min(self.list.len());
    }

    /// Remembers what an earlier gateway kept.
    pub fn restore(&mut self, id: &str, route: &Arc<str>) {
        self.push(id, route, None);
    }

    fn push(&mut self, id: &str, route: &Arc<str>, owed: Option<Owed>) {
        if self.list.len() >= REMEMBERED {
            self.list.pop_front();
        }
        self.list.push_back(One { id: id.into(), route: route.clone(), owed });
    }

    /// Which route made a response.
    pub fn route(&self, id: &str) -> Option<&Arc<str>> {
        self.list.iter().rev().find(|one| *one.id == *id).map(|one| &one.route)
    }

    /// Whether a response's cost is not known yet.
    pub fn owes(&self, id: &str) -> bool {
        self.list.iter().any(|one| *one.id == *id && one.owed.is_some())
    }

    /// Its cost is known now: what was counted in its stead, once.
    pub fn settle(&mut self, id: &str) -> Option<Owed> {
        self.list.iter_mut().rev().find(|one| *one.id == *id)?.owed.take()
    }

    /// Those that came since this was last asked, to be kept: id and route.
    pub fn fresh(&mut self) -> Vec<(Box<str>, Arc<str>)> {
        let from = self.list.len() - std::mem::take(&mut self.fresh).min(self.list.len());
        self.list.range(from..).map(|one| (one.id.clone(), one.route.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_known_and_nothing_else() {
        let mut made = Made::default();
        made.restore("old", &"a".into());
        made.note("resp_1", &"b".into(), None);
        assert_eq!(made.route("old").map(|route| &**route), Some("a"));
        assert_eq!(made.route("resp_1").map(|route| &**route), Some("b"));
        assert_eq!(made.route("resp_2"), None);
        assert!(Made::is_id("resp_1-x"));
        for id in ["", "a/b", "a%2fb", "a.b", "ä", &"x".repeat(97)] {
            assert!(!Made::is_id(id), "{id}");
        }
    }

    #[test]
    fn what_is_new_is_given_to_be_kept_once() {
        let mut made = Made::default();
        made.restore("old", &"a".into());
        made.note("new", &"a".into(), None);
        assert_eq!(made.fresh(), [("new".into(), "a".into())]);
        assert_eq!(made.fresh(), []);
    }

    #[test]
    fn memory_is_bounded_and_what_was_lost_meanwhile_is_no_trouble() {
        let mut made = Made::default();
        for n in 0..2 * REMEMBERED {
            made.note(&n.to_string(), &"a".into(), None);
        }
        assert_eq!(made.route("0"), None);
        assert_eq!(made.fresh().len(), REMEMBERED);
    }
}
