//! What judging says: a verdict that carries its reason.

use super::code::Code;
use super::overlay::{Approval, GrantId, GrantRef};
use crate::addr::Authority;
use ipnet::IpNet;
use std::sync::Arc;

/// The name of the rule that decided: `github/endpoints[0]/rules[2]`. Cheap to clone.
pub type RuleRef = Arc<str>;

/// The verdict on a request, a message or raw bytes.
#[derive(Debug)]
pub enum Verdict {
    /// A rule allows it.
    Allow(Permit),
    /// No rule allows it, but the endpoint is `enforcement: audit`: let through, recorded so.
    Audit(Permit),
    /// A deny rule matched.
    Deny(Denial),
    /// Nothing allowed it and nothing forbade it.
    Unknown(Question),
}

/// The verdict on a CONNECT, a SOCKS request or a transparent connection before its first byte.
#[derive(Debug)]
pub enum TunnelVerdict {
    /// Every covering endpoint is `tls: skip` or `tcp`: pin, dial, relay.
    Relay(TunnelPermit),
    /// Read what is inside and judge that.
    Inspect,
    /// Nothing inside could be allowed.
    Deny(Denial),
    /// No rule covers the host; nothing inside could be allowed without being asked about.
    Unknown(Question),
}

/// Proof that policy allows one request to one authority. Only `judge` builds one.
#[derive(Debug)]
pub struct Permit {
    pub(super) target: Authority,
    pub(super) code: Code,
    pub(super) rule: RuleRef,
    pub(super) allowed_ips: Arc<[IpNet]>,
    pub(super) operator_ips: Arc<[IpNet]>,
    pub(super) epoch: u64,
    pub(super) messages: bool,
    pub(super) hostless: bool,
    pub(super) source: Source,
}

/// What let something through.
#[derive(Clone, Debug)]
pub enum Source {
    /// A rule.
    Policy,
    /// The operator's answer.
    Grant {
        /// Which.
        by: GrantRef,
        /// Who answered.
        approval: Arc<Approval>,
        /// It names its host by a pattern.
        wild: bool,
    },
    /// Nothing: the gateway only observes. What would have been asked.
    Observe(Box<Question>),
}

/// Proof that policy allows a raw tunnel to one authority: another type than [`Permit`], so that
/// a tunnel never passes where a request is needed, nor the other way round.
#[derive(Debug)]
pub struct TunnelPermit {
    pub(super) permit: Permit,
    pub(super) sni: bool,
    pub(super) ech: bool,
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable code.
    pub code: Code,
    /// The deny rule, where one decided.
    pub rule: Option<RuleRef>,
    /// One sentence for people, without the trailing period. Untrusted text inside is `Shown`.
    pub detail: String,
    /// `quiet: true` on the deny rule: refused and recorded, never asked about.
    pub quiet: bool,
    /// The operator's denial, where that decided and not a rule.
    pub answer: Option<(GrantId, Arc<Approval>)>,
}

/// Something that no rule knows: what the approval queue is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Why no rule allowed it: the nearest miss.
    pub code: Code,
    /// One sentence for people, without the trailing period.
    pub detail: String,
    /// The rule or endpoint that came nearest.
    pub nearest: Option<RuleRef>,
}

/// How near a rule came; the greatest is shown. Ordered from far to near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearest {
    /// No rule names the host.
    Nothing,
    /// The host is known on another port.
    Port,
    /// The host and port are known for another process.
    Process,
    /// The endpoint covers it, the path is not allowed.
    Path,
    /// The path is allowed for another method.
    Method,
    /// Method and path are allowed with another query.
    Query,
    /// Everything but what the body says is allowed.
    Body,
}

impl Permit {
    /// The authority that may be reached.
    pub fn target(&self) -> &Authority {
        &self.target
    }

    /// `allowed` or `audited`.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The rule that allowed it.
    pub fn rule(&self) -> &RuleRef {
        &self.rule
    }

    /// Internal addresses that the endpoint's `allowed_ips` opens (never loopback or link-local).
    pub fn allowed_ips(&self) -> &[IpNet] {
        &self.allowed_ips
    }

    /// Internal addresses that the operator opened for this target alone, loopback among them.
    pub fn operator_ips(&self) -> &[IpNet] {
        &self.operator_ips
    }

    /// The endpoint has no `host`: the name must resolve into `allowed_ips` and nowhere else.
    pub fn only_allowed_ips(&self) -> bool {
        self.hostless
    }

    /// The epoch of the policy that judged: a stale permit is judged again before a byte leaves.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the operator's answer lets the client choose the labels of the name.
    pub fn lets_client_name(&self) -> bool {
        matches!(self.source, Source::Grant { wild: true, .. })
    }

    /// What let it through.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A WebSocket whose text messages are judged one by one.
    pub fn judges_messages(&self) -> bool {
        self.messages
    }
}

impl TunnelPermit {
    /// The permit for dialling.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The tunnel is `tls: skip`: if the client speaks TLS, its SNI must be the target. False for
    /// `tcp`, which is never parsed.
    pub fn checks_sni(&self) -> bool {
        self.sni
    }

    /// The operator allowed TLS and nothing else: whatever else the client sends ends it.
    pub fn must_be_tls(&self) -> bool {
        matches!(self.permit.source, Source::Grant { .. })
    }

    /// `allow_ech: true`: a ClientHello whose real name is encrypted may pass.
    pub fn allows_ech(&self) -> bool {
        self.ech
    }
}
