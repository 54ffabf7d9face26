//! The facts of one judged request or tunnel, that every sink and screen reads.
//!
//! Owns what a record says and how it is spelled: the JSON line that is written, and the [`Line`]
//! that is read back. It knows no file and no socket; who keeps the lines is `traffic`.
//! Every accepted request or tunnel ends in exactly one [`Record`] (I5), and no line that is
//! written holds the value of a query key that looks like a secret (I4).

mod event;
mod id;
mod line;
mod mask;
mod text;
mod write;

pub use event::{CredentialEvent, Event};
pub use line::{
    Call, EventLine, Incomplete, Line, LineApproval, LineClient, LineScheme, LineTimings,
    LineTokens, Millis, RecordLine,
};
pub use mask::{names_secret, query as masked_query};
pub use text::rfc3339;

use crate::addr::{Host, Port};
use crate::inference::Tokens;
use crate::policy::{Approval, Client, Code, GrantRef, RuleRef, Scheme};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A place that records go to, on the writer's thread: it must not block.
pub trait Sink: Send {
    /// Takes note of a record that has ended, before it is written.
    fn record(&mut self, record: &Record);
}

/// What the policy said.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// A rule or grant allows it.
    Allow,
    /// Let through by `enforcement: audit`.
    Audit,
    /// A deny rule.
    Deny,
    /// Nothing allows it, nothing forbids it.
    Unknown,
    /// Never judged: malformed, mismatch, limit.
    None,
}

/// What happened.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It went through to its end.
    Passed,
    /// It was refused before anything was sent.
    Refused,
    /// It was let through and failed on the way.
    Failed,
}

/// Who let it through or stopped it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The policy.
    Policy,
    /// The address guard.
    Guard,
    /// A limit.
    Limit,
    /// The operator's answer: `grant:g7`, `grant:r41`.
    Grant(GrantRef),
    /// Nothing: the gateway only observes.
    Observe,
}

/// The HTTP version the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Http {
    /// HTTP/1.0.
    V1_0,
    /// HTTP/1.1.
    V1_1,
    /// HTTP/2.
    V2,
}

/// How long each part took. Milliseconds with fractions in the written record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Judging.
    pub judge: Duration,
    /// Held for an answer.
    pub held: Duration,
    /// Resolving and connecting, TLS included; zero on a pooled connection.
    pub connect: Duration,
    /// From the start to the first byte of the response head.
    pub first_byte: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
}

/// What a body-aware rule saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// GraphQL: `kind name{field,field}` of each operation.
    Graphql(Vec<String>),
    /// JSON-RPC or MCP: method, and tool where there is one, of each call.
    Rpc(Vec<(String, Option<String>)>),
}

/// A call of a model through `inference.local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCall {
    /// The route that answered.
    pub route: Arc<str>,
    /// The model that was asked, as the provider knows it.
    pub model: Option<Arc<str>>,
    /// The credential that paid, by its name.
    pub credential: Option<Arc<str>>,
    /// What it cost, where the answer says or could be estimated.
    pub tokens: Option<Tokens>,
    /// From the start to the first token.
    pub ttft: Option<Duration>,
}

/// One line of the traffic file.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub time: SystemTime,
    /// This record's id (a ULID; also in `x-portcullis-id`).
    pub id: Id,
    /// The number of its entry in the queue, where one was made.
    pub request: Option<u64>,
    /// The operator's answer, where one decided.
    pub approval: Option<Arc<Approval>>,
    /// The sandbox.
    pub sandbox: Arc<str>,
    /// The process, where it could be seen.
    pub client: Client,
    /// The scheme.
    pub scheme: Scheme,
    /// The HTTP version; `None` for raw tunnels.
    pub http: Option<Http>,
    /// The host; `None` where the head never named one that parses.
    pub host: Option<Host>,
    /// The port.
    pub port: Option<Port>,
    /// The method; `None` for raw tunnels.
    pub method: Option<http::Method>,
    /// Canonical path and query, secrets in the query not yet masked (the writer does that).
    pub target: Option<http::uri::PathAndQuery>,
    /// What the policy said.
    pub verdict: Judged,
    /// Why, in a stable code.
    pub code: Code,
    /// The rule that decided, or the nearest.
    pub rule: Option<RuleRef>,
    /// What happened.
    pub outcome: Outcome,
    /// Who let it through or stopped it.
    pub by: By,
    /// The credentials that it got, by name; several are joined by commas.
    pub credential: Option<Arc<str>>,
    /// Whether any byte went upstream.
    pub sent: bool,
    /// The address that was dialled.
    pub address: Option<IpAddr>,
    /// The status that the client got.
    pub status: Option<u16>,
    /// Body bytes from the client to the origin (tunnels: all bytes).
    pub upload: u64,
    /// Body bytes from the origin to the client (tunnels: all bytes).
    pub download: u64,
    /// Timings.
    pub ms: Timings,
    /// Digest of the policy that judged.
    pub policy: PolicyId,
    /// What a body-aware rule saw.
    pub facts: Option<Box<Facts>>,
    /// A model call.
    pub call: Option<Box<ModelCall>>,
    /// A WebSocket: messages in each direction, where they were judged one by one.
    pub websocket: bool,
}

impl Judged {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

impl Outcome {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl By {
    /// As it is written.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Policy => "policy".into(),
            Self::Guard => "guard".into(),
            Self::Limit => "limit".into(),
            Self::Grant(by) => format!("grant:{by}").into(),
            Self::Observe => "observe".into(),
        }
    }
}

impl Http {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V2 => "2",
        }
    }
}

/// A digest of a compiled policy (`sha256:9f2c…` when written).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PolicyId(pub [u8; 32]);

/// A record's id: a ULID, 48 bits of milliseconds and 80 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);
