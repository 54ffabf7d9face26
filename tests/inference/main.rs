//! `inference.local`: model calls with the operator's key.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/clients/mod.rs"]
mod clients_kit;
#[path = "../kit/common/mod.rs"]
mod common;
#[path = "../kit/http/mod.rs"]
mod http_kit;
mod inference_kit;

mod bounds;
mod budget;
mod calls;
mod clients;
mod config;
mod control;
mod failover;
mod leaks;
