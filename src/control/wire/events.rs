//! Events and live traffic.

use super::{Request, Requests, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A row of live traffic: what the traffic record of a request says, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// When it began.
    pub time: String,
    /// The record's id.
    pub id: String,
    /// Whose it is.
    pub sandbox: String,
    /// The executable, where it could be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// `allow`, `audit`, `deny`, `unknown`, `none`.
    pub verdict: String,
    /// `passed`, `refused`, `failed`.
    pub outcome: String,
    /// Why, in a stable code.
    pub code: String,
    /// Who let it through or stopped it.
    pub by: String,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `http`, `https` or `tcp`.
    pub scheme: String,
    /// The method; absent for raw bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The host; absent where none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The status that the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body bytes that went up.
    pub upload: u64,
    /// Body bytes that came down.
    pub download: u64,
    /// Milliseconds from start to end.
    pub total_ms: f64,
    /// The entry of the queue: `r41`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How many identical refusals it stands for; 1 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
}

/// One server-sent event of `GET /v1/events`. On the wire `event:` is the tag and `data:` the
/// rest as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", content = "data")]
pub enum Event {
    /// The first event of every stream: how things stand.
    #[serde(rename = "hello")]
    Hello(Box<Status>),
    /// An entry was made, asked again, or is held by another number of clients.
    #[serde(rename = "request.pending")]
    Pending(Box<Request>),
    /// An entry was answered.
    #[serde(rename = "request.decided")]
    Decided(Box<Request>),
    /// An entry was kept long enough, or the policy answered it.
    #[serde(rename = "request.expired")]
    Expired(Box<Request>),
    /// Its last client left; the entry stays.
    #[serde(rename = "request.gone")]
    Gone(Box<Request>),
    /// Grants were made, revoked or have expired: read them again.
    #[serde(rename = "grants")]
    Grants {
        /// Whose.
        sandbox: String,
    },
    /// A policy is in force.
    #[serde(rename = "policy.loaded")]
    PolicyLoaded {
        /// Whose.
        sandbox: String,
        /// Its digest.
        policy: String,
    },
    /// A policy could not be read; the last good one stays.
    #[serde(rename = "policy.rejected")]
    PolicyRejected {
        /// Whose.
        sandbox: String,
        /// Why.
        error: String,
    },
    /// Traffic since the last such event. With `?traffic=all` every row, else a sample of at most
    /// 200 rows a second.
    #[serde(rename = "traffic")]
    Traffic(Batch),
    /// The reader was too slow: this many events were left out. Read the lists again.
    #[serde(rename = "missed")]
    Missed {
        /// How many.
        missed: u64,
    },
    /// The gateway is stopping.
    #[serde(rename = "stopping")]
    Stopping {},
}

/// Traffic since the last batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Requests since the last batch, all of them, by outcome.
    pub counts: Requests,
    /// The rows, oldest first.
    pub rows: Vec<Row>,
    /// How many requests have no row here.
    pub missed: u64,
}

/// The query of `GET /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Events of this sandbox alone, and those of the whole gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// How much of the traffic.
    #[serde(default)]
    pub traffic: Traffic,
    /// Somebody reads this who can answer: requests are held for as long as the stream is open.
    #[serde(default)]
    pub attend: bool,
}

/// How much of the traffic a stream of events carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// None.
    #[default]
    None,
    /// All counts, and at most 200 rows a second.
    Sampled,
    /// All counts, and every row that the reader can keep up with.
    All,
}
