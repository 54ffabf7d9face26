//! Judging what is not wholly known: a record of past traffic.
//!
//! A recording may not say which process asked, what the body said, or what a masked query value
//! was. Such an intent is judged in every way that it may have been; where all come to one verdict
//! the missing fact did not matter, and where they do not, it is said which fact is missing.
//! Nothing is guessed, and nothing here is a permit.
//!
//! How "every way" is had with few judgements: more that allows and less that denies never makes a
//! verdict worse (`Decision::rank`), so that of values and bodies the best and the worst case
//! stand for all between. Processes have no such order (an inspected endpoint silences others), so
//! each set of entries that they could match is tried. Sets that no process matches are among
//! them: that errs to [`Possible::Open`].

use super::cover::{Covering, each};
use super::{Decision, Lean, Leaning, Subject};
use crate::addr::Authority;
use crate::policy::body::NO_POST;
use crate::policy::compile::{Kind, Policy};
use crate::policy::explain::{Reason, Said, reason};
use crate::policy::intent::{Ask, Body, Client, Intent, Scheme};
use crate::policy::judge::{BodyProtocol, BodySource};
use crate::policy::overlay::{Overlay, Standing};
use crate::policy::verdict::{TunnelVerdict, Verdict};

/// With more entries than this that a process could match or not, nothing is tried.
const MOST_ENTRIES: usize = 6;

/// An intent of which not all is known. A query value that is `***` is one that is not known.
#[derive(Clone, Copy, Debug)]
pub struct Partial<'a> {
    /// What is known. Its body is not looked at.
    pub intent: Intent<'a>,
    /// Whether the client is known whole. If not, it may be any process that matches at least
    /// what this one does, or one that can't be seen.
    pub whole_process: bool,
    /// What the body says, read as GraphQL; `None` where that is not known.
    pub graphql: Option<Body<'a>>,
    /// What the body says, read as JSON-RPC; `None` where that is not known.
    pub rpc: Option<Body<'a>>,
    /// Whether it is known that there is a body.
    pub has_body: bool,
}

/// What judging it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Possible {
    /// One verdict, whatever the missing facts were.
    Certain(Reason),
    /// More than one.
    Open(Missing),
}

/// The fact that would decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Missing {
    /// The process, or its ancestors.
    Process,
    /// A query value that was masked.
    Query,
    /// What the body said.
    Body,
    /// The messages on a WebSocket.
    Messages,
    /// What was inside a tunnel.
    Inside,
    /// Whether it came in a tunnel.
    Entrance,
}

impl Missing {
    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Query => "query",
            Self::Body => "body",
            Self::Messages => "messages",
            Self::Inside => "inside",
            Self::Entrance => "entrance",
        }
    }

    /// The sentence for people, without the period.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Process => "the record does not say which process it was",
            Self::Query => "the record masks a query value that a rule looks at",
            Self::Body => "the record does not say what the body said",
            Self::Messages => "the record does not say what the messages said",
            Self::Inside => "the record does not say what was inside the tunnel",
            Self::Entrance => "the record does not say whether it came in a tunnel",
        }
    }
}

impl Policy {
    /// Judges a request or raw bytes of which not all is known. Pure.
    pub fn judge_partial(&self, asked: &Partial<'_>) -> Possible {
        self.in_every_way(asked, |covering| self.by_entrance(covering, asked))
    }

    /// Judges a tunnel of which is not known what was inside. Pure.
    pub fn judge_partial_tunnel(&self, asked: &Partial<'_>) -> Possible {
        self.in_every_way(asked, |covering| self.tunnel_with(covering, &asked.intent))
    }

