//! What the tests of running a gateway share: policies in one line, waiting for what it says of
//! itself, and times by its own clock.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of the kit")]

use crate::common::{Gateway, Origin, PATIENCE, read_head, read_request, read_response, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An entry of a policy: one endpoint, with `more` keys of it.
pub(crate) fn entry(name: &str, host: &str, port: u16, more: &str) -> String {
    format!("  {name}:\n    endpoints:\n      - {{ host: \"{host}\", port: {port}, {more} }}\n")
}

/// Everything on a host, inspected.
pub(crate) fn full(name: &str, host: &str, port: u16) -> String {
    entry(name, host, port, "protocol: rest, access: full")
}

/// GET and its like on a host, inspected.
pub(crate) fn read_only(name: &str, host: &str, port: u16) -> String {
    entry(name, host, port, "protocol: rest, access: read-only")
}

/// One request in absolute-form on `stream`, and its answer's status and body.
pub(crate) fn get(stream: &mut TcpStream, host: &str, port: u16, path: &str) -> (u16, Vec<u8>) {
    ask(stream, "GET", host, port, path)
}

/// The same with any method.
pub(crate) fn ask(
    stream: &mut TcpStream,
    method: &str,
    host: &str,
    port: u16,
    path: &str,
) -> (u16, Vec<u8>) {
    write!(stream, "{method} http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
        .unwrap();
    let (head, body) = read_response(stream);
    (status(&head), body)
}

/// The status of a head.
pub(crate) fn status(head: &str) -> u16 {
    let code = head.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {head:?}"));
    code.parse().unwrap()
}

/// One request on a connection of its own.
pub(crate) fn once(gateway: &Gateway, host: &str, port: u16, path: &str) -> (u16, Vec<u8>) {
    get(&mut gateway.connect(), host, port, path)
}

/// An origin whose connections are tunnels' ends: it says `hello` and gives back what it gets.
pub(crate) fn echo() -> Origin {
    Origin::plain(|mut stream| {
        stream.write_all(b"hello").unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

/// An origin that answers each request with the head of an endless chunked response and one chunk,
/// then waits until it is left.
pub(crate) fn events() -> Origin {
    Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Opens a stream of [`events`] and reads its first.
pub(crate) fn open_stream(gateway: &Gateway, host: &str, port: u16) -> TcpStream {
    let mut stream = gateway.connect();
    write!(stream, "GET http://{host}:{port}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
        .unwrap();
    let head = read_head(&mut stream);
    assert_eq!(status(&head), 200, "{head}");
    expect(&mut stream, b"9\r\ndata: 1\n\n\r\n");
    stream
}

/// Opens a tunnel to an [`echo`] origin and hears it.
pub(crate) fn open_tunnel(gateway: &Gateway, authority: &str) -> TcpStream {
    let mut stream = gateway.tunnel(authority);
    expect(&mut stream, b"hello");
    stream
}

/// Reads exactly these bytes.
pub(crate) fn expect(stream: &mut impl Read, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
}

/// Sends through an echoing tunnel and hears it back.
pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"still there").unwrap();
    expect(stream, b"still there");
}

/// Waits until a sandbox has `count` events of this name, and gives the last.
pub(crate) fn event(gateway: &Gateway, sandbox: &str, name: &str, count: usize) -> Value {
    wait_for(PATIENCE, || {
        let mut found = gateway.events(sandbox);
        found.retain(|event| event["event"] == name);
        (found.len() >= count).then(|| found.swap_remove(count - 1))
    })
}

/// Replaces the policy and waits until it is in force: the `count`-th that was loaded.
pub(crate) fn reload(gateway: &Gateway, entries: &str, count: usize) -> Value {
    gateway.write_policy(entries);
    event(gateway, "default", "policy.loaded", count)
}

/// When an event or a record happened; of a record, when it ended.
pub(crate) fn at(line: &Value) -> Duration {
    let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
    let took = line["ms"]["total"].as_f64().unwrap_or(0.0);
    let micros = u64::try_from(time.as_microsecond()).unwrap();
    Duration::from_micros(micros) + Duration::from_secs_f64(took / 1000.0)
}

/// Waits for the record of this code, and gives it.
pub(crate) fn record_of(gateway: &Gateway, code: &str) -> Value {
    wait_for(PATIENCE, || {
        gateway.records_now("default").into_iter().find(|record| record["code"] == code)
    })
}

/// What `/metrics` or `/healthz` says: status and body.
pub(crate) fn scrape(gateway: &Gateway, path: &str) -> (u16, String) {
    let line = gateway.banner.lines().find(|line| line.contains("/metrics")).unwrap();
    let url = line.trim().split(' ').next().unwrap();
    let at = url.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(at).unwrap();
    crate::common::limits(&stream);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
    let text = String::from_utf8(crate::common::read_all(&mut stream)).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (status(head), body.to_owned())
}

/// The value of a metric without labels.
pub(crate) fn metric(gateway: &Gateway, name: &str) -> i64 {
    let (_, page) = scrape(gateway, "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
