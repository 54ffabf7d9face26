//! What no rule knows: read as far as it is shown, asked about, held, and judged again.
//!
//! Nothing is resolved and nothing dialled meanwhile (I1). An answer is not a permit: the waiter
//! is judged again with it, and gets its permit there.

use super::body::{ClientBody, Peeked};
use super::gate::Connection;
use super::headers::Framing;
use super::judged::JudgedBody;
use super::live::End;
use super::open::OpenRecord;
use super::refuse::{Came, Refusal};
use super::subject::Answered;
use crate::approval::{Asked, Asking, Hold, Kind, Preview, Release};
use crate::policy::{
    Code, Fingerprint, OwnedAsk, OwnedBody, OwnedIntent, Permit, Question, Rules, Scheme, Scope,
    Ticket, TicketUse, Verdict,
};
use bytes::{Bytes, BytesMut};
use http::header;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The most of a body that is read before it is shown, in bytes.
const PREVIEW: usize = 64 * 1024;
/// How long the first bytes of a body may take before it is asked about without them.
const PREVIEW_WITHIN: Duration = Duration::from_secs(1);
/// How often a held client is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// A body as far as it was read to be shown.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) shown: Fingerprint,
    preview: Preview,
    /// What was read, with what follows it, on its way up.
    pub(crate) up: Option<Up>,
}

/// What was read goes up before the rest.
#[derive(Debug)]
pub(crate) enum Up {
    Whole(Bytes),
    Peeked(Box<Peeked>),
}

/// What is asked about, beside its body.
pub(crate) struct Subject<'a> {
    pub(crate) intent: OwnedIntent,
    pub(crate) head: Option<&'a http::request::Parts>,
}

/// What is known of a body that is not there.
pub(crate) fn no_body(head: &http::request::Parts, framing: &Framing) -> Seen {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Seen { shown: Fingerprint::of(kind, framing.length, &[], false), ..Seen::default() }
}

/// Reads the first bytes of a body that is to be shown.
pub(crate) async fn peek(
    head: &http::request::Parts,
    framing: &Framing,
    (body, judged): (&mut Option<ClientBody>, &JudgedBody),
) -> Result<Seen, Refusal> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let length = framing.length;
    if let Some(bytes) = judged.bytes() {
        let longer = bytes.len() > PREVIEW;
        // A copy: what is shown stays for hours, and the body with its room goes.
        let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(PREVIEW)]);
        let shown = Fingerprint::of(kind, length, &bytes, longer);
        return Ok(Seen { shown, preview: Preview { bytes, longer, waits: false }, up: None });
    }
    let Some(incoming) = body.take_if(|body| !http_body::Body::is_end_stream(body)) else {
        return Ok(no_body(head, framing));
    };
    if framing.expects {
        // To read would be to say `100 Continue`.
        *body = Some(incoming);
        let preview = Preview { bytes: Bytes::new(), longer: true, waits: true };
        let shown = Fingerprint::of(kind, length, &[], true);
        return Ok(Seen { shown, preview, up: None });
    }
    let peeked = first(incoming).await?;
    let longer = peeked.rest.is_some();
    let bytes = peeked.first.slice(..peeked.first.len().min(PREVIEW));
    let longer = longer || bytes.len() < peeked.first.len();
    let shown = Fingerprint::of(kind, length, &bytes, longer);
    let up = match peeked.rest.is_none() && peeked.trailers.is_none() {
        true => Up::Whole(peeked.first),
        false => Up::Peeked(Box::new(peeked)),
    };
    Ok(Seen { shown, preview: Preview { bytes, longer, waits: false }, up: Some(up) })
}

/// The first frames of a body, as many as come in time and are needed. What breaks off is nothing
/// to be asked about.
async fn first(mut body: ClientBody) -> Result<Peeked, Refusal> {
    let mut first = BytesMut::new();
    let mut trailers = None;
    let mut ended = false;
    let reading = async {
        while first.len() < PREVIEW {
            match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => first.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => return Err(super::body::broken(&error)),
                None => {
                    ended = true;
                    return Ok(());
                }
            }
            if http_body::Body::is_end_stream(&body) {
                ended = true;
                return Ok(());
            }
        }
        Ok(())
    };
    if let Ok(read) = tokio::time::timeout(PREVIEW_WITHIN, reading).await {
        read?;
    }
    Ok(Peeked { first: first.freeze(), trailers, rest: (!ended).then_some(body) })
}

