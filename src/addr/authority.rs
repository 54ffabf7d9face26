//! Ports and authorities: `host:port` as it stands in a CONNECT, a `Host` header, a URL.
//!
//! Stricter than RFC 3986 §3.2.3 on purpose: an empty port (`host:`), a leading zero (`host:0443`),
//! a sign or a space is refused, so that no two spellings of a port are one authority and no
//! parser behind us reads another. Invariant: `parse(display(authority)) == authority`.

use super::host::{Host, HostError};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

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

/// Why an authority was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The host part.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port part: missing where it is needed, empty, 0, over 65535, with a leading zero, or
    /// not decimal digits.
    #[error("the port is missing or not a number from 1 to 65535")]
    Port,
    /// `user@host`.
    #[error("userinfo is not allowed in an authority")]
    Userinfo,
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
    /// Parses `host:port`, `host` (where `default` is given), `[v6]:port`. Userinfo is refused,
    /// and so is an IPv6 address without brackets.
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
    let Some(colon) = text.bytes().position(|byte| byte == b':') else { return Ok((text, None)) };
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    if port.contains(':') { Err(HostError::Ipv6.into()) } else { Ok((host, Some(port))) }
}

fn parse_port(digits: &str) -> Result<Port, AuthorityError> {
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain || digits.starts_with('0') {
        return Err(AuthorityError::Port);
    }
    digits.parse().ok().and_then(Port::new).ok_or(AuthorityError::Port)
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
