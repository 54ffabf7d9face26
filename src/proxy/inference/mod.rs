//! `inference.local`: a host of the gateway's own, on http and https, where models are asked.
//!
//! ```text
//! mod       what is asked → who is asked, within the budget → the first that answers
//! ask       one provider: permit → credential → connection → response head
//! listing   the models that may be used
//! probe     real requests of the gateway's own, to say what works
//! calls     a sandbox's routes, its accounts, what it asked for later
//! account   one call's entry in the accounts
//! tee       an answer on its way: counted, scrubbed of the credential, otherwise as it came
//! ```
//!
//! It is the same road as every other request's: one permit (I1), from the operator's route
//! instead of a policy; pinned and guarded (I2); one record (I5); judged again when the routes
//! change (I7). The name is never resolved. A credential enters after the permit (I4).

mod account;
mod ask;
mod calls;
mod listing;
mod probe;
mod tee;

pub(crate) use calls::rooms;
pub use calls::{Calls, Changed, Spending};
pub use probe::{Probed, probe};
pub(crate) use tee::Tee;

use super::body::{DownBody, Streaming};
use super::gate::Connection;
use super::headers;
use super::judged::{self, Ungathered};
use super::refuse::{Form, Refusal};
use super::request::{self, Exchange};
use super::respond;
use super::scrub;
use crate::addr::Host;
use crate::inference::{
    Attempt, Body, BodyError, Call, HOST, Meter, Operation, Route, RouteError, SERVED, Shape,
    Spent, recognise,
};
use crate::policy::{Code, ErrorKind};
use crate::record::Judged;
use account::Account;
use ask::{Answered, Unanswered};
use bytes::Bytes;
use calls::Routed;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Version};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The largest body of a call that is read, in bytes: what the providers take at most.
const LARGEST: usize = 32 << 20;

/// When what is left of a budget may be free again: nobody knows how long calls take.
const HELD: Duration = Duration::from_secs(5);

/// Fields of an answer that say whose account it is, or belong to the provider's site.
static NOT_THE_CLIENTS: [HeaderName; 4] = [
    header::SET_COOKIE,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("anthropic-organization-id"),
];

/// A call, understood and read.
pub(super) struct Asked<'a> {
    pub(super) routed: Arc<Routed>,
    pub(super) call: Call<'a>,
    /// Its request line, canonical.
    pub(super) line: &'a PathAndQuery,
    pub(super) body: Option<Body>,
}

/// Whether this is the host where models are asked.
pub(crate) fn is_host(host: &Host) -> bool {
    matches!(host, Host::Name(name) if name.as_str() == HOST)
}

/// Serves one request to it. Every way out is an answer in the shape that the caller's SDK parses.
pub(super) async fn serve(
    mut exchange: Box<Exchange>,
    connection: &Arc<Connection>,
) -> Response<DownBody> {
    let line = exchange.open.record().target.clone().unwrap_or(PathAndQuery::from_static("/"));
    let call = recognise(&exchange.head.method, line.path(), &exchange.head.headers)
        .filter(|_| exchange.upgrade.is_none());
    let shape = match &call {
        Some(call) => call.shape,
        None => Shape::of(line.path(), &exchange.head.headers),
    };
    match answer(&mut exchange, connection, call, &line).await {
        Ok(response) => response,
        Err(refusal) => {
            let Exchange { body, target, open, framing, .. } = *exchange;
            let refusal =
                if framing.expects { refusal } else { request::skip(body, refusal).await };
            request::refuse(open, Some(&target.authority), &refusal, &Form::Model(shape))
        }
    }
}

async fn answer(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    call: Option<Call<'_>>,
    line: &PathAndQuery,
) -> Result<Response<DownBody>, Refusal> {
    let Some(routed) = connection.sandbox.calls().routed() else {
        let name = connection.sandbox.name();
        let detail = format!(
            "no model may be asked from the sandbox {name}: the operator has to set \
             sandboxes.{name}.inference, or start the gateway with --inference PROVIDER"
        );
        return Err(Refusal::unjudged(Code::NotServed, detail));
    };
    let Some(call) = call else {
        let served = SERVED.join("; ");
        let detail = format!("{HOST} does not serve this; it serves: {served}");
        return Err(Refusal::unjudged(Code::NotServed, detail));
    };
    if let Operation::Models { one } = &call.operation {
        return listing::answer(exchange, connection, (&routed, call.shape), one.as_deref()).await;
    }
    // The room that the body takes, until its answer begins.
    let (body, _room) = match call.operation {
        Operation::Body(_) | Operation::Path { .. } => {
            let (body, room) = read(exchange, connection, call.shape).await?;
            (Some(body), room)
        }
        Operation::Kept { .. } | Operation::Models { .. } => (None, None),
    };
    let asked = Asked { routed, call, line, body };
    let attempts = asked.plan(connection)?;
    let account = Account::open(&connection.sandbox, &asked.call, asked.body.as_ref())?;
    first_answer(exchange, connection, &asked, (&attempts, account)).await
}

