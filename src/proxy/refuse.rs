//! What a refused client gets: an answer with a stable code, a sentence, and what to do next.
//!
//! The shape is `interfaces.md`'s: HTTP problem JSON (RFC 9457), gRPC status, or a JSON-RPC error.

mod words;

use super::body::DownBody;
use crate::addr::{Authority, AuthorityError, PathError, Shown};
use crate::inference::{Shape, error_body};
use crate::policy::{Approval, Code, Denial, ErrorKind, GrantRef, Question, RuleRef};
use crate::record::{By, Id, Judged};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use words::{grpc_status, guidance, next_steps, title};

/// The largest refusal body, in bytes.
const MAX_BODY: usize = 4096;
/// What of it is left for what stands around a problem object, an RPC's error object the most.
const ROUND: usize = 1024;
const RPC_MESSAGE: usize = 256;
/// What a `grpc-message` escapes beside what is not ASCII (gRPC over HTTP/2, "Status-Message").
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

/// Why something is refused or failed, with all that its answer and its record need.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) rule: Option<RuleRef>,
    pub(crate) judged: Judged,
    pub(crate) by: By,
    /// The connection can't be used any more.
    pub(crate) close: bool,
    /// What came of asking the operator.
    pub(crate) asked: Option<Asked>,
    /// In how many seconds it may pass, where that is known.
    pub(crate) wait: Option<NonZeroU32>,
}

/// What came of asking the operator.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The number of the entry, where one was made.
    pub(crate) number: Option<u64>,
    pub(crate) came: Came,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum Came {
    /// It is asked, and not held.
    Required,
    /// It was held, and nobody answered in time.
    TimedOut,
    /// The operator said no: to this one, or to its kind.
    Denied(GrantRef, Arc<Approval>),
    /// Too many wait already.
    Full,
}

impl Came {
    fn error(&self) -> ErrorKind {
        match self {
            Self::Required => ErrorKind::ApprovalRequired,
            Self::TimedOut => ErrorKind::ApprovalTimeout,
            Self::Denied(..) => ErrorKind::ApprovalDenied,
            Self::Full => ErrorKind::QueueFull,
        }
    }
}

/// When to come back after nobody answered.
const COME_BACK: Duration = Duration::from_secs(30);

/// What the answer says of the request; every text is shown escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) id: Id,
    pub(crate) target: Option<&'a Authority>,
    pub(crate) method: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) binary: Option<&'a str>,
}

/// The form of an answer that the client's library parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/problem+json`.
    Problem,
    /// gRPC: status 200, `grpc-status: 7` (or another) in the head.
    Grpc,
    /// JSON-RPC: an error object with the call's id (raw JSON).
    Rpc(String),
    /// A model call: an error as the SDK of its shape parses it.
    Model(Shape),
}

/// A rule's name without the file that it stands in, which two of the same key are told apart by: where
/// the operator keeps policies is none of the sandbox's business.
fn within_sandbox(rule: &str) -> &str {
    let key = rule.rfind("/endpoints[").unwrap_or(rule.len());
    rule[..key].rfind(':').map_or(rule, |colon| &rule[colon + 1..])
}

impl Refusal {
    /// A request that was never judged.
    ///
    /// Cold, as is every way to a refusal: the compiler moves these out of the way of what passes.
    #[cold]
    pub(crate) fn unjudged(code: Code, detail: impl Into<String>) -> Self {
        let by = match code.error() {
            Some(ErrorKind::LimitExceeded) => By::Limit,
            Some(ErrorKind::AddressRefused | ErrorKind::PlaceholderMisuse) => By::Guard,
            _ => By::Policy,
        };
        let close = code.error() == Some(ErrorKind::MalformedRequest);
        let judged = Judged::None;
        Self { code, detail: detail.into(), rule: None, judged, by, close, asked: None, wait: None }
    }

    /// What no rule knows, and what came of asking about it.
    pub(crate) fn asked(question: Question, number: Option<u64>, came: Came) -> Self {
        let mut refusal = Self::from(question);
        match &came {
            Came::Required => refusal.detail.push_str("; the operator has been asked"),
            Came::TimedOut => {
                refusal.detail.push_str("; the operator has been asked and has not answered yet");
            }
            Came::Full => refusal.detail.push_str("; too many questions wait for the operator"),
            Came::Denied(by, approval) => {
                refusal.by = By::Grant(*by);
                refusal.detail.push_str("; the operator denied it");
                if let Some(reason) = &approval.reason {
                    refusal.detail.push_str(&format!(": {}", Shown::new(reason)));
                }
            }
        }
        refusal.asked = Some(Asked { number, came });
        refusal
    }

    /// The `error` that its client sees; `None` where nothing is refused.
    pub(crate) fn error(&self) -> Option<ErrorKind> {
        self.asked.as_ref().map(|asked| asked.came.error()).or(self.code.error())
    }

