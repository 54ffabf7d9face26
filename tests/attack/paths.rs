//! security.md 9: whatever is done with a path, what the origin receives is what was judged.

use crate::attack::strict::Heard;
use crate::attack::{Bench, PLACES, Place, statuses};
use crate::common;

/// Asks for `path` and returns the status, and what the origin heard and the record says where it
/// was let through.
fn ask(bench: &Bench, place: Place, path: &str) -> (u16, Option<String>) {
    let before = bench.gateway.records_now("default").len();
    let said = format!("GET {{T}}{path} HTTP/1.1\r\nHost: {{H}}\r\n\r\n");
    let answer = bench.say(place, &said, true);
    let statuses = statuses(&answer);
    let record = bench.gateway.record(before + 1);
    let heard = bench.take();
    let shown = &path[..path.len().min(80)];
    assert_eq!(statuses.len(), 1, "{shown}: {answer}");
    match &heard[..] {
        [] => {
            assert_eq!(record["sent"], false, "{shown}: {record}");
            (statuses[0], None)
        }
        [Heard::Whole(request)] => {
            let judged = match record["query"].as_str() {
                Some(query) => format!("{}?{query}", record["path"].as_str().unwrap()),
                None => record["path"].as_str().unwrap().to_owned(),
            };
            assert_eq!(request.path, judged, "{shown}");
            (statuses[0], Some(request.path.clone()))
        }
        other => panic!("{shown}: {other:?}"),
    }
}

/// Paths that name `/evil` in some reading, or that two parsers read differently.
const REFUSED: &[(&str, u16)] = &[
    ("/a/../evil", 400),
    ("/a/./b", 400),
    ("/a/..", 400),
    ("/.", 400),
    ("/%2e%2e/evil", 400),
    ("/a/.%2E/evil", 400),
    ("/a/%252e%252e/evil", 400),
    ("/a/%25252e%25252e/evil", 400),
    ("/a/..;/evil", 400),
    ("/a/..;x=1/evil", 400),
    ("/a/%2e%2e;x/evil", 400),
    ("/a/..%2fevil", 400),
    ("/a%2f..%2fevil", 400),
    ("/a\\..\\evil", 400),
    ("/a/..\\evil", 400),
    ("/a%5c..%5cevil", 400),
    ("/a%5Cb", 400),
    ("/a%255cb", 400),
    ("/a%00b", 400),
    ("/a%2500b", 400),
    ("/a%0d%0aX:%20y", 400),
    ("/a%0ab", 400),
    ("/a%c0%afb", 400),
    ("/a%c0%ae%c0%ae/evil", 400),
    ("/a%e0%80%afb", 400),
    ("/a%ff", 400),
    ("/a%", 400),
    ("/a%2", 400),
    ("/a%zz", 400),
    ("/a%u002e", 400),
    ("/\u{c3}\u{a4}", 400),
    ("/evil", 403),
    ("/%65vil", 403),
    ("/e%76il", 403),
    ("//evil", 403),
    ("///evil", 403),
    ("/evil;x=1", 403),
    ("/;x/evil", 403),
    ("//evil;x//", 403),
    ("/evil%3Bx=1", 403),
    ("/evil%3bx/y", 403),
    ("/evil%253Bx", 403),
    ("/evil%25253Bx", 403),
    ("/evil%3Fx", 403),
    ("/evil%23x", 403),
    ("//evil%3B%3A", 403),
    ("/evil/%40", 403),
    ("/evil/", 403),
    ("/evil//x", 403),
    ("/evil?a", 403),
    ("/evil/%2e", 400),
];

/// Paths that are forwarded, and as what.
const HEARD: &[(&str, &str)] = &[
    ("/a", "/a"),
    ("/%61", "/a"),
    ("/%7e%2D", "/~-"),
    ("/a%3ab", "/a%3Ab"),
    ("/a%3Bevil", "/a%3Bevil"),
    ("/a%40%253a", "/a%40%253a"),
    ("/a//b", "/a//b"),
    ("//a", "//a"),
    ("/a;x=1", "/a;x=1"),
    ("/a/...", "/a/..."),
    ("/a/.b", "/a/.b"),
    ("/%c3%a4", "/%C3%A4"),
    ("/a?b=../evil", "/a?b=../evil"),
    ("/a?b=%2e%2e%2fevil", "/a?b=%2e%2e%2fevil"),
    ("/a?", "/a?"),
    ("/a??b", "/a??b"),
    ("/a?x=/evil#f", "/a?x=/evil"),
    ("/a#/../evil", "/a"),
    ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
];

#[test]
fn a_path_that_could_be_read_otherwise_is_refused() {
    let bench = Bench::new();
    for place in PLACES {
        for (path, status) in REFUSED {
            assert_eq!(ask(&bench, place, path), (*status, None), "{path}, {place:?}");
        }
    }
}

#[test]
fn the_origin_receives_the_path_that_was_judged() {
    let bench = Bench::new();
    for place in PLACES {
        for (path, heard) in HEARD {
            let expected = (200, Some((*heard).to_owned()));
            assert_eq!(ask(&bench, place, path), expected, "{path}, {place:?}");
        }
    }
}

#[test]
fn a_query_hides_no_pair_from_the_rule_that_denies_it() {
    let origin = common::Origin::ok("ok");
    let port = origin.port();
    let gateway = common::Setup::policy(&format!(
        "  test:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, enforcement: enforce, \
         access: full, deny_rules: [ {{ method: \"*\", path: \"/**\", query: {{ admin: \"true\" }} }} ] }}"
    ))
    .start();
    let mut client = gateway.connect();
    for (query, status) in [
        ("x=1;admin=true", 403),
        ("admin[]=true", 403),
        ("admin%00=true", 403),
        ("%20admin=true", 403),
        ("Admin=true", 403),
        ("admin=false", 200),
        ("x=admin", 200),
    ] {
        let said = format!(
            "GET http://origin.test:{port}/a?{query} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        );
        std::io::Write::write_all(&mut client, said.as_bytes()).unwrap();
        let (head, _) = common::read_response(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{query}: {head}");
    }
}

#[test]
fn a_path_of_64_kib_is_judged_whole_or_refused_whole() {
    let bench = Bench::new();
    for (place, count) in PLACES.into_iter().zip(1..) {
        let long = format!("/{}", "a".repeat(64_000));
        assert_eq!(ask(&bench, place, &long), (200, Some(long)), "{place:?}");
        let evil = format!("/{}/../evil", "a".repeat(64_000));
        assert_eq!(ask(&bench, place, &evil), (400, None), "{place:?}");
        let slashes = format!("{}evil", "/".repeat(64_000));
        assert_eq!(ask(&bench, place, &slashes), (403, None), "{place:?}");
        let escaped = format!("/{}", "%61".repeat(21_000));
        let plain = format!("/{}", "a".repeat(21_000));
        assert_eq!(ask(&bench, place, &escaped), (200, Some(plain)), "{place:?}");
        let deep = format!("//evil{}", "%25253B".repeat(9_000));
        assert_eq!(ask(&bench, place, &deep), (403, None), "{place:?}");
        let (status, heard) = ask(&bench, place, &format!("/{}", "a".repeat(70_000)));
        assert!(status == 414 && heard.is_none(), "{place:?}: {status}");
        let record = bench.gateway.record(6 * count);
        assert_eq!((&record["status"], &record["code"]), (&414.into(), &"head_too_large".into()));
    }
}
