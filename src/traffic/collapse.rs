//! Counts identical refusals, so that a flood of them cannot wash yesterday's records away.
//!
//! Past [`FREE`] identical refusals a second one line stands for the rest of that second. The
//! lines, each times its `repeat`, still add up to every refusal. Nothing that was let through is
//! ever counted together.

use crate::record::{By, Outcome, Record};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::time::{Duration, Instant};

/// How many identical refusals a second have a line each.
const FREE: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// The refusals of one sandbox in the current second.
#[derive(Debug)]
pub(super) struct Collapse {
    since: Instant,
    /// By a keyed hash: a client cannot choose requests that meet.
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
    /// How many of `seen` hold a record back.
    held: usize,
}

#[derive(Debug, Default)]
struct Seen {
    count: u32,
    held: Option<Box<Counted>>,
}

/// The last of the refusals that one line stands for, and how many they are.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) record: Record,
    pub(super) repeat: u64,
}

impl Collapse {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, seen: HashMap::new(), hasher: RandomState::new(), held: 0 }
    }

    /// Gives the record back if it is to have a line of its own, else counts it.
    pub(super) fn admit(&mut self, record: Record) -> Option<Record> {
        if record.outcome != Outcome::Refused {
            return Some(record);
        }
        let seen = self.seen.entry(self.hasher.hash_one(Identity(&record))).or_default();
        if seen.count < FREE {
            seen.count += 1;
            return Some(record);
        }
        match &mut seen.held {
            Some(counted) => {
                counted.repeat += 1;
                counted.record = record;
            }
            None => {
                seen.held = Some(Box::new(Counted { record, repeat: 1 }));
                self.held += 1;
            }
        }
        None
    }

    /// When the second is over, if a line is owed then.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.held > 0).then(|| self.since + SECOND)
    }

    /// Begins a new second if the last is over (or `at_once`), and answers the lines that it owes.
    pub(super) fn roll(&mut self, now: Instant, at_once: bool) -> Vec<Counted> {
        if !at_once && now.saturating_duration_since(self.since) < SECOND {
            return Vec::new();
        }
        self.since = now;
        self.held = 0;
        let owed = self.seen.drain().filter_map(|(_, seen)| seen.held.map(|counted| *counted));
        owed.collect()
    }
}

/// What makes two refusals identical: target, method, path and code. Of what a limit refused only
/// the code counts, so that a limit also bounds what a flood of different requests writes.
struct Identity<'a>(&'a Record);

impl Hash for Identity<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Record { host, port, method, target, code, by, .. } = self.0;
        code.hash(state);
        if *by != By::Limit {
            (host, port, method).hash(state);
            target.as_ref().map(http::uri::PathAndQuery::path).hash(state);
        }
    }
}
