//! A TCP stream that takes the shorter way through the kernel where there is one.

use socket2::SockRef;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream; a single buffer, as TLS mostly has it, goes by `send(2)` and not by `writev(2)`, which
/// takes longer for the same bytes.
#[derive(Debug)]
pub struct Stream(pub TcpStream);

/// Chooses Reno for a socket whose other end is on this host, or that accepts from this host alone. Nothing
/// on that way can be congested, and what a system has chosen against congestion costs all the same: BBR
/// paces what it sends by timers. Reno is there in every kernel, and open to everybody. Best before the
/// connection stands: a paced one stays paced.
pub fn stays_here(socket: SockRef<'_>) {
    // Where the kernel is none of Linux's own, it is its business.
    drop(socket.set_tcp_congestion(b"reno"));
}

/// What is copied together rather than handed to the kernel in pieces: a head and a small body.
const SMALL: usize = 2048;

/// Writes `bufs` to `stream`, with `send(2)` where they are one or few bytes.
pub fn poll_write_bufs(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [buf] = bufs {
        return Pin::new(stream).poll_write(cx, buf);
    }
    let mut small = [0; SMALL];
    let mut length = 0;
    for buf in bufs {
        let Some(room) = small.get_mut(length..length + buf.len()) else {
            return Pin::new(stream).poll_write_vectored(cx, bufs);
        };
        room.copy_from_slice(buf);
        length += buf.len();
    }
    Pin::new(stream).poll_write(cx, &small[..length])
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_bufs(&mut self.0, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn buffers_arrive_in_their_order_however_many_and_large() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test dials itself")]
        let to = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut from, _) = listener.accept().await.unwrap();
        let mut stream = Stream(to);
        for sizes in [&[5][..], &[3, 4], &[0, 7, 0], &[SMALL, 1], &[1, SMALL - 1], &[9000, 1, 40]] {
            let pieces: Vec<Vec<u8>> =
                (0u8..).zip(sizes).map(|(n, size)| vec![b'a' + n; *size]).collect();
            let bufs: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let all = pieces.concat();
            let n = stream.write_vectored(&bufs).await.unwrap();
            assert_eq!(n, all.len(), "a loopback socket takes all of it");
            let mut read = vec![0; n];
            from.read_exact(&mut read).await.unwrap();
            assert_eq!(read, all, "{sizes:?}");
        }
    }
}
