//! What a connection speaks, from its first bytes, however slowly those come.

use super::io::Prefixed;
use crate::tls::hello::{self, ClientHello, Hello, HelloError};
use std::io;

/// HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest request line that is waited for.
const LINE: usize = 64 * 1024;
/// How long a beginning is looked at whenever some of it comes.
const SHORT: usize = 1024;
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

/// What `bytes` say; `None` where more are needed. After the end nothing more comes.
fn classify(bytes: &[u8], place: Place, ended: bool) -> Option<Spoken> {
    let first = *bytes.first()?;
    if place == Place::Entrance && first == 5 {
        return Some(Spoken::Socks);
    }
    match hello::parse(bytes) {
        Hello::Client(hello) => return Some(Spoken::Tls(Box::new(hello))),
        Hello::Bad(error) => return Some(Spoken::BadTls(error)),
        Hello::NeedMore => return ended.then_some(Spoken::Other),
        Hello::NotTls => {}
    }
    if bytes.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return ended.then_some(Spoken::Other);
    }
    http1(bytes, ended)
}

/// Whether a request line begins. What servers forgive in one (empty lines and blanks before it, RFC 9112 §2.2;
/// other blanks than one space, §3; any method, any target) makes it no other protocol: it is read as HTTP, and
/// refused as that. Where method and target alone do not say so, the whole line does, by its version.
fn http1(bytes: &[u8], ended: bool) -> Option<Spoken> {
    let line = request_line(bytes);
    if line.is_empty() {
        // Whoever sends empty lines alone is not waited for for ever.
        return (ended || bytes.len() > EMPTY).then_some(Spoken::Http1);
    }
    let (method, rest) = word(line);
    let Some(first) = rest.first() else {
        return (ended || method.len() > LINE).then_some(Spoken::Other);
    };
    if method.is_empty() || !is_blank(*first) {
        return Some(Spoken::Other);
    }
    if METHODS.iter().any(|known| method.eq_ignore_ascii_case(known)) {
        // STOMP begins with a CONNECT that is all of its line.
        return match rest {
            [b'\n', ..] | [b'\r', b'\n', ..] => Some(Spoken::Other),
            [b'\r'] => ended.then_some(Spoken::Other),
            _ => Some(Spoken::Http1),
        };
    }
    let end = rest.iter().position(|b| *b == b'\n');
    let target = rest[..end.unwrap_or(rest.len())].iter().find(|b| !is_blank(**b));
    match (target, end) {
        (Some(b'/' | b'*' | b'h' | b'H'), _) => Some(Spoken::Http1),
        (_, Some(end)) if has_version(&rest[..end]) => Some(Spoken::Http1),
        (_, Some(_)) => Some(Spoken::Other),
        // A line without an end is no reason to let it through.
        (_, None) if ended && has_version(rest) => Some(Spoken::Http1),
        (_, None) if rest.len() > LINE => Some(Spoken::Http1),
        // LDAP and its like: no server takes such a method with such a target.
        (_, None) if rest.iter().any(|b| is_control(*b)) && !is_word(method) => Some(Spoken::Other),
        (_, None) => ended.then_some(Spoken::Other),
    }
}

/// Whether a version of HTTP stands somewhere in a line, however it is written.
fn has_version(line: &[u8]) -> bool {
    line.windows(5).any(|five| five.eq_ignore_ascii_case(b"HTTP/"))
}

/// Whether it stands in no text.
fn is_control(b: u8) -> bool {
    b == 0x7f || (b < b' ' && !is_blank(b))
}

/// Whether it is written as methods are.
fn is_word(method: &[u8]) -> bool {
    method.len() >= 3 && method.iter().all(u8::is_ascii_alphabetic)
}

/// What follows the empty lines, and blanks.
fn request_line(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|b| is_blank(**b)).count();
    &bytes[empty..]
}

/// What stands where a method would, and what follows it. Behind a letter or a digit some servers take what is no
/// token, too; what else text begins with (JSON, XML) is no method to any that is known.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.first() {
        Some(first) if first.is_ascii_alphanumeric() => {
            bytes.split_at(bytes.iter().take_while(|b| b.is_ascii_graphic()).count())
        }
        _ => token(bytes),
    }
}

/// A token (RFC 9110 §5.6.2), and what follows it.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let is_token = |b: &&u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    bytes.split_at(bytes.iter().take_while(is_token).count())
}

