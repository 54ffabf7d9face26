//! AWS Signature Version 4 over a request's head.
//!
//! Owns the canonical request, the string to sign and the signature. What is signed of the body is
//! its digest or one of S3's words that stand for it, as the caller says.

use super::place::{self, QUERY};
use crate::secret::Secret;
use hmac::{Hmac, Mac};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use percent_encoding::{AsciiSet, percent_decode, percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::SystemTime;
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub(super) const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What a client's own signature consists of: removed before ours goes in.
pub(super) static OWN: [HeaderName; 4] = [header::AUTHORIZATION, DATE, TOKEN, CONTENT];

/// What is escaped in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The scope of a signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) service: &'a str,
    pub(super) region: &'a str,
}

/// The parts of a credential `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`.
struct Keys<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
}

/// What is signed of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Its digest.
    Whole(String),
    /// One of S3's words.
    Word(&'static str),
}

impl Payload {
    /// The digest of a body that is there as a whole.
    pub(super) fn of(body: &[u8]) -> Self {
        Self::Whole(hex(&Sha256::digest(body)))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Whole(digest) => digest,
            Self::Word(word) => word,
        }
    }
}

impl Scope<'_> {
    pub(super) fn is_s3(self) -> bool {
        self.service == "s3"
    }
}

/// Whether a query is a presigned request's, which signs itself.
pub(super) fn is_presigned(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or(pair);
            name.eq_ignore_ascii_case("x-amz-signature")
        })
    })
}

/// Signs `head` at `now`. `None`: the secret is not of the form `ID:SECRET`, or a header can't
/// carry it.
pub(super) fn sign(
    head: &mut Parts,
    secret: &Secret,
    scope: Scope<'_>,
    payload: &Payload,
    now: SystemTime,
) -> Option<()> {
    let keys = Keys::of(secret)?;
    let time = jiff::Timestamp::try_from(now).ok()?.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = time.get(..8)?;
    for name in &OWN {
        place::remove(&mut head.headers, name);
    }
    head.headers.insert(DATE, HeaderValue::try_from(&time).ok()?);
    if let Some(token) = keys.token {
        head.headers.insert(TOKEN, place::sensitive(token.as_bytes())?);
    }
    if scope.is_s3() {
        head.headers.insert(CONTENT, HeaderValue::try_from(payload.as_str()).ok()?);
    }
    let (canonical, signed) = canonical(head, scope, payload);
    let within = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("{ALGORITHM}\n{time}\n{within}\n{digest}");
    let signature = hex(&*mac(&*signing_key(keys.secret, date, scope), to_sign.as_bytes()));
    let authorization = format!(
        "{ALGORITHM} Credential={}/{within}, SignedHeaders={signed}, Signature={signature}",
        keys.id
    );
    place::header(&mut head.headers, &header::AUTHORIZATION, &authorization)
}

impl<'a> Keys<'a> {
    fn of(secret: &'a Secret) -> Option<Self> {
        let mut parts = secret.expose().splitn(3, ':');
        let (id, secret) = (parts.next()?, parts.next()?);
        (!id.is_empty() && !secret.is_empty()).then_some(Self { id, secret, token: parts.next() })
    }
}

fn signing_key(secret: &str, date: &str, scope: Scope<'_>) -> Zeroizing<[u8; 32]> {
    let first = Zeroizing::new(format!("AWS4{secret}"));
    let mut key = mac(first.as_bytes(), date.as_bytes());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = mac(&*key, part.as_bytes());
    }
    key
}

fn mac(key: &[u8], text: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The canonical request, and the names of the headers in it.
fn canonical(head: &Parts, scope: Scope<'_>, payload: &Payload) -> (String, String) {
    let (headers, signed) = headers(&head.headers);
    let path = path(head.uri.path(), scope);
    let query = query(head.uri.query().unwrap_or_default());
    let payload = payload.as_str();
    let method = head.method.as_str();
    (format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{payload}"), signed)
}

/// The path: of S3 as it is meant, of others escaped once more than it goes over the wire.
fn path(path: &str, scope: Scope<'_>) -> String {
    if scope.is_s3() {
        let meant: Vec<u8> = percent_decode(path.as_bytes()).collect();
        return percent_encode(&meant, PATH).to_string();
    }
    let mut single = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c == '/' && single.ends_with('/')) {
            single.push(c);
        }
    }
    percent_encode(single.as_bytes(), PATH).to_string()
}

