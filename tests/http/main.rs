//! HTTP as it really is, in any pairing of versions.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/attack/mod.rs"]
mod attack;
#[path = "../kit/common/mod.rs"]
mod common;
#[path = "../kit/http/mod.rs"]
mod http_kit;
#[path = "../kit/operation/mod.rs"]
mod operation_kit;

mod again_h2;
mod answers;
mod bodies;
mod bulk;
mod early;
mod failures;
mod grpc;
mod interim;
mod interim_h2;
mod joined;
mod many;
mod messages;
mod origin_h2;
mod pairs;
mod stream;
mod streams_h2;
mod tickets;
mod trailers;
mod uploads;
mod vanish;
mod vanish_h2;
mod versions;
mod websocket;
mod windows;
