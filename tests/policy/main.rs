//! Policies: what loads, what it means, what the tools say of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/policy/mod.rs"]
mod policy_common;

mod bodies;
mod body_facts;
mod body_frames;
mod check;
mod conformance;
mod corpus;
mod diff;
mod document;
mod judge;
mod laws;
mod presets;
mod readings;
mod review;
mod schema;
