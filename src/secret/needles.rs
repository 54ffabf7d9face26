//! What values are found by: all spellings of all of them in one automaton.
//!
//! A text that holds escapes is looked through in all its readings (`readings`), because any byte of
//! a value may be escaped, in any way.

use super::escape;
use super::forms::{self, Form};
use super::readings::Readings;
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
    /// For text that reads only as it stands.
    search: AhoCorasick,
    /// For all other.
    readings: Readings,
    /// The most that a spelling takes, every byte of it escaped: rounded up, because it shows.
    held: usize,
    /// The values themselves, whatever the case of their letters.
    any_case: AhoCorasick,
}

/// How much more than must be held back comes together before it is looked through: this part of
/// it. So small pieces cost no more than this many looks at each byte, and one.
const SHARE: usize = 8;

impl Needles {
    /// The needles of `secrets`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let texts: Vec<&str> = secrets.into_iter().flat_map(Secret::parts).collect();
        let mut all: Vec<Form> = texts.iter().flat_map(|text| forms::of(text)).collect();
        all.sort_by(|a, b| a.as_slice().cmp(b.as_slice()));
        all.dedup();
        if all.is_empty() {
            return Self::none();
        }
        let search = AhoCorasickBuilder::new()
            .match_kind(MatchKind::Standard)
            .build(all.iter().map(|form| form.as_slice()))
            .expect("values have at most 16 KiB, far from what an automaton can't hold");
        let held = (escape::LONGEST * search.max_pattern_len()).next_power_of_two().max(LEAST_HELD);
        let any_case = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .build(texts)
            .expect("there are fewer values than spellings of them");
        Self { found_by: Some(Automaton { search, readings: Readings::new(all), held, any_case }) }
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
        self.found_by.as_ref().is_some_and(|found_by| found_by.is_match(text))
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
            found_by.push(text, &mut found);
        }
        if covered > 0 {
            found.push(0..covered);
        }
        merge(found)
    }

    /// Where, in `held` bytes and the `chunk` that follows them, the end begins that is held back
    /// until more is there: what follows the last control byte, which no value has, and hardly more
    /// than any spelling takes. There is no control byte in what was held.
    ///
    /// What the text says has no part in it. Were only that held back which may begin a value, the
    /// sizes of what leaves would tell who guesses whether the guess is right, a letter at a time.
    pub(super) fn pending(&self, held: usize, chunk: &[u8]) -> usize {
        let whole = held + chunk.len();
        let Some(found_by) = &self.found_by else { return whole };
        let control = chunk.iter().rposition(u8::is_ascii_control).map(|at| held + at + 1);
        let over = whole.saturating_sub(found_by.held);
        match control {
            Some(after) => after.max(over),
            None if over < found_by.held / SHARE => 0,
            None => over,
        }
    }
}

impl Automaton {
    fn is_match(&self, text: &[u8]) -> bool {
        if self.readings.differ(text) {
            self.readings.have_match(text)
        } else {
            self.search.is_match(text)
        }
    }

