//! Placeholders: filled where they are bound, refused everywhere else (security.md 17).

use crate::common::{self, Gateway, Origin, problem};
use crate::credentials_kit::{self, Server, TOKEN, ask, ask_bytes, setup};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};

const WORD: &str = "TELEGRAM_TOKEN";
const SPELLED: &str = "openshell:resolve:env:TELEGRAM_TOKEN";
const ESCAPED: &str = "ghp_S3cret%2FValue%2B0%3D";

fn started(port: u16, within: &str) -> Gateway {
    setup(port, &[&format!("placeholder: {WORD}{within}")]).start()
}

#[test]
fn a_placeholder_is_filled_wherever_it_stands_in_a_head() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "");
    for word in [
        WORD,
        SPELLED,
        "openshell:resolve:env:v3_TELEGRAM_TOKEN",
        "xoxb-OPENSHELL-RESOLVE-ENV-TELEGRAM_TOKEN",
    ] {
        let basic = STANDARD.encode(format!("user:{word}"));
        let encoded = word.replace(':', "%3A");
        for (request, wanted) in [
            (format!("GET /\r\nX-Token: {word}\r\n"), format!("x-token: {TOKEN}\r\n")),
            (
                format!("GET /\r\nAuthorization: Bearer {word}\r\n"),
                format!("authorization: Bearer {TOKEN}\r\n"),
            ),
            (
                format!("GET /\r\nAuthorization: Basic {basic}\r\n"),
                format!("authorization: Basic {}\r\n", STANDARD.encode(format!("user:{TOKEN}"))),
            ),
            (format!("GET /?a=1&k={word}&b=%32"), format!("GET /?a=1&k={ESCAPED}&b=%32 ")),
            (format!("GET /?k={encoded}"), format!("GET /?k={ESCAPED} ")),
            (format!("GET /x/{word}/y?z"), format!("GET /x/{ESCAPED}/y?z ")),
            (format!("GET /{encoded}/y"), format!("GET /{ESCAPED}/y ")),
        ] {
            let (head, _) = ask(&gateway, "origin.test", port, &request);
            assert!(head.starts_with("HTTP/1.1 200"), "{request}: {head}");
            let heard = server.last().head;
            let lower = |text: &str| {
                text.replace("X-Token", "x-token").replace("Authorization", "authorization")
            };
            assert!(lower(&heard).contains(&wanted), "{request}: {heard}");
        }
    }
    for record in gateway.records(28) {
        assert_eq!(record["credential"], "github");
        assert!(!record.to_string().contains("S3cret"), "{record}");
    }
}

#[test]
fn telegrams_path_is_judged_and_recorded_as_the_placeholder() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[&format!("placeholder: {WORD}, in: [path]")]);
    setup.files[0].1 = "123456:AAbb-CCdd_EE".to_owned();
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        enforcement: enforce\n        rules: [{{ allow: {{ method: POST, path: \"/botTELEGRAM_TOKEN/sendMessage\" }} }}]\n"
    );
    let gateway = setup.start();
    let request = "POST /botTELEGRAM_TOKEN/sendMessage\r\nContent-Length: 0\r\n";
    ask(&gateway, "origin.test", port, request);
    assert_eq!(server.only().target(), "/bot123456:AAbb-CCdd_EE/sendMessage");
    assert_eq!(gateway.record(1)["path"], "/botTELEGRAM_TOKEN/sendMessage");
}

#[test]
fn a_placeholder_for_another_host_is_refused_and_an_event_says_so() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "");
    let basic = STANDARD.encode(format!("user:{WORD}"));
    for request in [
        format!("GET /\r\nX-Token: {SPELLED}\r\n"),
        format!("GET /\r\nAuthorization: Basic {basic}\r\n"),
        format!("GET /\r\nAuthorization: Basic {}\r\n", basic.trim_end_matches('=')),
        format!("GET /?q={WORD}"),
        format!("GET /?q={}", SPELLED.replace(':', "%3a")),
        format!("GET /bot{WORD}/x"),
        "GET /?q=openshell:resolve:env:NOBODY_KNOWS".to_owned(),
    ] {
        let (head, body) = ask(&gateway, "other.test", port, &request);
        assert!(head.starts_with("HTTP/1.1 403"), "{request}: {head}");
        let body = problem(&body);
        assert_eq!(body["error"], "placeholder_misuse", "{request}");
    }
    assert_eq!(server.count(), 0);
    assert_eq!(server.origin.connections(), 0);
    for record in gateway.records(7) {
        assert_eq!(
            (&record["code"], &record["outcome"], &record["by"]),
            (&"placeholder_misuse".into(), &"refused".into(), &"guard".into())
        );
        assert_eq!(record["sent"], false);
    }
    let event = common::wait_for(common::PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["event"] == "credential")
    });
    assert_eq!(
        (&event["credential"], &event["what"], &event["host"]),
        (&"github".into(), &"placeholder_misuse".into(), &"other.test".into())
    );
}

