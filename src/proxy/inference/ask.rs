//! One provider is asked: permit, credential, connection, request, response head.

use super::super::body::{Pace, UpBody, Upload};
use super::super::carry::{Carrier, Unsent, Use, Versions, send};
use super::super::gate::Connection;
use super::super::refuse::Refusal;
use super::super::request::Exchange;
use super::super::scrub;
use super::super::subject::{Asked as Watched, Subject};
use super::super::target::host_value;
use super::Asked;
use crate::addr::{Authority, Shown};
use crate::inference::{Attempt, Operation, Provider, Route, Shape, Timeouts};
use crate::policy::{Code, ErrorKind, Permit, Scheme};
use crate::record::ModelCall;
use crate::secret::Watchlist;
use crate::upstream::http::Received;
use crate::upstream::http2::OnInterim;
use crate::vault::Held;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::sync::Arc;
use std::time::Duration;

/// How often a client that waits for its answer is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// Parts of a query that go up; a key in one (`?key=`) does not.
const QUERY: &[&str] = &[
    "alt",
    "after",
    "before",
    "beta",
    "include",
    "include[]",
    "include_obfuscation",
    "limit",
    "order",
    "starting_after",
    "stream",
];

/// A model in a path is one segment, whatever its name.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The version of Anthropic's API, where a client names none.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A provider's answer, as far as its head.
pub(super) struct Answered {
    pub(super) response: Response<Received>,
    pub(super) carrier: Carrier,
    pub(super) upload: Upload,
    /// The credential that went up.
    pub(super) held: Option<Arc<Held>>,
    /// What the answer must not show.
    pub(super) known: Option<Watchlist>,
}

/// What goes up, before it is known on which connection.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer.
pub(super) struct Unanswered {
    pub(super) refusal: Refusal,
    /// The provider did nothing with the call, so another may be asked.
    pub(super) untaken: bool,
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        // Nothing was asked yet where there was no connection.
        let unreached = [ErrorKind::UpstreamUnreachable, ErrorKind::UpstreamTls];
        let untaken = refusal.code.error().is_some_and(|kind| unreached.contains(&kind))
            || refusal.code == Code::ConnectTimeout;
        Self { refusal, untaken }
    }
}

impl Answered {
    /// Whether another provider may be asked instead: this one is busy and says until when, or
    /// fails.
    pub(super) fn is_busy(&self) -> bool {
        let status = self.response.status();
        let later = self.response.headers().contains_key(header::RETRY_AFTER);
        status.is_server_error() || (status == StatusCode::TOO_MANY_REQUESTS && later)
    }
}

/// Asks the provider of `attempt`.
pub(super) async fn ask(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    asked: &Asked<'_>,
    attempt: &Attempt<'_>,
) -> Result<Answered, Unanswered> {
    let outgoing = asked.outgoing(&exchange.head, attempt)?;
    let on = On { route: attempt.route, shape: asked.call.shape, timeouts: asked.timeouts() };
    on.send(exchange, connection, outgoing, attempt.model.clone()).await
}

impl Asked<'_> {
    fn timeouts(&self) -> Timeouts {
        self.routed.routes.timeouts
    }

    /// What goes up for `attempt`: the path and the model as the provider knows them.
    fn outgoing(
        &self,
        head: &http::request::Parts,
        attempt: &Attempt<'_>,
    ) -> Result<Outgoing, Refusal> {
        let provider = attempt.route.provider;
        let (path, body) = match (&self.call.operation, &self.body) {
            (Operation::Path { before, verb, .. }, Some(body)) => {
                let model = attempt.model.as_deref().unwrap_or_default();
                let path = format!("{before}{}{verb}", utf8_percent_encode(model, SEGMENT));
                (path, body.with_model_if_named(&format!("models/{model}")))
            }
            (_, Some(body)) => {
                let body = match &attempt.model {
                    Some(model) => body.with_model(model),
                    None => body.bytes(),
                };
                (self.line.path().to_owned(), body)
            }
            (_, None) => (self.line.path().to_owned(), Bytes::new()),
        };
        let mut path = provider.path(&attempt.route.endpoint, self.call.shape, &path);
        if let Some(query) = kept(self.line.query().unwrap_or_default())? {
            path = format!("{path}?{query}");
        }
        Ok(Outgoing {
            method: head.method.clone(),
            path: target(path)?,
            fields: {
                let mut fields = fields(provider, &head.headers);
                if self.body.is_some() {
                    // As it was read here: in another type, or another charset, it might name
                    // another model.
                    fields
                        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                }
                fields
            },
            body,
        })
    }
}

