//! One connection, one request, end to end.
//!
//! ```text
//! listener    who may connect; a slot before accept          → Client, Via
//! sniff       what is spoken, however slowly
//! socks │ tunnel │ serve │ http2     the entrances: each only builds a target
//! inside      what a tunnel carries, its TLS ended
//! request     head → Intent → judge → Permit                 the one road (I1)
//! judged      bodies that must be read to judge
//! asking      Question → held until it is answered → judged again
//! local       policy.local: the agent's side of a question
//! inject      what the request gets on its way up              (I4)
//! outbound    the request for the origin, from what was judged
//! carry       Permit → Pinned → connection → response head   (I2)
//! scrub       what comes back, without it                      (I4)
//! body        what goes up and down, counted; its end closes the record (I5)
//! upgrade, messages   WebSockets        relay   raw bytes; bulk: splice(2)
//! hello       TLS before its handshake: one name, or an alert
//! refuse      every other way out
//! live        one clock a worker: deadlines (I6), reloads (I7), drain
//! ```

mod again;
mod asking;
mod away;
mod body;
mod bound;
mod bulk;
mod carry;
mod gate;
mod headers;
mod hello;
mod http2;
pub mod inference;
pub mod inject;
mod inside;
mod interim;
mod io;
mod judge;
mod judged;
mod known;
mod listener;
mod live;
mod local;
mod messages;
mod open;
mod outbound;
mod refuse;
mod relay;
mod request;
mod respond;
mod rest;
mod ruling;
mod sandbox;
mod scrub;
mod serve;
mod sniff;
mod socks;
mod subject;
mod target;
mod tunnel;
mod unless;
mod upgrade;
pub mod websocket;
mod workers;

pub use bound::Bound;
pub use gate::{Gate, Parts, Settings, Timeouts, loop_mark};
pub use listener::{Listener, Mode, Served};
pub use ruling::Ruling;
pub use sandbox::{Identity, Limits, Sandbox, SandboxSettings, Unknown};
pub use workers::Workers;
