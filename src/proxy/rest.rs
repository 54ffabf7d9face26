//! A connection that rests: between two requests it holds its stream and nothing else.
//!
//! hyper's buffers and the room for a request's future are 24 KiB a connection. A second after its
//! last response has left, an idle HTTP/1 connection gives them back, and takes new ones with the
//! first byte of its next request.

use super::gate::Connection;
use super::io::{ClientIo, Raw};
use super::live::End;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// How long a client that takes nothing may hold up the end of its connection.
const GOODBYE: Duration = Duration::from_secs(1);

/// The client's stream, noting when bytes come and go.
pub(crate) struct Noted {
    io: ClientIo,
    /// Read before, and first to be read again.
    first: Bytes,
    /// An interim response on its way out, beside what hyper writes.
    interim: BytesMut,
    connection: Arc<Connection>,
}

impl Noted {
    pub(crate) fn new(io: ClientIo, connection: Arc<Connection>) -> Self {
        Self { io, first: Bytes::new(), interim: BytesMut::new(), connection }
    }

    /// The stream with bytes that were read and not used.
    pub(crate) fn with_first(mut self, first: Bytes) -> Self {
        self.first = unless_empty(first);
        self
    }

    pub(crate) fn into_io(self) -> ClientIo {
        self.io
    }

    /// Before hyper writes: what an origin said before its answer goes first, if all that hyper wrote
    /// before has left. From here on until its flush there is something that has not.
    fn poll_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let clean = self.connection.is_flushed();
        self.connection.flushed(false);
        if self.interim.is_empty() && self.connection.phase.interim.waits() {
            self.interim = self.connection.phase.interim.before(clean);
        }
        self.poll_interim(cx)
    }

    /// Writes what an origin said before its answer.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.interim.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.interim))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(n);
        }
        self.interim = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Waits for the first byte of the next request. `None` where there will be none.
    pub(crate) async fn doze(mut self) -> Option<Self> {
        if !self.first.is_empty() {
            return Some(self);
        }
        self.connection.watch.remind(None);
        self.connection.worker.rested.store(true, Ordering::Relaxed);
        let live = self.connection.watch.live().clone();
        let first = std::future::poll_fn(|cx| {
            let mut bytes = [0; 1024];
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => Poll::Ready(Bytes::copy_from_slice(read.filled())),
                Poll::Ready(Err(_)) => Poll::Ready(Bytes::new()),
                Poll::Pending => live.poll_ended(cx).map(|_: End| Bytes::new()),
            }
        })
        .await;
        if first.is_empty() {
            // Its end, its deadline or a drain: nothing is under way that an answer could be for.
            drop(tokio::time::timeout(GOODBYE, self.io.shutdown()).await);
            return None;
        }
        self.connection.read_some();
        Some(self.with_first(first))
    }
}

impl AsMut<Raw> for Noted {
    fn as_mut(&mut self) -> &mut Raw {
        self.io.as_mut()
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let n = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..n]);
            this.first.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.connection.read_some();
        }
        polled
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_before(cx))?;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_before(cx))?;
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.interim.is_empty() && this.connection.phase.interim.waits() {
            // All that hyper held has left, and what waits is of an answer that it does not hold yet.
            this.interim = this.connection.phase.interim.between();
        }
        if !this.interim.is_empty() {
            this.connection.flushed(false);
            ready!(this.poll_interim(cx))?;
        }
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = polled {
            // hyper flushes the stream after it has written all that it held.
            this.connection.flushed(true);
            // A held request is not answered, so hyper does not read: it comes by here at each
            // turn, and would not notice that the client has left.
            if this.connection.phase.is_held() && this.io.raw().hung_up() {
                this.connection.phase.leaves();
            }
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// `bytes`, but nothing where there are none: an empty slice of a buffer keeps all of the buffer.
fn unless_empty(bytes: Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn what_rests_does_not_keep_the_buffer_that_it_was_read_into() {
        let room = |bytes: Bytes| bytes.try_into_mut().map(|bytes| bytes.capacity());
        assert_eq!(room(BytesMut::with_capacity(8192).freeze()), Ok(8192), "as hyper gives it");
        assert_eq!(room(unless_empty(BytesMut::with_capacity(8192).freeze())).unwrap_or(0), 0);
        assert_eq!(unless_empty(Bytes::from_static(b"GET")), "GET");
    }
}
