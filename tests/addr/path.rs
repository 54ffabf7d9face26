//! Canonical paths (I3): every trick of security.md 9.

use portcullis::addr::{Path, PathError, check_query};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn canonical(raw: &str) -> String {
    Path::parse(raw).map(|p| p.as_str().to_owned()).unwrap_or_else(|e| panic!("{raw:?}: {e}"))
}

fn refused(raw: &str) -> PathError {
    match Path::parse(raw) {
        Ok(path) => panic!("{raw:?} was read as {path:?}"),
        Err(error) => error,
    }
}

fn readings(raw: &str) -> Vec<String> {
    Path::parse(raw).expect(raw).readings().iter().map(str::to_owned).collect()
}

#[test]
fn a_canonical_path_is_left_alone() {
    let plain = ["/", "*", "/a/b.c/~d_e-f", "/.well-known/x", "/a/...", "/..a/b..", "/a%20b"];
    for raw in plain {
        let path = Path::parse(raw).expect(raw);
        assert_eq!(path.as_str(), raw);
        assert!(!path.changed(), "{raw}");
    }
    for raw in ["/@scope%2Fname", "/%E2%82%AC", "/a:b@c!$&'()*+,=", "/100%25", "/a%25de"] {
        assert_eq!(canonical(raw), raw);
    }
}

#[test]
fn unreserved_escapes_are_decoded_and_the_rest_upper_cased() {
    assert_eq!(canonical("/%61%5f%7E"), "/a_~");
    assert_eq!(canonical("/a%2fb%c3%bc"), "/a%2Fb%C3%BC");
    assert_eq!(canonical("/v1%2e2"), "/v1.2");
    assert!(Path::parse("/%61").expect("canonical").changed());
}

#[test]
fn what_stays_escaped_is_decoded_for_those_who_ask() {
    let decoded = |raw: &str| {
        Path::parse(raw).expect(raw).decoded().map(|d| (d.path, d.query)).collect::<Vec<_>>()
    };
    for raw in ["/", "/a:b;c//d", "/%61", "/a%20b", "/%C3%BC", "*"] {
        assert!(!Path::parse(raw).expect(raw).has_escapes(), "{raw}");
        assert!(decoded(raw).is_empty(), "{raw}");
    }
    for (raw, read) in [
        ("/a%3ab", "/a:b"),
        ("/a%253ab", "/a:b"),
        ("/a%25253Ab", "/a:b"),
        ("/a%3Bb/c", "/a/c"),
        ("/a%2F%2Fb", "/a/b"),
        ("/a%2Fb%3Ac", "/a%2Fb:c"),
        ("/a%252Fb%2Fc", "/a%2Fb/c"),
        ("/a%3Fb", "/a"),
        ("/a%23b", "/a"),
        ("/a%20%40", "/a%20@"),
    ] {
        let all = decoded(raw);
        assert!(all.iter().any(|(known, _)| known == read), "{raw}: {all:?}");
    }
    let cut = ("/a".to_owned(), Some("b=/c".to_owned()));
    assert!(decoded("/a%3Fb=%2Fc%23d").contains(&cut));
    for raw in ["/a/..%3Fx", "/a/.%23", "/a/..%253Fx"] {
        assert!(Path::parse(raw).is_err(), "{raw}");
    }
}

#[test]
fn a_dot_segment_is_refused_in_every_spelling() {
    let spellings = [
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/../a",
        "/a/..",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e/a",
        "/%2e./a",
        "/..;x/a",
        "/.;/a",
        "/..;/a",
        "/%2e%2e;a=b/c",
        "//../a",
        "/;/../a",
        // After a decoding that comes before the split.
        "/a%2f..%2fb",
        "/..%2fa",
        "/a%2f..",
        "/..%3bx/a",
        "/a%2F%2e%2e%2Fb",
        // After one decoding too many, and two.
        "/%252e%252e/a",
        "/..%252fa",
        "/a%252f..%252fb",
        "/.%252e/a",
        "/%25252e%25252e/a",
        "/%25%32%65%25%32%65/a",
        "/..%253bx/a",
        "/a/%252e/b",
    ];
    for raw in spellings {
        assert_eq!(refused(raw), PathError::DotSegment, "{raw}");
    }
}

#[test]
fn a_backslash_is_refused_in_every_spelling() {
    for raw in ["/a\\b", "/a%5cb", "/a%5Cb", "/..%5ca", "/a%255cb", "/a%25255Cb"] {
        assert_eq!(refused(raw), PathError::Backslash, "{raw}");
    }
}

#[test]
fn control_bytes_are_refused_raw_and_escaped() {
    for raw in ["/a\0", "/a b", "/a\r\nb", "/a\tb", "/a\x7f", "/a%00", "/a%0d%0a", "/a%7f"] {
        assert_eq!(refused(raw), PathError::Control, "{raw:?}");
    }
    for raw in ["/a%2500", "/a%250d%250a", "/a%25250a"] {
        assert_eq!(refused(raw), PathError::Control, "{raw:?}");
    }
}

