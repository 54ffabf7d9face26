//! How many requests of each sandbox ended how, since the start.

use crate::control::wire::Requests;
use crate::record::{Outcome, Record, Sink};
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of all sandboxes.
#[derive(Debug, Default)]
pub(in crate::cli::gateway) struct Tally(Mutex<HashMap<Arc<str>, Requests>>);

impl Tally {
    /// The counts of a sandbox.
    pub(in crate::cli::gateway) fn of(&self, sandbox: &str) -> Requests {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(sandbox).copied().unwrap_or_default()
    }

    fn count(&self, record: &Record) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match counts.get_mut(&record.sandbox) {
            Some(counts) => counts,
            None => counts.entry(record.sandbox.clone()).or_default(),
        };
        match record.outcome {
            Outcome::Passed => counts.passed += 1,
            Outcome::Refused => counts.refused += 1,
            Outcome::Failed => counts.failed += 1,
        }
    }
}

/// The side that the traffic writer's thread feeds.
#[derive(Debug)]
pub(in crate::cli::gateway) struct TallySink(pub(in crate::cli::gateway) Arc<Tally>);

impl Sink for TallySink {
    fn record(&mut self, record: &Record) {
        self.0.count(record);
    }
}