/// Asks about what no rule knows, and waits for what becomes of it. What comes back was judged
/// again, and what it was judged by.
pub(crate) async fn ask(
    connection: &Arc<Connection>,
    open: &mut OpenRecord,
    subject: &Subject<'_>,
    (seen, question): (&Seen, Question),
) -> Result<(Permit, Answered), Refusal> {
    let sandbox = &connection.sandbox;
    let queue = sandbox.queue();
    if !queue.asks(sandbox.rules().policy.names_host(&subject.intent.target.host)) {
        return Err(question.into());
    }
    if let Some(refusal) = unanswerable(connection, &subject.intent, &question) {
        return Err(refusal);
    }
    let mut hold: Option<Hold> = None;
    let mut answered = Answered { shown: Some(seen.shown.clone()), ticket: None };
    loop {
        let rules = arc_swap::Guard::into_inner(sandbox.rules());
        let now = SystemTime::now();
        let ticket = answered.ticket.as_deref().map(TicketUse::Spend);
        let verdict = subject.intent.judge(&rules, now, Some(&seen.shown), ticket);
        let question = match verdict {
            Some(Verdict::Allow(permit) | Verdict::Audit(permit)) => {
                released(open, hold.as_ref());
                // An answer for good is a rule by now: the record says whose it was.
                let approval = hold.as_ref().and_then(Hold::approval);
                open.record().approval = approval.filter(|by| by.scope == Scope::Always);
                return Ok((permit, answered));
            }
            Some(Verdict::Deny(denial)) => {
                released(open, hold.as_ref());
                return Err(denial.into());
            }
            Some(Verdict::Unknown(question)) => question,
            None => return Err(question.into()),
        };
        let Some(held) = &mut hold else {
            match put(connection, asked(subject, seen, question, &rules), &rules).await? {
                Put::Answered(ticket) => {
                    open.record().request = Some(ticket.number());
                    answered.ticket = Some(ticket);
                }
                // Judged once more before it waits: an answer may have come in between.
                Put::Waits(held, question) => {
                    begins(open, &held, &question);
                    hold = Some(held);
                }
            }
            continue;
        };
        let came = wait(connection, held).await;
        released(open, hold.as_ref());
        match came? {
            Release::Judge => {}
            Release::Ticket(ticket) => answered.ticket = Some(ticket),
            Release::Denied(approval) => {
                let number = hold.as_ref().map(Hold::number);
                let by = crate::policy::GrantRef::Once(number.unwrap_or_default());
                return Err(Refusal::asked(question, number, Came::Denied(by, approval)));
            }
            Release::TimedOut => {
                let number = hold.as_ref().map(Hold::number);
                return Err(Refusal::asked(question, number, Came::TimedOut));
            }
        }
    }
}

/// A question that was put, where that was not its end.
enum Put {
    /// It was answered before, for one request.
    Answered(Arc<Ticket>),
    /// The client waits.
    Waits(Hold, Question),
}

/// Puts a question into the queue.
async fn put(connection: &Connection, asked: Asked, rules: &Rules) -> Result<Put, Refusal> {
    let (queue, now) = (connection.sandbox.queue(), SystemTime::now());
    let question = asked.question.clone();
    let asking = queue.ask(asked, true, now).await;
    // Where the rules have changed meanwhile it is asked under these.
    queue.catch_up(rules, &connection.sandbox.rules(), now);
    match asking {
        Asking::NotAsked | Asking::Answered(_) => Err(question.into()),
        Asking::Ticket(ticket) => Ok(Put::Answered(ticket)),
        Asking::Queued(number) => Err(Refusal::asked(question, Some(number), Came::Required)),
        Asking::Full(number) => Err(Refusal::asked(question, number, Came::Full)),
        Asking::Held(hold) => Ok(Put::Waits(hold, question)),
    }
}

