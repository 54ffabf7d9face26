//! Percent escapes, and what a path means to an origin that decodes it more than once.
//!
//! Owns decoding for judging only: nothing decoded here is ever forwarded. An origin should
//! decode a path once and split it before that (RFC 3986 §2.4); those that decode first, or
//! twice, or three times, are the reason that `%252e%252e` counts as a dot segment and `%252F` as
//! an encoded slash. Deeper nesting than that is nobody's honest path and is refused.

use super::path::PathError;

/// Decodings that are looked at: the one that every origin makes, and two too many.
const DECODINGS: usize = 3;

/// The byte that the escape at the start of `bytes` stands for.
pub(super) fn byte(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// How many escapes at the start of `bytes` make one well-formed UTF-8 character outside ASCII.
pub(super) fn utf8(bytes: &[u8]) -> Option<usize> {
    let count = match byte(bytes)? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut character = [0; 4];
    for (i, slot) in character[..count].iter_mut().enumerate() {
        *slot = byte(bytes.get(3 * i..)?)?;
    }
    std::str::from_utf8(&character[..count]).ok().map(|_| count)
}

/// The character that the escapes at the start of `text` stand for, and what follows them.
pub(crate) fn escaped(text: &str) -> Option<(char, &str)> {
    let bytes = text.as_bytes();
    let first = byte(bytes)?;
    let count = if first.is_ascii() { 1 } else { utf8(bytes)? };
    let mut decoded = [0; 4];
    for (i, slot) in decoded[..count].iter_mut().enumerate() {
        *slot = byte(&bytes[3 * i..])?;
    }
    let character = std::str::from_utf8(&decoded[..count]).ok()?.chars().next()?;
    Some((character, &text[3 * count..]))
}

/// Whether `.` or `..` stands as a segment, also before `;parameters` and before what would end the
/// path once it is decoded.
pub(super) fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|segment| {
        let bare = segment.split(|b| matches!(b, b';' | b'?' | b'#')).next().unwrap_or(segment);
        matches!(bare, b"." | b"..")
    })
}

/// Looks at what `path` decodes to: an error where that has a dot segment, a backslash or a
/// control byte; true where a slash comes out that a single decoding does not show.
pub(super) fn hides_slash(path: &[u8]) -> Result<bool, PathError> {
    let mut text = decode(path);
    let slashes = count_slashes(&text);
    for decodings in 1..=DECODINGS {
        if has_dot_segment(&text) {
            return Err(PathError::DotSegment);
        }
        if text.contains(&b'\\') {
            return Err(PathError::Backslash);
        }
        if text.iter().any(u8::is_ascii_control) {
            return Err(PathError::Control);
        }
        if !has_escape(&text) {
            return Ok(count_slashes(&text) > slashes);
        }
        if decodings < DECODINGS {
            text = decode(&text);
        }
    }
    Err(PathError::BadEscape)
}

/// What an origin may make of `path` that undoes the escapes of printable bytes, once or more
/// often: before it splits the path, after that (so that `%2F` is no slash), or slashes alone.
pub(super) fn undone(path: &str) -> Vec<String> {
    let slashes = |text: &str| unescape(text, |b| b == b'/');
    let mut all = vec![slashes(path)];
    let (mut split, mut whole) = (path.to_owned(), path.to_owned());
    for _ in 0..DECODINGS {
        split = unescape(&split, |b| b.is_ascii_graphic() && b != b'/');
        whole = unescape(&whole, |b| b.is_ascii_graphic());
        for text in [slashes(&split), split.clone(), whole.clone()] {
            if text != path && !all.contains(&text) {
                all.push(text);
            }
        }
    }
    all
}

/// `text` with the escapes of `wanted` ASCII bytes undone, and the others upper-cased.
fn unescape(text: &str, wanted: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (plain, escaped) = rest.split_at(at);
        out.push_str(plain);
        let Some(value) = byte(escaped.as_bytes()) else {
            out.push('%');
            rest = &escaped[1..];
            continue;
        };
        let (escape, tail) = escaped.split_at(3);
        match value.is_ascii() && wanted(value) {
            true => out.push(char::from(value)),
            false => out.extend(escape.chars().map(|c| c.to_ascii_uppercase())),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while let Some(&b) = text.get(i) {
        match byte(&text[i..]) {
            Some(value) => {
                out.push(value);
                i += 3;
            }
            None => {
                out.push(b);
                i += 1;
            }
        }
    }
    out
}

fn has_escape(text: &[u8]) -> bool {
    text.windows(3).any(|window| byte(window).is_some())
}

fn count_slashes(text: &[u8]) -> usize {
    text.iter().filter(|b| **b == b'/').count()
}

fn digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_escaped_is_undone_before_the_split_and_after_it() {
        let all = undone("/a%2Fb%3Ac%20");
        for text in ["/a/b%3Ac%20", "/a%2Fb:c%20", "/a/b:c%20"] {
            assert!(all.iter().any(|known| known == text), "{text}: {all:?}");
        }
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn what_was_escaped_again_is_undone_again() {
        let all = undone("/%25253a%252fx%25c3%25a4");
        for text in ["/%253a/x%C3%A4", "/%3a%2Fx%C3%A4", "/:%2Fx%C3%A4", "/:/x%C3%A4"] {
            assert!(all.iter().any(|known| known == text), "{text}: {all:?}");
        }
    }

    #[test]
    fn no_text_breaks_it() {
        for text in ["", "%", "%4", "%é1", "%%41", "/%zz%", "/é%3A"] {
            assert!(undone(text).iter().all(|undone| undone.len() <= text.len()), "{text}");
        }
        assert!(undone("/é%3A").contains(&"/é:".to_owned()));
    }
}
