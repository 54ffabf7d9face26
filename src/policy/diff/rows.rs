//! What the comparison found, gathered by the rule that lets it through.

use super::askers::Said;
use crate::addr::{Authority, Port, Shown};
use crate::policy::code::Code;
use crate::policy::compile::{Allows, Endpoint, Policy, Rule, RuleKind};
use crate::policy::intent::{Ask, Client, GraphqlKind, GraphqlOperation, Intent, RpcCall};
use crate::policy::verdict::RuleRef;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What changes. Ordered as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// NEW lets it through, OLD does not: the example shows it.
    Gained,
    /// NEW may let more through: it could not be decided.
    MayGain,
    /// OLD lets it through, NEW does not.
    Lost,
    /// Neither lets it through; OLD denies it, under NEW the operator may be asked.
    Undenied,
}

/// What is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Requests.
    Requests,
    /// WebSockets.
    Websockets,
    /// Text messages on a WebSocket.
    Messages,
    /// Bytes that are neither TLS nor HTTP.
    Bytes,
    /// Whatever is sent through a raw tunnel, unseen.
    Tunnel,
    /// A raw tunnel whose TLS may name another host, or hide the name.
    AnyName,
    /// The name may resolve to other addresses.
    Addresses,
    /// Bodies that are longer.
    Sizes,
}

/// One line of a diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What changes.
    pub change: Change,
    /// The host as the rule names it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is let through.
    pub what: Aspect,
    /// The methods; `*` for all, `other` for those that no rule names. Empty where there is none.
    pub methods: Vec<String>,
    /// The path as the rule has it.
    pub path: String,
    /// Keys of the query that the rule asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// The executables; `null` for any.
    pub binaries: Option<Vec<String>>,
    /// The rule that lets it through: NEW's, or OLD's where it is lost.
    pub rule: String,
    /// Part of what the rule lets through was let through before, or still is.
    pub partly: bool,
    /// Why the other policy does not: its code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<&'static str>,
    /// Its deny rule, where one decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_by: Option<String>,
    /// A request that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
}

/// A request that one policy lets through and the other does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its method; `WEBSOCKET` for a handshake, `WEBSOCKET_TEXT` for a message, `TCP` for bytes.
    pub method: String,
    /// Its URL, canonical: printable ASCII.
    pub url: String,
    /// The executables, first the one that asks; empty where the process can't be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binaries: Vec<String>,
    /// What its body says, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Both policies were asked about this very request.
    #[serde(skip)]
    pub(super) certain: bool,
}

/// Why a policy stops something.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    pub(super) code: Option<Code>,
    pub(super) denied: Option<RuleRef>,
}

impl Stop {
    pub(super) fn denied(code: Code, rule: Option<RuleRef>) -> Self {
        Self { code: Some(code), denied: rule }
    }

    pub(super) fn unknown(code: Code) -> Self {
        Self { code: Some(code), denied: None }
    }
}

/// Which policy lets it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Old,
    New,
}

type Key = (Change, RuleRef, u16, Aspect, Option<RuleRef>);

struct Growing {
    row: Row,
    methods: BTreeSet<String>,
    of: usize,
}

/// The rows while they grow.
pub(super) struct Rows<'p> {
    old: &'p Policy,
    new: &'p Policy,
    rows: BTreeMap<Key, Growing>,
    /// Rules of which something passes under both.
    kept: HashSet<(Side, RuleRef, u16)>,
    methods: Vec<String>,
}

impl<'p> Rows<'p> {
    pub(super) fn new(old: &'p Policy, new: &'p Policy) -> Self {
        let (rows, kept) = (BTreeMap::new(), HashSet::new());
        Self { old, new, rows, kept, methods: Vec::new() }
    }

    /// The methods that are tried from now on; the last stands for those that no rule names.
    pub(super) fn methods(&mut self, methods: &[String]) {
        self.methods = methods.to_vec();
    }

    /// Whether there is a row already that this would only repeat.
    pub(super) fn has(
        &self,
        (side, rule, stop): (Side, &RuleRef, &Stop),
        target: &Authority,
        ask: &Ask<'_>,
    ) -> bool {
        let surely = if side == Side::Old { Change::Lost } else { Change::Gained };
        let aspect = Aspect::of(ask);
        let key = (surely, rule.clone(), target.port.get(), aspect, stop.denied.clone());
        let Some(growing) = self.rows.get(&key) else { return false };
        match ask {
            Ask::Request { websocket: false, method, .. } => {
                growing.methods.contains(self.spelled(method))
            }
            Ask::Request { .. } | Ask::Message { .. } | Ask::Bytes => true,
        }
    }

