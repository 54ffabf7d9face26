//! The parent proxy: what goes through it, and the CONNECT that asks it for a tunnel
//! (RFC 9110 §9.3.6).
//!
//! Invariant: the parent's reply is read within a bound, and no byte after its head is lost.

use super::settings::{Credential, NoProxy, Parent, Resolve};
use crate::addr::{Authority, Host};
use arc_swap::ArcSwapOption;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest reply to a CONNECT, interim responses included.
const REPLY_LIMIT: usize = 16 * 1024;
/// The most fields in it.
const FIELD_LIMIT: usize = 64;

/// A parent proxy, ready to be asked.
#[derive(Debug)]
pub(super) struct Hop {
    authority: Authority,
    authorization: ArcSwapOption<HeaderValue>,
    mark: Option<(HeaderName, HeaderValue)>,
    no_proxy: Box<[NoProxy]>,
    resolve: Resolve,
}

/// What a parent said to a CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx, and the bytes that came right behind the head.
    Tunnel(Bytes),
    /// Anything else.
    Refused(u16),
}

/// Why a parent's reply to a CONNECT can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Over 16 KiB or 64 fields.
    #[error("its reply to CONNECT is too long")]
    TooLong,
    /// Not an HTTP/1 response, or one with bare line feeds.
    #[error("its reply to CONNECT is not HTTP")]
    Malformed,
    /// It closed before the end of the head.
    #[error("it closed the connection in the middle of CONNECT")]
    Closed,
    /// Reading or writing failed.
    #[error("the connection failed in the middle of CONNECT ({0})")]
    Io(io::ErrorKind),
    /// Bytes after its head in a tunnel in which the client speaks first.
    #[error("it sent bytes of its own into the tunnel")]
    SpokeFirst,
}

impl Hop {
    pub(super) fn new(parent: Parent, mark: Option<(HeaderName, HeaderValue)>) -> Self {
        let Parent { authority, credential, no_proxy, resolve } = parent;
        let authorization = ArcSwapOption::empty();
        let hop = Self { authority, authorization, mark, no_proxy: no_proxy.into(), resolve };
        hop.set_credential(credential.as_ref());
        hop
    }

    pub(super) fn set_credential(&self, credential: Option<&Credential>) {
        self.authorization.store(credential.map(|c| Arc::new(c.header())));
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.load().as_deref().cloned()
    }

    /// Whether a host with these addresses is reached without the parent.
    pub(super) fn skips(&self, host: &Host, addresses: &[IpAddr]) -> bool {
        self.no_proxy.iter().any(|entry| entry.covers(host, addresses))
    }

    /// Whether the parent resolves this host (a name that nothing here answers).
    pub(super) fn resolves(&self, host: &Host) -> bool {
        self.resolve == Resolve::Proxy && host.name().is_some() && !self.skips(host, &[])
    }

    /// What the operator can do about a refused CONNECT to a name (or an address) and port.
    pub(super) fn advice(&self, status: u16) -> &'static str {
        match (status, self.authorization(), self.resolve) {
            (407, None, _) => "it wants a password; set upstream.proxy.credential",
            (407, Some(_), _) => "it does not take the credential of upstream.proxy",
            (508, ..) => {
                "it leads back to this gateway; let upstream.proxy name a proxy that reaches the origin"
            }
            (_, _, Resolve::Local) => {
                "with resolve: local it is asked for checked addresses, for plain http too; let it \
                 CONNECT there, or set upstream.proxy.resolve: proxy"
            }
            (_, _, Resolve::Proxy) => "let it CONNECT there, or add the host to no_proxy",
        }
    }

    /// Asks for a tunnel to `asked` (authority-form) on a fresh connection to the parent.
    pub(super) async fn tunnel<S>(&self, stream: &mut S, asked: &str) -> Result<Answer, ReplyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut head = Vec::with_capacity(256);
        head.extend(format!("CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n").as_bytes());
        if let Some(value) = self.authorization() {
            head.extend(b"Proxy-Authorization: ");
            head.extend(value.as_bytes());
            head.extend(b"\r\n");
        }
        if let Some((name, value)) = &self.mark {
            head.extend(name.as_str().as_bytes());
            head.extend(b": ");
            head.extend(value.as_bytes());
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
        stream.write_all(&head).await.map_err(|e| ReplyError::Io(e.kind()))?;
        read_reply(stream).await
    }
}

