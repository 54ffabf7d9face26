//! One endpoint, compiled.

use super::rules::{self, BodyRules, Rule};
use super::{CompileError, Shared};
use crate::addr::Path;
use crate::policy::document::{self, Access, Enforcement, Protocol, Tls};
use crate::policy::pattern::{HostPattern, PathPattern};
use crate::policy::verdict::RuleRef;
use ipnet::IpNet;
use std::sync::Arc;

/// An endpoint, compiled. Small: what few endpoints have is boxed.
#[derive(Debug)]
pub(in crate::policy) struct Endpoint {
    /// `github/endpoints[0]`.
    pub(in crate::policy) name: RuleRef,
    /// Its entry's place in the policy.
    pub(in crate::policy) entry: u32,
    /// `None`: any name that resolves into `allowed_ips`.
    pub(in crate::policy) host: Option<HostPattern>,
    /// Empty: every port, which only what denies to all may say.
    pub(in crate::policy) ports: Box<[u16]>,
    /// `None`: every path.
    pub(in crate::policy) scope: Option<Arc<PathPattern>>,
    pub(in crate::policy) kind: Kind,
    pub(in crate::policy) flags: Flags,
    pub(in crate::policy) allows: Allows,
    pub(in crate::policy) denies: Arc<[Rule]>,
    pub(in crate::policy) allowed_ips: Arc<[IpNet]>,
    /// `protocol: graphql`, `websocket`, `json-rpc`, `mcp` only.
    pub(in crate::policy) body: Option<Box<BodyRules>>,
}

/// How an endpoint is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Kind {
    /// By host and port alone.
    L4,
    /// As `L4`, in a raw tunnel.
    Skip { allow_ech: bool },
    /// By host and port alone, and never parsed.
    Tcp,
    /// By what is asked.
    Rest,
    /// By the handshake, and each text message.
    Websocket,
    /// By GraphQL operations.
    Graphql,
    /// By JSON-RPC calls.
    Rpc { mcp: bool },
    /// Never allowed, let through as audited.
    Sql,
}

/// What an endpoint says about itself, yes or no.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "three independent keys of the policy file")]
pub(in crate::policy) struct Flags {
    /// `enforcement: audit`.
    pub(in crate::policy) audit: bool,
    /// `allow_encoded_slash: true`.
    pub(in crate::policy) keeps_slash: bool,
    /// Only its deny rules count.
    pub(in crate::policy) deny_only: bool,
}

/// What an endpoint allows.
#[derive(Debug)]
pub(in crate::policy) enum Allows {
    /// Nothing (deny rules alone).
    Nothing,
    /// Whatever covers (L4, tcp); named by the endpoint.
    Covered,
    /// A preset of methods, under its name.
    Access(Access, RuleRef),
    /// Rules, and one name a rule.
    Rules(Arc<[Rule]>, Box<[RuleRef]>),
}

/// Where an endpoint stands.
pub(super) struct Place<'l> {
    pub(super) name: RuleRef,
    pub(super) entry: u32,
    pub(super) source: &'l Arc<str>,
    pub(super) deny_only: bool,
}

impl Place<'_> {
    pub(super) fn incomplete(&self, problem: &'static str) -> CompileError {
        let (rule, source_name) = (self.name.clone(), self.source.clone());
        CompileError::Incomplete { rule, source_name, problem }
    }
}

impl Kind {
    fn of(endpoint: &document::Endpoint) -> Self {
        match endpoint.protocol_meant() {
            None if endpoint.tls.as_ref().is_some_and(|tls| **tls == Tls::Skip) => {
                Self::Skip { allow_ech: endpoint.allow_ech == Some(true) }
            }
            None => Self::L4,
            Some(Protocol::Tcp) => Self::Tcp,
            Some(Protocol::Rest) => Self::Rest,
            Some(Protocol::Websocket) => Self::Websocket,
            Some(Protocol::Graphql) => Self::Graphql,
            Some(Protocol::JsonRpc) => Self::Rpc { mcp: false },
            Some(Protocol::Mcp) => Self::Rpc { mcp: true },
            Some(Protocol::Sql) => Self::Sql,
        }
    }