/// Pairs in the order of their names, then of their values.
fn query(query: &str) -> String {
    let encode = |text: &str| {
        let meant: Vec<u8> = percent_decode(text.as_bytes()).collect();
        percent_encode(&meant, QUERY).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The lines of the headers that are signed, and their names: those that AWS asks for, and no
/// other, since a hop may touch the rest.
fn headers(headers: &HeaderMap) -> (String, String) {
    let mut names: Vec<&HeaderName> = headers
        .keys()
        .filter(|name| {
            **name == header::HOST
                || **name == header::CONTENT_TYPE
                || name.as_str().starts_with("x-amz-")
        })
        .collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut lines = String::new();
    for name in &names {
        let values: Vec<String> = headers
            .get_all(*name)
            .iter()
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        let _ = writeln!(lines, "{name}:{}", values.join(","));
    }
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    (lines, names.join(";"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const EXAMPLE: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signed(
        (method, target): (&str, &str),
        fields: &[(&'static str, &str)],
        (service, region): (&str, &str),
        payload: &Payload,
    ) -> HeaderMap {
        signed_with(EXAMPLE, (method, target), fields, ((service, region), payload))
    }

    fn signed_with(
        keys: &str,
        (method, target): (&str, &str),
        fields: &[(&'static str, &str)],
        ((service, region), payload): ((&str, &str), &Payload),
    ) -> HeaderMap {
        let mut head = Request::new(()).into_parts().0;
        head.method = method.parse().unwrap();
        head.uri = target.parse().unwrap();
        for (name, value) in fields {
            head.headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let secret = Secret::read(keys.into()).unwrap();
        // 2015-08-30T12:36:00Z
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_440_938_160);
        sign(&mut head, &secret, Scope { service, region }, payload, now).unwrap();
        head.headers
    }

    fn authorization(headers: &HeaderMap) -> &str {
        headers[header::AUTHORIZATION].to_str().unwrap()
    }

    /// The published test suite of Signature Version 4: get-vanilla, get-vanilla-query-order-key-case,
    /// post-vanilla.
    #[test]
    fn the_published_vectors_come_out() {
        let host = [("host", "example.amazonaws.com")];
        for (request, signature) in [
            (("GET", "/"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                ("GET", "/?Param2=value2&Param1=value1"),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (("POST", "/"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let headers = signed(request, &host, ("service", "us-east-1"), &Payload::of(b""));
            assert_eq!(
                authorization(&headers),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                ),
                "{request:?}"
            );
        }
    }

    /// The worked example of the documentation.
    #[test]
    fn the_example_of_the_documentation_comes_out() {
        let headers = signed(
            ("GET", "/?Action=ListUsers&Version=2010-05-08"),
            &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
            ],
            ("iam", "us-east-1"),
            &Payload::of(b""),
        );
        assert!(authorization(&headers).ends_with(
            "SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        ));
    }

    /// Signatures that another implementation (botocore's) makes of the same requests.
    #[test]
    fn others_sign_the_same() {
        let host = ("host", "example.amazonaws.com");
        let region = "eu-west-1";
        let session = format!("{EXAMPLE}:SESSION//TOKEN");
        let target = "/bucket/a%20b/%C3%BC~x%2By?partNumber=1&uploadId=abc%2F";
        for (headers, signature) in [
            (
                signed(
                    ("GET", "/a%20b/c%3Ad//e?q=x%2By&a=~&a=1&z="),
                    &[host],
                    ("sqs", region),
                    &Payload::of(b""),
                ),
                "3591f46092f7f9b9a486f5496a40c88e00715fd308d40325313666e9b08e7465",
            ),
            (
                signed_with(
                    &session,
                    ("POST", "/"),
                    &[
                        host,
                        ("content-type", "application/x-amz-json-1.0"),
                        ("x-amz-target", "DynamoDB.ListTables"),
                    ],
                    (("dynamodb", region), &Payload::of(b"{}")),
                ),
                "b7efc55a4d92d40eca93d7cd20366a8ed1838366e2b4ab54100cb7a19d7bf7d3",
            ),
            (
                signed(
                    ("PUT", target),
                    &[host],
                    ("s3", region),
                    &Payload::Word("UNSIGNED-PAYLOAD"),
                ),
                "46b4f8ba9fda348798ef8b4e61744efbef905f5716ce6b7810884a6d33c93053",
            ),
        ] {
            let made = authorization(&headers);
            assert!(made.ends_with(&format!("Signature={signature}")), "{made}");
        }
    }

    #[test]
    fn the_clients_own_signature_is_gone() {
        let headers = signed(
            ("GET", "/"),
            &[
                ("host", "example.amazonaws.com"),
                ("authorization", "AWS4-HMAC-SHA256 Credential=placeholder"),
                ("x-amz-date", "20000101T000000Z"),
                ("x-amz-security-token", "mine"),
            ],
            ("service", "us-east-1"),
            &Payload::of(b""),
        );
        assert!(authorization(&headers).ends_with(
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ));
        assert!(!headers.contains_key(TOKEN));
    }

    #[test]
    fn presigned_requests_are_known() {
        assert!(is_presigned(Some("a=1&X-Amz-Signature=00")));
        assert!(!is_presigned(Some("a=X-Amz-Signature")));
        assert!(!is_presigned(None));
    }
}
