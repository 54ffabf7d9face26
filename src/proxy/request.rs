//! The one road of a request: head → target → intent → verdict → origin → response.
//!
//! Every entrance ends here. There is one place where a request is let through, and it needs a
//! `Permit` (I1); every other way out of this file is a refusal with a record (I5).

use super::again::Tried;
use super::body::{ClientBody, DownBody, Pace, Peeked, UpBody, Upload};
use super::carry::{CONTINUE_WITHIN, Carrier, Unsent, Use, Versions, cut, send};
use super::gate::Connection;
use super::headers::{self, Framing};
use super::http2::Stream;
use super::inference;
use super::inject::Plan;
use super::interim::Awaited;
use super::judged::JudgedBody;
use super::live::Live;
use super::local;
use super::open::OpenRecord;
use super::refuse::{Form, Refusal};
use super::target::{Target, canonical};
use super::upgrade;
use crate::policy::{Code, Permit, Scheme};
use crate::record::Judged;
use crate::upstream::http::{self as upstream, Received};
use crate::upstream::http2::OnInterim;
use http::header;
use http::{Method, Request, Response, Version};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// The largest part of a refused request's body that is read for the sake of the connection.
const SKIP: usize = 64 * 1024;

/// A request on its way, after its head was understood.
pub(crate) struct Exchange {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Option<ClientBody>,
    /// The stream that it came on, where its client speaks HTTP/2.
    pub(crate) stream: Option<Arc<Stream>>,
    pub(crate) target: Target,
    pub(crate) framing: Framing,
    pub(crate) upgrade: Option<upgrade::Handshake>,
    pub(crate) open: OpenRecord,
    /// What of the body was read to be shown, and goes up first.
    pub(crate) peeked: Option<Box<Peeked>>,
}