    /// The method, or `other` for the one that stands for all that no rule names.
    fn spelled<'m>(&self, method: &'m str) -> &'m str {
        if self.methods.last().is_some_and(|unnamed| unnamed == method) { "other" } else { method }
    }

    /// Something passes under both.
    pub(super) fn both(&mut self, old: &RuleRef, new: &RuleRef, target: &Authority) {
        for (side, rule) in [(Side::Old, old), (Side::New, new)] {
            let key = (side, rule.clone(), target.port.get());
            if !self.kept.contains(&key) {
                self.kept.insert(key);
            }
        }
    }

    /// Something passes under one alone.
    pub(super) fn passes(
        &mut self,
        (side, rule): (Side, &RuleRef),
        target: &Authority,
        aspect: Aspect,
        (stop, example): (&dyn Fn() -> Stop, &dyn Fn() -> Example),
    ) {
        let stopped = stop();
        let (policy, other) = match side {
            Side::Old => (self.old, self.new),
            Side::New => (self.new, self.old),
        };
        let surely = if side == Side::Old { Change::Lost } else { Change::Gained };
        let key = (surely, rule.clone(), target.port.get(), aspect, stopped.denied.clone());
        let example = example();
        let change = match (side, example.certain) {
            (_, true) => surely,
            (Side::New, false) => Change::MayGain,
            // Not worth a line: nothing more passes.
            (Side::Old, false) => return,
        };
        self.add((change, key.1, key.2, key.3, key.4), example, |key| {
            let mut row = described(policy, key);
            row.other = stopped.code.map(Code::as_str);
            if let Some(path) = stopped.denied.as_ref().and_then(|rule| path_of(other, rule)) {
                row.path = path;
            }
            row
        });
    }

    /// Neither lets it through; a deny rule of OLD's does not hold any more.
    pub(super) fn asked(
        &mut self,
        rule: &RuleRef,
        target: &Authority,
        aspect: Aspect,
        example: &dyn Fn() -> Example,
    ) {
        let old = self.old;
        let key = (Change::Undenied, rule.clone(), target.port.get(), aspect, None);
        self.add(key, example(), |key| described(old, key));
    }

    /// It could not be decided whether NEW lets more through here.
    pub(super) fn undecided(&mut self, port: Port, endpoints: &[&'p Endpoint]) {
        let new = self.new;
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.flags.deny_only) {
            let name = endpoint.name.clone();
            let key = (Change::MayGain, name, port.get(), Aspect::Requests, None);
            let row = described(new, &key);
            self.rows.entry(key).or_insert(Growing { row, methods: BTreeSet::new(), of: 0 });
        }
    }

    fn add(&mut self, key: Key, example: Example, row: impl FnOnce(&Key) -> Row) {
        let method = self.spelled(&example.method).to_owned();
        if !self.rows.contains_key(&key) {
            let row = Row { example: Some(example), ..row(&key) };
            self.rows.insert(key.clone(), Growing { row, methods: BTreeSet::new(), of: 0 });
        }
        let Some(growing) = self.rows.get_mut(&key) else { return };
        growing.of = growing.of.max(self.methods.len());
        if key.3 == Aspect::Requests && !growing.methods.contains(&method) {
            growing.methods.insert(method);
        }
    }

    pub(super) fn finish(self) -> Vec<Row> {
        let kept = self.kept;
        let finished = |((change, rule, port, ..), growing): (Key, Growing)| {
            let mut row = growing.row;
            let side = if change == Change::Lost { Side::Old } else { Side::New };
            row.partly = kept.contains(&(side, rule, port)) && change != Change::Undenied;
            row.methods = match growing.methods.len() {
                0 => Vec::new(),
                all if all == growing.of => vec!["*".to_owned()],
                _ => growing.methods.into_iter().collect(),
            };
            row
        };
        let mut rows: Vec<Row> = self.rows.into_iter().map(finished).collect();
        rows.sort_by(|a, b| {
            (a.change, &a.host, a.port, a.what, &a.path, &a.rule)
                .cmp(&(b.change, &b.host, b.port, b.what, &b.path, &b.rule))
        });
        rows
    }
}

impl Aspect {
    pub(super) fn of(ask: &Ask<'_>) -> Self {
        match ask {
            Ask::Bytes => Self::Bytes,
            Ask::Request { websocket: true, .. } => Self::Websockets,
            Ask::Request { .. } => Self::Requests,
            Ask::Message { .. } => Self::Messages,
        }
    }
}

/// The endpoint and rule of that name.
fn find<'p>(policy: &'p Policy, name: &str) -> Option<(&'p Endpoint, Option<&'p Rule>)> {
    let endpoint = policy.endpoints.iter().find(|endpoint| {
        name.strip_prefix(&*endpoint.name).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    })?;
    let rest = &name[endpoint.name.len()..];
    let numbered =
        |kind: &str| -> Option<usize> { rest.strip_prefix(kind)?.strip_suffix(']')?.parse().ok() };
    let allows = match &endpoint.allows {
        Allows::Rules(rules, _) => numbered("/rules[").and_then(|at| rules.get(at)),
        Allows::Nothing | Allows::Covered | Allows::Access(..) => None,
    };
    let denies = || numbered("/deny_rules[").and_then(|at| endpoint.denies.get(at));
    Some((endpoint, allows.or_else(denies)))
}

