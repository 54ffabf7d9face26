//! Large bodies in constant memory: up and down, through HTTP and through a raw tunnel.

use crate::common::{self, Gateway, Origin, Setup, read_head, read_response, text};
use std::io::{Read, Write};
use std::net::Shutdown;

const SIZE: u64 = 300 * 1024 * 1024;
const PIECE: usize = 256 * 1024;
/// How much the gateway may grow, KiB.
const GROWTH: u64 = 30 * 1024;

/// The gateway's memory at its highest, KiB.
fn peak(gateway: &Gateway) -> u64 {
    let status = text(format!("/proc/{}/status", gateway.pid()).as_ref());
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn gives(to: &mut impl Write) {
    let piece = vec![0x5a; PIECE];
    for _ in 0..SIZE / PIECE as u64 {
        // Whoever takes it counts; a client that left is not this side's failure.
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    drop(to.flush());
}

fn takes(from: &mut impl Read) -> u64 {
    let mut buffer = vec![0; PIECE];
    let mut sum = 0;
    while sum < SIZE {
        let n = from.read(&mut buffer).unwrap();
        assert!(n > 0, "it ended after {sum} bytes");
        assert!(buffer[..n].iter().all(|b| *b == 0x5a));
        sum += n as u64;
    }
    sum
}

/// Warms the gateway with `small`, and bounds what `large` adds.
fn in_constant_memory(gateway: &Gateway, small: impl FnOnce(), large: impl FnOnce()) {
    small();
    let before = peak(gateway);
    large();
    let grown = peak(gateway) - before;
    assert!(grown < GROWTH, "grew by {grown} KiB from {before} KiB");
}

/// GET: the large body; POST: how long the body was; else: nothing.
fn serve(stream: &mut (impl Read + Write)) {
    loop {
        let head = read_head(stream);
        match head.split(' ').next() {
            Some("GET") => {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").unwrap();
                gives(stream);
            }
            Some("POST") => {
                let got = takes(stream);
                write!(stream, "HTTP/1.1 200 OK\r\nx-got: {got}\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
            Some("HEAD") => write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap(),
            _ => return,
        }
        drop(stream.flush());
    }
}

fn both_ways(gateway: &Gateway, client: &mut (impl Read + Write), target: &str, authority: &str) {
    let client = std::cell::RefCell::new(client);
    let line = |method: &str| format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n");
    let small = || {
        let client = &mut **client.borrow_mut();
        write!(client, "{}\r\n", line("HEAD")).unwrap();
        assert!(read_head(client).starts_with("HTTP/1.1 200"));
    };
    let large = || {
        let client = &mut **client.borrow_mut();
        write!(client, "{}\r\n", line("GET")).unwrap();
        assert!(read_head(client).starts_with("HTTP/1.1 200"));
        assert_eq!(takes(client), SIZE);
        write!(client, "{}Content-Length: {SIZE}\r\n\r\n", line("POST")).unwrap();
        gives(client);
        let (head, _) = read_response(client);
        assert_eq!(common::header(&head, "x-got"), Some(SIZE.to_string()));
    };
    in_constant_memory(gateway, small, large);
    let records = gateway.records(3);
    assert_eq!(records[1]["download"], SIZE);
    assert_eq!(records[2]["upload"], SIZE);
    assert!(records.iter().all(|r| r["outcome"] == "passed"));
}

#[test]
fn plain_http_carries_it_both_ways() {
    let origin = Origin::plain(|mut recorded| serve(&mut recorded.stream));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.connect();
    both_ways(&gateway, &mut client, &format!("http://{authority}/big"), &authority);
}

#[test]
fn intercepted_tls_carries_it_both_ways() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| serve(&mut stream));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    both_ways(&gateway, &mut client, "/big", &authority);
}

#[test]
fn a_raw_tunnel_carries_it_both_ways() {
    let origin = Origin::plain(|mut recorded| {
        let stream = &mut recorded.stream;
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        if first[0] == b's' {
            return;
        }
        assert_eq!(takes(stream), SIZE);
        gives(stream);
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}"
    ))
    .start();
    let authority = format!("origin.test:{port}");
    let small = || {
        let mut client = gateway.tunnel(&authority);
        client.write_all(b"s").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(common::read_all(&mut client).is_empty());
    };
    let large = || {
        let mut client = gateway.tunnel(&authority);
        client.write_all(b"l").unwrap();
        gives(&mut client);
        assert_eq!(takes(&mut client), SIZE);
    };
    in_constant_memory(&gateway, small, large);
    let record = gateway.record(2);
    assert_eq!((&record["upload"], &record["download"]), (&(SIZE + 1).into(), &SIZE.into()));
}

#[test]
fn a_client_that_reads_slowly_holds_the_origin_back_and_not_the_memory() {
    let origin = Origin::plain(|mut recorded| serve(&mut recorded.stream));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let before = peak(&gateway);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = gateway.connect();
        write!(
            client,
            "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        )
        .unwrap();
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
        // Nothing more is read for now.
        clients.push(client);
    }
    assert_eq!(takes(clients.last_mut().unwrap()), SIZE);
    let grown = peak(&gateway) - before;
    assert!(grown < GROWTH, "grew by {grown} KiB");
}

/// A gateway that relays to the origin what nobody looks at.
fn raw(port: u16, how: &str) -> Gateway {
    Setup::policy(&format!(
        "  t:\n    endpoints:\n      - {{ host: origin.test, port: {port}, {how}, allowed_ips: [\"127.0.0.0/8\"] }}\n"
    ))
    .start()
}

/// What follows urgent data goes through no pipe, and is not lost with it.
#[test]
fn urgent_data_in_bulk_holds_nothing_up() {
    const MIB: usize = 1024 * 1024;
    let (bulk, tail) = (6 * MIB, 5000);
    let origin = Origin::plain(move |mut recorded| {
        let stream = &mut recorded.stream;
        let mut asked = [0; 1];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(&vec![0x5a; bulk]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        socket2::SockRef::from(&*stream).send_out_of_band(b"!").unwrap();
        stream.write_all(&vec![0x5a; tail]).unwrap();
        // It does not end before it was asked again.
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(&vec![0x5a; bulk]).unwrap();
    });
    let port = origin.port();
    let gateway = raw(port, "protocol: tcp");
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    for size in [bulk + tail, bulk] {
        client.write_all(b"?").unwrap();
        let mut got = vec![0; size];
        client.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|b| *b == 0x5a));
    }
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

/// A huge page is resident as a whole once a byte of it is used (ADR 0032).
#[test]
fn the_gateway_takes_no_huge_pages() {
    let gateway = Setup::allow_all(&["origin.test"], 443).start();
    let status = text(format!("/proc/{}/status", gateway.pid()).as_ref());
    let Some(line) = status.lines().find_map(|l| l.strip_prefix("THP_enabled:")) else {
        return eprintln!("skipped: /proc/PID/status says nothing of huge pages (Linux 5.0)");
    };
    assert_eq!(line.trim(), "0");
}

/// Behind bulk, which goes through a pipe inside the kernel, what is small is not waited with.
#[test]
fn what_follows_bulk_in_a_tunnel_is_not_late() {
    const MIB: usize = 1024 * 1024;
    // Each request is a length; the answer is so many bytes.
    let origin = Origin::plain(|mut recorded| {
        let stream = &mut recorded.stream;
        let mut asked = [0; 8];
        while stream.read_exact(&mut asked).is_ok() {
            let size = usize::try_from(u64::from_be_bytes(asked)).unwrap();
            stream.write_all(&vec![0x5a; size]).unwrap();
        }
    });
    let port = origin.port();
    let gateway = raw(port, "tls: skip");
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    let mut ask = |size: usize| {
        let began = std::time::Instant::now();
        client.write_all(&(size as u64).to_be_bytes()).unwrap();
        let mut got = vec![0; size];
        client.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|b| *b == 0x5a));
        began.elapsed()
    };
    for size in [64 * MIB, 1, 100_000, 40 * MIB + 17, 512 * 1024 - 1, 64 * MIB, 512 * 1024 + 1] {
        ask(size);
        let all: std::time::Duration = (0..100).map(|_| ask(1)).sum();
        assert!(all.as_millis() < 1000, "100 small ones behind {size} bytes took {all:?}");
    }
    // Pieces of less than a pipe, one after the other, among which it is fast again and again.
    let all: std::time::Duration = (0..200).map(|_| ask(300_000)).sum();
    assert!(all.as_secs() < 10, "{all:?}");
}
