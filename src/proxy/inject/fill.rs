//! Placeholders in a request: found, and filled with values.
//!
//! One walk serves both: first nobody fills anything and it is only seen what stands where, later
//! the values go in. Each spot has its own spelling, so what is filled in stays one value: a path
//! segment is not split by it, a JSON string not ended. None is filled where an escape before it
//! would take the value's first letters, because what the origin made of it could not be found again.

use super::binding::Spot;
use super::place::{self, QUERY, SEGMENT};
use crate::secret::{Found, Placeholders, Secret, ends_in_escape};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, percent_decode, percent_encode};
use zeroize::Zeroizing;

/// Text that may hold values.
type Text = Zeroizing<Vec<u8>>;

/// Why a placeholder can't be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misuse {
    /// As it stands in the request.
    pub(super) text: String,
    /// Which it is, where anyone knows it.
    pub(super) word: Option<usize>,
    /// Where it stands.
    pub(super) spot: Spot,
    pub(super) fault: Fault,
}

/// What is wrong with where a placeholder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not filled in this place of this request, or nobody knows it.
    Unbound,
    /// It is cut into by an escape, or its value would begin one.
    InEscape,
}

/// Says what goes in for a placeholder: `Ok(None)` leaves it as it is.
pub(super) trait Filler<'s> {
    fn fill(&mut self, word: usize, spot: Spot) -> Result<Option<&'s Secret>, ()>;
}

/// A walk through a request.
pub(super) struct Walk<'w, F> {
    pub(super) words: &'w Placeholders,
    pub(super) filler: F,
}

impl<'s, F: Filler<'s>> Walk<'_, F> {
    /// Headers. Those in `replaced` are not looked at: they do not go up.
    pub(super) fn headers(
        &mut self,
        headers: &mut HeaderMap,
        replaced: &[HeaderName],
    ) -> Result<(), Misuse> {
        for (name, value) in headers.iter_mut() {
            if replaced.iter().any(|other| place::same(name, other)) {
                continue;
            }
            let filled = match basic_pair(name, value.as_bytes()) {
                Some(pair) => self.text(&pair, Spot::Basic, &plain)?.map(|pair| {
                    let pair = Zeroizing::new(STANDARD.encode(&*pair));
                    Zeroizing::new(format!("Basic {}", &*pair).into_bytes())
                }),
                None => self.text(value.as_bytes(), Spot::Header, &plain)?,
            };
            if let Some(filled) = filled.and_then(|filled| place::sensitive(&filled)) {
                *value = filled;
            }
        }
        Ok(())
    }

    /// Path and query, segment by segment and pair by pair.
    pub(super) fn target(&mut self, target: &mut PathAndQuery) -> Result<(), Misuse> {
        let path = self.parts(target.path(), b"/", (Spot::Path, SEGMENT, false))?;
        let query = match target.query() {
            Some(query) => self.parts(query, b"&;=", (Spot::Query, QUERY, true))?,
            None => None,
        };
        if path.is_none() && query.is_none() {
            return Ok(());
        }
        let mut whole = Zeroizing::new(Vec::new());
        whole.extend_from_slice(path.as_deref().map_or(target.path().as_bytes(), |p| p));
        if let Some(old) = target.query() {
            whole.push(b'?');
            whole.extend_from_slice(query.as_deref().map_or(old.as_bytes(), |q| q));
        }
        if let Ok(filled) = PathAndQuery::try_from(&whole[..]) {
            *target = filled;
        }
        Ok(())
    }

    /// A body of a kind that is looked through.
    pub(super) fn body(&mut self, body: &[u8], spot: Spot) -> Result<Option<Text>, Misuse> {
        match spot {
            Spot::Form => {
                let Ok(text) = std::str::from_utf8(body) else { return Ok(None) };
                self.parts(text, b"&=", (spot, QUERY, true))
            }
            Spot::Json => self.text(body, spot, &json),
            _ => self.text(body, spot, &plain),
        }
    }

    /// `text` cut at `borders`, each part decoded, filled, and encoded again if it was.
    fn parts(
        &mut self,
        text: &str,
        borders: &[u8],
        (spot, escaped, plus): (Spot, &'static AsciiSet, bool),
    ) -> Result<Option<Text>, Misuse> {
        if !may_hold(text.as_bytes(), self.words) {
            return Ok(None);
        }
        let encode = |value: &[u8], out: &mut Text| {
            percent_encode(value, escaped)
                .for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        };
        let mut out: Text = Zeroizing::new(Vec::with_capacity(text.len() + 64));
        let mut changed = false;
        for part in text.as_bytes().split_inclusive(|b| borders.contains(b)) {
            let (part, border) = match part.split_last() {
                Some((last, rest)) if borders.contains(last) => (rest, Some(*last)),
                _ => (part, None),
            };
            // Any letter of a placeholder may be escaped, so what is meant is looked at.
            match self.text(&decoded(part, plus), spot, &plain)? {
                Some(filled) => {
                    changed = true;
                    encode(&filled, &mut out);
                }
                None => out.extend_from_slice(part),
            }
            out.extend(border);
        }
        Ok(changed.then_some(out))
    }

    /// `text` with each placeholder filled, its value written by `write`; `None`: nothing changed.
    fn text(
        &mut self,
        text: &[u8],
        spot: Spot,
        write: &dyn Fn(&[u8], &mut Text),
    ) -> Result<Option<Text>, Misuse> {
        let mut out: Option<Text> = None;
        let mut copied = 0;
        for Found { range, which, spelling: _ } in self.words.find(text) {
            let misuse = |fault| Misuse {
                text: String::from_utf8_lossy(&text[range.clone()]).into_owned(),
                word: which,
                spot,
                fault,
            };
            let word = which.ok_or_else(|| misuse(Fault::Unbound))?;
            let given = self.filler.fill(word, spot).map_err(|()| misuse(Fault::Unbound))?;
            if ends_in_escape(&text[..range.start]) {
                return Err(misuse(Fault::InEscape));
            }
            let Some(secret) = given else { continue };
            let out = out.get_or_insert_with(|| {
                Zeroizing::new(Vec::with_capacity(text.len() + 2 * secret.expose().len()))
            });
            out.extend_from_slice(&text[copied..range.start]);
            write(secret.expose().as_bytes(), out);
            if runs_on(out, &text[range.end..]) {
                return Err(misuse(Fault::InEscape));
            }
            copied = range.end;
        }
        Ok(out.map(|mut out| {
            out.extend_from_slice(&text[copied..]);
            out
        }))
    }
}

