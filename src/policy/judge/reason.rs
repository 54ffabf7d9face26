//! Why nothing allowed it: the nearest miss, as a code and a sentence. Cold: allocates freely.

use super::cover::{Covering, each};
use super::{Asked, BodySource, Form, Subject, http, messages};
use crate::addr::{Authority, Shown};
use crate::policy::code::Code;
use crate::policy::compile::{Allows, Endpoint, Kind, Methods, Policy, RuleKind};
use crate::policy::intent::{Ask, Body, Client, Intent};
use crate::policy::verdict::{Nearest, Question};
use std::fmt::Write;

/// The longest part of a path, a name or a list that a sentence shows.
const MOST_CHARS: usize = 200;
const MOST_LISTED: usize = 4;

/// `GET /repos/a`, `a message on /ws`, `raw bytes`; untrusted text escaped and cut.
pub(super) fn asked(intent: &Intent<'_>) -> String {
    match intent.ask {
        Ask::Bytes => "a raw connection".to_owned(),
        Ask::Request { method, path, websocket, .. } => {
            let what = if websocket { "the WebSocket handshake" } else { method };
            format!("{} {}", shown(what), shown(path.as_str()))
        }
        Ask::Message { path, .. } => format!("a message on {}", shown(path.as_str())),
    }
}

