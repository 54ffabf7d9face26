//! Hosts and paths, one for each set of patterns that they match.
//!
//! Owns the grammars: which names and which canonical paths there are. A path that has several
//! readings is odd: it is given only where no plain one matches the same.

use super::walk::{Grammar, Letter, ODD, Readers, Word, named, pleasant, told_apart, words};
use crate::addr::{Host, Path};
use crate::policy::pattern::{HostPattern, Language, Step};
use std::collections::BTreeSet;

/// A label with something in it; no dot at either end.
struct Names;

impl Grammar for Names {
    fn step(&self, state: u8, letter: &str) -> Option<u8> {
        match (letter, state) {
            (".", 0) => None,
            (".", _) => Some(0),
            _ => Some(1),
        }
    }
    fn end(&self, state: u8) -> Option<u8> {
        (state == 1).then_some(0)
    }
}

/// Hosts, one for each set of patterns that some host matches; the flag says whether all are.
pub(super) fn hosts(patterns: &BTreeSet<String>) -> (BTreeSet<Host>, bool) {
    let patterns: Vec<HostPattern> =
        patterns.iter().filter_map(|pattern| HostPattern::parse(pattern).ok()).collect();
    let exact = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) => Some(host.clone()),
        HostPattern::Wild(_) => None,
    };
    let mut hosts: BTreeSet<Host> = patterns.iter().filter_map(exact).collect();
    let wild: Vec<&HostPattern> = patterns.iter().filter(|p| exact(p).is_none()).collect();
    // An exact name within a wildcard is told apart from the wildcard's others.
    let within = hosts.iter().filter(|host| wild.iter().any(|pattern| pattern.matches(host)));
    let languages: Vec<Language> = wild
        .iter()
        .map(|pattern| pattern.language())
        .chain(within.map(|host| HostPattern::Exact(host.clone()).language()))
        .collect();
    let named_by_none = ["unnamed.example", "unnamed.example.org", "unnamed-2.example.net"];
    let unnamed = named_by_none.into_iter().filter_map(|name| Host::parse(name).ok());
    hosts.extend(unnamed.filter(|host| !patterns.iter().any(|p| p.matches(host))).take(1));
    if wild.is_empty() {
        return (hosts, true);
    }
    let usable = pleasant().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let usable = usable.chain(['-', '_', '.']);
    let letters = told_apart(languages.iter(), usable, &['.']);
    let letters: Vec<Letter> = letters.into_iter().map(Letter::from).collect();
    let Some(words) = words(Readers { plain: &languages, decoded: &[] }, &letters, &Names) else {
        return (hosts, false);
    };
    let mut all = true;
    for word in words.into_iter().filter(|word| word.within.contains(&true)) {
        match Host::parse(&word.text) {
            Ok(host) => {
                hosts.insert(host);
            }
            Err(_) => all = false,
        }
    }
    (hosts, all)
}

/// What a path looks like so far: the last segment, and whether other programs may read it
/// otherwise. `slash`: only paths with `%2F` in them.
struct Paths {
    slash: bool,
}

const EMPTY: u8 = 1;
const DOT: u8 = 2;
const DOTS: u8 = 3;
const TEXT: u8 = 4;
const PARAMETERS: u8 = 5;
const FORM: u8 = 7;
const SEVERAL: u8 = 8;
const ESCAPED: u8 = 16;

impl Grammar for Paths {
    fn step(&self, state: u8, letter: &str) -> Option<u8> {
        let (form, marks) = (state & FORM, state & !FORM);
        if state == 0 {
            return (letter == "/").then_some(EMPTY);
        }
        Some(match (letter, form) {
            ("/" | "%2F" | ";", DOT | DOTS) => return None,
            ("/", EMPTY) => EMPTY | SEVERAL | marks,
            ("/", _) => EMPTY | marks,
            ("%2F", _) => EMPTY | ESCAPED | marks,
            (_, PARAMETERS) => PARAMETERS | marks,
            (";", _) => PARAMETERS | SEVERAL | marks,
            (".", EMPTY) => DOT | marks,
            (".", DOT) => DOTS | marks,
            _ => TEXT | marks,
        })
    }

    fn end(&self, state: u8) -> Option<u8> {
        let form = state & FORM;
        if matches!(form, 0 | DOT | DOTS) || self.slash != (state & ESCAPED != 0) {
            return None;
        }
        Some(if state & SEVERAL != 0 { ODD } else { u8::from(form == EMPTY) })
    }
}

/// Canonical paths, one for each set of languages that some path is in; `None` where there are
/// too many. With `decoded`, those with `%2F` in them, which the decoded languages read as `/`.
pub(super) fn paths(plain: &[Language], decoded: Option<&[Language]>) -> Option<Vec<Word>> {
    let all = || plain.iter().chain(decoded.unwrap_or_default());
    let stays = |text: &str| {
        let path = format!("/x{text}x");
        Path::parse(&path).is_ok_and(|parsed| parsed.as_str() == path)
    };
    let candidates: Vec<char> = pleasant().filter(|c| stays(c.encode_utf8(&mut [0; 4]))).collect();
    // A class that takes a `%` takes a piece of an escape: that is not followed here.
    let of_escapes = |step: &Step| match step {
        Step::Class { negated: false, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&'%'))
        }
        _ => false,
    };
    if all().flat_map(Language::steps).any(of_escapes) {
        return None;
    }
    // To these an escape is one character, which is not followed here either.
    let one = |step: &Step| matches!(step, Step::One | Step::Class { .. });
    let spelled = named(all()).contains(&'%') && escapes(all()).iter().any(|e| e != "%2F");
    if spelled && all().flat_map(Language::steps).any(one) {
        return None;
    }
    let mut letters: Vec<Letter> =
        told_apart(all(), candidates.into_iter(), &['/']).into_iter().map(Letter::from).collect();
    if named(all()).contains(&'%') {
        for escape in escapes(all()).into_iter().chain(["%20".to_owned()]) {
            if escape != "%2F" && stays(&escape) {
                letters.push(Letter { decoded: escape.clone(), text: escape });
            }
        }
    }
    if decoded.is_some() {
        letters.push(Letter { text: "%2F".to_owned(), decoded: "/".to_owned() });
    }
    let readers = Readers { plain, decoded: decoded.unwrap_or_default() };
    words(readers, &letters, &Paths { slash: decoded.is_some() })
}

/// The runs of escapes that patterns spell out.
fn escapes<'l>(languages: impl Iterator<Item = &'l Language>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for language in languages {
        let text: String = language
            .steps()
            .iter()
            .map(|step| if let Step::Char(c) = step { *c } else { '/' })
            .collect();
        let mut run = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            match rest.get(..3).filter(|_| first == '%') {
                Some(escape) => run.push_str(escape),
                None if !run.is_empty() => {
                    found.insert(std::mem::take(&mut run));
                }
                None => {}
            }
            rest = &rest[if first == '%' && rest.len() >= 3 { 3 } else { first.len_utf8() }..];
        }
        found.extend((!run.is_empty()).then_some(run));
    }
    found
}
