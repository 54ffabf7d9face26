//! Why a name was not pinned or an address not dialled: each error has one code and one sentence
//! that says what to change. Names in them are canonical ASCII; text from outside is `Shown`.

use super::parent::ReplyError;
use crate::addr::{Authority, Class, Host, Name};
use crate::policy::Code;
use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a permitted target was not pinned. The sentences have no trailing period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// An address of the answer (or the literal) is internal, and nothing opens it.
    #[error("{}", Refused { target, address: *address, class: *class })]
    AddressRefused {
        /// What was asked for.
        target: Authority,
        /// The first refused address.
        address: IpAddr,
        /// Its class.
        class: Class,
    },
    /// The endpoint names no host, so every address must be inside its `allowed_ips`.
    #[error(
        "{} is outside the endpoint's allowed_ips; name the host in the endpoint, or widen allowed_ips",
        Resolved { host: &target.host, address: *address }
    )]
    OutsideAllowed {
        /// What was asked for.
        target: Authority,
        /// The first address outside.
        address: IpAddr,
    },
    /// One of the gateway's own listeners.
    #[error("{target} is {address}, where this gateway itself listens")]
    Own {
        /// What was asked for.
        target: Authority,
        /// The address of the listener as it was reached.
        address: SocketAddr,
    },
    /// The parent proxy resolves the name, so its addresses can't be checked against `allowed_ips`.
    #[error(
        "the parent proxy resolves {}, so its addresses can't be checked; name the host in the \
         endpoint, or set upstream.proxy.resolve: local",
        target.host
    )]
    Unchecked {
        /// What was asked for.
        target: Authority,
    },
    /// The name exists and has no address.
    #[error("{} has no address", target.host)]
    NoAddress {
        /// What was asked for.
        target: Authority,
    },
    /// The name did not resolve.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// Why a name did not resolve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// NXDOMAIN, or no A and AAAA records.
    #[error("{name} does not resolve: no such name")]
    NotFound {
        /// The name.
        name: Name,
    },
    /// No nameserver answered in time.
    #[error("{name} does not resolve: no nameserver answered within {} ms", after.as_millis())]
    Timeout {
        /// The name.
        name: Name,
        /// The deadline that passed.
        after: Duration,
    },
    /// The nameservers answered with an error, or could not be reached. The reason is escaped.
    #[error("{name} does not resolve: {reason}")]
    Failed {
        /// The name.
        name: Name,
        /// What the resolver said.
        reason: String,
    },
    /// The system's resolver configuration can't be used. The reason is escaped.
    #[error(
        "{name} can't be resolved: {reason}; repair the file, or set upstream.nameservers or \
         upstream.hosts"
    )]
    Unconfigured {
        /// The name.
        name: Name,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a pinned target was not reached. The sentences have no trailing period.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Every address refused or failed; the last error is given.
    #[error("no address of {target} took the connection ({tried} tried; {address}: {source})")]
    Connect {
        /// What was asked for.
        target: Authority,
        /// How many addresses were tried.
        tried: usize,
        /// The one that failed last.
        address: SocketAddr,
        /// How it failed.
        source: io::Error,
    },
    /// The connect timeout passed (the parent's part included).
    #[error("{target} took no connection within {} ms{}", after.as_millis(), Through(parent))]
    Timeout {
        /// What was asked for.
        target: Authority,
        /// The timeout.
        after: Duration,
        /// The parent proxy, where the way leads through one.
        parent: Option<Authority>,
    },
    /// The parent proxy can't be reached.
    #[error("the parent proxy {parent} took no connection ({address}: {source})")]
    ParentConnect {
        /// The parent.
        parent: Authority,
        /// The address that failed last.
        address: SocketAddr,
        /// How it failed.
        source: io::Error,
    },
    /// The parent proxy's name does not resolve.
    #[error("the parent proxy is not reached: {0}")]
    ParentLookup(#[source] LookupError),
    /// The parent proxy is one of the gateway's own listeners.
    #[error("the parent proxy {parent} is this gateway itself; change upstream.proxy.url")]
    ParentOwn {
        /// The parent.
        parent: Authority,
    },
    /// The pinned way needs a parent that is no longer configured.
    #[error("{target} was to go through a parent proxy that is no longer configured")]
    ParentGone {
        /// What was asked for.
        target: Authority,
    },
    /// The parent proxy answered a CONNECT with something other than 2xx.
    #[error("the parent proxy {parent} answered CONNECT {asked} with {status}: {advice}")]
    ParentRefused {
        /// The parent.
        parent: Authority,
        /// What it was asked for: the checked address, or the name.
        asked: String,
        /// Its status code.
        status: u16,
        /// What to change.
        advice: &'static str,
    },
    /// The parent proxy's reply to a CONNECT could not be used.
    #[error("the parent proxy {parent}: {reason}")]
    ParentReply {
        /// The parent.
        parent: Authority,
        /// What is wrong with it.
        reason: ReplyError,
    },
}

impl PinError {
    /// The code for the record and the reply.
    pub fn code(&self) -> Code {
        match self {
            Self::AddressRefused { .. } | Self::OutsideAllowed { .. } | Self::Unchecked { .. } => {
                Code::AddressRefused
            }
            Self::Own { .. } => Code::OwnAddress,
            Self::NoAddress { .. } => Code::NameNotFound,
            Self::Lookup(error) => error.code(),
        }
    }
}

impl LookupError {
    /// The code for the record and the reply.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NameNotFound,
            Self::Timeout { .. } | Self::Failed { .. } | Self::Unconfigured { .. } => {
                Code::DnsFailed
            }
        }
    }
}

