//! The loopback origin: 100 bytes for a request, event streams, WebSockets, and bulk.

use crate::tls::OriginCa;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::proxy::websocket::accept_for;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What every plain answer holds.
const BODY: Bytes = Bytes::from_static(&[b'x'; 100]);
/// How often a stream has an event.
pub(crate) const EVERY: Duration = Duration::from_millis(10);
/// One write of bulk.
const BULK: usize = 256 << 10;

/// The moment from which events count their time.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the origin listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) bulk: SocketAddr,
}

/// Microseconds since the origin's start, as events say them.
pub(crate) fn now() -> u64 {
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Origin {
    /// Listens on loopback; runs as long as the runtime.
    pub(crate) async fn start(ca: &OriginCa) -> Self {
        LazyLock::force(&START);
        let (plain, plain_at) = listen().await;
        let (tls, tls_at) = listen().await;
        let (bulk, bulk_at) = listen().await;
        let acceptor = TlsAcceptor::from(ca.server.clone());
        tokio::spawn(accept(plain, |stream| async { drop(serve(stream, false).await) }));
        tokio::spawn(accept(tls, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    drop(serve(stream, h2).await);
                }
            }
        }));
        tokio::spawn(accept(bulk, |stream| async { drop(pour(stream).await) }));
        Self { plain: plain_at, tls: tls_at, bulk: bulk_at }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    (listener, at)
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                stream.set_nodelay(true).expect("a socket");
                tokio::spawn(serve(stream));
            }
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}

async fn serve<S>(stream: S, h2: bool) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let service = service_fn(answer);
    if h2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        return builder.serve_connection(io, service).await;
    }
    hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/events" => {
            let kind = HeaderValue::from_static("text/event-stream");
            let mut response = Response::new(events());
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/socket" if request.version() == Version::HTTP_11 => socket(&mut request),
        _ => Response::new(Full::new(BODY).boxed()),
    };
    Ok(response)
}

/// Events without end, each with its time.
fn events() -> Body {
    let ticks = futures_util::stream::unfold(tokio::time::interval(EVERY), |mut ticks| async {
        ticks.tick().await;
        let event = format!("data: {:020}\n\n", now());
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), ticks))
    });
    http_body_util::StreamBody::new(ticks).boxed()
}

/// Agrees to a WebSocket and sends messages without end, each with its time.
fn socket(request: &mut Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let Some(key) = key else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let accept = accept_for(key);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).expect("base64"));
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut io = TokioIo::new(upgraded);
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let mut frame = vec![0x81, 20];
            frame.extend_from_slice(format!("{:020}", now()).as_bytes());
            if io.write_all(&frame).await.is_err() || io.flush().await.is_err() {
                return;
            }
        }
    });
    response
}

/// Writes until the other side leaves, once it has said something.
async fn pour(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_u8().await?;
    let bytes = vec![7; BULK];
    loop {
        stream.write_all(&bytes).await?;
    }
}