/// What nobody can look into might be what is denied there: no answer would let it through, so
/// nobody is asked.
fn unanswerable(
    connection: &Connection,
    intent: &OwnedIntent,
    question: &Question,
) -> Option<Refusal> {
    let unseen = !matches!(intent.ask, OwnedAsk::Request { .. });
    let rules = connection.sandbox.rules();
    if !unseen || !rules.blind(&intent.client, &intent.target, SystemTime::now()) {
        return None;
    }
    let mut refusal = Refusal::from(question.clone());
    refusal.detail.push_str("; something is denied there, and bytes that nobody reads might be it");
    Some(refusal)
}

/// Asks about raw bytes. The socket is looked at meanwhile: nothing else reads from it.
pub(crate) async fn ask_raw(
    connection: &Arc<Connection>,
    open: &mut OpenRecord,
    (subject, raw): (&Subject<'_>, &super::io::Raw),
    question: Question,
) -> Result<(Permit, Answered), Refusal> {
    let seen = Seen::default();
    let mut asking = std::pin::pin!(ask(connection, open, subject, (&seen, question)));
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            asked = &mut asking => return asked,
            _ = look.tick() => {
                if raw.hung_up() {
                    return Err(gone());
                }
            }
        }
    }
}

/// A client begins to wait: what the record says of it if the gateway dies meanwhile (I5).
fn begins(open: &mut OpenRecord, hold: &Hold, question: &Question) {
    let record = open.record();
    record.request = Some(hold.number());
    record.verdict = crate::record::Judged::Unknown;
    record.code = question.code;
    record.rule.clone_from(&question.nearest);
    open.draft();
}

fn released(open: &mut OpenRecord, hold: Option<&Hold>) {
    if let Some(hold) = hold {
        open.record().ms.held = hold.waited();
    }
}

/// Waits for the operator, unless the client leaves or the gateway stops.
async fn wait(connection: &Arc<Connection>, hold: &mut Hold) -> Result<Release, Refusal> {
    while_there(connection, hold.next()).await
}

/// Waits for what an operator does, unless the client leaves or the gateway stops.
pub(crate) async fn while_there<T>(
    connection: &Connection,
    waited: impl Future<Output = T>,
) -> Result<T, Refusal> {
    // A place on the wheel of its own: the connection's is waited at by who serves it.
    let watch = connection.worker.wheel.connection();
    let live = watch.live().clone();
    let _looked_after = connection.phase.look_after();
    let mut look = tokio::time::interval(LOOK);
    let mut waited = std::pin::pin!(waited);
    loop {
        tokio::select! {
            came = &mut waited => return Ok(came),
            end = std::future::poll_fn(|cx| live.poll_ended(cx)) => {
                return Err(match end {
                    End::Drain | End::Stop => {
                        Refusal::unjudged(Code::Draining, "the gateway is stopping").closing()
                    }
                    End::Deadline | End::Revoked | End::TooLong => gone(),
                });
            }
            _ = look.tick() => {
                if connection.phase.left() {
                    return Err(gone());
                }
            }
        }
    }
}

fn gone() -> Refusal {
    let detail = "the client closed the connection, or its half of it, while the request was held";
    Refusal::unjudged(Code::ClientGone, detail).closing()
}

/// What is shown to the operator.
fn asked(
    subject: &Subject<'_>,
    seen: &Seen,
    question: Question,
    rules: &crate::policy::Rules,
) -> Asked {
    let mut headers = Vec::new();
    for (name, value) in subject.head.iter().flat_map(|head| &head.headers) {
        headers.push((name.as_str().to_owned(), masked(name.as_str(), value)));
    }
    Asked {
        kind: kind(subject),
        facts: facts(subject, seen),
        intent: subject.intent.clone(),
        headers,
        body: seen.shown.clone(),
        preview: seen.preview.clone(),
        question,
        known_host: rules.policy.names_host(&subject.intent.target.host),
        policy: rules.policy.id(),
        reason: None,
    }
}

/// A header field's value as it is shown: what names a secret is not.
fn masked(name: &str, value: &http::HeaderValue) -> String {
    let secret = matches!(name, "cookie" | "authorization" | "proxy-authorization")
        || crate::record::names_secret(name);
    if secret { "***".to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() }
}

