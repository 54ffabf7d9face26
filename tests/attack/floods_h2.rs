//! security.md 12, HTTP/2: resets, CONTINUATION, SETTINGS, PING and windows that never open, from a
//! client that reads nothing: bounded memory, an end, records, and nobody else harmed.

use crate::attack::frames::{self, frame, headers};
use crate::attack::{Bench, Place, resident};
use crate::common::{Origin, Setup, Tls, read_head, read_response};
use std::io::Write;
use std::time::{Duration, Instant};

fn h2(bench: &Bench) -> Tls {
    let authority = bench.authority(Place::Inside);
    let mut tls = bench.gateway.tls(&authority, "origin.test", &["h2"]);
    tls.write_all(&frames::hello()).unwrap();
    tls
}

fn get(authority: &str, stream: u32, path: &str) -> Vec<u8> {
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)];
    headers(stream, &fields, true)
}

fn others_are_served(bench: &Bench) {
    let began = Instant::now();
    let mut client = bench.open(Place::Forward);
    let get = bench.bytes(Place::Forward, "GET {T}/other HTTP/1.1\r\nHost: {H}\r\n\r\n");
    client.write_all(&get).unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Writes `make(n)` until the gateway ends the connection or `most` were written; how many went.
fn flood(tls: &mut Tls, most: u32, mut make: impl FnMut(u32) -> Vec<u8>) -> u32 {
    tls.sock.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    for n in 0..most {
        if tls.write_all(&make(n)).and_then(|()| tls.flush()).is_err() {
            return n;
        }
    }
    most
}

fn bounded(bench: &Bench, before: u64) {
    let after = resident(bench.gateway.pid());
    assert!(after < before + 24 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn rapid_resets_end_the_connection() {
    let bench = Bench::new();
    let before = resident(bench.gateway.pid());
    let authority = bench.authority(Place::Inside);
    let mut tls = h2(&bench);
    let went = flood(&mut tls, 20_000, |n| {
        let stream = 2 * n + 1;
        let reset = frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        [get(&authority, stream, "/a"), reset].concat()
    });
    assert!(went < 20_000, "the gateway takes every reset");
    others_are_served(&bench);
    bounded(&bench, before);
    let heard = bench.take().len();
    assert!(heard < 2_000, "the origin has to bear {heard}");
}

#[test]
fn a_head_in_endless_continuations_ends_the_connection() {
    let bench = Bench::new();
    let before = resident(bench.gateway.pid());
    let authority = bench.authority(Place::Inside);
    let mut tls = h2(&bench);
    let mut head = get(&authority, 1, "/a");
    head[4] = frames::END_STREAM;
    tls.write_all(&head).unwrap();
    let more = frames::block(&[("x", &"y".repeat(8_000))]);
    let went = flood(&mut tls, 20_000, |_| frame(frames::CONTINUATION, 0, 1, &more));
    assert!(went < 20_000, "the gateway reads it for ever");
    others_are_served(&bench);
    bounded(&bench, before);
    assert_eq!(bench.gateway.records(2).len(), 2);
}

#[test]
fn empty_continuations_end_the_connection_too() {
    let bench = Bench::new();
    let before = resident(bench.gateway.pid());
    let authority = bench.authority(Place::Inside);
    let mut tls = h2(&bench);
    let mut head = get(&authority, 1, "/a");
    head[4] = frames::END_STREAM;
    tls.write_all(&head).unwrap();
    let went = flood(&mut tls, 50_000, |_| frame(frames::CONTINUATION, 0, 1, &[]));
    assert!(went < 50_000, "the gateway reads it for ever");
    others_are_served(&bench);
    bounded(&bench, before);
}

#[test]
fn settings_and_pings_that_nobody_reads_the_answers_of_cost_bounded_memory() {
    for (name, kind, payload) in
        [("settings", frames::SETTINGS, &[][..]), ("ping", frames::PING, &[1; 8][..])]
    {
        let bench = Bench::new();
        let before = resident(bench.gateway.pid());
        let mut tls = h2(&bench);
        let many: Vec<u8> = (0..100).flat_map(|_| frame(kind, 0, 0, payload)).collect();
        flood(&mut tls, 20_000, |_| many.clone());
        others_are_served(&bench);
        bounded(&bench, before);
        drop(tls);
        assert_eq!(bench.gateway.records(2).len(), 2, "{name}");
    }
}

#[test]
fn windows_that_never_open_hold_little_and_let_go_with_their_client() {
    let (begun, begins) = std::sync::mpsc::channel();
    let (ended, ends) = std::sync::mpsc::channel();
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        if read_head(&mut stream).is_empty() {
            return;
        }
        let _ = begun.send(());
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"));
        let chunk = vec![b'x'; 16 * 1024];
        while stream.write_all(&chunk).is_ok() {}
        let _ = ended.send(());
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let before = resident(gateway.pid());
    let authority = format!("origin.test:{}", origin.port());
    let mut tls = gateway.tls(&authority, "origin.test", &["h2"]);
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let settings = frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    tls.write_all(&[frames::PREFACE, &settings].concat()).unwrap();
    for n in 0..20 {
        tls.write_all(&get(&authority, 2 * n + 1, "/a")).unwrap();
    }
    tls.flush().unwrap();
    for n in 0..20 {
        assert!(begins.recv_timeout(Duration::from_secs(10)).is_ok(), "{n} of 20 have begun");
    }
    let mut other = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(other, "GET /a HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert!(read_head(&mut other).starts_with("HTTP/1.1 200"), "others are served meanwhile");
    let after = resident(gateway.pid());
    assert!(after < before + 64 * 1024, "{before} KiB, then {after} KiB");
    drop(other);
    assert!(ends.recv_timeout(Duration::from_secs(10)).is_ok(), "its origin is let go");
    drop(tls);
    for n in 0..20 {
        assert!(ends.recv_timeout(Duration::from_secs(10)).is_ok(), "{n} of 20 origins let go");
    }
    let records = gateway.records(21);
    assert!(records.iter().all(|r| r["sent"] == true), "{records:#?}");
}

/// Reads frames until the gateway ends the connection.
fn last_words(tls: &mut Tls) -> Vec<frames::Frame> {
    std::iter::from_fn(|| frames::read(tls)).collect()
}

#[test]
fn who_sends_control_frames_for_nothing_is_told_to_calm_down() {
    for (name, kind, stream, payload) in [
        ("settings", frames::SETTINGS, 0, &[][..]),
        ("ping", frames::PING, 0, &[1; 8][..]),
        ("window", frames::WINDOW_UPDATE, 0, &[0, 0, 0, 1][..]),
        ("unknown", 0xee, 0, &[1; 16][..]),
    ] {
        let bench = Bench::new();
        let mut tls = h2(&bench);
        let many: Vec<u8> = (0..1_200).flat_map(|_| frame(kind, 0, stream, payload)).collect();
        // It may end before all is written.
        let _ = tls.write_all(&many).and_then(|()| tls.flush());
        let goaway = last_words(&mut tls).into_iter().find(|f| f.kind == frames::GOAWAY);
        let goaway = goaway.unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        // ENHANCE_YOUR_CALM (RFC 9113 §7).
        assert_eq!(goaway.payload[4..8], [0, 0, 0, 11], "{name}");
        let records = bench.gateway.records(1);
        assert_eq!(records[0]["code"], "too_many_requests", "{name}: {records:?}");
    }
}

#[test]
fn frames_that_go_with_requests_are_no_flood() {
    let bench = Bench::new();
    let authority = bench.authority(Place::Inside);
    let mut tls = h2(&bench);
    // In all four times what a connection begins with.
    for n in 0..800 {
        let stream = 2 * n + 1;
        let mut bytes = get(&authority, stream, "/a");
        for _ in 0..5 {
            bytes.extend(frame(frames::PING, 0, 0, &[1; 8]));
        }
        tls.write_all(&bytes).unwrap();
        tls.flush().unwrap();
        let answered = frames::outcome(&mut tls, stream);
        assert!(answered.is_some_and(|f| f.kind != frames::GOAWAY), "{n}");
    }
}
