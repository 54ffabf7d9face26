//! What goes over the control socket: JSON bodies and server-sent events.
//!
//! Owns the shapes alone. Every text that came from a sandbox is carried as it came (escaped by
//! JSON) and is shown by whoever prints it (`addr::Shown`). Times are RFC 3339 in UTC with
//! milliseconds. Unknown keys are passed over when read, so that an older pane reads a newer
//! gateway; the bodies of requests that decide something are strict.

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

/// The state of an entry of the queue.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for an answer.
    Pending,
    /// It was approved.
    Approved,
    /// It was denied.
    Denied,
    /// Nobody answered for as long as entries are kept, or the policy answered meanwhile.
    Expired,
}

/// What kind of thing asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An HTTP request.
    Http,
    /// A WebSocket handshake.
    Websocket,
    /// A gRPC call.
    Grpc,
    /// A GraphQL request.
    Graphql,
    /// JSON-RPC or MCP.
    Rpc,
    /// Raw bytes.
    Tcp,
    /// TLS by a client that does not trust the gateway's CA: nothing inside can be seen.
    Opaque,
    /// Asked ahead by the agent at `policy.local`: nothing was sent.
    Ahead,
}

/// An entry of the queue: `GET /v1/requests`, `GET /v1/requests/{r}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Its number: `r41`.
    pub request: String,
    /// Its state.
    pub state: State,
    /// Whose it is.
    pub sandbox: String,
    /// What kind of thing asks.
    pub kind: Kind,
    /// The process; null where it can't be seen.
    pub client: Option<Client>,
    /// `http`, `https` or `tcp`.
    pub scheme: String,
    /// The host: a name as its A-label, or an address.
    pub host: String,
    /// The host in Unicode, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unicode: Option<String>,
    /// The port.
    pub port: u16,
    /// The method; absent for raw bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The canonical path; absent for raw bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The query without `?`; secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Names and values of the header fields, secrets masked.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// What is known of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Facts in a few words: GraphQL operations, MCP tools, the WebSocket's subprotocols.
    #[serde(default)]
    pub facts: Vec<String>,
    /// How often it was asked.
    pub count: u64,
    /// How many clients wait for the answer now.
    pub held: u64,
    /// When it was first asked.
    pub first_seen: String,
    /// When it was last asked.
    pub last_seen: String,
    /// Until when its clients are held; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// When the entry goes.
    pub expires: String,
    /// Why no rule allowed it, in a stable code.
    pub code: String,
    /// The same as a sentence.
    pub detail: String,
    /// The rule or endpoint that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What an answer would cover, from narrow to wide.
    pub proposal: Proposal,
    /// What may be wrong with it, gravest first.
    pub risk: Vec<Note>,
    /// Other entries that differ in query or body alone.
    #[serde(default)]
    pub variants: Vec<String>,
    /// The agent's own words, where it asked ahead or gave a reason. Not to be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_reason: Option<String>,
    /// The digest of all that is shown here and of the policy it was judged under. A decision
    /// carries it back.
    pub digest: String,
    /// How it was answered; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
}

/// The process that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    /// Its executable.
    pub binary: String,
    /// The executables of its ancestors, the parent first.
    pub ancestors: Vec<String>,
    /// Its process id, as the host sees it.
    pub pid: u32,
}

/// What is known of a body that was not forwarded yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// The content type, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its length in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The first bytes as text, secrets masked, at most 64 KiB of the body; bytes that are not
    /// UTF-8 are shown as U+FFFD.
    pub preview: String,
    /// How many bytes of it were read.
    pub seen: u64,
    /// How many bytes follow that were not read; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<u64>,
    /// Whether anything follows what was read.
    pub longer: bool,
    /// The client waits for `100 Continue`: nothing was read.
    #[serde(default)]
    pub waits: bool,
}

/// What answers would cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proposal {
    /// The methods that `breadth: path` covers.
    pub methods: Vec<String>,
    /// The path pattern that `breadth: path` covers; absent for raw bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many other pending entries `breadth: path` would cover.
    #[serde(default)]
    pub also: u64,
    /// The same for `breadth: host`.
    #[serde(default)]
    pub also_host: u64,
    /// The rule that `scope: always` with this entry's exact path would write.
    pub yaml: String,
}

/// A risk note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// A stable code.
    pub code: String,
    /// One sentence, safe for a terminal.
    pub text: String,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may leave.
    Approve,
    /// It may not.
    Deny,
}

/// How long an answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For one request.
    Once,
    /// Until the session ends, or for as long as `for` says.
    #[default]
    Session,
    /// For good: a rule in the operator's own file.
    Always,
}