    fn push(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        if self.readings.differ(text) {
            self.readings.push(text, found);
        } else if self.search.is_match(text) {
            // Nearly all text holds no value, and the first look is the fast one.
            found.extend(self.search.find_overlapping_iter(text).map(|m| m.range()));
        }
    }
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
    fn a_value_is_masked_however_each_of_its_characters_is_written() {
        let needles = needles(&[r#"s3/va+u="&<\x25'"#]);
        let written = |b: u8, how: usize| match (b, how) {
            (b'0'..=b'9' | b'a'..=b'z', 0..=3) => char::from(b).to_string(),
            (_, 0) => format!("\\{}", char::from(b)),
            (b'&', 1) => "&amp;".to_owned(),
            (b'<', 1) => "&lt;".to_owned(),
            (b'"', 1) => "&quot;".to_owned(),
            (b'\'', 1) => "&apos;".to_owned(),
            (_, 1) => char::from(b).to_string(),
            (_, 2) => format!("&#{b};"),
            (_, 3) => format!("&#x{b:X};"),
            (_, 4) => format!("&#{b:03};"),
            (_, 5) => format!("&#x{b:04x};"),
            (_, 6) => format!("\\x{b:02x}"),
            (_, 7) => format!("\\u{{{b:x}}}"),
            (_, 8) => format!("\\u{b:04X}"),
            _ => format!("%{b:02X}"),
        };
        let value = br#"s3/va+u="&<\x25'"#;
        for (first, step) in (0..10).flat_map(|first| (0..10).map(move |step| (first, step))) {
            let text: String = value
                .iter()
                .enumerate()
                .map(|(i, b)| written(*b, (first + i * step) % 10))
                .collect();
            assert_eq!(needles.mask_str(&format!("<{text}>")), "<***>", "{text}");
            assert!(needles.found_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_looks_like_an_escape_in_a_value_or_before_it_hides_nothing() {
        let needles = needles(&["s3cr3t%41&va\\x41ue", "\"quoted/one"]);
        for (text, masked) in [
            ("s3cr3t%41&va\\x41ue", "***"),
            ("s3cr3t%41&amp;va\\x41ue", "***"),
            ("s3cr3t%41&va\\\\x41ue", "***"),
            ("s3cr3t%2541%26va%5cx41ue", "***"),
            ("\\&quot;quoted&#x2F;one", "\\***"),
            ("\\\\\"quoted\\/one", "\\***"),
            ("%\\u0022quoted/one", "%***"),
        ] {
            assert_eq!(needles.mask_str(text), masked, "{text}");
        }
    }

    #[test]
    fn base64_in_json_may_have_its_slashes_escaped() {
        use base64::Engine;
        let value = "key?>?~abc?~?>xyz~~?>";
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value);
        assert!(text.contains('/'));
        for slash in ["/", "\\/", "\\u002f", "%2F", "&#x2F;"] {
            let text = text.replace('/', slash);
            assert_eq!(needles(&[value]).mask_str(&text), "***", "{text}");
        }
    }

    #[test]
    fn escapes_of_what_no_value_has_cost_no_second_look() {
        let needles = needles(&["hunter22-of_9"]);
        let found_by = needles.found_by.as_ref().unwrap();
        for text in ["a \\\"word\\\" \\n", "a%20b%2Cc", "&lt;p&gt; &amp; &#39;", "100% & \\"] {
            assert!(!found_by.readings.differ(text.as_bytes()), "{text}");
        }
        assert!(found_by.readings.differ(b"\\u0068"));
    }

    #[test]
    fn what_is_pending_says_nothing_of_the_values() {
        let needles = needles(&["hunter22"]);
        for (held, chunk, pending) in [
            (0, "data: hello\n\n", 0),
            (0, "data: hunter2", 13),
            (0, "data: hunter3", 13),
            (0, "a\r\nhunter22", 8),
            (0, "a\r\nhunter23", 8),
            (0, "%68unter22", 10),
            (5, "hunter22", 13),
            (5, "\nhunter22", 8),
            (0, "", 0),
        ] {
            assert_eq!(held + chunk.len() - needles.pending(held, chunk.as_bytes()), pending);
        }
        let long = "x".repeat(5000);
        assert_eq!(long.len() - needles.pending(0, long.as_bytes()), LEAST_HELD);
        let more = LEAST_HELD / SHARE;
        assert_eq!(needles.pending(LEAST_HELD + more - 2, b"x"), 0);
        assert_eq!(needles.pending(LEAST_HELD + more - 1, b"x"), more);
    }

    #[test]
    fn needles_are_never_shown() {
        assert_eq!(format!("{:?}", needles(&["hunter22"])), "Needles(***)");
        assert!(Needles::none().is_empty());
        assert!(!Needles::none().found_in(b"hunter22"));
    }
}
