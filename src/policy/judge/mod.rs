//! How a request is judged.
//!
//! Owns the order of the law: cover, deny, allow, audit, unknown. Pure, and without allocation
//! where the answer is *allow*. Invariant: the only early return is a deny, and what falls
//! through is unknown, never allowed.

mod cover;
mod http;
mod messages;
mod possible;
mod readings;
mod reason;
mod route;
mod rules;
mod tunnel;

pub(in crate::policy) use messages::KNOWN_MCP;
pub use messages::{BodyNeed, BodyProtocol, BodySource};
pub use possible::{Missing, Partial, Possible};
pub(crate) use readings::query_values;
pub use route::RouteRule;
pub use rules::Rules;

use super::code::Code;
use super::compile::{Endpoint, Kind, Policy};
use super::intent::{Ask, Body, Intent};
use super::overlay::{Approval, GrantId, Overlay, Said, Standing};
use super::verdict::{Denial, Permit, RuleRef, Source, Verdict};
use crate::addr::{Authority, Path};
pub(in crate::policy) use cover::Covering;

/// What is asked, in one reading of its path.
#[derive(Clone, Copy)]
struct Asked<'a> {
    form: Form,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    body: Body<'a>,
    leaning: Leaning,
}

/// How what is not known is taken (`possible`); `None`: all is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Leaning {
    /// Masked values of the query.
    query: Option<Lean>,
    /// A body that is not known.
    body: Option<Lean>,
}

/// The one case, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lean {
    /// It is what is allowed, and not what is denied.
    Best,
    /// The other way round.
    Worst,
}

impl Leaning {
    const NONE: Self = Self { query: None, body: None };

    fn worst(self) -> Self {
        let worst = |lean: Option<Lean>| lean.map(|_| Lean::Worst);
        Self { query: worst(self.query), body: worst(self.body) }
    }
}

/// What kind of thing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A request.
    Plain,
    /// A WebSocket handshake: a GET, however it was sent.
    Handshake,
    /// A text message on a WebSocket.
    Message,
}

/// The outcome for one reading. Ordered from good to bad: the worst reading decides.
enum Decision<'p> {
    Allow(&'p Endpoint, &'p RuleRef),
    Audit(&'p Endpoint),
    Unknown,
    Deny(Why<'p>),
}

/// Why something is denied.
enum Why<'p> {
    /// A deny rule: the endpoint, and which of its rules.
    Rule(&'p Endpoint, usize),
    /// The endpoint has deny rules over bodies, and this body can't be held against them.
    Blind(&'p Endpoint, Code),
    /// `%2F` where no endpoint keeps it.
    EncodedSlash,
}

impl Decision<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Allow(..) => 0,
            Self::Audit(_) => 1,
            Self::Unknown => 2,
            Self::Deny(_) => 3,
        }
    }
}

/// A verdict without its sentences.
pub(in crate::policy) enum Decided<'p> {
    /// It is let through, allowed or audited.
    Passes {
        /// By this endpoint.
        endpoint: &'p Endpoint,
        /// By this rule of it.
        rule: &'p RuleRef,
        /// It opens a WebSocket whose messages are judged.
        messages: bool,
    },
    /// Nothing allows it.
    Unknown,
    /// It is denied: by which rule of which endpoint, where one decides.
    Denied(Option<(&'p Endpoint, usize)>),
}

/// The request with its path; every reading of it must pass.
#[derive(Clone, Copy)]
struct Subject<'a> {
    form: Form,
    method: &'a str,
    path: &'a Path<'a>,
    query: Option<&'a str>,
    body: Body<'a>,
    leaning: Leaning,
}

impl<'a> Subject<'a> {
    /// `None` for bytes.
    fn of(ask: &Ask<'a>) -> Option<Self> {
        match *ask {
            Ask::Bytes => None,
            Ask::Request { method, path, query, websocket, body } => {
                let (form, method) = match websocket {
                    true => (Form::Handshake, "GET"),
                    false => (Form::Plain, method),
                };
                Some(Self { form, method, path, query, body, leaning: Leaning::NONE })
            }
            Ask::Message { path, query, body } => {
                let (form, leaning) = (Form::Message, Leaning::NONE);
                Some(Self { form, method: "GET", path, query, body, leaning })
            }
        }
    }

