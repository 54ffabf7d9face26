//! What there is to ask besides host and path: clients, queries, bodies; one for each way in
//! which the endpoints at hand tell them apart.
//!
//! How many things must stand beside one another in one request for a difference to show is argued
//! at each function; where the argument needs more than is tried, [`Tried::all`] is false.

use super::walk::{Grammar, Word, texts, texts_of};
use crate::policy::compile::{Allows, Endpoint, Kind, Methods, Rule, RuleKind};
use crate::policy::intent::{Client, GraphqlKind, GraphqlOperation, Process, RpcCall};
use crate::policy::judge::KNOWN_MCP;
use crate::policy::pattern::{Language, PathPattern, TextPattern};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Values of one kind, and whether they are all that can be told apart.
pub(super) struct Tried<T> {
    pub(super) values: Vec<T>,
    pub(super) all: bool,
}

/// Most combinations of one kind.
const MOST: usize = 600;
/// A method that no rule names.
const UNNAMED_METHODS: [&str; 3] = ["REPORT", "SEARCH", "NOTIFY"];

/// Every rule of an endpoint.
pub(super) fn rules(endpoint: &Endpoint) -> impl Iterator<Item = &Rule> {
    let allows = match &endpoint.allows {
        Allows::Rules(rules, _) => &rules[..],
        Allows::Nothing | Allows::Covered | Allows::Access(..) => &[],
    };
    allows.iter().chain(endpoint.denies.iter())
}

/// The methods that rules name, those that mean something of themselves, and one besides; the
/// last one stands for all others.
pub(super) fn methods(endpoints: &[&Endpoint]) -> Vec<String> {
    let mut methods: BTreeSet<String> =
        ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).into();
    for rule in endpoints.iter().flat_map(|endpoint| rules(endpoint)) {
        if let RuleKind::Http { methods: Methods::One(one), .. } = &rule.kind {
            methods.insert(one.to_string());
        }
    }
    let unnamed = UNNAMED_METHODS.into_iter().find(|method| !methods.contains(*method));
    let mut methods: Vec<String> = methods.into_iter().collect();
    methods.push(unnamed.unwrap_or("UNNAMED").to_owned());
    methods
}

/// Clients: unseen, ignored, and processes whose executables match what the entries tell apart.
///
/// What NEW lets through is allowed by one endpoint (a WebSocket's message: one for the handshake,
/// one for the message), and stays allowed with fewer executables; what OLD refuses needs at most
/// one more, which a deny rule or an inspected endpoint is for. So three executables suffice.
pub(super) fn clients(binaries: &BTreeSet<String>) -> Tried<Client> {
    let mut tried = Tried { values: vec![Client::Unseen], all: true };
    if binaries.is_empty() {
        return tried;
    }
    tried.values.push(Client::Ignored);
    let languages: Vec<Language> = binaries
        .iter()
        .filter_map(|binary| PathPattern::parse_file(binary).ok())
        .map(|pattern| pattern.language())
        .collect();
    let Some(words) = texts(&languages) else {
        tried.all = false;
        return tried;
    };
    let (sets, all) = subsets(&words, 3);
    tried.all = all;
    tried.values.extend(sets.into_iter().map(|set| process(&set)));
    tried
}

fn process(executables: &[&Word]) -> Client {
    let mut executables = executables.iter().map(|word| word.text.as_str().into());
    let binary = executables.next().unwrap_or_default();
    Client::Seen(Arc::new(Process { pid: 0, binary, ancestors: executables.collect() }))
}

/// Subsets of one to `most` words, the small ones first; and whether none was left out.
fn subsets(words: &[Word], most: usize) -> (Vec<Vec<&Word>>, bool) {
    let mut sets: Vec<Vec<&Word>> = Vec::new();
    let mut last: Vec<(usize, Vec<&Word>)> = vec![(0, Vec::new())];
    for _ in 0..most.min(words.len()) {
        let mut next = Vec::new();
        for (from, set) in &last {
            for (at, word) in words.iter().enumerate().skip(*from) {
                if sets.len() == MOST {
                    return (sets, false);
                }
                let mut set = set.clone();
                set.push(word);
                sets.push(set.clone());
                next.push((at + 1, set));
            }
        }
        last = next;
    }
    (sets, true)
}

