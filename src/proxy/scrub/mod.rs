//! What comes back from an origin that got a credential: scrubbed of it before the client sees it.
//!
//! Owns the answer's way from the origin's coding to identity, masked: head, body, trailers. The
//! origin is asked for nothing that could not be undone (no ranges, no codings that are not
//! decoded here), and what it answers otherwise is an error, never passed on unread (I4).

mod accept;
mod body;
mod decode;
mod gzip;
mod messages;

pub(crate) use body::{Answer, Unread};
pub(crate) use decode::DecodeError;

use super::inference::Calls;
use super::refuse::Refusal;
use crate::policy::Code;
use crate::secret::{Needles, Watchlist};
use crate::upstream::http::Received;
pub(crate) use decode::Coding;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use tokio::sync::OwnedSemaphorePermit;

/// What says something of the bytes that were sent and holds no longer once they are rewritten.
static SPENT: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ETAG,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
];

/// The same, without names of their own in `http`.
const DIGESTS: [&str; 5] = ["digest", "content-digest", "repr-digest", "x-goog-hash", "dcb"];

/// What asks for a part of an answer, for a difference, for a coding below the body's, or for letters
/// that are more than a byte each.
const NOT_ASKED: [&str; 9] = [
    "accept-charset",
    "range",
    "request-range",
    "if-range",
    "a-im",
    "available-dictionary",
    "dictionary-id",
    "grpc-accept-encoding",
    "connect-accept-encoding",
];

/// Codings of messages inside a body.
const INNER: [&str; 2] = ["grpc-encoding", "connect-content-encoding"];

/// Takes out of a request what would bring an answer that can't be scrubbed, or that takes much memory to
/// be: the client gets it without any coding. What an origin sends unasked is decoded all the same.
pub(crate) fn ask_plainly(headers: &mut HeaderMap) {
    for name in NOT_ASKED {
        headers.remove(name);
    }
    let mut codings: Vec<String> = Vec::new();
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        let elements = value.to_str().unwrap_or_default().split(',');
        codings.extend(elements.map(str::trim).filter(|e| is_asked_for(e)).map(str::to_owned));
    }
    let wanted = if codings.is_empty() { "identity".to_owned() } else { codings.join(", ") };
    let wanted = HeaderValue::try_from(wanted);
    headers.insert(header::ACCEPT_ENCODING, wanted.unwrap_or(HeaderValue::from_static("identity")));
    if let header::Entry::Occupied(mut accept) = headers.entry(header::ACCEPT) {
        for value in accept.iter_mut() {
            if let Some(plain) = accept::in_utf8(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&plain).unwrap_or(HeaderValue::from_static("*/*"));
            }
        }
    }
}

/// Whether an element of `Accept-Encoding` names a coding that is decoded here, and cheaply.
fn is_asked_for(element: &str) -> bool {
    let name = element.split(';').next().unwrap_or(element).trim();
    Coding::named(name.as_bytes()).is_some_and(|coding| coding.keeps().is_none())
}

/// The room for what a decoder of `coding` keeps, which an origin can fill and a client not take.
fn room(coding: Coding, calls: &Calls) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let Some(bytes) = coding.keeps() else { return Ok(None) };
    calls.window(bytes).map(Some).ok_or_else(|| {
        let detail = "the origin's answer is compressed as it was not asked to be, and the sandbox's other \
                      answers hold all the room that there is for that: try again";
        Refusal::unjudged(Code::NoRoom, detail)
    })
}

/// The answer without the values that are known, also those that come to be while it is under way.
pub(crate) fn scrub(
    head: &mut Parts,
    body: Received,
    (known, calls): (&Watchlist, &Calls),
    bodyless: bool,
) -> Result<Answer, Refusal> {
    let coding = coding(&head.headers)?;
    self::head(head, &known.needles());
    if http_body::Body::is_end_stream(&body) {
        return Ok(Answer::plain(body));
    }
    if bodyless || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Answer::scrubbed(body, (Coding::Identity, None), known.clone()));
    }
    let room = room(coding, calls)?;
    for name in &SPENT {
        head.headers.remove(name);
    }
    for name in DIGESTS {
        head.headers.remove(name);
    }
    let answer = Answer::scrubbed(body, (coding, room), known.clone());
    Ok(if super::headers::is_grpc(&head.headers) { answer.in_messages() } else { answer })
}

