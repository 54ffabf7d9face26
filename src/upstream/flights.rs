//! A stream under a TLS handshake, on which the last flight leaves with what is written next.
//!
//! The last flight of a handshake in TLS 1.3 is one that its receiver may not have to wait for: a client's
//! Finished, behind which the request follows at once, and a server's session tickets, behind which
//! HTTP/2's SETTINGS do (RFC 8446 §2, §4.6.1). Written by itself, each is a packet of its own, and wakes
//! the other side for nothing ([ADR 0035], which also says who does wait for tickets).
//!
//! Such a flight is known by what it looks like: it follows on something that was heard, and it is
//! encrypted from its first record on, a change_cipher_spec aside, which is there for middleboxes alone
//! (§5, appendix D.4). All else that a handshake writes begins in the clear.
//!
//! [ADR 0035]: ../../docs/adr/0035-last-flights.md

use super::corked::Corked;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream, and what of a handshake waits for the next write on it.
#[derive(Debug)]
pub struct Flights<S> {
    stream: S,
    last: Corked,
    turn: Turn,
}

/// Whose turn it is in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is none any more, or whatever it writes leaves at once.
    Over,
    /// The other side was heard last.
    Ours,
    /// All that was to be said has been written.
    Theirs,
}

/// The content types of records whose own is encrypted, and of the one that says nothing.
const APPLICATION_DATA: u8 = 23;
const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

impl<S> Flights<S> {
    /// The handshake begins.
    pub fn new(stream: S) -> Self {
        Self { stream, last: Corked::default(), turn: Turn::Theirs }
    }