    /// Inspected endpoints speak for a request; uninspected ones count only where none does.
    pub(in crate::policy) fn inspected(self) -> bool {
        !matches!(self, Self::L4 | Self::Skip { .. } | Self::Tcp)
    }

    /// It may have to look into a body or a message before it can be judged.
    pub(in crate::policy) fn reads_bodies(self) -> bool {
        match self {
            Self::Websocket | Self::Graphql | Self::Rpc { .. } => true,
            Self::L4 | Self::Skip { .. } | Self::Tcp | Self::Rest | Self::Sql => false,
        }
    }

    /// A raw tunnel: nothing in it is seen.
    pub(in crate::policy) fn raw(self) -> bool {
        matches!(self, Self::Skip { .. } | Self::Tcp)
    }
}

impl Endpoint {
    /// Whether it is about this port.
    pub(in crate::policy) fn is_on(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    pub(super) fn compile(
        endpoint: &document::Endpoint,
        place: Place<'_>,
        shared: &mut Shared,
    ) -> Result<Self, CompileError> {
        let kind = Kind::of(endpoint);
        let host = endpoint.host.as_ref().map(|host| HostPattern::parse(host)).transpose();
        let host = host.map_err(|error| CompileError::Host {
            rule: place.name.clone(),
            source_name: place.source.clone(),
            error,
        })?;
        let texts = endpoint.allowed_ips.as_ref().map_or(&[][..], |ips| ips);
        let allowed_ips = shared
            .networks(texts)
            .ok_or_else(|| place.incomplete("`allowed_ips` holds what is no network"))?;
        if endpoint.ports_meant().is_empty() && !(place.deny_only && host.is_some()) {
            return Err(place.incomplete("an endpoint names no port"));
        }
        if host.is_none() && allowed_ips.is_empty() {
            return Err(place.incomplete("an endpoint without `host` needs `allowed_ips`"));
        }
        let scope = endpoint.path.as_ref().map(|path| shared.path(path)).transpose();
        let scope = scope
            .map_err(|error| CompileError::Path {
                rule: place.name.clone(),
                source_name: place.source.clone(),
                error,
            })?
            .filter(|scope| !scope.is_everything());
        let denies = rules::denies(endpoint, kind, &place, shared)?;
        let flags = Flags {
            audit: endpoint.enforcement == Some(Enforcement::Audit),
            keeps_slash: endpoint.allow_encoded_slash == Some(true),
            deny_only: place.deny_only,
        };
        Ok(Self {
            entry: place.entry,
            host,
            ports: endpoint.ports_meant().into(),
            scope,
            kind,
            flags,
            allows: rules::allows(endpoint, kind, &place, shared)?,
            denies,
            allowed_ips,
            body: rules::body(endpoint, kind, &place)?,
            name: place.name,
        })
    }

    /// `github/endpoints[0]/deny_rules[2]`; built when it is needed, since denying may allocate.
    pub(in crate::policy) fn deny_name(&self, rule: usize) -> RuleRef {
        format!("{}/deny_rules[{rule}]", self.name).into()
    }

    /// Whether the endpoint's `path` covers this path.
    pub(in crate::policy) fn in_scope(&self, path: &str) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.matches(path))
    }

    /// Whether the path's escaped slashes, if it has any, may stay.
    pub(in crate::policy) fn keeps(&self, path: &Path<'_>) -> bool {
        self.flags.keeps_slash || !path.has_encoded_slash()
    }
}

/// `github/endpoints[0]/rules[2]` and its siblings; built here, so that allowing need not.
pub(super) fn names(endpoint: &RuleRef, count: usize) -> Box<[RuleRef]> {
    (0..count).map(|i| format!("{endpoint}/rules[{i}]").into()).collect()
}
