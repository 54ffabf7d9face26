//! What a refused client gets: an answer with a stable code, a sentence, and what to do next.
//!
//! The shape is `interfaces.md`'s: HTTP problem JSON (RFC 9457), gRPC status, or a JSON-RPC error.

use super::body::DownBody;
use crate::addr::{Authority, AuthorityError, PathError, Shown};
use crate::policy::{Code, Denial, ErrorKind, Question, RuleRef};
use crate::record::{By, Id, Judged};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

/// The largest refusal body, in bytes.
const MAX_BODY: usize = 4096;

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
}

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
}

impl Refusal {
    /// A request that was never judged.
    pub(crate) fn unjudged(code: Code, detail: impl Into<String>) -> Self {
        let by = match code.error() {
            Some(ErrorKind::LimitExceeded) => By::Limit,
            Some(ErrorKind::AddressRefused) => By::Guard,
            _ => By::Policy,
        };
        let close = code.error() == Some(ErrorKind::MalformedRequest);
        Self { code, detail: detail.into(), rule: None, judged: Judged::None, by, close }
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
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(asker.id.to_string()) {
            headers.insert("x-portcullis-id", id);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code.status() == 429 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, asker: &Asker<'_>) -> Response<DownBody> {
        let body = Bytes::from(self.json(asker).to_string());
        let mut response = Response::new(DownBody::whole(body));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::FORBIDDEN);
        if self.code.status() == 403 {
            let reason = hyper::ext::ReasonPhrase::from_static(b"Forbidden by policy");
            response.extensions_mut().insert(reason);
        }
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// The problem object; also printed by raw HTTP/1 answers.
    pub(crate) fn json(&self, asker: &Asker<'_>) -> serde_json::Value {
        let shown = |text: &str| Shown::new(clip(text, 1024)).to_string();
        let error = self.code.error();
        let mut problem = json!({
            "type": "about:blank",
            "title": title(error),
            "status": self.code.status(),
            "error": error,
            "code": self.code,
            "detail": clip(&self.detail, 1024),
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
            map.insert("nearest".into(), json!(&**rule));
        }
        map.insert("agent_guidance".into(), json!(guidance(error)));
        problem
    }

    fn grpc(&self) -> Response<DownBody> {
        let mut response = Response::new(DownBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status(self.code)));
        let escaped = percent_encoding::utf8_percent_encode(
            clip(&self.detail, 1024),
            percent_encoding::CONTROLS,
        );
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
                "message": clip(&self.detail, 1024),
                "data": self.json(asker),
            },
        });
        let mut response = Response::new(DownBody::whole(Bytes::from(body.to_string())));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::FORBIDDEN);
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// The answer as bytes, for where no HTTP library stands between (before a connection is
    /// served, after its head timed out). Always closes.
    pub(crate) fn raw(&self, asker: &Asker<'_>) -> Vec<u8> {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::FORBIDDEN);
        let reason = match self.code.status() {
            403 => "Forbidden by policy",
            _ => status.canonical_reason().unwrap_or("Refused"),
        };
        let body = self.json(asker).to_string();
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nx-portcullis-id: {}\r\nconnection: close\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
            asker.id,
        )
        .into_bytes()
    }
}

fn title(error: Option<ErrorKind>) -> &'static str {
    match error {
        None => "Not served",
        Some(error) => match error {
            ErrorKind::PolicyDenied
            | ErrorKind::ApprovalRequired
            | ErrorKind::ApprovalDenied
            | ErrorKind::ApprovalTimeout => "Forbidden by policy",
            ErrorKind::QueueFull => "Too many questions are waiting",
            ErrorKind::AddressRefused => "Address refused",
            ErrorKind::PlaceholderMisuse => "Placeholder sent to the wrong host",
            ErrorKind::NameMismatch => "Names disagree",
            ErrorKind::MalformedRequest => "Malformed request",
            ErrorKind::LimitExceeded => "Limit exceeded",
            ErrorKind::CredentialUnavailable => "Credential unavailable",
            ErrorKind::UpstreamTls => "Origin's TLS not trusted",
            ErrorKind::UpstreamUnreachable => "Origin unreachable",
            ErrorKind::UpstreamTimeout => "Origin too slow",
            ErrorKind::UpstreamProtocol => "Origin's answer not understood",
            ErrorKind::InferenceRoute => "Not served here",
            ErrorKind::RequestTimeout => "Request too slow",
            ErrorKind::MethodRefused => "Method refused",
            ErrorKind::Loop => "Loop",
            ErrorKind::RecordFailure => "Traffic can't be recorded",
            ErrorKind::Draining => "Gateway is stopping",
        },
    }
}

fn guidance(error: Option<ErrorKind>) -> &'static str {
    match error {
        None => "Nothing to do.",
        Some(error) => match error {
            ErrorKind::PolicyDenied
            | ErrorKind::ApprovalRequired
            | ErrorKind::ApprovalDenied
            | ErrorKind::AddressRefused
            | ErrorKind::PlaceholderMisuse => {
                "Do not retry or try another host. Tell the operator what you need and why."
            }
            ErrorKind::ApprovalTimeout | ErrorKind::QueueFull | ErrorKind::LimitExceeded => {
                "Slow down, and retry once after the time given."
            }
            ErrorKind::NameMismatch
            | ErrorKind::MalformedRequest
            | ErrorKind::MethodRefused
            | ErrorKind::InferenceRoute => "Correct the request before sending it again.",
            ErrorKind::CredentialUnavailable
            | ErrorKind::UpstreamTls
            | ErrorKind::UpstreamProtocol
            | ErrorKind::Loop
            | ErrorKind::RecordFailure => "Do not retry. The operator must look at it.",
            ErrorKind::UpstreamUnreachable
            | ErrorKind::UpstreamTimeout
            | ErrorKind::RequestTimeout
            | ErrorKind::Draining => "Retry once, a little later.",
        },
    }
}

/// gRPC status codes (grpc/doc/statuscodes.md).
fn grpc_status(code: Code) -> &'static str {
    match code.status() {
        403 => "7",
        413 | 429 => "8",
        408 | 504 => "4",
        502 | 503 => "14",
        _ => "13",
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
    fn from(denial: Denial) -> Self {
        let Denial { code, rule, detail, quiet: _ } = denial;
        let judged = match code.error() {
            Some(ErrorKind::MalformedRequest) => Judged::None,
            _ => Judged::Deny,
        };
        Self { code, detail, rule, judged, by: By::Policy, close: false }
    }
}

impl From<Question> for Refusal {
    fn from(question: Question) -> Self {
        let Question { code, detail, nearest } = question;
        Self { code, detail, rule: nearest, judged: Judged::Unknown, by: By::Policy, close: false }
    }
}

impl From<PathError> for Refusal {
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
    fn from(error: AuthorityError) -> Self {
        Self::unjudged(Code::BadHost, error.to_string())
    }
}
