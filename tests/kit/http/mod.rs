//! HTTP/2 as the tests of HTTP speak it: an origin and a client over the `h2` crate, so that a test
//! says and sees single frames; and what is the same for HTTP/1 in many tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of the kit")]

use crate::common::{Gateway, PATIENCE, client_config, server_config};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An origin that speaks HTTP/2 alone, on a thread of its own.
pub(crate) struct H2Origin {
    pub(crate) at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    /// Over TLS, with a certificate of the test CA for `origin.test`; each stream is a task.
    pub(crate) fn tls<F, R>(serve: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        Self::built(&h2::server::Builder::new(), serve)
    }

    /// The same with settings of its own.
    pub(crate) fn built<F, R>(settings: &h2::server::Builder, serve: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let tls = Some(server_config(&["origin.test"], &["h2"]));
        Self::new(tls, (settings.clone(), usize::MAX), serve)
    }

    /// Over plain TCP, with prior knowledge.
    pub(crate) fn plain<F, R>(serve: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        Self::new(None, (h2::server::Builder::new(), usize::MAX), serve)
    }

    /// Over TLS, sending GOAWAY on each connection with its `streams`-th stream.
    pub(crate) fn going_away<F, R>(streams: usize, serve: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let tls = Some(server_config(&["origin.test"], &["h2"]));
        Self::new(tls, (h2::server::Builder::new(), streams), serve)
    }

    fn new<F, R>(
        tls: Option<Arc<rustls::ServerConfig>>,
        how: (h2::server::Builder, usize),
        serve: F,
    ) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime.unwrap(), async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    let (tls, how, serve) = (tls.clone(), how.clone(), serve.clone());
                    tokio::task::spawn_local(async move {
                        match tls {
                            None => streams(stream, how, serve).await,
                            Some(config) => {
                                let acceptor = tokio_rustls::TlsAcceptor::from(config);
                                let Ok(stream) = acceptor.accept(stream).await else { return };
                                streams(stream, how, serve).await;
                            }
                        }
                    });
                }
            });
        });
        Self { at, connections }
    }

    pub(crate) fn port(&self) -> u16 {
        self.at.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn streams<I, F, R>(io: I, (settings, limit): (h2::server::Builder, usize), serve: F)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + 'static,
    R: Future<Output = ()> + 'static,
{
    let Ok(mut connection) = settings.handshake(io).await else { return };
    let mut count = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(serve(request, respond));
        count += 1;
        if count == limit {
            connection.graceful_shutdown();
        }
    }
}

/// Answers with `status` and `body`, whole.
pub(crate) fn reply(mut respond: SendResponse<Bytes>, status: u16, body: &[u8]) {
    let response = Response::builder().status(status).body(()).unwrap();
    let mut stream = respond.send_response(response, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
    }
}

/// Fails a test that waits too long.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}

/// A tunnel to `authority`, for asynchronous clients.
pub(crate) async fn tunnel(gateway: &Gateway, authority: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(connect.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// TLS to `origin.test` in a tunnel, offering `alpn`.
pub(crate) async fn tls(
    gateway: &Gateway,
    port: u16,
    alpn: &[&str],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = tunnel(gateway, &format!("origin.test:{port}")).await;
    let pem = std::fs::read(gateway.ca()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(client_config(&pem, alpn));
    let name = ServerName::try_from("origin.test").unwrap();
    soon(connector.connect(name, stream)).await.unwrap()
}

/// An HTTP/2 client of `origin.test:port`, inside TLS.
pub(crate) async fn client(gateway: &Gateway, port: u16) -> SendRequest<Bytes> {
    let stream = tls(gateway, port, &["h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    drive(stream).await
}

/// An HTTP/2 client over `io`.
pub(crate) async fn drive<I>(io: I) -> SendRequest<Bytes>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    soon(client.ready()).await.unwrap()
}

/// A request for `path` at `origin.test:port`.
pub(crate) fn request(method: &str, port: u16, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://origin.test:{port}{path}"))
}

/// Sends a request with a whole body and waits for the whole response.
pub(crate) async fn exchange(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let (response, mut stream) = client.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
    }
    let (head, body) = soon(response).await.unwrap().into_parts();
    let (bytes, trailers) = collect(body).await;
    (Response::from_parts(head, ()), bytes, trailers)
}

/// A body to its end, and its trailers.
pub(crate) async fn collect(mut body: h2::RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (bytes, soon(body.trailers()).await.unwrap())
}

/// One HTTP/1 response with a body: its head, the body by Content-Length or chunked, its trailers.
pub(crate) fn read_message(stream: &mut impl std::io::Read) -> (String, Vec<u8>, String) {
    let head = crate::common::read_head(stream);
    let (body, trailers) = read_body(stream, &head);
    (head, body, trailers)
}

/// The body that `head` announces, and its trailers.
pub(crate) fn read_body(stream: &mut impl std::io::Read, head: &str) -> (Vec<u8>, String) {
    let length = crate::common::header(head, "content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    if crate::common::header(head, "transfer-encoding").as_deref() != Some("chunked") {
        return (body, String::new());
    }
    loop {
        let chunk = read_chunk(stream);
        if chunk.is_empty() {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut trailers = String::new();
    loop {
        let line = read_line(stream);
        if line.is_empty() {
            return (body, trailers);
        }
        trailers += &line;
        trailers.push('\n');
    }
}

/// One chunk; the last is empty, and what follows it is not read.
pub(crate) fn read_chunk(stream: &mut impl std::io::Read) -> Vec<u8> {
    let size = read_line(stream);
    let size = usize::from_str_radix(&size, 16).unwrap_or_else(|e| panic!("{e}: {size:?}"));
    let mut chunk = vec![0; size];
    stream.read_exact(&mut chunk).unwrap();
    if size > 0 {
        assert_eq!(read_line(stream), "");
    }
    chunk
}

/// A line without its end.
pub(crate) fn read_line(stream: &mut impl std::io::Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).unwrap()
}