    /// The handshake is over: what is written from now on leaves at once, and what waits with it.
    pub fn ended(&mut self) {
        self.turn = Turn::Over;
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream. What is written to it leaves before what waits.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncWrite + Unpin> Flights<S> {
    /// Writes what waits, as far as the stream takes it now: nothing follows soon, or the handshake has
    /// failed, and what was taken for a last flight was an alert.
    pub async fn release(&mut self) {
        let Self { stream, last, .. } = self;
        // What is left leaves with the next write; an error, too, will show there.
        let write = |cx: &mut Context<'_>| Poll::Ready(last.poll_flush(Pin::new(&mut *stream), cx));
        let _ = std::future::poll_fn(write).await;
    }

    fn is_plain(&self) -> bool {
        self.turn == Turn::Over && self.last.is_empty()
    }

    fn poll_write_slices(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.turn == Turn::Ours && is_encrypted(bufs) {
            self.last.take(bufs);
            return Poll::Ready(Ok(all));
        }
        let written = ready!(self.last.poll_write(Pin::new(&mut self.stream), cx, bufs))?;
        if self.turn != Turn::Over {
            // Of what was written in part the rest may look like anything.
            self.turn = if written == all { Turn::Theirs } else { Turn::Over };
        }
        Poll::Ready(Ok(written))
    }
}

/// Whether the first record that says something is encrypted.
fn is_encrypted(bufs: &[IoSlice<'_>]) -> bool {
    let mut first = [0; CHANGE_CIPHER_SPEC.len() + 1];
    let bytes = bufs.iter().flat_map(|buf| buf.iter());
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    match first.strip_prefix(&CHANGE_CIPHER_SPEC) {
        Some(behind) => behind == [APPLICATION_DATA],
        None => first[0] == APPLICATION_DATA,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flights<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.turn == Turn::Theirs && read.is_ready() {
            this.turn = Turn::Ours;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flights<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.is_plain() {
            true => Pin::new(&mut this.stream).poll_write(cx, buf),
            false => this.poll_write_slices(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.is_plain() {
            true => Pin::new(&mut this.stream).poll_write_vectored(cx, bufs),
            false => this.poll_write_slices(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// What waits for the next write waits on.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const FLIGHT: &[u8] = &[22, 3, 3, 0, 1, 2];
    const LAST: &[u8] = &[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 1, 9];

    /// What the other side has, without waiting.
    async fn heard(other: &mut DuplexStream) -> Vec<u8> {
        let mut all = vec![0; 64];
        tokio::select! {
            biased;
            length = other.read(&mut all) => all.truncate(length.unwrap()),
            () = std::future::ready(()) => all.clear(),
        }
        all
    }

    #[test]
    fn a_last_flight_is_encrypted_from_the_first_record_that_says_something() {
        let is = |bufs: &[&[u8]]| {
            is_encrypted(&bufs.iter().map(|buf| IoSlice::new(buf)).collect::<Vec<_>>())
        };
        assert!(is(&[&[23, 3, 3]]) && is(&[LAST]) && is(&[&LAST[..6], &LAST[6..]]));
        assert!(is(&[&LAST[..2], &LAST[2..3], b"", &LAST[3..]]));
        // A ServerHello, TLS 1.2's Finished, a second ClientHello, an alert in the clear, nothing.
        let clear = [22, 3, 3, 0, 1];
        assert!(!is(&[FLIGHT]) && !is(&[&LAST[..6], &clear]) && !is(&[&[21, 3, 3, 0, 2]]));
        assert!(!is(&[&LAST[..6]]) && !is(&[&LAST[..3]]) && !is(&[]) && !is(&[b""]));
        assert!(!is(&[&[20, 3, 3, 0, 1, 2, 23]]));
    }

    #[tokio::test]
    async fn the_last_flight_leaves_with_what_is_written_behind_it() {
        let (ours, mut other) = duplex(64);
        let mut flights = Flights::new(ours);
        // A client's first flight, and a server's after it has heard one.
        flights.write_all(FLIGHT).await.unwrap();
        assert_eq!(heard(&mut other).await, FLIGHT);
        other.write_all(b"heard").await.unwrap();
        flights.read_exact(&mut [0; 5]).await.unwrap();
        flights.write_all(FLIGHT).await.unwrap();
        assert_eq!(heard(&mut other).await, FLIGHT);
        // A server's own that is encrypted in a write of its own is no last one: nothing was heard since.
        flights.write_all(LAST).await.unwrap();
        assert_eq!(heard(&mut other).await, LAST);
        other.write_all(b"heard").await.unwrap();
        flights.read_exact(&mut [0; 5]).await.unwrap();
        flights.write_all(&LAST[..6]).await.unwrap();
        assert_eq!(heard(&mut other).await, &LAST[..6], "it says nothing, and may be all there is");
        other.write_all(b"heard").await.unwrap();
        flights.read_exact(&mut [0; 5]).await.unwrap();
        flights.write_all(LAST).await.unwrap();
        flights.flush().await.unwrap();
        assert_eq!(heard(&mut other).await, b"");
        flights.ended();
        flights.flush().await.unwrap();
        assert_eq!(heard(&mut other).await, b"");
        flights.write_all(b"request").await.unwrap();
        assert_eq!(heard(&mut other).await, [LAST, b"request"].concat());
        flights.write_all(LAST).await.unwrap();
        assert_eq!(heard(&mut other).await, LAST, "the handshake is over");
    }

    #[tokio::test]
    async fn what_is_written_in_part_is_not_held_back() {
        let (ours, mut other) = duplex(FLIGHT.len() - 1);
        let mut flights = Flights::new(ours);
        assert_eq!(flights.write(FLIGHT).await.unwrap(), FLIGHT.len() - 1);
        assert_eq!(heard(&mut other).await, &FLIGHT[..5]);
        other.write_all(b"heard").await.unwrap();
        flights.read_exact(&mut [0; 5]).await.unwrap();
        flights.write_all(&LAST[6..10]).await.unwrap();
        assert_eq!(heard(&mut other).await, &LAST[6..10]);
    }

    #[tokio::test]
    async fn what_waits_is_released() {
        let (ours, mut other) = duplex(LAST.len());
        let mut flights = Flights::new(ours);
        other.write_all(b"heard").await.unwrap();
        flights.read_exact(&mut [0; 5]).await.unwrap();
        flights.write_all(LAST).await.unwrap();
        flights.write_all(&LAST[6..]).await.unwrap();
        assert_eq!(heard(&mut other).await, b"");
        flights.ended();
        flights.release().await;
        assert_eq!(heard(&mut other).await, LAST, "as far as there is room");
        flights.write_all(b"more").await.unwrap();
        assert_eq!(heard(&mut other).await, [&LAST[6..], b"more"].concat());
    }
}
