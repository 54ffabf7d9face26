//! Patterns as regular languages: which texts does each set of them match together?
//!
//! Owns the translation of a compiled pattern to steps of an automaton, and its lazy subset
//! construction. Matching a request is the patterns' own business, which the property test below
//! holds this against; here it is asked what *could* match. Invariant: [`Language::accepts`] and
//! the pattern's `matches` agree on every text.

use super::glob::Parsed;
use hashbrown::HashMap;
use std::fmt::{self, Write as _};

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum Step {
    /// This character.
    Char(char),
    /// A character in, or outside, the ranges; never the separator.
    Class {
        /// Outside.
        negated: bool,
        /// Both ends included.
        ranges: Box<[(char, char)]>,
    },
    /// Any character but the separator.
    One,
    /// Any number of characters but the separator.
    Star,
    /// Any number of characters.
    All,
    /// Any number of segments, each with the separator behind it.
    Deep,
    /// Within a segment of the `Deep` before.
    Within,
    /// The end, or the separator and whatever follows.
    Rest,
    /// It matches here.
    End,
}

/// A pattern as steps: several programs, one behind the other, each ending with [`Step::End`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::policy) struct Language {
    steps: Vec<Step>,
    starts: Vec<u16>,
    separator: Option<char>,
}

impl Language {
    pub(super) fn new(separator: Option<char>) -> Self {
        Self { separator, ..Self::default() }
    }

    /// Adds one program.
    pub(super) fn add(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.starts.push(self.steps.len() as u16);
        self.steps.extend(steps);
        self.steps.push(Step::End);
    }

    /// The steps, for the letters that they tell apart.
    pub(in crate::policy) fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn start(&self) -> Vec<u16> {
        let mut set = Vec::new();
        self.starts.iter().for_each(|start| self.reach(*start, &mut set));
        sorted(set)
    }

    /// Adds a place, and those that are reached from it by taking nothing.
    fn reach(&self, at: u16, set: &mut Vec<u16>) {
        if set.contains(&at) {
            return;
        }
        set.push(at);
        match self.steps.get(usize::from(at)) {
            Some(Step::Star | Step::All) => self.reach(at + 1, set),
            Some(Step::Deep | Step::Rest) => self.reach(at + 2, set),
            Some(Step::Char(_) | Step::Class { .. } | Step::One | Step::Within | Step::End)
            | None => {}
        }
    }

    fn next(&self, set: &[u16], letter: char) -> Vec<u16> {
        let separates = self.separator == Some(letter);
        let mut next = Vec::new();
        for at in set {
            let to = match &self.steps[usize::from(*at)] {
                Step::Char(c) => (*c == letter).then_some(at + 1),
                Step::Class { negated, ranges } => {
                    let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter));
                    (!separates && within != *negated).then_some(at + 1)
                }
                Step::One => (!separates).then_some(at + 1),
                Step::Star => (!separates).then_some(*at),
                Step::All => Some(*at),
                Step::Deep => Some(if separates { *at } else { at + 1 }),
                Step::Within => Some(if separates { at - 1 } else { *at }),
                Step::Rest => separates.then_some(at + 1),
                Step::End => None,
            };
            if let Some(to) = to {
                self.reach(to, &mut next);
            }
        }
        sorted(next)
    }

    fn ends(&self, set: &[u16]) -> bool {
        set.iter().any(|at| self.steps[usize::from(*at)] == Step::End)
    }

    /// Whether the whole text is matched. For tests: matching is the pattern's own business.
    #[cfg(test)]
    fn accepts(&self, text: &str) -> bool {
        let set = text.chars().fold(self.start(), |set, letter| self.next(&set, letter));
        self.ends(&set)
    }
}

fn sorted(mut set: Vec<u16>) -> Vec<u16> {
    set.sort_unstable();
    set
}

