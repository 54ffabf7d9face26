//! Bodies as a record has them, as facts that a rule judges.
//!
//! A gateway writes a GraphQL operation as `kind name{field,field}`, with the hash of a persisted
//! one where it has no name. What can be read in two ways is not known (`None`).

use crate::policy::body::{graphql, rpc};
use crate::policy::{Body, GraphqlKind, GraphqlOperation, RpcCall};
use crate::traffic::read::{Facts, Recorded};

/// A body in the two readings that a policy may ask for; each `None` where it is not known.
#[derive(Debug, Default)]
pub(super) struct Readings {
    graphql: Option<Result<Vec<GraphqlOperation>, &'static str>>,
    rpc: Option<Result<Vec<RpcCall>, &'static str>>,
}

impl Readings {
    pub(super) fn of(record: &Recorded<'_>) -> Self {
        let query = record.query.as_deref();
        // A masked value matters where it may say what runs.
        let masked = query.is_some_and(|q| q.contains("***") && graphql::may_speak(q));
        let get = record.method.as_deref().is_some_and(|m| m.eq_ignore_ascii_case("GET"));
        match &record.facts {
            Facts::Unsaid => Self::default(),
            // GraphQL over GET stands in the query.
            Facts::Empty if get && masked => Self::default(),
            Facts::Empty if get => {
                Self { graphql: Some(graphql::from_get(query)), rpc: Some(rpc::calls(b"")) }
            }
            Facts::Whole { .. } if get || masked => Self::default(),
            Facts::Empty => Self {
                graphql: Some(graphql::from_post(None, b"", query)),
                rpc: Some(rpc::calls(b"")),
            },
            Facts::Whole { kind, text } => Self {
                graphql: Some(graphql::from_post(kind.as_deref(), text.as_bytes(), query)),
                rpc: Some(rpc::from_post(kind.as_deref(), text.as_bytes())),
            },
            Facts::Graphql(lines) => {
                let operations: Option<_> = lines.iter().map(|line| operation(line)).collect();
                Self { graphql: operations.map(Ok), rpc: None }
            }
            Facts::Rpc(calls) => {
                let calls = calls.iter().map(|(method, tool)| call(method, tool.as_deref()));
                Self { graphql: None, rpc: Some(Ok(calls.collect())) }
            }
        }
    }

    pub(super) fn graphql(&self) -> Option<Body<'_>> {
        match self.graphql.as_ref()? {
            Ok(operations) => Some(Body::Graphql(operations)),
            Err(why) => Some(Body::Invalid(why)),
        }
    }

    pub(super) fn rpc(&self) -> Option<Body<'_>> {
        match self.rpc.as_ref()? {
            Ok(calls) => Some(Body::Rpc(calls)),
            Err(why) => Some(Body::Invalid(why)),
        }
    }
}

/// An empty method is an answer, which has none.
fn call(method: &str, tool: Option<&str>) -> RpcCall {
    let method = (!method.is_empty()).then(|| method.to_owned());
    RpcCall { method, tool: tool.map(str::to_owned), id: None }
}

fn operation(line: &str) -> Option<GraphqlOperation> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, fields) = rest.strip_suffix('}')?.split_once('{')?;
    let fields: Vec<String> = match fields {
        "" => Vec::new(),
        list => list.split(',').map(str::to_owned).collect(),
    };
    let kind = match kind {
        "query" => GraphqlKind::Query,
        "mutation" => GraphqlKind::Mutation,
        "subscription" => GraphqlKind::Subscription,
        "persisted" if fields.is_empty() && !name.is_empty() => {
            let persisted = Some(name.to_owned());
            return Some(GraphqlOperation { kind: None, name: None, fields, persisted });
        }
        _ => return None,
    };
    // An operation without a name whose hash was sent beside it, or one that is named like one.
    let hash = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if hash && !name.starts_with(|c: char| c.is_ascii_digit()) || !fields.iter().all(|f| is_name(f))
    {
        return None;
    }
    let name = (!name.is_empty() && !hash).then(|| name.to_owned());
    if !name.as_deref().is_none_or(is_name) {
        return None;
    }
    Some(GraphqlOperation { kind: Some(kind), name, fields, persisted: None })
}

/// GraphQL (October 2021) §2.1.9.
fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_as_they_were_written() {
        let read = |line| operation(line).expect("an operation");
        assert_eq!(read("query Repo{repository,viewer}").name.as_deref(), Some("Repo"));
        assert_eq!(read("mutation {addStar}").fields, ["addStar"]);
        let known = read("persisted abc123{}");
        assert_eq!((known.kind, known.persisted.as_deref()), (None, Some("abc123")));
        let hashed = read(&format!("query {}{{a}}", "0".repeat(64)));
        assert_eq!((hashed.name, hashed.kind), (None, Some(GraphqlKind::Query)));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_known() {
        let named_like_a_hash = format!("query {}{{a}}", "a".repeat(64));
        for line in [
            "",
            "query",
            "query A",
            "query A{b c}",
            "fragment A{b}",
            "persisted {}",
            &named_like_a_hash,
        ] {
            assert_eq!(operation(line), None, "{line}");
        }
    }
}