#[test]
fn escapes_must_be_whole_and_spell_utf8() {
    let bad = [
        "/%",
        "/%2",
        "/%zz",
        "/a%2",
        "/%%41",
        "/%2%35e",
        "/%u002e",
        "/%c0%af",
        "/%c0%ae%c0%ae/",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/%c1%9c", // overlong
        "/%e9",
        "/%80",
        "/%ff",
        "/%c3",
        "/%c3A9",
        "/%c3%",
        "/%ed%a0%80",
        "/%f4%90%80%80",
    ];
    for raw in bad {
        assert_eq!(refused(raw), PathError::BadEscape, "{raw}");
    }
    assert_eq!(refused("/a%252525252541"), PathError::BadEscape);
    assert_eq!(refused("/a?b"), PathError::BadEscape);
}

#[test]
fn what_is_no_path_is_refused() {
    for raw in ["", "a", "a/b", "**", "*/", "?", "http://a/"] {
        assert_eq!(refused(raw), PathError::NotAbsolute, "{raw:?}");
    }
    assert_eq!(refused("/caf\u{e9}"), PathError::NonAscii);
    assert_eq!(refused("/a#b"), PathError::Fragment);
}

#[test]
fn an_encoded_slash_is_noticed_however_often_it_is_encoded() {
    for raw in ["/a%2fb", "/a%2Fb", "/a%252fb", "/a%252Fb", "/a%25252Fb"] {
        assert!(Path::parse(raw).expect(raw).has_encoded_slash(), "{raw}");
    }
    for raw in ["/a/b", "/a%252b", "/a%20b", "/a%25b"] {
        assert!(!Path::parse(raw).expect(raw).has_encoded_slash(), "{raw}");
    }
}

#[test]
fn slashes_and_parameters_are_read_in_every_way() {
    assert_eq!(readings("/a/b"), ["/a/b"]);
    assert_eq!(readings("/a//b"), ["/a//b", "/a/b"]);
    assert_eq!(readings("/a;x=1/b"), ["/a;x=1/b", "/a/b"]);
    let all = readings("//a;x//b");
    assert_eq!(all, ["//a;x//b", "/a;x/b", "/a/b", "//a//b"]);
    assert_eq!(readings("/a/;x/b"), ["/a/;x/b", "/a/b", "/a//b"]);
}

#[test]
fn owning_a_path_changes_nothing() {
    let path = Path::parse("/a%2fb;c").expect("canonical");
    let owned = path.clone().into_owned();
    assert_eq!(path, owned);
    assert_eq!(owned.has_encoded_slash(), path.has_encoded_slash());
    assert_eq!(owned.readings().iter().count(), path.readings().iter().count());
}

#[test]
fn a_path_of_64_kib_is_read_in_linear_time() {
    let worst = ["/a", "/", "/;", "%2F", "%252525", "%25", "/.a", "%61", "%c3%bc", "/%2ea;"];
    for part in worst {
        let long = format!("/{}", part.repeat(65_536 / part.len()));
        let start = Instant::now();
        for _ in 0..4 {
            if let Ok(path) = Path::parse(&long) {
                assert!(path.readings().iter().count() <= 4);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{part}: {:?}", start.elapsed());
    }
}

#[test]
fn a_query_is_forwarded_as_it_came_or_refused() {
    for query in ["", "a=b&c=%zz&d=../..//;\\?x", "%00", "q={\"a\":[1]}"] {
        assert_eq!(check_query(query), Ok(()), "{query}");
    }
    for query in ["a b", "a\0", "a\r\nb", "a\x7f"] {
        assert_eq!(check_query(query), Err(PathError::Control), "{query:?}");
    }
    assert_eq!(check_query("a=\u{e9}"), Err(PathError::NonAscii));
    assert_eq!(check_query("a#b"), Err(PathError::Fragment));
}

/// The dot segments that a client or an origin could see in `path`, written another way than the
/// parser does it.
fn climbs(path: &str) -> bool {
    path.split('/').map(|s| s.split(';').next().unwrap_or(s)).any(|s| s == "." || s == "..")
}

fn path_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just(";".to_owned()),
        Just("%".to_owned()),
        Just("%25".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%3b".to_owned()),
        Just("%5c".to_owned()),
        Just("25".to_owned()),
        Just("2e".to_owned()),
        "[ -~]{0,3}",
        "%[0-9a-fA-F]{2}",
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_canonical_path_is_canonical(raw in path_like()) {
        if let Ok(path) = Path::parse(&raw) {
            let again = Path::parse(path.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&path));
            let again = again.expect("just compared");
            prop_assert!(!again.changed());
            prop_assert_eq!(again.has_encoded_slash(), path.has_encoded_slash());
            prop_assert_eq!(path.changed(), path.as_str() != raw);
            prop_assert!(path.as_str().bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn no_reading_climbs_however_often_it_is_decoded(raw in path_like()) {
        if let Ok(path) = Path::parse(&raw) {
            for reading in path.readings().iter() {
                let mut text = reading.to_owned();
                for _ in 0..4 {
                    prop_assert!(!climbs(&text), "{:?} in {:?}", text, raw);
                    text = percent_encoding::percent_decode_str(&text)
                        .decode_utf8_lossy()
                        .into_owned();
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(raw in "\\PC{0,40}") {
        if let Ok(path) = Path::parse(&raw) {
            prop_assert!(path.as_str().is_ascii());
        }
        let _ = check_query(&raw);
    }
}