/// A language as states that are numbered when they are first reached.
#[derive(Debug)]
pub(in crate::policy) struct Automaton<'l> {
    language: &'l Language,
    states: Vec<Vec<u16>>,
    numbers: HashMap<Vec<u16>, u32>,
    steps: HashMap<(u32, char), u32>,
}

impl<'l> Automaton<'l> {
    /// The automaton; its first state is 0.
    pub(in crate::policy) fn new(language: &'l Language) -> Self {
        let start = language.start();
        let numbers = HashMap::from([(start.clone(), 0)]);
        Self { language, states: vec![start], numbers, steps: HashMap::new() }
    }

    /// The state after a letter.
    pub(in crate::policy) fn step(&mut self, state: u32, letter: char) -> u32 {
        if let Some(next) = self.steps.get(&(state, letter)) {
            return *next;
        }
        let set = self.language.next(&self.states[state as usize], letter);
        let next = *self.numbers.entry(set).or_insert_with_key(|set| {
            self.states.push(set.clone());
            (self.states.len() - 1) as u32
        });
        self.steps.insert((state, letter), next);
        next
    }

    /// Whether what led to the state is matched.
    pub(in crate::policy) fn ends(&self, state: u32) -> bool {
        self.language.ends(&self.states[state as usize])
    }
}

impl Parsed {
    /// The glob as steps, without an end.
    pub(super) fn steps(&self, out: &mut Vec<Step>) {
        match self {
            Self::Exact(text) => out.extend(text.chars().map(Step::Char)),
            Self::Any => out.push(Step::Star),
            Self::Glob(glob) => glob.steps(out),
        }
    }
}

/// As it may be written in a host pattern: text and stars.
impl fmt::Display for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = Vec::new();
        self.steps(&mut steps);
        steps.iter().try_for_each(|step| match step {
            Step::Char(c) => f.write_char(*c),
            Step::Star => f.write_char('*'),
            _ => f.write_char('?'),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HostPattern, PathPattern, TextPattern};
    use crate::addr::Host;
    use proptest::prelude::*;

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[ab]{1,2}",
            2 => Just("*".to_owned()),
            3 => Just("**".to_owned()),
            1 => "[ab]\\*[ab]?",
            1 => "\\*[ab]\\*",
            1 => "[ab]\\?",
            1 => Just("[ab]b".to_owned()),
            1 => Just("[!a]".to_owned()),
            1 => Just("{a,b*}".to_owned()),
            1 => Just("{a,ab/b}".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_path_is_accepted_where_the_pattern_matches(
            pattern in prop::collection::vec(segment(), 1..5),
            path in prop::collection::vec("[ab]{0,3}", 1..6),
        ) {
            let pattern = PathPattern::parse(&format!("/{}", pattern.join("/"))).unwrap();
            let path = format!("/{}", path.join("/"));
            prop_assert_eq!(pattern.language().accepts(&path), pattern.matches(&path));
        }

        #[test]
        fn a_value_is_accepted_where_the_pattern_matches(
            pattern in "([ab/.]|\\*|\\?|\\[a-b\\]|\\[!a\\]|\\{a,b\\*\\}){0,6}",
            value in "[ab/.]{0,8}",
        ) {
            let pattern = TextPattern::parse(&pattern).unwrap();
            prop_assert_eq!(pattern.language().accepts(&value), pattern.matches(&value));
        }

        #[test]
        fn a_host_is_accepted_where_the_pattern_matches(
            first in "(\\*|\\*\\*|a\\*|\\*b|a\\*b|a)",
            middle in prop::collection::vec("(\\*|a|b)", 0..3),
            host in prop::collection::vec("[ab]{1,2}", 1..5),
        ) {
            let pattern = format!("{first}.{}x.test", middle.iter().map(|l| format!("{l}.")).collect::<String>());
            let pattern = HostPattern::parse(&pattern).unwrap();
            let host = Host::parse(&format!("{}.x.test", host.join("."))).unwrap();
            prop_assert_eq!(pattern.language().accepts(&host.to_string()), pattern.matches(&host));
        }
    }
}
