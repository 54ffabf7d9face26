//! One host and port under both policies: every request that their rules tell apart.

use super::askers::{self, Said, Tried};
use super::paths::paths;
use super::rows::{Aspect, Example, Rows, Side, Stop};
use super::walk::Word;
use crate::addr::{Authority, Path};
use crate::policy::code::Code;
use crate::policy::compile::{Endpoint, Kind, Policy, RuleKind};
use crate::policy::intent::{Ask, Body, Client, Intent, Scheme};
use crate::policy::judge::{BodySource, Covering, Decided};
use crate::policy::pattern::Language;
use crate::policy::verdict::{RuleRef, TunnelVerdict, Verdict};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// Requests that are judged for one host and port before giving up.
const MOST_REQUESTS: usize = 100_000;

/// One host and port.
pub(super) struct Cell<'p> {
    pub(super) old: &'p Policy,
    pub(super) new: &'p Policy,
    pub(super) target: Authority,
    old_endpoints: Vec<&'p Endpoint>,
    new_endpoints: Vec<&'p Endpoint>,
}

/// What a policy says of one request.
enum Outcome<'p> {
    Passes { rule: &'p RuleRef, endpoint: &'p Endpoint, messages: bool },
    Stops(Stop),
}

/// A client, with the endpoints that cover it under both policies.
struct Covered<'c> {
    client: &'c Client,
    old: Covering,
    new: Covering,
}

/// Whether the name may resolve to an address by one endpoint and not by the other.
fn exceeds(one: &Endpoint, other: &Endpoint) -> bool {
    let covered = |net: &IpNet| other.allowed_ips.iter().any(|known| known.contains(net));
    (one.host.is_some() && other.host.is_none()) || !one.allowed_ips.iter().all(covered)
}

impl<'p> Cell<'p> {
    pub(super) fn new(old: &'p Policy, new: &'p Policy, target: Authority) -> Self {
        let port = target.port.get();
        let of = |policy: &'p Policy| -> Vec<&'p Endpoint> {
            let naming = policy.naming(&target.host, port);
            naming.into_iter().filter(|endpoint| endpoint.is_on(port)).collect()
        };
        let (old_endpoints, new_endpoints) = (of(old), of(new));
        Self { old, new, target, old_endpoints, new_endpoints }
    }

    /// Whether both policies have the same endpoints here, whatever their order and names.
    pub(super) fn same(&self) -> bool {
        let all = |policy: &Policy, endpoints: &[&Endpoint]| -> BTreeSet<String> {
            endpoints.iter().map(|endpoint| essence(policy, endpoint)).collect()
        };
        all(self.old, &self.old_endpoints) == all(self.new, &self.new_endpoints)
    }

    /// Compares both policies for everything that may be asked here.
    pub(super) fn compare(&self, rows: &mut Rows<'p>) {
        let both: Vec<&Endpoint> =
            self.old_endpoints.iter().chain(&self.new_endpoints).copied().collect();
        let clients = askers::clients(&self.binaries());
        let covered = self.covered(&clients.values);
        for client in &covered {
            self.tunnels(client.client, rows);
            self.ask(&Asked { client, ask: Ask::Bytes, flagged: None, said: &Said::Unread }, rows);
        }
        let (words, all) = words(&both);
        let queries = askers::queries(&both);
        let bodies = askers::bodies(&self.old_endpoints, &self.new_endpoints);
        let whole = clients.all && all && queries.all && bodies.all;
        let within = self.requests((&covered, &words), (&queries, &bodies), &both, rows);
        if !(whole && within) {
            rows.undecided(self.target.port, &self.new_endpoints);
        }
    }

