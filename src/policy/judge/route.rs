//! A route of `inference.local`: the operator's own rule, from the gateway's config.
//!
//! It allows one target and nothing else, so judging it is to hold it: its permit is built here,
//! beside those of every other rule.

use crate::addr::Authority;
use crate::policy::code::Code;
use crate::policy::verdict::{Permit, RuleRef, Source};
use ipnet::IpNet;
use std::sync::Arc;

/// What a route opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    name: RuleRef,
    target: Authority,
    addresses: Arc<[IpNet]>,
}

impl RouteRule {
    /// A rule named `name` for `target`, and for internal `addresses` because the operator wrote
    /// them down: loopback too, which no policy file can open.
    pub fn new(name: RuleRef, target: Authority, addresses: impl Into<Arc<[IpNet]>>) -> Self {
        Self { name, target, addresses: addresses.into() }
    }

    /// What it opens.
    pub fn target(&self) -> &Authority {
        &self.target
    }

    /// The permit for one request, under the rules of `epoch`.
    pub fn judge(&self, epoch: u64) -> Permit {
        Permit {
            target: self.target.clone(),
            code: Code::Allowed,
            rule: self.name.clone(),
            allowed_ips: Arc::default(),
            operator_ips: self.addresses.clone(),
            epoch,
            messages: false,
            hostless: false,
            source: Source::Policy,
        }
    }
}
