//! Header fields on their way through: what is removed, what must be well-formed.
//!
//! RFC 9110 §7.6.1 (connection-specific fields), RFC 9112 §6 (framing).

mod marks;

use super::refuse::Refusal;
use crate::policy::Code;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
pub(crate) use marks::Marks;

/// The most that an HTTP/2 head may be, counted as RFC 9113 §6.5.2 says: 32 bytes beside each field.
const HEADER_LIST: usize = 32 * 1024;
/// What `h2` lets come: between the two the refusal is the gateway's own, with its record.
pub(crate) const HEADER_LIST_READ: u32 = 64 * 1024;

/// The namespace of the gateway's own response fields; nothing from an origin may claim it.
const OWN_PREFIX: &str = "x-portcullis-";

/// The field in which a gateway finds a request that it sent through a parent proxy before.
pub(crate) const LOOP: HeaderName = HeaderName::from_static("x-portcullis-loop");

static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What `Connection` can't name away (RFC 9110 §7.6.1 forbids naming what is for all recipients).
static STAYS: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::EXPECT,
];

/// Never in trailers: framing, routing, credentials, what says how the body is read
/// (RFC 9110 §6.5.1).
static NOT_IN_TRAILERS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::TE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::LOCATION,
    header::CACHE_CONTROL,
];

impl Marks {
    /// Removes the hop-by-hop fields that were found, and those that `Connection` names.
    fn remove_hops(self, headers: &mut HeaderMap) {
        if self.has(1) {
            remove_named(headers);
        }
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            if self.has(1 << place) {
                headers.remove(name);
            }
        }
        if self.has(Self::PROXY) {
            clean_marked(headers, Self::PROXY);
        }
        if self.has(Self::TE) {
            headers.remove(header::TE);
        }
    }
}

/// What a request says of its framing and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    /// `Content-Length`, if it has one.
    pub(crate) length: Option<u64>,
    /// `Expect: 100-continue`.
    pub(crate) expects: bool,
    /// The client takes trailers.
    pub(crate) trailers: bool,
    marks: Marks,
}

impl Framing {
    /// It is gRPC, whose answers must be gRPC too.
    pub(crate) fn grpc(&self) -> bool {
        self.marks.has(Marks::GRPC)
    }

    /// Some field is in the gateway's own namespace.
    pub(crate) fn own(&self) -> bool {
        self.marks.has(Marks::OWN)
    }

    /// It authenticates the connection that it goes over, which then is nobody else's.
    pub(crate) fn bound(&self) -> bool {
        self.marks.has(Marks::BOUND)
    }
}

/// Checks the framing fields of a request as hyper shows them: what two parsers could read
/// differently is refused.
pub(crate) fn framing(version: http::Version, headers: &HeaderMap) -> Result<Framing, Refusal> {
    let marks = Marks::of(headers).read(headers);
    if version != http::Version::HTTP_2 && !marks.has(Marks::FRAMING | Marks::TE) {
        return Ok(Framing { length: None, expects: false, trailers: false, marks });
    }
    let bad = |what: &str| Err(Refusal::unjudged(Code::BadFraming, what));
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        if version == http::Version::HTTP_2 {
            return bad("HTTP/2 has no Transfer-Encoding");
        }
        if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return bad("Transfer-Encoding must be exactly `chunked`");
        }
        if headers.contains_key(header::CONTENT_LENGTH) {
            return bad("Content-Length beside Transfer-Encoding");
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match lengths.next() {
        None => None,
        Some(value) => {
            if lengths.next().is_some() {
                return bad("more than one Content-Length");
            }
            let Some(length) = decimal(value) else {
                return bad("Content-Length must be a plain decimal number");
            };
            Some(length)
        }
    };
    if version == http::Version::HTTP_2 && marks.has(Marks::HOP | Marks::TE) {
        http2_fields(headers)?;
    }
    let expects = headers
        .get(header::EXPECT)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let trailers = version == http::Version::HTTP_2 || lists(headers, &header::TE, "trailers");
    Ok(Framing { length, expects, trailers, marks })
}

