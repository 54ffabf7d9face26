//! The sentences and numbers of a refusal that depend on its kind alone.

use crate::policy::ErrorKind;
use serde_json::json;

pub(super) fn title(error: Option<ErrorKind>) -> &'static str {
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

pub(super) fn guidance(error: Option<ErrorKind>) -> &'static str {
    match error {
        None => "Nothing to do.",
        Some(error) => match error {
            ErrorKind::ApprovalRequired | ErrorKind::ApprovalTimeout => {
                "Do not retry or try another host. Wait on the URL below, then retry once."
            }
            ErrorKind::PolicyDenied
            | ErrorKind::ApprovalDenied
            | ErrorKind::AddressRefused
            | ErrorKind::PlaceholderMisuse => {
                "Do not retry or try another host. Tell the operator what you need and why."
            }
            ErrorKind::QueueFull | ErrorKind::LimitExceeded => {
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

/// What a client can do about a question that waits.
pub(super) fn next_steps(number: u64) -> serde_json::Value {
    json!([
        { "action": "wait", "url": format!("http://policy.local/v1/requests/r{number}/wait?timeout=300") },
        { "action": "ask_operator", "command": format!("portcullis requests approve r{number}") },
    ])
}

/// gRPC status codes (grpc/doc/statuscodes.md).
pub(super) fn grpc_status(status: u16) -> &'static str {
    match status {
        403 => "7",
        413 | 429 => "8",
        408 | 504 => "4",
        502 | 503 => "14",
        _ => "13",
    }
}
