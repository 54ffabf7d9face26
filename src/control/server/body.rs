//! Bodies: requests of bounded length in bounded time, answers as JSON.

use crate::control::wire::Problem;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// How long a request's body may be.
const LONGEST: usize = 1 << 20;
/// How long it may take.
const BODY: Duration = Duration::from_secs(10);

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What one connection too many is told.
pub(super) const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n\
    {\"status\":503,\"code\":\"unavailable\",\"detail\":\"64 connections are open: close a pane, or try again\"} \n";

/// The body of a request, as the type that its route takes.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Problem> {
    let Ok(collected) = timeout(BODY, Limited::new(body, LONGEST).collect()).await else {
        let detail = format!("the body did not come within {} s", BODY.as_secs());
        return Err(Problem::new(408, "bad_request", detail));
    };
    let bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("the body is longer than {} MiB", LONGEST >> 20);
            return Err(Problem::new(413, "bad_request", detail));
        }
        Err(error) => return Err(Problem::bad_request(format!("the body broke off: {error}"))),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!("the body is not what is asked for: {error}"))
    })
}

/// The query as the type that its route takes. A key that is not known, or comes twice, is an
/// error: a filter that is passed over would show too much.
pub(super) fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    let mut keys = serde_json::Map::new();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let value = match (&*key, &*value) {
            ("attend", "true") => true.into(),
            ("attend", "false") => false.into(),
            (_, value) => value.into(),
        };
        if keys.insert(key.to_string(), value).is_some() {
            return Err(Problem::bad_request(format!("`{key}` stands twice in the query")));
        }
    }
    serde_json::from_value(keys.into())
        .map_err(|error| Problem::bad_request(format!("the query: {error}")))
}

pub(super) fn json<T: Serialize>(value: &T) -> Response<Body> {
    respond(StatusCode::OK, "application/json", value)
}

pub(super) fn problem(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, "application/problem+json", problem)
}

fn respond<T: Serialize>(status: StatusCode, kind: &'static str, value: &T) -> Response<Body> {
    let mut text = serde_json::to_vec(value).expect("a type of the wire is JSON");
    text.push(b'\n');
    let mut response = with_kind(kind, Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An answer that nobody keeps.
pub(super) fn with_kind(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_too_many_is_told_is_a_whole_answer() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let problem: Problem = serde_json::from_str(body).unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (503, "unavailable"));
        assert!(problem.detail.starts_with(&super::super::CONNECTIONS.to_string()));
    }
}
