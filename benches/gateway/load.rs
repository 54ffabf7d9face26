//! Clients: how a target is reached, with and without the gateway, and what all runs share.

use crate::gateway::{Choice, Gateway};
use crate::origin::Origin;
use crate::tls::{self, OriginCa};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Anything that goes wrong in a client.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What an empty request has for a body.
pub(crate) type NoBody = Empty<Bytes>;

/// The name of the origin.
pub(crate) const ORIGIN: &str = "origin.test";
/// The same origin under a name that is a raw tunnel.
pub(crate) const TUNNEL: &str = "tunnel.test";

/// What all runs share.
pub(crate) struct Lab {
    pub(crate) ca: OriginCa,
    pub(crate) origin: Origin,
    pub(crate) choice: Choice,
}

/// Whom clients speak to.
#[derive(Debug)]
pub(crate) enum Target {
    /// The origin itself.
    Direct,
    /// The gateway.
    Through(Gateway),
}

/// How one client of a run reaches the origin. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) origin: Origin,
    /// TLS for HTTP/1, for HTTP/2, and for HTTP/1 with resumption.
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) http2: Arc<ClientConfig>,
    pub(crate) resuming: Arc<ClientConfig>,
}

impl Lab {
    /// An origin that listens.
    pub(crate) async fn new(choice: Choice) -> Self {
        let ca = OriginCa::new(&[ORIGIN, "*.names.test"]);
        let origin = Origin::start(&ca).await;
        Self { ca, origin, choice }
    }

    /// A line that says where the figures come from.
    pub(crate) fn describe(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.choice.workers.unwrap_or(cores);
        let profile = if cfg!(debug_assertions) { " (NOT A RELEASE BUILD)" } else { "" };
        let binaries = if self.choice.binaries { ", rules with binaries" } else { "" };
        let version = env!("CARGO_PKG_VERSION");
        format!("portcullis {version}{profile}, {cores} cores, {workers} workers{binaries}\n")
    }

    /// The way to `target`.
    pub(crate) fn way(&self, target: &Target) -> Way {
        let (proxy, ca) = match target {
            Target::Direct => (None, &self.ca.pem),
            Target::Through(gateway) => (Some(gateway.proxy), &gateway.ca),
        };
        Way {
            proxy,
            origin: self.origin,
            http1: tls::client(ca, "http/1.1", false),
            http2: tls::client(ca, "h2", false),
            resuming: tls::client(ca, "http/1.1", true),
        }
    }
}

impl Way {
    async fn dial(&self, at: SocketAddr) -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect(self.proxy.unwrap_or(at)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A raw connection to `at`, in a CONNECT tunnel for `host` where there is a proxy.
    pub(crate) async fn raw(&self, host: &str, at: SocketAddr) -> Result<TcpStream, Failure> {
        let mut stream = self.dial(at).await?;
        if self.proxy.is_none() {
            return Ok(stream);
        }
        let port = at.port();
        let head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::with_capacity(1024);
        // Nothing follows the head before this client has spoken.
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        Ok(stream)
    }

    /// TLS with the origin under the name `host`.
    pub(crate) async fn tls(
        &self,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = self.raw(host, self.origin.tls).await?;
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(config.clone()).connect(name, stream).await?)
    }

    /// A kept connection for plain requests, and the URI to ask for.
    pub(crate) async fn plain(&self) -> Result<(http1::SendRequest<NoBody>, Uri), Failure> {
        let at = self.origin.plain;
        let stream = self.dial(at).await?;
        let uri = match self.proxy {
            Some(_) => format!("http://{ORIGIN}:{}/plain", at.port()).parse()?,
            None => Uri::from_static("/plain"),
        };
        Ok((over_http1(stream).await?, uri))
    }

    /// An HTTP/2 connection.
    pub(crate) async fn http2(&self) -> Result<http2::SendRequest<NoBody>, Failure> {
        let stream = self.tls(ORIGIN, &self.http2).await?;
        let executor = TokioExecutor::new();
        let (sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// `origin.test` and the port of the TLS listener.
    pub(crate) fn authority(&self) -> String {
        format!("{ORIGIN}:{}", self.origin.tls.port())
    }
}

/// HTTP/1 over `stream`.
pub(crate) async fn over_http1<S>(stream: S) -> Result<http1::SendRequest<NoBody>, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A GET.
pub(crate) fn get(uri: &Uri, host: &str) -> Request<NoBody> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    if !host.is_empty() {
        let value = http::HeaderValue::try_from(host).expect("a name");
        request.headers_mut().insert(http::header::HOST, value);
    }
    request
}

/// One GET on a kept HTTP/1 connection, its answer read to the end.
pub(crate) async fn ask(
    sender: &mut http1::SendRequest<NoBody>,
    uri: &Uri,
    host: &str,
) -> Result<(), Failure> {
    sender.ready().await?;
    let response = sender.send_request(get(uri, host)).await?;
    finish(response).await
}

/// Reads an answer to its end; anything but 200 is a failure.
pub(crate) async fn finish(response: http::Response<hyper::body::Incoming>) -> Result<(), Failure> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == http::StatusCode::OK {
        return Ok(());
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
}

/// Lets this process have as many files open as it may.
pub(crate) fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it has is enough for all but the idle connections.
    let _ = setrlimit(Resource::Nofile, limit);
}
