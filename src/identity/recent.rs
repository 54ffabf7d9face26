//! Processes seen a moment ago: whose connection it probably is, for the record.
//!
//! A busy client opens hundreds of connections a second; to read its line of ancestors anew for
//! each would cost more than the connection itself. Here an answer may be a second old in
//! everything but the socket: that the process holds it is read each time. No policy that tells
//! processes apart is judged by this (`Peers::process` is for those).

use super::processes::{Link, Pinned};
use crate::policy::Process;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a description stands.
const FRESH: Duration = Duration::from_secs(1);
/// Processes remembered for each uid.
const KNOWN: usize = 4;
/// Uids remembered; when there are more, all are forgotten.
const UIDS: usize = 64;
/// Descriptors looked at below and above those that were sockets of ours before: where only little
/// time may be spent, and where a whole search would follow.
pub(super) const CLOSE: u32 = 4;
pub(super) const WIDE: u32 = 64;
/// Descriptors of a process that are remembered.
const PLACES: usize = 96;

#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<u32, Vec<Known>>>);

#[derive(Debug)]
struct Known {
    fds: OwnedFd,
    /// Descriptors that were sockets of ours, the one seen longest ago first. A new socket gets a
    /// descriptor that has become free, and that is more often one of the first.
    places: VecDeque<u32>,
    process: Arc<Process>,
    since: Instant,
}

impl Recent {
    /// The process that holds the socket, if it is one that was seen within the last second.
    pub(super) fn holder(&self, uid: u32, link: &Link, around: u32) -> Option<Arc<Process>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_mut(&uid)?;
        let mut fresh = known.iter_mut().filter(|k| k.since.elapsed() < FRESH);
        fresh.find_map(|k| k.holds(link, around).then(|| k.process.clone()))
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
        let places = before.map(|i| known.remove(i).places).unwrap_or_default();
        known.truncate(KNOWN - 1);
        let mut now = Known { fds, places, process: process.clone(), since: Instant::now() };
        now.seen(at);
        known.insert(0, now);
    }
}

impl Known {
    /// Whether the process holds the socket.
    fn holds(&mut self, link: &Link, around: u32) -> bool {
        let mut known = self.places.iter();
        let is_there =
            |at: &u32| Pinned::holds_among(&self.fds, link, std::iter::once(*at)).is_some();
        if let Some(i) = known.position(is_there) {
            // What was looked at in vain is still held by others: it comes last the next time.
            self.places.rotate_left(i + 1);
            return true;
        }
        let (low, high) = (self.places.iter().min(), self.places.iter().max());
        let (Some(low), Some(high)) = (low, high) else { return false };
        let range = low.saturating_sub(around)..=high.saturating_add(around);
        let others = range.filter(|at| !self.places.contains(at)).take(2 * PLACES);
        let found = Pinned::holds_among(&self.fds, link, others);
        if let Some(at) = found {
            self.seen(at);
        }
        found.is_some()
    }

    /// Notes that a socket of ours was there just now.
    fn seen(&mut self, at: u32) {
        self.places.retain(|place| *place != at);
        if self.places.len() >= PLACES {
            self.places.pop_front();
        }
        self.places.push_back(at);
    }
}
