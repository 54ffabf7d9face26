//! What a connection speaks, from its first bytes, however slowly those come.

use super::io::Prefixed;
use crate::tls::hello::{self, ClientHello, Hello, HelloError};
use std::io;

/// HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is taken for one.
const METHOD: usize = 32;

/// What the first bytes say.
#[derive(Debug)]
pub(crate) enum Spoken {
    /// TLS.
    Tls(Box<ClientHello>),
    /// TLS, but the hello is not one that is let through.
    BadTls(HelloError),
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// SOCKS5.
    Socks,
    /// Something else.
    Other,
    /// Not a byte came before the end.
    Nothing,
}

/// Whether SOCKS is spoken here: on the entrance, not inside a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Entrance,
    Inside,
}

/// What `bytes` say; `None` where more are needed.
pub(crate) fn classify(bytes: &[u8], place: Place) -> Option<Spoken> {
    let first = *bytes.first()?;
    if place == Place::Entrance && first == 5 {
        return Some(Spoken::Socks);
    }
    match hello::parse(bytes) {
        Hello::Client(hello) => return Some(Spoken::Tls(Box::new(hello))),
        Hello::Bad(error) => return Some(Spoken::BadTls(error)),
        Hello::NeedMore => return None,
        Hello::NotTls => {}
    }
    if bytes.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    http1(bytes)
}

/// A method, a space, and the beginning of a request target.
fn http1(bytes: &[u8]) -> Option<Spoken> {
    // RFC 9112 §2.2: a server ignores at least one empty line before the request line.
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if bytes.is_empty() || bytes == b"\r" {
        return None;
    }
    let token = bytes.iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'-').count();
    match bytes.get(token) {
        None if token <= METHOD => None,
        Some(b' ') if (1..=METHOD).contains(&token) => match bytes.get(token + 1) {
            None => None,
            Some(b'/' | b'*' | b'h' | b'H') => Some(Spoken::Http1),
            Some(_) if bytes.starts_with(b"CONNECT ") => Some(Spoken::Http1),
            Some(_) => Some(Spoken::Other),
        },
        _ => Some(Spoken::Other),
    }
}

/// Whether bytes that are no HTTP look like a request line all the same (`GET  /a`, `GET ftp://…`):
/// whoever sent them waits for an answer in HTTP.
pub(crate) fn resembles_http(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let token = bytes.iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'-').count();
    (1..=METHOD).contains(&token) && matches!(bytes.get(token), Some(b' ' | b'\t'))
}

/// Reads until it is clear what is spoken. The bytes stay in the prefix.
pub(crate) async fn sniff(io: &mut Prefixed, place: Place) -> io::Result<Spoken> {
    loop {
        if let Some(spoken) = classify(&io.prefix, place) {
            return Ok(spoken);
        }
        if io.fill().await? == 0 {
            return Ok(if io.prefix.is_empty() { Spoken::Nothing } else { Spoken::Other });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(bytes: &[u8]) -> &'static str {
        match classify(bytes, Place::Entrance) {
            None => "more",
            Some(Spoken::Tls(_)) => "tls",
            Some(Spoken::BadTls(_)) => "bad tls",
            Some(Spoken::Http1) => "http1",
            Some(Spoken::Http2) => "http2",
            Some(Spoken::Socks) => "socks",
            Some(Spoken::Other) => "other",
            Some(Spoken::Nothing) => "nothing",
        }
    }

    #[test]
    fn a_method_and_a_blank_resemble_a_request() {
        for bytes in [&b"GET  /a HTTP/1.1"[..], b"GET\t/a", b"\r\nM-SEARCH x", b"GET ftp://a/"] {
            assert!(resembles_http(bytes), "{bytes:?}");
        }
        for bytes in [&b""[..], b"GET", b" GET /", b"SSH-2.0-x\r\n", b"PING\r\n", b"\0\0 "] {
            assert!(!resembles_http(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_byte_at_a_time_says_the_same_as_all_at_once() {
        for (bytes, spoken) in [
            (&b"GET http://a/ HTTP/1.1\r\n"[..], "http1"),
            (b"CONNECT a:443 HTTP/1.1\r\n", "http1"),
            (b"PROPFIND /x HTTP/1.1\r\n", "http1"),
            (b"\r\nGET / HTTP/1.1\r\n", "http1"),
            (PREFACE, "http2"),
            (b"\x05\x01\x00", "socks"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "other"),
            (b"*1\r\n$4\r\nPING\r\n", "other"),
            (b"\x00\x00", "other"),
        ] {
            let at = (1..=bytes.len()).map(|n| says(&bytes[..n])).find(|s| *s != "more");
            assert_eq!(at, Some(spoken), "{bytes:?}");
            assert_eq!(says(bytes), spoken, "{bytes:?}");
        }
    }
}
