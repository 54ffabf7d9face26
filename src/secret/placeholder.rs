//! Placeholders: what a sandbox holds in a value's stead, and how it is found in what it sends.
//!
//! A placeholder is a word that the operator chose. It is understood as it stands
//! (`TELEGRAM_TOKEN`), as OpenShell spells it (`openshell:resolve:env:TELEGRAM_TOKEN`, with a
//! revision `v12_` before the name or without), and as it spells it where a program wants to see
//! how a token begins (`xoxb-OPENSHELL-RESOLVE-ENV-TELEGRAM_TOKEN`). Whatever is spelled in
//! OpenShell's way is a placeholder, known or not: an unknown one is never sent on as text.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use std::ops::Range;

/// The shortest and longest placeholder. A short word would be found in ordinary text.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

const CANONICAL: &str = "openshell:resolve:env:";
const ALIAS: &str = "OPENSHELL-RESOLVE-ENV-";

/// The placeholders that are known, in the order in which they were given.
#[derive(Debug)]
pub struct Placeholders {
    search: AhoCorasick,
    words: Box<[Box<str>]>,
}

/// A placeholder in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it stands, spelling and all.
    pub range: Range<usize>,
    /// Which it is, by its place among those given; `None` where nobody knows the name.
    pub which: Option<usize>,
    /// How it is spelled.
    pub spelling: Spelling,
}

/// How a placeholder is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// The word itself.
    Word,
    /// In one of OpenShell's ways.
    OpenShell,
}

/// Why a word can't be a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// Too short or too long.
    #[error("a placeholder has 8 to 128 characters")]
    Length,
    /// A character that would be escaped somewhere on the way.
    #[error("a placeholder has letters, digits, `_` and `-` alone, and begins with a letter")]
    Character,
}

impl Placeholders {
    /// Checks that `word` can be a placeholder: it must look the same in a header, a path, a query
    /// and a JSON string.
    pub fn check(word: &str) -> Result<(), PlaceholderError> {
        if !LENGTH.contains(&word.len()) {
            return Err(PlaceholderError::Length);
        }
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let begins = word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        if begins && word.bytes().all(fine) { Ok(()) } else { Err(PlaceholderError::Character) }
    }

    /// Knows `words`, each of which passed [`Placeholders::check`].
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Box<[Box<str>]> = words.into_iter().map(Into::into).collect();
        let patterns = [CANONICAL, ALIAS].into_iter().chain(words.iter().map(|word| &**word));
        let search = AhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .expect("placeholders have at most 128 characters each");
        Self { search, words }
    }

    /// Whether any stands in `text`.
    pub fn found_in(&self, text: &[u8]) -> bool {
        self.find(text).next().is_some()
    }

    /// Those in `text`, in order.
    pub fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Found> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            loop {
                let matched = self.search.find(aho_corasick::Input::new(text).range(from..))?;
                let found = match matched.pattern().as_usize() {
                    0 => self.named(text, matched.range()),
                    1 => self.named(text, with_prefix(text, from, matched.range())),
                    word => whole_word(text, matched.range()).then(|| Found {
                        range: matched.range(),
                        which: Some(word - 2),
                        spelling: Spelling::Word,
                    }),
                };
                from = found.as_ref().map_or(matched.end(), |found| found.range.end);
                if found.is_some() {
                    return found;
                }
            }
        })
    }

    /// The placeholder of the name that follows `marker`.
    fn named(&self, text: &[u8], marker: Range<usize>) -> Option<Found> {
        let rest = &text[marker.end..];
        let length = rest.iter().position(|b| !is_name(*b)).unwrap_or(rest.len());
        let name = &rest[..length];
        let known = |name: &[u8]| self.words.iter().position(|word| word.as_bytes() == name);
        let which = known(name).or_else(|| known(without_revision(name)?));
        let range = marker.start..marker.end + length;
        Some(Found { range, which, spelling: Spelling::OpenShell })
    }
}

/// A word counts where no longer name goes on behind it: `MY_TOKEN` is not in `MY_TOKEN_2`.
fn whole_word(text: &[u8], range: Range<usize>) -> bool {
    text.get(range.end).is_none_or(|b| !is_name(*b))
}

