//! The control API, its stream of events, and the commands on top of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod control_kit;

mod api;
mod commands;
mod events;
mod files;
mod narrow;
mod openapi;
