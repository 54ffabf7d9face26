//! The byte streams under a connection: the client's socket, with bytes that were read to tell
//! what it speaks given back first, and TLS over it.

use crate::upstream::flights::Flights;
use crate::upstream::stream::poll_write_bufs;
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// How far what a client still sends after its last answer is read and dropped; and how long it may
/// send nothing meanwhile.
pub(crate) const LINGER: usize = 256 * 1024 * 1024;
pub(crate) const LINGER_IDLE: Duration = Duration::from_secs(2);

/// For how long in all: the rest of an upload, and what was no request.
pub(crate) const LINGER_UPLOAD: Duration = Duration::from_secs(30);
pub(crate) const LINGER_OTHER: Duration = Duration::from_secs(2);

/// A client's socket, or an upstream one.
#[derive(Debug)]
pub(crate) enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A socket whose first bytes were already read.
#[derive(Debug)]
pub(crate) struct Prefixed {
    /// Read, not yet taken by whoever parses.
    pub(crate) prefix: BytesMut,
    /// The socket.
    pub(crate) raw: Raw,
}

/// What HTTP runs on towards the client.
#[derive(Debug)]
pub(crate) enum ClientIo {
    /// The socket itself.
    Plain(Prefixed),
    /// TLS that the gateway ended.
    Tls(Box<TlsStream<Flights<Prefixed>>>),
}

impl Prefixed {
    /// A socket of which nothing was read.
    pub(crate) fn new(raw: Raw) -> Self {
        Self { prefix: BytesMut::new(), raw }
    }

    /// Reads more bytes behind the prefix, at most 16 KiB at a time. 0 is the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.prefix.reserve(4096);
        match &mut self.raw {
            Raw::Tcp(s) => s.read_buf(&mut self.prefix).await,
            Raw::Unix(s) => s.read_buf(&mut self.prefix).await,
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.raw {
            Raw::Tcp(s) => s.write_all(bytes).await,
            Raw::Unix(s) => s.write_all(bytes).await,
        }
    }
}

impl Raw {
    /// Says the end, and reads what still comes for a while: unread, it would make the end a reset,
    /// which overtakes the last answer (RFC 9112 §9.6).
    pub(crate) async fn linger(&mut self, within: Duration) {
        if self.shut_write().is_err() {
            return;
        }
        let read = Box::pin(async {
            let (mut buffer, mut read) = (vec![0; 16 * 1024], 0);
            while read < LINGER {
                match tokio::time::timeout(LINGER_IDLE, self.read(&mut buffer)).await {
                    Ok(Ok(n)) if n > 0 => read += n,
                    _ => return,
                }
            }
        });
        // However it ends: there is nobody to tell.
        let _ = tokio::time::timeout(within, read).await;
    }

    /// Makes the end a reset: what was relayed is not whole, and must not look so.
    pub(crate) fn reset_at_close(&self) {
        if let Self::Tcp(s) = self {
            // Where it can't be set the end is an ordinary one.
            drop(socket2::SockRef::from(s).set_linger(Some(Duration::ZERO)));
        }
    }

    /// Whether the other side has closed, for writing at least, or is gone.
    pub(crate) fn hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        use std::os::fd::AsFd;
        let fd = match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        };
        let mut fds = [PollFd::new(&fd, PollFlags::RDHUP)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&zero));
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        ready.is_ok_and(|ready| ready > 0) && fds[0].revents().intersects(gone)
    }
}

impl AsMut<Raw> for Prefixed {
    fn as_mut(&mut self) -> &mut Raw {
        &mut self.raw
    }
}

impl AsMut<Raw> for ClientIo {
    fn as_mut(&mut self) -> &mut Raw {
        match self {
            Self::Plain(s) => &mut s.raw,
            Self::Tls(s) => &mut s.get_mut().0.get_mut().raw,
        }
    }
}

impl ClientIo {
    /// The socket itself.
    pub(crate) fn raw(&self) -> &Raw {
        match self {
            Self::Plain(s) => &s.raw,
            Self::Tls(s) => &s.get_ref().0.get_ref().raw,
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => poll_write_bufs(s, cx, bufs),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix[..n]);
            this.prefix.advance(n);
            if this.prefix.is_empty() {
                this.prefix = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.raw).poll_read(cx, buf)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_shutdown(cx)
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