/// What stands before an alias, so that the program sees how its token begins, goes with it.
fn with_prefix(text: &[u8], from: usize, marker: Range<usize>) -> Range<usize> {
    let before = &text[from..marker.start];
    let Some(before) = before.strip_suffix(b"-") else { return marker };
    let length = before.iter().rev().take_while(|b| b.is_ascii_alphanumeric()).count();
    if length == 0 { marker } else { marker.start - length - 1..marker.end }
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// `KEY` of `v12_KEY`.
fn without_revision(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b"v")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b"_").filter(|_| digits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, Option<usize>)> {
        let known = Placeholders::new(["TELEGRAM_TOKEN", "SLACK_BOT_TOKEN"]);
        known.find(text.as_bytes()).map(|f| (&text[f.range.clone()], f.which)).collect()
    }

    #[test]
    fn every_spelling_of_a_placeholder_is_found() {
        type Case<'a> = (&'a str, &'a [(&'a str, Option<usize>)]);
        let long = "xoxb-OPENSHELL-RESOLVE-ENV-SLACK_BOT_TOKEN";
        let cases: &[Case<'_>] = &[
            ("/botTELEGRAM_TOKEN/getMe", &[("TELEGRAM_TOKEN", Some(0))]),
            (
                "Bearer openshell:resolve:env:TELEGRAM_TOKEN",
                &[("openshell:resolve:env:TELEGRAM_TOKEN", Some(0))],
            ),
            (
                "openshell:resolve:env:v12_TELEGRAM_TOKEN,",
                &[("openshell:resolve:env:v12_TELEGRAM_TOKEN", Some(0))],
            ),
            ("Bearer xoxb-OPENSHELL-RESOLVE-ENV-SLACK_BOT_TOKEN", &[(long, Some(1))]),
            (
                "sk-OPENSHELL-RESOLVE-ENV-v3_SLACK_BOT_TOKEN",
                &[("sk-OPENSHELL-RESOLVE-ENV-v3_SLACK_BOT_TOKEN", Some(1))],
            ),
            (
                "OPENSHELL-RESOLVE-ENV-SLACK_BOT_TOKEN",
                &[("OPENSHELL-RESOLVE-ENV-SLACK_BOT_TOKEN", Some(1))],
            ),
            (
                "TELEGRAM_TOKEN SLACK_BOT_TOKEN",
                &[("TELEGRAM_TOKEN", Some(0)), ("SLACK_BOT_TOKEN", Some(1))],
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(found(text), *wanted, "{text}");
        }
    }

    #[test]
    fn a_name_that_nobody_knows_is_a_placeholder_all_the_same() {
        for text in
            ["openshell:resolve:env:OTHER", "openshell:resolve:env:", "x-OPENSHELL-RESOLVE-ENV-v1_"]
        {
            assert_eq!(found(text), [(text, None)]);
        }
        assert_eq!(found("openshell:resolve:env:TELEGRAM_TOKEN2")[0].1, None);
    }

    #[test]
    fn a_longer_name_is_another() {
        assert_eq!(found("TELEGRAM_TOKEN_2 TELEGRAM_TOKENS TELEGRAM"), []);
        assert_eq!(found("TELEGRAM_TOKEN-2"), [("TELEGRAM_TOKEN", Some(0))]);
    }

    #[test]
    fn a_placeholder_looks_the_same_wherever_it_stands() {
        for fine in ["TELEGRAM_TOKEN", "tg-token-1", "xoxb-placeholder"] {
            assert_eq!(Placeholders::check(fine), Ok(()), "{fine}");
        }
        for word in ["SHORT", "", &"A".repeat(129)] {
            assert_eq!(Placeholders::check(word), Err(PlaceholderError::Length));
        }
        for word in ["with space", "1234567890", "a/b/c/d/e", "ünïcödé_name", "a:b:c:d:e"] {
            assert_eq!(Placeholders::check(word), Err(PlaceholderError::Character), "{word}");
        }
    }
}
