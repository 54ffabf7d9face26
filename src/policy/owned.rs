//! An intent that owns what it speaks of, so that a later policy can judge it again.

use super::intent::{Ask, Body, Client, GraphqlOperation, Intent, RpcCall, Scheme};
use super::judge::Rules;
use super::overlay::{Fingerprint, TicketUse};
use super::verdict::{Denial, Verdict};
use crate::addr::{Authority, Path};
use std::time::SystemTime;

/// The owned form of [`Intent`].
#[derive(Clone, Debug)]
pub struct OwnedIntent {
    /// Who asks.
    pub client: Client,
    /// The scheme.
    pub scheme: Scheme,
    /// The host and port.
    pub target: Authority,
    /// What is asked.
    pub ask: OwnedAsk,
}

/// The owned form of [`Ask`], without messages.
#[derive(Clone, Debug)]
pub enum OwnedAsk {
    /// Bytes that are neither TLS nor HTTP.
    Bytes,
    /// TLS by a client that does not let it be ended.
    Opaque,
    /// A request.
    Request {
        /// The method.
        method: String,
        /// The canonical path.
        path: Path<'static>,
        /// The query.
        query: Option<String>,
        /// A WebSocket handshake.
        websocket: bool,
        /// What the body says, where a rule needed it.
        body: Option<OwnedBody>,
    },
}

/// The owned form of [`Body`], where it was read.
#[derive(Clone, Debug)]
pub enum OwnedBody {
    /// Not what the protocol says.
    Invalid(&'static str),
    /// GraphQL operations.
    Graphql(Vec<GraphqlOperation>),
    /// JSON-RPC calls.
    Rpc(Vec<RpcCall>),
}

impl OwnedBody {
    /// The borrowed form.
    pub fn body(&self) -> Body<'_> {
        match self {
            Self::Invalid(why) => Body::Invalid(why),
            Self::Graphql(operations) => Body::Graphql(operations),
            Self::Rpc(calls) => Body::Rpc(calls),
        }
    }
}

impl OwnedIntent {
    /// The intent; `None` for an opaque tunnel, which is judged as a tunnel.
    pub fn intent(&self) -> Option<Intent<'_>> {
        let ask = match &self.ask {
            OwnedAsk::Opaque => return None,
            OwnedAsk::Bytes => Ask::Bytes,
            OwnedAsk::Request { method, path, query, websocket, body } => Ask::Request {
                method,
                path,
                query: query.as_deref(),
                websocket: *websocket,
                body: body.as_ref().map_or(Body::Unread, OwnedBody::body),
            },
        };
        Some(Intent { client: &self.client, scheme: self.scheme, target: &self.target, ask })
    }

    /// Judges it at `now`; `None` for an opaque tunnel.
    pub fn judge(
        &self,
        rules: &Rules,
        now: SystemTime,
        shown: Option<&Fingerprint>,
        ticket: Option<TicketUse<'_>>,
    ) -> Option<Verdict> {
        Some(rules.judge(&self.intent()?, now, shown, ticket))
    }

    /// Why the rules deny it, if they do.
    pub fn denied(&self, rules: &Rules, now: SystemTime) -> Option<Denial> {
        match self.judge(rules, now, None, None) {
            Some(Verdict::Deny(denial)) => Some(denial),
            Some(Verdict::Allow(_) | Verdict::Audit(_) | Verdict::Unknown(_)) | None => None,
        }
    }
}
