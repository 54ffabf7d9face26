//! Where a request is going: one name, from the request target, `Host` and the tunnel (I3).

use super::refuse::Refusal;
use crate::addr::{Authority, Path, Port};
use crate::policy::{Code, Scheme};
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, Version};

/// How a connection entered, and so what its requests may name.
#[derive(Clone, Debug)]
pub(crate) enum Via {
    /// A proxy request in absolute-form: each one names its target.
    Forward,
    /// Inside a tunnel: the authority stands, every request must name the same.
    Inside(Box<Inside>),
    /// Transparent plain HTTP: `Host` names the target, on the port that the client meant. Where
    /// there is none (HTTP/1.0), the address that it meant is what it names.
    Transparent(Box<Authority>),
}

/// What a tunnel leads to.
#[derive(Clone, Debug)]
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
            Self::Forward => forward(uri, host),
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

fn forward(uri: &Uri, host: Option<&HeaderValue>) -> Result<Target, Refusal> {
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
    let authority = Authority::parse(named.as_str(), Some(Port::HTTP))?;
    if let Some(host) = host
        && host.as_bytes() != named.as_str().as_bytes()
    {
        let other = parse(host, Scheme::Http)?;
        if other != authority {
            return Err(mismatch(&other, &authority));
        }
    }
    let value = host_value(&authority, Scheme::Http);
    Ok(Target { authority, scheme: Scheme::Http, host: value })
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
