//! WebSocket messages that the rules judge: each before it leaves, and nothing of a refused one
//! reaches the origin.

use crate::common::{Gateway, Origin, Recorded, Setup, header, read_all, read_head};
use portcullis::proxy::websocket::{Opcode, accept_for, encode, encode_close};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const MASK: Option<[u8; 4]> = Some([9, 8, 7, 6]);

fn agree(stream: &mut Recorded) {
    let head = read_head(stream);
    let accept = accept_for(&header(&head, "sec-websocket-key").unwrap());
    let protocol = header(&head, "sec-websocket-protocol")
        .map_or_else(String::new, |p| format!("Sec-WebSocket-Protocol: {p}\r\n"));
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    )
    .unwrap();
}

/// Agrees, then gives back every byte unmasked as it stands; keeps all it saw.
fn mirror() -> Origin {
    Origin::plain(|mut stream| {
        agree(&mut stream);
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
        drop(stream.stream.shutdown(Shutdown::Write));
    })
}

fn endpoint(port: u16, rules: &str) -> Gateway {
    Setup::policy(&format!(
        "  ws:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: websocket, {rules} }}"
    ))
    .start()
}

fn open(gateway: &Gateway, port: u16, protocol: Option<&str>) -> TcpStream {
    let mut client = gateway.connect();
    let protocol =
        protocol.map_or_else(String::new, |p| format!("Sec-WebSocket-Protocol: {p}\r\n"));
    write!(
        client,
        "GET http://origin.test:{port}/ws HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{protocol}\r\n"
    )
    .unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(header(&head, "sec-websocket-extensions").is_none());
    client
}

fn echoes(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

/// Reads to the end: a close frame with `code` and no other.
fn is_closed_with(client: &mut TcpStream, code: u16) -> String {
    let mut head = [0; 4];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x88, "a close frame");
    assert_eq!(u16::from_be_bytes([head[2], head[3]]), code);
    let mut reason = vec![0; usize::from(head[1]) - 2];
    client.read_exact(&mut reason).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(client).is_empty());
    String::from_utf8(reason).unwrap()
}

fn text(message: &str) -> Vec<u8> {
    encode(Opcode::Text, message.as_bytes(), MASK).to_vec()
}

const GRAPHQL: &str = "rules: [ { allow: { method: GET, path: /ws } }, { allow: { operation_type: query } }, \
     { allow: { operation_type: subscription, fields: [ticks] } } ], deny_rules: [ { operation_type: mutation } ]";

fn operation(kind: &str, query: &str) -> Vec<u8> {
    text(&format!(r#"{{"id":"1","type":"{kind}","payload":{{"query":"{query}"}}}}"#))
}

#[test]
fn an_operation_that_is_refused_closes_with_1008_and_never_reaches_the_origin() {
    for (protocol, kind) in [("graphql-transport-ws", "subscribe"), ("graphql-ws", "start")] {
        for (query, code) in [
            ("mutation { secretDelete }", "denied_by_rule"),
            ("subscription { secretFeed }", "operation_not_allowed"),
            ("subscription { ticks secretToo }", "operation_not_allowed"),
        ] {
            let origin = mirror();
            let port = origin.port();
            let gateway = endpoint(port, GRAPHQL);
            let mut client = open(&gateway, port, Some(protocol));
            echoes(&mut client, &text(r#"{"type":"connection_init"}"#));
            echoes(&mut client, &operation(kind, "query { viewer }"));
            echoes(&mut client, &operation(kind, "subscription { ticks }"));
            echoes(&mut client, &encode(Opcode::Ping, b"?", MASK));
            let before = origin.seen.lock().unwrap()[0].len();
            // Two frames in one write: the second is behind the refused one.
            let mut bytes = operation(kind, query);
            bytes.extend_from_slice(&operation(kind, "query { viewer }"));
            client.write_all(&bytes).unwrap();
            let reason = is_closed_with(&mut client, 1008);
            assert!(!reason.is_empty());
            let record = gateway.record(1);
            assert_eq!(record["code"], code, "{query}");
            assert_eq!(record["outcome"], "refused");
            assert_eq!(record["websocket"], true);
            let seen = &origin.seen.lock().unwrap()[0];
            assert!(seen.len() <= before + 8, "the origin got a close frame at most");
        }
    }
}

#[test]
fn a_refused_operation_in_fragments_leaves_not_even_its_first() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, GRAPHQL);
    let mut client = open(&gateway, port, Some("graphql-transport-ws"));
    echoes(&mut client, &text(r#"{"type":"ping"}"#));
    let before = origin.seen.lock().unwrap()[0].len();
    let message = br#"{"id":"1","type":"subscribe","payload":{"query":"mutation { a }"}}"#;
    let (first, second) = message.split_at(20);
    let mut begin = encode(Opcode::Text, first, MASK).to_vec();
    begin[0] &= 0x7f;
    client.write_all(&begin).unwrap();
    // A ping between fragments passes at once, and shows that the fragment did not.
    echoes(&mut client, &encode(Opcode::Ping, b"!", MASK));
    assert_eq!(origin.seen.lock().unwrap()[0].len(), before + 7);
    client.write_all(&encode(Opcode::Continuation, second, MASK)).unwrap();
    is_closed_with(&mut client, 1008);
    assert_eq!(gateway.record(1)["code"], "denied_by_rule");
}

#[test]
fn text_passes_where_a_rule_allows_it_and_fragments_keep_their_bytes() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(
        port,
        "rules: [ { allow: { method: GET, path: /ws } }, { allow: { method: WEBSOCKET_TEXT, path: /ws } } ]",
    );
    let mut client = open(&gateway, port, None);
    echoes(&mut client, &text("anything"));
    let mut parts = encode(Opcode::Text, b"in ", MASK).to_vec();
    parts[0] &= 0x7f;
    parts.extend_from_slice(&encode(Opcode::Continuation, b"two", MASK));
    echoes(&mut client, &parts);
    echoes(&mut client, &encode_close(1000, "bye", MASK));
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client).is_empty());
    assert_eq!(gateway.record(1)["outcome"], "passed");
    assert!(
        !origin.heard().to_ascii_lowercase().contains("permessage-deflate"),
        "it could not be judged"
    );
}

#[test]
fn messages_without_a_rule_are_refused_even_where_the_handshake_is_allowed() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, "access: read-only");
    let mut client = open(&gateway, port, None);
    client.write_all(&text("hello")).unwrap();
    is_closed_with(&mut client, 1008);
    let record = gateway.record(1);
    assert_eq!(record["code"], "message_not_allowed");
    assert_eq!(record["status"], 101);
    assert_eq!(record["verdict"], "allow", "what the policy said of the handshake");
}