/// What goes up with a request, whatever connection it takes.
pub(super) struct Up {
    pub(super) pace: Arc<Pace>,
    upload: Upload,
    /// Hears what the origin says before its answer.
    interim: Option<OnInterim>,
    /// The client waits for `100 Continue`: how long its body waits for the origin's.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// The way of a request that began.
type Answering = Pin<Box<dyn Future<Output = Response<DownBody>> + Send>>;

/// Serves one request. Never fails: every way out is a response.
///
/// hyper keeps this future's room as long as an HTTP/1 connection lives: so it is small, and what few
/// requests come to (a new connection, a question, a retry) is boxed on the way.
pub(crate) fn serve(
    connection: Arc<Connection>,
    request: Request<ClientBody>,
) -> impl Future<Output = Response<DownBody>> + Send {
    let serving = connection.serving(!http_body::Body::is_end_stream(request.body()));
    let answer = begin(connection, request);
    async move { answer.await.map(|body| body.with(serving)) }
}

/// What is done at once: what a future is given it has room for to its end.
fn begin(connection: Arc<Connection>, mut request: Request<ClientBody>) -> Answering {
    let scheme = match &connection.via {
        super::target::Via::Inside(inside) => inside.scheme,
        _ => crate::policy::Scheme::Http,
    };
    let Ok(slot) = connection.sandbox.recorder().reserve() else {
        return Box::pin(std::future::ready(unrecorded(&connection)));
    };
    let name = connection.sandbox.name().clone();
    let mut open = OpenRecord::new(slot, name, connection.client().clone(), scheme);
    let understood = understand(&connection, &mut request, &mut open);
    // What is refused at once counts too: each has its line in the record.
    let understood = match connection.sandbox.counted(open.started()) {
        Ok(()) => understood,
        Err(too_many) if understood.as_ref().is_err_and(|r| r.close) => Err(too_many.closing()),
        Err(too_many) => Err(too_many),
    };
    let (head, body) = request.into_parts();
    let stream = body.stream().cloned();
    let (target, framing, upgrade) = match understood {
        Ok(understood) => understood,
        Err(refusal) => {
            if let super::target::Via::Inside(inside) = &connection.via {
                // Whatever the request itself names, which may be the lie that it is refused for.
                open.asks(&inside.authority);
            }
            // To read would be to say `100 Continue`.
            let rest = (!head.headers.contains_key(header::EXPECT)).then_some(body);
            let form = form(headers::is_grpc(&head.headers));
            return Box::pin(async move {
                let refusal = skip(rest, refusal).await;
                refuse(open, None, &refusal, &form)
            });
        }
    };
    if local::is_policy(&target.authority.host) {
        return Box::pin(to_policy(connection, (head, body), target, open));
    }
    let form = form(framing.grpc());
    let (body, peeked) = (Some(body), None);
    let exchange = Exchange { head, body, stream, target, framing, upgrade, open, peeked };
    let exchange = Box::new(exchange);
    Box::pin(async move { exchange.run(&connection, form).await })
}

/// A request to `policy.local`, which the gateway answers itself.
async fn to_policy(
    connection: Arc<Connection>,
    (head, body): (http::request::Parts, ClientBody),
    target: Target,
    mut open: OpenRecord,
) -> Response<DownBody> {
    let asked = open.record().target.clone();
    let asked = asked.as_ref().map_or(("/", None), |target| (target.path(), target.query()));
    match local::answer(&connection, &head, body, asked).await {
        Ok(response) => {
            let record = open.record();
            record.policy = crate::record::PolicyId(connection.sandbox.policy().id());
            record.verdict = Judged::Allow;
            record.code = Code::Allowed;
            record.rule = Some("policy.local".into());
            record.status = Some(response.status().as_u16());
            open.close(crate::record::Outcome::Passed);
            response
        }
        Err(refusal) => refuse(open, Some(&target.authority), &refusal, &Form::Problem),
    }
}

/// The gateway can't record, so nothing passes; there is no record of this either, but a counter.
fn unrecorded(connection: &Connection) -> Response<DownBody> {
    connection.gate.unrecorded();
    let refusal = Refusal::unjudged(Code::RecordFailure, "the traffic record can't be written");
    let id = crate::record::Id::new(std::time::SystemTime::now());
    let asker = super::refuse::Asker { id, target: None, method: None, path: None, binary: None };
    refusal.closing().response(&asker, &Form::Problem)
}

fn form(grpc: bool) -> Form {
    if grpc { Form::Grpc } else { Form::Problem }
}

pub(super) fn refuse(
    open: OpenRecord,
    target: Option<&crate::addr::Authority>,
    refusal: &Refusal,
    form: &Form,
) -> Response<DownBody> {
    let response = refusal.response(&open.asker(target), form);
    // Who has left got nothing.
    let status = (refusal.code != Code::ClientGone).then_some(response.status().as_u16());
    open.refuse(refusal, status);
    response
}

type Understood = (Target, Framing, Option<upgrade::Handshake>);

/// Everything about the head that is checked before anything is judged.
fn understand(
    connection: &Connection,
    request: &mut Request<ClientBody>,
    open: &mut OpenRecord,
) -> Result<Understood, Refusal> {
    if let Some(code) = connection.refuses {
        let detail = "the sandbox has too many connections";
        return Err(Refusal::unjudged(code, detail).closing());
    }
    let version = request.version();
    if version == Version::HTTP_2 {
        headers::bounded(request)?;
    }
    let upgrade = upgrade::Handshake::of(request)?;
    let fields = request.headers();
    let framing = headers::framing(version, fields).map_err(Refusal::closing)?;
    let bodied =
        || framing.length.unwrap_or(0) > 0 || fields.contains_key(header::TRANSFER_ENCODING);
    if upgrade.is_some() && bodied() {
        // Its length would go up without its bytes.
        let detail = "a WebSocket handshake has no body";
        return Err(Refusal::unjudged(Code::BadFraming, detail).closing());
    }
    let target = connection.via.target(version, request.uri(), fields)?;
    open.asks(&target.authority);
    open.record().scheme = target.scheme;
    let path = canonical(request.uri())?;
    let method = match &upgrade {
        Some(_) => Method::GET,
        None => request.method().clone(),
    };
    if path.as_str() == "*" && method != Method::OPTIONS {
        let detail = "only OPTIONS may ask about `*` (RFC 9112 §3.2.4)";
        return Err(Refusal::unjudged(Code::BadTarget, detail));
    }
    let refused = never_forwarded(&method);
    open.requests(version, method, path);
    if refused {
        let detail = format!("{} is never forwarded", request.method());
        return Err(Refusal::unjudged(Code::MethodRefused, detail));
    }
    if framing.own() && fields.get(headers::LOOP) == Some(&connection.gate.loop_token) {
        let detail = "the request came through this gateway before";
        return Err(Refusal::unjudged(Code::Loop, detail));
    }
    if connection.gate.tasks.draining() {
        return Err(Refusal::unjudged(Code::Draining, "the gateway is stopping").closing());
    }
    let limits = connection.sandbox.settings().limits;
    if let (Some(limit), Some(length)) = (limits.request_body, framing.length)
        && length > limit
    {
        let detail = format!("the body has {length} bytes, the sandbox's limit is {limit}");
        return Err(Refusal::unjudged(Code::BodyTooLarge, detail));
    }
    Ok((target, framing, upgrade))
}

/// Reads what is left of a refused request's body, so that the connection can be kept: at most
/// 64 KiB, at most a second. A client that waits for `100 Continue` has sent nothing yet. What is left
/// of a stream of HTTP/2 is nobody else's matter, and read behind the answer.
pub(super) async fn skip(body: Option<ClientBody>, refusal: Refusal) -> Refusal {
    use http_body_util::BodyExt;
    let Some(body) = body else { return refusal };
    if refusal.close || body.stream().is_some() || http_body::Body::is_end_stream(&body) {
        return refusal;
    }
    let read = tokio::time::timeout(
        std::time::Duration::from_secs(1),
        http_body_util::Limited::new(body, SKIP).collect(),
    );
    match read.await {
        Ok(Ok(_)) => refusal,
        _ => refusal.closing(),
    }
}

impl Exchange {
    async fn run(
        mut self: Box<Self>,
        connection: &Arc<Connection>,
        form: Form,
    ) -> Response<DownBody> {
        if inference::is_host(&self.target.authority.host) {
            return Box::pin(inference::serve(self, connection)).await;
        }
        let mut form = form;
        match self.judge(connection, &mut form).await {
            Ok((permit, body)) => self.forward(connection, permit, body, &form).await,
            Err(refusal) => self.refused(refusal, &form).await,
        }
    }

