//! HTTP connections to origins: the TLS and HTTP handshakes over a dialled socket.
//!
//! The TLS configuration is handed in by the house; names were resolved and checked before.

use super::corked::Corked;
use super::flights::Flights;
use super::http2::{self, OnInterim, Revocable};
use super::stream::Stream;
use crate::tasks::Stall;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::error::Error;
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

/// A socket to an origin, and what is given back when it has closed, whoever has it by then.
#[derive(Debug)]
pub struct UpstreamIo {
    socket: Socket,
    /// What leaves with the next write, and whether what is written now is that.
    corked: Corked,
    corks: bool,
    /// The origin has closed, and what is written is dropped: what it said before is still read.
    deaf: bool,
    /// The origin takes nothing, and says nothing, while something waits for it.
    stall: Stall,
    #[expect(dead_code, reason = "held for its drop, after the socket's")]
    held: Held,
}

/// Anything that is held as long as a socket is open.
pub type Held = Box<dyn std::any::Any + Send + Sync>;

#[derive(Debug)]
enum Socket {
    Plain(Stream),
    /// Verified.
    Tls(Box<TlsStream<Flights<Stream>>>),
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
    /// The widest that one stream comes to.
    const WIDEST: u32 = 8 * 1024 * 1024;

    /// The next wider ones for an origin so fast or so far that these hold it up. Narrow ones stay.
    pub(super) fn wider(self) -> Option<Self> {
        let stream = self.stream * 2;
        (self != Self::NARROW && stream <= Self::WIDEST).then_some(Self { stream, ..self })
    }

    /// For whoever has many connections open already.
    pub const NARROW: Self = Self { stream: 256 * 1024, connection: 1024 * 1024 };
}

/// The sending half of an HTTP connection.
#[derive(Debug)]
pub enum Sender<B> {
    /// HTTP/1.1: one request at a time.
    Http1(http1::SendRequest<B>),
    /// HTTP/2: a place for one request on a shared connection.
    Http2(http2::SendRequest),
}

/// A response's body.
#[derive(Debug)]
pub enum Received {
    /// From an HTTP/1.1 origin.
    Http1(Incoming),
    /// From an HTTP/2 origin.
    Http2(http2::Answer),
}

/// What went wrong on a connection to an origin.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// The request's own body.
    #[error(transparent)]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Why there is no response, and the request where not a byte of it was written.
#[derive(Debug)]
pub struct Unsent<B> {
    /// Why.
    pub error: HttpError,
    /// What can be sent again.
    pub request: Option<Box<Request<B>>>,
}

impl HttpError {
    /// Whether it was the request's own body that failed.
    pub fn is_body(&self) -> bool {
        match self {
            // The one error of its user's that hyper can meet here.
            Self::Http1(error) => error.is_user(),
            Self::Http2(_) => false,
            Self::Body(_) => true,
        }
    }

    /// Whether the origin takes the request over HTTP/1.1 alone (RFC 9113 §7, HTTP_1_1_REQUIRED).
    pub fn wants_http1(&self) -> bool {
        let Self::Http2(error) = self else { return false };
        error.is_remote() && error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)
    }

    /// Whether the origin says that it did nothing with the request, which may then be sent again,
    /// whatever its method (RFC 9113 §8.7). Of a GOAWAY's streams only those behind the last that the
    /// origin took end with it.
    pub fn is_unprocessed(&self) -> bool {
        let Self::Http2(error) = self else { return false };
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || refused)
    }

    /// Whether the origin does not speak HTTP as it should.
    pub fn is_protocol(&self) -> bool {
        match self {
            Self::Http1(error) => {
                error.is_parse() || error.is_parse_status() || is_malformed(error)
            }
            // What the library let through, and was refused here, is an error of a bare reason.
            Self::Http2(error) => {
                let refused = error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
                error.is_library() || (refused && !error.is_remote())
            }
            Self::Body(_) => false,
        }
    }
}

impl<B> Sender<B>
where
    B: Revocable + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends `request` and awaits the head of its answer; what the origin says before it is heard by
    /// `interim`.
    pub fn send<'a>(
        &'a mut self,
        mut request: Request<B>,
        interim: Option<&'a OnInterim>,
    ) -> impl Future<Output = Result<Response<Received>, Unsent<B>>> + Send + use<'a, B> {
        match self {
            Self::Http1(sender) => {
                let (method, headers) = (request.method(), request.headers());
                if let Some(length) = unsaid_length(method, headers, request.body()) {
                    let length = HeaderValue::from(length);
                    request.headers_mut().insert(header::CONTENT_LENGTH, length);
                }
                if let Some(hear) = interim.cloned() {
                    hyper::ext::on_informational(&mut request, move |said| {
                        hear.hear(said.status(), said.headers());
                    });
                }
                Either::Left(sender.try_send_request(request).map(|sent| match sent {
                    Ok(response) => Ok(response.map(Received::Http1)),
                    Err(mut failed) => {
                        let request = failed.take_message().map(Box::new);
                        Err(Unsent { error: failed.into_error().into(), request })
                    }
                }))
            }
            // Boxed: it is three times the size of the other.
            Self::Http2(sender) => Either::Right(Box::pin(async move {
                if let Err(error) = sender.ready().await {
                    return Err(Unsent { error, request: Some(Box::new(request)) });
                }
                let response = sender.send(request, interim).await;
                let response = response.map_err(|error| Unsent { error, request: None })?;
                Ok(response.map(Received::Http2))
            })),
        }
    }
}

