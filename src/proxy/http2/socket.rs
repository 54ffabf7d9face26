//! The bytes of a stream that an extended CONNECT opened (RFC 8441 §5).

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of an HTTP/2 connection as a stream of bytes.
pub(crate) struct Socket {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// What came and was not read yet.
    came: Bytes,
}

impl Socket {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, came: Bytes::new() }
    }

    /// Why nothing more can be written.
    fn broken(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.send.poll_reset(cx) {
            Poll::Ready(Err(error)) => failed(error),
            _ => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

/// The stream was reset, or its connection is gone: no end that the client meant.
fn failed(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.came.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => this.came = data,
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let length = this.came.len().min(buf.remaining());
        buf.put_slice(&this.came[..length]);
        this.came.advance(length);
        // Fails only where the stream is over.
        let _ = this.recv.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Asked for when there is something to write: what is reserved is taken from other streams.
        this.send.reserve_capacity(buf.len());
        while this.send.capacity() == 0 {
            if this.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(this.broken(cx)));
            }
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
                None => return Poll::Ready(Err(this.broken(cx))),
            }
        }
        let length = this.send.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..length]);
        Poll::Ready(this.send.send_data(data, false).map(|()| length).map_err(failed))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.send.reserve_capacity(0);
        Poll::Ready(this.send.send_data(Bytes::new(), true).map_err(failed))
    }
}