/// What is wrong with the body, in a few words.
pub(super) fn body_problem(ask: &Ask<'_>) -> &'static str {
    let (Ask::Request { body, .. } | Ask::Message { body, .. }) = ask else {
        return "there is none";
    };
    match body {
        Body::Invalid(why) => why,
        Body::Unread => "it was not read",
        Body::Opaque => "it is no GraphQL operation",
        Body::Graphql([]) | Body::Rpc([]) => "it is empty",
        Body::Graphql(_) => "it is GraphQL, or an unknown persisted query",
        Body::Rpc(_) => "it is JSON-RPC",
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MOST_CHARS).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", Shown::new(&cut))
}

/// Why nothing allowed it.
#[cold]
pub(super) fn question(policy: &Policy, intent: &Intent<'_>, covering: &Covering) -> Question {
    let covered: Vec<&Endpoint> =
        policy.covered(covering).filter(|endpoint| !endpoint.flags.deny_only).collect();
    let Some(first) = covered.first() else {
        return far(policy, intent.client, intent.target);
    };
    let Some(subject) = Subject::of(&intent.ask) else {
        let detail = format!(
            "a raw connection is not allowed on {}: no endpoint is `protocol: tcp`",
            intent.target
        );
        let nearest = Some(first.name.clone());
        return Question { code: Code::ProtocolNotAllowed, detail, nearest };
    };
    // The reading that failed is the one to explain.
    let readings = subject.path.readings();
    let failed = readings
        .iter()
        .find(|path| {
            let asked = subject.reading(path);
            !covered.iter().any(|e| e.in_scope(path) && http::allowed(e, &asked).is_some())
        })
        .unwrap_or_else(|| subject.path.as_str());
    let asked = subject.reading(failed);
    let mut best: Option<(Nearest, Code, &Endpoint)> = None;
    for endpoint in &covered {
        let (near, code) = miss(endpoint, &asked);
        if best.is_none_or(|(known, ..)| near > known) {
            best = Some((near, code, endpoint));
        }
    }
    let (_, code, endpoint) = best.unwrap_or((Nearest::Path, Code::PathNotAllowed, first));
    let detail = sentence(code, intent, &asked, &covered);
    Question { code, detail, nearest: Some(endpoint.name.clone()) }
}

/// How near one covering endpoint came.
fn miss(endpoint: &Endpoint, asked: &Asked<'_>) -> (Nearest, Code) {
    if !endpoint.in_scope(asked.path) {
        return (Nearest::Path, Code::PathNotAllowed);
    }
    match (endpoint.kind, asked.form) {
        (Kind::Tcp, _) => (Nearest::Process, Code::ProtocolNotAllowed),
        (Kind::L4 | Kind::Skip { .. } | Kind::Sql, _) => (Nearest::Process, Code::PathNotAllowed),
        (Kind::Websocket, Form::Message) => (Nearest::Body, message_miss(endpoint, asked)),
        (Kind::Websocket, Form::Plain) => (Nearest::Method, Code::MethodNotAllowed),
        (Kind::Rest, _) | (Kind::Websocket, Form::Handshake) => method_miss(endpoint, asked),
        (Kind::Graphql | Kind::Rpc { .. }, _) => {
            match (messages::reads(endpoint, asked), asked.body) {
                (Some(BodySource::Body | BodySource::Query), _)
                | (Some(BodySource::Nowhere), Body::Invalid(_)) => {
                    (Nearest::Body, body_miss(endpoint, asked))
                }
                (None | Some(BodySource::Nowhere), _) => (Nearest::Method, Code::MethodNotAllowed),
            }
        }
    }
}

fn method_miss(endpoint: &Endpoint, asked: &Asked<'_>) -> (Nearest, Code) {
    let far = (Nearest::Path, Code::PathNotAllowed);
    match &endpoint.allows {
        Allows::Nothing | Allows::Covered => far,
        Allows::Access(..) => (Nearest::Method, Code::MethodNotAllowed),
        Allows::Rules(rules, _) => rules
            .iter()
            .map(|rule| match &rule.kind {
                RuleKind::Http { methods, path, .. }
                    if path.matches(asked.path) && !messages::only_messages(methods) =>
                {
                    match methods.cover(asked.method) {
                        true => (Nearest::Query, Code::QueryNotAllowed),
                        false => (Nearest::Method, Code::MethodNotAllowed),
                    }
                }
                _ => far,
            })
            .max_by_key(|(near, _)| *near)
            .unwrap_or(far),
    }
}

fn message_miss(endpoint: &Endpoint, asked: &Asked<'_>) -> Code {
    match asked.body {
        Body::Graphql(_) => match body_miss(endpoint, asked) {
            Code::PersistedQueryUnknown => Code::PersistedQueryUnknown,
            _ => Code::OperationNotAllowed,
        },
        Body::Invalid(_) => Code::BodyNotUnderstood,
        Body::Unread | Body::Opaque | Body::Rpc(_) => Code::MessageNotAllowed,
    }
}

fn body_miss(endpoint: &Endpoint, asked: &Asked<'_>) -> Code {
    match (endpoint.kind, asked.body) {
        (Kind::Graphql | Kind::Websocket, Body::Graphql(operations)) if !operations.is_empty() => {
            match operations.iter().any(|op| messages::effective(endpoint, op).is_none()) {
                true => Code::PersistedQueryUnknown,
                false => Code::OperationNotAllowed,
            }
        }
        (Kind::Rpc { mcp }, Body::Rpc(calls)) if !calls.is_empty() => {
            let refused = calls.iter().find(|c| messages::call_allowed(endpoint, c, mcp).is_none());
            let tool = refused.is_some_and(|call| {
                call.method.as_deref() == Some("tools/call") && names_tools(endpoint)
            });
            if tool { Code::ToolNotAllowed } else { Code::RpcMethodNotAllowed }
        }
        _ => Code::BodyNotUnderstood,
    }
}

/// Whether the endpoint allows some tool, so that the name decides.
fn names_tools(endpoint: &Endpoint) -> bool {
    match &endpoint.allows {
        Allows::Rules(rules, _) => rules.iter().any(|rule| match &rule.kind {
            RuleKind::Rpc { method, tool } => {
                !tool.is_empty() || method.as_ref().is_some_and(|m| m.matches("tools/call"))
            }
            RuleKind::Http { .. } | RuleKind::Graphql { .. } | RuleKind::Sql => false,
        }),
        Allows::Access(..) => true,
        Allows::Nothing | Allows::Covered => endpoint.body.is_some(),
    }
}

fn sentence(code: Code, intent: &Intent<'_>, asked: &Asked<'_>, covered: &[&Endpoint]) -> String {
    let mut out = format!("{} is not allowed on {}", self::asked(intent), intent.target);
    let more = match code {
        Code::MethodNotAllowed => enumerated(&methods(covered, asked)),
        Code::PathNotAllowed => enumerated(&paths(covered)),
        Code::QueryNotAllowed => Some("with another query it is".to_owned()),
        Code::ProtocolNotAllowed => Some("a raw connection is".to_owned()),
        Code::BodyNotUnderstood => Some(body_problem(&intent.ask).to_owned()),
        Code::OperationNotAllowed | Code::PersistedQueryUnknown => operation(asked, covered),
        Code::RpcMethodNotAllowed | Code::ToolNotAllowed => call(asked, covered),
        _ => None,
    };
    if let Some(more) = more {
        // Writing into a string can't fail.
        let _ = write!(out, " ({more})");
    }
    out
}

/// `GET is`, `GET, HEAD and OPTIONS are`.
fn enumerated(names: &[String]) -> Option<String> {
    let (last, rest) = names.split_last()?;
    if names.len() > MOST_LISTED {
        let listed = names[..MOST_LISTED].join(", ");
        return Some(format!("{listed} and {} more are", names.len() - MOST_LISTED));
    }
    Some(match rest {
        [] => format!("{last} is"),
        rest => format!("{} and {last} are", rest.join(", ")),
    })
}

/// The methods that some covering endpoint allows on this path.
fn methods(covered: &[&Endpoint], asked: &Asked<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    };
    for endpoint in covered.iter().filter(|endpoint| endpoint.in_scope(asked.path)) {
        match (&endpoint.allows, endpoint.kind) {
            (_, Kind::Graphql) => ["GET", "POST"].iter().for_each(|m| add(m)),
            (_, Kind::Rpc { .. }) => add("POST"),
            (_, Kind::Websocket) => add("the WebSocket handshake"),
            (Allows::Access(access, _), _) => {
                http::preset_methods(*access).into_iter().flatten().for_each(|m| add(m));
            }
            (Allows::Rules(rules, _), _) => {
                for rule in rules.iter() {
                    if let RuleKind::Http { methods: Methods::One(method), path, .. } = &rule.kind
                        && path.matches(asked.path)
                    {
                        add(method);
                    }
                }
            }
            (Allows::Nothing | Allows::Covered, _) => {}
        }
    }
    names
}

