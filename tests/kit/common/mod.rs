//! A gateway of one's own for a test: the real binary on port 0, its records, its CA; and origins
//! that say and keep exactly the bytes a test wants. Real sockets, no sleeping for a result.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part"
)]

pub mod dns;
mod gateway;
pub mod hello;
pub mod host;
mod origin;
mod tls;

pub use gateway::*;
pub use origin::*;
pub use tls::*;

use serde_json::Value;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// TLS of a test client.
pub type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

pub fn limits(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Polls `ready` until it gives a value.
pub fn wait_for<T>(patience: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "it did not happen in {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads to the end; a reset is an end.
pub fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
            ) => {}
        Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&bytes)),
    }
    bytes
}

/// Reads one head, byte by byte, so that nothing behind it is taken. Empty at the end.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one response with a Content-Length: head and body.
pub fn read_response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let head = read_head(stream);
    let length = header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// The value of a field in a head.
pub fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (n, v) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
    })
}

/// The JSON body of a refusal.
pub fn problem(response: &[u8]) -> Value {
    let text = String::from_utf8_lossy(response);
    let body = text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Reads one request with its body (Content-Length or chunked). Empty at the end.
pub fn read_request(stream: &mut impl Read) -> String {
    let head = read_head(stream);
    if let Some(length) = header(&head, "content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).is_err() {
            return String::new();
        }
    } else if header(&head, "transfer-encoding").is_some() {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return String::new(),
            }
        }
    }
    head
}

/// Whether a tool is there; if not, the test says so and is counted as skipped.
pub fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A file's text.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
