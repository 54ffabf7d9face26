//! Where a request is going: one name, from the request target, `Host` and the tunnel (I3).

use super::refuse::Refusal;
use crate::addr::{Authority, Path, Port};
use crate::policy::{Code, Scheme};
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, Version};
use std::sync::{Mutex, PoisonError};

/// How a connection entered, and so what its requests may name.
#[derive(Debug)]
pub(crate) enum Via {
    /// A proxy request in absolute-form: each one names its target.
    Forward(Last),
    /// Inside a tunnel: the authority stands, every request must name the same.
    Inside(Box<Inside>),
    /// Transparent plain HTTP: `Host` names the target, on the port that the client meant. Where
    /// there is none (HTTP/1.0), the address that it meant is what it names.
    Transparent(Box<Authority>),
}

/// The target that the last request of a connection named, by the text in which it did: most name the
/// same again.
#[derive(Debug, Default)]
pub(crate) struct Last(Mutex<Option<(Box<str>, Target)>>);

/// What a tunnel leads to.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) authority: Authority,
    pub(crate) scheme: Scheme,
    /// The value that `Host` has upstream.
    pub(crate) host: HeaderValue,
}

/// A request's target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) authority: Authority,
    pub(crate) scheme: Scheme,
    /// The value that `Host` has upstream.
    pub(crate) host: HeaderValue,
}

impl Inside {
    pub(crate) fn new(authority: Authority, scheme: Scheme) -> Self {
        let host = host_value(&authority, scheme);
        Self { authority, scheme, host }
    }
}

/// The `Host` field for `authority`: without the port where it is the scheme's own.
pub(crate) fn host_value(authority: &Authority, scheme: Scheme) -> HeaderValue {
    let text = authority.to_string();
    let text = match (scheme, authority.port) {
        (Scheme::Http, Port::HTTP) => text.strip_suffix(":80").unwrap_or(&text),
        (Scheme::Https, Port::HTTPS) => text.strip_suffix(":443").unwrap_or(&text),
        _ => &text,
    };
    HeaderValue::from_str(text).expect("a canonical authority is ASCII without control bytes")
}

fn default_port(scheme: Scheme) -> Port {
    if scheme == Scheme::Https { Port::HTTPS } else { Port::HTTP }
}

impl Via {
    /// The one target that request line, `Host` and tunnel agree on.
    pub(crate) fn target(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Target, Refusal> {
        let host = one_host(version, headers)?;
        match self {
            Self::Inside(inside) => inside.target(uri, host),
            Self::Forward(last) => last.forward(uri, host),
            Self::Transparent(meant) => transparent(meant, uri, host),
        }
    }
}

/// The one `Host` field; `None` on h2 (where `:authority` stands in the URI) and on HTTP/1.0.
fn one_host(version: Version, headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::unjudged(Code::SecondHost, "more than one Host field"));
    }
    if first.is_none() && version == Version::HTTP_11 {
        return Err(Refusal::unjudged(Code::MissingHost, "no Host field"));
    }
    Ok(first)
}

fn parse(value: &HeaderValue, scheme: Scheme) -> Result<Authority, Refusal> {
    let text = value
        .to_str()
        .map_err(|_| Refusal::unjudged(Code::BadHost, "the Host field is not ASCII"))?;
    Ok(Authority::parse(text, Some(default_port(scheme)))?)
}

#[cold]
fn mismatch(named: &Authority, tunnel: &Authority) -> Refusal {
    let detail = format!("the request names {named}, the connection leads to {tunnel}");
    Refusal::unjudged(Code::HostMismatch, detail).closing()
}

impl Inside {
    fn target(&self, uri: &Uri, host: Option<&HeaderValue>) -> Result<Target, Refusal> {
        let agreed = |named: Authority| {
            if named == self.authority { Ok(()) } else { Err(mismatch(&named, &self.authority)) }
        };
        if let Some(host) = host
            && host != self.host
        {
            agreed(parse(host, self.scheme)?)?;
        }
        if let Some(scheme) = uri.scheme_str() {
            let same = match self.scheme {
                Scheme::Https => scheme.eq_ignore_ascii_case("https"),
                Scheme::Http | Scheme::Tcp => scheme.eq_ignore_ascii_case("http"),
            };
            if !same {
                let detail = "the request's scheme is not the connection's";
                return Err(Refusal::unjudged(Code::BadTarget, detail));
            }
        }
        match uri.authority() {
            Some(named) if named.as_str().as_bytes() != self.host.as_bytes() => {
                agreed(Authority::parse(named.as_str(), Some(default_port(self.scheme)))?)?;
            }
            None if host.is_none()
                && uri.scheme_str().is_none()
                && !uri.path().starts_with('/') =>
            {
                return Err(Refusal::unjudged(Code::MissingHost, "no host is named"));
            }
            _ => {}
        }
        Ok(Target {
            authority: self.authority.clone(),
            scheme: self.scheme,
            host: self.host.clone(),
        })
    }
}

