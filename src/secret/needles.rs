//! What values are found by: all spellings of all of them in one automaton.
//!
//! A text is looked through twice where it holds escapes: as it stands, and with percent escapes and
//! JSON's `\\u00XX` undone, because any byte of a value may be escaped, in either case.

use super::forms;
use super::value::Secret;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What stands where a value stood.
pub const MASK: &str = "***";

/// The least that is held back of a stream without control bytes.
const LEAST_HELD: usize = 1024;

/// The spellings of some values. Made once for a set of values, shared by all who look for them.
pub struct Needles {
    found_by: Option<Automaton>,
}

struct Automaton {
    search: AhoCorasick,
    /// The most that a spelling takes, every byte of it escaped: rounded up, because it shows.
    held: usize,
    /// The values themselves, whatever the case of their letters.
    any_case: AhoCorasick,
}

/// How many bytes the longest escape takes.
const LONGEST_ESCAPE: usize = 6;

/// A text with its escapes undone, and where each of its bytes stood.
struct Undone {
    text: Vec<u8>,
    /// Where each byte of `text` begins in the raw text; one more than there are bytes.
    at: Vec<usize>,
}

impl Needles {
    /// The needles of `secrets`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let texts: Vec<&str> = secrets.into_iter().flat_map(Secret::parts).collect();
        let mut all: Vec<forms::Form> = texts.iter().flat_map(|text| forms::of(text)).collect();
        all.sort_by(|a, b| a.as_slice().cmp(b.as_slice()));
        all.dedup();
        if all.is_empty() {
            return Self::none();
        }
        let search = AhoCorasickBuilder::new()
            .match_kind(MatchKind::Standard)
            .build(all.iter().map(|form| form.as_slice()))
            .expect("values have at most 16 KiB, far from what an automaton can't hold");
        let held = (LONGEST_ESCAPE * search.max_pattern_len()).next_power_of_two().max(LEAST_HELD);
        let any_case = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .build(texts)
            .expect("there are fewer values than spellings of them");
        Self { found_by: Some(Automaton { search, held, any_case }) }
    }

    /// Finds nothing.
    pub fn none() -> Self {
        Self { found_by: None }
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.found_by.is_none()
    }

    /// Whether a value stands in `text`, in any spelling.
    pub fn found_in(&self, text: &[u8]) -> bool {
        let Some(found_by) = &self.found_by else { return false };
        found_by.search.is_match(text)
            || (escaped(text) && found_by.search.is_match(&Undone::of(text).text))
    }

    /// Whether a value itself stands in `text`, in letters of any case: the name of a header goes
    /// on in small ones.
    pub fn found_in_any_case(&self, text: &[u8]) -> bool {
        self.found_by.as_ref().is_some_and(|found_by| found_by.any_case.is_match(text))
    }

    /// `text` with [`MASK`] for each value in it.
    pub fn mask<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let found = self.ranges(text, 0);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        let mut copied = 0;
        for range in found {
            out.extend_from_slice(&text[copied..range.start]);
            out.extend_from_slice(MASK.as_bytes());
            copied = range.end;
        }
        out.extend_from_slice(&text[copied..]);
        Cow::Owned(out)
    }

    /// As [`Needles::mask`]. A character that a mask cuts through becomes U+FFFD.
    pub fn mask_str<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// Where values stand in `text`: in order, what overlaps made one. The first `covered` bytes
    /// are taken as part of one.
    pub(super) fn ranges(&self, text: &[u8], covered: usize) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if let Some(found_by) = &self.found_by {
            found_by.push(text, &mut found, |range| range);
            if escaped(text) {
                let undone = Undone::of(text);
                found_by.push(&undone.text, &mut found, |r| undone.at[r.start]..undone.at[r.end]);
            }
        }
        if covered > 0 {
            found.push(0..covered);
        }
        merge(found)
    }

    /// Where the end of `text` begins that is held back until more is there: what follows the last
    /// control byte, which no value has, and never more than any spelling takes.
    ///
    /// What the text says has no part in it. Were only that held back which may begin a value, the
    /// sizes of what leaves would tell who guesses whether the guess is right, a letter at a time.
    pub(super) fn pending(&self, text: &[u8]) -> usize {
        let Some(found_by) = &self.found_by else { return text.len() };
        let after = text.iter().rposition(u8::is_ascii_control).map_or(0, |at| at + 1);
        after.max(border(text, text.len().saturating_sub(found_by.held)))
    }
}

impl Automaton {
    fn push(
        &self,
        text: &[u8],
        found: &mut Vec<Range<usize>>,
        place: impl Fn(Range<usize>) -> Range<usize>,
    ) {
        // Nearly all text holds no value, and the first look is the fast one.
        if self.search.is_match(text) {
            found.extend(self.search.find_overlapping_iter(text).map(|m| place(m.range())));
        }
    }
}

