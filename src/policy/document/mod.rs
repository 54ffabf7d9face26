//! What a policy file says: OpenShell's `version: 1` policy, network part.
//!
//! Owns the shape of the file and the mistakes a file can make ([`LoadError`]); what the file
//! means is `compile`'s. Invariant: a key that is not understood is an error, never ignored in
//! silence (the parts that are other programs' business are named one by one).

mod check;
mod load;
mod matcher;
mod slip;

pub use load::{LoadError, LoadOptions, Mistake};
pub(in crate::policy) use matcher::Matched;
pub use matcher::{Allow, AllowRule, AnyOf, DenyRule, Globs, OperationType, Params};
pub(crate) use slip::slip;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A policy file. Parse it with [`Document::parse`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis policy")]
pub struct Document {
    /// Always 1. A preset may leave it out.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub version: Option<At<u32>>,
    /// Makes the file a preset.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub preset: Option<PresetHead>,
    /// The entries; the key is the entry's identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network_policies: BTreeMap<String, At<Entry>>,
    /// Another program's business: accepted, no effect here.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub filesystem_policy: Option<At<Filesystem>>,
    /// Another program's business: accepted, no effect here.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub landlock: Option<At<Landlock>>,
    /// Another program's business: accepted, no effect here.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub process: Option<At<ProcessIdentity>>,
    /// Middlewares do not exist here: one that fails closed is an error, unless they are ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network_middlewares: BTreeMap<String, At<Middleware>>,
}

/// The head of a preset.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresetHead {
    /// The preset's name.
    pub name: String,
    /// What it is for, in one sentence.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One entry: these processes may reach these endpoints.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The display name; the key when absent.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What may be reached.
    #[serde(default)]
    pub endpoints: Vec<At<Endpoint>>,
    /// Who may reach it: the executable or any ancestor of it. Absent: any process.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub binaries: Option<Vec<At<Binary>>>,
}

/// An executable.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// A path, or a glob over paths.
    pub path: String,
    /// Accepted, no effect (OpenShell ignores it too).
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub harness: Option<bool>,
}

/// A host, its ports, and what may be asked of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// A name, an address, or a pattern: `*.x.com` one label, `**.x.com` one or more,
    /// `api-*.x.com` part of the first. Absent: any name that resolves into `allowed_ips`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub host: Option<At<String>>,
    /// The port.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub port: Option<At<u16>>,
    /// The ports, where there are several.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ports: Option<At<Vec<u16>>>,
    /// Scopes the endpoint to these paths.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub path: Option<At<String>>,
    /// What is spoken. Absent: whatever the client sends, judged by host and port alone.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<At<Protocol>>,
    /// `enforce` (default), or `audit`: judged and recorded, but let through.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// A preset of methods; instead of `rules`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub access: Option<At<Access>>,
    /// What is allowed; instead of `access`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub rules: Option<At<Vec<At<AllowRule>>>>,
    /// What is denied, whatever allows it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub deny_rules: Option<At<Vec<At<DenyRule>>>>,
    /// `skip`: a raw tunnel whose SNI is still checked.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub tls: Option<At<Tls>>,
    /// With `tls: skip`: let an encrypted ClientHello through, whose real name is not seen.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub allow_ech: Option<bool>,
    /// Internal addresses or networks that this endpoint may resolve to.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub allowed_ips: Option<At<Vec<String>>>,
    /// Keep `%2F` inside a path segment (npm's scoped packages).
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub allow_encoded_slash: Option<bool>,
    /// GraphQL operations known by hash alone: `deny` (default) or `allow_registered`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub persisted_queries: Option<PersistedQueries>,
    /// What the registered hashes or ids stand for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub graphql_persisted_queries: BTreeMap<String, RegisteredOperation>,
    /// The largest GraphQL body that is read to be judged, in bytes.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub graphql_max_body_bytes: Option<u32>,
    /// Settings of `protocol: json-rpc`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub json_rpc: Option<JsonRpc>,
    /// Settings of `protocol: mcp`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// A credential's place is in the gateway's config: accepted, no effect here.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub credential_binding: Option<CredentialBinding>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub request_body_credential_rewrite: Option<bool>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub websocket_credential_rewrite: Option<bool>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub allow_uninspected_credentials: Option<bool>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub credential_signing: Option<String>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub signing_service: Option<String>,
    /// As `credential_binding`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub signing_region: Option<String>,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP, judged by method, path and query.
    Rest,
    /// A WebSocket: the handshake, and its text messages.
    Websocket,
    /// GraphQL over HTTP.
    Graphql,
    /// JSON-RPC 2.0 over HTTP.
    JsonRpc,
    /// The Model Context Protocol over HTTP.
    Mcp,
    /// Bytes that are never parsed.
    Tcp,
    /// Accepted with `enforcement: audit` only.
    Sql,
}