/// A path that was put together from parts that each were a path.
pub(super) fn target(path: String) -> Result<PathAndQuery, Refusal> {
    PathAndQuery::try_from(path)
        .map_err(|_| Refusal::unjudged(Code::BadTarget, "the target can't be forwarded"))
}

/// The part of a query that goes up. What an answer cost is read from JSON and from events of it.
fn kept(query: &str) -> Result<Option<String>, Refusal> {
    // SDKs write `include%5B%5D`.
    let name = |pair: &str| {
        percent_decode_str(pair.split('=').next().unwrap_or(pair)).decode_utf8_lossy().into_owned()
    };
    let goes = |pair: &&str| QUERY.contains(&&*name(pair));
    let pairs: Vec<&str> = query.split('&').filter(goes).collect();
    let strange = |pair: &&str| name(pair) == "alt" && !matches!(*pair, "alt=sse" | "alt=json");
    if pairs.iter().any(strange) {
        let detail = "answers come as JSON or as events of it: write alt=json or alt=sse";
        return Err(Refusal::unjudged(Code::BadModelCall, detail));
    }
    Ok((!pairs.is_empty()).then(|| pairs.join("&")))
}

/// The client's fields that `provider` gets.
pub(super) fn fields(provider: Provider, from: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in provider.fields() {
        let name = HeaderName::from_static(name);
        for value in from.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    let anthropic = matches!(provider, Provider::Anthropic | Provider::AnthropicCompatible);
    if anthropic && !fields.contains_key("anthropic-version") {
        fields.insert("anthropic-version", ANTHROPIC_VERSION);
    }
    fields
}

/// A provider that is being asked.
pub(super) struct On<'a> {
    pub(super) route: &'a Route,
    pub(super) shape: Shape,
    pub(super) timeouts: Timeouts,
}

