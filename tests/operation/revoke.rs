//! A change of policy reaches what is live (I7, security.md 22): what the new policy forbids ends
//! within a second, all else lives on.

use crate::common::{
    self, Gateway, Origin, Setup, problem, read_all, read_head, read_request, read_response,
};
use crate::operation_kit::{self, at, echo, echoes, entry, event, events, expect, full, get};
use crate::operation_kit::{open_stream, open_tunnel, read_only, record_of, reload, status};
use serde_json::Value;
use std::io::{Read, Write};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Asserts that the record ended for the reload, within a second of it, by the gateway's clock.
fn ended_by(record: &Value, reload: &Value) {
    assert_eq!(record["code"], "policy_changed", "{record}");
    assert_eq!(record["outcome"], "failed", "{record}");
    let after = at(record).saturating_sub(at(reload));
    assert!(after <= SECOND, "it ended {after:?} after the reload");
}

fn websocket(gateway: &Gateway, port: u16) -> std::net::TcpStream {
    let mut client = gateway.connect();
    write!(
        client,
        "GET http://origin.test:{port}/ws HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let head = read_head(&mut client);
    assert_eq!(status(&head), 101, "{head}");
    client
}

/// An origin that accepts that handshake and gives back what it gets.
fn websocket_echo() -> Origin {
    Origin::plain(|mut stream| {
        if read_request(&mut stream).is_empty() {
            return;
        }
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )
            .unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn raw_tunnels_that_the_new_policy_forbids_end_and_others_live_on() {
    for how in ["protocol: tcp", "tls: skip"] {
        let (one, two) = (echo(), echo());
        let policy = |first: &str| {
            let other = entry("b", "other.test", two.port(), how);
            entry("a", first, one.port(), how) + &other
        };
        let gateway = Setup::policy(&policy("origin.test")).start();
        let mut cut = open_tunnel(&gateway, &format!("origin.test:{}", one.port()));
        let mut kept = open_tunnel(&gateway, &format!("other.test:{}", two.port()));
        echoes(&mut cut);
        let loaded = reload(&gateway, &policy("another.test"), 2);
        assert_eq!(read_all(&mut cut), b"");
        let record = record_of(&gateway, "policy_changed");
        ended_by(&record, &loaded);
        assert_eq!(record["host"], "origin.test");
        assert_eq!((&record["upload"], &record["download"]), (&11.into(), &16.into()), "{how}");
        echoes(&mut kept);
        // Judged again, it stands under every policy that allows it.
        reload(&gateway, &policy("third.test"), 3);
        echoes(&mut kept);
    }
}

#[test]
fn a_websocket_that_the_new_policy_forbids_is_told_and_ends() {
    let origin = websocket_echo();
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut cut = websocket(&gateway, port);
    let text = b"\x81\x82\x00\x00\x00\x00hi";
    cut.write_all(text).unwrap();
    expect(&mut cut, text);
    let loaded = reload(&gateway, &full("a", "other.test", port), 2);
    let close = read_all(&mut cut);
    assert_eq!(close[0], 0x88, "a close frame: {close:?}");
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1008);
    let record = record_of(&gateway, "policy_changed");
    ended_by(&record, &loaded);
    assert_eq!(record["websocket"], true);
    assert_eq!(record["status"], 101);
}

#[test]
fn a_stream_that_the_new_policy_forbids_ends_and_others_live_on() {
    let (one, two) = (events(), events());
    let policy =
        |first: &str| full("a", first, one.port()) + &read_only("b", "other.test", two.port());
    let gateway = Setup::policy(&policy("origin.test")).start();
    let mut cut = open_stream(&gateway, "origin.test", one.port());
    let mut kept = open_stream(&gateway, "other.test", two.port());
    let loaded = reload(&gateway, &policy("another.test"), 2);
    // The end is a broken stream, never one that looks whole.
    let rest = read_all(&mut cut);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    ended_by(&record_of(&gateway, "policy_changed"), &loaded);
    kept.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waits = kept.read(&mut [0]).unwrap_err();
    assert!(matches!(waits.kind(), std::io::ErrorKind::WouldBlock), "{waits}");
    assert_eq!(gateway.records_now("default").len(), 1, "the other stream goes on");
}

/// An origin that sends as fast as it can, for as long as it can.
fn flood() -> Origin {
    Origin::plain(|mut stream| {
        if read_request(&mut stream).is_empty() {
            return;
        }
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
        let block = [b'x'; 65536];
        let mut sent = stream.write_all(head);
        while sent.is_ok() {
            sent = stream.write_all(&block);
        }
    })
}

#[test]
fn a_download_that_never_pauses_ends_too() {
    let origin = flood();
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut cut = gateway.connect();
    write!(cut, "GET http://origin.test:{port}/big HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert_eq!(status(&read_head(&mut cut)), 200);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(1..) = cut.read(&mut buffer) {}
    });
    let loaded = reload(&gateway, &full("a", "other.test", port), 2);
    reader.join().unwrap();
    ended_by(&record_of(&gateway, "policy_changed"), &loaded);
}

#[test]
fn a_client_that_reads_nothing_does_not_keep_a_forbidden_stream_alive() {
    let origin = flood();
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut stalled = gateway.connect();
    write!(
        stalled,
        "GET http://origin.test:{port}/big HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(status(&read_head(&mut stalled)), 200);
    // It reads no more; the buffers fill.
    let loaded = reload(&gateway, &full("a", "other.test", port), 2);
    ended_by(&record_of(&gateway, "policy_changed"), &loaded);
    drop(stalled);
}

#[test]
fn a_request_that_waits_for_its_answer_is_refused_when_it_is_revoked() {
    let (arrived, arrives) = std::sync::mpsc::channel();
    let origin = Origin::plain(move |mut stream| {
        assert!(!read_request(&mut stream).is_empty());
        arrived.send(()).unwrap();
        // Never an answer: waits until it is left.
        drop(stream.read(&mut [0]));
    });
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    arrives.recv_timeout(common::PATIENCE).unwrap();
    let loaded = reload(&gateway, &full("a", "other.test", port), 2);
    let (head, body) = read_response(&mut client);
    assert_eq!(status(&head), 403, "{head}");
    assert_eq!(problem(&body)["code"], "policy_changed");
    ended_by(&record_of(&gateway, "policy_changed"), &loaded);
}

#[test]
fn a_request_under_way_that_stays_allowed_is_answered_whole() {
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let (arrived, arrives) = std::sync::mpsc::channel();
    let origin = Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            arrived.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    arrives.recv_timeout(common::PATIENCE).unwrap();
    reload(&gateway, &read_only("a", "origin.test", port), 2);
    go.send(()).unwrap();
    let (head, body) = read_response(&mut client);
    assert_eq!((status(&head), &body[..]), (200, &b"done"[..]));
    // The connection lives on too, judged anew.
    go.send(()).unwrap();
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    assert_eq!(operation_kit::ask(&mut client, "DELETE", "origin.test", port, "/").0, 403);
}

#[test]
fn requests_inside_an_intercepted_tunnel_are_judged_anew_and_the_tunnel_lives() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").is_err() {
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    let mut post = || {
        write!(client, "POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        status(&read_response(&mut client).0)
    };
    assert_eq!(post(), 200);
    reload(&gateway, &read_only("a", "origin.test", port), 2);
    assert_eq!(post(), 403);
    reload(&gateway, &full("a", "origin.test", port), 3);
    event(&gateway, "default", "policy.loaded", 3);
    assert_eq!(post(), 200);
}

#[test]
fn an_address_that_the_new_policy_no_longer_opens_is_left() {
    let (one, two) = (echo(), events());
    let policy = |net: &str| {
        let endpoint =
            |port, how| format!("      - {{ port: {port}, {how}, allowed_ips: [\"{net}\"] }}\n");
        format!("  a:\n    endpoints:\n{}", endpoint(one.port(), "protocol: tcp"))
            + &endpoint(two.port(), "protocol: rest, access: full")
    };
    let gateway = Setup::policy(&policy("127.0.0.0/8")).start();
    let mut tunnel = open_tunnel(&gateway, &format!("origin.test:{}", one.port()));
    let mut stream = open_stream(&gateway, "origin.test", two.port());
    // What still opens it changes nothing.
    reload(&gateway, &policy("127.0.0.1/32"), 2);
    echoes(&mut tunnel);
    let loaded = reload(&gateway, &policy("10.0.0.0/8"), 3);
    assert_eq!(read_all(&mut tunnel), b"");
    assert!(!read_all(&mut stream).ends_with(b"0\r\n\r\n"));
    let records = gateway.records(2);
    records.iter().for_each(|record| ended_by(record, &loaded));
}

#[test]
fn a_websocket_whose_messages_are_to_be_judged_from_now_on_ends() {
    let origin = websocket_echo();
    let port = origin.port();
    let judging = "protocol: websocket, rules: [ { allow: { method: GET, path: /ws } }, \
                   { allow: { operation_type: query } } ]";
    let judging = entry("a", "origin.test", port, judging);
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut cut = websocket(&gateway, port);
    let text = b"\x81\x82\x00\x00\x00\x00hi";
    cut.write_all(text).unwrap();
    expect(&mut cut, text);
    let loaded = reload(&gateway, &judging, 2);
    assert_eq!(read_all(&mut cut)[0], 0x88, "a close frame");
    ended_by(&record_of(&gateway, "policy_changed"), &loaded);
    // One that was agreed on under the rules lives on under others that judge too.
    let mut kept = websocket(&gateway, port);
    reload(&gateway, &(judging + &full("b", "other.test", port)), 3);
    let ping = b"\x89\x80\x00\x00\x00\x00";
    kept.write_all(ping).unwrap();
    expect(&mut kept, ping);
}
