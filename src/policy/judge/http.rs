//! One endpoint against one request: methods, paths, queries, and who asks the body.

use super::readings::values;
use super::{Asked, Form, Lean, messages};
use crate::policy::compile::{Allows, Endpoint, Kind, Methods, Rule, RuleKind};
use crate::policy::document::Access;
use crate::policy::pattern::TextPattern;
use crate::policy::verdict::RuleRef;

/// What allows it on this endpoint, if anything does. The endpoint covers, its `path` included.
pub(super) fn allowed<'p>(endpoint: &'p Endpoint, asked: &Asked<'_>) -> Option<&'p RuleRef> {
    match endpoint.kind {
        Kind::L4 | Kind::Skip { .. } => Some(&endpoint.name),
        Kind::Tcp | Kind::Sql => None,
        Kind::Rest => by_method(endpoint, asked, asked.method),
        Kind::Websocket => match asked.form {
            Form::Plain => None,
            Form::Handshake => by_method(endpoint, asked, "GET"),
            Form::Message => messages::message(endpoint, asked),
        },
        Kind::Graphql => messages::graphql_request(endpoint, asked),
        Kind::Rpc { mcp } => messages::rpc(endpoint, asked, mcp),
    }
}

/// The first rule, or the preset, that allows the method on the path with the query.
pub(super) fn by_method<'p>(
    endpoint: &'p Endpoint,
    asked: &Asked<'_>,
    method: &str,
) -> Option<&'p RuleRef> {
    match &endpoint.allows {
        Allows::Nothing => None,
        Allows::Covered => Some(&endpoint.name),
        Allows::Access(access, name) => preset(*access, endpoint.kind, method).then_some(name),
        Allows::Rules(rules, names) => {
            let at = rules.iter().position(|rule| match &rule.kind {
                RuleKind::Http { methods, path, query } => {
                    methods.cover(method)
                        && path.matches(asked.path)
                        && query.iter().all(|(key, globs)| every(asked, key, globs))
                }
                RuleKind::Graphql { .. } | RuleKind::Rpc { .. } | RuleKind::Sql => false,
            })?;
            names.get(at)
        }
    }
}

/// The methods of a preset. A WebSocket's handshake is a read; its messages are writes.
fn preset(access: Access, kind: Kind, method: &str) -> bool {
    if kind == Kind::Websocket {
        return method == "GET" || access != Access::ReadOnly;
    }
    match preset_methods(access) {
        None => true,
        Some(methods) => methods.iter().any(|m| m.eq_ignore_ascii_case(method)),
    }
}

/// The methods of a preset; `None` for all.
pub(super) fn preset_methods(access: Access) -> Option<&'static [&'static str]> {
    match access {
        Access::ReadOnly => Some(&["GET", "HEAD", "OPTIONS"]),
        Access::ReadWrite => Some(&["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"]),
        Access::Full => None,
    }
}

impl Methods {
    /// Whether it covers the method: without case, GET covers HEAD.
    pub(super) fn cover(&self, method: &str) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => {
                one.eq_ignore_ascii_case(method)
                    || (&**one == "GET" && method.eq_ignore_ascii_case("HEAD"))
            }
        }
    }
}

/// The first deny rule that matches. The endpoint covers, its `path` included.
pub(super) fn denied(endpoint: &Endpoint, asked: &Asked<'_>) -> Option<usize> {
    let method = match (endpoint.kind, asked.form) {
        (Kind::Websocket, Form::Message) => messages::TEXT,
        _ => asked.method,
    };
    endpoint.denies.iter().position(|rule| denies(endpoint, rule, asked, method))
}

fn denies(endpoint: &Endpoint, rule: &Rule, asked: &Asked<'_>, method: &str) -> bool {
    match &rule.kind {
        RuleKind::Http { methods, path, query } => {
            (methods.cover(method) || overridden(methods, asked, method))
                && path.matches(asked.path)
                && query.iter().all(|(key, globs)| some(asked, key, globs))
        }
        RuleKind::Graphql { .. } | RuleKind::Rpc { .. } => messages::denies(endpoint, rule, asked),
        RuleKind::Sql => false,
    }
}

/// Whether the query of a POST names one of these methods as the one that is meant: frameworks (Symfony, and
/// Laravel on it) read `_method` there as they read `X-HTTP-Method-Override`, which does not go up.
fn overridden(methods: &Methods, asked: &Asked<'_>, method: &str) -> bool {
    let Methods::One(denied) = methods else { return false };
    let told = asked.query.filter(|query| query.contains('='));
    told.is_some()
        && method.eq_ignore_ascii_case("POST")
        && values(told, "_method").any(|(value, _)| denied.eq_ignore_ascii_case(value.trim()))
}

/// Every value of the key matches, whoever reads it, and there is one that everyone reads.
pub(super) fn every(asked: &Asked<'_>, key: &str, globs: &[TextPattern]) -> bool {
    let mut any = false;
    for (value, plain) in values(asked.query, key) {
        let matches = match asked.leaning.query.filter(|_| hides(&value)) {
            Some(lean) => lean == Lean::Best || is_any(globs),
            None => globs.iter().any(|glob| glob.matches(&value)),
        };
        if !matches {
            return false;
        }
        any |= plain;
    }
    any
}

/// One value of the key matches, in whatever reading.
fn some(asked: &Asked<'_>, key: &str, globs: &[TextPattern]) -> bool {
    values(asked.query, key).any(|(value, _)| match asked.leaning.query.filter(|_| hides(&value)) {
        Some(lean) => lean == Lean::Worst || is_any(globs),
        None => globs.iter().any(|glob| glob.matches(&value)),
    })
}

fn is_any(globs: &[TextPattern]) -> bool {
    globs.iter().any(TextPattern::is_any)
}

/// Whether a value of a recorded query is masked, or holds what was taken for a value of its own
/// and masked (`a=1;token=***` is one pair to us and was two to who masked).
fn hides(value: &str) -> bool {
    value == MASK || value.contains("=***")
}

/// What stands for a value that is not known.
const MASK: &str = "***";

/// Whether some value of a recorded query is not known.
pub(super) fn is_masked(query: &str) -> bool {
    query.contains("=***")
}
