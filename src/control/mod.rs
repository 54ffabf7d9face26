//! The control API: HTTP/1.1 over a Unix socket that only the operator's uid can open.
//!
//! `wire` is what goes over it: the types that server, command line and pane share. `client` asks,
//! and the command line and the pane use nothing else of the gateway. `server` answers with what a
//! `Backend` says, and `feed` brings it the traffic.

mod backend;
pub mod client;
pub mod feed;
mod frame;
mod problem;
pub mod server;
mod socket;
pub mod wire;

pub use backend::{Attendance, Backend, Change, Who};
pub use socket::Whereabouts;
