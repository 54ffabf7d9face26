//! security.md 12, HTTP/1: slow, silent and greedy clients cost bounded memory and time, leave a
//! record, and do not harm the others.

use crate::attack::{Bench, PLACES, Place, resident, statuses};
use crate::common::{self, Origin, Setup, read_all, read_head, read_response};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const QUICK: &str = "timeout: { header: 1s, first_byte: 2s, idle: 2s }\n";

/// Waits until the records that `which` picks stand for `count` requests; for how many they do.
fn counted(bench: &Bench, count: u64, which: impl Fn(&Value) -> bool) -> u64 {
    common::wait_for(common::PATIENCE, || {
        let records = bench.gateway.records_now("default");
        let each = records.iter().filter(|r| which(r)).map(|r| r["repeat"].as_u64().unwrap_or(1));
        let sum = each.sum();
        (sum >= count).then_some(sum)
    })
}

/// Another client is served, and soon.
fn others_are_served(bench: &Bench) {
    let began = Instant::now();
    let mut client = bench.open(Place::Forward);
    let get = bench.bytes(Place::Forward, "GET {T}/other HTTP/1.1\r\nHost: {H}\r\n\r\n");
    client.write_all(&get).unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_head_that_does_not_come_in_time_is_a_408() {
    let bench = Bench::with(|setup| setup.more(QUICK));
    let mut count = 0;
    for place in PLACES {
        for said in ["G", "GET {T}/a HTTP/1.1\r\nHos", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\n"] {
            if place == Place::Tunnel && said == "G" {
                continue;
            }
            let answer = bench.say(place, said, false);
            assert_eq!(statuses(&answer), [408], "{place:?}: {said:?}: {answer}");
            count += 1;
            let record = bench.gateway.record(count);
            assert_eq!(record["code"], "header_timeout", "{record}");
            assert_eq!(record["verdict"], "none");
        }
    }
    assert_eq!(bench.take(), []);
}

#[test]
fn a_head_that_drips_does_not_move_its_deadline() {
    let bench = Bench::with(|setup| setup.more(QUICK));
    for place in PLACES {
        let mut client = bench.open(place);
        let began = Instant::now();
        let start = bench.bytes(place, "GET {T}/a HTTP/1.1\r\nX: ");
        client.write_all(&start).unwrap();
        // The pace of the attack: a byte every 50 ms, until the gateway has had enough.
        while client.write_all(b"a").and_then(|()| client.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
            assert!(began.elapsed() < Duration::from_secs(6), "{place:?}: it goes on");
        }
    }
    let records = bench.gateway.records(3);
    assert!(records.iter().all(|r| r["code"] == "header_timeout"), "{records:#?}");
    assert_eq!(bench.take(), []);
}

#[test]
fn a_body_that_does_not_come_is_the_clients_fault_and_not_the_origins() {
    let bench = Bench::with(|setup| setup.more(QUICK));
    for (n, place) in PLACES.into_iter().enumerate() {
        let said = "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 9\r\n\r\nabcd";
        let answer = bench.say(place, said, false);
        let record = bench.gateway.record(n + 1);
        assert_eq!(statuses(&answer), [408], "{place:?}: {answer}");
        assert_eq!(record["code"], "body_timeout", "{record}");
    }
}

/// An origin whose answer has no end, and that says when it could not go on.
fn endless() -> (Origin, std::sync::mpsc::Receiver<u64>) {
    let (ended, ends) = std::sync::mpsc::channel();
    let origin = Origin::plain(move |mut stream| {
        if read_head(&mut stream).is_empty() {
            return;
        }
        let mut sent = 0;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"));
        let chunk = vec![b'x'; 64 * 1024];
        while stream.stream.write_all(&chunk).is_ok() {
            sent += 64 * 1024;
        }
        let _ = ended.send(sent);
    });
    (origin, ends)
}

#[test]
fn a_client_that_does_not_read_is_cut_and_its_origin_let_go() {
    let (origin, ends) = endless();
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).more(QUICK).start();
    let before = resident(gateway.pid());
    let port = origin.port();
    let clients: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut client = gateway.connect();
            let get = format!(
                "GET http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
            );
            client.write_all(get.as_bytes()).unwrap();
            client
        })
        .collect();
    for _ in &clients {
        ends.recv_timeout(Duration::from_secs(12)).expect("the origin is let go");
    }
    let after = resident(gateway.pid());
    assert!(after < before + 32 * 1024, "{before} KiB, then {after} KiB");
    let records = gateway.records(20);
    assert!(records.iter().all(|r| r["code"] == "idle_timeout"), "{records:#?}");
}