#[test]
fn what_cannot_be_judged_is_closed_with_a_code_that_says_why() {
    let long = text(&format!(r#"{{"type":"ping","payload":{{"a":"{}"}}}}"#, "x".repeat(70_000)));
    let mut compressed = text("x");
    compressed[0] |= 0x40;
    let unmasked = encode(Opcode::Text, b"x", None).to_vec();
    for (bytes, close, code) in [
        (encode(Opcode::Binary, b"blob", MASK).to_vec(), 1008, "message_not_allowed"),
        (long, 1009, "judged_body_too_large"),
        (compressed, 1002, "bad_frame"),
        (unmasked, 1002, "bad_frame"),
        (text("not json"), 1008, "body_not_understood"),
    ] {
        let origin = mirror();
        let port = origin.port();
        let gateway = endpoint(port, GRAPHQL);
        let mut client = open(&gateway, port, Some("graphql-transport-ws"));
        client.write_all(&bytes).unwrap();
        is_closed_with(&mut client, close);
        let record = gateway.record(1);
        assert_eq!((&record["code"], &record["outcome"]), (&code.into(), &"refused".into()));
    }
}

#[test]
fn the_close_frame_stands_behind_the_frame_that_is_under_way() {
    let frame = encode(Opcode::Binary, &[7; 100_000], None);
    let sent = frame.clone();
    let origin = Origin::plain(move |mut stream| {
        agree(&mut stream);
        stream.write_all(&sent[..50_000]).unwrap();
        // The rest comes only after the gateway has said its end.
        read_all(&mut stream);
        drop(stream.write_all(&sent[50_000..]));
    });
    let port = origin.port();
    let gateway = endpoint(port, "access: read-only");
    let mut client = open(&gateway, port, None);
    let mut got = vec![0; 50_000];
    client.read_exact(&mut got).unwrap();
    client.write_all(&text("refused")).unwrap();
    let mut rest = vec![0; frame.len() - 50_000];
    client.read_exact(&mut rest).unwrap();
    got.extend_from_slice(&rest);
    assert!(got == frame, "the origin's frame is whole");
    is_closed_with(&mut client, 1008);
}

#[test]
fn a_policy_that_forbids_an_open_websocket_closes_it_with_1008() {
    let origin = mirror();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = open_plain(&gateway, port);
    echoes(&mut client, &text("hello"));
    gateway.write_policy("  other:\n    endpoints:\n      - { host: other.test, port: 1, protocol: rest, access: full }");
    gateway.signal("HUP");
    is_closed_with(&mut client, 1008);
    assert_eq!(gateway.record(1)["code"], "policy_changed");
}

fn open_plain(gateway: &Gateway, port: u16) -> TcpStream {
    let mut client = gateway.connect();
    write!(
        client,
        "GET http://origin.test:{port}/ws HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}
