//! A pinned target: the proof that a permitted authority was resolved once and every address of
//! the answer checked (I2). Built by `upstream` alone.

use crate::addr::{Authority, Port};
use std::net::IpAddr;
use std::sync::Arc;

/// What may be dialled for one permitted authority.
#[derive(Clone, Debug)]
pub struct Pinned {
    authority: Authority,
    way: Way,
    source: Source,
}

/// Where the addresses of a pinned target came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The target is an address.
    Literal,
    /// `upstream.hosts`. A credential goes there only where its binding lists the address.
    Config,
    /// `/etc/hosts`, or the name is `localhost` or under it (RFC 6761 §6.3).
    System,
    /// DNS.
    Dns,
    /// Nowhere yet: the parent proxy resolves the name (`resolve: proxy`).
    Parent,
}

/// How a pinned target is reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// One of these addresses is dialled.
    Direct(Addresses),
    /// The parent is asked for one of these addresses.
    Parent(Addresses),
    /// The parent is asked for the name.
    ParentResolves,
}

/// Canonical addresses, cheap to clone: a file's answer is shared, a literal allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    One(IpAddr),
    Many(Arc<[IpAddr]>),
}

impl Pinned {
    pub(super) fn new(authority: Authority, way: Way, source: Source) -> Self {
        Self { authority, way, source }
    }

    /// The authority that was permitted: what `Host` and SNI say.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The port that is dialled.
    pub fn port(&self) -> Port {
        self.authority.port
    }

    /// The checked addresses; empty where the parent proxy resolves the name.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.way {
            Way::Direct(addresses) | Way::Parent(addresses) => addresses.as_slice(),
            Way::ParentResolves => &[],
        }
    }

    /// Where the addresses came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether it is dialled without the parent proxy.
    pub fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct(_))
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }
}

impl Addresses {
    /// The addresses, canonical and each once, in order.
    pub(super) fn new(found: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut all: Vec<IpAddr> = Vec::new();
        for ip in found.into_iter().map(|ip| ip.to_canonical()) {
            if !all.contains(&ip) {
                all.push(ip);
            }
        }
        match all.as_slice() {
            [one] => Self::One(*one),
            _ => Self::Many(all.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[IpAddr] {
        match self {
            Self::One(ip) => std::slice::from_ref(ip),
            Self::Many(all) => all,
        }
    }
}