/// Reads the body: the model stands in it, or it goes to several providers in turn.
async fn read(
    exchange: &mut Exchange,
    connection: &Connection,
    shape: Shape,
) -> Result<(Body, Option<OwnedSemaphorePermit>), Refusal> {
    if !scrub::coding(&exchange.head.headers).is_ok_and(scrub::Coding::is_identity) {
        let detail = "the body is compressed, so its model can't be read: send it as it is";
        return Err(Refusal::unjudged(Code::BadModelCall, detail));
    }
    let limit = connection.sandbox.settings().limits.request_body;
    let limit = limit.and_then(|n| usize::try_from(n).ok()).map_or(LARGEST, |n| n.min(LARGEST));
    let Some(incoming) = exchange.body.take() else {
        return Err(Refusal::unjudged(Code::BadModelCall, BodyError::NotAnObject.to_string()));
    };
    let within = connection.gate.settings.timeouts.first_byte;
    let calls = connection.sandbox.calls();
    let mut room = judged::room(calls, &incoming, (limit, within)).await?;
    let bytes = match tokio::time::timeout(within, judged::gather(incoming, limit)).await {
        Err(_) => {
            let detail = "the body did not come in time";
            return Err(Refusal::unjudged(Code::BodyTimeout, detail).closing());
        }
        Ok(Err(Ungathered::TooLong)) => {
            let detail = format!("the body has more than {limit} bytes");
            return Err(Refusal::unjudged(Code::ModelCallTooLarge, detail).closing());
        }
        Ok(Err(Ungathered::Broken(refusal))) => return Err(refusal),
        Ok(Ok(bytes)) => bytes,
    };
    judged::fit(&mut room, bytes.len());
    let body = Body::read(bytes, shape).map_err(|error| {
        // It was read to its end: the connection can be kept.
        let refusal = Refusal::unjudged(Code::BadModelCall, error.to_string());
        Refusal { close: false, ..refusal }
    })?;
    Ok((body, room))
}

impl Asked<'_> {
    /// Who is asked, in order.
    fn plan(&self, connection: &Connection) -> Result<Vec<Attempt<'_>>, Refusal> {
        let routes = &self.routed.routes;
        let model = match &self.call.operation {
            Operation::Path { model, .. } => Some(&**model),
            Operation::Body(_) => self.body.as_ref().and_then(Body::model),
            Operation::Kept { id } => {
                let route = self.maker(connection, id)?;
                return Ok(vec![Attempt { route, model: None }]);
            }
            Operation::Models { .. } => None,
        };
        let mut attempts = routes.plan(self.call.shape, model)?;
        if let Some(id) = self.body.as_ref().and_then(Body::follows) {
            // It goes on where it was, or not at all.
            let maker = self.maker(connection, id)?;
            attempts.retain(|attempt| attempt.route.name == maker.name);
            if attempts.is_empty() {
                let maker = &maker.name;
                let detail = format!(
                    "the response before this one was made by the route {maker}, which does not \
                     take this model"
                );
                return Err(Refusal { close: false, ..Refusal::unjudged(Code::NotServed, detail) });
            }
        }
        Ok(attempts)
    }

    /// The route that made a response. One that this sandbox did not make is nobody's: it may be
    /// another sandbox's, paid with the same key.
    fn maker(&self, connection: &Connection, id: &str) -> Result<&Route, Refusal> {
        let made_by = connection.sandbox.calls().made_by(id);
        let found =
            self.routed.routes.keepers().find(|route| made_by.as_ref() == Some(&route.name));
        found.ok_or_else(|| {
            let detail = "no response of this id was made by this sandbox, or its route is gone";
            Refusal { close: false, ..Refusal::unjudged(Code::NotServed, detail) }
        })
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        let code = match &error {
            RouteError::NoRoute { .. } => Code::ModelUnknown,
            RouteError::WrongShape { .. } => Code::WrongShape,
            RouteError::NotAllowed { .. } => Code::ModelNotAllowed,
        };
        Self::unjudged(code, error.to_string())
    }
}

impl From<Spent> for Refusal {
    fn from(spent: Spent) -> Self {
        let (code, wait) = match spent {
            Spent::Tokens { wait, .. } => (Code::TokenBudget, wait),
            Spent::Held { .. } => (Code::TokensHeld, HELD),
            Spent::Requests { wait, .. } => (Code::CallBudget, wait),
        };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let wait = u32::try_from(seconds).ok().and_then(NonZeroU32::new);
        Self { wait, ..Self::unjudged(code, spent.to_string()) }
    }
}

