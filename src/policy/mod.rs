//! The policy: what a file says (`document`), what it means (`compile`), and how a request is
//! judged (`judge`).
//!
//! Pure: no I/O, no clock. Only this module builds a [`Permit`] (I1).

pub mod body;
mod code;
mod compile;
pub mod diff;
pub mod document;
pub mod explain;
mod intent;
mod judge;
pub mod lint;
mod overlay;
mod owned;
pub mod pattern;
pub mod preset;
mod verdict;

pub use code::{Code, ErrorKind};
pub use compile::{BodyLimits, CompileError, Layer, Policy};
pub use document::{Document, LoadError, LoadOptions, Mistake};
pub use intent::{
    Ask, Body, Client, GraphqlKind, GraphqlOperation, Intent, Process, RpcCall, Scheme,
};
pub(crate) use judge::query_values;
pub use judge::{BodyNeed, BodyProtocol, BodySource, Missing, Partial, Possible, RouteRule, Rules};
pub use overlay::{
    Answer, Approval, Cover, CoverError, Fingerprint, Grant, GrantId, GrantRef, Overlay, Scope,
    Standing, Ticket, TicketUse, What,
};
pub use owned::{OwnedAsk, OwnedBody, OwnedIntent};
pub use pattern::HostPattern;
pub use verdict::{
    Denial, Nearest, Permit, Question, RuleRef, Source, TunnelPermit, TunnelVerdict, Verdict,
};