impl DialError {
    /// The code for the record and the reply.
    pub fn code(&self) -> Code {
        match self {
            Self::Connect { source, .. } | Self::ParentConnect { source, .. } => {
                match source.kind() {
                    io::ErrorKind::TimedOut => Code::ConnectTimeout,
                    _ => Code::ConnectFailed,
                }
            }
            Self::Timeout { .. } => Code::ConnectTimeout,
            Self::ParentLookup(error) => error.code(),
            Self::ParentOwn { .. } => Code::OwnAddress,
            Self::ParentGone { .. } => Code::ConnectFailed,
            Self::ParentRefused { .. } | Self::ParentReply { .. } => Code::ParentRefused,
        }
    }
}

/// `10.0.5.3`, or `db.corp resolves to 10.0.5.3, which`: the subject of a sentence.
struct Resolved<'a> {
    host: &'a Host,
    address: IpAddr,
}

impl fmt::Display for Resolved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Ip(_) => write!(f, "{}", self.address),
            Host::Name(name) => write!(f, "{name} resolves to {}, which", self.address),
        }
    }
}

struct Refused<'a> {
    target: &'a Authority,
    address: IpAddr,
    class: Class,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, address, class } = self;
        let subject = Resolved { host: &target.host, address: *address };
        write!(f, "{subject} is {}; ", noun(*class))?;
        if super::guard::policy_may_open(*class) {
            write!(f, "add allowed_ips: [{}] to the endpoint", suggested(*address, *class))
        } else {
            let net = IpNet::from(*address);
            write!(f, "a policy can't open it, only the operator: upstream.allow_internal: [{net}]")
        }
    }
}

struct Through<'a>(&'a Option<Authority>);

impl fmt::Display for Through<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(parent) => write!(f, " through the parent proxy {parent}"),
            None => Ok(()),
        }
    }
}

/// The network to put in `allowed_ips`: the /24 around a private IPv4 address, else the address.
fn suggested(address: IpAddr, class: Class) -> IpNet {
    match (address, class) {
        (IpAddr::V4(ip), Class::Private) => {
            Ipv4Net::new(ip, 24).map_or(IpNet::from(address), |net| IpNet::V4(net.trunc()))
        }
        _ => IpNet::from(address),
    }
}

fn noun(class: Class) -> &'static str {
    match class {
        Class::Public => "a public address",
        Class::Loopback => "a loopback address",
        Class::LinkLocal => "a link-local address (cloud metadata lives there)",
        Class::Unspecified => "an unspecified address",
        Class::Private => "a private address",
        Class::SharedNat => "a carrier-grade NAT address (100.64.0.0/10)",
        Class::UniqueLocal => "a unique local IPv6 address",
        Class::Multicast => "a multicast address",
        Class::Broadcast => "the broadcast address",
        Class::Reserved => "a reserved address",
    }
}