    /// With each set of entries that the process could match.
    fn in_every_way(&self, asked: &Partial<'_>, judge: impl Fn(&Covering) -> Possible) -> Possible {
        let (client, target) = (asked.intent.client, asked.intent.target);
        let known = judge(&Covering::of(self, client, target));
        if asked.whole_process || *client == Client::Ignored {
            return known;
        }
        let groups = self.doubtful(client, target);
        let Some(last) = groups.iter().map(|(_, group)| *group).max() else { return known };
        let (Possible::Certain(first), true) = (&known, last < MOST_ENTRIES) else {
            return Possible::Open(Missing::Process);
        };
        for set in 1_u32..1 << (last + 1) {
            let matches = |entry: u32| {
                groups.iter().any(|(id, group)| *id == entry && set & (1 << group) != 0)
            };
            let covering = Covering::where_entries(self, target, |entry| {
                self.entries[entry as usize].admits(client) || matches(entry)
            });
            match judge(&covering) {
                Possible::Certain(reason) if reason.verdict == first.verdict => {}
                Possible::Certain(_) | Possible::Open(_) => {
                    return Possible::Open(Missing::Process);
                }
            }
        }
        known
    }

    /// The entries that cover the target for some processes, and not for sure for this one; entries
    /// with the same binaries are of one group.
    fn doubtful(&self, client: &Client, target: &Authority) -> Vec<(u32, usize)> {
        let port = target.port.get();
        let mut groups: Vec<(u32, usize)> = Vec::new();
        each(self, &target.host, port, |id| {
            let endpoint = &self.endpoints[id as usize];
            let entry = &self.entries[endpoint.entry as usize];
            let told = entry.binaries.as_ref().is_some_and(|binaries| !binaries.is_empty());
            let new = groups.iter().all(|(known, _)| *known != endpoint.entry);
            if !endpoint.is_on(port) || !told || !new || entry.admits(client) {
                return;
            }
            let same =
                |(id, _): &&(u32, usize)| self.entries[*id as usize].written == entry.written;
            let next = groups.iter().map(|(_, group)| group + 1).max().unwrap_or(0);
            let group = groups.iter().find(same).map_or(next, |(_, group)| *group);
            groups.push((endpoint.entry, group));
        });
        groups
    }

    /// HTTPS comes in a tunnel, and what is in one that is relayed is not looked at. Plain HTTP may
    /// have come either way.
    fn by_entrance(&self, covering: &Covering, asked: &Partial<'_>) -> Possible {
        let mut speaking = self.covered(covering).filter(|e| !e.flags.deny_only).peekable();
        let relayed = speaking.peek().is_some()
            && speaking.all(|endpoint| endpoint.kind.raw())
            && self.covered(covering).all(|endpoint| endpoint.denies.is_empty());
        let request = self.with_covering(covering, asked);
        match (&request, asked.intent.scheme) {
            (_, Scheme::Tcp) => request,
            (_, Scheme::Https) if relayed => self.tunnel_with(covering, &asked.intent),
            (Possible::Certain(reason), Scheme::Http)
                if relayed && reason.verdict != Said::Allow =>
            {
                Possible::Open(Missing::Entrance)
            }
            (_, Scheme::Http | Scheme::Https) => request,
        }
    }

    /// In the best case and in the worst, where these differ.
    fn with_covering(&self, covering: &Covering, asked: &Partial<'_>) -> Possible {
        let Some(mut subject) = Subject::of(&asked.intent.ask) else {
            return Possible::Certain(self.reason_of(covering, &asked.intent, None));
        };
        let masked = subject.query.is_some_and(super::http::is_masked);
        let body = self.body_in(covering, &subject, asked);
        subject.body = body.unwrap_or(Body::Unread);
        let query = masked.then_some(Lean::Best);
        let best = Leaning { query, body: body.is_none().then_some(Lean::Best) };
        if best == Leaning::NONE {
            return self.settled(covering, &asked.intent, &subject);
        }
        let rank = |subject: &Subject<'_>| self.decide(covering, subject).rank();
        let mut worst = Subject { leaning: best.worst(), ..subject };
        if body.is_none() {
            worst.body = Body::Invalid(Missing::Body.sentence());
        }
        subject.leaning = best;
        if rank(&subject) == rank(&worst) {
            // What denies in the best case denies for sure; so does what allows in the worst.
            let sure = match self.decide(covering, &subject) {
                Decision::Deny(_) | Decision::Unknown => &subject,
                Decision::Allow(..) | Decision::Audit(_) => &worst,
            };
            return self.settled(covering, &asked.intent, sure);
        }
        let values =
            |lean| Subject { leaning: Leaning { query: Some(lean), body: None }, ..subject };
        let by_query = masked && rank(&values(Lean::Best)) != rank(&values(Lean::Worst));
        Possible::Open(if by_query || body.is_some() { Missing::Query } else { Missing::Body })
    }