    /// Of clients that the same endpoints cover, one.
    fn covered<'c>(&self, clients: &'c [Client]) -> Vec<Covered<'c>> {
        let mut known = BTreeSet::new();
        let covered = clients.iter().map(|client| Covered {
            client,
            old: Covering::of(self.old, client, &self.target),
            new: Covering::of(self.new, client, &self.target),
        });
        covered.filter(|c| known.insert((c.old.ids().to_vec(), c.new.ids().to_vec()))).collect()
    }

    fn binaries(&self) -> BTreeSet<String> {
        let of = |policy: &Policy, endpoints: &[&Endpoint]| -> Vec<String> {
            let entries = endpoints.iter().map(|endpoint| &policy.entries[endpoint.entry as usize]);
            entries
                .flat_map(|entry| entry.written.iter().map(|binary| binary.to_string()))
                .collect()
        };
        let old = of(self.old, &self.old_endpoints);
        old.into_iter().chain(of(self.new, &self.new_endpoints)).collect()
    }

    fn requests(
        &self,
        (clients, words): (&[Covered<'_>], &[Word]),
        (queries, bodies): (&Tried<Option<String>>, &Tried<Said>),
        endpoints: &[&Endpoint],
        rows: &mut Rows<'p>,
    ) -> bool {
        let methods = askers::methods(endpoints);
        rows.methods(&methods);
        let messages = endpoints.iter().any(|endpoint| endpoint.kind == Kind::Websocket);
        let mut left = MOST_REQUESTS;
        for word in words {
            let flagged = word.odd.then_some(word.text.as_str());
            let Ok(path) = Path::parse(if word.odd { "/" } else { &word.text }) else { continue };
            for (query, client) in
                queries.values.iter().flat_map(|q| clients.iter().map(move |c| (q, c)))
            {
                let query = query.as_deref();
                for said in &bodies.values {
                    let body = said.body();
                    // Bodies are read of these alone (`body_need`); of the last there must be none.
                    let read = |method: &str| match method {
                        "GET" | "POST" => true,
                        "HEAD" | "OPTIONS" | "DELETE" => {
                            matches!(said, Said::Unread | Said::Invalid)
                        }
                        _ => *said == Said::Unread,
                    };
                    let request = |method, websocket| Ask::Request {
                        method,
                        path: &path,
                        query,
                        websocket,
                        body,
                    };
                    let message = Ask::Message { path: &path, query, body };
                    let asks = methods.iter().filter(|method| read(method));
                    let asks = asks.map(|method| request(method.as_str(), false));
                    let handshake =
                        [request("GET", true)].into_iter().filter(|_| *said == Said::Unread);
                    let message = [message].into_iter().filter(|_| messages);
                    for ask in asks.chain(handshake).chain(message) {
                        let Some(fewer) = left.checked_sub(1) else { return false };
                        left = fewer;
                        self.ask(&Asked { client, ask, flagged, said }, rows);
                    }
                }
            }
        }
        true
    }

    fn ask(&self, asked: &Asked<'_>, rows: &mut Rows<'p>) {
        let intent = Intent {
            client: asked.client.client,
            scheme: if matches!(asked.ask, Ask::Bytes) { Scheme::Tcp } else { Scheme::Https },
            target: &self.target,
            ask: asked.ask,
        };
        let old = judged(self.old, &asked.client.old, &intent, asked.flagged);
        let new = judged(self.new, &asked.client.new, &intent, asked.flagged);
        let example = || {
            let mut example = Example::of(&intent, asked.flagged, asked.said);
            example.certain = asked.flagged.is_none_or(|path| self.shown_by(asked, &intent, path));
            example
        };
        let aspect = Aspect::of(&intent.ask);
        match (old, new) {
            (Outcome::Stops(stop), Outcome::Passes { rule, .. })
                if !rows.has((Side::New, rule, &stop), &self.target, &intent.ask) =>
            {
                let stop = || Stop { code: code(self.old, &intent), ..stop.clone() };
                rows.passes((Side::New, rule), &self.target, aspect, (&stop, &example));
            }
            (Outcome::Passes { rule, .. }, Outcome::Stops(stop))
                if !rows.has((Side::Old, rule, &stop), &self.target, &intent.ask) =>
            {
                let stop = || Stop { code: code(self.new, &intent), ..stop.clone() };
                rows.passes((Side::Old, rule), &self.target, aspect, (&stop, &example));
            }
            (before @ Outcome::Passes { .. }, after @ Outcome::Passes { .. }) => {
                self.both(&intent, (&before, &after), &example, rows);
            }
            (Outcome::Stops(old), Outcome::Stops(new)) => {
                if let (Some(rule), None) = (&old.denied, &new.denied) {
                    rows.asked(rule, &self.target, aspect, &example);
                }
            }
            // It is listed already.
            (Outcome::Stops(_), Outcome::Passes { .. })
            | (Outcome::Passes { .. }, Outcome::Stops(_)) => {}
        }
    }

    /// Both let it through: does one let more of it through?
    fn both(
        &self,
        intent: &Intent<'_>,
        (before, after): (&Outcome<'p>, &Outcome<'p>),
        example: &dyn Fn() -> Example,
        rows: &mut Rows<'p>,
    ) {
        let (
            Outcome::Passes { rule: old, endpoint: from, messages: judged },
            Outcome::Passes { rule: new, endpoint: to, messages: judges },
        ) = (before, after)
        else {
            return;
        };
        rows.both(old, new, &self.target);
        let limit = |policy: &Policy, endpoint: &Endpoint| {
            let reads = endpoint.body.is_some();
            let need = reads.then(|| policy.body_need(intent)).flatten();
            need.map_or(usize::MAX, |need| match need.source {
                BodySource::Body | BodySource::Query => need.limit,
                BodySource::Nowhere => 0,
            })
        };
        let (short, long) = (limit(self.old, from), limit(self.new, to));
        let request = matches!(intent.ask, Ask::Request { .. });
        for (side, rule, aspect, more) in [
            (Side::New, new, Aspect::Addresses, exceeds(to, from)),
            (Side::Old, old, Aspect::Addresses, exceeds(from, to)),
            (Side::New, new, Aspect::Messages, *judged && !*judges && request),
            (Side::Old, old, Aspect::Messages, *judges && !*judged && request),
            // Bodies that are too long to be judged are refused.
            (Side::New, new, Aspect::Sizes, long > short),
            (Side::Old, old, Aspect::Sizes, short > long),
        ] {
            if more {
                rows.passes((side, rule), &self.target, aspect, (&Stop::default, example));
            }
        }
    }

    /// Whether the request with this path, in all its readings, passes under one alone.
    fn shown_by(&self, asked: &Asked<'_>, intent: &Intent<'_>, path: &str) -> bool {
        let Ok(path) = &Path::parse(path) else { return false };
        let ask = match intent.ask {
            Ask::Bytes => return true,
            Ask::Request { method, query, websocket, body, .. } => {
                Ask::Request { method, path, query, websocket, body }
            }
            Ask::Message { query, body, .. } => Ask::Message { path, query, body },
        };
        let intent = Intent { ask, ..*intent };
        let passes = |policy, covering| {
            matches!(judged(policy, covering, &intent, None), Outcome::Passes { .. })
        };
        passes(self.old, &asked.client.old) != passes(self.new, &asked.client.new)
    }

    /// What passes unseen once a tunnel is open.
    fn tunnels(&self, client: &Client, rows: &mut Rows<'p>) {
        let said = |policy: &Policy| match policy.judge_tunnel(client, &self.target) {
            TunnelVerdict::Relay(permit) => Ok(permit),
            TunnelVerdict::Inspect => Err(Stop::default()),
            TunnelVerdict::Deny(denial) => Err(Stop::denied(denial.code, denial.rule)),
            TunnelVerdict::Unknown(question) => Err(Stop::unknown(question.code)),
        };
        let example = || Example::tunnel(client, &self.target);
        match (said(self.old), said(self.new)) {
            (Err(stop), Ok(permit)) => {
                let rule = permit.permit().rule();
                rows.passes(
                    (Side::New, rule),
                    &self.target,
                    Aspect::Tunnel,
                    (&|| stop.clone(), &example),
                );
            }
            (Ok(permit), Err(stop)) => {
                let rule = permit.permit().rule();
                rows.passes(
                    (Side::Old, rule),
                    &self.target,
                    Aspect::Tunnel,
                    (&|| stop.clone(), &example),
                );
            }
            (Ok(before), Ok(after)) => {
                let stop = Stop::default;
                let opens = |one: &crate::policy::TunnelPermit,
                             other: &crate::policy::TunnelPermit| {
                    (!one.checks_sni() && other.checks_sni())
                        || (one.allows_ech() && !other.allows_ech() && other.checks_sni())
                };
                if opens(&after, &before) {
                    let rule = after.permit().rule();
                    rows.passes(
                        (Side::New, rule),
                        &self.target,
                        Aspect::AnyName,
                        (&stop, &example),
                    );
                }
                if opens(&before, &after) {
                    let rule = before.permit().rule();
                    rows.passes(
                        (Side::Old, rule),
                        &self.target,
                        Aspect::AnyName,
                        (&stop, &example),
                    );
                }
            }
            (Err(_), Err(_)) => {}
        }
    }
}

/// One request. `flagged`: its path is a reading that stands in for `path`.
struct Asked<'a> {
    client: &'a Covered<'a>,
    ask: Ask<'a>,
    flagged: Option<&'a str>,
    said: &'a Said,
}

