//! Rules, compiled.

use super::endpoint::{Allows, Kind, Place, names};
use super::{CompileError, Shared};
use crate::policy::document::{self, Globs, OperationType, PersistedQueries};
use crate::policy::intent::{GraphqlKind, GraphqlOperation};
use crate::policy::pattern::{PathPattern, TextPattern};
use std::collections::HashMap;
use std::sync::Arc;

/// An allow or deny rule. Without its name, so that equal lists of rules are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) struct Rule {
    /// `quiet: true` (deny rules).
    pub(in crate::policy) quiet: bool,
    pub(in crate::policy) kind: RuleKind,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum RuleKind {
    /// Method, path, query.
    Http { methods: Methods, path: Arc<PathPattern>, query: Box<[(Box<str>, Values)]> },
    /// Kind (`None`: any), name, root fields (empty: all).
    Graphql { kind: Option<GraphqlKind>, name: Option<TextPattern>, fields: Values },
    /// Method (`None`: `tools/call`), tool (empty: whatever it is).
    Rpc { method: Option<TextPattern>, tool: Values },
    /// Never matches: SQL is not parsed.
    Sql,
}

/// Globs of which one is enough.
pub(in crate::policy) type Values = Box<[TextPattern]>;

/// A rule's method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum Methods {
    /// `*`.
    Any,
    /// One, compared without case; GET covers HEAD.
    One(Box<str>),
}

/// What an endpoint with a body-aware protocol says beside its rules.
#[derive(Debug, Default)]
pub(in crate::policy) struct BodyRules {
    /// The largest body that is read, in bytes.
    pub(in crate::policy) limit: Option<usize>,
    /// Persisted queries, where registered ones are allowed.
    pub(in crate::policy) registry: HashMap<Box<str>, GraphqlOperation>,
    /// `mcp` settings.
    pub(in crate::policy) mcp: McpRules,
}

/// `mcp` settings.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct McpRules {
    /// Tool names must be plain.
    pub(in crate::policy) strict_tool_names: bool,
    /// Methods that MCP defines are allowed.
    pub(in crate::policy) all_known: bool,
}

impl Default for McpRules {
    fn default() -> Self {
        Self { strict_tool_names: true, all_known: false }
    }
}

pub(super) fn allows(
    endpoint: &document::Endpoint,
    kind: Kind,
    place: &Place<'_>,
    shared: &mut Shared,
) -> Result<Allows, CompileError> {
    if !kind.inspected() {
        return Ok(Allows::Covered);
    }
    if let Some(rules) = &endpoint.rules {
        let compiled: Result<Vec<Rule>, CompileError> = rules
            .iter()
            .map(|rule| {
                Ok(Rule { quiet: false, kind: compile(rule.allow.matched(), kind, place, shared)? })
            })
            .collect();
        let names = names(&place.name, rules.len());
        return Ok(Allows::Rules(shared.rules(compiled?), names));
    }
    Ok(match &endpoint.access {
        Some(access) => Allows::Access(**access, format!("{}/access", place.name).into()),
        None => Allows::Nothing,
    })
}

pub(super) fn denies(
    endpoint: &document::Endpoint,
    kind: Kind,
    place: &Place<'_>,
    shared: &mut Shared,
) -> Result<Arc<[Rule]>, CompileError> {
    let rules = endpoint.deny_rules.iter().flat_map(|rules| rules.iter());
    let compiled: Result<Vec<Rule>, CompileError> = rules
        .map(|rule| {
            let kind = compile(rule.matched(), kind, place, shared)?;
            Ok(Rule { quiet: rule.quiet == Some(true), kind })
        })
        .collect();
    Ok(shared.rules(compiled?))
}

fn compile(
    rule: document::Matched<'_>,
    kind: Kind,
    place: &Place<'_>,
    shared: &mut Shared,
) -> Result<RuleKind, CompileError> {
    match kind {
        Kind::Sql => Ok(RuleKind::Sql),
        Kind::Rpc { .. } => rpc(rule, place),
        Kind::Graphql | Kind::Websocket if rule.operation_type.is_some() => graphql(rule, place),
        Kind::L4 | Kind::Skip { .. } | Kind::Tcp | Kind::Rest | Kind::Graphql | Kind::Websocket => {
            http(rule, place, shared)
        }
    }
}

