//! Programs that nobody here wrote, through the gateway.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/clients/mod.rs"]
mod clients_kit;
#[path = "../kit/common/mod.rs"]
mod common;

mod curl;
mod git;
mod node;
mod presets;
mod python;
mod websocket;
