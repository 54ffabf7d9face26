//! security.md 8, HTTP/2 by hand: refused, or an HTTP/1 origin hears one well-formed request that
//! means what was judged. Frames and fields that no client library would write.

use crate::attack::frames::{self, data, frame, headers};
use crate::attack::strict::{Heard, Request};
use crate::attack::{Bench, Place};
use std::io::Write;

/// What must come of it.
#[derive(Clone, Copy, Debug)]
enum Law {
    /// The origin hears `/a` once, with this body.
    One(&'static str),
    /// Nothing is heard.
    Never,
}

type Field = (&'static str, &'static str);

/// A name, fields beside or instead of the ordinary ones of a GET, what must come of them. A value
/// `-` leaves the field away, a name with `!` before it comes behind the others.
struct Case(&'static str, &'static [Field], Law);

const GET: [Field; 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "{H}"), (":path", "/a")];

/// All fields of a case, for the origin's authority.
fn fields(more: &[Field], authority: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, usual) in GET {
        let named: Vec<_> = more.iter().filter(|(n, _)| *n == name).collect();
        if named.is_empty() {
            all.push((name, usual));
        }
        all.extend(named.into_iter().filter(|(_, value)| *value != "-"));
    }
    all.extend(more.iter().filter(|(n, _)| !GET.iter().any(|(m, _)| m == n)));
    let own = |(name, value): (&str, &str)| {
        (name.trim_start_matches('!').to_owned(), value.replace("{H}", authority))
    };
    all.into_iter().map(own).collect()
}

/// The HEADERS of a case on stream 1.
fn head(bench: &Bench, more: &[Field], last: bool) -> Vec<u8> {
    let all = fields(more, &bench.authority(Place::Inside));
    let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
    headers(1, &all, last)
}

/// Says frames inside intercepted TLS and waits for the end of stream 1 or of the connection.
fn say(bench: &Bench, bytes: &[u8]) {
    let authority = bench.authority(Place::Inside);
    let mut tls = bench.gateway.tls(&authority, "origin.test", &["h2"]);
    tls.write_all(&frames::hello()).unwrap();
    // It may be refused before all of it is read.
    if tls.write_all(bytes).and_then(|()| tls.flush()).is_ok() {
        frames::outcome(&mut tls, 1);
    }
}

/// Says frames, judges what came of them, and that there is one record of it.
fn judge(bench: &Bench, bytes: &[u8], name: &str, law: Law) -> Option<Request> {
    say(bench, bytes);
    let record = bench.exactly(1).remove(0);
    let mut whole = None;
    for heard in bench.take() {
        match heard {
            Heard::Whole(request) if request.path == "/last" => {}
            Heard::Whole(request) => {
                assert!(whole.replace(request).is_none(), "{name}: two requests");
            }
            Heard::Cut(_) => {}
            Heard::Garbage(bytes, why) => panic!("{name}: {why} in {bytes:?}"),
        }
    }
    match law {
        Law::Never => assert_eq!(whole, None, "{name}"),
        Law::One(body) => {
            let Some(request) = &whole else { panic!("{name}: nothing was heard; {record}") };
            assert_eq!(request.path, "/a", "{name}");
            assert_eq!(request.body, body.as_bytes(), "{name}");
            assert_eq!(record["path"], "/a", "{name}");
            assert_eq!(record["method"], *request.method, "{name}");
        }
    }
    assert_eq!(record["sent"], whole.is_some(), "{name}: {record}");
    whole
}

#[test]
fn pseudo_fields_and_values_that_http_1_could_read_otherwise_are_refused() {
    for Case(name, more, law) in CASES {
        let bench = Bench::new();
        let bytes = head(&bench, more, true);
        judge(&bench, &bytes, name, *law);
    }
}

