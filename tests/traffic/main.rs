//! The traffic record: its lines, and who writes them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lines;
mod writer;