/// What happens to what no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It does not pass.
    Enforce,
    /// It passes, and is recorded so. A deny rule still denies.
    Audit,
}

/// A preset of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// GET, HEAD, OPTIONS; GraphQL queries; a WebSocket's handshake.
    ReadOnly,
    /// Besides, POST, PUT, PATCH; GraphQL mutations; a WebSocket's messages.
    ReadWrite,
    /// Everything.
    Full,
}

/// What becomes of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// A raw tunnel; the SNI is still checked.
    Skip,
    /// Accepted, no effect: it is what happens anyway.
    Terminate,
    /// Accepted, no effect (OpenShell's former name for what happens anyway).
    Passthrough,
}

/// GraphQL operations known by hash alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PersistedQueries {
    /// Not allowed.
    Deny,
    /// Judged as what `graphql_persisted_queries` says they are.
    AllowRegistered,
}

/// What a persisted query stands for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisteredOperation {
    /// The kind of operation.
    pub operation_type: crate::policy::GraphqlKind,
    /// Its name.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub operation_name: Option<String>,
    /// Its root fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Settings of `protocol: json-rpc`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonRpc {
    /// The largest body that is read to be judged, in bytes.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u32>,
}

/// Settings of `protocol: mcp`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// The largest body that is read to be judged, in bytes.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u32>,
    /// Tool names are 1 to 128 of `A-Za-z0-9_.-` (default true).
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub strict_tool_names: Option<bool>,
    /// Allow the methods that MCP defines (default false). Rules about tools still bind.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub allow_all_known_mcp_methods: Option<bool>,
    /// Accepted, no effect: calls are judged alike in every revision.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub versions: Option<Vec<String>>,
}

/// Which provider's credential OpenShell would use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialBinding {
    /// The provider.
    pub provider: String,
}

/// Another program's business.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// Whether the working directory is writable.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub include_workdir: Option<bool>,
    /// Readable paths.
    #[serde(default)]
    pub read_only: Vec<String>,
    /// Writable paths.
    #[serde(default)]
    pub read_write: Vec<String>,
}

/// Another program's business.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    /// `best_effort` or `hard_requirement`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<String>,
}

/// Another program's business.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessIdentity {
    /// The user.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<String>,
    /// The group.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<String>,
}

/// A middleware of OpenShell's, which does not exist here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Middleware {
    /// Its display name.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which one.
    pub middleware: String,
    /// Its place among the others.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    /// Its settings.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// What its failure means; `fail_closed` when absent.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Which hosts it applies to.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<MiddlewareHosts>,
}

/// What a middleware's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing passes: someone relies on it.
    FailClosed,
    /// It is skipped.
    FailOpen,
}

/// Which hosts a middleware applies to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MiddlewareHosts {
    /// These.
    #[serde(default)]
    pub include: Vec<String>,
    /// But not these.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// A key that is there has a value: `rules:` with nothing behind it is a mistake, not "no rules".
fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    whole(deserializer).map(Some)
}

/// As [`given`], where the type has an empty value.
fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::<T>::deserialize(deserializer)? {
        Some(value) => Ok(value),
        None => Err(serde::de::Error::custom("the key has no value: give it one, or remove it")),
    }
}

/// A value, and where in its file it stands (1-based; 0 where it stands in none). Reads as the
/// value.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> Self {
        Self { value, line: 0, column: 0 }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let place = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { value: spanned.value, line: place(line), column: place(column) })
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