impl Said {
    fn body(&self) -> Body<'_> {
        match self {
            Self::Unread => Body::Unread,
            Self::Invalid => Body::Invalid("it is not what the protocol says"),
            Self::Opaque => Body::Opaque,
            Self::Graphql(operations) => Body::Graphql(operations),
            Self::Rpc(calls) => Body::Rpc(calls),
        }
    }
}

/// What becomes of it. A message passes where its handshake does, and it is allowed or never
/// judged.
fn judged<'p>(
    policy: &'p Policy,
    covering: &Covering,
    intent: &Intent<'_>,
    flagged: Option<&str>,
) -> Outcome<'p> {
    if let Ask::Message { path, query, .. } = intent.ask {
        let ask = Ask::Request { method: "GET", path, query, websocket: true, body: Body::Unread };
        let handshake = alone(policy, covering, &Intent { ask, ..*intent }, flagged);
        if !matches!(handshake, Outcome::Passes { messages: true, .. }) {
            return handshake;
        }
    }
    alone(policy, covering, intent, flagged)
}

fn alone<'p>(
    policy: &'p Policy,
    covering: &Covering,
    intent: &Intent<'_>,
    flagged: Option<&str>,
) -> Outcome<'p> {
    match policy.decides(covering, intent, flagged) {
        Decided::Passes { endpoint, rule, messages } => {
            Outcome::Passes { rule, endpoint, messages }
        }
        Decided::Unknown => Outcome::Stops(Stop::default()),
        Decided::Denied(rule) => Outcome::Stops(Stop {
            code: None,
            denied: rule.map(|(endpoint, at)| endpoint.deny_name(at)),
        }),
    }
}

