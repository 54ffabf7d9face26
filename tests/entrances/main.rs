//! How a connection comes in: HTTP, CONNECT, SOCKS5, transparent.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/attack/mod.rs"]
mod attack;
#[path = "../kit/common/mod.rs"]
mod common;

mod first_bytes;
mod redirect;
mod socks;
mod transparent;
