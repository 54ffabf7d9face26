//! Names and addresses: what a request may reach (security.md 1 to 7, 13).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/common/mod.rs"]
mod common;

mod agree;
mod agree_h2;
mod dns;
mod listeners;
mod odd;
mod own;
mod skip;
mod tcp;