/// Asks one after the other until one answers. Once a byte of an answer has come, nobody else is
/// asked.
async fn first_answer(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    asked: &Asked<'_>,
    (attempts, mut account): (&[Attempt<'_>], Account),
) -> Result<Response<DownBody>, Refusal> {
    let calls = connection.sandbox.calls();
    let mut rest = attempts.iter();
    while let Some(attempt) = rest.next() {
        let last = rest.len() == 0;
        let route = &attempt.route.name;
        account.on(route, attempt.model.as_ref());
        let came = ask::ask(exchange, connection, asked, attempt).await;
        if let Some(why) = trouble(&came) {
            calls.error(route, &why);
        }
        match came {
            Ok(answered) if !last && answered.is_busy() => {
                let status = answered.response.status().as_u16();
                tracing::info!(%route, status, "a provider is busy or fails: the next is asked");
            }
            Ok(answered) => {
                let came = respond(exchange, asked, answered, account).await;
                return came.inspect_err(|refusal| calls.error(route, &refusal.detail));
            }
            Err(Unanswered { refusal, untaken: true }) if !last => {
                let why = &refusal.detail;
                tracing::info!(%route, %why, "a provider did not take the call: the next is asked");
            }
            Err(Unanswered { refusal, untaken }) => {
                // What went up is paid for, whatever became of it: that is for the account to see to.
                if untaken || !exchange.open.record().sent {
                    account.failed();
                } else if refusal.code.error() == Some(ErrorKind::UpstreamTimeout) {
                    account.late();
                }
                return Err(refusal);
            }
        }
    }
    let detail = "no provider was left to ask";
    Err(Refusal::unjudged(Code::ConnectFailed, detail))
}

/// Why what came is no answer that a model made, where that is the route's doing.
fn trouble(came: &Result<Answered, Unanswered>) -> Option<String> {
    match came {
        Ok(answered) => {
            let status = answered.response.status();
            (!status.is_success() && !by_the_client(status))
                .then(|| format!("the provider answered {status}"))
        }
        Err(Unanswered { refusal, .. }) if refusal.code == Code::ClientGone => None,
        Err(Unanswered { refusal, .. }) => Some(refusal.detail.clone()),
    }
}

/// Whether a status says that the client asked wrongly.
fn by_the_client(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// A provider's answer as the client gets it.
async fn respond(
    exchange: &mut Exchange,
    asked: &Asked<'_>,
    answered: Answered,
    account: Account,
) -> Result<Response<DownBody>, Refusal> {
    let Answered { response, carrier, upload, held, known } = answered;
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS || !headers::decoded(&head.headers) {
        let detail = "the provider's answer is not a plain HTTP response";
        return Err(Refusal::unjudged(Code::UpstreamProtocol, detail));
    }
    let plain = scrub::coding(&head.headers).is_ok_and(scrub::Coding::is_identity);
    if known.is_some() && !plain {
        let detail = "the provider's answer is compressed without having been asked to be";
        return Err(Refusal::unjudged(Code::UpstreamProtocol, detail));
    }
    headers::clean_response(&mut head.headers);
    respond::one_length(&mut head)?;
    for name in &NOT_THE_CLIENTS {
        head.headers.remove(name);
    }
    if let Some(known) = &known {
        ask::scrub_fields(&mut head.headers, known);
    }
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    let bytes = asked.body.as_ref().map_or(0, Body::len) as u64;
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let metered = account.metered(bytes).filter(|_| head.status.is_success());
    let meter = metered.map(|metered| Meter::new(kind, metered));
    let tee = Tee::new(meter, (known, held), (account, exchange.open.started()));
    let timeouts = &asked.routed.routes.timeouts;
    let mut streaming = Box::new(Streaming {
        body: scrub::Answer::plain(body),
        first: None,
        broken: None,
        open: None,
        lease: Some(carrier.lease),
        upload: Some(upload),
        idle: timeouts.idle,
        tee: Some(Box::new(tee)),
        trailers: false,
        done: false,
    });
    let length = http_body::Body::size_hint(&streaming.body).exact();
    if length.is_some_and(|n| n <= respond::AHEAD && n > 0) {
        respond::ahead(&mut streaming).await;
    }
    let started = exchange.open.started();
    let record = exchange.open.record();
    record.status = Some(head.status.as_u16());
    record.ms.first_byte = Some(started.elapsed());
    if let Some(watch) = exchange.open.watch() {
        watch.due(timeouts.idle);
    }
    streaming.open = Some(exchange.open.take());
    Ok(Response::from_parts(head, DownBody::stream(streaming)))
}

/// An answer of the gateway's own, with its record.
fn own_answer(exchange: &mut Exchange, body: &serde_json::Value) -> Response<DownBody> {
    let bytes = Bytes::from(body.to_string());
    let mut open = exchange.open.take();
    let record = open.record();
    record.status = Some(200);
    record.download = bytes.len() as u64;
    if record.verdict == Judged::None {
        record.verdict = Judged::Allow;
        record.code = Code::Allowed;
    }
    open.close(crate::record::Outcome::Passed);
    let mut response = Response::new(DownBody::whole(bytes));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