    fn reading<'r>(&self, path: &'r str) -> Asked<'r>
    where
        'a: 'r,
    {
        let Self { form, method, query, body, leaning, .. } = *self;
        Asked { form, method, path, query, body, leaning }
    }
}

impl Policy {
    /// Judges a request, a message or raw bytes by the rules alone. Pure.
    pub fn judge(&self, intent: &Intent<'_>) -> Verdict {
        let overlay = Overlay::default();
        self.judge_under(intent, &Standing::nothing(&overlay, self.epoch()))
    }

    /// Judges a request, a message or raw bytes, with what the operator answered beside the
    /// rules. Pure, but for the ticket that it may spend.
    pub fn judge_under(&self, intent: &Intent<'_>, standing: &Standing<'_>) -> Verdict {
        let covering = Covering::of(self, intent.client, intent.target);
        self.judged(intent, &covering, Leaning::NONE, standing)
    }

    fn judged(
        &self,
        intent: &Intent<'_>,
        covering: &Covering,
        leaning: Leaning,
        standing: &Standing<'_>,
    ) -> Verdict {
        let subject = Subject::of(&intent.ask).map(|subject| Subject { leaning, ..subject });
        let decision = match &subject {
            None => self.decide_bytes(covering),
            Some(subject) => self.decide(covering, subject),
        };
        match decision {
            Decision::Allow(endpoint, rule) => {
                let messages = subject.as_ref().is_some_and(|s| self.judges(covering, endpoint, s));
                let code = (Code::Allowed, rule);
                let epoch = standing.epoch;
                Verdict::Allow(self.permit((intent.target, epoch), endpoint, code, messages))
            }
            Decision::Audit(endpoint) => {
                let messages = subject.as_ref().is_some_and(|s| self.judges(covering, endpoint, s));
                let code = (Code::Audited, &endpoint.name);
                let epoch = standing.epoch;
                Verdict::Audit(self.permit((intent.target, epoch), endpoint, code, messages))
            }
            Decision::Deny(why) => Verdict::Deny(denial(intent, &why)),
            Decision::Unknown => self.beside(intent, covering, subject.as_ref(), standing),
        }
    }

    /// What no rule knows: the operator's answer, if there is one, or a question.
    fn beside(
        &self,
        intent: &Intent<'_>,
        covering: &Covering,
        subject: Option<&Subject<'_>>,
        standing: &Standing<'_>,
    ) -> Verdict {
        let blind = subject.is_none()
            && self.blind((intent.client, intent.target), standing.overlay, standing.now);
        let source = match standing.says(intent) {
            Some(Said::Denied(id, approval)) => {
                let question = reason::question(self, intent, covering);
                return Verdict::Deny(refused(intent, question.code, id, approval));
            }
            // What nobody reads may be what is denied here: no answer is about that.
            _ if blind => return Verdict::Unknown(reason::question(self, intent, covering)),
            Some(Said::Allowed(by, approval, wild)) => Source::Grant { by, approval, wild },
            None => match standing.ticket() {
                Some(Said::Allowed(by, approval, wild)) => Source::Grant { by, approval, wild },
                _ if standing.observe => {
                    let question = reason::question(self, intent, covering);
                    Source::Observe(Box::new(question))
                }
                _ => return Verdict::Unknown(reason::question(self, intent, covering)),
            },
        };
        let messages = subject.is_some_and(|subject| self.restricts(covering, subject));
        Verdict::Allow(self.beside_rules(
            (intent.target, standing.epoch),
            covering,
            source,
            messages,
        ))
    }

    /// A permit that no rule gave. Internal addresses stay as shut as the rules for the host
    /// leave them.
    fn beside_rules(
        &self,
        (target, epoch): (&Authority, u64),
        covering: &Covering,
        source: Source,
        messages: bool,
    ) -> Permit {
        let named = self.covered(covering).filter(|e| !e.flags.deny_only && e.host.is_some());
        let opened = named.map(|e| &e.allowed_ips).find(|ips| !ips.is_empty());
        let rule = match &source {
            Source::Grant { by, .. } => format!("grant:{by}").into(),
            Source::Policy | Source::Observe(_) => "observe".into(),
        };
        Permit {
            target: target.clone(),
            code: Code::Allowed,
            rule,
            allowed_ips: opened.cloned().unwrap_or_default(),
            operator_ips: std::sync::Arc::default(),
            epoch,
            messages,
            hostless: false,
            source,
        }
    }

