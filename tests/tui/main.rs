//! The pane: what it shows, what it must never do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tui_kit;

mod live;
mod queue;
mod safety;
mod sandboxes;
mod view;