/// HTTP/2 knows no connection-specific fields (RFC 9113 §8.2.2).
fn http2_fields(headers: &HeaderMap) -> Result<(), Refusal> {
    let named = HOP_BY_HOP
        .iter()
        .find(|name| headers.contains_key(*name) && !name.as_str().starts_with("proxy-auth"));
    let te = headers.get_all(header::TE).iter().any(|v| v != "trailers");
    match named {
        Some(name) => Err(Refusal::unjudged(
            Code::BadFraming,
            format!("HTTP/2 does not allow the field {name}"),
        )),
        None if te => {
            Err(Refusal::unjudged(Code::BadFraming, "HTTP/2 allows TE only as `trailers`"))
        }
        None => Ok(()),
    }
}

/// A length as it may be passed on: no list, and no zeros before it.
pub(crate) fn decimal(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Whether the comma-separated field `name` has the element `item` (without parameters).
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|e| e.split(';').next().unwrap_or(e).trim().eq_ignore_ascii_case(item))
        })
    })
}

/// Whether a scheme of the field `name` authenticates the connection rather than the request (RFC 4559 §6, and
/// NTLM, which knows no other way): it can't be shared then.
pub(crate) fn binds(headers: &HeaderMap, name: &HeaderName) -> bool {
    let bound = |item: &[u8]| {
        let scheme = item.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
    };
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values.flat_map(|value| value.split(|byte| *byte == b',')).any(bound)
}

/// Removes what belongs to the client's connection, before anything is injected. That the client
/// takes trailers is passed on where it said so and `trailers` can be.
pub(crate) fn clean_request(headers: &mut HeaderMap, trailers: bool) {
    let marks = Marks::of(headers);
    let trailers = trailers && marks.has(Marks::TE) && lists(headers, &header::TE, "trailers");
    marks.remove_hops(headers);
    if marks.has(Marks::DISGUISE) {
        clean_marked(headers, Marks::DISGUISE);
    }
    if marks.has(Marks::OWN) {
        clean_marked(headers, Marks::OWN);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if marks.has(Marks::COOKIE) {
        join_cookies(headers);
    }
}

/// h2 clients split cookies; h1 origins want one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let mut joined = Vec::new();
    for cookie in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

/// Removes what belongs to the origin's connection, and what only the gateway may say.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    clean_marked_response(Marks::of(headers), headers);
}

/// As [`clean_response`], of fields whose marks are known.
pub(crate) fn clean_marked_response(marks: Marks, headers: &mut HeaderMap) {
    if marks.has(Marks::CODINGS) {
        // The length beside it is not the body's (RFC 9112 §6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    marks.remove_hops(headers);
    if marks.has(Marks::OWN) {
        clean_marked(headers, Marks::OWN);
    }
}

/// Whether nothing is left of an answer's transfer codings: the one that is undone on the way is
/// `chunked`, and a field that says another does not go on.
pub(crate) fn decoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// Refuses an HTTP/2 head that is too large, or has a value that is not well-formed.
pub(crate) fn bounded<B>(request: &http::Request<B>) -> Result<(), Refusal> {
    let uri = request.uri();
    let pseudo = [
        uri.path_and_query().map_or(0, |path| path.as_str().len()),
        uri.authority().map_or(0, |authority| authority.as_str().len()),
        request.method().as_str().len(),
    ];
    let mut list: usize = pseudo.into_iter().map(|n| n + 32).sum();
    for (name, value) in request.headers() {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        if ends.into_iter().flatten().any(|end| matches!(end, b' ' | b'\t')) {
            // RFC 9113 §8.2.1: malformed, and not to be passed on.
            let detail = format!("the value of {name} begins or ends with white space");
            return Err(Refusal::unjudged(Code::BadFraming, detail));
        }
        list += name.as_str().len() + value.len() + 32;
    }
    if list > HEADER_LIST {
        let detail =
            format!("the head has {list} bytes as RFC 9113 counts them, over {HEADER_LIST}");
        return Err(Refusal::unjudged(Code::HeadTooLarge, detail));
    }
    Ok(())
}

/// Removes from trailers what no trailer may say.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&NOT_IN_TRAILERS) {
        trailers.remove(name);
    }
    clean_marked(trailers, Marks::DISGUISE | Marks::OWN | Marks::PROXY);
}