    /// The verdict, unless it lets a WebSocket through whose messages are judged one by one.
    fn settled(&self, covering: &Covering, intent: &Intent<'_>, subject: &Subject<'_>) -> Possible {
        if let Decision::Allow(endpoint, _) | Decision::Audit(endpoint) =
            self.decide(covering, subject)
            && self.judges(covering, endpoint, subject)
        {
            return Possible::Open(Missing::Messages);
        }
        Possible::Certain(self.reason_of(covering, intent, Some(subject)))
    }

    fn reason_of(
        &self,
        covering: &Covering,
        intent: &Intent<'_>,
        subject: Option<&Subject<'_>>,
    ) -> Reason {
        let mut intent = *intent;
        if let (Some(subject), Ask::Request { body, .. }) = (subject, &mut intent.ask) {
            *body = subject.body;
        }
        let overlay = Overlay::default();
        let standing = Standing::nothing(&overlay, self.epoch());
        let leaning = subject.map(|s| s.leaning).unwrap_or_default();
        reason(&self.judged(&intent, covering, leaning, &standing))
    }

    /// What the body says to the endpoints that look into it; `None` where that is not known.
    fn body_in<'a>(
        &self,
        covering: &Covering,
        subject: &Subject<'a>,
        asked: &Partial<'a>,
    ) -> Option<Body<'a>> {
        let Some(need) = self.need_in(covering, subject) else { return Some(Body::Unread) };
        match (need.source, need.protocol) {
            (BodySource::Nowhere, _) if asked.has_body => Some(Body::Invalid(NO_POST)),
            (BodySource::Nowhere, _) => Some(Body::Unread),
            (BodySource::Body | BodySource::Query, BodyProtocol::Graphql) => asked.graphql,
            (BodySource::Body | BodySource::Query, BodyProtocol::Rpc { .. }) => asked.rpc,
        }
    }

    /// A tunnel: what is relayed unseen is allowed, what would be looked into is open, unless
    /// everything inside would pass.
    fn tunnel_with(&self, covering: &Covering, intent: &Intent<'_>) -> Possible {
        let overlay = Overlay::default();
        let standing = Standing::nothing(&overlay, self.epoch());
        let said = match self.tunnelled(covering, intent.client, intent.target, &standing) {
            TunnelVerdict::Relay(permit) => Verdict::Allow(permit.permit),
            TunnelVerdict::Deny(denial) => Verdict::Deny(denial),
            TunnelVerdict::Unknown(question) => Verdict::Unknown(question),
            TunnelVerdict::Inspect => {
                let hides = self.covered(covering).any(|endpoint| !endpoint.denies.is_empty());
                let open = self.covered(covering).find(|endpoint| {
                    !endpoint.flags.deny_only
                        && matches!(endpoint.kind, Kind::L4 | Kind::Skip { .. })
                        && endpoint.scope.is_none()
                });
                let Some(endpoint) = open.filter(|_| !hides && !self.speaks(covering)) else {
                    return Possible::Open(Missing::Inside);
                };
                let code = (crate::policy::Code::Allowed, &endpoint.name);
                Verdict::Allow(self.permit((intent.target, self.epoch()), endpoint, code, false))
            }
        };
        Possible::Certain(reason(&said))
    }
}
