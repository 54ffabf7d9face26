//! What bodies and messages say: GraphQL operations, JSON-RPC and MCP calls, WebSocket text.
//!
//! Owns which body must be read before judging, and how what was read is judged. Invariants: an
//! empty batch grants nothing (all of none is not a grant); a body that was not read, or not
//! understood, allows nothing and hides from no deny rule.

use super::cover::Covering;
use super::{Asked, Form, Lean, Subject, http};
use crate::policy::body::graphql;
use crate::policy::code::Code;
use crate::policy::compile::{Allows, Endpoint, Kind, Methods, Policy, Rule, RuleKind};
use crate::policy::document::Access;
use crate::policy::intent::{Body, GraphqlKind, GraphqlOperation, Intent, RpcCall};
use crate::policy::pattern::TextPattern;
use crate::policy::verdict::RuleRef;

/// The method of a WebSocket text message in a rule.
pub(super) const TEXT: &str = "WEBSOCKET_TEXT";

/// The methods that MCP defines for clients, over all its revisions.
pub(in crate::policy) const KNOWN_MCP: [&str; 24] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "completion/complete",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "server/discover",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
];

/// A body that must be read before the request or message can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyNeed {
    /// How it is to be read.
    pub protocol: BodyProtocol,
    /// Where it stands.
    pub source: BodySource,
    /// At most this many bytes are read; a longer body is refused (413).
    pub limit: usize,
}

/// How a body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProtocol {
    /// GraphQL (messages: `graphql-transport-ws` and `graphql-ws`).
    Graphql,
    /// JSON-RPC 2.0.
    Rpc {
        /// It is MCP: responses from the client are no mistake.
        mcp: bool,
        /// MCP: tool names outside `A-Za-z0-9_.-`, or over 128 characters, are refused.
        strict_tool_names: bool,
    },
}

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySource {
    /// In the request's body, or it is the WebSocket message.
    Body,
    /// In the query string (GraphQL over GET).
    Query,
    /// Nowhere: the method carries no call, so that there must be no body. One that is there is
    /// [`Body::Invalid`]; where there is none, [`Body::Unread`].
    Nowhere,
}

impl Policy {
    /// Which body must be read before judging; `None` where no endpoint that covers the request
    /// looks into bodies. What was read goes into the intent's `body`. The intent's own `body` is
    /// not looked at.
    pub fn body_need(&self, intent: &Intent<'_>) -> Option<BodyNeed> {
        if !self.reads_bodies {
            return None;
        }
        let subject = Subject::of(&intent.ask)?;
        self.need_in(&Covering::of(self, intent.client, intent.target), &subject)
    }

    pub(super) fn need_in(&self, covering: &Covering, subject: &Subject<'_>) -> Option<BodyNeed> {
        let readings = subject.path.readings();
        let mut needed: Option<BodyNeed> = None;
        for endpoint in self.covered(covering) {
            let in_scope = readings.iter().any(|path| endpoint.in_scope(path))
                || (denies_bodies(endpoint)
                    && subject.path.decoded().any(|reading| endpoint.in_scope(&reading.path)));
            let asked = subject.reading(subject.path.as_str());
            let Some(source) = reads(endpoint, &asked).filter(|_| in_scope) else { continue };
            let need = BodyNeed { source, ..self.need(endpoint) };
            match &mut needed {
                None => needed = Some(need),
                // What is to be read in the query leaves no room for a body either.
                Some(first) if first.source == BodySource::Nowhere && source != first.source => {
                    *first = need;
                }
                Some(first) if same(first.protocol, need.protocol) => {
                    first.limit = first.limit.max(need.limit);
                }
                Some(_) => {}
            }
        }
        needed
    }

    fn need(&self, endpoint: &Endpoint) -> BodyNeed {
        let own = endpoint.body.as_ref().and_then(|body| body.limit);
        let source = BodySource::Body;
        match endpoint.kind {
            Kind::Rpc { mcp } => {
                let strict_tool_names =
                    mcp && endpoint.body.as_ref().is_none_or(|body| body.mcp.strict_tool_names);
                let protocol = BodyProtocol::Rpc { mcp, strict_tool_names };
                BodyNeed { protocol, source, limit: own.unwrap_or(self.limits.rpc) }
            }
            Kind::L4
            | Kind::Skip { .. }
            | Kind::Tcp
            | Kind::Rest
            | Kind::Websocket
            | Kind::Graphql
            | Kind::Sql => {
                let limit = own.unwrap_or(self.limits.graphql);
                BodyNeed { protocol: BodyProtocol::Graphql, source, limit }
            }
        }
    }
}

