//! What an answer covers: as it is written down, and as it is matched.

use crate::addr::{Authority, Path};
use crate::policy::intent::{Ask, Client, Intent, Scheme};
use crate::policy::pattern::{HostPattern, HostPatternError, PathPattern, PathPatternError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// What an answer covers. Plain values: this is what is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cover {
    /// The executable that it is for; `None`: any process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// The scheme.
    pub scheme: Scheme,
    /// A host, or a host pattern as in a policy.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What may be asked there.
    #[serde(flatten)]
    pub what: What,
}

/// What may be asked of host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum What {
    /// Bytes that are neither TLS nor HTTP.
    Bytes,
    /// TLS that is not ended: a raw tunnel held to its SNI.
    Opaque,
    /// One request: this method, path, query and body.
    Exact {
        /// A WebSocket handshake (and its messages), not a plain request.
        #[serde(default)]
        websocket: bool,
        /// The method.
        method: String,
        /// The canonical path.
        path: String,
        /// The query.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        query: Option<String>,
        /// The body.
        body: Fingerprint,
    },
    /// Methods on a path pattern, with any query and body.
    Paths {
        /// WebSocket handshakes (and their messages), not plain requests.
        #[serde(default)]
        websocket: bool,
        /// The methods; empty: all.
        methods: Vec<String>,
        /// The pattern.
        path: String,
    },
    /// Every request and WebSocket.
    Host,
}

/// What tells one body from another, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The content type, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// SHA-256 of what was read, in hex; empty where there is no body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The length that the client declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Whether more follows than was read.
    #[serde(default)]
    pub longer: bool,
}

/// Why an answer can't be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoverError {
    /// The host.
    #[error("the host is no host or host pattern: {0}")]
    Host(#[from] HostPatternError),
    /// The path.
    #[error("the path is no pattern: {0}")]
    Path(#[from] PathPatternError),
    /// A method.
    #[error("`{0}` methods are too many: name at most 16")]
    Methods(usize),
}

/// The patterns of a cover.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) host: HostPattern,
    path: Option<PathPattern>,
    /// What an origin may make of the path of one request.
    readings: Box<[String]>,
}

impl Fingerprint {
    /// The fingerprint of a body of which `seen` was read.
    pub fn of(content_type: Option<&str>, length: Option<u64>, seen: &[u8], longer: bool) -> Self {
        let digest = match seen {
            [] if !longer => String::new(),
            seen => Sha256::digest(seen).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Self { content_type: content_type.map(Into::into), digest, length, longer }
    }

    /// Whether these are the same bytes, whatever they are called and however their length is told.
    fn same_bytes(&self, other: &Self) -> bool {
        (&self.digest, self.longer) == (&other.digest, other.longer)
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.digest.is_empty() && !self.longer
    }
}

impl Cover {
    pub(super) fn compile(&self) -> Result<Compiled, CoverError> {
        let host = HostPattern::parse(&self.host)?;
        let path = match &self.what {
            What::Paths { methods, .. } if methods.len() > 16 => {
                return Err(CoverError::Methods(methods.len()));
            }
            What::Paths { path, .. } => Some(PathPattern::parse(path)?),
            What::Bytes | What::Opaque | What::Exact { .. } | What::Host => None,
        };
        let readings: Box<[String]> = match &self.what {
            What::Exact { path, .. } => match Path::parse(path) {
                Ok(path) => path.readings().iter().map(str::to_owned).collect(),
                Err(_) => [path.clone()].into(),
            },
            What::Bytes | What::Opaque | What::Paths { .. } | What::Host => Box::default(),
        };
        Ok(Compiled { host, path, readings })
    }
}

impl Compiled {
    /// Whether it is for this client, host and port.
    pub(super) fn reaches(&self, cover: &Cover, client: &Client, target: &Authority) -> bool {
        let process = match (&cover.binary, client) {
            (None, _) => true,
            (Some(binary), Client::Seen(process)) => *binary == *process.binary,
            (Some(_), Client::Unseen | Client::Ignored) => false,
        };
        process && cover.port == target.port.get() && self.host.matches(&target.host)
    }

    /// Whether it covers what is asked. Of a path every reading must be covered that an origin may make
    /// of it; what `denies` covers it where one is, also with its escapes undone, and whatever else brings
    /// the same: a HEAD where a GET is denied, a handshake where a plain request is, the same bytes under
    /// another type.
    pub(super) fn covers(
        &self,
        (cover, denies): (&Cover, bool),
        intent: &Intent<'_>,
        shown: Option<&Fingerprint>,
    ) -> bool {
        if cover.scheme != intent.scheme || !self.reaches(cover, intent.client, intent.target) {
            return false;
        }
        match intent.ask {
            Ask::Bytes => cover.what == What::Bytes,
            Ask::Request { method, path, query, websocket, .. } => {
                let asked = Asked { method, path, query, websocket };
                self.covers_request((&cover.what, denies), &asked, shown)
            }
            // A message rides on the answer about its handshake.
            Ask::Message { path, query, .. } => {
                let asked = Asked { method: "GET", path, query, websocket: true };
                match &cover.what {
                    What::Exact { body, .. } => {
                        self.covers_request((&cover.what, denies), &asked, Some(body))
                    }
                    what => self.covers_request((what, denies), &asked, shown),
                }
            }
        }
    }

