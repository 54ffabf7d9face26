//! `policy.local`: the agent's side of a question, in the gateway itself. No DNS, nothing dialled.
//!
//! A sandbox sees its own entries alone, and of its policy nothing that is of the host. What an
//! agent says is shown to the operator as the agent's words, and decides nothing: what an answer
//! would cover is computed from method and URL.

use super::body::{ClientBody, DownBody};
use super::gate::Connection;
use super::refuse::Refusal;
use crate::addr::{Authority, Host, Name, Path, Port};
use crate::approval::{Asked, Asking, Entry, Kind, Preview, Queue, State};
pub(crate) use crate::policy::pattern::is_reserved;
use crate::policy::{Client, Code, Fingerprint, OwnedAsk, OwnedIntent, Question, Scheme, Verdict};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The host's name.
const POLICY: &str = "policy.local";
/// The largest body that an agent may send here.
const MOST_BODY: usize = 16 * 1024;
/// The longest reason that is shown, in characters.
const MOST_REASON: usize = 1000;
/// How long an agent waits, unless it says, and at most.
const WAITS: Duration = Duration::from_secs(60);
const MOST_WAIT: Duration = Duration::from_secs(300);

/// What stands at `GET /`.
const PAGE: &str = "\
This is the gateway that your network traffic goes through. What no rule allows is asked of a human operator.