fn same(one: BodyProtocol, other: BodyProtocol) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// Whether the endpoint looks into the body, or the query, of this.
pub(super) fn reads(endpoint: &Endpoint, asked: &Asked<'_>) -> Option<BodySource> {
    let is = |method: &str| asked.method.eq_ignore_ascii_case(method);
    match (endpoint.kind, asked.form) {
        (Kind::Graphql | Kind::Rpc { .. }, Form::Plain) if is("POST") => Some(BodySource::Body),
        (Kind::Graphql, Form::Plain) if is("GET") && graphql_query(asked.query) => {
            Some(BodySource::Query)
        }
        (Kind::Rpc { mcp: true }, Form::Plain) if is("GET") || is("DELETE") => {
            Some(BodySource::Nowhere)
        }
        // What is denied must not be in a body that nobody looks for.
        (Kind::Graphql | Kind::Rpc { .. }, Form::Plain)
            if denies_bodies(endpoint) && !hides(endpoint, asked) =>
        {
            Some(BodySource::Nowhere)
        }
        (Kind::Websocket, Form::Message) if speaks_graphql(endpoint) => Some(BodySource::Body),
        _ => None,
    }
}

/// Whether one of the endpoint's deny rules is about what bodies say.
fn denies_bodies(endpoint: &Endpoint) -> bool {
    let over_bodies =
        |rule: &Rule| matches!(rule.kind, RuleKind::Graphql { .. } | RuleKind::Rpc { .. });
    endpoint.denies.iter().any(over_bodies)
}

/// Whether some server could take the query string for a GraphQL request.
fn graphql_query(query: Option<&str>) -> bool {
    query.is_some_and(graphql::may_speak)
}

/// Whether what the endpoint's deny rules are about may be in this, where nobody looks for it. What
/// a method means is the server's to say: of those that are not read, only the ones that ask for
/// nothing to be done are known to carry no operation.
fn hides(endpoint: &Endpoint, asked: &Asked<'_>) -> bool {
    let is = |methods: &[&str]| methods.iter().any(|m| asked.method.eq_ignore_ascii_case(m));
    match endpoint.kind {
        Kind::Graphql => !is(&["GET", "HEAD", "OPTIONS"]) || graphql_query(asked.query),
        // DELETE ends a session of MCP, and is judged as that.
        Kind::Rpc { mcp: true } => !is(&["GET", "HEAD", "OPTIONS", "DELETE"]),
        Kind::Rpc { mcp: false } => !is(&["GET", "HEAD", "OPTIONS"]),
        Kind::L4 | Kind::Skip { .. } | Kind::Tcp | Kind::Rest | Kind::Websocket | Kind::Sql => {
            false
        }
    }
}

fn speaks_graphql(endpoint: &Endpoint) -> bool {
    let graphql = |rule: &Rule| matches!(rule.kind, RuleKind::Graphql { .. });
    endpoint.denies.iter().any(graphql)
        || matches!(&endpoint.allows, Allows::Rules(rules, _) if rules.iter().any(graphql))
}

/// Whether messages may be refused that came after a handshake which this endpoint allowed.
pub(super) fn restricts(endpoint: &Endpoint) -> bool {
    endpoint.kind == Kind::Websocket
        && !matches!(endpoint.allows, Allows::Access(Access::ReadWrite | Access::Full, _))
}

/// Whether one of the endpoint's deny rules may match a message.
pub(super) fn denies_some(endpoint: &Endpoint) -> bool {
    endpoint.kind == Kind::Websocket
        && endpoint.denies.iter().any(|rule| match &rule.kind {
            RuleKind::Http { methods, .. } => methods.cover(TEXT),
            RuleKind::Graphql { .. } => true,
            RuleKind::Rpc { .. } | RuleKind::Sql => false,
        })
}

/// Why the endpoint's deny rules over bodies can't be held against this, if they can't.
pub(super) fn blind(endpoint: &Endpoint, asked: &Asked<'_>) -> Option<Code> {
    if !denies_bodies(endpoint) {
        return None;
    }
    // A WebSocket may carry what is denied, and its messages are not read as this protocol.
    if asked.form != Form::Plain && matches!(endpoint.kind, Kind::Graphql | Kind::Rpc { .. }) {
        return Some(Code::BodyNotUnderstood);
    }
    let unread = match reads(endpoint, asked) {
        None => Some(hides(endpoint, asked)),
        Some(BodySource::Nowhere) => Some(has_body(asked)),
        Some(BodySource::Body | BodySource::Query) => None,
    };
    if let Some(hidden) = unread {
        return hidden.then_some(Code::BodyNotUnderstood);
    }
    if asked.leaning.body == Some(Lean::Best) {
        return None;
    }
    match (endpoint.kind, asked.body) {
        (Kind::Rpc { .. }, Body::Rpc(_)) | (Kind::Websocket, Body::Opaque) => None,
        (Kind::Graphql | Kind::Websocket, Body::Graphql(operations)) => operations
            .iter()
            .any(|operation| effective(endpoint, operation).is_none())
            .then_some(Code::PersistedQueryUnknown),
        _ => Some(Code::BodyNotUnderstood),
    }
}