/// Queries: for each key that a rule names, no value or some set of values of the kinds that the
/// rules tell apart. A set of as many values as there are rules suffices: each needs one that it
/// does not match.
pub(super) fn queries(endpoints: &[&Endpoint]) -> Tried<Option<String>> {
    let mut globs: BTreeMap<&str, Vec<&TextPattern>> = BTreeMap::new();
    for rule in endpoints.iter().flat_map(|endpoint| rules(endpoint)) {
        if let RuleKind::Http { query, .. } = &rule.kind {
            for (key, values) in query {
                globs.entry(key).or_default().extend(values.iter());
            }
        }
    }
    let mut tried = Tried { values: vec![None], all: true };
    for (key, patterns) in globs {
        let languages = distinct(&patterns);
        let Some(words) = texts(&languages) else {
            tried.all = false;
            continue;
        };
        let (sets, all) = subsets(&words, patterns.len().max(1));
        tried.all &= all;
        let mut more = Vec::new();
        for query in &tried.values {
            for set in &sets {
                more.push(Some(with(query.as_deref(), key, set)));
            }
        }
        tried.values.extend(more);
        if tried.values.len() > MOST {
            tried.values.truncate(MOST);
            tried.all = false;
        }
    }
    if endpoints.iter().any(|endpoint| endpoint.kind == Kind::Graphql) {
        // A query that a server may take for an operation.
        let speaking: Vec<_> = tried
            .values
            .iter()
            .map(|q| Some(with(q.as_deref(), "query", &[]) + "%7Ba%7D"))
            .collect();
        tried.values.extend(speaking);
    }
    tried
}

/// The query with a key and its values; with the key alone where there are none.
fn with(query: Option<&str>, key: &str, values: &[&Word]) -> String {
    let mut writer = form_urlencoded::Serializer::new(query.unwrap_or_default().to_owned());
    values.iter().for_each(|value| {
        writer.append_pair(key, &value.text);
    });
    if values.is_empty() {
        writer.append_pair(key, "");
    }
    writer.finish()
}

fn distinct(patterns: &[&TextPattern]) -> Vec<Language> {
    let mut languages: Vec<Language> = Vec::new();
    for pattern in patterns {
        let language = pattern.language();
        if !languages.contains(&language) {
            languages.push(language);
        }
    }
    languages
}

/// A body, owned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Unread,
    Invalid,
    Opaque,
    Graphql(Vec<GraphqlOperation>),
    Rpc(Vec<RpcCall>),
}

/// Bodies, where an endpoint looks into them. A batch of as many operations or calls as OLD has
/// endpoints suffices (each must refuse one, and a deny rule needs one); of more than two not all
/// are tried.
pub(super) fn bodies(old: &[&Endpoint], new: &[&Endpoint]) -> Tried<Said> {
    let mut tried = Tried { values: vec![Said::Unread], all: true };
    let endpoints: Vec<&Endpoint> = old.iter().chain(new).copied().collect();
    if endpoints.iter().all(|endpoint| endpoint.body.is_none()) {
        return tried;
    }
    tried.values.extend([Said::Invalid, Said::Opaque]);
    let is_graphql = |e: &&Endpoint| matches!(e.kind, Kind::Graphql | Kind::Websocket);
    let is_rpc = |e: &&Endpoint| matches!(e.kind, Kind::Rpc { .. });
    let judging = |of: &dyn Fn(&&Endpoint) -> bool| old.iter().filter(|e| of(e)).count();
    if endpoints.iter().any(is_graphql) {
        let (operations, all) = operations(&endpoints);
        let batches = batches(&operations, judging(&is_graphql));
        tried.all &= all && batches.all;
        tried.values.extend(batches.values.into_iter().map(Said::Graphql));
    }
    if endpoints.iter().any(is_rpc) {
        let (calls, all) = calls(&endpoints);
        let batches = batches(&calls, judging(&is_rpc));
        tried.all &= all && batches.all;
        tried.values.extend(batches.values.into_iter().map(Said::Rpc));
    }
    tried
}

