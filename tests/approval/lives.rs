//! What lives by an answer (a stream, a WebSocket, a raw tunnel) ends within a second of that answer's end
//! (I7, security.md 22).

use crate::approval_kit::{self, Control, holding, send, status};
use crate::common::{Gateway, Origin, PATIENCE, read_all, read_head, read_request, wait_for};
use crate::state::held;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Says one chunk, then waits until it is left.
fn stream_origin() -> Origin {
    Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
            stream.write_all(head.as_bytes()).unwrap();
        }
    })
}

fn websocket_origin() -> Origin {
    Origin::plain(|mut stream| {
        if read_request(&mut stream).is_empty() {
            return;
        }
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(head).unwrap();
        drop(stream.read(&mut [0]));
    })
}

fn echo() -> Origin {
    Origin::plain(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

/// Opens a stream, a WebSocket and a raw tunnel, each by an answer of its own.
fn open_three(gateway: &Gateway, origins: &[Origin; 3], scope: &str) -> Vec<(Value, TcpStream)> {
    let control = Control::of(gateway);
    let [streaming, websocket, raw] = origins;
    let approve = |path: Option<&str>| {
        let entry = wait_for(PATIENCE, || {
            let here = |entry: &Value| entry["path"].as_str() == path && entry["held"] == 1;
            control.pending().into_iter().find(here)
        });
        control.approve(&entry, &json!({ "scope": scope }));
        entry
    };
    let mut one = send(gateway, "GET", streaming.port(), "/stream");
    let first = approve(Some("/stream"));
    assert_eq!(status(&read_head(&mut one)), 200);
    one.read_exact(&mut [0; 10]).unwrap();
    let authority = format!("origin.test:{}", websocket.port());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut two = approval_kit::send_with(gateway, "GET", &authority, "/ws", upgrade);
    let second = approve(Some("/ws"));
    assert_eq!(status(&read_head(&mut two)), 101);
    let mut three = gateway.tunnel(&format!("origin.test:{}", raw.port()));
    three.write_all(b"\x00raw").unwrap();
    let third = approve(None);
    three.read_exact(&mut [0; 4]).unwrap();
    vec![(first, one), (second, two), (third, three)]
}

#[test]
fn what_lives_by_a_grant_ends_within_a_second_of_its_revocation() {
    let origins = [stream_origin(), websocket_origin(), echo()];
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut open = open_three(&gateway, &origins, "session");
    for (at, (_, client)) in open.iter_mut().enumerate() {
        let began = Instant::now();
        control.revoke(&format!("g{}", at + 1));
        let rest = read_all(client);
        assert!(began.elapsed() < SECOND, "{at}: {:?}", began.elapsed());
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{at}: an end that was none");
    }
    for record in gateway.records(3) {
        assert_eq!(
            (&record["code"], &record["outcome"]),
            (&json!("policy_changed"), &json!("failed"))
        );
    }
    let revoked = gateway.events("default").into_iter().filter(|e| e["event"] == "grant.revoked");
    assert_eq!(revoked.count(), 3);
    let (status, problem) = control.call("DELETE", "/v1/grants/g1", None);
    assert_eq!(status, 404, "{problem}");
}

#[test]
fn what_lives_by_an_answer_for_one_request_ends_when_it_is_taken_back() {
    let origins = [stream_origin(), websocket_origin(), echo()];
    let gateway = holding().start();
    let control = Control::of(&gateway);
    for (entry, mut client) in open_three(&gateway, &origins, "once") {
        let began = Instant::now();
        assert_eq!(control.undo(&entry)["state"], "pending");
        read_all(&mut client);
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    }
    assert_eq!(control.pending().len(), 3);
}

#[test]
fn what_lives_by_a_grant_ends_within_a_second_of_its_expiry() {
    let origin = stream_origin();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let (entry, mut client) = held(&gateway, origin.port(), "/stream");
    let began = Instant::now();
    control.approve(&entry, &json!({ "for": "2s" }));
    assert_eq!(status(&read_head(&mut client)), 200);
    read_all(&mut client);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
}
