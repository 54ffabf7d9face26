//! Clients and origins that vanish at any byte: an answer or a clean cut, one record, and a
//! gateway that lives.

use crate::common::{
    Gateway, Origin, PATIENCE, Setup, read_all, read_head, read_request, read_response, wait_for,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn get(port: u16) -> String {
    format!("GET http://origin.test:{port}/x HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
}

/// Closes with a reset instead of a FIN.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

fn lives(gateway: &Gateway) {
    let origin = Origin::ok("alive");
    let port = origin.port();
    // Nothing allows it, and so it is answered without an origin.
    let back =
        gateway.exchange(get(port).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(back.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&back));
}

/// For each length of `answer`, an origin that sends that much and ends.
fn cut_answers(answer: &'static str, resets: bool, whole: impl Fn(usize, &[u8]) -> bool) {
    let cut = Arc::new(AtomicUsize::new(0));
    let at = cut.clone();
    let origin = Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            let n = at.load(Ordering::SeqCst);
            drop(stream.write_all(&answer.as_bytes()[..n]));
            if n < answer.len() {
                if resets {
                    reset(&stream.stream);
                }
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for n in 0..=answer.len() {
        cut.store(n, Ordering::SeqCst);
        // POST: what was sent is not sent again.
        let request =
            get(port).replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n.");
        let mut client = gateway.connect();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let back = read_all(&mut client);
        assert!(back.starts_with(b"HTTP/1.1 "), "byte {n}: nothing is closed in silence");
        let failed = back.starts_with(b"HTTP/1.1 502 ");
        assert!(failed || back.starts_with(b"HTTP/1.1 200 "), "byte {n}");
        let records = gateway.records(n + 1);
        assert_eq!(records.len(), n + 1, "one record each");
        let outcome = if whole(n, &back) && !failed { "passed" } else { "failed" };
        assert_eq!(
            records[n]["outcome"],
            outcome,
            "byte {n}: {} {:#?}",
            String::from_utf8_lossy(&back),
            records[n]
        );
    }
    lives(&gateway);
}

#[test]
fn an_origin_that_vanishes_in_an_answer_of_known_length() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nx-a: b\r\n\r\n0123456789";
    for resets in [false, true] {
        cut_answers(ANSWER, resets, |n, back| {
            let whole = n == ANSWER.len();
            assert_eq!(whole, back.ends_with(b"\r\n\r\n0123456789"), "byte {n}");
            whole
        });
    }
}

#[test]
fn an_origin_that_vanishes_in_a_chunked_answer() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
    cut_answers(ANSWER, false, |n, back| {
        let whole = back.ends_with(b"\r\n0\r\n\r\n");
        assert!(!whole || n == ANSWER.len(), "byte {n}: a cut answer was given as if whole");
        whole
    });
}

/// A gateway and an origin that answers whole requests; each is counted.
fn counting() -> (Gateway, Origin, Arc<AtomicUsize>) {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let origin = Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            count.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    (gateway, origin, whole)
}

#[test]
fn a_client_that_vanishes_in_a_request_sends_no_whole_one() {
    let (gateway, origin, whole) = counting();
    let port = origin.port();
    let mut requests = 0;
    for body in [
        "Content-Length: 5\r\n\r\nabcde",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    ] {
        let request = get(port).replace("GET", "POST").replace("\r\n\r\n", &format!("\r\n{body}"));
        let head = request.find("\r\n\r\n").unwrap() + 4;
        for n in 0..request.len() {
            let mut client = gateway.connect();
            client.write_all(&request.as_bytes()[..n]).unwrap();
            if n < head || n % 2 == 0 {
                client.shutdown(Shutdown::Write).unwrap();
                read_all(&mut client);
            } else {
                // A socket that is gone before it was looked at is turned away.
                wait_for(PATIENCE, || (origin.connections() > requests).then_some(()));
                reset(&client);
                drop(client);
            }
            if n >= head {
                requests += 1;
                let records = wait_for(PATIENCE, || {
                    let mut records = gateway.records_now("default");
                    records.retain(|r| r["path"] == "/x");
                    (records.len() >= requests).then_some(records)
                });
                assert_eq!(records.len(), requests, "byte {n}");
                let record = &records[requests - 1];
                assert_eq!(record["outcome"], "failed", "byte {n}: {record:#?}");
            }
        }
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0, "{}", origin.heard());
    lives(&gateway);
}

#[test]
fn a_client_that_vanishes_in_an_answer_leaves_one_record() {
    const LENGTH: usize = 40_000_000;
    let origin = Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            if stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&vec![0; LENGTH]))
                .is_err()
            {
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let cuts = [1, 9, 17, 40, 200, 8_192, 100_000, 1_000_000];
    for (i, n) in cuts.into_iter().enumerate() {
        let mut client = gateway.connect();
        client.write_all(get(port).as_bytes()).unwrap();
        client.read_exact(&mut vec![0; n]).unwrap();
        if i % 2 == 0 {
            reset(&client);
        }
        drop(client);
        let records = gateway.records(i + 1);
        assert_eq!(records.len(), i + 1, "after {n} bytes");
        assert_eq!(records[i]["code"], "client_gone", "after {n} bytes: {:#?}", records[i]);
    }
    lives(&gateway);
}

