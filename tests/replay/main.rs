//! `dry-run`: recorded traffic under another policy.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dry_run;
mod undecidable;