/// Whether there is a body where there must be none.
fn has_body(asked: &Asked<'_>) -> bool {
    matches!(asked.body, Body::Invalid(_))
}

/// Whether a deny rule over bodies matches one operation or call.
pub(super) fn denies(endpoint: &Endpoint, rule: &Rule, asked: &Asked<'_>) -> bool {
    match (&rule.kind, asked.body) {
        (RuleKind::Graphql { kind, name, fields }, Body::Graphql(operations)) => {
            operations.iter().filter_map(|operation| effective(endpoint, operation)).any(|op| {
                is_kind(*kind, op)
                    && is_named(name.as_ref(), op)
                    && (fields.is_empty() || op.fields.iter().any(|field| any(fields, field)))
            })
        }
        (RuleKind::Rpc { method, tool }, Body::Rpc(calls)) => {
            calls.iter().any(|call| calls_for(method.as_ref(), tool, call))
        }
        _ => false,
    }
}

/// What the operation is: itself, or what its hash is registered as.
pub(super) fn effective<'o>(
    endpoint: &'o Endpoint,
    operation: &'o GraphqlOperation,
) -> Option<&'o GraphqlOperation> {
    if operation.kind.is_some() {
        return Some(operation);
    }
    let id = operation.persisted.as_deref()?;
    endpoint.body.as_ref()?.registry.get(id)
}

fn is_kind(kind: Option<GraphqlKind>, operation: &GraphqlOperation) -> bool {
    kind.is_none_or(|kind| operation.kind == Some(kind))
}

fn is_named(name: Option<&TextPattern>, operation: &GraphqlOperation) -> bool {
    name.is_none_or(|pattern| pattern.matches(operation.name.as_deref().unwrap_or_default()))
}

fn any(globs: &[TextPattern], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

/// GraphQL over HTTP: POST, or GET with the operation in the query.
pub(super) fn graphql_request<'p>(
    endpoint: &'p Endpoint,
    asked: &Asked<'_>,
) -> Option<&'p RuleRef> {
    match reads(endpoint, asked)? {
        BodySource::Body | BodySource::Query => {}
        BodySource::Nowhere => return None,
    }
    if asked.leaning.body == Some(Lean::Best) {
        return match &endpoint.allows {
            Allows::Access(_, name) => Some(name),
            Allows::Rules(_, names) => names.first(),
            Allows::Nothing | Allows::Covered => None,
        };
    }
    let Body::Graphql(operations) = asked.body else { return None };
    operations_allowed(endpoint, operations)
}

/// Every operation, and there is one.
fn operations_allowed<'p>(
    endpoint: &'p Endpoint,
    operations: &[GraphqlOperation],
) -> Option<&'p RuleRef> {
    let mut first = None;
    for operation in operations {
        let allowed = operation_allowed(endpoint, effective(endpoint, operation)?)?;
        first = first.or(Some(allowed));
    }
    first
}

/// What allows one operation.
pub(super) fn operation_allowed<'p>(
    endpoint: &'p Endpoint,
    operation: &GraphqlOperation,
) -> Option<&'p RuleRef> {
    match &endpoint.allows {
        Allows::Nothing | Allows::Covered => None,
        Allows::Access(access, name) => match (access, operation.kind?) {
            (Access::Full, _)
            | (Access::ReadOnly | Access::ReadWrite, GraphqlKind::Query)
            | (Access::ReadWrite, GraphqlKind::Mutation) => Some(name),
            (Access::ReadOnly, GraphqlKind::Mutation | GraphqlKind::Subscription)
            | (Access::ReadWrite, GraphqlKind::Subscription) => None,
        },
        Allows::Rules(rules, names) => {
            let at = rules.iter().position(|rule| match &rule.kind {
                RuleKind::Graphql { kind, name, fields } => {
                    is_kind(*kind, operation)
                        && is_named(name.as_ref(), operation)
                        && (fields.is_empty() || all_fields(fields, operation))
                }
                RuleKind::Http { .. } | RuleKind::Rpc { .. } | RuleKind::Sql => false,
            })?;
            names.get(at)
        }
    }
}

fn all_fields(fields: &[TextPattern], operation: &GraphqlOperation) -> bool {
    !operation.fields.is_empty() && operation.fields.iter().all(|field| any(fields, field))
}

