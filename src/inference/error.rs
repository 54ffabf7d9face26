//! Errors as each SDK parses them.

use super::shape::Shape;
use serde_json::{Value, json};

/// The body of an error: `status` is the HTTP status, `code` the stable reason, `message` a
/// sentence in which everything from outside is escaped.
pub fn error_body(shape: Shape, status: u16, code: &str, message: &str) -> Value {
    match shape {
        Shape::OpenAi => json!({
            "error": {
                "message": message,
                "type": openai_type(status),
                "param": if code.starts_with("model_") { json!("model") } else { Value::Null },
                "code": code,
            },
        }),
        Shape::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_type(status), "message": message },
        }),
        Shape::Gemini => json!({
            "error": {
                "code": status,
                "message": message,
                "status": gemini_status(status),
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": code.to_ascii_uppercase(),
                    "domain": super::HOST,
                }],
            },
        }),
        Shape::Ollama => json!({ "error": message }),
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        504 => "DEADLINE_EXCEEDED",
        500 => "INTERNAL",
        501.. => "UNAVAILABLE",
        _ => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_has_its_own_error() {
        let of = |shape| error_body(shape, 429, "token_budget", "no more today").to_string();
        assert_eq!(
            of(Shape::OpenAi),
            "{\"error\":{\"message\":\"no more today\",\"type\":\"rate_limit_error\",\
             \"param\":null,\"code\":\"token_budget\"}}"
        );
        assert_eq!(
            of(Shape::Anthropic),
            "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\
             \"message\":\"no more today\"}}"
        );
        assert!(of(Shape::Gemini).contains("\"code\":429,\"message\":\"no more today\""));
        assert!(of(Shape::Gemini).contains("\"status\":\"RESOURCE_EXHAUSTED\""));
        assert_eq!(of(Shape::Ollama), "{\"error\":\"no more today\"}");
    }
}
