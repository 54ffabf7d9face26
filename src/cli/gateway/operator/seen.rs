//! Which hosts something went to before today.
//!
//! For a risk note alone: what is not known here is new. Kept in a small file beside the state, and
//! bounded; a host that is forgotten is new again.

use crate::addr::Host;
use crate::record::{Record, Sink};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many hosts are remembered.
const MOST: usize = 10_000;
/// How often the file is written, where something changed.
const EVERY: Duration = Duration::from_secs(60);

/// Hosts, and the day (since the epoch, UTC) on which something first went to each.
#[derive(Debug)]
pub(in crate::cli::gateway) struct Seen {
    path: PathBuf,
    days: Mutex<hashbrown::HashMap<Host, u64>>,
}

/// The side that the traffic writer's thread feeds.
#[derive(Debug)]
pub(in crate::cli::gateway) struct SeenSink {
    seen: Arc<Seen>,
    changed: bool,
    written: Instant,
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

impl Seen {
    /// What an earlier run has seen; nothing where the file can't be read.
    pub(in crate::cli::gateway) fn load(state_dir: &Path) -> Arc<Self> {
        let path = state_dir.join("hosts.json");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let kept: HashMap<String, u64> = serde_json::from_str(&text).unwrap_or_default();
        let days = kept
            .into_iter()
            .take(MOST)
            .filter_map(|(host, day)| Some((Host::parse(&host).ok()?, day)))
            .collect();
        Arc::new(Self { path, days: Mutex::new(days) })
    }

    /// Whether nothing went to `host` before today.
    pub(in crate::cli::gateway) fn is_new(&self, host: &Host) -> bool {
        let days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days.get(host).is_none_or(|day| *day >= today())
    }

    fn note(&self, host: &Host) -> bool {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if days.contains_key(host) {
            return false;
        }
        if days.len() >= MOST
            && let Some(oldest) = days.iter().min_by_key(|(_, day)| **day).map(|(h, _)| h.clone())
        {
            days.remove(&oldest);
        }
        days.insert(host.clone(), today());
        true
    }

    fn write(&self) -> std::io::Result<()> {
        let text = {
            let days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
            let days: HashMap<String, u64> =
                days.iter().map(|(host, day)| (host.to_string(), *day)).collect();
            serde_json::to_vec(&days)?
        };
        let beside = self.path.with_extension("json.new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &self.path)
    }
}

impl SeenSink {
    pub(in crate::cli::gateway) fn new(seen: Arc<Seen>) -> Self {
        Self { seen, changed: false, written: Instant::now() }
    }

    fn write(&mut self) {
        if let Err(error) = self.seen.write() {
            tracing::debug!(%error, "the hosts that were seen could not be written");
        }
        self.changed = false;
        self.written = Instant::now();
    }
}

impl Sink for SeenSink {
    fn record(&mut self, record: &Record) {
        if record.sent
            && let Some(host) = &record.host
        {
            self.changed |= self.seen.note(host);
        }
        if self.changed && self.written.elapsed() >= EVERY {
            self.write();
        }
    }
}

impl Drop for SeenSink {
    fn drop(&mut self) {
        if self.changed {
            self.write();
        }
    }
}
