//! What a sandbox wants to do, as pure data: the entrances build it, replay feeds it, `judge`
//! reads it.

use crate::addr::{Authority, Path};
use std::sync::Arc;

/// The client side of an intent: whose sandbox is known from the listener; the process may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The process that opened the connection.
    Seen(Arc<Process>),
    /// A container's or a remote listener's client: entries with `binaries` do not match.
    Unseen,
    /// As `Unseen`, and the sandbox says `identity: ignore`: the binary part is dropped.
    Ignored,
}

/// A process and its ancestors, at the time the connection was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id as the host sees it.
    pub pid: u32,
    /// The executable (`/proc/PID/exe`).
    pub binary: Box<str>,
    /// The executables of its ancestors, the parent first.
    pub ancestors: Box<[Box<str>]>,
}

/// The scheme a client speaks inside whatever tunnel it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS that the gateway ends.
    Https,
    /// Bytes that are neither: a raw tunnel.
    Tcp,
}

/// One thing a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// The scheme.
    pub scheme: Scheme,
    /// The one host and port that CONNECT, SNI and Host agreed on.
    pub target: &'a Authority,
    /// What is asked.
    pub ask: Ask<'a>,
}

/// What is asked of the target.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Bytes that are neither TLS nor HTTP, or whose protocol is the rule's `tcp`.
    Bytes,
    /// An HTTP request.
    Request {
        /// The method as sent (compared without case).
        method: &'a str,
        /// The canonical path.
        path: &'a Path<'a>,
        /// The query without `?`, as sent; `None` where there is none.
        query: Option<&'a str>,
        /// Whether it is a WebSocket handshake (h1 upgrade or RFC 8441).
        websocket: bool,
        /// What the body says, where a rule needed it.
        body: Body<'a>,
    },
    /// A text message on a WebSocket that was allowed as `path`.
    Message {
        /// The path of the handshake.
        path: &'a Path<'a>,
        /// The query of the handshake.
        query: Option<&'a str>,
        /// What the message says: `Graphql` for a subscribe/start frame, else `Opaque`.
        body: Body<'a>,
    },
}

/// The facts of a body that a body-aware rule judges.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// No rule needed it: it was not read.
    Unread,
    /// A body that is not what the protocol says. The text says why, without quoting the body.
    Invalid(&'static str),
    /// A WebSocket text message that is no GraphQL operation.
    Opaque,
    /// GraphQL operations: one, or a batch of which all must be allowed.
    Graphql(&'a [GraphqlOperation]),
    /// JSON-RPC calls (MCP is JSON-RPC): one, or a batch of which all must be allowed.
    Rpc(&'a [RpcCall]),
}

/// The kind of a GraphQL operation.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum GraphqlKind {
    /// `query`.
    Query,
    /// `mutation`.
    Mutation,
    /// `subscription`.
    Subscription,
}

/// A GraphQL operation, as judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphqlOperation {
    /// Its kind; `None` for a persisted query known by its hash alone.
    pub kind: Option<GraphqlKind>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Root fields (not aliases), fragments expanded.
    pub fields: Vec<String>,
    /// The hash or id of a persisted query (`extensions.persistedQuery.sha256Hash`, `id`, `documentId`).
    pub persisted: Option<String>,
}

/// A JSON-RPC 2.0 call, as judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcCall {
    /// `method`; `None` for a response that the client sends (MCP).
    pub method: Option<String>,
    /// `params.name`, for MCP's `tools/call`.
    pub tool: Option<String>,
    /// `id` as raw JSON, for the error object that a refused client gets.
    pub id: Option<String>,
}
