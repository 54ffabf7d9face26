//! HTTP towards the client: hyper serves, this decides what it may cost and when it ends.

use super::body::DownBody;
use super::carry::unless_cut;
use super::frames::Counted;
use super::gate::Connection;
use super::io::{ClientIo, LINGER_OTHER, LINGER_UPLOAD, Prefixed, Raw};
use super::live::End;
use super::open::OpenRecord;
use super::refuse::Refusal;
use super::request;
use super::rest::Noted;
use super::sandbox;
use super::target::Via;
use super::tunnel::{self, Next};
use crate::policy::{Code, Scheme};
use crate::record::Id;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The longest head, and so the largest read buffer: a 64 KiB path with fields beside it.
const HEAD: usize = 96 * 1024;

/// What an HTTP/2 client may send before any of it has gone up: bytes a stream, and bytes on all streams of
/// one of its sandbox's first connections and of a further one. `h2` ends a connection of which small
/// frames (a message each, in gRPC) take half as much beside their bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const WIDE_WINDOW: u32 = 16 * 1024 * 1024;
const NARROW_WINDOW: u32 = 1024 * 1024;

/// Streams that were reset before hyper has looked at them, all told; and frames for streams that are
/// gone, in the life of a connection. A client that stops many uploads or downloads comes to both.
const RESET_AT_ONCE: usize = 200;
const LATE: usize = 10_000;

/// How long an HTTP/2 client whose time is over has to take the last word.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves HTTP/1. What a CONNECT left to be done comes back, with the stream.
pub(crate) async fn http1(connection: Arc<Connection>, io: ClientIo) -> Option<(Next, Prefixed)> {
    let next = Pending::default();
    connection.head_due();
    let mut noted = Noted::new(io, connection.clone());
    while let Some(rests) = Box::pin(awake(&connection, noted, &next)).await {
        noted = rests.doze().await?;
    }
    if !connection.told() {
        record(&connection, &gone(), None);
    }
    let next = next.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (next, on): (Next, hyper::upgrade::OnUpgrade) = next?;
    let Ok(upgraded) = on.await else {
        tunnel::left(&connection, next);
        return None;
    };
    let parts = upgraded.downcast::<TokioIo<Noted>>().ok()?;
    let ClientIo::Plain(mut io) = parts.io.into_inner().into_io() else { return None };
    // What hyper read behind the head is what the client sent first in the tunnel.
    let mut prefix = bytes::BytesMut::from(&parts.read_buf[..]);
    prefix.unsplit(std::mem::take(&mut io.prefix));
    io.prefix = prefix;
    Some((next, io))
}

/// Serves until the connection ends, or rests: then its stream comes back, and all that serving
/// it took is given back.
async fn awake(connection: &Arc<Connection>, noted: Noted, next: &Pending) -> Option<Noted> {
    let service = {
        let (connection, next) = (connection.clone(), next.clone());
        hyper::service::service_fn(move |request| one(connection.clone(), request, next.clone()))
    };
    let mut http = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(noted), service)
        .with_upgrades();
    let (mut drained, mut idle) = (false, false);
    let ended = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Some(Ok(result)));
        }
        match connection.watch.live().poll_ended(cx) {
            Poll::Pending if connection.rests() => Poll::Ready(None),
            Poll::Ready(End::Drain) if drained => Poll::Pending,
            Poll::Ready(End::Drain) => {
                drained = true;
                Pin::new(&mut http).graceful_shutdown();
                let polled = Pin::new(&mut http).poll(cx);
                idle = polled.is_ready();
                polled.map(|result| Some(Ok(result)))
            }
            other => other.map(|end| Some(Err(end))),
        }
    })
    .await;
    match ended {
        None => {
            let parts = http.into_parts()?;
            return Some(parts.io.into_inner().with_first(parts.read_buf));
        }
        Some(Ok(result)) => {
            // Of a body, and of what could not be read, there may be more to come.
            let within = match &result {
                Err(error) if is_malformed(error) => Some(LINGER_OTHER),
                _ => connection.had_body().then_some(LINGER_UPLOAD),
            };
            if let Err(error) = result {
                unserved(connection, &error);
            }
            if let Some(within) = within.filter(|_| !idle)
                && let Some(parts) = http.into_parts()
            {
                let mut io = parts.io.into_inner();
                // Whichever ends it.
                let _ = unless_cut(connection.watch.live(), io.as_mut().linger(within)).await;
            }
        }
        Some(Err(End::Deadline)) if connection.in_head() => {
            if let Some(parts) = http.into_parts() {
                too_slow(connection, parts.io.into_inner()).await;
            }
        }
        Some(Err(_)) => {}
    }
    None
}