/// Reads heads until a final one; interim responses (1xx) are passed over.
async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> Result<Answer, ReplyError> {
    let mut buffer = BytesMut::with_capacity(1024);
    let mut spent = 0;
    loop {
        let end = read_head(stream, &mut buffer, REPLY_LIMIT - spent).await?;
        let status = parse_status(&buffer[..end])?;
        buffer.advance(end);
        spent += end;
        match status {
            101 => return Ok(Answer::Refused(101)),
            100..=199 => {}
            200..=299 => return Ok(Answer::Tunnel(buffer.freeze())),
            refused => return Ok(Answer::Refused(refused)),
        }
    }
}

/// Reads until the buffer holds a whole head; says where it ends.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<usize, ReplyError> {
    let mut seen = 0_usize;
    loop {
        let from = seen.saturating_sub(3);
        if let Some(at) = buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            let end = from + at + 4;
            return if end <= limit { Ok(end) } else { Err(ReplyError::TooLong) };
        }
        seen = buffer.len();
        if seen >= limit {
            return Err(ReplyError::TooLong);
        }
        buffer.reserve(1024);
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(ReplyError::Closed),
            Ok(_) => {}
            Err(error) => return Err(ReplyError::Io(error.kind())),
        }
    }
}

fn parse_status(head: &[u8]) -> Result<u16, ReplyError> {
    let bare =
        head.iter().enumerate().any(|(i, b)| *b == b'\n' && (i == 0 || head[i - 1] != b'\r'));
    if bare {
        return Err(ReplyError::Malformed);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {
            response.code.filter(|code| (100..600).contains(code)).ok_or(ReplyError::Malformed)
        }
        Ok(_) => Err(ReplyError::Malformed),
        Err(httparse::Error::TooManyHeaders) => Err(ReplyError::TooLong),
        Err(_) => Err(ReplyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// What comes of `reply`, sent in pieces of `step` bytes, after which the parent closes.
    async fn reply(reply: &[u8], step: usize) -> Result<Answer, ReplyError> {
        let (mut near, mut far) = duplex(64 * 1024);
        let sending = async {
            for piece in reply.chunks(step) {
                if far.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        tokio::join!(read_reply(&mut near), sending).0
    }

    #[tokio::test]
    async fn no_byte_behind_the_head_is_lost_however_it_arrives() {
        let whole = b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\nSSH-2.0-x\r\n";
        let got = reply(whole, whole.len()).await.unwrap();
        assert_eq!(got, Answer::Tunnel(Bytes::from_static(b"SSH-2.0-x\r\n")));
        for step in [1, 2, 3, 7] {
            let Ok(Answer::Tunnel(left)) = reply(whole, step).await else { panic!("{step}") };
            assert!(b"SSH-2.0-x\r\n".starts_with(&left[..]), "{step}");
        }
    }

    #[tokio::test]
    async fn an_interim_response_is_passed_over_and_101_is_not_a_tunnel() {
        let got = reply(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 \r\n\r\n", 5).await;
        assert_eq!(got, Ok(Answer::Tunnel(Bytes::new())));
        let got = reply(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 5).await;
        assert_eq!(got, Ok(Answer::Refused(101)));
        let got = reply(b"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabc", 50).await;
        assert_eq!(got, Ok(Answer::Refused(407)));
    }

    #[tokio::test]
    async fn a_reply_that_is_not_a_bounded_http_head_is_refused() {
        for bad in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            let shown = String::from_utf8_lossy(bad);
            assert_eq!(reply(bad, 64).await, Err(ReplyError::Malformed), "{shown}");
        }
        assert_eq!(reply(b"HTTP/1.1 200 OK\r\nA: ", 64).await, Err(ReplyError::Closed));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(17_000));
        assert_eq!(reply(long.as_bytes(), 4096).await, Err(ReplyError::TooLong));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!(reply(many.as_bytes(), 4096).await, Err(ReplyError::TooLong));
        let interim = "HTTP/1.1 103 Early\r\n\r\n".repeat(2000);
        assert_eq!(reply(interim.as_bytes(), 4096).await, Err(ReplyError::TooLong));
    }
}