/// Why it is stopped, as the gateway would say.
fn code(policy: &Policy, intent: &Intent<'_>) -> Option<Code> {
    match policy.judge(intent) {
        Verdict::Allow(_) | Verdict::Audit(_) => None,
        Verdict::Deny(denial) => Some(denial.code),
        Verdict::Unknown(question) => Some(question.code),
    }
}

/// Paths for the patterns of these endpoints, with `%2F` where an endpoint keeps it; and whether
/// they are all.
fn words(endpoints: &[&Endpoint]) -> (Vec<Word>, bool) {
    let mut languages: Vec<Language> = Vec::new();
    let mut add = |language: Language| {
        if !languages.contains(&language) {
            languages.push(language);
        }
    };
    for endpoint in endpoints {
        if let Some(scope) = &endpoint.scope {
            add(scope.language());
        }
        for rule in askers::rules(endpoint) {
            if let RuleKind::Http { path, .. } = &rule.kind {
                add(path.language());
            }
        }
    }
    let star = Word { text: "*".to_owned(), within: Box::default(), odd: false };
    let Some(mut words) = paths(&languages, None) else { return (vec![star], false) };
    let plain: BTreeSet<Box<[bool]>> =
        words.iter().filter(|word| !word.odd).map(|word| word.within.clone()).collect();
    words.retain(|word| !word.odd || !plain.contains(&word.within));
    words.push(star);
    if !endpoints.iter().any(|endpoint| endpoint.flags.keeps_slash) {
        return (words, true);
    }
    match paths(&languages, Some(&languages)) {
        Some(escaped) => {
            words.extend(escaped.into_iter().filter(|word| !word.odd));
            (words, true)
        }
        None => (words, false),
    }
}

impl Policy {
    /// Whether an endpoint of another policy is also one of this.
    pub(super) fn has_alike(&self, other: &Policy, endpoint: &Endpoint) -> bool {
        let wanted = essence(other, endpoint);
        self.endpoints.iter().any(|own| essence(self, own) == wanted)
    }
}

/// All that an endpoint means, as text, without its name.
fn essence(policy: &Policy, endpoint: &Endpoint) -> String {
    let entry = &policy.entries[endpoint.entry as usize];
    let mut binaries: Vec<&str> = entry.written.iter().map(|binary| &**binary).collect();
    binaries.sort_unstable();
    let allows = match &endpoint.allows {
        crate::policy::compile::Allows::Rules(rules, _) => format!("{rules:?}"),
        crate::policy::compile::Allows::Access(access, _) => format!("{access:?}"),
        other => format!("{other:?}"),
    };
    let body = endpoint.body.as_ref().map(|body| {
        let registry: std::collections::BTreeMap<_, _> = body.registry.iter().collect();
        format!("{:?} {:?} {registry:?}", body.limit, body.mcp)
    });
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {allows} {:?} {:?} {body:?} {} {binaries:?}",
        endpoint.host,
        endpoint.ports,
        endpoint.scope,
        endpoint.kind,
        endpoint.flags,
        endpoint.allowed_ips,
        endpoint.denies,
        policy.limits.graphql,
        entry.binaries.is_some(),
    )
}
