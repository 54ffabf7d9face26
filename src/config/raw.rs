//! The config file as typed: what the YAML may hold, and nothing of what it means.
//!
//! Owns the shapes and their schema. Unknown keys, keys given twice and wrong types are refused
//! here; what a value means, and whether it makes sense beside another, is `settle`'s.

use super::inference::RawInference;
use super::source::At;
use super::units::{Net, Size, Span};
use crate::policy::document::Globs;
use crate::policy::preset::Access;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The gateway's config. It lives on the host: the sandbox never sees it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis gateway config", rename = "Config")]
pub(super) struct RawConfig {
    /// The version of this format: 1.
    pub(super) version: At<u32>,
    /// Where the CA, the CA bundle and the traffic records live.
    pub(super) state_dir: Option<String>,
    /// Where the gateway listens. Default: 127.0.0.1:3128 for the sandbox `default`.
    #[serde(default)]
    pub(super) listen: Vec<At<RawListener>>,
    /// The sandboxes by name; `defaults` holds for all of them.
    #[serde(default)]
    pub(super) sandboxes: BTreeMap<String, At<RawSandbox>>,
    /// Where secret values come from.
    #[serde(default)]
    pub(super) credentials: BTreeMap<String, At<RawCredential>>,
    /// How origins are reached.
    #[serde(default)]
    pub(super) upstream: RawUpstream,
    /// How long each step of a request may take.
    #[serde(default)]
    pub(super) timeout: RawTimeout,
    /// How much of a body is read in order to judge or rewrite it.
    #[serde(default)]
    pub(super) buffer: RawBuffer,
    /// The traffic records.
    #[serde(default)]
    pub(super) traffic: RawTraffic,
    /// `/metrics` and `/healthz`.
    pub(super) metrics: Option<RawMetrics>,
    /// The routes behind `inference.local`, by name.
    #[serde(default)]
    pub(super) inference: BTreeMap<String, At<RawInference>>,
    /// Where credentials go.
    #[serde(default)]
    pub(super) inject: Vec<At<RawInject>>,
}

/// One listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub(super) struct RawListener {
    /// `IP:PORT`, or `unix:PATH`.
    pub(super) address: At<String>,
    /// Whose traffic this is. Default: `default`.
    pub(super) sandbox: Option<At<String>>,
    /// `proxy` (default) or `transparent`; for a Unix socket its file mode, 0600 by default.
    pub(super) mode: Option<At<String>>,
    /// The uids that are served, where the peer's uid can be seen. Default: the gateway's own.
    pub(super) allow_uids: Option<At<Vec<u32>>>,
    /// The networks that are served. Needed on every address that is not loopback.
    pub(super) allow_from: Option<At<Vec<Net>>>,
}

/// One sandbox, or what holds for all of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sandbox")]
pub(super) struct RawSandbox {
    /// Policy files. Those of `defaults` hold for all sandboxes.
    #[serde(default)]
    pub(super) policy: Vec<At<String>>,
    /// Stock presets, by name or with an access.
    #[serde(default)]
    pub(super) presets: Vec<At<RawPreset>>,
    /// The tier: which presets are there without being named.
    pub(super) tier: Option<At<String>>,
    /// What happens to entries with `binaries` where the process can't be seen.
    pub(super) identity: Option<RawIdentity>,
    /// What happens to a request that no rule knows.
    pub(super) approval: Option<At<RawApproval>>,
    /// Whether the sandbox may ask about itself at `http://policy.local`.
    pub(super) agent_api: Option<bool>,
    /// Limits; left out: none.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// In `defaults` alone: deny rules that hold for all sandboxes.
    #[serde(default)]
    pub(super) deny_rules: Vec<At<RawDeny>>,
    /// The routes behind `inference.local`, by their name in `inference:`. Left out: none.
    pub(super) inference: Option<At<String>>,
    /// The credentials that it may use, by name. Default: none.
    #[serde(default)]
    pub(super) credentials: Vec<At<String>>,
}

/// A deny rule that holds for all sandboxes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DenyEverywhere")]
pub(super) struct RawDeny {
    /// A host, or a pattern as in a policy file.
    pub(super) host: String,
    /// The ports. Default: all.
    pub(super) ports: Option<Vec<u16>>,
    /// The method. Default: `*`.
    pub(super) method: Option<String>,
    /// A glob over the path. Default: `/**`.
    pub(super) path: Option<String>,
    /// Globs over query values, by key.
    #[serde(default)]
    pub(super) query: BTreeMap<String, Globs>,
    /// Refused and recorded, never asked about.
    pub(super) quiet: Option<bool>,
}

/// `pypi`, or `{ name: github, access: read-only }`.
#[derive(Debug)]
pub(super) struct RawPreset {
    pub(super) name: String,
    pub(super) access: Option<RawAccess>,
}

