//! `/metrics` and `/healthz` over HTTP/1.1.
//!
//! One task serves every connection, one request each, at most [`CONNECTIONS`] at a time and
//! [`LIFETIME`] long: nothing here can be made to hold the gateway's memory or its tasks. Where all
//! places are taken the oldest is given up, so that who says nothing keeps nobody from asking.

use super::registry::Registry;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How many connections are served at a time.
const CONNECTIONS: usize = 64;
/// How long a head may take.
const HEADER: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const LIFETIME: Duration = Duration::from_secs(20);
/// How long to wait after a failed accept (no file descriptors): the next would fail too.
const BACKOFF: Duration = Duration::from_millis(100);

/// Whether the gateway does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// Records can't be written, so nothing passes.
    NotRecording,
    /// No policy was ever loaded, so nothing is allowed.
    NoPolicy,
}

/// Serves until `shutdown` resolves; connections that are open then are dropped.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: impl Fn() -> Health,
    shutdown: impl Future<Output = ()>,
) {
    let answer = |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &registry, &health);
        async move { Ok::<_, Infallible>(response) }
    };
    let mut connections = FuturesUnordered::new();
    // The oldest first; dropping one gives its connection up.
    let mut places = VecDeque::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            Some(()) = connections.next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (stays, given_up) = oneshot::channel::<()>();
                    places.retain(|place: &oneshot::Sender<()>| !place.is_closed());
                    if places.len() >= CONNECTIONS {
                        places.pop_front();
                    }
                    places.push_back(stays);
                    connections.push(async move {
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEADER)
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service_fn(answer));
                        // Who leaves, is too slow or does not speak HTTP has nothing to be told.
                        tokio::select! {
                            _ = timeout(LIFETIME, connection) => {}
                            _ = given_up => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the metrics listener can't accept");
                    tokio::time::sleep(BACKOFF).await;
                }
            },
        }
    }
}

fn respond(
    method: &Method,
    path: &str,
    registry: &Registry,
    health: impl Fn() -> Health,
) -> Response<Full<Bytes>> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    let (status, kind, body) = match path {
        "/metrics" | "/healthz" if !read => {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n");
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        "/metrics" => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", registry.render())
        }
        "/healthz" => {
            let (status, body) = health().answer();
            (status, "application/json", body.to_owned())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics or /healthz\n".to_owned()),
    };
    text(status, kind, body)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Health {
    fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Ok => (StatusCode::OK, "{\"status\":\"ok\"}\n"),
            Self::NotRecording => (
                StatusCode::SERVICE_UNAVAILABLE,
                "{\"status\":\"failing\",\"reason\":\"traffic records can't be written\"}\n",
            ),
            Self::NoPolicy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "{\"status\":\"failing\",\"reason\":\"no policy was ever loaded\"}\n",
            ),
        }
    }
}