type Pending = Arc<Mutex<Option<(Next, hyper::upgrade::OnUpgrade)>>>;

async fn one(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
    next: Pending,
) -> Result<Response<DownBody>, Infallible> {
    let entrance = matches!(connection.via, Via::Forward);
    if entrance && *request.method() == Method::CONNECT && request.version() != Version::HTTP_2 {
        let on = hyper::upgrade::on(&mut request);
        let serving = connection.serving(!http_body::Body::is_end_stream(request.body()));
        let (response, then) = Box::pin(tunnel::connect(&connection, &request)).await;
        if let Some(then) = then {
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((then, on));
        }
        return Ok(response.map(|body| body.with(serving)));
    }
    request::serve(connection, request).await
}

/// Serves HTTP/2.
pub(crate) async fn http2(connection: Arc<Connection>, io: ClientIo) {
    let service = {
        let connection = connection.clone();
        hyper::service::service_fn(move |request| request::serve(connection.clone(), request))
    };
    connection.head_due();
    // Held as long as the connection is.
    let wide = connection.sandbox.wide(sandbox::End::Client);
    let window = if wide.is_some() { WIDE_WINDOW } else { NARROW_WINDOW };
    let mut http = hyper::server::conn::http2::Builder::new(connection.gate.tasks.clone())
        .max_concurrent_streams(128)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_send_buf_size(64 * 1024)
        .max_header_list_size(super::headers::HEADER_LIST_READ)
        .max_pending_accept_reset_streams(RESET_AT_ONCE)
        .max_local_error_reset_streams(LATE)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(Counted::new(io, connection.clone())), service);
    let mut drained = false;
    let ended = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Ok(result));
        }
        match connection.watch.live().poll_ended(cx) {
            Poll::Ready(End::Drain) if drained => Poll::Pending,
            // An idle connection is asked to go, a busy one finishes its streams.
            Poll::Ready(End::Drain) => {
                drained = true;
                Pin::new(&mut http).graceful_shutdown();
                Pin::new(&mut http).poll(cx).map(Ok)
            }
            other => other.map(Err),
        }
    })
    .await;
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => unserved(&connection, &error),
        Err(End::Deadline) => {
            if !connection.told() {
                let detail = "the first request did not come in time";
                record(&connection, &Refusal::unjudged(Code::HeaderTimeout, detail), None);
            }
            Pin::new(&mut http).graceful_shutdown();
            farewell(&connection, http).await;
        }
        Err(_) => {}
    }
    if !connection.told() {
        record(&connection, &gone(), None);
    }
}