/// Whether a body has chunks that are none. What can't be read as TLS is another matter.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()).is_some_and(|cause| {
        let kind = matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        kind && !cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// The length of a body where it is known, means something, and is not said yet (RFC 9110 §8.6): of an empty
/// one nothing else says it over HTTP/1.
pub(super) fn unsaid_length<B: Body>(
    method: &Method,
    headers: &HeaderMap,
    body: &B,
) -> Option<u64> {
    let means_something = !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::CONNECT
    );
    let length = body.size_hint().exact().filter(|length| *length > 0 || means_something)?;
    let said = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    (!said.iter().any(|name| headers.contains_key(name))).then_some(length)
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(HttpError::Http1),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// Ends TLS with an origin: `config` verifies it, `name` is who it must be. Where it takes nothing for
/// `patience`, the connection has failed.
pub async fn tls(
    stream: TcpStream,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    (patience, held): (Duration, Held),
) -> io::Result<UpstreamIo> {
    let connector = tokio_rustls::TlsConnector::from(config);
    let shaking = connector.connect(name, Flights::new(Stream(stream))).into_fallible();
    match shaking.await {
        Ok(mut stream) => {
            stream.get_mut().0.ended();
            Ok(UpstreamIo::new(Socket::Tls(Box::new(stream)), patience, held))
        }
        Err((error, mut stream)) => {
            stream.release().await;
            Err(error)
        }
    }
}

impl UpstreamIo {
    /// Plain TCP; as [`tls`].
    pub fn plain(stream: TcpStream, (patience, held): (Duration, Held)) -> Self {
        Self::new(Socket::Plain(Stream(stream)), patience, held)
    }

    fn new(socket: Socket, patience: Duration, held: Held) -> Self {
        let (corked, stall) = (Corked::default(), Stall::new(patience));
        Self { socket, corked, corks: false, deaf: false, stall, held }
    }

    /// Has the next write wait for the one behind it, or for a flush.
    pub(super) fn cork(&mut self) {
        self.corks = true;
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

/// What carries a connection: it must be polled (spawned by the house) until it ends.
pub type Carried = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

/// The HTTP handshake. `spawn` runs what is left of a request's body when its answer begins.
pub async fn handshake<B>(
    io: UpstreamIo,
    (version, windows): (Version, Windows),
    spawn: impl Fn(http2::Rest) + Send + Sync + 'static,
) -> Result<(Sender<B>, Carried), HttpError>
where
    B: Revocable + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match version {
        Version::Http1 => {
            let io = TokioIo::new(io);
            let (sender, connection) =
                http1::Builder::new().max_headers(256).max_buf_size(BUFFER).handshake(io).await?;
            let carried = async { connection.with_upgrades().await.map_err(HttpError::Http1) };
            Ok((Sender::Http1(sender), Box::pin(carried)))
        }
        Version::Http2 => {
            let (sender, carried) = http2::handshake(io, windows, Box::new(spawn)).await?;
            Ok((Sender::Http2(sender), Box::pin(carried)))
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.socket {
            Socket::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Tls(s) => Pin::new(s).poll_read(cx, buf),
        };
        if read.is_ready() {
            this.stall.heard();
        }
        read
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
        if std::mem::take(&mut this.corks) {
            this.corked.take(&[io::IoSlice::new(buf)]);
            return Poll::Ready(Ok(buf.len()));
        }
        let written = match this.corked.is_empty() {
            true => Pin::new(&mut this.socket).poll_write(cx, buf),
            false => {
                let bufs = [io::IoSlice::new(buf)];
                this.corked.poll_write(Pin::new(&mut this.socket), cx, &bufs)
            }
        };
        let written = this.stall.watch(written, cx);
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
        let written = match this.corked.is_empty() {
            true => Pin::new(&mut this.socket).poll_write_vectored(cx, bufs),
            false => this.corked.poll_write(Pin::new(&mut this.socket), cx, bufs),
        };
        let written = this.stall.watch(written, cx);
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
        let flushed = match this.corked.poll_flush(Pin::new(&mut this.socket), cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.socket).poll_flush(cx),
            other => other,
        };
        let flushed = this.stall.watch(flushed, cx);
        flushed.map(|flushed| this.unless_closed(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl AsyncWrite for Socket {
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