#[test]
fn plain_http_to_its_own_host_is_misuse_too() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let gateway = started(port, "");
    let answer = gateway.exchange(
        format!("GET http://origin.test:{port}/{WORD} HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert_eq!(problem(&answer)["error"], "placeholder_misuse");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_placeholder_is_filled_only_in_the_places_that_the_binding_names() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, ", in: [path], methods: [GET]");
    for request in [
        format!("GET /\r\nX-Token: {WORD}\r\n"),
        format!("GET /?k={WORD}"),
        format!("DELETE /{WORD}"),
    ] {
        let (head, body) = ask(&gateway, "origin.test", port, &request);
        assert!(head.starts_with("HTTP/1.1 403"), "{request}: {head}");
        assert_eq!(problem(&body)["code"], "placeholder_misuse");
    }
    assert_eq!(server.count(), 0);
    ask(&gateway, "origin.test", port, &format!("GET /{WORD}"));
    assert_eq!(server.only().target(), format!("/{ESCAPED}"));
}

#[test]
fn bodies_are_filled_where_they_are_opted_in_and_stay_what_they_are() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, ", in: [json, form, text]");
    for (kind, body, wanted) in [
        (
            "application/json",
            format!("{{\"t\":\"{WORD}\",\"n\":1.0}}"),
            format!("{{\"t\":\"{TOKEN}\",\"n\":1.0}}"),
        ),
        (
            "application/vnd.api+json; charset=utf-8",
            format!("[\"{SPELLED}\"]"),
            format!("[\"{TOKEN}\"]"),
        ),
        (
            "application/x-www-form-urlencoded",
            format!("a=b+c&t={}", SPELLED.replace(':', "%3A")),
            format!("a=b+c&t={ESCAPED}"),
        ),
        ("text/plain", format!("it is {WORD}."), format!("it is {TOKEN}.")),
        ("application/json", "{\"none\":true}".to_owned(), "{\"none\":true}".to_owned()),
        // Not opted in: another type goes up as it came.
        ("application/octet-stream", WORD.to_owned(), WORD.to_owned()),
    ] {
        let length = body.len();
        let request = format!("POST /\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
        let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
        assert!(head.starts_with("HTTP/1.1 200"), "{kind}: {head}");
        assert_eq!(String::from_utf8_lossy(&server.last().body), wanted, "{kind}");
        let chunked = format!("POST /\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n");
        let (one, two) = body.split_at(length / 2);
        let body = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
        ask_bytes(&gateway, "origin.test", port, &chunked, body.as_bytes());
        let heard = server.last();
        let got = match heard.all("content-length").is_empty() {
            true => credentials_kit::dechunked(&heard.body),
            false => heard.body,
        };
        assert_eq!(String::from_utf8_lossy(&got), wanted, "{kind} in chunks");
    }
}