/// The path of a rule, or of its endpoint; `None` where it is any.
fn path_of(policy: &Policy, name: &str) -> Option<String> {
    let (endpoint, rule) = find(policy, name)?;
    let of_rule = rule.and_then(|rule| match &rule.kind {
        RuleKind::Http { path, .. } => Some(path),
        RuleKind::Graphql { .. } | RuleKind::Rpc { .. } | RuleKind::Sql => None,
    });
    let path = of_rule.or(endpoint.scope.as_ref())?;
    Some(Shown::new(path.written()).to_string())
}

fn described(policy: &Policy, (change, rule, port, what, denied): &Key) -> Row {
    let found = find(policy, rule);
    let endpoint = found.map(|(endpoint, _)| endpoint);
    let query = match found.and_then(|(_, rule)| rule).map(|rule| &rule.kind) {
        Some(RuleKind::Http { query, .. }) => {
            query.iter().map(|(key, _)| Shown::new(key).to_string()).collect()
        }
        _ => Vec::new(),
    };
    let entry = endpoint.map(|endpoint| &policy.entries[endpoint.entry as usize]);
    let binaries = entry
        .filter(|entry| entry.binaries.is_some())
        .map(|entry| entry.written.iter().map(|binary| Shown::new(binary).to_string()).collect());
    Row {
        change: *change,
        host: endpoint.map(host).unwrap_or_default(),
        port: *port,
        what: *what,
        methods: Vec::new(),
        path: path_of(policy, rule).unwrap_or_else(|| "/**".to_owned()),
        query,
        binaries,
        rule: Shown::new(rule).to_string(),
        partly: false,
        other: None,
        denied_by: denied.as_ref().map(|rule| Shown::new(rule).to_string()),
        example: None,
    }
}

/// The host as the endpoint names it.
fn host(endpoint: &Endpoint) -> String {
    match &endpoint.host {
        Some(pattern) => Shown::new(&pattern.to_string()).to_string(),
        None => {
            let ips: Vec<String> = endpoint.allowed_ips.iter().map(ToString::to_string).collect();
            format!("any name within {}", ips.join(", "))
        }
    }
}

impl Example {
    pub(super) fn of(intent: &Intent<'_>, flagged: Option<&str>, said: &Said) -> Self {
        let (method, path, query) = match intent.ask {
            Ask::Bytes => return Self::tunnel(intent.client, intent.target),
            Ask::Request { websocket: true, path, query, .. } => ("WEBSOCKET", path, query),
            Ask::Request { method, path, query, .. } => (method, path, query),
            Ask::Message { path, query, .. } => ("WEBSOCKET_TEXT", path, query),
        };
        let path = flagged.unwrap_or(path.as_str());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let scheme = if method.starts_with("WEBSOCKET") { "wss" } else { "https" };
        let authority = match intent.target.port {
            Port::HTTPS => bracketed(intent.target),
            port => format!("{}:{}", bracketed(intent.target), port.get()),
        };
        let url = format!("{scheme}://{authority}{path}{query}");
        Self {
            method: method.to_owned(),
            url: Shown::new(&url).to_string(),
            binaries: executables(intent.client),
            body: said.words(),
            certain: flagged.is_none(),
        }
    }

    pub(super) fn tunnel(client: &Client, target: &Authority) -> Self {
        Self {
            method: "TCP".to_owned(),
            url: format!("tcp://{target}"),
            binaries: executables(client),
            body: None,
            certain: true,
        }
    }
}

fn bracketed(target: &Authority) -> String {
    match target.host.ip() {
        Some(ip) if ip.is_ipv6() => format!("[{ip}]"),
        _ => target.host.to_string(),
    }
}

fn executables(client: &Client) -> Vec<String> {
    match client {
        Client::Seen(process) => std::iter::once(&process.binary)
            .chain(&process.ancestors)
            .map(|binary| Shown::new(binary).to_string())
            .collect(),
        Client::Unseen | Client::Ignored => Vec::new(),
    }
}

impl Said {
    /// In a few words; `None` where nobody reads it.
    fn words(&self) -> Option<String> {
        let list = |parts: Vec<String>| Some(parts.join(", "));
        match self {
            Self::Unread | Self::Opaque => None,
            Self::Invalid => Some("not understood".to_owned()),
            Self::Graphql(operations) => list(operations.iter().map(operation).collect()),
            Self::Rpc(calls) => list(calls.iter().map(call).collect()),
        }
    }
}

fn operation(operation: &GraphqlOperation) -> String {
    let kind = match operation.kind {
        Some(GraphqlKind::Query) => "query",
        Some(GraphqlKind::Mutation) => "mutation",
        Some(GraphqlKind::Subscription) => "subscription",
        None => {
            let id = operation.persisted.as_deref().unwrap_or_default();
            return format!("persisted {}", Shown::new(id));
        }
    };
    let name = operation.name.as_deref().map(|name| format!(" {}", Shown::new(name)));
    let fields = Shown::new(&operation.fields.join(" ")).to_string();
    format!("{kind}{} {{ {fields} }}", name.unwrap_or_default())
}

fn call(call: &RpcCall) -> String {
    let method = call.method.as_deref().unwrap_or("(a response)");
    match &call.tool {
        Some(tool) => format!("{} {}", Shown::new(method), Shown::new(tool)),
        None => Shown::new(method).to_string(),
    }
}
