//! What the operator answered: grants and denials that stand beside the policy.
//!
//! An answer speaks only where the policy knows nothing: it never opens what a deny rule denies, and what a
//! rule allows needs none. Of two answers the denial wins. Pure: no clock, no I/O; expired
//! grants count as absent whether or not somebody has swept them away.

mod cover;
mod ticket;

pub use cover::{Cover, CoverError, Fingerprint, What};
pub use ticket::{Ticket, TicketUse};

use super::intent::{Client, Intent};
use super::pattern::HostPattern;
use crate::addr::{Authority, Host};
use cover::Compiled;
use hashbrown::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The number of a grant: `g7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub u64);

/// What let a request through beside the policy: a standing grant, or the answer to one entry of
/// the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantRef {
    /// A standing grant: `g7`.
    Grant(GrantId),
    /// An answer for one request: `r41`.
    Once(u64),
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It may leave.
    Approve,
    /// It may not, and is not asked about again.
    Deny,
}

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One request.
    Once,
    /// Until it ends or is revoked.
    Session,
    /// A rule in the operator's own file.
    Always,
}

/// Who answered, and how. Stands in the record of what passed by it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Approval {
    /// Yes or no.
    pub decision: Answer,
    /// How long it holds.
    pub scope: Scope,
    /// The user's name.
    pub by: Box<str>,
    /// The user's id.
    pub uid: u32,
    /// `term`, `cli`, `api`.
    pub via: Box<str>,
    /// When.
    pub at: SystemTime,
    /// Why. Of a denial, the agent reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

/// A standing answer.
#[derive(Debug)]
pub struct Grant {
    /// Its number.
    pub id: GrantId,
    /// What it covers.
    pub cover: Cover,
    /// When it was made.
    pub made: SystemTime,
    /// When it ends; `None`: it stands until it is revoked.
    pub expires: Option<SystemTime>,
    /// The entry that it answered; `None` where it was granted ahead.
    pub request: Option<u64>,
    /// Who answered.
    pub approval: Arc<Approval>,
    compiled: Compiled,
    used: AtomicU64,
}

/// The standing answers of one sandbox, by host. Immutable: swapped whole.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    exact: HashMap<Host, Vec<Arc<Grant>>>,
    wild: Vec<Arc<Grant>>,
}

/// What stands beside the policy when something is judged.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The answers.
    pub overlay: &'a Overlay,
    /// The time.
    pub now: SystemTime,
    /// What is known of the body; `None` where it was not looked at, so that no answer about one
    /// body covers it.
    pub shown: Option<&'a Fingerprint>,
    /// An answer for this one request.
    pub ticket: Option<TicketUse<'a>>,
    /// What nothing knows is let through and marked (`--observe`).
    pub observe: bool,
    /// Tells permits from before a change from those after it.
    pub epoch: u64,
}

/// The answer names its host by a pattern, so that the labels are the client's to choose.
pub(super) type Wild = bool;

/// What the overlay says of a request.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// It may pass.
    Allowed(GrantRef, Arc<Approval>, Wild),
    /// The operator does not want it.
    Denied(GrantId, Arc<Approval>),
}

impl Grant {
    /// A grant; fails where its host or path is no pattern.
    pub fn new(
        id: GrantId,
        cover: Cover,
        (made, expires): (SystemTime, Option<SystemTime>),
        request: Option<u64>,
        approval: Arc<Approval>,
    ) -> Result<Self, CoverError> {
        let compiled = cover.compile()?;
        let used = AtomicU64::new(0);
        Ok(Self { id, cover, made, expires, request, approval, compiled, used })
    }

    /// How many requests it let through or refused since it was loaded.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it stands at `now`.
    pub fn stands(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it is for this client, host and port, whatever is asked of them.
    pub fn reaches(&self, client: &Client, target: &Authority) -> bool {
        self.compiled.reaches(&self.cover, client, target)
    }

    /// Whether it covers a request, whatever it says of it.
    pub fn covers(&self, intent: &Intent<'_>, shown: Option<&Fingerprint>) -> bool {
        let denies = self.approval.decision == Answer::Deny;
        self.compiled.covers((&self.cover, denies), intent, shown)
    }
}

impl Overlay {
    /// The overlay with these grants.
    pub fn new(grants: impl IntoIterator<Item = Arc<Grant>>) -> Self {
        let mut overlay = Self::default();
        for grant in grants {
            match &grant.compiled.host {
                HostPattern::Exact(host) => {
                    overlay.exact.entry(host.clone()).or_default().push(grant);
                }
                HostPattern::Wild(_) => overlay.wild.push(grant),
            }
        }
        overlay
    }

    /// Whether nothing stands in it.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wild.is_empty()
    }

    fn near<'a>(&'a self, host: &Host, now: SystemTime) -> impl Iterator<Item = &'a Arc<Grant>> {
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        exact.iter().chain(&self.wild).filter(move |grant| grant.stands(now))
    }

    /// Whether an approval names the host and port for this client, whatever is asked of them.
    pub(super) fn names(&self, client: &Client, target: &Authority, now: SystemTime) -> bool {
        self.near(&target.host, now).any(|grant| {
            grant.approval.decision == Answer::Approve
                && grant.compiled.reaches(&grant.cover, client, target)
        })
    }

    /// Whether something on the host and port is denied to this client, whatever it is: what can't
    /// be looked into would hide it.
    pub(super) fn denies_some(&self, client: &Client, target: &Authority, now: SystemTime) -> bool {
        self.near(&target.host, now)
            .any(|grant| grant.approval.decision == Answer::Deny && grant.reaches(client, target))
    }

    /// Whether an answer about one body is about this request, so that it can't be judged before
    /// its body is known.
    pub(super) fn minds_body(&self, intent: &Intent<'_>, now: SystemTime) -> bool {
        self.near(&intent.target.host, now).any(|grant| match &grant.cover.what {
            What::Exact { body, .. } => grant.covers(intent, Some(body)),
            What::Bytes | What::Opaque | What::Paths { .. } | What::Host => false,
        })
    }

    /// The approval of raw bytes to the target, or of TLS that can't be ended.
    pub(super) fn raw(
        &self,
        what: &What,
        (client, target): (&Client, &Authority),
        now: SystemTime,
    ) -> Option<Said> {
        let mut answers = self.near(&target.host, now).filter(|grant| {
            grant.cover.what == *what && grant.compiled.reaches(&grant.cover, client, target)
        });
        said(&mut answers)
    }
}

impl<'a> Standing<'a> {
    /// Nothing stands beside the rules.
    pub fn nothing(overlay: &'a Overlay, epoch: u64) -> Self {
        let now = SystemTime::UNIX_EPOCH;
        Self { overlay, now, shown: None, ticket: None, observe: false, epoch }
    }

    /// What was answered about this, if anything. A denial wins over every approval.
    pub(super) fn says(&self, intent: &Intent<'_>) -> Option<Said> {
        let mut answers = self
            .overlay
            .near(&intent.target.host, self.now)
            .filter(|grant| grant.covers(intent, self.shown));
        said(&mut answers)
    }

    /// Spends the ticket, if there is one that is not spent.
    pub(super) fn ticket(&self) -> Option<Said> {
        let (number, approval) = self.ticket?.admits()?;
        Some(Said::Allowed(GrantRef::Once(number), approval, false))
    }
}

fn said(answers: &mut dyn Iterator<Item = &Arc<Grant>>) -> Option<Said> {
    let mut allowing = None;
    for grant in answers {
        match grant.approval.decision {
            Answer::Deny => {
                grant.used.fetch_add(1, Ordering::Relaxed);
                return Some(Said::Denied(grant.id, grant.approval.clone()));
            }
            Answer::Approve => allowing = allowing.or(Some(grant)),
        }
    }
    let grant = allowing?;
    grant.used.fetch_add(1, Ordering::Relaxed);
    let wild = matches!(grant.compiled.host, HostPattern::Wild(_));
    Some(Said::Allowed(GrantRef::Grant(grant.id), grant.approval.clone(), wild))
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant(id) => id.fmt(f),
            Self::Once(number) => write!(f, "r{number}"),
        }
    }
}

impl std::str::FromStr for GrantId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix('g').and_then(|n| n.parse().ok()).map(Self).ok_or(())
    }
}

impl Answer {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

impl Scope {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::Always => "always",
        }
    }
}