#[test]
fn a_head_of_too_many_or_too_large_fields_is_a_431() {
    let bench = Bench::new();
    // What the first of each maps (the program's own pages) is no cost of a head.
    let mut before = None;
    let mut count = 0;
    for place in PLACES.into_iter().chain(PLACES) {
        if count == 2 * PLACES.len() {
            before = Some(resident(bench.gateway.pid()));
        }
        let many = "X: y\r\n".repeat(300);
        let large = format!("X: {}\r\n", "y".repeat(200_000));
        for fields in [many, large] {
            let said = format!("GET {{T}}/a HTTP/1.1\r\nHost: {{H}}\r\n{fields}\r\n");
            let answer = bench.say(place, &said, false);
            count += 1;
            let record = bench.gateway.record(count);
            // Where it closes before all was read, the reset may overtake the answer.
            assert!([&[431][..], &[]].contains(&&*statuses(&answer)), "{place:?}: {answer}");
            assert_eq!(record["status"], 431);
            assert_eq!(record["code"], "head_too_large", "{record}");
        }
    }
    assert_eq!(bench.take(), []);
    let (before, after) = (before.unwrap(), resident(bench.gateway.pid()));
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn thousands_of_idle_connections_cost_little_and_harm_nobody() {
    let bench = Bench::new();
    others_are_served(&bench);
    let before = resident(bench.gateway.pid());
    let mut clients: Vec<TcpStream> = (0..3000).map(|_| bench.gateway.connect()).collect();
    for client in clients.iter_mut().step_by(2) {
        client.write_all(b"GET http://origin.test/").unwrap();
    }
    // Behind the others in the queue; from here on they only stand there.
    bench.say(Place::Forward, "GET {T}/behind HTTP/1.1\r\nHost: {H}\r\n\r\n", true);
    others_are_served(&bench);
    let after = resident(bench.gateway.pid());
    assert!(after < before + 3000 * 32, "{before} KiB, then {after} KiB");
    drop(clients);
    bench.say(Place::Forward, "GET {T}/behind HTTP/1.1\r\nHost: {H}\r\n\r\n", true);
    others_are_served(&bench);
    // Each that had begun a head has its record; those that said nothing have none.
    // Past a hundred alike in a second, one line counts them.
    assert_eq!(counted(&bench, 1500, |r| r["code"] == "client_gone"), 1500);
}

#[test]
fn a_refused_body_without_an_end_is_not_read_for_ever() {
    let bench = Bench::new();
    let before = resident(bench.gateway.pid());
    for place in PLACES {
        let mut client = bench.open(place);
        let head = bench.bytes(
            place,
            "POST {T}/evil HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        client.write_all(&head).unwrap();
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        let mut sent = 0;
        while client.write_all(chunk.as_bytes()).and_then(|()| client.flush()).is_ok() {
            sent += chunk.len();
            assert!(sent < 320 << 20, "{place:?}: it reads for ever");
        }
    }
    let records = bench.gateway.records(3);
    assert!(records.iter().all(|r| r["code"] == "denied_by_rule"), "{records:#?}");
    assert_eq!(bench.take(), []);
    let after = resident(bench.gateway.pid());
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn ten_thousand_pipelined_requests_are_ten_thousand_records() {
    let bench = Bench::new();
    let before = resident(bench.gateway.pid());
    let mut client = bench.open(Place::Tunnel);
    let one = bench.bytes(Place::Tunnel, "GET {T}/evil HTTP/1.1\r\nHost: {H}\r\n\r\n");
    let mut writer = client.socket().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for _ in 0..10_000 {
            writer.write_all(&one).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let answer = read_all(&mut client);
    sender.join().unwrap();
    assert_eq!(statuses(&String::from_utf8_lossy(&answer)), [403; 10_000]);
    assert_eq!(bench.take(), []);
    assert_eq!(counted(&bench, 10_000, |r| r["code"] == "denied_by_rule"), 10_000);
    let after = resident(bench.gateway.pid());
    assert!(after < before + 32 * 1024, "{before} KiB, then {after} KiB");
    let mut rest = [0; 1];
    assert_eq!(client.read(&mut rest).unwrap(), 0);
}
