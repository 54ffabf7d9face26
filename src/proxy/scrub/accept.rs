//! The types that a client accepts (RFC 9110 §12.5.1), in UTF-8: what comes in another charset is not
//! searched.

/// `value` without what asks for another charset; `None`: nothing does.
pub(super) fn in_utf8(value: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::with_capacity(value.len());
    for part in parts(value) {
        match part {
            _ if !names_charset(part) || is_utf8(part) => kept.extend_from_slice(part),
            [b';', ..] => {}
            // Not as a parameter: some origin may see one in it.
            _ => return Some(b"*/*".to_vec()),
        }
    }
    (kept.len() < value.len()).then_some(kept)
}

/// `value` cut before each `;` and `,` that is in no quoted string.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = value;
    std::iter::from_fn(move || {
        let mut at = 0;
        for (i, b) in rest.iter().enumerate() {
            if i > 0 && !quoted && matches!(b, b';' | b',') {
                break;
            }
            (quoted, escaped) = match b {
                _ if escaped => (quoted, false),
                b'"' => (!quoted, false),
                b'\\' => (quoted, quoted),
                _ => (quoted, false),
            };
            at = i + 1;
        }
        let (part, after) = rest.split_at(at);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// Whether the word stands in `part`: also `charset*` and `charset*0` are the parameter (RFC 2231),
/// and one in a string is for an origin that does not mind quotes.
fn names_charset(part: &[u8]) -> bool {
    part.windows(7).any(|word| word.eq_ignore_ascii_case(b"charset"))
}

/// Whether `part` is the parameter that asks for UTF-8.
fn is_utf8(part: &[u8]) -> bool {
    let word: Vec<u8> = part.iter().copied().filter(|b| !b"\" \t".contains(b)).collect();
    [&b";charset=utf-8"[..], b";charset=utf8"].iter().any(|utf8| word.eq_ignore_ascii_case(utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_charset_is_not_asked_for_and_all_else_stays() {
        for (asked, goes) in [
            ("text/plain;charset=utf-16", "text/plain"),
            ("text/plain; Charset = \"UTF-16LE\";q=0.5, */*;q=0.1", "text/plain;q=0.5, */*;q=0.1"),
            ("text/plain;charset*=utf-8''utf-16", "text/plain"),
            ("a/b;charset=\"utf\\-16\",c/d;charset=utf-8", "a/b,c/d;charset=utf-8"),
            ("a/b;x=\"y;charset=utf-16\";charset=utf-7;q=1", "a/b;q=1"),
            ("a/b;x=\"y;charset=utf-16", "a/b"),
            ("a/b charset=utf-16", "*/*"),
            ("charset=utf-16, a/b", "*/*"),
        ] {
            let kept = in_utf8(asked.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(kept).unwrap(), goes, "{asked}");
        }
        for same in
            ["", "*/*", "text/html;charset=UTF-8;q=1", "a/b; charset=\"utf-8\", c/d;x=\";\""]
        {
            assert_eq!(in_utf8(same.as_bytes()), None, "{same}");
        }
    }
}
