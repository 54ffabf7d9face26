//! HTTP connections to origins: the TLS and HTTP handshakes over a dialled socket.
//!
//! The TLS configuration is handed in by the house; names were resolved and checked before.

use super::stream::Stream;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The longest head of an HTTP/1 response, and the largest piece that is read at once: what a
/// client that does not read can hold here (hyper's own is four times that).
const BUFFER: usize = 96 * 1024;

/// How often an origin is asked for a sign of life while streams wait for it (HTTP/2), and how long
/// it has: a connection that died in silence would fail every request it is shared with.
const PING: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// A socket to an origin, and what is given back when it has closed, whoever has it by then.
#[derive(Debug)]
pub struct UpstreamIo {
    socket: Socket,
    /// The origin has closed, and what is written is dropped: what it said before is still read.
    deaf: bool,
    #[expect(dead_code, reason = "held for its drop, after the socket's")]
    held: Held,
}

/// Anything that is held as long as a socket is open.
pub type Held = Box<dyn std::any::Any + Send + Sync>;

#[derive(Debug)]
enum Socket {
    Plain(Stream),
    /// Verified.
    Tls(Box<TlsStream<Stream>>),
}

/// The HTTP version of a connection to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How much an HTTP/2 origin may send before any of it was read on: bytes a stream, and bytes on all
/// streams of a connection. A stream gets at most its window in one round trip, and what its client
/// does not read lies here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// One stream's.
    pub stream: u32,
    /// The connection's.
    pub connection: u32,
}

impl Windows {
    /// 20 MB a second over a round trip of 100 ms.
    pub const WIDE: Self = Self { stream: 2 * 1024 * 1024, connection: 16 * 1024 * 1024 };
    /// For whoever has many connections open already.
    pub const NARROW: Self = Self { stream: 256 * 1024, connection: 1024 * 1024 };
}

/// The sending half of an HTTP connection.
#[derive(Debug)]
pub enum Sender<B> {
    /// HTTP/1.1: one request at a time.
    Http1(http1::SendRequest<B>),
    /// HTTP/2: a handle on a shared connection.
    Http2(http2::SendRequest<B>),
}

/// Ends TLS with an origin: `config` verifies it, `name` is who it must be.
pub async fn tls(
    stream: TcpStream,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    held: Held,
) -> io::Result<UpstreamIo> {
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, Stream(stream)).await?;
    Ok(UpstreamIo { socket: Socket::Tls(Box::new(stream)), deaf: false, held })
}

impl UpstreamIo {
    /// Plain TCP.
    pub fn plain(stream: TcpStream, held: Held) -> Self {
        Self { socket: Socket::Plain(Stream(stream)), deaf: false, held }
    }

    /// An origin that answers before a request is whole and closes makes the writing of the rest
    /// fail, and its answer is there to be read all the same: only reading tells how it ended.
    fn unless_closed<T>(&mut self, written: io::Result<T>, all: T) -> io::Result<T> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match written {
            Err(e) if matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
                self.deaf = true;
                Ok(all)
            }
            written => written,
        }
    }

    /// The HTTP version that ALPN settled on; plain and silent origins speak HTTP/1.1.
    pub fn version(&self) -> Version {
        match &self.socket {
            Socket::Plain(_) => Version::Http1,
            Socket::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::Http2,
                _ => Version::Http1,
            },
        }
    }
}

/// The HTTP handshake. The second value carries the connection: it must be polled (spawned by the
/// house) until it ends.
pub async fn handshake<B, E>(
    io: UpstreamIo,
    (version, windows): (Version, Windows),
    executor: E,
) -> hyper::Result<(Sender<B>, Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>)>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ClientConnExec<B, TokioIo<UpstreamIo>>
        + Clone
        + Send
        + Sync
        + Unpin
        + 'static,
{
    let io = TokioIo::new(io);
    match version {
        Version::Http1 => {
            let (sender, connection) =
                http1::Builder::new().max_headers(256).max_buf_size(BUFFER).handshake(io).await?;
            Ok((Sender::Http1(sender), Box::pin(connection.with_upgrades())))
        }
        Version::Http2 => {
            let (sender, connection) = http2::Builder::new(executor)
                .initial_stream_window_size(windows.stream)
                .initial_connection_window_size(windows.connection)
                .max_send_buf_size(64 * 1024)
                .max_header_list_size(32 * 1024)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .keep_alive_timeout(PONG_WITHIN)
                .handshake(io)
                .await?;
            Ok((Sender::Http2(sender), Box::pin(connection)))
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = match &mut this.socket {
            Socket::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Socket::Tls(s) => Pin::new(s).poll_write(cx, buf),
        };
        written.map(|written| this.unless_closed(written, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(all));
        }
        let written = match &mut this.socket {
            Socket::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Socket::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        };
        written.map(|written| this.unless_closed(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = match &mut this.socket {
            Socket::Plain(s) => Pin::new(s).poll_flush(cx),
            Socket::Tls(s) => Pin::new(s).poll_flush(cx),
        };
        flushed.map(|flushed| this.unless_closed(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Socket::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use hyper_util::rt::TokioExecutor;
    use std::io::{Read, Write};

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_falls_silent_on_a_shared_connection_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let origin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Its SETTINGS, and then not a word, whatever it is asked.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
            let mut heard = Vec::new();
            drop(stream.read_to_end(&mut heard));
            // A PING: type 6, eight bytes.
            heard.windows(9).any(|frame| frame == [0, 0, 8, 6, 0, 0, 0, 0, 0])
        });
        #[expect(clippy::disallowed_methods, reason = "a test dials its own origin")]
        let stream = TcpStream::connect(at).await.unwrap();
        let executor = TokioExecutor::new();
        let io = UpstreamIo::plain(stream, Box::new(()));
        let (sender, connection) =
            handshake(io, (Version::Http2, Windows::NARROW), executor).await.unwrap();
        let carried = tokio::spawn(connection);
        let Sender::Http2(mut sender) = sender else { panic!("HTTP/2 was asked for") };
        let request =
            ::http::Request::get("http://origin.test/").body(Empty::<bytes::Bytes>::new());
        let began = tokio::time::Instant::now();
        assert!(sender.send_request(request.unwrap()).await.is_err());
        assert!(began.elapsed() >= PONG_WITHIN);
        assert!(sender.is_closed());
        drop((sender, carried.await));
        assert!(origin.join().unwrap());
    }
}
