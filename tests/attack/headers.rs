//! security.md 10 and 11: methods that are never forwarded, fields that are a connection's own or
//! disguise a method, and the one way to raw bytes, which is a 101 that answers the handshake.

use crate::attack::strict::{Heard, Request};
use crate::attack::{Bench, Client, PLACES, Place, statuses};
use crate::common::{
    self, Gateway, Origin, Setup, header, problem, read_head, read_request, read_response,
};
use std::io::{Read, Write};

fn heard(bench: &Bench) -> Request {
    let taken = bench.take();
    let [Heard::Whole(request)] = &taken[..] else { panic!("{taken:?}") };
    request.clone()
}

#[test]
fn trace_and_connect_are_never_forwarded() {
    let bench = Bench::new();
    let mut count = 0;
    for place in PLACES {
        for (line, status) in
            [("TRACE {T}/a", 405), ("CONNECT {H}", 405), ("CONNECT other.test:1", 421)]
        {
            if place == Place::Forward && line.starts_with("CONNECT") {
                continue;
            }
            let said = format!("{line} HTTP/1.1\r\nHost: {{H}}\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
            let said = said.replace(
                "Host: {H}",
                if status == 421 { "Host: other.test:1" } else { "Host: {H}" },
            );
            let answer = bench.say(place, &said, true);
            assert_eq!(statuses(&answer)[0], status, "{line} {place:?}: {answer}");
            assert_eq!(bench.take(), [], "{line} {place:?}");
            count += 1;
        }
    }
    let records = bench.gateway.records(count);
    assert!(records.iter().all(|r| r["sent"] == false), "{records:#?}");
}

#[test]
fn what_is_refused_before_it_is_judged_is_known_by_its_code() {
    let bench = Bench::new();
    let mut count = 0;
    for (code, status, line, fields) in [
        ("backslash", 400, "GET {T}/a\\b", "Host: {H}\r\n"),
        ("backslash", 400, "GET {T}/a%5Cb", "Host: {H}\r\n"),
        ("bad_escape", 400, "GET {T}/a%2", "Host: {H}\r\n"),
        ("bad_escape", 400, "GET {T}/a%C0%AF", "Host: {H}\r\n"),
        ("control_byte", 400, "GET {T}/a%00", "Host: {H}\r\n"),
        ("non_ascii", 400, "GET {T}/\u{c3}\u{a4}", "Host: {H}\r\n"),
        ("missing_host", 400, "GET {T}/a", ""),
        ("second_host", 400, "GET {T}/a", "Host: {H}\r\nHost: {H}\r\n"),
        ("bad_framing", 400, "POST {T}/a", "Host: {H}\r\nContent-Length: 01\r\n"),
        ("method_refused", 405, "TRACE {T}/a", "Host: {H}\r\n"),
        ("method_refused", 405, "GET|PUT {T}/a", "Host: {H}\r\n"),
        ("method_refused", 405, "P*T {T}/a", "Host: {H}\r\n"),
    ] {
        for place in PLACES {
            let answer = bench.say(place, &format!("{line} HTTP/1.1\r\n{fields}\r\n"), true);
            count += 1;
            let record = bench.gateway.record(count);
            assert_eq!(record["code"], code, "{line} {place:?}: {answer}");
            assert_eq!((statuses(&answer), &record["status"]), (vec![status], &status.into()));
            assert_eq!(problem(answer.as_bytes())["code"], code, "{line} {place:?}");
            assert_eq!((&record["outcome"], &record["sent"]), (&"refused".into(), &false.into()));
        }
    }
    assert_eq!(bench.take(), []);
}

#[test]
fn what_connection_names_is_removed_and_what_frames_is_not() {
    let bench = Bench::new();
    for place in PLACES {
        let said = "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nAuthorization: mine\r\nX-Keep: 1\r\nX-Hop: 1\r\n\
            Content-Type: a/b\r\nContent-Encoding: identity\r\n\
            Connection: authorization, X-Hop , host,content-length\r\nConnection: transfer-encoding\r\n\
            Connection: content-type,Content-Encoding\r\n\
            Content-Length: 4\r\n\r\nabcd";
        bench.say(place, said, true);
        let request = heard(&bench);
        assert_eq!(request.field("authorization"), None, "{place:?}");
        assert_eq!(request.field("x-hop"), None);
        assert_eq!(request.field("connection"), None);
        assert_eq!(request.field("x-keep"), Some("1"));
        assert_eq!(request.field("content-type"), Some("a/b"));
        assert_eq!(request.field("content-encoding"), Some("identity"));
        assert_eq!(request.body, b"abcd");
    }
}

#[test]
fn hop_by_hop_fields_and_disguised_methods_do_not_go_up() {
    let bench = Bench::new();
    let fields = [
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
        "TE: gzip, deflate;q=0.5",
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-HTTP-Verb: DELETE",
        "X-Forwarded-Method: DELETE",
        "X-Original-URI: /evil",
        "X-Forwarded-Uri: /evil",
        "Proxy: http://evil.test:1",
        "Proxy-Authentication-Info: x=1",
        "Proxy-Foo: 1",
        "X-Portcullis-Loop: 1",
    ];
    for place in PLACES {
        let said =
            format!("GET {{T}}/a HTTP/1.1\r\nHost: {{H}}\r\n{}\r\n\r\n", fields.join("\r\n"));
        bench.say(place, &said, true);
        let request = heard(&bench);
        for field in fields {
            let name = field.split(':').next().unwrap();
            assert_eq!(request.field(name), None, "{name}, {place:?}");
        }
        assert_eq!(request.field("via"), None, "no trace of the gateway is added");
        assert_eq!(request.field("x-forwarded-for"), None);
    }
}

#[test]
fn te_trailers_is_all_that_is_left_of_te() {
    let bench = Bench::new();
    let said =
        "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nTE: gzip, trailers;q=0.5\r\nConnection: TE\r\n\r\n";
    bench.say(Place::Tunnel, said, true);
    assert_eq!(heard(&bench).field("te"), Some("trailers"));
}

/// A gateway before an origin that answers everything with these bytes and then closes.
fn answering(bytes: &'static str) -> (Gateway, Origin) {
    let origin = Origin::plain(move |mut stream| {
        if !read_request(&mut stream).is_empty() {
            drop(stream.write_all(bytes.as_bytes()));
        }
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    (gateway, origin)
}

fn get(gateway: &Gateway, origin: &Origin, more: &str) -> String {
    let port = origin.port();
    let said = format!(
        "GET http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n{more}\r\n"
    );
    let mut client = Client::Plain(gateway.connect());
    client.write_all(said.as_bytes()).unwrap();
    client.end();
    String::from_utf8_lossy(&common::read_all(&mut client)).into_owned()
}

#[test]
fn an_origin_can_not_speak_in_the_gateways_name() {
    let (gateway, origin) = answering(
        "HTTP/1.1 200 OK\r\nx-portcullis-id: 1\r\nX-Portcullis-Request: r1\r\nConnection: x-hop\r\n\
         x-hop: 1\r\nProxy-Authenticate: Basic\r\nKeep-Alive: 1\r\nx-kept: 1\r\ncontent-length: 2\r\n\r\nok",
    );
    let answer = get(&gateway, &origin, "").to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    for name in ["x-portcullis-", "x-hop:", "proxy-authenticate", "keep-alive"] {
        assert!(!answer.contains(name), "{name} in {answer}");
    }
    assert!(answer.contains("x-kept: 1") && answer.ends_with("ok"), "{answer}");
}

#[test]
fn redirects_are_the_clients_to_follow() {
    let (gateway, origin) = answering(
        "HTTP/1.1 302 Found\r\nlocation: http://origin.test/evil\r\ncontent-length: 0\r\n\r\n",
    );
    let answer = get(&gateway, &origin, "");
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert_eq!(header(&answer, "location").as_deref(), Some("http://origin.test/evil"));
    assert_eq!(origin.connections(), 1);
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

#[test]
fn a_101_that_nobody_asked_for_is_a_502() {
    for bytes in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nraw",
    ] {
        let (gateway, origin) = answering(bytes);
        let answer = get(&gateway, &origin, "");
        assert_eq!(statuses(&answer), [502], "{answer}");
        assert!(!answer.ends_with("raw"), "{answer}");
        assert_eq!(gateway.record(1)["outcome"], "failed");
    }
}

#[test]
fn a_101_that_does_not_answer_the_handshake_is_a_502() {
    for bytes in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\nraw",
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nraw",
    ] {
        let (gateway, origin) = answering(bytes);
        let answer = get(&gateway, &origin, HANDSHAKE);
        assert_eq!(statuses(&answer), [502], "{bytes}: {answer}");
        let record = gateway.record(1);
        assert_eq!(record["code"], "bad_upgrade", "{record}");
    }
}

#[test]
fn bytes_behind_a_handshake_wait_for_the_101_and_are_not_lost() {
    let origin = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        assert!(head.starts_with("GET /a "), "{head}");
        write!(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{ACCEPT}\r\nfirst").unwrap();
        let mut early = [0; 5];
        stream.read_exact(&mut early).unwrap();
        stream.write_all(&early).unwrap();
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let port = origin.port();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n{HANDSHAKE}\r\nearly").unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut both = [0; 10];
    client.read_exact(&mut both).unwrap();
    assert_eq!(&both, b"firstearly");
}

#[test]
fn bytes_behind_a_handshake_that_was_declined_are_judged_as_a_request() {
    let bench = Bench::new();
    for place in PLACES {
        let said = format!(
            "GET {{T}}/a HTTP/1.1\r\nHost: {{H}}\r\n{HANDSHAKE}\r\nGET {{T}}/evil HTTP/1.1\r\nHost: {{H}}\r\n\r\n"
        );
        let answer = bench.say(place, &said, true);
        assert_eq!(statuses(&answer), [200, 403], "{place:?}: {answer}");
        assert_eq!(heard(&bench).path, "/a");
    }
}

#[test]
fn a_method_that_is_not_get_is_no_handshake() {
    let bench = Bench::new();
    let said =
        format!("POST {{T}}/a HTTP/1.1\r\nHost: {{H}}\r\n{HANDSHAKE}Content-Length: 3\r\n\r\nraw");
    bench.say(Place::Tunnel, &said, true);
    let request = heard(&bench);
    assert_eq!(request.field("upgrade"), None);
    assert_eq!(request.body, b"raw");
    let mut client = bench.open(Place::Forward);
    client
        .write_all(&bench.bytes(Place::Forward, "GET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n"))
        .unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
}
