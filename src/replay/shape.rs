//! The shape of a path: what two requests for two things of one kind have in common.

/// The path with `*` for every segment that names one of many: a number, a UUID, a hash, a long
/// token. The rest stays as it is.
pub fn shape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        // What comes after the token (`.json`) says of what kind it is.
        let (stem, ending) = match segment.rsplit_once('.') {
            Some((stem, ending)) if ending.len() <= 5 && !ending.bytes().all(is_digit) => {
                (stem, Some(ending))
            }
            _ => (segment, None),
        };
        if names_one(stem) {
            out.push('*');
            if let Some(ending) = ending {
                out.push('.');
                out.push_str(ending);
            }
        } else {
            out.push_str(segment);
        }
    }
    out
}

fn is_digit(b: u8) -> bool {
    b.is_ascii_digit()
}

fn names_one(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if !bytes.is_empty() && digits == bytes.len() {
        return true;
    }
    let hex = |b: &u8| b.is_ascii_hexdigit();
    let uuid = bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => hex(b),
        });
    let hash = bytes.len() >= 7 && digits > 0 && bytes.iter().all(hex);
    let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'%' | b'~');
    // A word with many digits in it, or one that is longer than words are.
    let long = bytes.len() >= 16 && bytes.iter().all(token) && digits * 6 >= bytes.len();
    uuid || hash || long || bytes.len() > 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_one_of_many_becomes_a_star() {
        for (path, want) in [
            ("/", "/"),
            ("/repos/acme/site/issues/17", "/repos/acme/site/issues/*"),
            ("/v1/messages", "/v1/messages"),
            ("/o/6ba7b810-9dad-11d1-80b4-00c04fd430c8/x", "/o/*/x"),
            ("/commit/8f5c2b3", "/commit/*"),
            ("/commit/8f5c2b3d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7.json", "/commit/*.json"),
            (
                "/packages/b7/ce/six-1.17.0-py2.py3-none-any.whl",
                "/packages/b7/ce/six-1.17.0-py2.py3-none-any.whl",
            ),
            ("/facade/decade", "/facade/decade"),
            ("/u/AKfycbx1y2z3_4567890-abcd", "/u/*"),
            ("/simple/pytest-asyncio-cooperative/", "/simple/pytest-asyncio-cooperative/"),
            ("*", "*"),
        ] {
            assert_eq!(shape(path), want, "{path}");
        }
    }
}