fn http(
    rule: document::Matched<'_>,
    place: &Place<'_>,
    shared: &mut Shared,
) -> Result<RuleKind, CompileError> {
    let method = rule.method.ok_or_else(|| place.incomplete("a rule has no `method`"))?;
    let path = rule.path.ok_or_else(|| place.incomplete("a rule has no `path`"))?;
    let path = shared.path(path).map_err(|error| CompileError::Path {
        rule: place.name.clone(),
        source_name: place.source.clone(),
        error,
    })?;
    let query: Result<Box<[_]>, CompileError> = rule
        .query
        .iter()
        .map(|(key, globs)| Ok((key.as_str().into(), values(globs.iter(), place)?)))
        .collect();
    let methods = match method {
        "*" => Methods::Any,
        method => Methods::One(method.to_ascii_uppercase().into()),
    };
    Ok(RuleKind::Http { methods, path, query: query? })
}

fn graphql(rule: document::Matched<'_>, place: &Place<'_>) -> Result<RuleKind, CompileError> {
    let kind = match rule.operation_type {
        Some(OperationType::Query) => Some(GraphqlKind::Query),
        Some(OperationType::Mutation) => Some(GraphqlKind::Mutation),
        Some(OperationType::Subscription) => Some(GraphqlKind::Subscription),
        Some(OperationType::Any) | None => None,
    };
    let name = rule.operation_name.map(|name| value(name, place)).transpose()?;
    let fields = values(rule.fields.unwrap_or_default().iter(), place)?;
    Ok(RuleKind::Graphql { kind, name, fields })
}

fn rpc(rule: document::Matched<'_>, place: &Place<'_>) -> Result<RuleKind, CompileError> {
    if rule.method.is_none() && rule.tool.is_none() {
        return Err(place.incomplete("a rule has neither `method` nor `tool`"));
    }
    let method = rule.method.map(|method| value(method, place)).transpose()?;
    let tool = values(rule.tool.map_or([].iter(), Globs::iter), place)?;
    Ok(RuleKind::Rpc { method, tool })
}

fn values<'g>(
    globs: impl Iterator<Item = &'g String>,
    place: &Place<'_>,
) -> Result<Values, CompileError> {
    globs.map(|glob| value(glob, place)).collect()
}

fn value(glob: &str, place: &Place<'_>) -> Result<TextPattern, CompileError> {
    TextPattern::parse(glob).map_err(|error| CompileError::Text {
        rule: place.name.clone(),
        source_name: place.source.clone(),
        error,
    })
}

pub(super) fn body(
    endpoint: &document::Endpoint,
    kind: Kind,
    place: &Place<'_>,
) -> Result<Option<Box<BodyRules>>, CompileError> {
    let mut body = BodyRules::default();
    let limit = match kind {
        Kind::Graphql | Kind::Websocket => endpoint.graphql_max_body_bytes,
        Kind::Rpc { mcp: false } => endpoint.json_rpc.as_ref().and_then(|rpc| rpc.max_body_bytes),
        Kind::Rpc { mcp: true } => endpoint.mcp.as_ref().and_then(|mcp| mcp.max_body_bytes),
        Kind::L4 | Kind::Skip { .. } | Kind::Tcp | Kind::Rest | Kind::Sql => return Ok(None),
    };
    body.limit = limit
        .map(|limit| usize::try_from(limit).map_err(|_| place.incomplete("the limit is too large")))
        .transpose()?;
    if endpoint.persisted_queries == Some(PersistedQueries::AllowRegistered) {
        for (id, operation) in &endpoint.graphql_persisted_queries {
            let known = GraphqlOperation {
                kind: Some(operation.operation_type),
                name: operation.operation_name.clone(),
                fields: operation.fields.clone(),
                persisted: Some(id.clone()),
            };
            body.registry.insert(id.as_str().into(), known);
        }
    }
    if let Some(mcp) = &endpoint.mcp {
        body.mcp = McpRules {
            strict_tool_names: mcp.strict_tool_names.unwrap_or(true),
            all_known: mcp.allow_all_known_mcp_methods.unwrap_or(false),
        };
    }
    Ok(Some(Box::new(body)))
}

impl Rule {
    /// Denies whatever is asked of the endpoint.
    pub(in crate::policy) fn is_total(&self) -> bool {
        match &self.kind {
            RuleKind::Http { methods: Methods::Any, path, query } => {
                path.is_everything() && query.is_empty()
            }
            RuleKind::Http { .. }
            | RuleKind::Graphql { .. }
            | RuleKind::Rpc { .. }
            | RuleKind::Sql => false,
        }
    }
}
