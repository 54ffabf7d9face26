//! What a body says, as facts that a rule can judge: GraphQL operations, JSON-RPC calls, GraphQL
//! messages on a WebSocket.
//!
//! Owns the reading of bodies that a policy judges; not the reading of bytes from a connection,
//! nor the limit on them (`buffer.graphql`, `buffer.rpc`, `max_body_bytes`): the caller reads a
//! whole body within its limit, or refuses. Nor `Content-Encoding`: a body comes in here decoded,
//! or the caller refuses any coding but identity.
//!
//! Invariant (I3): a body that two servers could read as two different things is refused, never
//! guessed at. Every reader takes any bytes without panicking, works in time linear in them, and
//! errors in sentences that quote nothing of the body ([`crate::policy::Body::Invalid`]).

pub mod graphql;
mod json;
pub mod rpc;
pub mod ws_graphql;

pub use json::is_json;
pub(in crate::policy) use json::parameter_resembles;

/// Why a body may be a call that nobody reads: only a POST's is read
/// ([`crate::policy::BodySource::Nowhere`]).
pub const NO_POST: &str = "a call is sent with POST, and there is a body";