    /// The HTTP status of its answer.
    pub(crate) fn status(&self) -> u16 {
        match &self.asked {
            Some(Asked { came: Came::Full, .. }) => 429,
            Some(_) => 403,
            None => self.code.status(),
        }
    }

    /// The number of the entry in the queue, where one was made.
    pub(crate) fn number(&self) -> Option<u64> {
        self.asked.as_ref()?.number
    }

    /// The operator's answer, where that refused it.
    pub(crate) fn approval(&self) -> Option<Arc<Approval>> {
        match &self.asked.as_ref()?.came {
            Came::Denied(_, approval) => Some(approval.clone()),
            Came::Required | Came::TimedOut | Came::Full => None,
        }
    }

    /// How many seconds the client should wait before it comes back.
    fn retry_after(&self) -> Option<u64> {
        if let Some(wait) = self.wait {
            return Some(wait.get().into());
        }
        match self.asked.as_ref().map(|asked| &asked.came) {
            Some(Came::TimedOut) => Some(COME_BACK.as_secs()),
            _ => (self.status() == 429).then_some(1),
        }
    }

    /// A request that was allowed and then could not be carried out.
    pub(crate) fn allowed(mut self, judged: Judged, rule: &RuleRef) -> Self {
        self.judged = judged;
        self.rule = Some(rule.clone());
        self
    }

    /// The same, ending the connection.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The answer on HTTP.
    pub(crate) fn response(&self, asker: &Asker<'_>, form: &Form) -> Response<DownBody> {
        let mut response = match form {
            Form::Problem => self.problem(asker),
            Form::Grpc => self.grpc(),
            Form::Rpc(id) => self.rpc(asker, id),
            Form::Model(shape) => self.model(*shape),
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(asker.id.to_string()) {
            headers.insert("x-portcullis-id", id);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(number) = self.number()
            && let Ok(value) = HeaderValue::try_from(format!("r{number}"))
        {
            headers.insert("x-portcullis-request", value);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, asker: &Asker<'_>) -> Response<DownBody> {
        let body = Bytes::from(self.json(asker).to_string());
        let mut response = Response::new(DownBody::whole(body));
        self.status_line(&mut response);
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// The status, and on HTTP/1 the reason phrase of a 403.
    fn status_line(&self, response: &mut Response<DownBody>) {
        *response.status_mut() =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::FORBIDDEN);
        if self.status() == 403
            && let Ok(reason) = hyper::ext::ReasonPhrase::try_from(self.reason().into_bytes())
        {
            response.extensions_mut().insert(reason);
        }
    }

    /// The reason phrase of a 403 on HTTP/1.
    fn reason(&self) -> String {
        match self.number() {
            Some(number) => format!("Forbidden by policy r{number}"),
            None => "Forbidden by policy".to_owned(),
        }
    }

    /// The problem object; also printed by raw HTTP/1 answers. What a client chose is cut until all of
    /// it fits, also where it is spelled in escapes.
    pub(crate) fn json(&self, asker: &Asker<'_>) -> serde_json::Value {
        [1024, 256, 64]
            .into_iter()
            .map(|most| self.clipped(asker, most))
            .find(|problem| problem.to_string().len() <= MAX_BODY - ROUND)
            .unwrap_or_else(|| self.clipped(asker, 16))
    }

    fn clipped(&self, asker: &Asker<'_>, most: usize) -> serde_json::Value {
        let shown = |text: &str| Shown::new(clip(text, most)).to_string();
        let error = self.error();
        let mut problem = json!({
            "type": "about:blank",
            "title": title(error),
            "status": self.status(),
            "error": error,
            "code": self.code,
            "detail": clip(&self.detail, most),
            "id": asker.id.to_string(),
        });
        let map = problem.as_object_mut().expect("built as an object above");
        if let Some(target) = asker.target {
            map.insert("host".into(), json!(target.host.to_string()));
            map.insert("port".into(), json!(target.port.get()));
        }
        for (key, value) in
            [("method", asker.method), ("path", asker.path), ("binary", asker.binary)]
        {
            if let Some(value) = value {
                map.insert(key.into(), json!(shown(value)));
            }
        }
        if let Some(rule) = &self.rule {
            map.insert("nearest".into(), json!(within_sandbox(rule)));
        }
        map.insert("agent_guidance".into(), json!(guidance(error)));
        if let Some(number) = self.number() {
            map.insert("request".into(), json!(format!("r{number}")));
            let waits = self.asked.as_ref().is_some_and(|a| !matches!(a.came, Came::Denied(..)));
            if waits {
                map.insert("next_steps".into(), next_steps(number));
            }
        }
        problem
    }

    fn grpc(&self) -> Response<DownBody> {
        let mut response = Response::new(DownBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status(self.status())));
        let detail = clip(&self.detail, 1024);
        let escaped = percent_encoding::utf8_percent_encode(detail, GRPC_MESSAGE);
        if let Ok(message) = HeaderValue::try_from(escaped.to_string()) {
            headers.insert("grpc-message", message);
        }
        response
    }

    fn rpc(&self, asker: &Asker<'_>, id: &str) -> Response<DownBody> {
        let id = serde_json::value::RawValue::from_string(id.to_owned())
            .map_or(serde_json::Value::Null, |raw| json!(raw));
        let body = json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": {
                "code": -32001,
                "message": clip(&self.detail, RPC_MESSAGE),
                "data": self.json(asker),
            },
        });
        let mut response = Response::new(DownBody::whole(Bytes::from(body.to_string())));
        self.status_line(&mut response);
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn model(&self, shape: Shape) -> Response<DownBody> {
        let message = format!("{} (portcullis: {})", clip(&self.detail, 2048), self.code.as_str());
        let body = error_body(shape, self.status(), self.code.as_str(), &message);
        let mut response = Response::new(DownBody::whole(Bytes::from(body.to_string())));
        *response.status_mut() =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::FORBIDDEN);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.code == Code::TokenBudget || self.status() < 429 {
            // The SDKs would try again, and it would be the same.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    /// The answer as bytes, for where no HTTP library stands between (before a connection is
    /// served, after its head timed out). Always closes.
    pub(crate) fn raw(&self, asker: &Asker<'_>) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::FORBIDDEN);
        let reason = match self.status() {
            403 => self.reason(),
            _ => status.canonical_reason().unwrap_or("Refused").to_owned(),
        };
        let body = self.json(asker).to_string();
        let number = self.number().map(|n| format!("x-portcullis-request: r{n}\r\n"));
        let after = self.retry_after().map(|seconds| format!("retry-after: {seconds}\r\n"));
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\ncache-control: no-store\r\nx-portcullis-id: {}\r\n\
             {}{}connection: close\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
            asker.id,
            number.unwrap_or_default(),
            after.unwrap_or_default(),
        )
        .into_bytes()
    }
}

