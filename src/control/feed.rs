//! Live traffic for who listens: from the traffic writer's thread to the streams of events.
//!
//! Owns one bounded ring a listener. The writer never waits: a ring that is full loses its oldest
//! row and says how many it lost. With nobody listening a record costs one load.

use super::wire::{self, Batch, Requests, Row, Traffic};
use crate::policy::{Client, Scheme};
use crate::record::{Outcome, Record, Sink};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How many rows a second a sample has.
const SAMPLED: u32 = 200;
/// How many rows wait for a listener.
const ROWS: usize = 8192;
/// How many bytes of text they have together.
const BYTES: usize = 4 << 20;

/// The traffic as it happens. Cheap to clone; every clone is the same feed.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many rings there are, to be read without the lock.
    listening: AtomicUsize,
    rings: Mutex<Vec<Arc<Ring>>>,
}

#[derive(Debug)]
struct Ring {
    sandbox: Option<String>,
    all: bool,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

/// What waits to be read.
#[derive(Debug)]
struct Waiting {
    counts: Requests,
    rows: VecDeque<Row>,
    bytes: usize,
    missed: u64,
    sample: Sample,
}

/// At most [`SAMPLED`] rows in every second that begins with a row.
#[derive(Debug)]
struct Sample {
    since: Instant,
    left: u32,
}

impl Feed {
    /// Nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens from now on, until the subscription is dropped. `None` where no traffic is wanted.
    pub fn listen(&self, traffic: Traffic, sandbox: Option<String>) -> Option<Subscription> {
        let all = match traffic {
            Traffic::None => return None,
            Traffic::Sampled => false,
            Traffic::All => true,
        };
        let waiting = Waiting {
            counts: Requests::default(),
            rows: VecDeque::new(),
            bytes: 0,
            missed: 0,
            sample: Sample { since: Instant::now(), left: SAMPLED },
        };
        let (waiting, filled) = (Mutex::new(waiting), Notify::new());
        let ring = Arc::new(Ring { sandbox, all, waiting, filled });
        let mut rings = lock(&self.shared.rings);
        rings.push(ring.clone());
        self.shared.listening.store(rings.len(), Ordering::Release);
        Some(Subscription { ring, shared: self.shared.clone() })
    }
}

impl Sink for Feed {
    fn record(&mut self, record: &Record) {
        if self.shared.listening.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut row = None;
        for ring in lock(&self.shared.rings).iter() {
            if ring.sandbox.as_deref().is_none_or(|name| name == &*record.sandbox) {
                ring.take(record, &mut row);
            }
        }
    }
}

/// Somebody listens.
#[derive(Debug)]
pub struct Subscription {
    ring: Arc<Ring>,
    shared: Arc<Shared>,
}

impl Subscription {
    /// Waits until there is traffic that was not taken. Cancel safe.
    pub async fn filled(&self) {
        self.ring.filled.notified().await;
    }

    /// What there is since the last call.
    pub fn take(&self) -> Batch {
        let mut waiting = lock(&self.ring.waiting);
        waiting.bytes = 0;
        Batch {
            counts: std::mem::take(&mut waiting.counts),
            rows: std::mem::take(&mut waiting.rows).into(),
            missed: std::mem::take(&mut waiting.missed),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut rings = lock(&self.shared.rings);
        rings.retain(|ring| !Arc::ptr_eq(ring, &self.ring));
        self.shared.listening.store(rings.len(), Ordering::Release);
    }
}

impl Ring {
    fn take(&self, record: &Record, row: &mut Option<Row>) {
        let mut waiting = lock(&self.waiting);
        match record.outcome {
            Outcome::Passed => waiting.counts.passed += 1,
            Outcome::Refused => waiting.counts.refused += 1,
            Outcome::Failed => waiting.counts.failed += 1,
        }
        if self.all || waiting.sample.has_one() {
            waiting.push(row.get_or_insert_with(|| Row::from(record)).clone());
        } else {
            waiting.missed += 1;
        }
        drop(waiting);
        self.filled.notify_one();
    }
}

impl Waiting {
    fn push(&mut self, row: Row) {
        self.bytes += weight(&row);
        self.rows.push_back(row);
        while self.rows.len() > ROWS || self.bytes > BYTES {
            let Some(oldest) = self.rows.pop_front() else { return };
            self.bytes -= weight(&oldest);
            self.missed += 1;
        }
    }
}

impl Sample {
    fn has_one(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { since: Instant::now(), left: SAMPLED };
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

/// Bytes of the texts that a client chooses the length of.
fn weight(row: &Row) -> usize {
    [&row.path, &row.method, &row.host, &row.binary]
        .into_iter()
        .map(|text| text.as_ref().map_or(0, String::len))
        .sum()
}

impl From<&Record> for Row {
    /// Without the query, where secrets stand.
    fn from(record: &Record) -> Self {
        let binary = match &record.client {
            Client::Seen(process) => Some(process.binary.to_string()),
            Client::Unseen | Client::Ignored => None,
        };
        Self {
            time: wire::stamp(record.time),
            id: record.id.to_string(),
            sandbox: record.sandbox.to_string(),
            binary,
            verdict: record.verdict.as_str().to_owned(),
            outcome: record.outcome.as_str().to_owned(),
            code: record.code.as_str().to_owned(),
            by: record.by.text().into_owned(),
            rule: record.rule.as_ref().map(ToString::to_string),
            scheme: match record.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
                Scheme::Tcp => "tcp",
            }
            .to_owned(),
            method: record.method.as_ref().map(ToString::to_string),
            host: record.host.as_ref().map(ToString::to_string),
            port: record.port.map(crate::addr::Port::get),
            path: record.target.as_ref().map(|target| target.path().to_owned()),
            status: record.status,
            upload: record.upload,
            download: record.download,
            total_ms: record.ms.total.as_secs_f64() * 1000.0,
            request: record.request.map(|number| format!("r{number}")),
            repeat: None,
        }
    }
}

/// A lock that no panic spoils: what it guards is a count and a queue, whole between any two
/// statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
