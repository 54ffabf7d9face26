//! WebSockets: RFC 6455 from an HTTP/1.1 client, RFC 8441 from an HTTP/2 one; HTTP/1.1 upstream.
//!
//! Raw relay starts only after the origin's 101 whose `Upgrade` and `Sec-WebSocket-Accept` match.
//! Where the rules judge messages, each text message is judged before it leaves.

use super::body::{ClientBody, DownBody, UpBody};
use super::carry::{Unsent, Use, Versions, send};
use super::gate::{Connection, Serving};
use super::headers;
use super::http2::Stream;
use super::inject::Plan;
use super::messages::{self, Judge};
use super::open::OpenRecord;
use super::refuse::{Form, Refusal};
use super::request::Exchange;
use super::scrub;
use super::websocket::accept_for;
use crate::policy::{Code, Permit};
use crate::secret::Watchlist;
use crate::upstream::http::Received;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A client's WebSocket handshake.
pub(crate) enum Handshake {
    /// In HTTP/1.1.
    Http1(OnUpgrade),
    /// In HTTP/2 (RFC 8441).
    Http2(Arc<Stream>),
}

impl Handshake {
    /// The handshake in `request`, if it is one. An extended CONNECT for another protocol is
    /// refused.
    pub(crate) fn of(request: &mut Request<ClientBody>) -> Result<Option<Self>, Refusal> {
        if headers::is_websocket(request.method(), request.version(), request.headers()) {
            return Ok(Some(Self::Http1(hyper::upgrade::on(request))));
        }
        if request.version() != Version::HTTP_2 || *request.method() != Method::CONNECT {
            return Ok(None);
        }
        let Some(stream) = request.body().stream() else { return Ok(None) };
        match stream.protocol() {
            None => Ok(None),
            Some("websocket") => Ok(Some(Self::Http2(stream.clone()))),
            Some(_) => Err(Refusal::unjudged(
                Code::MethodRefused,
                "an extended CONNECT is forwarded for `websocket` only",
            )),
        }
    }
}

fn refuse(exchange: Exchange, refusal: &Refusal) -> Response<DownBody> {
    let response =
        refusal.response(&exchange.open.asker(Some(&exchange.target.authority)), &Form::Problem);
    let status = response.status().as_u16();
    exchange.open.refuse(refusal, Some(status));
    response
}

/// Carries a handshake upstream and, when the origin agrees, relays what follows.
pub(crate) async fn forward(
    mut exchange: Exchange,
    connection: &Arc<Connection>,
    (permit, plan): (Permit, Option<Plan>),
    handshake: Handshake,
) -> Response<DownBody> {
    let judged = exchange.open.record().verdict;
    exchange.open.record().websocket = true;
    match shake(&mut exchange, connection, (&permit, plan.as_ref())).await {
        Ok((Answer::Switched(response), key)) => match agreed(&response, &key) {
            Ok(()) => switch(exchange, connection, (&permit, plan), (handshake, response)),
            Err(refusal) => refuse(exchange, &refusal.allowed(judged, permit.rule())),
        },
        Ok((Answer::Declined(response), _)) => {
            let answer = declined(&mut exchange, connection, (response, &handshake), plan.as_ref());
            match answer.await {
                Ok(answer) => answer,
                Err(refusal) => refuse(exchange, &refusal.allowed(judged, permit.rule())),
            }
        }
        Err(refusal) => refuse(exchange, &refusal.allowed(judged, permit.rule())),
    }
}

/// A WebSocket that is agreed on.
struct Relayed {
    open: OpenRecord,
    judge: Option<Judge>,
    known: Option<Watchlist>,
    idle: Duration,
    /// How long both ends may take to switch.
    grace: Duration,
}

enum Answer {
    Switched(Response<Received>),
    Declined(Response<Received>),
}

async fn shake(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    (permit, plan): (&Permit, Option<&Plan>),
) -> Result<(Answer, HeaderValue), Refusal> {
    let http1 = (exchange.target.scheme, Versions::Http1);
    let mut carrier = connection.carrier(permit, &mut exchange.open, http1, Use::Upgrade).await?;
    if carrier.is_http2() {
        let detail = "the origin speaks HTTP/2 alone, and WebSockets are carried over HTTP/1.1";
        return Err(Refusal::unjudged(Code::UpstreamProtocol, detail));
    }
    let live = exchange.open.watch().expect("set when it was judged").live().clone();
    let mut head = Request::new(()).into_parts().0;
    let path = exchange.open.record().target.clone();
    head.uri = path.map_or_else(Default::default, http::Uri::from);
    let fields = &mut exchange.head.headers;
    let key = match fields.get("sec-websocket-key") {
        Some(key) => key.clone(),
        None => fresh_key(),
    };
    headers::clean_request(fields, false);
    head.headers = std::mem::take(fields);
    head.headers.insert(header::HOST, exchange.target.host.clone());
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    head.headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    head.headers.insert("sec-websocket-key", key.clone());
    let scrubs = plan.is_some_and(|plan| plan.needles().is_some());
    if permit.judges_messages() || scrubs || plan.is_some_and(Plan::fills_messages) {
        // A compressed message could not be judged, nor looked through.
        head.headers.remove("sec-websocket-extensions");
    }
    if let Some(plan) = plan {
        carrier.fits(plan)?;
        head = plan.inject(permit, head, std::time::SystemTime::now())?.head;
    }
    let outbound = Request::from_parts(head, UpBody::whole(Bytes::new(), None));
    exchange.leaves(connection.gate.settings.timeouts.first_byte)?;
    let response = match send(&mut carrier, outbound, &live, (None, None)).await {
        Ok(response) => response,
        Err(Unsent::Refused(refusal)) => return Err(refusal),
        Err(Unsent::Failed(failed)) => return Err(failed.refusal),
    };
    let started = exchange.open.started();
    exchange.open.record().ms.first_byte = Some(started.elapsed());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        Ok((Answer::Switched(response), key))
    } else {
        Ok((Answer::Declined(response), key))
    }
}

