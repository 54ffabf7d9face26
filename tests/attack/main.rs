//! A hostile client and a hostile origin, byte by byte (security.md 8 to 12).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../kit/attack/mod.rs"]
mod attack;
#[path = "../kit/common/mod.rs"]
mod common;

mod defects;
mod floods;
mod floods_h2;
mod h2;
mod headers;
mod paths;
mod smuggling;