fn kind(subject: &Subject<'_>) -> Kind {
    match &subject.intent.ask {
        OwnedAsk::Bytes => Kind::Tcp,
        OwnedAsk::Opaque => Kind::Opaque,
        OwnedAsk::Request { websocket: true, .. } => Kind::Websocket,
        OwnedAsk::Request { body: Some(OwnedBody::Graphql(_)), .. } => Kind::Graphql,
        OwnedAsk::Request { body: Some(OwnedBody::Rpc(_)), .. } => Kind::Rpc,
        OwnedAsk::Request { .. } => match subject.head {
            Some(head) if super::headers::is_grpc(&head.headers) => Kind::Grpc,
            _ => Kind::Http,
        },
    }
}

/// What the body says, in a few words: for the operator, never for judging.
fn facts(subject: &Subject<'_>, seen: &Seen) -> Vec<String> {
    let mut facts = Vec::new();
    let OwnedAsk::Request { body, path, query, websocket, .. } = &subject.intent.ask else {
        return facts;
    };
    let header = |name: &str| subject.head?.headers.get(name)?.to_str().ok().map(str::to_owned);
    if *websocket && let Some(protocols) = header("sec-websocket-protocol") {
        facts.push(format!("subprotocols {protocols}"));
    }
    if subject.head.is_some_and(|head| super::headers::is_grpc(&head.headers)) {
        facts.push(format!("gRPC {}", path.as_str().trim_start_matches('/')));
    }
    let kind = header("content-type");
    let read =
        (!seen.preview.longer).then(|| guess(kind.as_deref(), &seen.preview, query.as_deref()));
    if let Some(body) = body.clone().or(read.flatten()) {
        facts.extend(described(&body));
    }
    facts
}

/// What a body that no rule is about seems to say.
fn guess(kind: Option<&str>, preview: &Preview, query: Option<&str>) -> Option<OwnedBody> {
    if preview.bytes.is_empty() || !kind.is_some_and(|kind| kind.contains("json")) {
        return None;
    }
    if let Ok(calls) = crate::policy::body::rpc::calls(&preview.bytes) {
        return Some(OwnedBody::Rpc(calls));
    }
    crate::policy::body::graphql::from_post(kind, &preview.bytes, query)
        .ok()
        .map(OwnedBody::Graphql)
}

fn described(body: &OwnedBody) -> Vec<String> {
    const MOST: usize = 16;
    match super::judged::recorded(body) {
        None => Vec::new(),
        Some(crate::record::Facts::Graphql(operations)) => {
            operations.into_iter().take(MOST).map(|line| format!("GraphQL {line}")).collect()
        }
        Some(crate::record::Facts::Rpc(calls)) => calls
            .into_iter()
            .take(MOST)
            .map(|(method, tool)| match tool {
                Some(tool) => format!("calls {method} with tool {tool}"),
                None => format!("calls {method}"),
            })
            .collect(),
    }
}

/// A client that does not trust our CA: nothing inside can be seen. It is asked about by host and
/// port, for its next try.
pub(crate) fn opaque(connection: &Connection, target: &crate::addr::Authority) -> Option<u64> {
    let rules = connection.sandbox.rules();
    let now = SystemTime::now();
    if rules.blind(connection.client(), target, now) {
        return None;
    }
    let question = match rules.judge_tunnel(connection.client(), target, now, None) {
        crate::policy::TunnelVerdict::Unknown(question) => question,
        crate::policy::TunnelVerdict::Inspect => Question {
            code: Code::ClientDistrustsCa,
            detail: format!("the client does not let {target} be looked into"),
            nearest: None,
        },
        crate::policy::TunnelVerdict::Relay(_) | crate::policy::TunnelVerdict::Deny(_) => {
            return None;
        }
    };
    let intent = OwnedIntent {
        client: connection.client().clone(),
        scheme: Scheme::Https,
        target: target.clone(),
        ask: OwnedAsk::Opaque,
    };
    let subject = Subject { intent, head: None };
    let asked = asked(&subject, &Seen::default(), question, &rules);
    match connection.sandbox.queue().ask_now(asked, false, now) {
        Asking::Queued(number) | Asking::Answered(number) => Some(number),
        Asking::NotAsked | Asking::Ticket(_) | Asking::Held(_) | Asking::Full(_) => None,
    }
}
