//! Walks several languages at once: every set of patterns that some text matches together, with
//! a text for each.
//!
//! Exact over the letters that the patterns tell apart: letters that no pattern tells apart stand
//! for one another. Bounded: past the bound the answer is `None`, which the caller must take as
//! "anything may be".

use crate::policy::pattern::{Automaton, Language, Step};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

/// States that are visited before giving up.
const MOST_STATES: usize = 20_000;

/// A text, and which of the languages it is in.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) within: Box<[bool]>,
    /// It could only be had in a way that other programs may read otherwise.
    pub(super) odd: bool,
}

/// What is appended in one step.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) text: String,
    /// As those read it that decode once more.
    pub(super) decoded: String,
}

impl From<char> for Letter {
    fn from(letter: char) -> Self {
        Self { text: letter.into(), decoded: letter.into() }
    }
}

/// Which texts there are at all, as an automaton of its own; it starts in 0.
pub(super) trait Grammar {
    /// The state after a letter, if it may follow.
    fn step(&self, state: u8, letter: &str) -> Option<u8>;
    /// Whether a text may end here, and how odd it is then: 0 is best, from [`ODD`] on it is odd.
    fn end(&self, state: u8) -> Option<u8>;
}

/// See [`Grammar::end`].
pub(super) const ODD: u8 = 2;

/// Any text.
pub(super) struct Anything;

impl Grammar for Anything {
    fn step(&self, _: u8, _: &str) -> Option<u8> {
        Some(0)
    }
    fn end(&self, _: u8) -> Option<u8> {
        Some(0)
    }
}

/// Languages over the text as it stands, and over the text decoded once more.
#[derive(Clone, Copy)]
pub(super) struct Readers<'l> {
    pub(super) plain: &'l [Language],
    pub(super) decoded: &'l [Language],
}

struct Node {
    key: Box<[u32]>,
    from: usize,
    letter: usize,
}

/// One word for each set of languages that some text is in; the least odd, then the shortest.
pub(super) fn words(
    readers: Readers<'_>,
    letters: &[Letter],
    grammar: &dyn Grammar,
) -> Option<Vec<Word>> {
    let mut plain: Vec<_> = readers.plain.iter().map(Automaton::new).collect();
    let mut decoded: Vec<_> = readers.decoded.iter().map(Automaton::new).collect();
    let languages = plain.len() + decoded.len();
    let start: Box<[u32]> = vec![0; languages + 1].into();
    let mut seen: HashMap<Box<[u32]>, ()> = HashMap::from([(start.clone(), ())]);
    let mut nodes = vec![Node { key: start, from: 0, letter: 0 }];
    let mut queue = VecDeque::from([0]);
    let mut best: HashMap<Box<[bool]>, (u8, usize)> = HashMap::new();
    while let Some(at) = queue.pop_front() {
        let key = nodes[at].key.clone();
        if let Some(odd) = grammar.end(key[languages] as u8) {
            let ends = plain.iter().zip(&key[..]).map(|(a, s)| a.ends(*s));
            let more = decoded.iter().zip(&key[plain.len()..]).map(|(a, s)| a.ends(*s));
            let within: Box<[bool]> = ends.chain(more).collect();
            let found = best.entry(within).or_insert((odd, at));
            if odd < found.0 {
                *found = (odd, at);
            }
        }
        for (number, letter) in letters.iter().enumerate() {
            let Some(state) = grammar.step(key[languages] as u8, &letter.text) else { continue };
            let mut next = key.clone();
            let (first, second) = next.split_at_mut(plain.len());
            advance(&mut plain, first, &letter.text);
            advance(&mut decoded, second, &letter.decoded);
            next[languages] = u32::from(state);
            if seen.insert(next.clone(), ()).is_none() {
                if nodes.len() == MOST_STATES {
                    return None;
                }
                nodes.push(Node { key: next, from: at, letter: number });
                queue.push_back(nodes.len() - 1);
            }
        }
    }
    let word = |(within, (odd, at)): (Box<[bool]>, (u8, usize))| Word {
        text: spelled(&nodes, at, letters),
        within,
        odd: odd >= ODD,
    };
    let mut words: Vec<Word> = best.into_iter().map(word).collect();
    words.sort_by(|a, b| (a.text.len(), &a.text).cmp(&(b.text.len(), &b.text)));
    Some(words)
}