#[test]
fn a_path_of_another_form_is_heard_as_it_was_judged() {
    let bench = Bench::new();
    say(&bench, &head(&bench, &[(":path", "*")], true));
    assert_eq!(bench.gateway.record(1)["code"], "bad_target", "it is no GET's (RFC 9112 §3.2.4)");
    for (path, heard) in [("?x", "/?x"), ("//b", "//b"), ("/%61", "/a")] {
        let bench = Bench::new();
        let bytes = head(&bench, &[(":path", path)], true);
        say(&bench, &bytes);
        let record = bench.gateway.record(1);
        let taken = bench.take();
        let [Heard::Whole(request)] = &taken[..] else { panic!("{path}: {taken:?}") };
        assert_eq!(request.path, heard);
        let judged = match record["query"].as_str() {
            Some(query) => format!("{}?{query}", record["path"].as_str().unwrap()),
            None => record["path"].as_str().unwrap().to_owned(),
        };
        assert_eq!(judged, heard);
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("plain", &[], Law::One("")),
    Case("two paths", &[(":path", "/a"), (":path", "/evil")], Law::Never),
    Case("no path", &[(":path", "-")], Law::Never),
    Case("no method", &[(":method", "-")], Law::Never),
    Case("no scheme", &[(":scheme", "-")], Law::Never),
    Case("no authority", &[(":authority", "-")], Law::One("")),
    Case("no authority but host", &[(":authority", "-"), ("host", "{H}")], Law::One("")),
    Case("authority empty", &[(":authority", "")], Law::Never),
    Case("unknown pseudo", &[(":evil", "x")], Law::Never),
    Case("status pseudo", &[(":status", "200")], Law::Never),
    Case("pseudo after field", &[("x", "y"), ("!:path", "/evil")], Law::Never),
    Case("a blank before a value", &[("x", " y")], Law::Never),
    Case("a blank behind a value", &[("x", "y ")], Law::Never),
    Case("a tab before a value", &[("x", "\ty")], Law::Never),
    Case("a blank within a value", &[("x", "y z")], Law::One("")),
    Case("upper-case name", &[("X-Evil", "y")], Law::Never),
    Case("crlf in value", &[("x", "a\r\nevil: b")], Law::Never),
    Case("cr in value", &[("x", "a\rb")], Law::Never),
    Case("lf in value", &[("x", "a\nb")], Law::Never),
    Case("nul in value", &[("x", "a\0b")], Law::Never),
    Case("spaces around value", &[("x", " y ")], Law::Never),
    Case("crlf in name", &[("x: y\r\nevil", "b")], Law::Never),
    Case("space in name", &[("x y", "b")], Law::Never),
    Case("colon in name", &[("x:y", "b")], Law::Never),
    Case("empty name", &[("", "b")], Law::Never),
    Case("path crlf", &[(":path", "/a HTTP/1.1\r\nHost: evil\r\n\r\nGET /evil")], Law::Never),
    Case("path space", &[(":path", "/a /evil")], Law::Never),
    Case("path tab", &[(":path", "/a\tb")], Law::Never),
    Case("path nul", &[(":path", "/a\0")], Law::Never),
    Case("path fragment", &[(":path", "/a#b")], Law::One("")),
    Case("path empty", &[(":path", "")], Law::Never),
    Case("path relative", &[(":path", "evil")], Law::Never),
    Case("path absolute", &[(":path", "https://evil.test/evil")], Law::Never),
    Case("path utf8", &[(":path", "/\u{c3}\u{a4}")], Law::Never),
    Case("method splits", &[(":method", "GET /evil HTTP/1.1\r\n\r\nGET")], Law::Never),
    Case("method space", &[(":method", "GET /evil")], Law::Never),
    Case("method empty", &[(":method", "")], Law::Never),
    Case("authority other", &[(":authority", "other.test")], Law::Never),
    Case("authority userinfo", &[(":authority", "origin.test@{H}")], Law::Never),
    Case("authority crlf", &[(":authority", "{H}\r\nevil: x")], Law::Never),
    Case("authority path", &[(":authority", "{H}/evil")], Law::Never),
    Case("host other", &[("host", "other.test")], Law::Never),
    Case("host same", &[("host", "{H}")], Law::One("")),
    Case("two hosts", &[("host", "{H}"), ("host", "{H}")], Law::Never),
    Case("scheme http", &[(":scheme", "http")], Law::Never),
    Case("scheme url", &[(":scheme", "https://evil.test/")], Law::Never),
    Case("connection", &[("connection", "close")], Law::Never),
    Case("keep-alive", &[("keep-alive", "1")], Law::Never),
    Case("transfer-encoding", &[("transfer-encoding", "chunked")], Law::Never),
    Case("upgrade", &[("upgrade", "h2c")], Law::Never),
    Case("proxy-connection", &[("proxy-connection", "x")], Law::Never),
    Case("te gzip", &[("te", "gzip")], Law::Never),
    Case("te trailers", &[("te", "trailers")], Law::One("")),
    Case("te trailers, gzip", &[("te", "trailers, gzip")], Law::Never),
    Case("length without body", &[(":method", "POST"), ("content-length", "4")], Law::Never),
    Case("length +0", &[("content-length", "+0")], Law::Never),
    Case("length junk", &[("content-length", "x")], Law::Never),
    Case("trace", &[(":method", "TRACE")], Law::Never),
    Case("connect", &[(":method", "CONNECT"), (":path", "-"), (":scheme", "-")], Law::Never),
    Case("connect with path", &[(":method", "CONNECT")], Law::Never),
    Case("extended connect", &[(":method", "CONNECT"), (":protocol", "connect-udp")], Law::Never),
    Case("protocol on get", &[(":protocol", "websocket")], Law::Never),
];

type Body = (&'static str, &'static [Field], fn() -> Vec<u8>, Law);

#[rustfmt::skip]
const BODIES: &[Body] = &[
    ("length short", &[("content-length", "2")], || data(1, b"abcd", true), Law::Never),
    ("length long", &[("content-length", "9")], || data(1, b"abcd", true), Law::Never),
    ("length twice", &[("content-length", "4"), ("content-length", "4")], || data(1, b"abcd", true), Law::Never),
    ("lengths differ", &[("content-length", "4"), ("content-length", "5")], || data(1, b"abcd", true), Law::Never),
    ("length list", &[("content-length", "4, 4")], || data(1, b"abcd", true), Law::Never),
    ("length", &[("content-length", "4")], || data(1, b"abcd", true), Law::One("abcd")),
    ("no length", &[], || data(1, b"abcd", true), Law::One("abcd")),
    ("a get with a body", &[(":method", "GET")], || data(1, b"abcd", true), Law::One("abcd")),
    ("a body that is a request", &[], || data(1, b"0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", true), Law::One("0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n")),
    ("pseudo trailers", &[], || [data(1, b"abcd", false), headers(1, &[(":path", "/evil")], true)].concat(), Law::One("abcd")),
    ("headers in the middle", &[], || [data(1, b"abcd", false), headers(1, &[("x", "y")], false), data(1, b"evil", true)].concat(), Law::Never),
];

#[test]
fn a_body_is_as_long_as_was_said_or_is_not_heard() {
    for (name, more, rest, law) in BODIES {
        let bench = Bench::new();
        let mut all = more.to_vec();
        if !more.iter().any(|(n, _)| *n == ":method") {
            all.push((":method", "POST"));
        }
        let bytes = [head(&bench, &all, false), rest()].concat();
        judge(&bench, &bytes, name, *law);
    }
}

#[test]
fn trailers_of_h2_never_name_framing() {
    let bench = Bench::new();
    let trailers = [("content-length", "9"), ("host", "evil"), ("x", "y")];
    let more = [(":method", "POST"), ("trailer", "content-length, host, x")];
    let bytes =
        [head(&bench, &more, false), data(1, b"abcd", false), headers(1, &trailers, true)].concat();
    let request = judge(&bench, &bytes, "trailers", Law::One("abcd")).unwrap();
    assert_eq!(request.trailers, [("x".to_owned(), "y".to_owned())]);
}

#[test]
fn frames_out_of_order_end_the_connection_and_not_the_gateway() {
    type Build = fn(&[u8]) -> Vec<u8>;
    let on = |head: &[u8], stream: u8| [&head[..8], &[stream], &head[9..]].concat();
    let cases: [(&str, Build); 6] = [
        ("even stream", |head| [&head[..8], &[2], &head[9..]].concat()),
        ("stream zero", |head| [&head[..8], &[0], &head[9..]].concat()),
        ("data on an idle stream", |_| data(1, b"abcd", true)),
        ("push promise", |_| frame(5, 4, 1, &[0, 0, 0, 2])),
        ("continuation of nothing", |_| frame(frames::CONTINUATION, 4, 1, b"")),
        ("a frame of 16 MiB", |_| vec![255, 255, 255, 0, 0, 0, 0, 0, 1]),
    ];
    for (name, build) in cases {
        let bench = Bench::new();
        let head = head(&bench, &[], true);
        judge(&bench, &build(&on(&head, 1)), name, Law::Never);
    }
}
