//! A line of a traffic file as it is read: what replay, `logs` and the schema see.
//!
//! The mirror of what [`Record::write_line`](super::Record::write_line) writes, in the same
//! order. Keys that are not known here are passed over, so that an older reader reads a newer
//! file. Of a record that someone writes by hand, `host`, `port`, `method` and `path` suffice.

use super::{Judged, Outcome, text};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::num::NonZeroU16;
use std::time::Duration;

/// One line of a traffic file.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Line {
    /// Something that happened to the gateway itself.
    Event(EventLine),
    /// A judged request or tunnel.
    Record(Box<RecordLine>),
}

/// A judged request or tunnel. A raw tunnel (`scheme: tcp`) has neither method nor path; a head
/// that never named a host has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("anyOf" = [
    { "required": ["verdict"] },
    { "required": ["host", "port", "method", "path"] },
    { "required": ["host", "port", "scheme"], "properties": { "scheme": { "const": "tcp" } } }
]))]
pub struct RecordLine {
    /// The version of this format: 1.
    pub v: Version,
    /// When it began (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// This record's id, a ULID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub id: Option<String>,
    /// The entry of the approval queue, where one was made.
    pub request: Option<String>,
    /// The sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The process; null where it can't be seen.
    pub client: Option<LineClient>,
    /// The scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<LineScheme>,
    /// The HTTP version that the client spoke: `1.0`, `1.1` or `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["1.0", "1.1", "2"]))]
    pub http: Option<String>,
    /// The host: a name, or an address without brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The canonical path, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The query without `?`; values of keys that look like secrets are `***`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What the policy said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Judged>,
    /// Why, in a stable code (`policy-schema/codes.md`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The rule that decided, or the nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Who let it through or stopped it: `policy`, `guard`, `limit`, `grant:g7`, `observe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The operator's answer, where one decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<LineApproval>,
    /// Whether any byte went upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<bool>,
    /// The credentials that were put in, by name; several are joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The status that the client got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body bytes to the origin (tunnels: all bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<u64>,
    /// Body bytes to the client (tunnels: all bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<u64>,
    /// How long each part took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<LineTimings>,
    /// The digest of the policy that judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// GraphQL operations: `kind name{field,field}` each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphql: Option<Vec<String>>,
    /// JSON-RPC or MCP calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<Vec<Call>>,
    /// The route of `inference.local` that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The model that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model call cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<LineTokens>,
    /// From the start to the first token, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Millis>,
    /// True for a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<bool>,
    /// How many identical refusals this line stands for; 1 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
}

/// Tokens of a model call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineTokens {
    /// Read: the prompt, cached parts included.
    pub input: u64,
    /// Made: the answer, thoughts included.
    pub output: u64,
    /// True where the provider did not say and they were counted from bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// The version of the format, 1 where a line does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version(#[schemars(range(min = 1, max = 1))] pub u8);

/// The process behind a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineClient {
    /// Its executable.
    pub binary: String,
    /// The executables of its ancestors, the parent first.
    #[serde(default)]
    pub ancestors: Vec<String>,
    /// Its process id, as the host saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// The scheme, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineScheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS that the gateway ended.
    Https,
    /// A raw tunnel.
    Tcp,
}

/// The operator's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineApproval {
    /// `approve` or `deny`.
    pub decision: String,
    /// `once`, `session` or `always`.
    pub scope: String,
    /// Who.
    pub by: String,
    /// The uid of who answered.
    pub uid: u32,
    /// Where: `term`, `cli`, `api`.
    pub via: String,
    /// When (RFC 3339, UTC).
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How long each part took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LineTimings {
    /// Judging.
    pub judge: Millis,
    /// Held for an answer.
    pub held: Millis,
    /// Resolving and connecting; 0 on a pooled connection.
    pub connect: Millis,
    /// To the first byte of the response; absent where none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Millis>,
    /// To the end.
    pub total: Millis,
}

/// A JSON-RPC or MCP call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The tool, for `tools/call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// Something that happened to the gateway itself. What else the event says stands in `more`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// The version of this format: 1.
    #[serde(default)]
    pub v: Version,
    /// When (RFC 3339, UTC).
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// What: `gateway.start`, `gateway.stop`, `policy.loaded`, `policy.rejected`, `listener`,
    /// `decision`, `grant.revoked`, `grant.expired`, `inference`, `credential`.
    pub event: String,
    /// Whose; absent for the whole gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// A duration, written as milliseconds with up to three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Millis(#[schemars(with = "f64", range(min = 0))] pub Duration);

/// Why a line says too little to be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record needs host, port, method and path (or scheme tcp, host and port)")]
pub struct Incomplete;

impl RecordLine {
    /// Whether the line says enough to be judged, or was written by a gateway.
    pub fn check(&self) -> Result<(), Incomplete> {
        let target = self.host.is_some() && self.port.is_some();
        let request = self.method.is_some() && self.path.is_some();
        let tunnel = self.scheme == Some(LineScheme::Tcp);
        let enough = self.verdict.is_some() || target && (request || tunnel);
        if enough { Ok(()) } else { Err(Incomplete) }
    }

    /// Appends the line and its newline to `out`.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        text::json(self, out);
        out.push(b'\n');
    }
}

impl Default for Version {
    fn default() -> Self {
        Self(1)
    }
}

/// An object with `event` is an event, any other a record, which must say enough.
impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(from)?;
        if value.get("event").is_some() {
            return serde_json::from_value(value).map(Self::Event).map_err(D::Error::custom);
        }
        let record: RecordLine = serde_json::from_value(value).map_err(D::Error::custom)?;
        record.check().map_err(D::Error::custom)?;
        Ok(Self::Record(Box::new(record)))
    }
}

/// To the microsecond, which is what a line can say.
fn round(exact: Duration) -> Duration {
    let micros = exact.subsec_nanos().div_ceil(500) / 2;
    Duration::from_secs(exact.as_secs()) + Duration::from_micros(micros.into())
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut digits = Vec::with_capacity(24);
        text::millis(self.0, &mut digits);
        serde_json::from_slice::<serde_json::Number>(&digits)
            .map_err(serde::ser::Error::custom)?
            .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ms = f64::deserialize(from)?;
        let exact = Duration::try_from_secs_f64(ms / 1000.0).map_err(serde::de::Error::custom)?;
        Ok(Self(round(exact)))
    }
}
