//! Running it: config, reloads, limits, records, metrics, the way to stop.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/approval/mod.rs"]
mod approval_kit;
#[path = "../kit/common/mod.rs"]
mod common;
#[path = "../kit/http/mod.rs"]
mod http_kit;
#[path = "../kit/operation/mod.rs"]
mod operation_kit;

mod config_file;
mod idle;
mod limits;
mod logging;
mod metrics;
mod records;
mod reload;
mod removed;
mod revoke;
mod slice;
mod soak;
mod start;
mod stop;
mod tunnels;
mod watch;