/// Whether it is worth to take `text` apart: it holds a placeholder, or an escape that may hide one.
fn may_hold(text: &[u8], words: &Placeholders) -> bool {
    text.contains(&b'%') || words.found_in(text)
}

/// Whether `filled` ends in an escape that `after` would end: the value's last letters with letters
/// that are not its own.
fn runs_on(filled: &[u8], after: &[u8]) -> bool {
    let Some(next) = after.first() else { return false };
    // Hexadecimal digits themselves never follow a placeholder, but as escapes.
    let goes_on = if filled.ends_with(b"\\") {
        !next.is_ascii_whitespace()
    } else {
        matches!(next, b'%' | b'\\' | b'&')
    };
    (goes_on && ends_in_escape(filled)) || (filled.ends_with(b"&") && *next == b'#')
}

fn plain(value: &[u8], out: &mut Text) {
    out.extend_from_slice(value);
}

/// As it stands in a JSON string.
fn json(value: &[u8], out: &mut Text) {
    for b in value {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
}

fn decoded(part: &[u8], plus: bool) -> Vec<u8> {
    let spaced = |b: &u8| if plus && *b == b'+' { b' ' } else { *b };
    let text: Vec<u8> = part.iter().map(spaced).collect();
    percent_decode(&text).collect()
}

/// Base64 as servers read it, with and without padding.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// `user:password` of `Authorization: Basic`.
fn basic_pair(name: &HeaderName, value: &[u8]) -> Option<Vec<u8>> {
    if name != header::AUTHORIZATION {
        return None;
    }
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    FORGIVING.decode(rest.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    struct All<'s>(&'s Secret, Vec<(usize, Spot)>);

    impl<'s> Filler<'s> for &mut All<'s> {
        fn fill(&mut self, word: usize, spot: Spot) -> Result<Option<&'s Secret>, ()> {
            self.1.push((word, spot));
            Ok(Some(self.0))
        }
    }

    fn walk<T>(
        value: &str,
        walk: impl FnOnce(&mut Walk<'_, &mut All<'_>>) -> T,
    ) -> (T, Vec<(usize, Spot)>) {
        let secret = Secret::read(value.as_bytes().to_vec()).unwrap();
        let words = Placeholders::new(["TELEGRAM_TOKEN"]);
        let mut all = All(&secret, Vec::new());
        let done = walk(&mut Walk { words: &words, filler: &mut all });
        (done, all.1)
    }

    fn target(value: &str, before: &'static str) -> String {
        let mut target = PathAndQuery::from_static(before);
        walk(value, |walk| walk.target(&mut target)).0.unwrap();
        target.as_str().to_owned()
    }

    #[test]
    fn a_value_in_a_path_is_one_segment() {
        for (before, after) in [
            ("/botTELEGRAM_TOKEN/getMe", "/bot12:a%2Fb%3F%25/getMe"),
            ("/x%2Fy/openshell:resolve:env:TELEGRAM_TOKEN", "/x%2Fy/12:a%2Fb%3F%25"),
            ("/openshell%3Aresolve%3Aenv%3ATELEGRAM_TOKEN/x%20y", "/12:a%2Fb%3F%25/x%20y"),
            ("/plain/%41?x=%42", "/plain/%41?x=%42"),
        ] {
            assert_eq!(target("12:a/b?%", before), after, "{before}");
        }
    }

    #[test]
    fn a_value_in_a_query_is_one_value() {
        for (before, after) in [
            ("/?k=TELEGRAM_TOKEN&b=1", "/?k=a%26b%3Dc%23de&b=1"),
            (
                "/?k=x+openshell%3Aresolve%3Aenv%3ATELEGRAM_TOKEN&b=%31",
                "/?k=x%20a%26b%3Dc%23de&b=%31",
            ),
            ("/?TELEGRAM_TOKEN", "/?a%26b%3Dc%23de"),
            ("/?a;b=TELEGRAM_TOKEN;c", "/?a;b=a%26b%3Dc%23de;c"),
        ] {
            assert_eq!(target("a&b=c#de", before), after, "{before}");
        }
    }

    #[test]
    fn headers_and_what_basic_hides_are_filled() {
        let mut headers = HeaderMap::new();
        let pair = STANDARD.encode("me:openshell:resolve:env:TELEGRAM_TOKEN");
        let authorization = HeaderValue::try_from(format!("Basic {pair}")).unwrap();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert("x-token", HeaderValue::from_static("t=TELEGRAM_TOKEN; x"));
        headers.insert("x-mine", HeaderValue::from_static("TELEGRAM_TOKEN"));
        let replaced = [HeaderName::from_static("x_mine")];
        let (done, seen) = walk("hunter22", |walk| walk.headers(&mut headers, &replaced));
        done.unwrap();
        assert_eq!(seen, [(0, Spot::Basic), (0, Spot::Header)]);
        let filled = format!("Basic {}", STANDARD.encode("me:hunter22"));
        assert_eq!(headers[header::AUTHORIZATION], filled);
        assert_eq!(headers["x-token"], "t=hunter22; x");
        assert_eq!(headers["x-mine"], "TELEGRAM_TOKEN");
        assert!(!format!("{headers:?}").contains("hunter22"));
    }

    #[test]
    fn a_value_in_a_body_does_not_break_it() {
        let json = |value, body: &'static str| {
            let (filled, _) = walk(value, |walk| walk.body(body.as_bytes(), Spot::Json));
            filled.unwrap().map(|text| String::from_utf8(text.to_vec()).unwrap())
        };
        let filled = json(r#"a"b\c","x"#, r#"{"token":"TELEGRAM_TOKEN", "n": 1.0}"#).unwrap();
        let read: serde_json::Value = serde_json::from_str(&filled).unwrap();
        assert_eq!(read["token"], r#"a"b\c","x"#);
        assert!(filled.ends_with(r#"", "n": 1.0}"#));
        assert_eq!(json("hunter22", r#"{"token":"other"}"#), None);
        let (form, _) = walk("a&b=c d!", |walk| walk.body(b"t=TELEGRAM_TOKEN&x=1", Spot::Form));
        assert_eq!(form.unwrap().unwrap().as_slice(), b"t=a%26b%3Dc%20d%21&x=1");
    }

    fn body(value: &str, body: &str, spot: Spot) -> Result<String, Fault> {
        let (filled, _) = walk(value, |walk| walk.body(body.as_bytes(), spot));
        let text = filled.map_err(|misuse| misuse.fault)?.unwrap();
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn a_placeholder_in_an_escape_is_misuse_because_it_would_take_of_the_value() {
        for spot in [Spot::Json, Spot::Text, Spot::Websocket, Spot::Form] {
            for before in [r"\", r"\\\", r"\u", r"\u00", r"\u00a", r"\x", r"\x4", "%", "%4", "%25%"]
            {
                let text = format!("q={before}TELEGRAM_TOKEN");
                assert_eq!(body("tvly-9f8e", &text, spot), Err(Fault::InEscape), "{text} {spot:?}");
            }
        }
        for before in [r"", r"\\", r"\n", r#"\""#, r"\u0041", r"\\u00", "100% ", "%41", "x4"] {
            let text = format!("[\"{before}TELEGRAM_TOKEN\"]");
            let filled = body("tvly-9f8e", &text, Spot::Json);
            assert_eq!(filled, Ok(text.replace("TELEGRAM_TOKEN", "tvly-9f8e")));
        }
        let spelled = r#"["\xoxb-OPENSHELL-RESOLVE-ENV-TELEGRAM_TOKEN"]"#;
        assert_eq!(body("tvly-9f8e", spelled, Spot::Json), Err(Fault::InEscape));
        for text in [
            "/%TELEGRAM_TOKEN",
            "/%254TELEGRAM_TOKEN",
            "/?a=%5cTELEGRAM_TOKEN",
            "/?%TELEGRAM_TOKEN",
        ] {
            let mut target = PathAndQuery::from_static(text);
            let (done, _) = walk("tvly-9f8e", |walk| walk.target(&mut target));
            assert_eq!(done.unwrap_err().fault, Fault::InEscape, "{text}");
        }
        // Some undo escapes in a cookie.
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("a=%4TELEGRAM_TOKEN"));
        let (done, _) = walk("9f8e7d6c5b", |walk| walk.headers(&mut headers, &[]));
        assert_eq!(done.unwrap_err().fault, Fault::InEscape);
    }

    #[test]
    fn a_value_does_not_begin_an_escape_with_what_follows_it() {
        for (value, text, spot) in [
            ("hunter2\\", r#"{"t":"TELEGRAM_TOKEN"}"#, Spot::Websocket),
            ("hunter2%", r#"{"t":"TELEGRAM_TOKEN\u0034"}"#, Spot::Json),
            ("hunter2%4", "TELEGRAM_TOKEN%31", Spot::Text),
            ("hunter2%", "t=TELEGRAM_TOKEN%2541", Spot::Form),
        ] {
            assert_eq!(body(value, text, spot), Err(Fault::InEscape), "{text}");
        }
        for (value, text, spot, filled) in [
            ("hunter2\\", r#"["TELEGRAM_TOKEN"]"#, Spot::Json, r#"["hunter2\\"]"#),
            ("hunter2%", r#"["TELEGRAM_TOKEN"]"#, Spot::Json, r#"["hunter2%"]"#),
            ("hunter2\\", "TELEGRAM_TOKEN\n", Spot::Text, "hunter2\\\n"),
            ("hunter2%", "t=TELEGRAM_TOKEN&x", Spot::Form, "t=hunter2%25&x"),
        ] {
            assert_eq!(body(value, text, spot).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn a_name_that_nobody_knows_is_misuse() {
        let mut target = PathAndQuery::from_static("/?k=openshell:resolve:env:OTHER");
        let (done, _) = walk("hunter22", |walk| walk.target(&mut target));
        let misuse = done.unwrap_err();
        assert_eq!(
            (misuse.text.as_str(), misuse.word, misuse.spot),
            ("openshell:resolve:env:OTHER", None, Spot::Query)
        );
    }
}
