//! Escapes: how formats write a byte that would mean something else as it stands.
//!
//! Owns what an escape looks like: percent (URLs), backslash (JSON, JavaScript, shells, Markdown)
//! and ampersand (HTML, XML). Only ASCII: a character past it is more than one byte of a value.

/// How many bytes the longest escape takes: `&#x0041;`, `&#00065;`, `\u{0041}`.
pub(super) const LONGEST: usize = 8;

/// What escapes begin with.
pub(super) const MARKS: [u8; 3] = *b"%\\&";

/// The byte that the escape at the start of `bytes` stands for, and how many bytes the escape has.
pub(super) fn read(bytes: &[u8]) -> Option<(u8, usize)> {
    let (mark, rest) = bytes.split_first()?;
    let (byte, width) = match mark {
        b'%' => pair(rest)?,
        b'\\' => backslash(rest)?,
        b'&' => entity(rest)?,
        _ => return None,
    };
    Some((byte, 1 + width))
}

/// Whether `text` ends inside an escape, so that what follows would be taken for its end.
pub fn ends_in_escape(text: &[u8]) -> bool {
    let before = text.iter().rposition(|b| !b.is_ascii_hexdigit()).map_or(0, |at| at + 1);
    let (text, digits) = (&text[..before], text.len() - before);
    let marked = |mark: &[u8]| text.strip_suffix(mark).is_some_and(|rest| !is_quoted(rest));
    match digits {
        0 if is_quoted(text) => true,
        // Two digits are all that `%` and `\x` have, four all that `\u` has, eight `\U`; a number alone
        // is octal, or CSS's.
        0 | 1 if text.ends_with(b"%") || marked(b"\\x") => true,
        0..=3 if marked(b"\\u") || text.ends_with(b"%u") => true,
        0..=7 if marked(b"\\U") || marked(b"\\") => true,
        _ => marked(b"\\u{") || [&b"&#"[..], b"&#x", b"&#X"].iter().any(|m| text.ends_with(m)),
    }
}

/// Whether a backslash at the end of `text` takes what follows for its own.
fn is_quoted(text: &[u8]) -> bool {
    text.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

fn backslash(rest: &[u8]) -> Option<(u8, usize)> {
    let (byte, width) = match rest {
        [b'u', b'{', digits @ ..] => number(digits, 16, b'}')?,
        [b'u', b'0', b'0', high @ b'0'..=b'7', low, ..] => {
            let (byte, width) = pair(&[*high, *low])?;
            return Some((byte, 3 + width));
        }
        [b'x', digits @ ..] => {
            let (byte, width) = pair(digits)?;
            return Some((byte, 1 + width));
        }
        [byte, ..] if byte.is_ascii_punctuation() || *byte == b' ' => return Some((*byte, 1)),
        _ => return None,
    };
    Some((byte, 2 + width))
}

/// The five names that XML has, and numbers.
fn entity(rest: &[u8]) -> Option<(u8, usize)> {
    const NAMES: [(&[u8], u8); 5] =
        [(b"amp;", b'&'), (b"lt;", b'<'), (b"gt;", b'>'), (b"quot;", b'"'), (b"apos;", b'\'')];
    match rest {
        [b'#', b'x' | b'X', digits @ ..] => {
            number(digits, 16, b';').map(|(byte, width)| (byte, 2 + width))
        }
        [b'#', digits @ ..] => number(digits, 10, b';').map(|(byte, width)| (byte, 1 + width)),
        _ => NAMES.iter().find(|(name, _)| rest.starts_with(name)).map(|(n, b)| (*b, n.len())),
    }
}

/// Two hexadecimal digits.
fn pair(digits: &[u8]) -> Option<(u8, usize)> {
    let [high, low, ..] = digits else { return None };
    let (high, low) = (char::from(*high).to_digit(16)?, char::from(*low).to_digit(16)?);
    Some((u8::try_from(high << 4 | low).ok()?, 2))
}

/// A number that ends with `end`, leading zeros or not, as long as an escape may be.
fn number(digits: &[u8], radix: u32, end: u8) -> Option<(u8, usize)> {
    // The mark and what tells the kind stand before: three bytes, or two where it is decimal.
    let most = if radix == 10 { 5 } else { 4 };
    let mut value = 0;
    for (count, &b) in digits.iter().take(most + 1).enumerate() {
        if b == end && count > 0 {
            return u8::try_from(value).ok().filter(u8::is_ascii).map(|byte| (byte, count + 1));
        }
        value = value * radix + char::from(b).to_digit(radix)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_says_its_byte_and_its_width() {
        for text in [
            "%2f",
            "%2F",
            "\\/",
            "\\u002f",
            "\\u002F",
            "\\x2f",
            "\\u{2f}",
            "\\u{002F}",
            "&#47;",
            "&#047;",
            "&#00047;",
            "&#x2f;",
            "&#X2F;",
            "&#x002F;",
        ] {
            assert!(text.len() <= LONGEST, "{text}");
            for after in ["", "0", ";"] {
                let read = read(format!("{text}{after}").as_bytes());
                assert_eq!(read, Some((b'/', text.len())), "{text}");
            }
        }
        for (text, byte) in [
            ("&amp;", b'&'),
            ("&lt;", b'<'),
            ("&gt;", b'>'),
            ("&quot;", b'"'),
            ("&apos;", b'\''),
            ("\\\\", b'\\'),
            ("\\\"", b'"'),
            ("\\_", b'_'),
        ] {
            assert_eq!(read(text.as_bytes()), Some((byte, text.len())), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_or_not_ascii_is_no_escape() {
        assert_eq!(read(b""), None);
        for text in [
            "x",
            "%",
            "%2",
            "%2g",
            "\\",
            "\\n",
            "\\u00",
            "\\u012f",
            "\\u00e9",
            "\\x2",
            "\\u{}",
            "\\u{2f",
            "\\u{e9}",
            "\\u{0002f}",
            "&",
            "&amp",
            "&#;",
            "&#x;",
            "&#47",
            "&#233;",
            "&#x0002f;",
            "&sol;",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_ends_in_an_escape_is_told_from_one_that_has_ended_it() {
        for text in [
            "%",
            "x%4",
            "%%",
            "\\",
            "a\\\\\\",
            "\\u",
            "\\u0",
            "\\u00a",
            "\\x",
            "\\x4",
            "\\u{",
            "\\u{00",
            "&#",
            "&#3",
            "&#x",
            "&#x2",
            "\\\\\\u00",
            "\\U0000004",
            "\\10",
            "\\4",
            "%u004",
        ] {
            assert!(ends_in_escape(text.as_bytes()), "{text}");
        }
        for text in [
            "", "x", "%41", "%4g", "100% ", "\\\\", "\\\\\\\\", "\\n", "\\\"", "\\u0041", "\\x41",
            "\\\\u00", "\\\\x", "&#39;", "&", "a&b", "4", "u00", "\\u{41}",
        ] {
            assert!(!ends_in_escape(text.as_bytes()), "{text}");
        }
    }
}
