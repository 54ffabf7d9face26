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
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a description stands.
const FRESH: Duration = Duration::from_secs(1);
/// Processes remembered for each uid.
const KNOWN: usize = 4;
/// Uids remembered; when there are more, all are forgotten.
const UIDS: usize = 64;
/// How far is looked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Descriptors below and above those that were sockets of ours before.
    around: u32,
    /// The most looks, a few microseconds each.
    looks: usize,
    /// It may wait for another look-up of the same uid.
    waits: bool,
}

/// Where only little time may be spent.
pub(super) const CLOSE: Effort = Effort { around: 4, looks: 48, waits: false };
/// Where a whole search would follow.
pub(super) const WIDE: Effort = Effort { around: 64, looks: 512, waits: true };

/// Descriptors of a process that are remembered.
const PLACES: usize = 96;

/// By uid: one uid's look-ups do not wait for another's.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<u32, Arc<Mutex<Vec<Known>>>>>);

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
    /// The process that holds the socket, if it is one that was seen within the last second. Who has
    /// little time does not wait for another look-up either.
    pub(super) fn holder(&self, uid: u32, link: &Link, effort: Effort) -> Option<Arc<Process>> {
        let known = self.of(uid);
        let mut known = match known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
            Err(TryLockError::WouldBlock) if !effort.waits => return None,
            Err(TryLockError::WouldBlock) => known.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let mut looks = effort.looks;
        let mut fresh = known.iter_mut().filter(|k| k.since.elapsed() < FRESH);
        fresh.find_map(|k| k.holds(link, effort.around, &mut looks).then(|| k.process.clone()))
    }

    fn of(&self, uid: u32) -> Arc<Mutex<Vec<Known>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UIDS && !known.contains_key(&uid) {
            known.clear();
        }
        known.entry(uid).or_default().clone()
    }

    /// Remembers a process that was just described.
    pub(super) fn remember(&self, uid: u32, holder: &Pinned, at: u32, process: &Arc<Process>) {
        let Some(fds) = holder.descriptors() else { return };
        let known = self.of(uid);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.iter().position(|k| k.process.pid == process.pid);
        let places = before.map(|i| known.remove(i).places).unwrap_or_default();
        known.truncate(KNOWN - 1);
        let mut now = Known { fds, places, process: process.clone(), since: Instant::now() };
        now.seen(at);
        known.insert(0, now);
    }
}

impl Known {
    /// Whether the process holds the socket, as far as `looks` allow to see.
    fn holds(&mut self, link: &Link, around: u32, looks: &mut usize) -> bool {
        let is_there =
            |at: u32| Pinned::holds_among(&self.fds, link, std::iter::once(at)).is_some();
        let looked = self.places.len().min(*looks);
        let found = self.places.iter().take(looked).position(|at| is_there(*at));
        let used = found.map_or(looked, |i| i + 1);
        *looks -= used;
        // What was looked at in vain is still held by others: it comes last the next time.
        self.places.rotate_left(used);
        if found.is_some() {
            return true;
        }
        let (low, high) = (self.places.iter().min(), self.places.iter().max());
        let (Some(low), Some(high)) = (low, high) else { return false };
        let range = low.saturating_sub(around)..=high.saturating_add(around);
        let mut others = range.filter(|at| !self.places.contains(at)).take(*looks);
        let found = others.find(|at| {
            *looks -= 1;
            is_there(*at)
        });
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
