//! Putting a value into its place, and the client's own copies out of it.

use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use zeroize::Zeroizing;

/// What is escaped in a query value: all but the unreserved characters (RFC 3986 §2.3).
pub(super) const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is escaped in a path segment: also a `:` stays, which tokens hold (`/bot1:AA/`).
pub(super) const SEGMENT: &AsciiSet = &QUERY.remove(b':');

/// Puts `value` into the header `name`, alone.
pub(super) fn header(headers: &mut HeaderMap, name: &HeaderName, value: &str) -> Option<()> {
    remove(headers, name);
    headers.insert(name.clone(), sensitive(value.as_bytes())?);
    Some(())
}

/// Puts `user` and `secret` into `Authorization: Basic` (RFC 7617).
pub(super) fn basic(headers: &mut HeaderMap, user: &str, secret: &Secret) -> Option<()> {
    let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    header(headers, &header::AUTHORIZATION, &value)
}

/// Puts `name=secret` into the query, alone of its name.
pub(super) fn query(target: &PathAndQuery, name: &str, secret: &Secret) -> Option<PathAndQuery> {
    let mut query = Zeroizing::new(String::new());
    for pair in target.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        // What reads `;` as a separator would find a copy behind one.
        let own = pair.split(';').any(|part| key(part) == name.as_bytes());
        if !own {
            query.push_str(pair);
            query.push('&');
        }
    }
    let (name, value) =
        (utf8_percent_encode(name, QUERY), utf8_percent_encode(secret.expose(), QUERY));
    query.push_str(&Zeroizing::new(format!("{name}={value}")));
    with_query(target.path(), &query)
}

pub(super) fn with_query(path: &str, query: &str) -> Option<PathAndQuery> {
    PathAndQuery::try_from(format!("{path}?{query}")).ok()
}

/// A header value that is neither printed nor kept in HPACK's table.
pub(super) fn sensitive(value: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Removes every copy of `name`, also those that some origins take for it: CGI and WSGI turn `-`
/// into `_`.
pub(super) fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    let alike: Vec<HeaderName> =
        headers.keys().filter(|other| same(other, name)).cloned().collect();
    alike.iter().for_each(|other| {
        headers.remove(other);
    });
}

/// Whether an origin may take `one` for `other`.
pub(crate) fn same(one: &HeaderName, other: &HeaderName) -> bool {
    let plain = |b: &u8| if *b == b'_' { b'-' } else { *b };
    let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

/// The name of a query pair, as an origin reads it.
fn key(pair: &str) -> Vec<u8> {
    let name = pair.split('=').next().unwrap_or(pair).replace('+', " ");
    percent_decode(name.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::read(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_copy_of_the_clients_own_header_is_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-api-key", "a"), ("x-api-key", "b"), ("x_api-key", "c"), ("x-api", "d")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        header(&mut headers, &HeaderName::from_static("x-api-key"), "ours").unwrap();
        let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left, [("x-api", "d"), ("x-api-key", "ours")]);
        assert!(!format!("{headers:?}").contains("ours"));
    }

    #[test]
    fn basic_is_user_and_value() {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer mine"));
        basic(&mut headers, "bot@acme.com", &secret("hunter22")).unwrap();
        let value = headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>();
        assert_eq!(value, ["Basic Ym90QGFjbWUuY29tOmh1bnRlcjIy"]);
    }

    #[test]
    fn a_query_parameter_is_there_once_in_any_spelling() {
        let cases = [
            ("/x", "/x?api%20key=a%26b%2Fc%3Dd-e"),
            ("/x?a=1", "/x?a=1&api%20key=a%26b%2Fc%3Dd-e"),
            ("/x?api+key=1&a=1&api%20key&%61pi%20key=2", "/x?a=1&api%20key=a%26b%2Fc%3Dd-e"),
            ("/x?a=1;api+key=2", "/x?api%20key=a%26b%2Fc%3Dd-e"),
        ];
        for (before, after) in cases {
            let target = PathAndQuery::from_static(before);
            let put = query(&target, "api key", &secret("a&b/c=d-e")).unwrap();
            assert_eq!(put.as_str(), after, "{before}");
        }
    }
}
