//! What goes over the control socket: JSON bodies and server-sent events.
//!
//! Owns the shapes alone. Every text that came from a sandbox is carried as it came (escaped by
//! JSON) and is shown by whoever prints it (`addr::Shown`). Times are RFC 3339 in UTC with
//! milliseconds. Unknown keys are passed over when read, so that an older pane reads a newer
//! gateway; the bodies of requests that decide something are strict.

mod answer;
mod credentials;
mod events;
mod models;
mod policy;
mod queue;

pub use answer::{Breadth, Decided, Decision, Grant, GrantRequest, Scope, Undo, Verdict};
pub use credentials::{Credential, CredentialBinding, CredentialCheck, CredentialFailure};
pub use events::{Batch, Event, Listen, Row, Traffic};
pub use models::{
    CredentialState, Inference, InferenceDay, InferenceFailure, InferenceRoute, InferenceUsage,
    Probe, SetInference,
};
pub use policy::{Apply, Changed, EffectivePolicy, PolicyEntry, PolicyVersion, Rollback};
pub use queue::{Body, Client, Filter, Kind, Note, Proposal, Request, State};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// When it started.
    pub started: String,
    /// The process.
    pub pid: u32,
    /// The digest of each sandbox's policy in force, by sandbox.
    pub policy: BTreeMap<String, String>,
    /// Requests that are held now.
    pub held: u64,
    /// Entries that wait for an answer.
    pub pending: u64,
    /// Client connections open now.
    pub connections: u64,
    /// Where it keeps its state.
    pub state_dir: String,
    /// The config that it read; absent where it runs on embedded defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Whether records can be written. Where they can't, nothing passes.
    pub recording: bool,
    /// Unknown requests are let through (`--observe`).
    #[serde(default)]
    pub observe: bool,
    /// Panes, watchers and notify commands that listen for questions.
    pub attended: u64,
    /// What is wrong or worth knowing, one sentence each: a rejected policy, a pinned sandbox.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the way it is set up does not keep apart or can't see, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The sandboxes, as in `GET /v1/sandboxes`.
    pub sandboxes: Vec<SandboxStatus>,
}

/// A sandbox, as `GET /v1/sandboxes` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxStatus {
    /// Its name.
    pub name: String,
    /// Where its listeners are.
    pub listeners: Vec<String>,
    /// Its tier.
    pub tier: String,
    /// Its presets, `github` or `github=read-write`.
    pub presets: Vec<String>,
    /// `hold`, `queue` or `deny`.
    pub mode: String,
    /// Client connections open now.
    pub connections: u64,
    /// Requests that are held now.
    pub held: u64,
    /// Entries that wait for an answer.
    pub pending: u64,
    /// Questions that were dropped because the queue was full, since the start.
    pub dropped: u64,
    /// Session grants in force.
    pub grants: u64,
    /// Requests since the start, by outcome.
    pub requests: Requests,
    /// The digest of the policy in force.
    pub policy: String,
    /// How many changes were made on the running gateway (`policy apply`).
    pub runtime: u64,
    /// The version of the policy that a rollback pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// Why the newest files are not in force; absent where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// Went through to their end.
    pub passed: u64,
    /// Refused before anything was sent.
    pub refused: u64,
    /// Let through, and failed on the way.
    pub failed: u64,
}

/// An error: the body of every answer from 400 on (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable code: `not_found`, `changed`, `decided`, `bad_request`, `which_sandbox`, `conflict`, `unavailable`.
    pub code: String,
    /// One sentence, with the fix.
    pub detail: String,
}

/// A time as it stands on the wire: RFC 3339 in UTC with milliseconds. A time that RFC 3339 has no
/// spelling for (a clock gone mad) is the epoch.
pub fn stamp(time: std::time::SystemTime) -> String {
    const MILLIS: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    MILLIS.timestamp_to_string(&time)
}
