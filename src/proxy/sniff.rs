//! What a connection speaks, from its first bytes, however slowly those come.

use super::io::Prefixed;
use crate::tls::hello::{self, ClientHello, Hello, HelloError};
use std::io;

/// HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is waited for, and the longest run of blanks behind one.
const METHOD: usize = 32;
/// How many bytes of empty lines are waited through.
const EMPTY: usize = 1024;
/// Methods after which everything is HTTP.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

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

/// A method, a blank, and the beginning of a request target. What servers forgive in a request line (empty
/// lines before it, RFC 9112 §2.2; more blanks than one, §3) makes it no other protocol: it is read as
/// HTTP, and refused as that.
fn http1(bytes: &[u8]) -> Option<Spoken> {
    let line = request_line(bytes);
    if line.is_empty() {
        // Whoever sends empty lines alone is not waited for for ever.
        return (bytes.len() > EMPTY).then_some(Spoken::Http1);
    }
    let (method, rest) = token(line);
    let Some(first) = rest.first() else {
        return (method.len() > METHOD).then_some(Spoken::Other);
    };
    if method.is_empty() || !is_blank(*first) {
        return Some(Spoken::Other);
    }
    if METHODS.iter().any(|known| method.eq_ignore_ascii_case(known)) {
        return Some(Spoken::Http1);
    }
    match rest.iter().find(|b| !is_blank(**b)) {
        None if rest.len() <= METHOD => None,
        Some(b'/' | b'*' | b'h' | b'H') => Some(Spoken::Http1),
        _ => Some(Spoken::Other),
    }
}

/// What follows the empty lines.
fn request_line(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    &bytes[empty..]
}

/// A token (RFC 9110 §5.6.2), and what follows it.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let is_token = |b: &&u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    bytes.split_at(bytes.iter().take_while(is_token).count())
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0b | 0x0c)
}

/// Whether bytes that are no HTTP look like a request line all the same: whoever sent them waits for an
/// answer in HTTP.
pub(crate) fn resembles_http(bytes: &[u8]) -> bool {
    let (method, rest) = token(request_line(bytes));
    !method.is_empty() && rest.first().is_some_and(|b| is_blank(*b))
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
            (b"\n\r\n\nGET / HTTP/1.1\r\n", "http1"),
            (b"GET\t/ HTTP/1.1\r\n", "http1"),
            (b"GET  / HTTP/1.1\r\n", "http1"),
            (b"get ftp://a HTTP/1.1\r\n", "http1"),
            (b"A_B-1 \t /x HTTP/1.1\r\n", "http1"),
            (b"EHLO mail.test\r\n", "other"),
            (b"a1 LOGIN x y\r\n", "other"),
            (&[b'\n'; EMPTY + 1], "http1"),
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