impl Undone {
    fn of(raw: &[u8]) -> Self {
        let mut text = Vec::with_capacity(raw.len());
        let mut at = Vec::with_capacity(raw.len() + 1);
        let mut i = 0;
        while let Some(&b) = raw.get(i) {
            at.push(i);
            let (byte, width) = escape(&raw[i..]).unwrap_or((b, 1));
            text.push(byte);
            i += width;
        }
        at.push(raw.len());
        Self { text, at }
    }
}

/// Whether there may be escapes in `text`.
fn escaped(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'%', b'\\', text).any(|at| escape(&text[at..]).is_some())
}

/// The byte that the escape at the start of `bytes` stands for, and how many bytes the escape has.
fn escape(bytes: &[u8]) -> Option<(u8, usize)> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match bytes {
        [b'%', high, low, ..] => Some((digit(*high)? << 4 | digit(*low)?, 3)),
        // A character past ASCII is more than one byte of a value.
        [b'\\', b'u', b'0', b'0', high @ b'0'..=b'7', low, ..] => {
            Some((digit(*high)? << 4 | digit(*low)?, LONGEST_ESCAPE))
        }
        _ => None,
    }
}

/// `at`, or where the escape begins that it stands inside of. Escapes never overlap: what one
/// begins with is no hexadecimal digit.
fn border(text: &[u8], at: usize) -> usize {
    let inside =
        |start: &usize| escape(&text[*start..]).is_some_and(|(_, width)| *start + width > at);
    (at.saturating_sub(LONGEST_ESCAPE - 1)..at).find(inside).unwrap_or(at)
}

/// Ranges in order, with those that overlap made one.
fn merge(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(values: &[&str]) -> Needles {
        let secrets: Vec<Secret> =
            values.iter().map(|v| Secret::read(v.as_bytes().to_vec()).unwrap()).collect();
        Needles::new(&secrets)
    }

    #[test]
    fn a_value_is_masked_in_every_spelling() {
        let needles = needles(&["s3cr3t/va+ue=="]);
        for (text, masked) in [
            ("a s3cr3t/va+ue== b", "a *** b"),
            ("k=s3cr3t%2Fva%2Bue%3D%3D&x", "k=***&x"),
            ("k=s3cr3t%2fva%2bue%3d%3D", "k=***"),
            ("%73%33cr3t/va+ue=%3d", "***"),
            (r#"{"k":"s3cr3t\/va+ue=="}"#, r#"{"k":"***"}"#),
            (r#"{"k":"s3cr3t/va\u002Bue\u003d="}"#, r#"{"k":"***"}"#),
            (r#"{"k":"\u0073\u0033cr3t\u002fva%2bue=="}"#, r#"{"k":"***"}"#),
            (r#"\u0173cr3t/va+ue=="#, r#"\u0173cr3t/va+ue=="#),
            ("nothing to see", "nothing to see"),
            ("s3cr3t/va+ue=", "s3cr3t/va+ue="),
        ] {
            assert_eq!(needles.mask_str(text), masked, "{text}");
            assert_eq!(needles.found_in(text.as_bytes()), text != masked, "{text}");
        }
    }

    #[test]
    fn values_that_overlap_are_masked_as_one() {
        let needles = needles(&["abcdefgh", "efghijkl", "abcdefgh0123"]);
        assert_eq!(needles.mask_str("-abcdefghijkl-"), "-***-");
        assert_eq!(needles.mask_str("-abcdefgh0123-"), "-***-");
        assert_eq!(needles.mask_str("-abcdefghefghijkl-"), "-******-");
        assert_eq!(needles.mask_str("-abcdefghabcdefgh-"), "-******-");
    }

    #[test]
    fn what_is_pending_says_nothing_of_the_values() {
        let needles = needles(&["hunter22"]);
        for (text, pending) in [
            ("data: hello\n\n", 0),
            ("data: hunter2", 13),
            ("data: hunter3", 13),
            ("a\r\nhunter22", 8),
            ("a\r\nhunter23", 8),
            ("%68unter22", 10),
            ("", 0),
        ] {
            assert_eq!(text.len() - needles.pending(text.as_bytes()), pending, "{text}");
        }
        let long = "x".repeat(5000) + "%2";
        assert_eq!(long.len() - needles.pending(long.as_bytes()), LEAST_HELD);
        let escaped = "%78".repeat(5000);
        assert_eq!((escaped.len() - needles.pending(escaped.as_bytes())) % 3, 0);
        let escaped = r"\u0078".repeat(5000);
        assert_eq!((escaped.len() - needles.pending(escaped.as_bytes())) % 6, 0);
    }

    #[test]
    fn needles_are_never_shown() {
        assert_eq!(format!("{:?}", needles(&["hunter22"])), "Needles(***)");
        assert!(Needles::none().is_empty());
        assert!(!Needles::none().found_in(b"hunter22"));
    }
}
