//! Processes seen a moment ago: whose connection it probably is, for the record.
//!
//! A busy client opens hundreds of connections a second; to read its line of ancestors anew for
//! each would cost more than the connection itself. Here an answer may be a second old in
//! everything but the socket: that the process holds it is read each time. No policy that tells
//! processes apart is judged by this (`Peers::process` is for those).

use super::Socket;
use super::processes::{Link, Pinned};
use crate::policy::Process;
use std::collections::{BTreeSet, HashMap, VecDeque};
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
    /// Descriptors of sockets of ours that were closed since. A new socket gets the lowest free one.
    free: BTreeSet<u32>,
    /// The others that were seen, the one seen longest ago first, and the inode that was there.
    held: VecDeque<(u32, u64)>,
    process: Arc<Process>,
    since: Instant,
}

impl Recent {
    /// The process that holds the socket, if it is one that was seen within the last second. Who has
    /// little time does not wait for another look-up either.
    pub(super) fn holder(&self, socket: Socket, effort: Effort) -> Option<Arc<Process>> {
        let known = self.of(socket.uid);
        let mut known = match known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
            Err(TryLockError::WouldBlock) if !effort.waits => return None,
            Err(TryLockError::WouldBlock) => known.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let (wanted, mut looks) = (Wanted::of(socket), effort.looks);
        let mut fresh = known.iter_mut().filter(|k| k.since.elapsed() < FRESH);
        fresh.find_map(|k| k.holds(&wanted, effort.around, &mut looks).then(|| k.process.clone()))
    }

    /// The socket was closed: its descriptor is free for the next one. Waits for no look-up.
    pub(super) fn left(&self, socket: Socket) {
        let known = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = known.get(&socket.uid) else { return };
            known.clone()
        };
        if let Ok(mut known) = known.try_lock() {
            known.iter_mut().for_each(|known| known.left(socket.inode));
        }
    }

    fn of(&self, uid: u32) -> Arc<Mutex<Vec<Known>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UIDS && !known.contains_key(&uid) {
            known.clear();
        }
        known.entry(uid).or_default().clone()
    }

    /// Remembers a process that was just described.
    pub(super) fn remember(
        &self,
        socket: Socket,
        holder: &Pinned,
        at: u32,
        process: &Arc<Process>,
    ) {
        let Some(fds) = holder.descriptors() else { return };
        let known = self.of(socket.uid);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.iter().position(|k| k.process.pid == process.pid);
        let (free, held) = match before.map(|i| known.remove(i)) {
            Some(before) => (before.free, before.held),
            None => Default::default(),
        };
        known.truncate(KNOWN - 1);
        let mut now = Known { fds, free, held, process: process.clone(), since: Instant::now() };
        now.seen(at, socket.inode);
        known.insert(0, now);
    }
}

/// A socket that is looked for.
struct Wanted {
    link: Link,
    inode: u64,
}

impl Wanted {
    fn of(socket: Socket) -> Self {
        Self { link: Link::to_socket(socket.inode), inode: socket.inode }
    }
}

impl Known {
    /// Whether the process holds the socket, as far as `looks` allow to see.
    fn holds(&mut self, wanted: &Wanted, around: u32, looks: &mut usize) -> bool {
        let before = self.held.len();
        // What is looked at in vain is held by others: it comes last the next time.
        while *looks > 0
            && let Some(at) = self.free.pop_first()
        {
            if self.looks_at(at, wanted, looks) {
                return true;
            }
            self.seen(at, 0);
        }
        for _ in 0..before.min(*looks) {
            let Some((at, before)) = self.held.pop_front() else { break };
            if self.looks_at(at, wanted, looks) {
                return true;
            }
            self.held.push_back((at, before));
        }
        let places = || self.held.iter().map(|(at, _)| *at);
        let (Some(low), Some(high)) = (places().min(), places().max()) else { return false };
        let range = low.saturating_sub(around)..=high.saturating_add(around);
        let others = range.filter(|at| !places().any(|place| place == *at)).take(*looks);
        let others: Vec<u32> = others.collect();
        others.into_iter().any(|at| self.looks_at(at, wanted, looks))
    }

    /// Whether the socket is `at` this descriptor; notes it if it is.
    fn looks_at(&mut self, at: u32, wanted: &Wanted, looks: &mut usize) -> bool {
        *looks -= 1;
        let is_there = Pinned::holds_among(&self.fds, &wanted.link, std::iter::once(at)).is_some();
        if is_there {
            self.seen(at, wanted.inode);
        }
        is_there
    }

    /// Notes what was there just now.
    fn seen(&mut self, at: u32, inode: u64) {
        self.free.remove(&at);
        self.held.retain(|(place, _)| *place != at);
        if self.held.len() >= PLACES {
            self.held.pop_front();
        }
        self.held.push_back((at, inode));
    }

    /// The descriptor of the socket is free now, if it was noted.
    fn left(&mut self, inode: u64) {
        if let Some(place) = self.held.iter().position(|(_, held)| *held == inode)
            && let Some((at, _)) = self.held.remove(place)
        {
            self.free.insert(at);
            if self.free.len() > PLACES {
                // New sockets get the lowest.
                self.free.pop_last();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::processes::Processes;
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_that_became_free_is_looked_at_first_and_only_what_is_there_counts() {
        let sockets: Vec<UnixStream> =
            (0..10).flat_map(|_| <[_; 2]>::from(UnixStream::pair().unwrap())).collect();
        let place = |socket: &UnixStream| {
            let fd = u32::try_from(socket.as_raw_fd()).unwrap();
            (fd, rustix::fs::fstat(socket).unwrap().st_ino)
        };
        let own = Processes::open().unwrap().pin(std::process::id()).unwrap();
        let process = Process { pid: own.pid, binary: "/own".into(), ancestors: [].into() };
        let fds = own.descriptors().unwrap();
        let (free, held) = Default::default();
        let since = Instant::now();
        let mut known = Known { fds, free, held, process: Arc::new(process), since };
        for socket in &sockets {
            let (at, inode) = place(socket);
            known.seen(at, inode);
        }
        let of = |(_, inode)| Wanted::of(Socket { uid: 0, inode });
        let (last, other) = (place(&sockets[15]), place(&sockets[3]));
        known.left(last.1);
        let mut looks = 48;
        assert!(known.holds(&of(last), 0, &mut looks));
        assert_eq!(looks, 47, "it was looked at first");
        // What is there now is another's: the rest is looked at all the same.
        known.left(last.1);
        known.left(other.1);
        let wanted = place(&sockets[0]);
        let mut looks = 48;
        assert!(known.holds(&of(wanted), 0, &mut looks));
        assert_eq!(looks, 45, "the two that were free, then the one seen longest ago");
        assert_eq!(known.held.len(), sockets.len());
        let mut looks = 48;
        assert!(!known.holds(&of((0, u64::MAX)), 0, &mut looks));
        let mut looks = 3;
        assert!(!known.holds(&of((0, u64::MAX)), 4, &mut looks));
        assert_eq!(looks, 0, "no further than it may");
        known.left(u64::MAX);
        known.left(0);
        assert_eq!(known.free.len() + known.held.len(), sockets.len());
    }
}
