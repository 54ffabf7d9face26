//! What a name resolves to, in this order: `upstream.hosts`, `/etc/hosts`, `localhost`
//! (RFC 6761 §6.3), DNS. The first three answer without waiting.
//!
//! Invariant: the name that was judged is the name that is looked up; nothing is appended to it.

use super::dns::Dns;
use super::error::LookupError;
use super::hosts::{self, Table};
use super::pinned::{Addresses, Source};
use super::settings::{Settings, SettingsError};
use super::watched::Watched;
use crate::addr::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug)]
pub(super) struct Names {
    configured: Table,
    system: Watched<Table>,
    dns: Dns,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let mut configured = Table::new();
        for (name, addresses) in &settings.hosts {
            if addresses.is_empty() {
                return Err(SettingsError::EmptyHost { name: name.clone() });
            }
            let answer = Addresses::new(addresses.iter().copied());
            if configured.insert(name.clone(), answer).is_some() {
                return Err(SettingsError::SecondHost { name: name.clone() });
            }
        }
        let system = Watched::new(settings.files.hosts.clone(), hosts::read);
        Ok(Self { configured, system, dns: Dns::new(settings)? })
    }

    /// The answer that needs no resolver, if there is one.
    pub(super) fn local(&self, name: &Name) -> Option<(Addresses, Source)> {
        if let Some(found) = self.configured.get(name) {
            return Some((found.clone(), Source::Config));
        }
        if let Some(found) = self.system.get().meaning.get(name) {
            return Some((found.clone(), Source::System));
        }
        is_localhost(name).then(|| (loopback(), Source::System))
    }

    /// Asks the nameservers, within the deadline.
    pub(super) async fn dns(&self, name: &Name) -> Result<Addresses, LookupError> {
        self.dns.lookup(name).await
    }

    /// Resolves a name that the operator's config names: the parent proxy.
    pub(super) async fn resolve(&self, name: &Name) -> Result<Addresses, LookupError> {
        match self.local(name) {
            Some((found, _)) => Ok(found),
            None => self.dns(name).await,
        }
    }

    #[cfg(test)]
    pub(super) fn reread(&self) {
        self.system.refresh();
    }
}

fn is_localhost(name: &Name) -> bool {
    name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
}

fn loopback() -> Addresses {
    Addresses::new([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}