    /// The verdict without its sentences, where the covering endpoints are known: for `diff`, which
    /// asks very often. With `reading`, that of one reading of a path, were it the only one, in
    /// place of the intent's own.
    pub(in crate::policy) fn decides(
        &self,
        covering: &Covering,
        intent: &Intent<'_>,
        reading: Option<&str>,
    ) -> Decided<'_> {
        let subject = Subject::of(&intent.ask);
        let decision = match (&subject, reading) {
            (None, _) => self.decide_bytes(covering),
            (Some(subject), None) => self.decide(covering, subject),
            (Some(subject), Some(reading)) => self.decide_reading(covering, subject, reading),
        };
        let judges =
            |endpoint| subject.as_ref().is_some_and(|s| self.judges(covering, endpoint, s));
        match decision {
            Decision::Allow(endpoint, rule) => {
                Decided::Passes { endpoint, rule, messages: judges(endpoint) }
            }
            Decision::Audit(endpoint) => {
                Decided::Passes { endpoint, rule: &endpoint.name, messages: judges(endpoint) }
            }
            Decision::Unknown => Decided::Unknown,
            Decision::Deny(Why::Rule(endpoint, rule)) => Decided::Denied(Some((endpoint, rule))),
            Decision::Deny(Why::Blind(..) | Why::EncodedSlash) => Decided::Denied(None),
        }
    }

    /// Every reading of the path must pass: the worst one decides.
    fn decide(&self, covering: &Covering, subject: &Subject<'_>) -> Decision<'_> {
        if let Some(why) = self.behind_escapes(covering, subject) {
            return Decision::Deny(why);
        }
        let readings = subject.path.readings();
        let mut worst: Option<Decision<'_>> = None;
        for path in readings.iter() {
            let decision = self.decide_reading(covering, subject, path);
            if worst.as_ref().is_none_or(|worst| decision.rank() > worst.rank()) {
                worst = Some(decision);
            }
        }
        worst.unwrap_or(Decision::Unknown)
    }

    fn decide_reading(
        &self,
        covering: &Covering,
        subject: &Subject<'_>,
        path: &str,
    ) -> Decision<'_> {
        let asked = subject.reading(path);
        if let Some(why) = self.denied(covering, &asked) {
            return Decision::Deny(why);
        }
        let inspected = self.speaks(covering);
        let counts = |endpoint: &&Endpoint| {
            !endpoint.flags.deny_only
                && endpoint.kind != Kind::Tcp
                && (endpoint.kind.inspected() || !inspected)
                && endpoint.in_scope(path)
                && endpoint.keeps(subject.path)
        };
        let mut allowing = self.covered(covering).filter(counts);
        if let Some((endpoint, rule)) =
            allowing.find_map(|endpoint| Some((endpoint, http::allowed(endpoint, &asked)?)))
        {
            return Decision::Allow(endpoint, rule);
        }
        let unread = matches!(asked.body, Body::Invalid(_));
        let audits = |e: &&Endpoint| e.flags.audit && !(unread && e.body.is_some());
        match self.covered(covering).filter(counts).find(audits) {
            Some(endpoint) => Decision::Audit(endpoint),
            None => Decision::Unknown,
        }
    }

    /// The first deny rule that matches, or a body that none can be held against.
    fn denied(&self, covering: &Covering, asked: &Asked<'_>) -> Option<Why<'_>> {
        let denying =
            || self.covered(covering).filter(|e| !e.denies.is_empty() && e.in_scope(asked.path));
        for endpoint in denying() {
            if let Some(rule) = http::denied(endpoint, asked) {
                return Some(Why::Rule(endpoint, rule));
            }
        }
        denying().find_map(|endpoint| Some(Why::Blind(endpoint, messages::blind(endpoint, asked)?)))
    }

    /// Bytes that are neither TLS nor HTTP: no path, no method.
    fn decide_bytes(&self, covering: &Covering) -> Decision<'_> {
        if let Some((endpoint, rule)) = self.denied_whole(covering) {
            return Decision::Deny(Why::Rule(endpoint, rule));
        }
        let inspected = self.speaks(covering);
        // What a deny rule denies may be in bytes that nobody reads: only `tcp` says that it does
        // not matter.
        let hides = self.hides(covering);
        let counts = |endpoint: &&Endpoint| !endpoint.flags.deny_only && endpoint.scope.is_none();
        let allows = |endpoint: &Endpoint| match endpoint.kind {
            Kind::Tcp => true,
            Kind::L4 | Kind::Skip { .. } => !inspected && !hides,
            Kind::Rest | Kind::Websocket | Kind::Graphql | Kind::Rpc { .. } | Kind::Sql => false,
        };
        if let Some(endpoint) = self.covered(covering).filter(counts).find(|e| allows(e)) {
            return Decision::Allow(endpoint, &endpoint.name);
        }
        let audits = |e: &&Endpoint| e.flags.audit && e.kind.inspected() && !hides;
        match self.covered(covering).filter(counts).find(audits) {
            Some(endpoint) => Decision::Audit(endpoint),
            None => Decision::Unknown,
        }
    }

    /// A deny rule over everything, on an endpoint that covers every path.
    fn denied_whole(&self, covering: &Covering) -> Option<(&Endpoint, usize)> {
        self.covered(covering).filter(|endpoint| endpoint.scope.is_none()).find_map(|endpoint| {
            Some((endpoint, endpoint.denies.iter().position(super::compile::Rule::is_total)?))
        })
    }

    /// Whether a deny rule stands on host, port and process.
    fn hides(&self, covering: &Covering) -> bool {
        self.covered(covering).any(|endpoint| !endpoint.denies.is_empty())
    }

    /// Whether an inspected endpoint covers host, port and process, whatever its path.
    fn speaks(&self, covering: &Covering) -> bool {
        self.covered(covering).any(|e| e.kind.inspected() && !e.flags.deny_only)
    }

    fn covered<'p>(&'p self, covering: &Covering) -> impl Iterator<Item = &'p Endpoint> {
        covering.ids().iter().map(|id| &self.endpoints[*id as usize])
    }

    fn permit(
        &self,
        (target, epoch): (&Authority, u64),
        endpoint: &Endpoint,
        (code, rule): (Code, &RuleRef),
        messages: bool,
    ) -> Permit {
        Permit {
            target: target.clone(),
            code,
            rule: rule.clone(),
            allowed_ips: endpoint.allowed_ips.clone(),
            operator_ips: std::sync::Arc::default(),
            epoch,
            messages,
            hostless: endpoint.host.is_none(),
            source: Source::Policy,
        }
    }
}

