//! The rules of a sandbox at one moment: its policy and what the operator answered, swapped as
//! one.

use crate::addr::Authority;
use crate::policy::compile::Policy;
use crate::policy::intent::{Client, Intent};
use crate::policy::overlay::{Fingerprint, Overlay, Standing, TicketUse, What};
use crate::policy::verdict::{TunnelVerdict, Verdict};
use std::sync::Arc;
use std::time::SystemTime;

/// Policy and answers, with the epoch that tells them from those before.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The answers.
    pub overlay: Arc<Overlay>,
    /// What nothing knows is let through and marked.
    pub observe: bool,
    /// Differs from that of every other rules of the sandbox.
    pub epoch: u64,
}

impl Rules {
    /// Judges a request, a message or raw bytes at `now`.
    pub fn judge(
        &self,
        intent: &Intent<'_>,
        now: SystemTime,
        shown: Option<&Fingerprint>,
        ticket: Option<TicketUse<'_>>,
    ) -> Verdict {
        self.policy.judge_under(intent, &self.standing(now, shown, ticket))
    }

    /// Judges host, port and client, as a tunnel.
    pub fn judge_tunnel(
        &self,
        client: &Client,
        target: &Authority,
        now: SystemTime,
        ticket: Option<TicketUse<'_>>,
    ) -> TunnelVerdict {
        self.policy.judge_tunnel_under(client, target, &self.standing(now, None, ticket))
    }

    /// Whether silence in a tunnel may be a protocol whose server speaks first: a rule or an
    /// answer allows raw bytes.
    pub fn covers_tcp(&self, client: &Client, target: &Authority, now: SystemTime) -> bool {
        self.policy.covers_tcp(client, target)
            || self.overlay.raw(&What::Bytes, (client, target), now).is_some()
    }

    /// Whether bytes that nobody reads could be what a rule or the operator denies there: nobody
    /// need be asked about them, because no answer lets them through.
    pub fn blind(&self, client: &Client, target: &Authority, now: SystemTime) -> bool {
        self.policy.blind((client, target), &self.overlay, now)
    }

    /// Whether an answer about one body is about this request: its body must be known to judge.
    pub fn minds_body(&self, intent: &Intent<'_>, now: SystemTime) -> bool {
        self.overlay.minds_body(intent, now)
    }

    fn standing<'a>(
        &'a self,
        now: SystemTime,
        shown: Option<&'a Fingerprint>,
        ticket: Option<TicketUse<'a>>,
    ) -> Standing<'a> {
        let Self { overlay, observe, epoch, .. } = self;
        Standing { overlay, now, shown, ticket, observe: *observe, epoch: *epoch }
    }
}
