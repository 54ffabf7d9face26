//! The queue: entries that wait for an answer, as they are shown.

use super::Decided;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