/// How much an answer covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Breadth {
    /// What was shown: method, path, query and body.
    #[default]
    Exact,
    /// The methods on a path pattern, with any query and body.
    Path,
    /// Everything on the host and port.
    Host,
}

/// `POST /v1/requests/{r}/decision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Yes or no.
    pub decision: Verdict,
    /// How long it holds.
    #[serde(default)]
    pub scope: Scope,
    /// How much it covers.
    #[serde(default)]
    pub breadth: Breadth,
    /// With `breadth: path`: the pattern; the proposed one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `breadth: path`: the methods; the entry's own where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// For any process, not just the one that asked.
    #[serde(default)]
    pub any_process: bool,
    /// With `scope: session`: how long, `15m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Why. Of a denial, the agent reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The digest of what was shown.
    pub digest: String,
    /// Where the answer was given: `term`, `cli`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// What became of a decision: the body of its answer, and part of the entry from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// Yes or no.
    pub decision: Verdict,
    /// How long it holds.
    pub scope: Scope,
    /// How much it covers.
    pub breadth: Breadth,
    /// The user's name, or the uid where it has none.
    pub by: String,
    /// The uid of who answered.
    pub uid: u32,
    /// Where: `term`, `cli`, `api`.
    pub via: String,
    /// When.
    pub at: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The grant that it made: `g7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The file that it was written to, with `scope: always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many held clients it released or refused.
    #[serde(default)]
    pub released: u64,
}

/// A grant: `GET /v1/grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// Its id: `g7`.
    pub grant: String,
    /// Whose it is.
    pub sandbox: String,
    /// `approve`, or `deny` for what the operator does not want to be asked about.
    pub decision: Verdict,
    /// What it covers, in one line: `GET https://api.github.com/repos/*/*`.
    pub covers: String,
    /// The executable that it is for; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// When it was made.
    pub made: String,
    /// When it ends; absent where it lives as long as its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Who made it.
    pub by: String,
    /// The entry that it answered; absent where it was granted ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many requests it has let through or refused since the gateway started.
    #[serde(default)]
    pub used: u64,
}

/// `POST /v1/grants`: granting ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// Whose it will be; may be left out where there is one sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The method, `*` for all.
    pub method: String,
    /// `https://api.github.com/repos/*/issues`; the host may be a pattern as in a policy.
    pub url: String,
    /// How long: `1h`. The sandbox's `session` where it is absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// The executable that it is for; any where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it was made: `cli`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// The effective policy of a sandbox: `GET /v1/sandboxes/{name}/policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectivePolicy {
    /// Whose it is.
    pub sandbox: String,
    /// Its digest.
    pub policy: String,
    /// The version in the history.
    pub version: u64,
    /// The version that a rollback pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// Its entries, in the order they were loaded.
    pub entries: Vec<PolicyEntry>,
}

/// An entry of the effective policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyEntry {
    /// Its key.
    pub name: String,
    /// Where it comes from: a file, `preset:pypi`, `approved`, `runtime`, `defaults`.
    pub source: String,
    /// What it says, as YAML.
    pub yaml: String,
}

/// A version of a sandbox's policy: `GET /v1/policy/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersion {
    /// Its number, counted per sandbox from 1.
    pub version: u64,
    /// Whose it is.
    pub sandbox: String,
    /// When it came into force.
    pub at: String,
    /// Its digest.
    pub policy: String,
    /// Why: `start`, `reload`, `apply`, `approved`, `rollback`, `unpin`.
    pub why: String,
    /// Who, where a person did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its layers: files, `preset:pypi`, `runtime`.
    pub sources: Vec<String>,
    /// Whether it is in force.
    pub current: bool,
}

/// `PUT /v1/sandboxes/{name}/policy`: the sandbox's runtime layer becomes `policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// A policy file's text. An empty one takes the runtime layer away.
    pub policy: String,
    /// The file's name, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a change of policy came to: the answer to apply, rollback, unpin and reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Each sandbox and the version of its policy that is now in force.
    pub versions: BTreeMap<String, u64>,
    /// What is worth knowing, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
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

/// The query of `GET /v1/requests`: what is left out filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Entries in this state alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Entries of this sandbox alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
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

/// `POST /v1/sandboxes/{name}/policy/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version to go back to, and to stay at.
    pub version: u64,
}

/// A time as it stands on the wire: RFC 3339 in UTC with milliseconds. A time that RFC 3339 has no
/// spelling for (a clock gone mad) is the epoch.
pub fn stamp(time: std::time::SystemTime) -> String {
    const MILLIS: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    MILLIS.timestamp_to_string(&time)
}
