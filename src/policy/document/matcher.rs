//! What a rule matches: the fields of `allow` and of a deny rule.

use schemars::JsonSchema;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

macro_rules! matcher {
    ($(#[$doc:meta])* $name:ident { $($extra:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// HTTP: a method, or `*`. WebSocket: `GET`, `WEBSOCKET_TEXT` or `*`. JSON-RPC: a
            /// method's name or `*`. MCP: a method's name or a glob.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub method: Option<String>,
            /// HTTP, WebSocket: a glob over the path.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub path: Option<String>,
            /// HTTP, WebSocket: globs over query values, by key.
            #[serde(default, deserialize_with = "super::whole", skip_serializing_if = "BTreeMap::is_empty")]
            pub query: BTreeMap<String, Globs>,
            /// GraphQL: the kind of operation.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub operation_type: Option<OperationType>,
            /// GraphQL: a glob over the operation's name.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub operation_name: Option<String>,
            /// GraphQL: globs over root fields (allow: every one must match; deny: any).
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub fields: Option<Vec<String>>,
            /// MCP: globs over the tool's name.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub tool: Option<Globs>,
            /// MCP: `name` is the same as `tool`.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub params: Option<Params>,
            /// MCP: the same as `params: { name: … }`.
            #[serde(rename = "params.name", default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub params_name: Option<Globs>,
            /// SQL: accepted with `protocol: sql`, which is never enforced.
            #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
            pub command: Option<String>,
            $($extra)*
        }
    };
}

matcher! {
    /// What an allow rule matches.
    Allow {}
}

matcher! {
    /// What a deny rule matches.
    DenyRule {
        /// Refused and recorded, never asked about.
        #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
        pub quiet: Option<bool>,
    }
}

/// An allow rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// What it matches.
    pub allow: Allow,
}

/// The kind of a GraphQL operation in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationType {
    /// `query`.
    Query,
    /// `mutation`.
    Mutation,
    /// `subscription`.
    Subscription,
    /// Any of them.
    #[serde(rename = "*")]
    Any,
}

/// `params` of an MCP rule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Globs over the tool's name.
    #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
    pub name: Option<Globs>,
}

/// One glob, or `{ any: [globs] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Globs {
    /// One.
    One(String),
    /// Any of several.
    Several(AnyOf),
}

/// `{ any: [globs] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnyOf {
    /// The globs.
    #[serde(deserialize_with = "super::whole")]
    pub any: Vec<String>,
}

impl Globs {
    /// The globs, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, String> {
        match self {
            Self::One(glob) => std::slice::from_ref(glob).iter(),
            Self::Several(several) => several.any.iter(),
        }
    }
}

/// A matcher of either kind of rule, as one.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Matched<'d> {
    pub(in crate::policy) method: Option<&'d str>,
    pub(in crate::policy) path: Option<&'d str>,
    pub(in crate::policy) query: &'d BTreeMap<String, Globs>,
    pub(in crate::policy) operation_type: Option<OperationType>,
    pub(in crate::policy) operation_name: Option<&'d str>,
    pub(in crate::policy) fields: Option<&'d [String]>,
    pub(in crate::policy) tool: Option<&'d Globs>,
    pub(in crate::policy) command: Option<&'d str>,
}

macro_rules! matched {
    ($rule:expr) => {
        Matched {
            method: $rule.method.as_deref(),
            path: $rule.path.as_deref(),
            query: &$rule.query,
            operation_type: $rule.operation_type,
            operation_name: $rule.operation_name.as_deref(),
            fields: $rule.fields.as_deref(),
            tool: $rule
                .tool
                .as_ref()
                .or($rule.params_name.as_ref())
                .or($rule.params.as_ref().and_then(|params| params.name.as_ref())),
            command: $rule.command.as_deref(),
        }
    };
}

impl Allow {
    pub(in crate::policy) fn matched(&self) -> Matched<'_> {
        matched!(self)
    }

    pub(super) fn tool_twice(&self) -> bool {
        twice(self.tool.is_some(), self.params_name.is_some(), self.params.as_ref())
    }
}

impl DenyRule {
    pub(in crate::policy) fn matched(&self) -> Matched<'_> {
        matched!(self)
    }

    pub(super) fn tool_twice(&self) -> bool {
        twice(self.tool.is_some(), self.params_name.is_some(), self.params.as_ref())
    }
}

fn twice(tool: bool, dotted: bool, params: Option<&Params>) -> bool {
    let nested = params.is_some_and(|params| params.name.is_some());
    usize::from(tool) + usize::from(dotted) + usize::from(nested) > 1
}

/// By hand, so that the message says what would be right where serde's `untagged` can't.
impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GlobsVisitor;
        impl<'de> Visitor<'de> for GlobsVisitor {
            type Value = Globs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a glob in quotes, or { any: [globs] }")
            }

            fn visit_str<E: serde::de::Error>(self, glob: &str) -> Result<Globs, E> {
                Ok(Globs::One(glob.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Globs, A::Error> {
                let fields = serde::de::value::MapAccessDeserializer::new(map);
                AnyOf::deserialize(fields).map(Globs::Several)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Globs, A::Error> {
                Err(serde::de::Error::custom("a list of globs is written { any: [globs] }"))
            }
        }
        deserializer.deserialize_any(GlobsVisitor)
    }
}