/// A preset with its access.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PresetWithAccess")]
struct RawPresetMap {
    /// Its name.
    name: String,
    /// What may be done. Default: `read-only`.
    access: Option<RawAccess>,
}

/// What a preset lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "PresetAccess")]
pub(super) enum RawAccess {
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl RawAccess {
    pub(super) fn meant(self) -> Access {
        match self {
            Self::ReadOnly => Access::ReadOnly,
            Self::ReadWrite => Access::ReadWrite,
        }
    }
}

/// Whether the process behind a connection must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Identity")]
pub(super) enum RawIdentity {
    /// An entry with binaries does not match where the process can't be seen.
    Required,
    /// The binary part of an entry is dropped where the process can't be seen.
    Ignore,
}

/// What happens to a request that no rule knows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Approval")]
pub(super) struct RawApproval {
    /// `hold` waits for an answer, `queue` answers at once and asks, `deny` never asks.
    pub(super) mode: Option<RawMode>,
    /// How long a request is held. Default: 60s.
    pub(super) timeout: Option<Span>,
    /// How long while nobody watches. Default: 5s.
    pub(super) unattended: Option<Span>,
    /// Whether all unknown requests are asked about, or only new hosts.
    pub(super) ask: Option<RawAsk>,
    /// How long session grants live. Default: 12h.
    pub(super) session: Option<Span>,
    /// How long an unanswered entry stays. Default: 24h.
    pub(super) keep: Option<Span>,
    /// Requests held at once. Default: 256.
    pub(super) max_held: Option<At<u32>>,
    /// Entries waiting at once. Default: 1000.
    pub(super) max_pending: Option<At<u32>>,
    /// A command that is told of new entries.
    #[serde(default)]
    pub(super) notify: Vec<String>,
}

/// `approval.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ApprovalMode")]
pub(super) enum RawMode {
    /// Wait for an answer.
    Hold,
    /// Answer at once and ask.
    Queue,
    /// Never ask.
    Deny,
}

/// `approval.ask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ApprovalAsk")]
pub(super) enum RawAsk {
    /// About every unknown request.
    Any,
    /// Only about hosts that no rule covers.
    NewHosts,
}

/// Limits of a sandbox. Left out: no limit. 0 is an error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Connections open at once.
    pub(super) connections: Option<At<u32>>,
    /// Bytes of one request body.
    pub(super) request_body: Option<At<Size>>,
    /// Requests a second.
    pub(super) requests_per_second: Option<At<u32>>,
    /// Bytes that leave in a day.
    pub(super) upload_per_day: Option<At<Size>>,
}

/// Where a secret value comes from: exactly one of `file`, `env` and `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credential")]
pub(super) struct RawCredential {
    /// A file, read again when it changes.
    pub(super) file: Option<String>,
    /// A variable of the gateway's environment.
    pub(super) env: Option<String>,
    /// A program and its arguments, whose output is the value.
    pub(super) command: Option<Vec<String>>,
    /// How long a command's value is good for. Default: until an origin refuses it.
    pub(super) ttl: Option<At<Span>>,
    /// How long a command may take. Default: 10s.
    pub(super) timeout: Option<At<Span>>,
}

/// Where a credential goes: one host, and exactly one of `header`, `basic`, `query`, `placeholder`
/// and `sigv4`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inject")]
pub(super) struct RawInject {
    /// The credential's name.
    pub(super) credential: At<String>,
    /// The host, exactly.
    pub(super) host: At<String>,
    /// The port. Default: 443.
    pub(super) port: Option<At<u16>>,
    /// The methods. Default: all (`["*"]`).
    pub(super) methods: Option<At<Vec<String>>>,
    /// A glob over the path. Default: `/**`.
    pub(super) path: Option<At<String>>,
    /// The addresses that it goes to. Needed for a host of `upstream.hosts`.
    pub(super) addresses: Option<Vec<Net>>,
    /// Whether it goes into WebSocket handshakes. Default: no.
    pub(super) websocket: Option<bool>,
    /// A header.
    pub(super) header: Option<At<String>>,
    /// The header's value, with `{}` for the credential's. Default: `{}`.
    pub(super) format: Option<At<String>>,
    /// `Authorization: Basic` with this user and the value as password.
    pub(super) basic: Option<At<RawBasic>>,
    /// A query parameter.
    pub(super) query: Option<At<String>>,
    /// A word that the sandbox holds in the value's stead.
    pub(super) placeholder: Option<At<String>>,
    /// Where the placeholder is looked for. Default: header, basic, query, path.
    #[serde(rename = "in")]
    pub(super) within: Option<At<Vec<RawSpot>>>,
    /// AWS Signature Version 4; the value is `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`.
    pub(super) sigv4: Option<At<RawSigv4>>,
}

/// `basic: { user: … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Basic")]
pub(super) struct RawBasic {
    /// The user.
    pub(super) user: At<String>,
}

