//! HTTP/1 towards the client: hyper serves, this decides what it may cost and when it ends.

use super::body::{ClientBody, DownBody};
use super::gate::Connection;
use super::io::{ClientIo, LINGER_OTHER, LINGER_UPLOAD, Prefixed, Raw};
use super::live::End;
use super::open::OpenRecord;
use super::refuse::Refusal;
use super::request;
use super::rest::Noted;
use super::target::Via;
use super::tunnel::{self, Next};
use super::unless::unless_cut;
use crate::policy::{Code, Scheme};
use crate::record::Id;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The longest head, and so the largest read buffer: a 64 KiB path with fields beside it.
const HEAD: usize = 96 * 1024;

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
            // hyper would close a connection that is to end with the answer it has written.
            Poll::Ready(End::Drain) if drained || connection.is_outlived() => Poll::Pending,
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
    let entrance = matches!(connection.via, Via::Forward(_));
    if entrance && *request.method() == Method::CONNECT && request.version() != Version::HTTP_2 {
        let on = hyper::upgrade::on(&mut request);
        let serving = connection.serving(!http_body::Body::is_end_stream(request.body()));
        let (response, then) = Box::pin(tunnel::connect(&connection, &request)).await;
        if let Some(then) = then {
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((then, on));
        }
        return Ok(response.map(|body| body.with(serving)));
    }
    Ok(request::serve(connection, request.map(ClientBody::Http1)).await)
}

/// hyper ended the connection with an error of its own. Where no request had come of it, that is
/// the record of it.
fn unserved(connection: &Connection, error: &hyper::Error) {
    tracing::debug!(error = %super::carry::chain(error), "client connection ended");
    if error.is_incomplete_message() && connection.in_head() {
        record(connection, &gone(), None);
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
        Via::Forward(_) | Via::Transparent(_) => (Scheme::Http, None),
    };
    let name = connection.sandbox.name().clone();
    let mut open = OpenRecord::new(slot, name, connection.client().clone(), scheme);
    let counted = connection.sandbox.counted(open.started());
    if let (Some(authority), Ok(())) = (authority, &counted) {
        open.asks(authority);
    }
    let id = open.record().id;
    match counted {
        // Nobody is told anything else.
        Err(too_many) if refusal.code == Code::ClientGone => open.refuse(&too_many, status),
        // Over the rate without its host, so that lines of one code are counted together.
        _ => open.refuse(refusal, status),
    }
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