impl On<'_> {
    fn scheme(&self) -> Scheme {
        if self.route.endpoint.tls { Scheme::Https } else { Scheme::Http }
    }

    /// Sends `outgoing` and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        exchange: &mut Exchange,
        connection: &Arc<Connection>,
        mut outgoing: Outgoing,
        model: Option<Arc<str>>,
    ) -> Result<Answered, Unanswered> {
        let known = self.known(connection);
        if known.is_some() {
            scrub::ask_plainly(&mut outgoing.fields);
        }
        let permit = self.permit(exchange, connection, model)?;
        let held = match &self.route.credential {
            Some(name) => Some(value(connection, name).await?),
            None => None,
        };
        let live = exchange.open.watch().expect("set with the permit").live().clone();
        let first_byte = self.timeouts.first_byte;
        // One for all tries: what goes up again counts once.
        let pace = Pace::new(live.clone(), connection.sandbox.clone(), false, first_byte);
        let upload = Upload::of(&pace, connection);
        let heard = pace.clone();
        let interim = OnInterim::new(move |_, _| heard.hear());
        let mut before = Vec::new();
        loop {
            let way = before.last().copied().unwrap_or(Use::Any);
            let mut carrier = self.carrier(exchange, connection, &permit, way).await?;
            let outbound = self.outbound(&outgoing, &carrier, (held.as_deref(), &pace))?;
            exchange.leaves(first_byte)?;
            let sending = send(&mut carrier, outbound, &live, (Some(&*pace), Some(&interim)));
            let sending = exchange.open.journalled(&live, sending);
            match look_after(connection, sending).await {
                Ok(response) => {
                    refused(connection, self.route, (held.as_ref(), &response));
                    return Ok(Answered { response, carrier, upload, held, known });
                }
                Err(Unsent::Refused(refusal)) => return Err(refusal.into()),
                Err(Unsent::Failed(failed)) => {
                    if failed.http1 {
                        // The next call goes up as the provider wants it.
                        connection.gate.require_http1(&self.route.endpoint.authority);
                    }
                    // Not a byte of it was written, or the provider did nothing with it.
                    let untaken = failed.unsent.is_some() || (failed.unprocessed && !pace.heard());
                    let Some(next) = failed.way(&before).filter(|_| untaken) else {
                        return Err(Unanswered { refusal: failed.refusal, untaken });
                    };
                    before.push(next);
                }
            }
        }
    }

    /// What answers are searched for: every value that the gateway knows, where any request may bring one to
    /// this host.
    fn known(&self, connection: &Connection) -> Option<Watchlist> {
        let host = &self.route.endpoint.authority.host;
        let bound = || connection.sandbox.injector().is_some_and(|i| i.scrubs(host));
        let scrubs = self.route.credential.is_some() || bound();
        scrubs.then(|| connection.gate.vault.watchlist())
    }

    /// The permit of the route, noted, and the exchange on the wheel under it.
    fn permit(
        &self,
        exchange: &mut Exchange,
        connection: &Connection,
        model: Option<Arc<str>>,
    ) -> Result<Permit, Refusal> {
        let rules = connection.sandbox.rules();
        let name = &self.route.name;
        let permit = connection.sandbox.calls().permit(name, rules.epoch).ok_or_else(|| {
            let detail = "the route is gone";
            Refusal::unjudged(Code::PolicyChanged, detail)
        })?;
        exchange.open.permitted(&permit, rules.policy.id(), Duration::ZERO);
        exchange.open.record().call = Some(Box::new(ModelCall {
            route: name.clone(),
            model,
            credential: self.route.credential.clone(),
            tokens: None,
            ttft: None,
        }));
        let subject = Subject {
            client: connection.client().clone(),
            scheme: self.scheme(),
            target: permit.target().clone(),
            asked: Watched::Route(name.clone()),
            answered: None,
        };
        let wheel = &connection.worker.wheel;
        let watch = wheel.judged(connection.sandbox.clone(), subject, permit.epoch());
        watch.in_all(exchange.open.started(), connection.gate.settings.timeouts.total);
        watch.carried_by(&connection.watch);
        exchange.open.set_watch(watch);
        Ok(permit)
    }

    async fn carrier(
        &self,
        exchange: &mut Exchange,
        connection: &Connection,
        permit: &Permit,
        way: Use,
    ) -> Result<Carrier, Refusal> {
        let http1 = connection.gate.requires_http1(&self.route.endpoint.authority);
        let versions = match self.route.endpoint.tls && !http1 {
            true => Versions::Http2,
            false => Versions::Http1,
        };
        let kind = (self.scheme(), versions);
        let carrier = connection.carrier(permit, &mut exchange.open, kind, way);
        let carrier = tokio::time::timeout(self.timeouts.connect, carrier).await;
        let carrier = carrier.unwrap_or_else(|_| {
            let detail = "the provider did not take the connection in time";
            Err(Refusal::unjudged(Code::ConnectTimeout, detail))
        })?;
        if carrier.absolute && self.route.credential.is_some() {
            let detail = "the way to the provider leads through a parent proxy in the clear; the \
                          operator has to add it to upstream.proxy.no_proxy";
            return Err(Refusal::unjudged(Code::CredentialUnavailable, detail));
        }
        Ok(carrier)
    }

    /// The request for the connection it goes out on. The key enters here, and nowhere before.
    fn outbound(
        &self,
        outgoing: &Outgoing,
        carrier: &Carrier,
        (held, pace): (Option<&Held>, &Arc<Pace>),
    ) -> Result<Request<UpBody>, Refusal> {
        let body = UpBody::whole(outgoing.body.clone(), Some(pace.clone()));
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method.clone();
        *request.headers_mut() = outgoing.fields.clone();
        let authority = &self.route.endpoint.authority;
        let host = host_value(authority, self.scheme());
        let http2 = carrier.is_http2();
        *request.uri_mut() = self.uri(&outgoing.path, http2 || carrier.absolute, authority)?;
        if http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            request.headers_mut().insert(header::HOST, host);
        }
        if let Some(held) = held {
            let (name, before) = self.route.provider.key_field(self.shape);
            let value = held.secret().formatted(&format!("{before}{{}}"));
            let mut value = HeaderValue::from_str(&value).map_err(|_| no_value(self.route))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    fn uri(&self, path: &PathAndQuery, whole: bool, authority: &Authority) -> Result<Uri, Refusal> {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path.clone());
        if whole {
            parts.scheme = Some(match self.scheme() {
                Scheme::Https => http::uri::Scheme::HTTPS,
                Scheme::Http | Scheme::Tcp => http::uri::Scheme::HTTP,
            });
            let host = host_value(authority, self.scheme());
            parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
        }
        Uri::from_parts(parts)
            .map_err(|_| Refusal::unjudged(Code::BadTarget, "the target can't be forwarded"))
    }
}

