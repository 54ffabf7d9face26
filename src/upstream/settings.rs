//! The operator's settings of the way out, as meant. `config` parses YAML and builds these.
//!
//! Nothing here is read from the gateway's own environment: `HTTPS_PROXY` has no effect.

use crate::addr::{Authority, AuthorityError, Host, HostError, Name, Port};
use base64::Engine;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `upstream:` in the config, with `timeout.connect` and the gateway's own listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `upstream.hosts`: names answered before anything else. The guard applies to the answers.
    pub hosts: Vec<(Name, Vec<IpAddr>)>,
    /// `upstream.allow_internal`: the operator's exception to the guard, for any class.
    pub allow_internal: Vec<IpNet>,
    /// The gateway's own TCP listeners, metrics included; see also `Upstream::add_own`.
    pub own: Vec<SocketAddr>,
    /// `upstream.nameservers`: asked instead of the system's.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// `upstream.proxy`.
    pub proxy: Option<Parent>,
    /// Sent to a parent proxy with each CONNECT, so that one that comes back is known.
    pub mark: Option<(HeaderName, HeaderValue)>,
    /// `timeout.connect`: bounds a lookup, and a dial with all its attempts, each on its own.
    pub connect_timeout: Duration,
    /// The system's files.
    pub files: SystemFiles,
}

/// The system files that say what names mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFiles {
    /// hosts(5).
    pub hosts: PathBuf,
    /// resolv.conf(5): its nameservers and options; its search list is not used.
    pub resolv_conf: PathBuf,
}

/// A parent proxy: what the way out leads through.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Where it is ([`Parent::parse_url`]). The operator names it, so the guard does not apply to
    /// it; the check for the gateway's own listeners does.
    pub authority: Authority,
    /// Sent to it as `Proxy-Authorization: Basic`.
    pub credential: Option<Credential>,
    /// What is reached without it.
    pub no_proxy: Vec<NoProxy>,
    /// Who resolves names.
    pub resolve: Resolve,
}

/// Who resolves the names that are reached through a parent proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolve {
    /// The gateway: the guard checks every address, and the parent is asked for a checked address,
    /// never for the name, so that what was checked is what is dialled. Plain HTTP to a name goes
    /// through CONNECT too: in absolute-form the parent would resolve the name again.
    #[default]
    Local,
    /// The parent, where outside names can't be resolved here. Literals, `upstream.hosts`,
    /// `/etc/hosts` and `localhost` are still answered and guarded here. Names that only the parent
    /// knows pass unguarded; endpoints without a host are refused.
    Proxy,
}

/// `user:password`. `Debug` says `***`; there is no `Display`.
#[derive(Clone)]
pub struct Credential(Box<str>);

/// An entry of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProxy {
    /// `*`: everything.
    All,
    /// `.corp`: the names under it, not itself.
    Under(Name),
    /// `git.corp`: that name.
    Name(Name),
    /// `10.0.0.0/8` or `10.0.0.1`: literals in it, and names all of whose addresses are in it.
    Net(IpNet),
}

/// Why settings were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `timeout.connect: 0`.
    #[error("timeout.connect must be longer than 0")]
    ZeroTimeout,
    /// `upstream.nameservers: []`.
    #[error("upstream.nameservers is empty; leave it out to use the system's")]
    NoNameservers,
    /// A name without an address.
    #[error("upstream.hosts: {name} has no address")]
    EmptyHost {
        /// The name.
        name: Name,
    },
    /// A name that stands there twice, perhaps in two spellings.
    #[error("upstream.hosts: {name} stands there twice")]
    SecondHost {
        /// The name.
        name: Name,
    },
    /// `https://`, `socks5://`, or no scheme.
    #[error("upstream.proxy.url must start with http://")]
    ProxyScheme,
    /// `http://user:password@proxy`.
    #[error("upstream.proxy.url must not hold a password; name a credential in upstream.proxy")]
    ProxyUserinfo,
    /// A path or query.
    #[error("upstream.proxy.url must end after the port")]
    ProxyPath,
    /// The host or port.
    #[error("upstream.proxy.url: {0}")]
    ProxyAuthority(AuthorityError),
    /// Not `user:password`, or with a control byte.
    #[error("the credential of upstream.proxy must be one line of the form user:password")]
    ProxyCredential,
    /// An entry that is none of the four kinds.
    #[error(
        "upstream.proxy.no_proxy: an entry is *, .suffix, a name without port, an address or a \
         network ({0})"
    )]
    NoProxy(HostError),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            allow_internal: Vec::new(),
            own: Vec::new(),
            nameservers: None,
            proxy: None,
            mark: None,
            connect_timeout: Duration::from_secs(10),
            files: SystemFiles::default(),
        }
    }
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

impl Parent {
    /// Parses `http://host[:port][/]`. The port defaults to 80. No part of a refused URL stands in
    /// the error: it may hold a password.
    pub fn parse_url(url: &str) -> Result<Authority, SettingsError> {
        let scheme_end = "http://".len();
        let rest = match url.get(..scheme_end) {
            Some(scheme) if scheme.eq_ignore_ascii_case("http://") => &url[scheme_end..],
            _ => return Err(SettingsError::ProxyScheme),
        };
        if rest.contains('@') {
            return Err(SettingsError::ProxyUserinfo);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(SettingsError::ProxyPath);
        }
        Authority::parse(rest, Some(Port::HTTP)).map_err(SettingsError::ProxyAuthority)
    }
}