    fn covers_request(
        &self,
        (what, denies): (&What, bool),
        asked: &Asked<'_>,
        shown: Option<&Fingerprint>,
    ) -> bool {
        if denies {
            return self.forbids(what, asked, shown);
        }
        match what {
            What::Bytes | What::Opaque => false,
            What::Host => true,
            What::Exact { websocket, method, path, query, body } => {
                // What was not seen is not what was shown.
                !body.longer
                    && *websocket == asked.websocket
                    && method.eq_ignore_ascii_case(asked.method)
                    && path == asked.path.as_str()
                    && query.as_deref() == asked.query
                    && shown == Some(body)
            }
            What::Paths { websocket, methods, .. } => {
                *websocket == asked.websocket
                    && (methods.is_empty()
                        || methods.iter().any(|method| method.eq_ignore_ascii_case(asked.method)))
                    && self.path.as_ref().is_some_and(|pattern| {
                        asked.path.readings().iter().all(|path| pattern.matches(path))
                    })
            }
        }
    }

    /// Whether what is denied comes of what is asked, in any spelling.
    fn forbids(&self, what: &What, asked: &Asked<'_>, shown: Option<&Fingerprint>) -> bool {
        // Who asks to switch protocols may be answered as if it had not.
        let plain = |websocket: bool| !websocket || asked.websocket;
        let method = |method: &str| {
            method.eq_ignore_ascii_case(asked.method)
                || (method.eq_ignore_ascii_case("GET") && asked.method.eq_ignore_ascii_case("HEAD"))
        };
        let any_reading = |matches: &dyn Fn(&str) -> bool| {
            asked.path.readings().iter().any(matches)
                || asked.path.decoded().any(|decoded| matches(&decoded.path))
        };
        match what {
            What::Bytes | What::Opaque => false,
            What::Host => true,
            What::Exact { websocket, method: denied, query, body, .. } => {
                plain(*websocket)
                    && method(denied)
                    && query.as_deref() == asked.query
                    && shown.is_some_and(|shown| shown.same_bytes(body))
                    && any_reading(&|path| self.readings.iter().any(|denied| denied == path))
            }
            What::Paths { websocket, methods, .. } => {
                plain(*websocket)
                    && (methods.is_empty() || methods.iter().any(|denied| method(denied)))
                    && self
                        .path
                        .as_ref()
                        .is_some_and(|pattern| any_reading(&|path| pattern.matches(path)))
            }
        }
    }
}

struct Asked<'a> {
    method: &'a str,
    path: &'a Path<'a>,
    query: Option<&'a str>,
    websocket: bool,
}

/// In one line: `GET https://api.github.com/repos/*/* with any query and body`. Untrusted text is as it
/// came: show it.
impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let scheme = match (&self.what, self.scheme) {
            (What::Exact { websocket: true, .. } | What::Paths { websocket: true, .. }, scheme) => {
                if scheme == Scheme::Https {
                    "wss"
                } else {
                    "ws"
                }
            }
            (_, Scheme::Http) => "http",
            (_, Scheme::Https) => "https",
            (_, Scheme::Tcp) => "tcp",
        };
        let port = match (self.scheme, self.port) {
            (Scheme::Https, 443) | (Scheme::Http, 80) => String::new(),
            (_, port) => format!(":{port}"),
        };
        let at = format!("{scheme}://{host}{port}");
        match &self.what {
            What::Bytes => write!(f, "raw bytes {at}"),
            What::Opaque => write!(f, "opaque TLS {at}"),
            What::Host => write!(f, "* {at}/**"),
            What::Exact { method, path, query, body, .. } => {
                write!(f, "{method} {at}{path}")?;
                if let Some(query) = query {
                    write!(f, "?{query}")?;
                }
                if body.is_empty() { Ok(()) } else { f.write_str(" with the body shown") }
            }
            What::Paths { methods, path, websocket } => {
                let methods = if methods.is_empty() { "*".to_owned() } else { methods.join(",") };
                let any = if *websocket { "messages" } else { "body" };
                write!(f, "{methods} {at}{path} with any query and {any}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: What) -> String {
        let (scheme, host) = (Scheme::Https, "a.test".to_owned());
        Cover { binary: None, scheme, host, port: 443, what }.to_string()
    }

    #[test]
    fn a_cover_says_whether_it_is_for_one_request_or_for_any_query_and_body() {
        let exact = |query: Option<&str>, body: &[u8]| What::Exact {
            websocket: false,
            method: "POST".into(),
            path: "/x".into(),
            query: query.map(str::to_owned),
            body: Fingerprint::of(None, Some(body.len() as u64), body, false),
        };
        assert_eq!(line(exact(None, b"")), "POST https://a.test/x");
        let whole = "POST https://a.test/x?a=1 with the body shown";
        assert_eq!(line(exact(Some("a=1"), b"b")), whole);
        let paths = |methods: &[&str], websocket| What::Paths {
            websocket,
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: "/x".into(),
        };
        let wide = "GET,HEAD https://a.test/x with any query and body";
        assert_eq!(line(paths(&["GET", "HEAD"], false)), wide);
        assert_eq!(line(paths(&[], false)), "* https://a.test/x with any query and body");
        assert_eq!(line(paths(&["GET"], true)), "GET wss://a.test/x with any query and messages");
        assert_eq!(line(What::Host), "* https://a.test/**");
    }
}
