//! Where a credential goes, as the operator's config says it.

use crate::addr::{Authority, Host, Path, Port, Shown};
use crate::policy::pattern::PathPattern;
use http::{HeaderName, Method};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// One binding: which credential, to whom, for which requests, into which place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The credential's name.
    pub credential: Arc<str>,
    /// The host, exactly: no pattern ever takes a secret along.
    pub host: Host,
    /// The port.
    pub port: Port,
    /// The methods; empty: all.
    pub methods: Vec<Method>,
    /// The paths.
    pub path: PathPattern,
    /// The addresses that it goes to; `None`: whatever the name resolves to. A host of
    /// `upstream.hosts` always has them.
    pub addresses: Option<Vec<IpNet>>,
    /// It goes into WebSocket handshakes too.
    pub websocket: bool,
    /// The place in the request.
    pub place: Place,
}

/// The place in a request that a value goes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header, with a format in which `{}` stands for the value.
    Header {
        /// Its name.
        name: HeaderName,
        /// `Bearer {}`, or `{}`.
        format: Box<str>,
    },
    /// `Authorization: Basic`, with a user of the operator's and the value as password.
    Basic {
        /// The user.
        user: Box<str>,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: Box<str>,
    },
    /// Wherever the sandbox put a placeholder.
    Placeholder {
        /// The word.
        word: Box<str>,
        /// Where it is looked for.
        within: Within,
    },
    /// The request is signed (AWS Signature Version 4); the value is `ID:SECRET` or
    /// `ID:SECRET:SESSION_TOKEN`.
    Sigv4 {
        /// The service in the signature's scope: `s3`.
        service: Box<str>,
        /// The region in it: `eu-west-1`.
        region: Box<str>,
    },
}

/// A place where a placeholder may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// A header's value.
    Header,
    /// User or password of `Authorization: Basic`.
    Basic,
    /// A query parameter.
    Query,
    /// A path segment.
    Path,
    /// A JSON body.
    Json,
    /// A form body.
    Form,
    /// A text body.
    Text,
    /// A text message of a WebSocket.
    Websocket,
}

/// A set of [`Spot`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within(u8);

impl Spot {
    /// Every spot with its name in a config.
    pub const ALL: [(&'static str, Self); 8] = [
        ("header", Self::Header),
        ("basic", Self::Basic),
        ("query", Self::Query),
        ("path", Self::Path),
        ("json", Self::Json),
        ("form", Self::Form),
        ("text", Self::Text),
        ("websocket", Self::Websocket),
    ];

    /// Its name in a config.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, spot)| *spot == self).map_or("", |(name, _)| name)
    }
}

/// As people read it: `header authorization`, `placeholder TELEGRAM_TOKEN in path`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, .. } => write!(f, "header {name}"),
            Self::Basic { user } => write!(f, "basic {}", Shown::new(user)),
            Self::Query { name } => write!(f, "query {}", Shown::new(name)),
            Self::Placeholder { word, within } => {
                let spots = Spot::ALL.iter().filter(|(_, spot)| within.has(*spot));
                let names: Vec<&str> = spots.map(|(name, _)| *name).collect();
                write!(f, "placeholder {word} in {}", names.join(", "))
            }
            Self::Sigv4 { service, region } => write!(f, "sigv4 {service} {region}"),
        }
    }
}

impl Within {
    /// Header, Basic, query and path: what is looked through where nothing is said. Bodies are
    /// opted into.
    pub const USUAL: Self = Self(0b1111);

    /// Whether `spot` is in it.
    pub fn has(self, spot: Spot) -> bool {
        self.0 & (1 << spot as u8) != 0
    }
}

impl FromIterator<Spot> for Within {
    fn from_iter<I: IntoIterator<Item = Spot>>(spots: I) -> Self {
        Self(spots.into_iter().fold(0, |set, spot| set | 1 << spot as u8))
    }
}

impl Binding {
    /// Whether it is bound to this host and port.
    pub(super) fn is_at(&self, target: &Authority) -> bool {
        self.host == target.host && self.port == target.port
    }

    /// Whether a request of this method and path gets it, however its origin reads the path.
    pub(super) fn covers(&self, method: &str, path: &Path<'_>, websocket: bool) -> bool {
        let method = self.methods.is_empty()
            || self.methods.iter().any(|own| own.as_str().eq_ignore_ascii_case(method));
        let reads = || path.readings().iter().all(|path| self.path.matches(path));
        method && reads() && (!websocket || self.websocket)
    }

    /// Whether it may go to this address; `None`: nobody here knows it.
    pub(super) fn goes_to(&self, address: Option<IpAddr>) -> bool {
        match (&self.addresses, address) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(nets), Some(ip)) => nets.iter().any(|net| net.contains(&ip.to_canonical())),
        }
    }

    /// Whether the value itself goes up. Of a key that signs it does not, so nobody can echo it.
    pub fn goes_up_whole(&self) -> bool {
        !matches!(self.place, Place::Sigv4 { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_spots_holds_what_it_was_made_of() {
        for (_, spot) in Spot::ALL {
            let own: Within = [spot].into_iter().collect();
            for (name, other) in Spot::ALL {
                assert_eq!(own.has(other), spot == other, "{name}");
            }
        }
        let usual: Vec<&str> =
            Spot::ALL.iter().filter(|(_, s)| Within::USUAL.has(*s)).map(|(n, _)| *n).collect();
        assert_eq!(usual, ["header", "basic", "query", "path"]);
    }
}