impl Credential {
    /// Takes `user:password`; one trailing line end, as files have it, is dropped.
    pub fn new(user_password: &str) -> Result<Self, SettingsError> {
        let text = user_password.strip_suffix('\n').unwrap_or(user_password);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if !text.contains(':') || text.chars().any(char::is_control) {
            return Err(SettingsError::ProxyCredential);
        }
        Ok(Self(text.into()))
    }

    /// The value of `Proxy-Authorization` (RFC 7617 §2), marked sensitive.
    pub(super) fn header(&self) -> http::HeaderValue {
        let encoded = base64::engine::general_purpose::STANDARD.encode(self.0.as_bytes());
        let mut value = http::HeaderValue::try_from(format!("Basic {encoded}"))
            .expect("base64 is visible ASCII");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl std::str::FromStr for NoProxy {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::All);
        }
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        let suffix = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        match (Host::parse(suffix.unwrap_or(text)).map_err(SettingsError::NoProxy)?, suffix) {
            (Host::Name(name), Some(_)) => Ok(Self::Under(name)),
            (Host::Name(name), None) => Ok(Self::Name(name)),
            (Host::Ip(ip), None) => Ok(Self::Net(ip.into())),
            (Host::Ip(_), Some(_)) => Err(SettingsError::NoProxy(HostError::OddIpv4)),
        }
    }
}

impl NoProxy {
    /// Whether a host with these addresses (empty where they are not known) is reached directly.
    pub(super) fn covers(&self, host: &Host, addresses: &[IpAddr]) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Under(suffix), Host::Name(name)) => name
                .as_str()
                .strip_suffix(suffix.as_str())
                .is_some_and(|front| front.ends_with('.')),
            (Self::Name(own), Host::Name(name)) => own == name,
            (Self::Under(_) | Self::Name(_), Host::Ip(_)) => false,
            (Self::Net(net), _) => {
                !addresses.is_empty() && addresses.iter().all(|ip| net.contains(ip))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_proxy(entry: &str, host: &str, addresses: &[&str]) -> bool {
        let host = Host::parse(host).unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        entry.parse::<NoProxy>().unwrap().covers(&host, &addresses)
    }

    #[test]
    fn no_proxy_matches_whole_labels_addresses_and_networks() {
        assert!(no_proxy("*", "a.test", &[]));
        assert!(no_proxy(".corp", "git.corp", &[]));
        assert!(no_proxy("*.corp", "a.git.corp", &[]));
        assert!(!no_proxy(".corp", "corp", &[]));
        assert!(!no_proxy(".corp", "evilcorp", &[]));
        assert!(!no_proxy(".corp", "corp.evil", &[]));
        assert!(no_proxy("git.corp", "GIT.corp.", &[]));
        assert!(!no_proxy("git.corp", "a.git.corp", &[]));
        assert!(no_proxy("10.0.0.0/8", "10.1.2.3", &["10.1.2.3"]));
        assert!(no_proxy("10.1.2.3", "10.1.2.3", &["10.1.2.3"]));
        assert!(no_proxy("10.0.0.0/8", "db.test", &["10.1.2.3", "10.9.9.9"]));
        assert!(!no_proxy("10.0.0.0/8", "db.test", &["10.1.2.3", "93.184.216.34"]));
        assert!(!no_proxy("10.0.0.0/8", "db.test", &[]));
    }

    #[test]
    fn no_proxy_entries_of_another_kind_are_errors() {
        for entry in ["", ".", "git.corp:8080", "http://corp", "*.10.0.0.1", "a*b"] {
            assert!(entry.parse::<NoProxy>().is_err(), "{entry}");
        }
    }

    #[test]
    fn a_parent_is_an_http_url_with_nothing_but_an_authority() {
        let authority = |url| Parent::parse_url(url).map(|a| a.to_string());
        assert_eq!(authority("http://proxy.corp:3128").unwrap(), "proxy.corp:3128");
        assert_eq!(authority("HTTP://[::1]:3128/").unwrap(), "[::1]:3128");
        assert_eq!(authority("http://proxy.corp").unwrap(), "proxy.corp:80");
        assert_eq!(authority("https://proxy.corp:3128"), Err(SettingsError::ProxyScheme));
        assert_eq!(authority("proxy.corp:3128"), Err(SettingsError::ProxyScheme));
        assert_eq!(authority("http://proxy.corp:3128/x"), Err(SettingsError::ProxyPath));
        let error = authority("http://ana:hunter2@proxy.corp:3128").unwrap_err();
        assert_eq!(error, SettingsError::ProxyUserinfo);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_credential_is_one_line_and_never_shown() {
        let credential = Credential::new("ana:hunter2\n").unwrap();
        assert_eq!(format!("{credential:?}"), "***");
        let header = credential.header();
        assert_eq!(header.to_str().unwrap(), "Basic YW5hOmh1bnRlcjI=");
        assert!(header.is_sensitive());
        for bad in ["ana", "ana:a\r\nX: y", "ana:a\0", "ana:a\n\n", ""] {
            assert!(Credential::new(bad).is_err(), "{bad:?}");
        }
    }
}