    /// Carries the request to the origin, and its answer back.
    async fn forward(
        mut self: Box<Self>,
        connection: &Arc<Connection>,
        permit: Permit,
        mut body: JudgedBody,
        form: &Form,
    ) -> Response<DownBody> {
        let judged = self.open.record().verdict;
        let host = &self.target.authority.host;
        let plan = match connection.sandbox.injector().filter(|i| i.concerns(host)) {
            None => Ok(None),
            Some(injector) => Box::pin(self.plan(connection, &injector, &permit, &mut body)).await,
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                let refusal = refusal.allowed(judged, permit.rule());
                return self.refused(refusal, form).await;
            }
        };
        if let Some(handshake) = self.upgrade.take() {
            let forwarded = upgrade::forward(*self, connection, (permit, plan), handshake);
            return Box::pin(forwarded).await;
        }
        match self.answer(connection, (&permit, plan.as_ref()), body).await {
            Ok(response) => response,
            Err(refusal) => {
                let refusal = match refusal.judged {
                    Judged::None => refusal.allowed(judged, permit.rule()),
                    _ => refusal,
                };
                self.refused(refusal, form).await
            }
        }
    }

    /// Answers with `refusal`, after what is left of the body where that is little.
    async fn refused(self: Box<Self>, refusal: Refusal, form: &Form) -> Response<DownBody> {
        let Self { body, peeked, target, open, framing, .. } = *self;
        // What was read to be shown is read; what follows it is not. To read on from a client that
        // waits would be to say `100 Continue`.
        let body = peeked.and_then(|peeked| peeked.rest).or(body);
        let refusal = if framing.expects { refusal } else { Box::pin(skip(body, refusal)).await };
        refuse(open, Some(&target.authority), &refusal, form)
    }

