//! Host names, ports and authorities.
//!
//! One parser for rules and requests: lower case, no trailing dot, IDNA to ASCII; odd IPv4
//! spellings, zone ids and userinfo are refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

/// A host: a canonical DNS name or an IP address. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A canonical DNS name.
    Name(Name),
    /// An address literal, made canonical (`IpAddr::to_canonical`).
    Ip(IpAddr),
}

/// A canonical DNS name: lower-case ASCII (A-labels), no trailing dot, labels of 1 to 63 bytes,
/// at most 253 bytes in all, the last label not numeric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A TCP port other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

/// A host and a port: what is dialled, what a rule names, what `Host` and SNI must agree with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Port,
}

/// Why a host was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// Over 253 bytes.
    #[error("the host name is longer than 253 bytes")]
    TooLong,
    /// A label is empty or over 63 bytes.
    #[error("a label of the host name is empty or longer than 63 bytes")]
    Label,
    /// A byte that no host name has.
    #[error("the host name holds a byte other than letters, digits, '-', '_' and '.'")]
    Byte,
    /// A name that IDNA (UTS 46) does not allow.
    #[error("the host name is not a valid internationalised name")]
    Idna,
    /// Octal, hex, short or single-integer IPv4, or a numeric last label.
    #[error("the host is an odd spelling of an IPv4 address; write it as four decimal numbers")]
    OddIpv4,
    /// A bad IPv6 literal, or brackets around something that is not one.
    #[error("the host is not a valid IPv6 address")]
    Ipv6,
    /// A zone id (`fe80::1%eth0`).
    #[error("an IPv6 zone id is not allowed")]
    Zone,
}

/// Why an authority was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The host part.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port part: missing where it is needed, 0, over 65535, or not decimal digits.
    #[error("the port is missing or not a number from 1 to 65535")]
    Port,
    /// `user@host`.
    #[error("userinfo is not allowed in an authority")]
    Userinfo,
}

impl Host {
    /// Parses a host as it stands in a URL authority, a rule or a SOCKS request: a name, an IPv4
    /// address in four decimal numbers, or an IPv6 address with or without brackets.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6)?;
            return ipv6(inner);
        }
        if text.contains(':') {
            return ipv6(text);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        let ascii = if text.is_ascii() {
            std::borrow::Cow::Borrowed(text)
        } else {
            idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3)
                .map_err(|_| HostError::Idna)?
        };
        name_or_ipv4(&ascii)
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, if it is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

fn ipv6(text: &str) -> Result<Host, HostError> {
    if text.contains('%') {
        return Err(HostError::Zone);
    }
    let ip = Ipv6Addr::from_str(text).map_err(|_| HostError::Ipv6)?;
    Ok(Host::Ip(IpAddr::V6(ip).to_canonical()))
}

fn name_or_ipv4(text: &str) -> Result<Host, HostError> {
    if text.len() > 253 {
        return Err(HostError::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HostError::Byte);
    }
    if text.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(HostError::Label);
    }
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|b| b.is_ascii_digit()) || is_hex_number(last) {
        return match Ipv4Addr::from_str(text) {
            Ok(ip) => Ok(Host::Ip(IpAddr::V4(ip))),
            Err(_) => Err(HostError::OddIpv4),
        };
    }
    let lower: Arc<str> = if text.bytes().any(|b| b.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    };
    Ok(Host::Name(Name(lower)))
}

fn is_hex_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Name {
    /// The name as text, lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Port {
    /// The port of `http`.
    pub const HTTP: Self = Self(NonZeroU16::new(80).expect("80 is not 0"));
    /// The port of `https`.
    pub const HTTPS: Self = Self(NonZeroU16::new(443).expect("443 is not 0"));

    /// A port, unless it is 0.
    pub fn new(port: u16) -> Option<Self> {
        NonZeroU16::new(port).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Authority {
    /// Parses `host:port`, `host` (where `default` is given), `[v6]:port`. Userinfo is refused.
    pub fn parse(text: &str, default: Option<Port>) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::Userinfo);
        }
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default.ok_or(AuthorityError::Port)?,
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::Ipv6)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostError::Ipv6.into()),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(HostError::Ipv6.into()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(digits: &str) -> Result<Port, AuthorityError> {
    if digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    digits.parse().ok().and_then(Port::new).ok_or(AuthorityError::Port)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host without brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `host:port`, IPv6 in brackets.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}
