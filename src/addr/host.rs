//! Host names and address literals.
//!
//! One parser for rules and requests: lower case, no trailing dot, IDNA to ASCII; odd IPv4
//! spellings, zone ids and userinfo are refused. Owns the canonical form of a host, not what a
//! host resolves to. Invariant: `parse(display(host)) == host`, and the text is ASCII.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    /// A name that IDNA (UTS 46) does not allow, or an A-label that is not what its U-label
    /// encodes to.
    #[error("the host name is not a valid internationalised name")]
    Idna,
    /// Octal, hex, short or single-integer IPv4, a trailing dot after one, or a numeric last
    /// label.
    #[error("the host is an odd spelling of an IPv4 address; write it as four decimal numbers")]
    OddIpv4,
    /// A bad IPv6 literal, or brackets around something that is not one.
    #[error("the host is not a valid IPv6 address")]
    Ipv6,
    /// A zone id (`fe80::1%eth0`).
    #[error("an IPv6 zone id is not allowed")]
    Zone,
}

/// The longest name in bytes, without the trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// The longest text that is read at all: no spelling of a name in `MAX_NAME` bytes is longer
/// (four UTF-8 bytes a character, and the dot).
const MAX_TEXT: usize = 4 * MAX_NAME + 1;

impl Host {
    /// Parses a host as it stands in a URL authority, a rule or a SOCKS request: a name, an IPv4
    /// address in four decimal numbers, or an IPv6 address with or without brackets. One trailing
    /// dot is dropped from a name; a second one, or one after an address, is refused.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(HostError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6)?;
            return ipv6(inner);
        }
        if text.contains(':') {
            return ipv6(text);
        }
        if !text.is_ascii() {
            let ascii = to_ascii(text)?;
            return match ascii_host(&ascii)? {
                // Digits of another script are as odd a spelling as octal ones.
                Self::Ip(_) => Err(HostError::OddIpv4),
                name => Ok(name),
            };
        }
        ascii_host(text)
    }

    /// As [`parse`](Self::parse), of bytes that may not be UTF-8 (SNI, SOCKS).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HostError> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| HostError::Byte)?)
    }

    /// A host as somebody's record of past traffic has it: to be judged, never to be reached.
    ///
    /// Other programs' records hold names that no client of ours gets past [`parse`](Self::parse):
    /// with an empty label within (`a..b`). They are judged as they stand there. No entrance calls
    /// this, and no resolver takes such a name.
    pub fn recorded(text: &str) -> Result<Self, HostError> {
        match Self::parse(text) {
            Err(HostError::Label)
                if text.contains("..")
                    && !text.starts_with('.')
                    && text.split('.').all(|label| label.len() <= 63) =>
            {
                Ok(Self::Name(Name(text.to_ascii_lowercase().into())))
            }
            parsed => parsed,
        }
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

/// An address literal, IPv4-mapped IPv6 as IPv4.
impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

fn ipv6(text: &str) -> Result<Host, HostError> {
    if text.contains('%') {
        return Err(HostError::Zone);
    }
    let ip = Ipv6Addr::from_str(text).map_err(|_| HostError::Ipv6)?;
    Ok(IpAddr::V6(ip).into())
}

fn ascii_host(text: &str) -> Result<Host, HostError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(HostError::TooLong);
    }
    let labels = Labels::of(name)?;
    if is_number(&name[labels.last..]) {
        // The whole text: a dot after an address is another spelling of it.
        let ip = Ipv4Addr::from_str(text).map_err(|_| HostError::OddIpv4)?;
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let name: Arc<str> =
        if labels.capitals { name.to_ascii_lowercase().into() } else { name.into() };
    if labels.encoded {
        round_trips(&name)?;
    }
    Ok(Host::Name(Name(name)))
}

/// What there is to know of the labels of a name, from one look at each of its bytes.
struct Labels {
    /// Where the last one begins.
    last: usize,
    /// Some letter is upper case.
    capitals: bool,
    /// There is an A-label, in whatever case.
    encoded: bool,
}

impl Labels {
    /// Refuses what no name may have: another byte sooner than a label that is too short or too long.
    fn of(name: &str) -> Result<Self, HostError> {
        let bytes = name.as_bytes();
        let mut labels = Self { last: 0, capitals: false, encoded: false };
        let mut fits = true;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
                b'A'..=b'Z' => labels.capitals = true,
                b'-' => labels.encoded |= bytes[labels.last..=at].eq_ignore_ascii_case(b"xn--"),
                b'.' => {
                    fits &= (1..=63).contains(&(at - labels.last));
                    labels.last = at + 1;
                }
                _ => return Err(HostError::Byte),
            }
        }
        fits &= (1..=63).contains(&(bytes.len() - labels.last));
        if fits { Ok(labels) } else { Err(HostError::Label) }
    }
}

/// What some IPv4 parser reads as a number: decimal, octal or hex digits, also `0x` alone.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// UTS 46 ToASCII without transitional processing. Its output still goes through the byte check:
/// a fullwidth `/` or `%` is mapped to the ASCII one and dies there.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, HostError> {
    let ascii = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| HostError::Idna)?;
    if ascii.is_empty() { Err(HostError::Empty) } else { Ok(ascii) }
}

/// Each A-label must be what its U-label encodes to, so that no two spellings mean one name and
/// none means nothing.
fn round_trips(name: &str) -> Result<(), HostError> {
    let (unicode, valid) = idna::domain_to_unicode(name);
    valid.map_err(|_| HostError::Idna)?;
    if to_ascii(&unicode)? == name { Ok(()) } else { Err(HostError::Idna) }
}

impl Name {
    /// The name as text, lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The public suffix by the Public Suffix List (`co.uk`, `github.io`); of a name under no
    /// known suffix its last label.
    pub fn public_suffix(&self) -> &str {
        psl::suffix_str(&self.0).unwrap_or(&self.0)
    }

    /// The registrable domain: the public suffix and the label before it. `None` where the name
    /// is itself a public suffix.
    pub fn registrable(&self) -> Option<&str> {
        psl::domain_str(&self.0)
    }

    /// The name with its A-labels decoded, where it has any. Never for comparing: for people, and
    /// only through [`Shown`](super::Shown).
    pub fn unicode(&self) -> Option<String> {
        if !self.0.split('.').any(|label| label.starts_with("xn--")) {
            return None;
        }
        let (unicode, valid) = idna::domain_to_unicode(&self.0);
        valid.ok().map(|()| unicode)
    }
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
