//! What was asked, kept so that a later policy can judge it again (I7).

use super::sandbox::Sandbox;
use crate::addr::{Authority, Path};
use crate::policy::{Ask, Body, Client, Fingerprint, Intent, OwnedBody, Permit, Rules, Scheme};
use crate::policy::{Ticket, TicketUse, TunnelVerdict, Verdict};
use http::Method;
use http::uri::PathAndQuery;
use std::sync::Arc;
use std::time::SystemTime;

/// What was asked, kept so that a later policy can judge it again.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) client: Client,
    pub(crate) scheme: Scheme,
    pub(crate) target: Authority,
    pub(crate) asked: Asked,
    /// What the operator's answer was about, where one let it through.
    pub(crate) answered: Option<Box<Answered>>,
}

/// What the operator's answer was about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    /// What was known of the body.
    pub(crate) shown: Option<Fingerprint>,
    /// The answer, where it was for this one request.
    pub(crate) ticket: Option<Arc<Ticket>>,
}

/// The owned form of [`Ask`].
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A raw tunnel that `judge_tunnel` let through.
    Tunnel,
    /// Raw bytes that `judge` let through.
    Bytes,
    /// A model call on the route of this name.
    Route(Arc<str>),
    /// A request.
    Request {
        method: Method,
        path: PathAndQuery,
        websocket: bool,
        /// Its WebSocket messages are judged.
        messages: bool,
        facts: Option<Box<OwnedBody>>,
    },
}

impl Subject {
    /// Whether `rules` let it through, to an address that the permit has `opened`.
    pub(super) fn passes(
        &self,
        sandbox: &Sandbox,
        rules: &Rules,
        opened: impl Fn(&Permit) -> bool,
    ) -> bool {
        let now = SystemTime::now();
        let answered = self.answered.as_deref();
        let shown = answered.and_then(|answered| answered.shown.as_ref());
        let ticket = answered.and_then(|answered| answered.ticket.as_deref());
        let ticket = ticket.map(TicketUse::Again);
        let intent =
            |ask| Intent { client: &self.client, scheme: self.scheme, target: &self.target, ask };
        let verdict = match &self.asked {
            Asked::Tunnel => {
                let verdict = rules.judge_tunnel(&self.client, &self.target, now, ticket);
                return matches!(verdict, TunnelVerdict::Relay(permit) if opened(permit.permit()));
            }
            Asked::Route(name) => {
                let permit = sandbox.calls().permit(name, rules.epoch);
                return permit.is_some_and(|p| *p.target() == self.target && opened(&p));
            }
            Asked::Bytes => rules.judge(&intent(Ask::Bytes), now, None, ticket),
            Asked::Request { method, path, websocket, facts, .. } => {
                let Ok(canonical) = Path::parse(path.path()) else { return false };
                let ask = Ask::Request {
                    method: method.as_str(),
                    path: &canonical,
                    query: path.query(),
                    websocket: *websocket,
                    body: facts.as_ref().map_or(Body::Unread, |f| f.body()),
                };
                rules.judge(&intent(ask), now, shown, ticket)
            }
        };
        let (Verdict::Allow(permit) | Verdict::Audit(permit)) = verdict else { return false };
        // What was agreed without the messages in mind can't be judged from the middle on.
        let unjudged = matches!(
            self.asked,
            Asked::Request { websocket: true, messages: false, .. } if permit.judges_messages()
        );
        !unjudged && opened(&permit)
    }
}