impl Last {
    fn forward(&self, uri: &Uri, host: Option<&HeaderValue>) -> Result<Target, Refusal> {
        let named = http_authority(uri)?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let target = match &*last {
            Some((text, target)) if **text == *named => target.clone(),
            _ => {
                let authority = Authority::parse(named, Some(Port::HTTP))?;
                let host = host_value(&authority, Scheme::Http);
                let target = Target { authority, scheme: Scheme::Http, host };
                *last = Some((named.into(), target.clone()));
                target
            }
        };
        drop(last);
        if let Some(host) = host
            && host.as_bytes() != named.as_bytes()
        {
            let other = parse(host, Scheme::Http)?;
            if other != target.authority {
                return Err(mismatch(&other, &target.authority));
            }
        }
        Ok(target)
    }
}

/// The authority in a proxy request, which must be for `http`.
fn http_authority(uri: &Uri) -> Result<&str, Refusal> {
    let (Some(scheme), Some(named)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Refusal::unjudged(
            Code::BadTarget,
            "this is a proxy: the request line must name the whole URL (http://host/path)",
        ));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::unjudged(
            Code::BadTarget,
            "only http:// is forwarded; use CONNECT for https://",
        ));
    }
    Ok(named.as_str())
}

fn transparent(
    meant: &Authority,
    uri: &Uri,
    host: Option<&HeaderValue>,
) -> Result<Target, Refusal> {
    let authority = match (uri.authority(), host) {
        (Some(named), _) => Authority::parse(named.as_str(), Some(Port::HTTP))?,
        (None, Some(host)) => parse(host, Scheme::Http)?,
        (None, None) => meant.clone(),
    };
    if uri.scheme_str().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        let detail = "the request's scheme is not the connection's";
        return Err(Refusal::unjudged(Code::BadTarget, detail));
    }
    if let (Some(_), Some(host)) = (uri.authority(), host) {
        let other = parse(host, Scheme::Http)?;
        if other != authority {
            return Err(mismatch(&other, &authority));
        }
    }
    if authority.port != meant.port {
        let there = Authority { host: authority.host.clone(), port: meant.port };
        return Err(mismatch(&authority, &there));
    }
    let value = host_value(&authority, Scheme::Http);
    Ok(Target { authority, scheme: Scheme::Http, host: value })
}

/// The canonical path and query: judged and forwarded so. A copy, also where nothing changed: what is
/// kept of a request for as long as it lives must not keep the buffer that it was read into.
pub(crate) fn canonical(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    let raw = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let path = Path::parse(if path.is_empty() { "/" } else { path })?;
    if let Some(query) = query {
        crate::addr::check_query(query)?;
    }
    let text = match query {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    };
    PathAndQuery::try_from(text)
        .map_err(|_| Refusal::unjudged(Code::BadTarget, "the path is not a valid request target"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_named_one_target_may_name_another() {
        let last = Last::default();
        let ask = |uri: &str, host: &'static str| {
            let host = HeaderValue::from_static(host);
            let target = last.forward(&uri.parse().unwrap(), Some(&host));
            target.map(|t| (t.authority.to_string(), t.host)).map_err(|refusal| refusal.code)
        };
        let a = Ok(("a.test:80".to_owned(), HeaderValue::from_static("a.test")));
        let b = Ok(("b.test:8080".to_owned(), HeaderValue::from_static("b.test:8080")));
        for _ in 0..2 {
            assert_eq!(ask("http://a.test/x", "a.test"), a);
            assert_eq!(ask("http://a.test/y", "a.test"), a);
            assert_eq!(ask("http://A.test:80/", "a.test"), a);
            assert_eq!(ask("http://a.test/", "b.test:8080"), Err(Code::HostMismatch));
            assert_eq!(ask("http://b.test:8080/", "b.test:8080"), b);
            assert_eq!(ask("http://b.test:8080/", "a.test"), Err(Code::HostMismatch));
            assert_eq!(ask("http://b.test:08080/", "b.test:8080"), Err(Code::BadHost));
            assert_eq!(ask("https://b.test:8080/", "b.test:8080"), Err(Code::BadTarget));
        }
    }
}