/// `sigv4: { service: …, region: … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sigv4")]
pub(super) struct RawSigv4 {
    /// The service: `s3`.
    pub(super) service: At<String>,
    /// The region: `eu-west-1`.
    pub(super) region: At<String>,
}

/// Where a placeholder may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "PlaceholderSpot")]
pub(super) enum RawSpot {
    /// A header's value.
    Header,
    /// User or password of `Authorization: Basic`.
    Basic,
    /// A query parameter.
    Query,
    /// A path segment.
    Path,
    /// A JSON body.
    Json,
    /// A form body.
    Form,
    /// A text body.
    Text,
    /// A text message of a WebSocket.
    Websocket,
}

/// How origins are reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream")]
pub(super) struct RawUpstream {
    /// PEM files added to the system's roots.
    #[serde(default)]
    pub(super) ca_files: Vec<String>,
    /// Names answered before DNS.
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, At<Vec<IpAddr>>>,
    /// Internal addresses that may be reached: the operator's exception to the address guard.
    #[serde(default)]
    pub(super) allow_internal: Vec<Net>,
    /// PEM files with certificate revocation lists.
    #[serde(default)]
    pub(super) crl_files: Vec<String>,
    /// Resolvers, `IP` or `IP:PORT`. Default: the system's.
    #[serde(default)]
    pub(super) nameservers: Vec<At<String>>,
    /// A parent proxy.
    pub(super) proxy: Option<At<RawProxy>>,
}

/// A parent proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ParentProxy")]
pub(super) struct RawProxy {
    /// `http://HOST:PORT`.
    pub(super) url: At<String>,
    /// The credential (`user:password`) it wants.
    pub(super) credential: Option<At<String>>,
    /// Names (`.corp` with all below it) and networks that are reached without it.
    #[serde(default)]
    pub(super) no_proxy: Vec<At<String>>,
    /// Who resolves names. Default: `local`.
    pub(super) resolve: Option<RawResolve>,
}

/// `upstream.proxy.resolve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Resolve")]
pub(super) enum RawResolve {
    /// The gateway resolves and checks every address.
    Local,
    /// The parent resolves: where outside names can't be resolved here.
    Proxy,
}

/// How long each step may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Timeout")]
pub(super) struct RawTimeout {
    /// For a client's head. Default: 30s.
    pub(super) header: Option<At<Span>>,
    /// For resolving and connecting, TLS included. Default: 10s.
    pub(super) connect: Option<At<Span>>,
    /// For the first byte of a response. Default: 60s.
    pub(super) first_byte: Option<At<Span>>,
    /// For a stream that stands still. Default: 10m.
    pub(super) idle: Option<At<Span>>,
    /// For requests under way when the gateway stops. Default: 30s.
    pub(super) drain: Option<At<Span>>,
    /// For a whole request. Default: none.
    pub(super) total: Option<At<Span>>,
}

/// How much of a body is read in order to judge or rewrite it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Buffer")]
pub(super) struct RawBuffer {
    /// A GraphQL request. Default: 64KiB.
    pub(super) graphql: Option<At<Size>>,
    /// A JSON-RPC or MCP request. Default: 64KiB.
    pub(super) rpc: Option<At<Size>>,
    /// A body in which placeholders are looked for. Default: 256KiB.
    pub(super) placeholder: Option<At<Size>>,
    /// A body that is signed. Default: 10MiB.
    pub(super) sigv4: Option<At<Size>>,
}

/// The traffic records.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traffic")]
pub(super) struct RawTraffic {
    /// The size at which a new file is begun. Default: 64MiB.
    pub(super) rotate: Option<At<Size>>,
    /// How long files are kept. Default: 30d.
    pub(super) keep_for: Option<At<Span>>,
    /// How much all files of a sandbox may take. Default: 10GiB.
    pub(super) max_size: Option<At<Size>>,
    /// How many files a sandbox may have. Default: as many as fit in `max_size`.
    #[schemars(range(min = 1))]
    pub(super) max_files: Option<std::num::NonZeroU32>,
}

/// `/metrics` and `/healthz`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(super) struct RawMetrics {
    /// `IP:PORT`.
    pub(super) address: At<String>,
}

impl<'de> Deserialize<'de> for RawPreset {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NameOrMap;

        impl<'de> Visitor<'de> for NameOrMap {
            type Value = RawPreset;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a preset's name, or { name: …, access: … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<RawPreset, E> {
                Ok(RawPreset { name: name.to_owned(), access: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPreset, A::Error> {
                let map = RawPresetMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawPreset { name: map.name, access: map.access })
            }
        }

        d.deserialize_any(NameOrMap)
    }
}

impl JsonSchema for RawPreset {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Preset".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<RawPresetMap>();
        schemars::json_schema!({
            "description": "A preset's name, or one with an access.",
            "anyOf": [{ "type": "string" }, map]
        })
    }
}