    async fn answer(
        &mut self,
        connection: &Arc<Connection>,
        (permit, plan): (&Permit, Option<&Plan>),
        body: JudgedBody,
    ) -> Result<Response<DownBody>, Refusal> {
        let kind = (self.target.scheme, self.versions(connection, &body));
        let mut carrier = connection.carrier(permit, &mut self.open, kind, Use::Any).await?;
        let live = self.open.watch().expect("set when it was judged").live().clone();
        let first_byte = connection.gate.settings.timeouts.first_byte;
        let pace = Pace::new(live, connection.sandbox.clone(), self.framing.expects, first_byte);
        let head = self.head(connection, &carrier)?;
        carrier.takes(self.framing.grpc())?;
        let (outbound, spare) = match plan {
            None => self.outbound(head, body, &pace, &carrier)?,
            Some(plan) => self.injected((permit, plan), (head, body), &pace, &carrier)?,
        };
        let awaited = Awaited::new(connection, self.head.version, self.stream.as_ref());
        let hears = awaited.takes() || self.framing.expects;
        let known = plan.and_then(Plan::needles);
        let mut up = Up {
            interim: hears.then(|| awaited.ear(&pace, known)),
            upload: Upload::of(&pace, connection),
            pace,
            waiting: self.framing.expects.then(|| Box::pin(tokio::time::sleep(CONTINUE_WITHIN))),
        };
        self.leaves(first_byte)?;
        let response = match self.send(&mut carrier, outbound, &mut up).await {
            Ok(response) => response,
            Err(Unsent::Refused(refusal)) => return Err(refusal),
            Err(Unsent::Failed(failed)) => {
                let response;
                (response, carrier) = Box::pin(self.again(
                    connection,
                    (permit, plan),
                    Tried { failed, carrier, spare, kind },
                    &mut up,
                ))
                .await?;
                response
            }
        };
        up.pace.forget();
        drop(awaited);
        let kept = (Some(carrier.lease), Some(up.upload));
        self.respond(connection, response, kept, plan).await
    }

    /// The versions that it may go up in. Of an HTTP/1 client only what has no body and may be repeated
    /// is carried over HTTP/2 (ADR 0003).
    fn versions(&self, connection: &Connection, body: &JudgedBody) -> Versions {
        let (gate, origin) = (&connection.gate, &self.target.authority);
        if self.framing.bound() && !self.framing.grpc() {
            // Over HTTP/2 others are on the connection already. gRPC knows nothing else.
            return Versions::Http1;
        }
        if self.head.version == Version::HTTP_2 {
            // What requires HTTP/1.1 may be another part of the host: gRPC is tried all the same.
            let required = gate.requires_http1(origin) && !self.framing.grpc();
            return if required { Versions::Http1 } else { Versions::Http2 };
        }
        let bare = |body: &ClientBody| http_body::Body::is_end_stream(body);
        // What the origin may refuse to take over HTTP/2 can then be sent once more.
        let light = self.target.scheme == Scheme::Https
            && self.head.method.is_idempotent()
            && body.bytes().is_none()
            && self.peeked.is_none()
            && self.body.as_ref().is_some_and(bare);
        match light && gate.speaks(origin) != Some(upstream::Version::Http1) {
            true => Versions::Either,
            false => Versions::Http1,
        }
    }

    /// Right before the first byte goes up: what was judged must still hold.
    pub(crate) fn leaves(&mut self, first_byte: Duration) -> Result<(), Refusal> {
        let watch = self.open.watch().expect("set when it was judged");
        if let Some(end) = watch.live().recheck() {
            return Err(cut(end, Code::FirstByteTimeout));
        }
        watch.due(first_byte);
        self.open.record().sent = true;
        Ok(())
    }

    /// Sends `request`, and its body when it is time.
    pub(super) fn send<'a>(
        &'a self,
        carrier: &'a mut Carrier,
        request: Request<UpBody>,
        up: &'a mut Up,
    ) -> impl Future<Output = Result<Response<Received>, Unsent>> + 'a {
        let live = self.open.watch().expect("set when it was judged").live();
        let Up { pace, interim, waiting, .. } = up;
        let sending = send(carrier, request, live, (Some(pace), interim.as_ref()));
        Sending { sending, waiting, pace, live, open: &self.open }
    }
}

pin_project! {
    /// A request that goes up.
    struct Sending<'a, F> {
        #[pin]
        sending: F,
        waiting: &'a mut Option<Pin<Box<Sleep>>>,
        pace: &'a Pace,
        live: &'a Live,
        open: &'a OpenRecord,
    }
}

impl<F: Future> Future for Sending<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(sleep) = this.waiting
            && sleep.as_mut().poll(cx).is_ready()
        {
            **this.waiting = None;
            this.pace.go();
        }
        if this.live.draft_due() {
            this.open.draft();
        }
        this.sending.poll(cx)
    }
}

/// Rules compare methods without case, and so may origins. What has more than letters, digits, `-` and `_`
/// is no method that any server knows (RFC 9110 §9.1 would let it be one), and no rule can name it.
fn never_forwarded(method: &Method) -> bool {
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    ["TRACE", "CONNECT"].iter().any(|other| method.as_str().eq_ignore_ascii_case(other))
        || !method.as_str().bytes().all(named)
}
