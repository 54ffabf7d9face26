//! The state on the disk: what was answered outlives everything.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kill;
mod rows;