fn fresh_key() -> HeaderValue {
    use base64::Engine;
    let random = crate::record::Id::new(std::time::SystemTime::now()).0.to_be_bytes();
    let key = base64::engine::general_purpose::STANDARD.encode(random);
    HeaderValue::try_from(key).expect("base64 is a field value")
}

fn agreed(response: &Response<Received>, key: &HeaderValue) -> Result<(), Refusal> {
    let fields = response.headers();
    let websocket = headers::lists(fields, &header::UPGRADE, "websocket");
    let accept = accept_for(key.to_str().unwrap_or_default());
    let accepts =
        fields.get("sec-websocket-accept").is_some_and(|v| v.as_bytes() == accept.as_bytes());
    if websocket && accepts {
        return Ok(());
    }
    Err(Refusal::unjudged(Code::BadUpgrade, "the origin's 101 does not answer the handshake"))
}

fn switch(
    exchange: Exchange,
    connection: &Arc<Connection>,
    (permit, plan): (&Permit, Option<Plan>),
    (handshake, mut response): (Handshake, Response<Received>),
) -> Response<DownBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let mut fields = std::mem::take(response.headers_mut());
    let accept = fields.get("sec-websocket-accept").cloned();
    headers::clean_response(&mut fields);
    // It is about bytes that do not follow (RFC 9110 §8.6).
    fields.remove(header::CONTENT_LENGTH);
    if let Some(needles) = plan.as_ref().and_then(Plan::needles) {
        scrub::fields(&mut fields, &needles.needles());
    }
    let mut answer = Response::new(DownBody::empty());
    if matches!(handshake, Handshake::Http2(_)) {
        fields.remove("sec-websocket-accept");
        *answer.status_mut() = StatusCode::OK;
    } else {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Some(accept) = accept {
            fields.insert("sec-websocket-accept", accept);
        }
    }
    let protocol =
        fields.get("sec-websocket-protocol").and_then(|v| v.to_str().ok()).map(str::to_owned);
    *answer.headers_mut() = fields;
    let mut open = exchange.open;
    if let Some(watch) = open.watch() {
        // The request is over; what follows has no end of its own.
        watch.in_all(open.started(), None);
    }
    open.record().status = Some(answer.status().as_u16());
    let needles = plan.as_ref().and_then(Plan::needles).cloned();
    let messages = plan.and_then(Plan::into_messages);
    let judge = (permit.judges_messages() || messages.is_some()).then(|| {
        Judge::new(connection, &exchange.target, &mut open, protocol)
            .filling(permit.judges_messages(), messages)
    });
    let idle = connection.gate.settings.timeouts.idle;
    let grace = connection.gate.settings.timeouts.header;
    // The answer to the handshake is over at once; the connection serves until the relay ends.
    let serving = connection.serving(false);
    let relayed = Relayed { open, judge, known: needles, idle, grace };
    match handshake {
        Handshake::Http1(on) => {
            let client = async { Some(TokioIo::new(on.await.ok()?)) };
            connection.gate.tasks.spawn(relay((client, upstream), relayed, serving));
        }
        Handshake::Http2(stream) => {
            let socket = stream.socket();
            let client = async { socket.await.ok() };
            connection.gate.tasks.spawn(relay((client, upstream), relayed, serving));
        }
    }
    answer
}

/// Relays when both ends have switched.
async fn relay<C: AsyncRead + AsyncWrite + Send>(
    (client, origin): (impl Future<Output = Option<C>>, OnUpgrade),
    relayed: Relayed,
    serving: Serving,
) {
    let Relayed { open, judge, known, idle, grace } = relayed;
    let both = async { tokio::join!(client, origin) };
    match tokio::time::timeout(grace, both).await {
        Ok((Some(client), Ok(origin))) => {
            let both = (client, TokioIo::new(origin));
            messages::relay(both, open, (judge, known), idle).await;
        }
        Ok((Some(_), Err(_))) => open.fail(Code::UpstreamClosed),
        Ok((None, _)) | Err(_) => open.fail(Code::ClientGone),
    }
    drop(serving);
}

/// The origin answered the handshake with an ordinary response: it goes to the client as any does.
async fn declined(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    (response, handshake): (Response<Received>, &Handshake),
    plan: Option<&Plan>,
) -> Result<Response<DownBody>, Refusal> {
    if matches!(handshake, Handshake::Http2(_)) && response.status().is_success() {
        // Over HTTP/2 it would say that the WebSocket is open (RFC 8441 §5).
        let detail = format!("the origin answered the handshake with {}", response.status());
        return Err(Refusal::unjudged(Code::BadUpgrade, detail));
    }
    exchange.respond(connection, response, (None, None), plan).await
}