GET  /v1/policy                        what is allowed
POST /v1/requests                      ask ahead: {\"method\": \"GET\", \"url\": \"https://host/path\", \"reason\": \"why\"}
GET  /v1/requests/r41                  what became of a request (its number is in the refusal)
GET  /v1/requests/r41/wait?timeout=300 the same, as soon as it is answered

Do not retry a refused request, and do not look for another way: ask, wait, then send it once.
";

/// Whether it is the host that this answers for.
pub(crate) fn is_policy(host: &Host) -> bool {
    host.name().map(Name::as_str) == Some(POLICY)
}

/// Answers a request to `policy.local`.
pub(crate) async fn answer(
    connection: &Arc<Connection>,
    head: &http::request::Parts,
    body: ClientBody,
    target: (&str, Option<&str>),
) -> Result<Response<DownBody>, Refusal> {
    if !connection.sandbox.settings().agent_api {
        let detail = "policy.local is switched off for this sandbox (agent_api: false)";
        return Err(Refusal::unjudged(Code::NotServed, detail));
    }
    let (path, query) = target;
    let queue = connection.sandbox.queue();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let get = head.method == Method::GET || head.method == Method::HEAD;
    match segments[..] {
        [""] if get => Ok(text(PAGE)),
        ["v1", "policy"] if get => Ok(policy(connection)),
        ["v1", "requests"] if head.method == Method::POST => ask(connection, body).await,
        ["v1", "requests", number] if get => shown(queue, number),
        ["v1", "requests", number, "wait"] if get => wait(connection, number, query).await,
        _ => {
            let detail = "policy.local serves GET /, GET /v1/policy, POST /v1/requests, \
                          GET /v1/requests/r41 and GET /v1/requests/r41/wait?timeout=300";
            Err(Refusal::unjudged(Code::NotServed, detail))
        }
    }
}

fn text(text: &'static str) -> Response<DownBody> {
    let mut response = Response::new(DownBody::whole(Bytes::from_static(text.as_bytes())));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn reply(status: StatusCode, body: &Value) -> Response<DownBody> {
    let mut response = Response::new(DownBody::whole(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn policy(connection: &Connection) -> Response<DownBody> {
    let sandbox = &connection.sandbox;
    let entries = sandbox.agent_view();
    let unknown = match sandbox.queue().settings().mode {
        crate::approval::Mode::Hold => "held for a while for the operator to answer, then refused",
        crate::approval::Mode::Queue => "refused, and the operator is asked",
        crate::approval::Mode::Deny => "refused",
    };
    reply(StatusCode::OK, &json!({ "unknown": unknown, "network_policies": *entries }))
}

fn missing(number: &str) -> Refusal {
    let shown = crate::addr::Shown::new(number);
    Refusal::unjudged(Code::NotServed, format!("this sandbox has no request {shown}"))
}

fn find(queue: &Queue, number: &str) -> Result<Entry, Refusal> {
    let parsed = number.strip_prefix('r').and_then(|n| n.parse::<u64>().ok());
    let entry = parsed.and_then(|number| queue.entry(number));
    entry.ok_or_else(|| missing(number))
}

fn view(entry: &Entry) -> Value {
    let state = match entry.state {
        State::Pending => "pending",
        State::Approved => "approved",
        State::Denied => "denied",
        State::Expired => "expired",
    };
    let request = entry.asked.request();
    let target = &entry.asked.intent.target;
    let decision = entry.decided.as_ref().map(|decided| {
        json!({
            "decision": decided.approval.decision.as_str(),
            "scope": decided.approval.scope.as_str(),
            "reason": decided.approval.reason,
        })
    });
    json!({
        "request": format!("r{}", entry.number),
        "state": state,
        "host": target.host.to_string(),
        "port": target.port.get(),
        "method": request.map(|(method, ..)| method),
        "path": request.map(|(_, path, _)| path),
        "decision": decision,
    })
}

fn shown(queue: &Queue, number: &str) -> Result<Response<DownBody>, Refusal> {
    Ok(reply(StatusCode::OK, &view(&find(queue, number)?)))
}

async fn wait(
    connection: &Connection,
    number: &str,
    query: Option<&str>,
) -> Result<Response<DownBody>, Refusal> {
    let queue = connection.sandbox.queue();
    let entry = find(queue, number)?;
    let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "timeout")
        .and_then(|(_, value)| value.parse::<u64>().ok());
    let most = asked.map_or(WAITS, Duration::from_secs).min(MOST_WAIT);
    if entry.state == State::Pending {
        match queue.watch(entry.number, most) {
            Some(watching) => {
                super::asking::while_there(connection, watching.answered()).await?;
            }
            None => {
                let detail = "too many wait already: come back later";
                return Err(Refusal::unjudged(Code::TooManyRequests, detail));
            }
        }
    }
    shown(queue, number)
}

/// What an agent asks ahead.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ahead {
    method: String,
    url: String,
    #[serde(default)]
    reason: Option<String>,
}

async fn ask(
    connection: &Arc<Connection>,
    body: ClientBody,
) -> Result<Response<DownBody>, Refusal> {
    let within = connection.gate.settings.timeouts.header;
    let read = tokio::time::timeout(within, Limited::new(body, MOST_BODY).collect()).await;
    let bytes = match read {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => {
            let detail = format!("a body here has at most {MOST_BODY} bytes");
            return Err(Refusal::unjudged(Code::BodyTooLarge, detail).closing());
        }
        Err(_) => {
            let detail = "the body did not come in time";
            return Err(Refusal::unjudged(Code::BodyTimeout, detail).closing());
        }
    };
    let ahead: Ahead = serde_json::from_slice(&bytes).map_err(|_| {
        let detail =
            "write {\"method\": \"GET\", \"url\": \"https://host/path\", \"reason\": \"why\"}";
        malformed(detail)
    })?;
    let reason = ahead.reason.clone().map(|text| text.chars().take(MOST_REASON).collect());
    connection.look_up().await;
    let intent = intent(connection.client(), &ahead)?;
    if is_reserved(&intent.target.host) {
        return Err(malformed("that host is the gateway itself: no one need be asked"));
    }
    let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
    let now = SystemTime::now();
    let none = Fingerprint::default();
    let question = match intent.judge(&rules, now, Some(&none), None) {
        Some(Verdict::Allow(_) | Verdict::Audit(_)) => {
            let body = json!({ "state": "approved", "detail": "it is allowed already: send it" });
            return Ok(reply(StatusCode::OK, &body));
        }
        Some(Verdict::Deny(denial)) => return Err(denial.into()),
        Some(Verdict::Unknown(question)) => question,
        None => return Err(malformed("it can't be asked about")),
    };
    asked(connection, intent, question, reason, &rules).await
}

async fn asked(
    connection: &Connection,
    intent: OwnedIntent,
    question: Question,
    reason: Option<String>,
    rules: &crate::policy::Rules,
) -> Result<Response<DownBody>, Refusal> {
    let asked = Asked {
        kind: Kind::Ahead,
        known_host: rules.policy.names_host(&intent.target.host),
        intent,
        headers: Vec::new(),
        body: Fingerprint::default(),
        preview: Preview::default(),
        facts: Vec::new(),
        question: question.clone(),
        policy: rules.policy.id(),
        reason,
    };
    match connection.sandbox.queue().ask(asked, false, SystemTime::now()).await {
        Asking::Queued(number) => {
            let wait = format!("http://{POLICY}/v1/requests/r{number}/wait?timeout=300");
            let body = json!({ "request": format!("r{number}"), "state": "pending", "wait": wait });
            Ok(reply(StatusCode::ACCEPTED, &body))
        }
        Asking::Answered(number) => {
            let body = json!({ "request": format!("r{number}"), "state": "approved" });
            Ok(reply(StatusCode::OK, &body))
        }
        Asking::NotAsked | Asking::Held(_) | Asking::Ticket(_) => Err(question.into()),
        Asking::Full(number) => Err(Refusal::asked(question, number, super::refuse::Came::Full)),
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal { close: false, ..Refusal::unjudged(Code::BadTarget, detail) }
}

/// What is asked ahead, through the same parsers as every request.
fn intent(client: &Client, ahead: &Ahead) -> Result<OwnedIntent, Refusal> {
    let (scheme, rest) = ahead
        .url
        .split_once("://")
        .ok_or_else(|| malformed("the url needs a scheme: https://host/path"))?;
    let (websocket, scheme, port) = match scheme.to_ascii_lowercase().as_str() {
        "https" => (false, Scheme::Https, Port::HTTPS),
        "http" => (false, Scheme::Http, Port::HTTP),
        "wss" => (true, Scheme::Https, Port::HTTPS),
        "ws" => (true, Scheme::Http, Port::HTTP),
        _ => return Err(malformed("the scheme is http, https, ws or wss")),
    };
    let (authority, target) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = Path::parse(if path.is_empty() { "/" } else { path })?.into_owned();
    if let Some(query) = query {
        crate::addr::check_query(query)?;
    }
    let method = Method::from_bytes(ahead.method.as_bytes())
        .map_err(|_| malformed("the method is not a method"))?;
    Ok(OwnedIntent {
        client: client.clone(),
        scheme,
        target: Authority::parse(authority, Some(port))?,
        ask: OwnedAsk::Request {
            method: method.as_str().to_owned(),
            path,
            query: query.map(Into::into),
            websocket,
            body: None,
        },
    })
}
