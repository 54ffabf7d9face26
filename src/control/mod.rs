//! The control API: HTTP/1.1 over a Unix socket that only the operator's uid can open.
//!
//! `wire` is what goes over it: the types that server, command line and pane share. `client` asks,
//! and the command line and the pane use nothing else of the gateway.

pub mod client;
mod frame;
mod socket;
pub mod wire;

pub use socket::Whereabouts;