/// What some server or other takes for a blank between two words, or for the end of a line.
fn is_blank(b: u8) -> bool {
    matches!(b, b'\t'..=b'\r' | 0x1c..=0x1f | b' ' | 0x85 | 0xa0)
}

/// Whether bytes that are no HTTP look like a request line all the same: whoever sent them waits for an
/// answer in HTTP.
pub(crate) fn resembles_http(bytes: &[u8]) -> bool {
    let (method, rest) = token(request_line(bytes));
    !method.is_empty() && rest.first().is_some_and(|b| matches!(b, b' ' | b'\t' | 0x0b | 0x0c))
}

/// Reads until it is clear what is spoken. The bytes stay in the prefix.
pub(crate) async fn sniff(io: &mut Prefixed, place: Place) -> io::Result<Spoken> {
    let (mut looked, mut new) = (0, 0);
    loop {
        // A long beginning that is no TLS is decided at the end of its line: it is not looked at for each byte.
        let prefix = &io.prefix[..];
        let due = prefix.len() <= SHORT
            || prefix.len() >= 2 * looked
            || prefix[new..].iter().any(|b| *b == b'\n' || is_control(*b))
            || hello::parse(prefix) != Hello::NotTls;
        if due {
            looked = prefix.len();
            if let Some(spoken) = classify(prefix, place, false) {
                return Ok(spoken);
            }
        }
        new = prefix.len();
        if io.fill().await? == 0 {
            return Ok(classify(&io.prefix, place, true).unwrap_or(Spoken::Nothing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(bytes: &[u8]) -> &'static str {
        match classify(bytes, Place::Entrance, false) {
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
        for bytes in [&b""[..], b"GET", b"GET\r\n", b"SSH-2.0-x\r\n", b"PING\r\n", b"\0\0 "] {
            assert!(!resembles_http(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_http_where_it_says_so_or_is_too_long() {
        let at_end = |bytes: &[u8]| classify(bytes, Place::Inside, true);
        assert!(matches!(at_end(b"SEARCH a://b/ HTTP/1.1"), Some(Spoken::Http1)));
        assert!(matches!(at_end(b"SEARCH a://b/"), Some(Spoken::Other)));
        assert!(matches!(at_end(b"PING"), Some(Spoken::Other)));
        assert!(matches!(at_end(b"\x16\x03\x01"), Some(Spoken::Other)));
        assert!(at_end(b"").is_none());
        let long = [b"SEARCH a://".as_slice(), &[b'x'; LINE]].concat();
        assert!(matches!(classify(&long, Place::Inside, false), Some(Spoken::Http1)));
        assert!(classify(&long[..1000], Place::Inside, false).is_none());
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
            (b"SEARCH a://secret.test/ HTTP/1.1\r\n", "http1"),
            (b"UNSUBSCRIBE ws://secret.test/ http/1.1\r\n", "http1"),
            (b"PROPFIND  x://secret.test/\tHTTP/1.1\n", "http1"),
            (b" GET /admin HTTP/1.1\r\n", "http1"),
            (b"GET\x1c/admin HTTP/1.1\r\n", "http1"),
            (b"GET\xa0/admin\r\n", "http1"),
            (b"\x85\tGET /admin\r\n", "http1"),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", "http1"),
            (b"GET\r\n", "other"),
            (b"FOO@BAR /admin HTTP/1.1\r\n", "http1"),
            (b"a:b c\r\n", "other"),
            (b"{\"id\": 1}", "other"),
            (b"<?xml version='1.0'?>", "other"),
            (b"CONNECT\naccept-version:1.2\n", "other"),
            (b"CONNECT\r\naccept-version:1.2\r\n", "other"),
            (b"EHLO mail.test\r\n", "other"),
            (b"MAIL FROM:<HTTPS@a.test>\r\n", "other"),
            (b"set k 0 0 5\r\nhello\r\n", "other"),
            // LDAP, AMQP.
            (b"0\x0c\x02\x01\x01\x60\x07", "other"),
            (b"0 \x02\x01\x01", "other"),
            (b"AMQP\x00\x00\x09\x01", "other"),
            (b"FOO \x02a HTTP/1.1\r\n", "http1"),
            (b"0 a://secret.test/ HTTP/1.1\r\n", "http1"),
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
