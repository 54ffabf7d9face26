//! Credentials that the host holds: where they go in, and that nobody else sees them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/common/mod.rs"]
mod common;
mod credentials_kit;
#[path = "../kit/http/mod.rs"]
mod http_kit;

mod commands;
mod config;
mod flag;
mod inject;
mod placeholder;
mod raw;
mod scrub;
mod secrecy;
mod sigv4;
mod stream;
