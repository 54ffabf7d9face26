//! The commands, and the pages that show them, as a shell sees them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/common/mod.rs"]
mod common;
mod docs_kit;

mod commands;
mod docs_commands;
mod docs_text;
mod paste;
mod slips;