fn advance(automata: &mut [Automaton<'_>], states: &mut [u32], text: &str) {
    for (automaton, state) in automata.iter_mut().zip(states) {
        *state = text.chars().fold(*state, |state, letter| automaton.step(state, letter));
    }
}

fn spelled(nodes: &[Node], mut at: usize, letters: &[Letter]) -> String {
    let mut taken = Vec::new();
    while at > 0 {
        taken.push(letters[nodes[at].letter].text.as_str());
        at = nodes[at].from;
    }
    taken.into_iter().rev().collect()
}

/// Of the candidates, the first of each kind that the languages tell apart, and those in `kept`.
pub(super) fn told_apart<'l>(
    languages: impl Iterator<Item = &'l Language>,
    candidates: impl Iterator<Item = char>,
    kept: &[char],
) -> Vec<char> {
    let mut tests: Vec<&Step> = Vec::new();
    for step in languages.flat_map(Language::steps) {
        if matches!(step, Step::Char(_) | Step::Class { .. }) && !tests.contains(&step) {
            tests.push(step);
        }
    }
    let mut kinds: BTreeSet<Vec<bool>> = BTreeSet::new();
    let mut letters: Vec<char> = Vec::new();
    for letter in candidates {
        let kind = tests.iter().map(|step| takes(step, letter)).collect();
        if (kinds.insert(kind) || kept.contains(&letter)) && !letters.contains(&letter) {
            letters.push(letter);
        }
    }
    letters
}

fn takes(step: &Step, letter: char) -> bool {
    match step {
        Step::Char(c) => *c == letter,
        Step::Class { ranges, .. } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter))
        }
        Step::One | Step::Star | Step::All | Step::Deep | Step::Within | Step::Rest | Step::End => {
            false
        }
    }
}

/// The characters that the languages name: single ones, and the ends of ranges.
pub(super) fn named<'l>(languages: impl Iterator<Item = &'l Language>) -> BTreeSet<char> {
    let mut named = BTreeSet::new();
    for step in languages.flat_map(Language::steps) {
        match step {
            Step::Char(c) => {
                named.insert(*c);
            }
            Step::Class { ranges, .. } => {
                // The ends, and what lies right beyond them.
                for (low, high) in ranges {
                    named.extend([*low, *high]);
                    named.extend(char::from_u32(u32::from(*high) + 1));
                    named.extend(u32::from(*low).checked_sub(1).and_then(char::from_u32));
                }
            }
            Step::One
            | Step::Star
            | Step::All
            | Step::Deep
            | Step::Within
            | Step::Rest
            | Step::End => {}
        }
    }
    named
}

/// Letters in the order in which people would like to see them.
pub(super) fn pleasant() -> impl Iterator<Item = char> {
    "xyzwvutsrqponmlkjihgfedcba"
        .chars()
        .chain('0'..='9')
        .chain('A'..='Z')
        .chain(('!'..='~').filter(|c| !c.is_ascii_alphanumeric()))
}

/// One word for each set of languages over free text (values, names, file names).
pub(super) fn texts(languages: &[Language]) -> Option<Vec<Word>> {
    texts_of(languages, &Anything)
}

/// As [`texts`], of the texts of a grammar.
pub(super) fn texts_of(languages: &[Language], grammar: &dyn Grammar) -> Option<Vec<Word>> {
    let candidates = pleasant().chain(named(languages.iter())).chain(['\u{e9}', ' ']);
    let letters = told_apart(languages.iter(), candidates, &['/', ' ']);
    let letters: Vec<Letter> = letters.into_iter().map(Letter::from).collect();
    words(Readers { plain: languages, decoded: &[] }, &letters, grammar)
}
