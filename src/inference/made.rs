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
    /// What it cost, which is what one that goes on from it reads first.
    tokens: u64,
    owed: Option<Owed>,
}

/// A response, as it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id at the provider.
    pub id: Box<str>,
    /// The route that made it.
    pub route: Arc<str>,
    /// What it cost, in tokens.
    pub tokens: u64,
}

impl Made {
    /// Whether `id` can be one that is remembered, and asked for in a path as it stands.
    pub fn is_id(id: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(plain)
    }

    /// Remembers a response, and what of it is not known yet.
    pub fn note(&mut self, made: Kept, owed: Option<Owed>) {
        self.push(made, owed);
        self.fresh = (self.fresh + 1).min(self.list.len());
    }

    /// Remembers what an earlier gateway kept.
    pub fn restore(&mut self, made: Kept) {
        self.push(made, None);
    }

    fn push(&mut self, Kept { id, route, tokens }: Kept, owed: Option<Owed>) {
        if self.list.len() >= REMEMBERED {
            self.list.pop_front();
        }
        self.list.push_back(One { id, route, tokens, owed });
    }

    /// What a response cost, in tokens; 0 of one that is not known.
    pub fn tokens(&self, id: &str) -> u64 {
        self.list.iter().rev().find(|one| *one.id == *id).map_or(0, |one| one.tokens)
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
    pub fn settle(&mut self, id: &str, tokens: u64) -> Option<Owed> {
        let one = self.list.iter_mut().rev().find(|one| *one.id == *id)?;
        let owed = one.owed.take()?;
        one.tokens = tokens;
        Some(owed)
    }

    /// Those that came since this was last asked, to be kept.
    pub fn fresh(&mut self) -> Vec<Kept> {
        let from = self.list.len() - std::mem::take(&mut self.fresh).min(self.list.len());
        let kept =
            |one: &One| Kept { id: one.id.clone(), route: one.route.clone(), tokens: one.tokens };
        self.list.range(from..).map(kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, route: &str) -> Kept {
        Kept { id: id.into(), route: route.into(), tokens: 7 }
    }

    #[test]
    fn what_was_made_is_known_and_nothing_else() {
        let mut made = Made::default();
        made.restore(kept("old", "a"));
        made.note(kept("resp_1", "b"), None);
        assert_eq!(made.route("old").map(|route| &**route), Some("a"));
        assert_eq!(made.route("resp_1").map(|route| &**route), Some("b"));
        assert_eq!((made.route("resp_2"), made.tokens("resp_2")), (None, 0));
        assert!(Made::is_id("resp_1-x"));
        for id in ["", "a/b", "a%2fb", "a.b", "ä", &"x".repeat(97)] {
            assert!(!Made::is_id(id), "{id}");
        }
    }

    #[test]
    fn what_is_owed_is_settled_once() {
        let mut made = Made::default();
        let counted = super::super::Tokens { input: 3, output: 4, estimated: true };
        let at = std::time::SystemTime::UNIX_EPOCH;
        let owed = Owed { route: "a".into(), model: "m".into(), counted, at };
        made.note(kept("b", "a"), Some(owed.clone()));
        made.note(kept("c", "a"), None);
        assert!(made.owes("b") && !made.owes("c"));
        assert_eq!((made.settle("b", 100), made.tokens("b")), (Some(owed), 100));
        assert_eq!((made.settle("b", 1), made.tokens("b")), (None, 100));
        assert_eq!((made.settle("c", 1), made.tokens("c")), (None, 7));
    }

    #[test]
    fn what_is_new_is_given_to_be_kept_once() {
        let mut made = Made::default();
        made.restore(kept("old", "a"));
        made.note(kept("new", "a"), None);
        assert_eq!(made.fresh(), [kept("new", "a")]);
        assert_eq!(made.fresh(), []);
    }

    #[test]
    fn memory_is_bounded_and_what_was_lost_meanwhile_is_no_trouble() {
        let mut made = Made::default();
        for n in 0..2 * REMEMBERED {
            made.note(kept(&n.to_string(), "a"), None);
        }
        assert_eq!(made.route("0"), None);
        assert_eq!(made.fresh().len(), REMEMBERED);
    }
}