/// The paths that some covering endpoint allows.
fn paths(covered: &[&Endpoint]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for endpoint in covered {
        let scope = endpoint.scope.as_ref().map(|scope| shown(scope.written()));
        let ruled = match &endpoint.allows {
            Allows::Rules(rules, _) => rules
                .iter()
                .filter_map(|rule| match &rule.kind {
                    RuleKind::Http { path, .. } => Some(shown(path.written())),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        for name in scope.into_iter().chain(ruled) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The operation that is refused.
fn operation(asked: &Asked<'_>, covered: &[&Endpoint]) -> Option<String> {
    let Body::Graphql(operations) = asked.body else { return None };
    let refused = operations.iter().find(|operation| {
        !covered.iter().any(|endpoint| {
            messages::effective(endpoint, operation)
                .is_some_and(|op| messages::operation_allowed(endpoint, op).is_some())
        })
    })?;
    let kind = match refused.kind {
        None => return Some("a persisted query that is not registered".to_owned()),
        Some(crate::policy::GraphqlKind::Query) => "query",
        Some(crate::policy::GraphqlKind::Mutation) => "mutation",
        Some(crate::policy::GraphqlKind::Subscription) => "subscription",
    };
    let name = refused.name.as_deref().map(|name| format!(" {}", shown(name)));
    Some(format!("{kind}{} {{ {} }}", name.unwrap_or_default(), shown(&refused.fields.join(" "))))
}

/// The call that is refused.
fn call(asked: &Asked<'_>, covered: &[&Endpoint]) -> Option<String> {
    let Body::Rpc(calls) = asked.body else { return None };
    let refused = calls.iter().find(|call| {
        !covered.iter().any(|endpoint| match endpoint.kind {
            Kind::Rpc { mcp } => messages::call_allowed(endpoint, call, mcp).is_some(),
            _ => false,
        })
    })?;
    Some(match (&refused.method, &refused.tool) {
        (None, _) => "a response".to_owned(),
        (Some(method), None) => shown(method),
        (Some(method), Some(tool)) => format!("{} {}", shown(method), shown(tool)),
    })
}

/// Nothing covers host, port and process: which of them failed.
pub(super) fn far(policy: &Policy, client: &Client, target: &Authority) -> Question {
    let port = target.port.get();
    let mut here: Option<&Endpoint> = None;
    let mut elsewhere: Option<&Endpoint> = None;
    let mut ports: Vec<u16> = Vec::new();
    let mut binaries: Vec<String> = Vec::new();
    each(policy, &target.host, port, |id| {
        let endpoint = &policy.endpoints[id as usize];
        if endpoint.flags.deny_only {
            return;
        }
        if endpoint.is_on(port) {
            here = here.or(Some(endpoint));
            let written = &policy.entries[endpoint.entry as usize].written;
            binaries.extend(written.iter().map(|binary| shown(binary)));
        } else {
            elsewhere = elsewhere.or(Some(endpoint));
            ports.extend(&endpoint.ports);
        }
    });
    match (here, elsewhere) {
        (Some(endpoint), _) => {
            let (code, this) = match client {
                Client::Seen(process) => {
                    (Code::ProcessNotAllowed, format!("this is {}", shown(&process.binary)))
                }
                Client::Unseen | Client::Ignored => {
                    (Code::ProcessUnknown, "and the process can't be seen".to_owned())
                }
            };
            let detail = format!("{target} is allowed for {}, {this}", some_of(binaries));
            Question { code, detail, nearest: Some(endpoint.name.clone()) }
        }
        (None, Some(endpoint)) => {
            ports.sort_unstable();
            let word = if ports.len() > 1 { "ports" } else { "port" };
            let listed = some_of(ports.iter().map(u16::to_string).collect());
            let detail = format!("{} is allowed on {word} {listed}, not {port}", target.host);
            let nearest = Some(endpoint.name.clone());
            Question { code: Code::PortNotAllowed, detail, nearest }
        }
        (None, None) => {
            let detail = format!("no rule names {}", target.host);
            Question { code: Code::HostUnknown, detail, nearest: None }
        }
    }
}

fn some_of(mut names: Vec<String>) -> String {
    names.dedup();
    match names.len() {
        0 => "no process".to_owned(),
        count if count > MOST_LISTED => {
            format!("{} and {} more", names[..MOST_LISTED].join(", "), count - MOST_LISTED)
        }
        _ => names.join(", "),
    }
}