/// Removes what has one of `marks`.
fn clean_marked(headers: &mut HeaderMap, marks: u32) {
    let marked = |name: &&HeaderName| Marks::name(name.as_str()) & marks != 0;
    let names: Vec<HeaderName> = headers.keys().filter(marked).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` names: not those by which the request was framed, routed
/// and its body read, or the origin would read another than was judged.
fn remove_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .map(HeaderValue::as_bytes)
        // The usual two name no field, or one that is removed as hop-by-hop.
        .filter(|value| ![&b"keep-alive"[..], b"close"].contains(value))
        .flat_map(|value| value.split(|b| *b == b','))
        .filter_map(|name| HeaderName::try_from(name.trim_ascii()).ok())
        .filter(|name| !STAYS.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// A WebSocket handshake on HTTP/1.1 (RFC 6455 §4.1).
pub(crate) fn is_websocket(method: &Method, version: http::Version, headers: &HeaderMap) -> bool {
    *method == Method::GET
        && version == http::Version::HTTP_11
        && lists(headers, &header::UPGRADE, "websocket")
        && lists(headers, &header::CONNECTION, "upgrade")
}

/// gRPC, whose answers must be gRPC too.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value == b"application/grpc"
            || value.starts_with(b"application/grpc+")
            || value.starts_with(b"application/grpc;")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hop_by_hop_field_has_the_bit_of_its_place() {
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(Marks::name(name.as_str()) & Marks::HOP, 1 << place, "{name}");
        }
    }

    #[test]
    fn every_name_that_asks_for_something_is_looked_at() {
        for (name, mark) in [
            ("authorization", Marks::AUTHORIZATION),
            ("content-length", Marks::FRAMING),
            ("content-type", Marks::TYPE),
            ("cookie", Marks::COOKIE),
            ("expect", Marks::FRAMING),
            ("proxy-anything", Marks::PROXY),
            ("te", Marks::TE),
            ("transfer-encoding", Marks::CODINGS),
            ("www-authenticate", Marks::CHALLENGE),
            ("x-portcullis-loop", Marks::OWN),
        ] {
            assert_ne!(Marks::name(name) & mark, 0, "{name}");
        }
    }

    #[test]
    fn a_disguise_goes_in_either_spelling_of_its_name() {
        for name in [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-original-method",
            "x-original-url",
            "x-rewrite-url",
            "x-http-verb",
            "x-forwarded-method",
            "x-original-uri",
            "x-forwarded-uri",
            "proxy",
            "proxy-authentication-info",
            "proxy_foo",
            "proxy_authorization",
            "x_http_method_override",
            "x-original_url",
            "x_portcullis_id",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
            headers.insert("x_mine", HeaderValue::from_static("1"));
            headers.insert("content_length", HeaderValue::from_static("1"));
            headers.insert("proxy-status", HeaderValue::from_static("cdn"));
            clean_request(&mut headers, false);
            assert_eq!(headers.len(), 3, "{name}");
        }
    }

    #[test]
    fn what_connection_names_goes_and_what_frames_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine, authorization, content-length, host"),
            ("connection", "Content-Type,content-encoding, transfer-encoding,expect"),
            ("x-other", "1"),
            ("content-type", "application/json"),
            ("content-encoding", "identity"),
            ("expect", "100-continue"),
            ("x-mine", "1"),
            ("authorization", "mine"),
            ("content-length", "3"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        // What can't be read hides nothing that can.
        let odd = HeaderValue::from_bytes(b"x-other, \xff").unwrap();
        headers.append(header::CONNECTION, odd);
        clean_request(&mut headers, false);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let stays = ["content-encoding", "content-length", "content-type", "expect", "host"];
        assert_eq!(left, stays);
    }

    #[test]
    fn that_trailers_are_taken_is_passed_on_where_the_client_said_it() {
        for (said, passed, goes) in [
            (Some("trailers"), true, true),
            (Some("gzip, Trailers"), true, true),
            (Some("gzip"), true, false),
            (None, true, false),
            (Some("trailers"), false, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(header::TE, HeaderValue::from_static(said));
            }
            clean_request(&mut headers, passed);
            let te = headers.get(header::TE).map(HeaderValue::as_bytes);
            assert_eq!(te, goes.then_some(&b"trailers"[..]), "{said:?}");
        }
    }
}
