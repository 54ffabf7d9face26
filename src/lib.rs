//! Portcullis: an egress gateway for AI agent sandboxes.
//!
//! The library is a house of floors: a module imports only lower floors (`tests/floors.rs`).
//! `addr` is at the bottom (names, ports, paths: the only parser of them), `policy` judges,
//! `record` says what happened, the tools (`tls`, `upstream`, `identity`, `traffic`, `metrics`)
//! each know one outside thing, `proxy` carries one request from end to end, and `config` and
//! `cli` are the doors.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod addr;
pub mod approval;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod identity;
pub mod inference;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod record;
pub mod replay;
pub mod secret;
pub mod state;
pub mod tasks;
pub mod tls;
pub mod traffic;
pub mod tui;
pub mod upstream;
pub mod vault;