/// Polls `http` after its GOAWAY (RFC 9113 §6.8) until the client has taken the last word, or its time
/// for that is over. A request that has crossed the GOAWAY is served to its end.
async fn farewell<T>(connection: &Connection, http: impl Future<Output = T>) {
    let (mut http, mut over) = (std::pin::pin!(http), std::pin::pin!(tokio::time::sleep(GOODBYE)));
    std::future::poll_fn(|cx| {
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let cut = match connection.watch.live().poll_cut(cx) {
            // What brought it here; a request has another one.
            Poll::Ready(End::Deadline) | Poll::Pending => false,
            Poll::Ready(_) => true,
        };
        let over = over.as_mut().poll(cx).is_ready();
        if cut || (over && !connection.is_serving()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// hyper ended the connection with an error of its own. Where no request had come of it, that is
/// the record of it.
fn unserved(connection: &Connection, error: &hyper::Error) {
    tracing::debug!(error = %super::carry::chain(error), "client connection ended");
    if error.is_incomplete_message() && connection.in_head() {
        record(connection, &gone(), None);
        return;
    }
    let http2 = std::error::Error::source(error).and_then(|e| e.downcast_ref::<h2::Error>());
    if let Some(error) = http2.filter(|error| !error.is_io()) {
        if let Some(refusal) = broke_http2(connection, error) {
            record(connection, &refusal, None);
        }
        return;
    }
    if !is_malformed(error) {
        return;
    }
    let code = if error.is_parse_too_large() { Code::HeadTooLarge } else { Code::MalformedHead };
    let status = match error.is_parse_too_large() {
        // The one sign by which hyper tells a target of over 64 KiB from fields of that size.
        true if error.to_string().contains("URI") => 414,
        true => 431,
        false => 400,
    };
    record(connection, &Refusal::unjudged(code, "the head is not HTTP"), Some(status));
}

/// Why an HTTP/2 connection was ended, where it was not the client who ended it.
fn broke_http2(connection: &Connection, error: &h2::Error) -> Option<Refusal> {
    if error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        let detail = format!("the connection costs too much: {error}");
        return Some(Refusal::unjudged(Code::TooManyRequests, detail));
    }
    let detail = match connection.told() {
        false => "the connection is not HTTP/2".to_owned(),
        true if error.is_library() => format!("the client broke HTTP/2: {error}"),
        true => return None,
    };
    Some(Refusal::unjudged(Code::MalformedHead, detail))
}

/// Whether hyper could not read what came, and said so with an answer of its own.
fn is_malformed(error: &hyper::Error) -> bool {
    error.is_parse() || error.is_parse_too_large() || error.is_parse_status()
}

pub(super) fn gone() -> Refusal {
    Refusal::unjudged(Code::ClientGone, "the client left before its request was whole")
}

/// Writes the record of a connection out of which no request came; its answer says the record's id.
pub(crate) fn record(connection: &Connection, refusal: &Refusal, status: Option<u16>) -> Id {
    connection.tell();
    let Ok(slot) = connection.sandbox.recorder().reserve() else {
        connection.gate.unrecorded();
        return Id::new(std::time::SystemTime::now());
    };
    let (scheme, authority) = match &connection.via {
        Via::Inside(inside) => (inside.scheme, Some(&inside.authority)),
        Via::Forward | Via::Transparent(_) => (Scheme::Http, None),
    };
    let name = connection.sandbox.name().clone();
    let mut open = OpenRecord::new(slot, name, connection.client.clone(), scheme);
    if let Some(authority) = authority {
        open.asks(authority);
    }
    let id = open.record().id;
    open.refuse(refusal, status);
    id
}

/// A head that did not come in time: it gets its 408, and its record.
async fn too_slow(connection: &Connection, mut noted: Noted) {
    let refusal = Refusal::unjudged(Code::HeaderTimeout, "the request head did not come in time");
    let id = record(connection, &refusal, Some(408));
    answer_raw(&mut noted, &refusal, id).await;
}

/// Writes a refusal where no request is being served, and ends the stream.
pub(crate) async fn answer_raw<W>(io: &mut W, refusal: &Refusal, id: Id)
where
    W: AsyncWrite + AsMut<Raw> + Unpin,
{
    let asker = super::refuse::Asker { id, target: None, method: None, path: None, binary: None };
    write_raw(io, &refusal.raw(&asker)).await;
}

/// Writes what a client is told, and ends the stream.
pub(crate) async fn write_raw<W>(io: &mut W, bytes: &[u8])
where
    W: AsyncWrite + AsMut<Raw> + Unpin,
{
    let write = async {
        io.write_all(bytes).await?;
        io.flush().await?;
        io.shutdown().await
    };
    let written = tokio::time::timeout(std::time::Duration::from_secs(1), write).await;
    if written.is_ok_and(|written| written.is_ok()) {
        io.as_mut().linger(LINGER_OTHER).await;
    }
}
