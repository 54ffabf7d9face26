//! What no rule knows is held, shown, answered, and remembered.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/approval/mod.rs"]
mod approval_kit;
#[path = "../kit/common/mod.rs"]
mod common;
#[path = "../kit/http/mod.rs"]
mod http_kit;

mod agent;
mod answers;
mod bodies;
mod bounds;
mod hold;
mod kinds;
mod lives;
mod model;
mod observe;
mod pane;
mod proposals;
mod state;
