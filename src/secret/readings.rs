//! Looks for spellings in every reading of a text.
//!
//! Each escape is read as what it stands for, and also as it stands, whatever was made of those
//! before: who wrote the text may have escaped any byte of a value in any way, and a value may
//! itself hold what looks like an escape. Where in a text one begins to look makes no difference.

use super::escape;
use super::forms::Form;
use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, PatternID};
use std::ops::{ControlFlow, Range};

/// Places that an escape may lead to, and the one that it leads from.
const ROOMS: usize = escape::LONGEST + 1;

/// What the readings of a text are searched with.
pub(super) struct Readings {
    search: NFA,
    forms: Vec<Form>,
    /// The bytes that a spelling has: an escape that stands for another makes no difference.
    has: [bool; 256],
}

impl Readings {
    /// For `forms`, which are not too long for an automaton.
    pub(super) fn new(forms: Vec<Form>) -> Self {
        let search = NFA::new(forms.iter().map(|form| form.as_slice()))
            .expect("values have at most 16 KiB, far from what an automaton can't hold");
        let mut has = [false; 256];
        for b in forms.iter().flat_map(|form| form.iter()) {
            has[usize::from(*b)] = true;
        }
        Self { search, forms, has }
    }

    /// Whether `text` may read as something else than it is, as far as it concerns the spellings.
    pub(super) fn differ(&self, text: &[u8]) -> bool {
        let [a, b, c] = escape::MARKS;
        memchr::memchr3_iter(a, b, c, text).any(|at| self.escape(&text[at..]).is_some())
    }

    /// Whether a reading of `text` holds a spelling.
    pub(super) fn have_match(&self, text: &[u8]) -> bool {
        self.look(text, |_, _| ControlFlow::Break(())).is_break()
    }

    /// Where spellings stand in `text`, in any reading.
    pub(super) fn push(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        let looked = self.look(text, |end, which| {
            found.push(start(&self.forms[which.as_usize()], text, end)..end);
            ControlFlow::Continue(())
        });
        debug_assert!(looked.is_continue(), "nothing stops it");
    }

    fn escape(&self, text: &[u8]) -> Option<(u8, usize)> {
        escape::read(text).filter(|(byte, _)| self.has[usize::from(*byte)])
    }

    /// Follows all readings at once, and tells `met` each end of a spelling.
    fn look(
        &self,
        text: &[u8],
        mut met: impl FnMut(usize, PatternID) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let root = self.search.start_state(Anchored::No).expect("an automaton starts unanchored");
        // What the search may be at, for this place of the text and those that an escape leads to.
        let mut places: [Vec<StateID>; ROOMS] = Default::default();
        places[0].push(root);
        let (mut at, mut reached) = (0, 0);
        while at < text.len() {
            let mut here = std::mem::take(&mut places[at % ROOMS]);
            if let [state] = here[..]
                && at >= reached
            {
                let (end, state) = self.run(text, at, (state, root), &mut met)?;
                at = end;
                here[0] = state;
            }
            let escape = text.get(at).and_then(|b| self.marked(*b, &text[at..]));
            let plain = text.get(at).map(|b| (*b, 1));
            for (byte, width) in plain.into_iter().chain(escape) {
                reached = reached.max(at + width);
                let there = &mut places[(at + width) % ROOMS];
                for state in &here {
                    let next = self.search.next_state(Anchored::No, *state, byte);
                    self.tell(next, at + width, &mut met)?;
                    arrive(there, next, root);
                }
            }
            here.clear();
            places[at % ROOMS] = here;
            at += 1;
        }
        ControlFlow::Continue(())
    }

    /// Goes on from `state` while there is one reading, to the next escape that makes another: where
    /// that is.
    fn run(
        &self,
        text: &[u8],
        from: usize,
        (mut state, root): (StateID, StateID),
        met: &mut impl FnMut(usize, PatternID) -> ControlFlow<()>,
    ) -> ControlFlow<(), (usize, StateID)> {
        for (at, &b) in text.iter().enumerate().skip(from) {
            if let Some((byte, _)) = self.marked(b, &text[at..])
                && self.search.next_state(Anchored::No, state, byte) != root
            {
                return ControlFlow::Continue((at, state));
            }
            state = self.search.next_state(Anchored::No, state, b);
            self.tell(state, at + 1, met)?;
        }
        ControlFlow::Continue((text.len(), state))
    }

    /// The escape at the start of `text`, which begins with `b`.
    fn marked(&self, b: u8, text: &[u8]) -> Option<(u8, usize)> {
        if escape::MARKS.contains(&b) { self.escape(text) } else { None }
    }

    /// Tells the spellings that end at `end`, where the search is at `state`.
    fn tell(
        &self,
        state: StateID,
        end: usize,
        met: &mut impl FnMut(usize, PatternID) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.search.is_match(state) {
            for n in 0..self.search.match_len(state) {
                met(end, self.search.match_pattern(state, n))?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// `next` is one more state that the search may be at. What begins at the root begins anywhere, so
/// it adds nothing to another.
fn arrive(there: &mut Vec<StateID>, next: StateID, root: StateID) {
    if there.as_slice() == [root] {
        there[0] = next;
    } else if !there.contains(&next) && (next != root || there.is_empty()) {
        there.push(next);
    }
}

/// The first place in `text` from which a reading up to `end` is `form`.
fn start(form: &[u8], text: &[u8], end: usize) -> usize {
    let mut places = vec![end];
    for wanted in form.iter().rev() {
        let mut before = Vec::with_capacity(places.len());
        for &end in &places {
            for at in end.saturating_sub(escape::LONGEST)..end {
                let plain = at + 1 == end && text[at] == *wanted;
                let fits = plain || escape::read(&text[at..end]) == Some((*wanted, end - at));
                if fits && !before.contains(&at) {
                    before.push(at);
                }
            }
        }
        places = before;
    }
    places.into_iter().min().unwrap_or(end)
}