#[test]
fn a_placeholder_in_an_escape_is_refused_because_the_echo_of_its_value_would_be_another() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, ", in: [json, form, text, query, path]");
    let mut asked = 0;
    for (kind, body) in [
        ("application/json", format!("{{\"q\":\"\\{WORD}\"}}")),
        ("application/json", format!("{{\"q\":\"\\u00{WORD}\"}}")),
        ("application/json", format!("{{\"q\":\"%4{WORD}\"}}")),
        ("application/x-www-form-urlencoded", format!("q=%{WORD}")),
        ("application/x-www-form-urlencoded", format!("q=%5C{WORD}")),
        ("text/plain", format!("\\{WORD}")),
    ] {
        let length = body.len();
        let request = format!("POST /\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
        let (head, answer) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
        assert!(head.starts_with("HTTP/1.1 403"), "{body}: {head}");
        assert_eq!(problem(&answer)["code"], "placeholder_misuse", "{body}");
        asked += 1;
    }
    for target in [format!("/?q=%{WORD}"), format!("/?q=%4{WORD}"), format!("/x%25{WORD}")] {
        let (head, _) = ask(&gateway, "origin.test", port, &format!("GET {target}"));
        assert!(head.starts_with("HTTP/1.1 403"), "{target}: {head}");
        asked += 1;
    }
    assert_eq!(server.count(), 0);
    for record in gateway.records(asked) {
        assert_eq!(record["code"], "placeholder_misuse");
    }
    // A backslash that is escaped itself takes nothing.
    let body = format!("{{\"q\":\"\\\\{WORD}\"}}");
    let length = body.len();
    let request =
        format!("POST /\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
    let got = String::from_utf8(server.only().body).unwrap();
    assert_eq!(got, body.replace(WORD, TOKEN));
}

#[test]
fn a_body_over_the_limit_is_refused_and_never_sent_in_part() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[&format!("placeholder: {WORD}, in: [json]")]);
    setup.more += "buffer: { placeholder: 1KiB }\n";
    let gateway = setup.start();
    let body = format!("[\"{}\"]", "a".repeat(2000));
    let request =
        format!("POST /\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let (head, answer) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert_eq!(problem(&answer)["code"], "rewritten_body_too_large");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_placeholder_in_a_body_for_another_host_goes_as_text_only_where_bodies_are_not_looked_into() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, ", in: [json]");
    let body = format!("[\"{WORD}\"]");
    let request =
        format!("POST /\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    // The word itself is no secret: a body that nobody opted into is not read.
    ask_bytes(&gateway, "other.test", port, &request, body.as_bytes());
    assert_eq!(server.only().body, body.as_bytes());
    let request = request.replace("POST /", "POST /?openshell:resolve:env:UNKNOWN");
    let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[test]
fn messages_of_a_websocket_are_filled_where_they_are_opted_in() {
    use portcullis::proxy::websocket::{Decoder, Event, Opcode, Side, accept_for, encode};
    let (tell, told) = std::sync::mpsc::channel::<String>();
    let tell = std::sync::Mutex::new(tell);
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        let Some(heard) = credentials_kit::read(&mut stream) else { return };
        let tell = tell.lock().unwrap();
        tell.send(heard.head.clone()).unwrap();
        let Some(key) = heard.all("sec-websocket-key").pop() else { return };
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\nx-echo: {TOKEN}\r\n\r\n",
            accept_for(&key)
        )
        .unwrap();
        stream.flush().unwrap();
        let mut decoder = Decoder::new(Side::Client, 1 << 16);
        let mut bytes = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            decoder.push(&bytes[..n]);
            while let Ok(Some(event)) = decoder.next() {
                if let Event::Text { text, .. } = event {
                    tell.send(text.to_string()).unwrap();
                    stream.write_all(&encode(Opcode::Text, text.as_bytes(), None)).unwrap();
                    stream.flush().unwrap();
                }
            }
        }
    });
    let port = origin.port();
    let gateway =
        setup(port, &[&format!("placeholder: {WORD}, in: [websocket, header], websocket: true")])
            .start();
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(
        tls,
        "GET /ws HTTP/1.1\r\nHost: origin.test:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {WORD}\r\n\r\n"
    )
    .unwrap();
    let head = common::read_head(&mut tls);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(common::header(&head, "x-echo").unwrap(), "***");
    let shaken = told.recv_timeout(common::PATIENCE).unwrap();
    assert!(shaken.contains(TOKEN), "{shaken}");
    assert!(!shaken.to_ascii_lowercase().contains("permessage"), "{shaken}");
    let say = |tls: &mut common::Tls, text: &str| {
        tls.write_all(&encode(Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]))).unwrap();
    };
    say(&mut tls, "hello");
    say(&mut tls, &format!("{{\"token\":\"{SPELLED}\"}}"));
    assert_eq!(told.recv_timeout(common::PATIENCE).unwrap(), "hello");
    assert_eq!(told.recv_timeout(common::PATIENCE).unwrap(), format!("{{\"token\":\"{TOKEN}\"}}"));
    // What the origin says back of it is masked.
    let mut heard = [0; 24];
    tls.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"\x81\x05hello\x81\x0f{\"token\":\"***\"}");
    say(&mut tls, "openshell:resolve:env:UNKNOWN");
    let record = gateway.record(1);
    assert_eq!(
        (&record["code"], &record["outcome"]),
        (&"placeholder_misuse".into(), &"refused".into())
    );
}

#[test]
fn a_handshake_gets_a_credential_only_where_the_binding_says_so() {
    for (binding, gets) in [("header: X-Token", false), ("header: X-Token, websocket: true", true)]
    {
        let server =
            Server::new(|_| b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_vec());
        let port = server.port();
        let gateway = setup(port, &[binding]).start();
        let request = "GET /ws\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
        let (line, fields) = request.split_once("\r\n").unwrap();
        write!(tls, "{line} HTTP/1.1\r\nHost: origin.test:{port}\r\n{fields}\r\n").unwrap();
        let head = common::read_head(&mut tls);
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        let mut body = [0; 12];
        tls.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"2\r\nno\r\n0\r\n\r\n", "{binding}");
        assert_eq!(!server.only().all("x-token").is_empty(), gets, "{binding}");
    }
}

#[test]
fn a_declined_handshake_in_another_coding_is_not_passed_on_unread() {
    let server = Server::new(|heard| {
        let echo = heard.all("x-token").join("");
        let body = crate::credentials_kit::gzipped(format!("you sent {echo}").as_bytes());
        let size = body.len();
        let mut answer =
            b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_vec();
        answer.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        answer.extend_from_slice(&body);
        answer.extend_from_slice(b"\r\n0\r\n\r\n");
        answer
    });
    let port = server.port();
    let gateway = setup(port, &["header: X-Token, websocket: true"]).start();
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(
        tls,
        "GET /ws HTTP/1.1\r\nHost: origin.test:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let (head, body) = common::read_response(&mut tls);
    assert_eq!(server.only().all("x-token"), [TOKEN]);
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(common::problem(&body)["code"], "upstream_protocol");
}