/// The value of a credential, for one use of it.
async fn value(connection: &Connection, name: &Arc<str>) -> Result<Arc<Held>, Refusal> {
    let shown = Shown::new(name);
    let unavailable = || {
        let detail = format!("the credential `{shown}` has no value; its operator has to see why");
        Refusal::unjudged(Code::CredentialUnavailable, detail)
    };
    let credential = connection.gate.vault.find(name).ok_or_else(unavailable)?;
    credential.value().await.map_err(|error| {
        tracing::warn!(%error, "a model call has no key");
        unavailable()
    })
}

fn no_value(route: &Route) -> Refusal {
    let name = route.credential.as_deref().unwrap_or_default();
    let detail = format!("the credential `{}` can't be a field's value", Shown::new(name));
    Refusal::unjudged(Code::CredentialUnavailable, detail)
}

/// A provider that refuses the key has it read again before the next use of it.
fn refused(
    connection: &Connection,
    route: &Route,
    (held, response): (Option<&Arc<Held>>, &Response<Received>),
) {
    if response.status() == StatusCode::UNAUTHORIZED
        && let (Some(held), Some(name)) = (held, &route.credential)
        && let Some(credential) = connection.gate.vault.find(name)
    {
        credential.refused(held);
    }
}

/// Masks what is known in an answer's fields; what says how long the body is goes, because a mask may
/// be longer or shorter than a value.
pub(super) fn scrub_fields(fields: &mut HeaderMap, known: &Watchlist) {
    scrub::fields(fields, &known.needles());
    fields.remove(header::CONTENT_LENGTH);
}

/// Awaits `sending` while the client's socket is looked at: who leaves before the first byte takes
/// the request back.
async fn look_after<F>(connection: &Connection, sending: F) -> Result<Response<Received>, Unsent>
where
    F: Future<Output = Result<Response<Received>, Unsent>>,
{
    let _looked_after = connection.phase.look_after();
    let mut look = tokio::time::interval(LOOK);
    let mut sending = std::pin::pin!(sending);
    loop {
        tokio::select! {
            sent = &mut sending => return sent,
            // Whoever serves the connection looks at its socket when this is polled.
            _ = look.tick() => {
                if connection.phase.left() {
                    let gone = Refusal::unjudged(Code::ClientGone, "the client left");
                    return Err(Unsent::Refused(gone));
                }
            }
        }
    }
}