/// Each alone; each two where so many are needed.
fn batches<T: Clone>(single: &[T], needed: usize) -> Tried<Vec<T>> {
    let mut values: Vec<Vec<T>> = single.iter().map(|one| vec![one.clone()]).collect();
    if needed <= 1 {
        return Tried { values, all: true };
    }
    for (at, one) in single.iter().enumerate() {
        for other in &single[at + 1..] {
            if values.len() >= MOST {
                return Tried { values, all: false };
            }
            values.push(vec![one.clone(), other.clone()]);
        }
    }
    Tried { values, all: needed == 2 }
}

fn operations(endpoints: &[&Endpoint]) -> (Vec<GraphqlOperation>, bool) {
    let (mut names, mut fields) = (Vec::new(), Vec::new());
    for rule in endpoints.iter().flat_map(|endpoint| rules(endpoint)) {
        if let RuleKind::Graphql { name, fields: globs, .. } = &rule.kind {
            names.extend(name);
            fields.extend(globs.iter());
        }
    }
    let fields = distinct(&fields);
    let (Some(names), Some(words)) = (texts(&distinct(&names)), texts(&fields)) else {
        return (Vec::new(), false);
    };
    let (mut sets, all) = subsets(&words, fields.len().max(1));
    sets.push(Vec::new());
    let kinds = [GraphqlKind::Query, GraphqlKind::Mutation, GraphqlKind::Subscription];
    let mut operations = Vec::new();
    for kind in kinds {
        for name in &names {
            for set in &sets {
                operations.push(GraphqlOperation {
                    kind: Some(kind),
                    name: (!name.text.is_empty()).then(|| name.text.clone()),
                    fields: set.iter().map(|word| word.text.clone()).collect(),
                    persisted: None,
                });
            }
        }
    }
    let ids = endpoints.iter().filter_map(|e| e.body.as_ref()).flat_map(|b| b.registry.keys());
    let ids: BTreeSet<&str> = ids.map(|id| &**id).chain(["unregistered"]).collect();
    operations.extend(ids.into_iter().map(|id| GraphqlOperation {
        kind: None,
        name: None,
        fields: Vec::new(),
        persisted: Some(id.to_owned()),
    }));
    (operations, all)
}

fn calls(endpoints: &[&Endpoint]) -> (Vec<RpcCall>, bool) {
    let (mut methods, mut tools) = (Vec::new(), Vec::new());
    for rule in endpoints.iter().flat_map(|endpoint| rules(endpoint)) {
        if let RuleKind::Rpc { method, tool } = &rule.kind {
            methods.extend(method);
            tools.extend(tool.iter());
        }
    }
    // What MCP defines means something of itself, and so does the shape of a tool's name.
    let all_known = |e: &&Endpoint| e.body.as_ref().is_some_and(|body| body.mcp.all_known);
    let known: Vec<TextPattern> = match endpoints.iter().any(all_known) {
        true => KNOWN_MCP.iter().filter_map(|name| TextPattern::parse(name).ok()).collect(),
        false => TextPattern::parse("tools/call").into_iter().collect(),
    };
    methods.extend(&known);
    let tools = distinct(&tools);
    let odd = texts_of(&tools, &Odd);
    let (Some(methods), Some(plain), Some(odd)) =
        (texts(&distinct(&methods)), texts_of(&tools, &Plain), odd)
    else {
        return (Vec::new(), false);
    };
    let names: Vec<Option<String>> =
        plain.into_iter().chain(odd).map(|word| Some(word.text)).chain([None]).collect();
    let mut calls = vec![RpcCall { method: None, tool: None, id: None }];
    for method in methods {
        calls.extend(names.iter().map(|tool| RpcCall {
            method: Some(method.text.clone()),
            tool: tool.clone(),
            id: None,
        }));
    }
    (calls, true)
}

/// Tool names as MCP would have them.
struct Plain;

impl Grammar for Plain {
    fn step(&self, _: u8, letter: &str) -> Option<u8> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        letter.bytes().all(plain).then_some(1)
    }
    fn end(&self, state: u8) -> Option<u8> {
        (state == 1).then_some(0)
    }
}

/// Tool names with something in them that MCP would not have.
struct Odd;

impl Grammar for Odd {
    fn step(&self, state: u8, letter: &str) -> Option<u8> {
        Some(if Plain.step(0, letter).is_none() { 1 } else { state })
    }
    fn end(&self, state: u8) -> Option<u8> {
        (state == 1).then_some(0)
    }
}
