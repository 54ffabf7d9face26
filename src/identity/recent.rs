//! Processes seen a moment ago: whose connection it probably is, for the record.
//!
//! A busy client opens hundreds of connections a second; to read its line of ancestors anew for
//! each would cost more than the connection itself. Here an answer may be a second old in
//! everything but the socket: that the process holds it is read each time. No policy that tells
//! processes apart is judged by this (`Peers::process` is for those).

use super::processes::{Link, Pinned};
use crate::policy::Process;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a description stands.
const FRESH: Duration = Duration::from_secs(1);
/// Processes remembered for each uid.
const KNOWN: usize = 4;
/// Uids remembered; when there are more, all are forgotten.
const UIDS: usize = 64;
/// Descriptors looked at below and above those that were sockets of ours before.
const AROUND: u32 = 4;
/// The widest range of descriptors that is looked through.
const WIDEST: u32 = 96;

#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<u32, Vec<Known>>>);

#[derive(Debug)]
struct Known {
    fds: OwnedFd,
    low: u32,
    high: u32,
    process: Arc<Process>,
    since: Instant,
}

impl Recent {
    /// The process that holds the socket, if it is one that was seen within the last second.
    pub(super) fn holder(&self, uid: u32, link: &Link) -> Option<Arc<Process>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_mut(&uid)?;
        known.retain(|k| k.since.elapsed() < FRESH);
        known.iter_mut().find_map(|k| {
            let range = k.low.saturating_sub(AROUND)..=k.high.saturating_add(AROUND);
            let at = Pinned::holds_among(&k.fds, link, range)?;
            k.widen(at);
            Some(k.process.clone())
        })
    }

    /// Remembers a process that was just described.
    pub(super) fn remember(&self, uid: u32, holder: &Pinned, at: u32, process: &Arc<Process>) {
        let Some(fds) = holder.descriptors() else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UIDS && !known.contains_key(&uid) {
            known.clear();
        }
        let known = known.entry(uid).or_default();
        let before = known.iter().position(|k| k.process.pid == process.pid);
        let (low, high) = before.map_or((at, at), |i| {
            let k = known.remove(i);
            (k.low, k.high)
        });
        known.truncate(KNOWN - 1);
        let mut now = Known { fds, low, high, process: process.clone(), since: Instant::now() };
        now.widen(at);
        known.insert(0, now);
    }
}

impl Known {
    fn widen(&mut self, at: u32) {
        self.low = self.low.min(at);
        self.high = self.high.max(at);
        if self.high - self.low > WIDEST {
            (self.low, self.high) = (at, at);
        }
    }
}