/// The first `max` bytes, cut at a character.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    debug_assert!(max <= MAX_BODY, "a refusal stays under 4 KiB");
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl From<Denial> for Refusal {
    #[cold]
    fn from(denial: Denial) -> Self {
        let Denial { code, rule, detail, quiet: _, answer } = denial;
        if let Some((id, approval)) = answer {
            let by = By::Grant(GrantRef::Grant(id));
            let asked = Asked { number: None, came: Came::Denied(GrantRef::Grant(id), approval) };
            let judged = Judged::Unknown;
            return Self {
                code,
                detail,
                rule,
                judged,
                by,
                close: false,
                asked: Some(asked),
                wait: None,
            };
        }
        let judged = match code.error() {
            Some(ErrorKind::MalformedRequest) => Judged::None,
            _ => Judged::Deny,
        };
        Self { code, detail, rule, judged, by: By::Policy, close: false, asked: None, wait: None }
    }
}

impl From<Question> for Refusal {
    #[cold]
    fn from(question: Question) -> Self {
        let Question { code, detail, nearest } = question;
        let judged = Judged::Unknown;
        Self {
            code,
            detail,
            rule: nearest,
            judged,
            by: By::Policy,
            close: false,
            asked: None,
            wait: None,
        }
    }
}

impl From<PathError> for Refusal {
    #[cold]
    fn from(error: PathError) -> Self {
        let code = match error {
            PathError::DotSegment => Code::DotSegment,
            PathError::Control => Code::ControlByte,
            PathError::NonAscii => Code::NonAscii,
            PathError::Fragment => Code::Fragment,
            PathError::BadEscape => Code::BadEscape,
            PathError::Backslash => Code::Backslash,
            PathError::NotAbsolute => Code::BadTarget,
        };
        Self::unjudged(code, error.to_string())
    }
}

impl From<AuthorityError> for Refusal {
    #[cold]
    fn from(error: AuthorityError) -> Self {
        Self::unjudged(Code::BadHost, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::within_sandbox;

    #[test]
    fn a_sandbox_sees_no_file_of_the_hosts() {
        for (rule, shown) in [
            ("github/endpoints[0]/rules[1]", "github/endpoints[0]/rules[1]"),
            ("/etc/portcullis/a.yaml:github/endpoints[0]", "github/endpoints[0]"),
            ("/etc/x:y/endpoints[/a.yaml:g/endpoints[2]", "g/endpoints[2]"),
            ("runtime:local/endpoints[0]/access", "local/endpoints[0]/access"),
            ("policy.local", "policy.local"),
            ("/srv/a.yaml:github", "github"),
        ] {
            assert_eq!(within_sandbox(rule), shown);
        }
    }
}
