//! The control API: HTTP/1.1 over a Unix socket that only the operator's uid can open.
//!
//! `wire` is what goes over it: the types that server, command line and pane share. `client` asks,
//! and the command line and the pane use nothing else of the gateway. A `Backend` is what the
//! server asks.

mod backend;
pub mod client;
mod frame;
mod problem;
mod socket;
pub mod wire;

pub use backend::{Attendance, Backend, Change, Who};
pub use socket::Whereabouts;
