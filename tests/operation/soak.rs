//! Nothing grows with time: after many connections of each kind, memory and files are back where
//! they were after the first of them.

use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, problem, read_all, read_request, wait_for,
};
use crate::operation_kit::{self, echo, echoes, entry, full, get, open_stream, open_tunnel};
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long the load lasts in all.
const FOR: Duration = Duration::from_secs(12);
/// How much the memory may differ, in KiB: an allocator keeps some of what it had.
const SLACK: u64 = 16 * 1024;

/// Open files; `None` where another process's can't be seen.
fn files(gateway: &Gateway) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{}/fd", gateway.pid())).ok()?.count())
}

/// Resident memory in KiB.
fn memory(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn tls_origin() -> Origin {
    Origin::tls(&["b.many.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").is_err() {
                return;
            }
        }
    })
}

/// An origin of an endless response that says something now and then: a client that only ended
/// its side is told from one that left when it is written to.
fn dripping() -> Origin {
    Origin::plain(|mut stream| {
        if read_request(&mut stream).is_empty() {
            return;
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() {
            std::thread::sleep(Duration::from_millis(50));
            sent = stream.write_all(b"9\r\ndata: 2\n\n\r\n");
        }
    })
}

struct Origins {
    plain: Origin,
    raw: Origin,
    stream: Origin,
    tls: Origin,
}

/// One connection of each kind, some of them left in the middle.
fn round(gateway: &Gateway, of: &Origins) {
    let port = of.plain.port();
    let mut kept = gateway.connect();
    for n in 0..4 {
        assert_eq!(get(&mut kept, "origin.test", port, &format!("/{n}")).0, 200);
    }
    let (status, body) = get(&mut kept, "unknown.test", port, "/");
    assert_eq!((status, &problem(&body)["code"]), (403, &"host_unknown".into()));
    let mut tunnel = open_tunnel(gateway, &format!("other.test:{}", of.raw.port()));
    echoes(&mut tunnel);
    drop(open_stream(gateway, "a.many.test", of.stream.port()));
    let authority = format!("b.many.test:{}", of.tls.port());
    let mut tls = gateway.tls(&authority, "b.many.test", &["http/1.1"]);
    write!(tls, "GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert!(common::read_head(&mut tls).starts_with("HTTP/1.1 200"));
    // A head that never ends, a tunnel without a word, bytes that are nothing.
    gateway.connect().write_all(b"GET http://origin.test/ HT").unwrap();
    drop(gateway.tunnel(&authority));
    let nonsense = gateway.exchange(b"\x00\x01nothing that anyone speaks\r\n\r\n");
    assert!(nonsense.starts_with(b"HTTP/1.1 400"), "{nonsense:?}");
    tunnel.shutdown(std::net::Shutdown::Write).unwrap();
    read_all(&mut tunnel);
}

#[test]
fn after_many_connections_of_each_kind_memory_and_files_are_where_they_were() {
    let of =
        Origins { plain: Origin::ok("hi"), raw: echo(), stream: dripping(), tls: tls_origin() };
    let policy = full("a", "origin.test", of.plain.port())
        + &entry("b", "other.test", of.raw.port(), "protocol: tcp")
        + &full("c", "a.many.test", of.stream.port())
        + &full("d", "b.many.test", of.tls.port());
    let gateway = Setup::policy(&policy)
        .sandbox("    approval: { mode: deny }\n")
        .more("metrics: { address: \"127.0.0.1:0\" }\n")
        .start();
    let quiet = || {
        let idle = || operation_kit::metric(&gateway, "portcullis_connections") == 0;
        wait_for(PATIENCE, || idle().then_some(()));
    };
    for _ in 0..100 {
        round(&gateway, &of);
    }
    quiet();
    let (first, open) = (memory(&gateway), files(&gateway));
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < FOR && rounds < 2000 {
        round(&gateway, &of);
        rounds += 1;
    }
    quiet();
    let (last, left) = (memory(&gateway), files(&gateway));
    eprintln!("{rounds} rounds: {first} KiB then, {last} KiB now; files {open:?}, {left:?}");
    assert!(last <= first + SLACK, "{first} KiB after 100 rounds, {last} after {rounds} more");
    if let (Some(open), Some(left)) = (open, left) {
        // A few kept connections to origins more or less.
        assert!(left <= open + 8, "{open} files then, {left} now");
    }
}