/// A text message on a `websocket` endpoint.
pub(super) fn message<'p>(endpoint: &'p Endpoint, asked: &Asked<'_>) -> Option<&'p RuleRef> {
    match (asked.body, &endpoint.allows) {
        (Body::Invalid(_) | Body::Rpc(_), _) => None,
        // Operations are judged as operations wherever the endpoint has rules about them.
        (Body::Graphql(operations), Allows::Rules(..)) if speaks_graphql(endpoint) => {
            operations_allowed(endpoint, operations)
        }
        (Body::Unread, Allows::Rules(..)) if speaks_graphql(endpoint) => None,
        // The frames around operations (`connection_init`, `ping`, `complete`) are opaque.
        (Body::Opaque, Allows::Rules(rules, names)) => {
            let frames = rules.iter().position(|r| matches!(r.kind, RuleKind::Graphql { .. }));
            http::by_method(endpoint, asked, TEXT).or_else(|| names.get(frames?))
        }
        _ => http::by_method(endpoint, asked, TEXT),
    }
}

/// JSON-RPC over POST; MCP besides over GET (the stream of what the server says) and DELETE (the
/// end of the session), which carry no call.
pub(super) fn rpc<'p>(endpoint: &'p Endpoint, asked: &Asked<'_>, mcp: bool) -> Option<&'p RuleRef> {
    if asked.form != Form::Plain {
        return None;
    }
    match reads(endpoint, asked)? {
        BodySource::Body | BodySource::Query => {}
        BodySource::Nowhere => {
            let opens = ["GET", "DELETE"].iter().any(|m| asked.method.eq_ignore_ascii_case(m));
            return (mcp && opens && !has_body(asked)).then(|| anything(endpoint)).flatten();
        }
    }
    if asked.leaning.body == Some(Lean::Best) {
        return anything(endpoint);
    }
    let Body::Rpc(calls) = asked.body else { return None };
    let mut first = None;
    for call in calls {
        let allowed = call_allowed(endpoint, call, mcp)?;
        first = first.or(Some(allowed));
    }
    first
}

/// What allows one call.
pub(super) fn call_allowed<'p>(
    endpoint: &'p Endpoint,
    call: &RpcCall,
    mcp: bool,
) -> Option<&'p RuleRef> {
    let Some(method) = call.method.as_deref() else {
        return if mcp { anything(endpoint) } else { None };
    };
    let settings = endpoint.body.as_ref().map(|body| body.mcp).unwrap_or_default();
    let calls_tool = method == "tools/call";
    if mcp && calls_tool && settings.strict_tool_names && !call.tool.as_deref().is_some_and(plain) {
        return None;
    }
    let rules = match &endpoint.allows {
        Allows::Access(Access::Full, name) => return Some(name),
        Allows::Rules(rules, names) => Some((rules, names)),
        Allows::Access(..) | Allows::Nothing | Allows::Covered => None,
    };
    let by_rule = rules.and_then(|(rules, names)| {
        let at = rules.iter().position(|rule| match &rule.kind {
            RuleKind::Rpc { method, tool } => calls_for(method.as_ref(), tool, call),
            RuleKind::Http { .. } | RuleKind::Graphql { .. } | RuleKind::Sql => false,
        })?;
        names.get(at)
    });
    // Rules about tools bind even where every known method is allowed.
    let names_tools = rules.is_some_and(|(rules, _)| {
        rules.iter().any(|r| matches!(&r.kind, RuleKind::Rpc { tool, .. } if !tool.is_empty()))
    });
    let known = mcp && settings.all_known && KNOWN_MCP.contains(&method);
    by_rule.or_else(|| (known && !(calls_tool && names_tools)).then_some(&endpoint.name))
}

fn calls_for(method: Option<&TextPattern>, tool: &[TextPattern], call: &RpcCall) -> bool {
    let Some(called) = call.method.as_deref() else { return false };
    method.map_or(called == "tools/call", |pattern| pattern.matches(called))
        && (tool.is_empty() || call.tool.as_deref().is_some_and(|name| any(tool, name)))
}

/// The endpoint allows some call.
fn anything(endpoint: &Endpoint) -> Option<&RuleRef> {
    match &endpoint.allows {
        Allows::Access(Access::Full, name) => Some(name),
        Allows::Rules(_, names) => names.first(),
        Allows::Access(..) | Allows::Nothing | Allows::Covered => {
            let all_known = endpoint.body.as_ref().is_some_and(|body| body.mcp.all_known);
            all_known.then_some(&endpoint.name)
        }
    }
}

/// `^[A-Za-z0-9_.-]{1,128}$`.
fn plain(tool: &str) -> bool {
    (1..=128).contains(&tool.len())
        && tool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether a rule's methods are only about messages (for sentences).
pub(super) fn only_messages(methods: &Methods) -> bool {
    matches!(methods, Methods::One(one) if &**one == TEXT)
}