/// What the operator does not want. The code stays that of the question.
#[cold]
fn refused(
    intent: &Intent<'_>,
    code: Code,
    id: GrantId,
    approval: std::sync::Arc<Approval>,
) -> Denial {
    let asked = reason::asked(intent);
    let mut detail = format!("the operator denied {asked} on {}", intent.target);
    if let Some(reason) = &approval.reason {
        detail.push_str(&format!(": {}", crate::addr::Shown::new(reason)));
    }
    Denial { code, rule: None, detail, quiet: true, answer: Some((id, approval)) }
}

#[cold]
fn denial(intent: &Intent<'_>, why: &Why<'_>) -> Denial {
    let asked = reason::asked(intent);
    let target = intent.target;
    match why {
        Why::Rule(endpoint, index) => {
            let rule = endpoint.deny_name(*index);
            let quiet = endpoint.denies[*index].quiet;
            let detail = format!("{asked} is denied on {target} by {rule}");
            Denial { code: Code::DeniedByRule, rule: Some(rule), detail, quiet, answer: None }
        }
        Why::Blind(endpoint, code) => {
            let detail = format!(
                "{asked} is denied on {target}: {} has deny rules, and the body can't be held against them ({})",
                endpoint.name,
                reason::body_problem(&intent.ask)
            );
            let rule = Some(endpoint.name.clone());
            Denial { code: *code, rule, detail, quiet: false, answer: None }
        }
        Why::EncodedSlash => {
            let detail = format!(
                "{asked} is refused on {target}: %2F in a path, and no endpoint says allow_encoded_slash"
            );
            let code = Code::EncodedSlash;
            Denial { code, rule: None, detail, quiet: false, answer: None }
        }
    }
}