#[test]
fn an_origin_that_vanishes_in_tls_before_or_in_its_answer() {
    for n in [0usize, 1, 12, 38, 40, 43] {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
        let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
            read_head(&mut stream);
            drop(stream.write_all(&answer.as_bytes()[..n]));
            drop(stream.flush());
            reset(&stream.sock);
        });
        let port = origin.port();
        let gateway = Setup::allow_all(&["origin.test"], port).start();
        let mut client = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
        write!(client, "POST / HTTP/1.1\r\nHost: origin.test:{port}\r\nContent-Length: 1\r\n\r\n.")
            .unwrap();
        let head = read_head(&mut client);
        if head.starts_with("HTTP/1.1 200") {
            assert!(!read_all(&mut client).ends_with(b"9"));
        } else {
            assert!(head.starts_with("HTTP/1.1 502"), "{n}: {head}");
        }
        assert_eq!(gateway.record(1)["outcome"], "failed");
    }
}

#[test]
fn the_next_request_on_a_connection_is_served_after_an_answer_that_failed_early() {
    let first = Arc::new(AtomicUsize::new(0));
    let origin = Origin::plain(move |mut stream| {
        read_request(&mut stream);
        if first.fetch_add(1, Ordering::SeqCst) > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    for status in ["502", "200"] {
        client.write_all(get(port).as_bytes()).unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
}

#[test]
fn a_client_that_is_gone_when_its_tunnel_is_answered_has_its_record() {
    const TUNNELS: usize = 30;
    let gateway = Setup::allow_all(&["origin.test"], 443).start();
    for round in 0..TUNNELS {
        let mut client = gateway.connect();
        reset(&client);
        // It is let in, and its bytes and its end come together.
        std::thread::sleep(std::time::Duration::from_millis(20));
        match round % 2 {
            0 => {
                let connect = "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n";
                client.write_all(connect.as_bytes()).unwrap();
            }
            _ => {
                let socks = b"\x05\x01\x00\x05\x01\x00\x03\x0borigin.test\x01\xbb";
                client.write_all(socks).unwrap();
            }
        }
        drop(client);
    }
    let records = gateway.records(TUNNELS);
    let gone = |record: &&serde_json::Value| record["code"] == "client_gone";
    assert_eq!(records.iter().filter(gone).count(), TUNNELS, "{records:#?}");
}

#[test]
fn a_client_that_breaks_off_in_its_body_is_not_said_to_have_got_an_answer() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    let head =
        get(port).replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 100\r\n\r\nabc");
    client.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    reset(&client);
    drop(client);
    let record = gateway.record(1);
    assert_eq!((&record["code"], &record["status"]), (&"client_gone".into(), &().into()));
}

#[test]
fn a_raw_tunnels_record_says_which_side_broke_off() {
    // One that says nothing until it is told to break off.
    let origin = Origin::plain(|mut stream| {
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() && first[0] == b'!' {
            reset(&stream.stream);
            return;
        }
        drop(stream.read_exact(&mut [0]));
    });
    let port = origin.port();
    let entries = format!(
        "  t:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}"
    );
    let gateway = Setup::policy(&entries).start();
    for (number, (first, code)) in
        [(b".", "client_gone"), (b"!", "upstream_closed")].iter().enumerate()
    {
        let mut tunnel = gateway.tunnel(&format!("origin.test:{port}"));
        tunnel.write_all(*first).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400));
        reset(&tunnel);
        drop(tunnel);
        let record = gateway.record(number + 1);
        assert_eq!((&record["code"], &record["outcome"]), (&(*code).into(), &"failed".into()));
    }
}