/// The status line and headers.
pub(crate) fn head(head: &mut Parts, needles: &Needles) {
    if let Some(reason) = head.extensions.remove::<hyper::ext::ReasonPhrase>() {
        let masked = needles.mask(reason.as_bytes()).into_owned();
        if let Ok(reason) = hyper::ext::ReasonPhrase::try_from(masked) {
            head.extensions.insert(reason);
        }
    }
    fields(&mut head.headers, needles);
}

/// Headers or trailers: values masked, and fields whose names hold a value removed. A name is
/// read without case, because it goes on in small letters.
pub(crate) fn fields(headers: &mut HeaderMap, needles: &Needles) {
    for value in headers.values_mut() {
        if needles.found_in(value.as_bytes()) {
            let masked = needles.mask(value.as_bytes());
            *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("***"));
        }
    }
    let told: Vec<HeaderName> = headers
        .keys()
        .filter(|name| needles.found_in_any_case(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in told {
        headers.remove(name);
    }
}

/// The one coding of an answer.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Coding, Refusal> {
    let inner = INNER.iter().flat_map(|name| headers.get_all(*name));
    let mut codings = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
    let coding = match codings.next() {
        None => Some(Coding::Identity),
        Some(name) => Coding::named(name),
    };
    let inner = inner.filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")).count();
    match (coding, codings.next()) {
        (Some(coding), None) if inner == 0 => Ok(coding),
        _ => Err(Refusal::unjudged(
            Code::UpstreamProtocol,
            "the origin's answer has a coding that it was not asked for, so it can't be looked through",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn needles() -> Needles {
        Needles::new([&Secret::read(b"S3cret-Value".to_vec()).unwrap()])
    }

    #[test]
    fn what_keeps_much_has_room_of_the_sandbox_and_what_keeps_little_needs_none() {
        let calls = Calls::default();
        let held: Vec<_> = std::iter::from_fn(|| room(Coding::Brotli, &calls).ok()).collect();
        assert_eq!(held.len(), 6);
        let refused = room(Coding::Brotli, &calls).unwrap_err();
        assert_eq!(refused.code, Code::NoRoom);
        assert!(room(Coding::Gzip, &calls).unwrap().is_none());
        assert!(room(Coding::Identity, &calls).unwrap().is_none());
        drop(held);
        assert!(room(Coding::Zstd, &calls).unwrap().is_some());
    }

    #[test]
    fn nothing_is_asked_for_that_can_not_be_undone() {
        for (asked, goes) in [
            (None, "identity"),
            (Some("zstd, br;q=0.5, gzip;q=0.8, sdch, deflate"), "gzip;q=0.8, deflate"),
            (Some("br"), "identity"),
            (Some("dcb, *"), "identity"),
            (Some(""), "identity"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-3"));
            headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
            headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
            headers.insert("accept-charset", HeaderValue::from_static("utf-16"));
            headers.insert("request-range", HeaderValue::from_static("bytes=0-3"));
            if let Some(asked) = asked {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(asked));
            }
            ask_plainly(&mut headers);
            assert_eq!(headers[header::ACCEPT_ENCODING], goes, "{asked:?}");
            assert_eq!(headers.len(), 1);
        }
    }

    #[test]
    fn no_answer_is_asked_for_in_letters_that_are_not_searched() {
        let mut headers = HeaderMap::new();
        for value in ["text/plain; charset=utf-16, text/html", "application/json"] {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        ask_plainly(&mut headers);
        let accept: Vec<_> = headers.get_all(header::ACCEPT).iter().collect();
        assert_eq!(accept, ["text/plain, text/html", "application/json"]);
    }

    #[test]
    fn fields_are_masked_and_names_that_tell_are_gone() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-echo", "a S3cret-Value b"),
            ("x-encoded", "UzNjcmV0LVZhbHVl"),
            ("x-s3cret-value-x", "1"),
            ("x-plain", "1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fields(&mut headers, &needles());
        let mut left: Vec<_> =
            headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("x-echo", "a *** b"), ("x-encoded", "***"), ("x-plain", "1")]);
    }

    #[test]
    fn a_coding_that_is_not_known_is_refused() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coding(&headers).ok()
        };
        assert_eq!(of(&[]), Some(Coding::Identity));
        assert_eq!(of(&["identity"]), Some(Coding::Identity));
        assert_eq!(of(&["x-gzip"]), Some(Coding::Gzip));
        assert_eq!(of(&["BR"]), Some(Coding::Brotli));
        for refused in
            [&["compress"][..], &["gzip, gzip"], &["gzip", "br"], &["dcz"], &["aes128gcm"]]
        {
            assert_eq!(of(refused), None, "{refused:?}");
        }
    }
}
