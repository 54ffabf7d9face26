//! Finding the process that holds a socket, without reading all of `/proc`.
//!
//! Owns the order in which processes are looked at, and the memory of where sockets were found
//! before. Invariant: the memory only says where to look first; it never answers.

use super::Socket;
use super::processes::{Link, Pinned, Processes};
use super::recent::{self, Recent};
use crate::policy::Process;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Places remembered for each uid.
const PLACES: usize = 8;
/// Uids remembered; when there are more, all are forgotten.
const UIDS: usize = 64;
/// Pids below the newest that are tried before a scan: a client is often just started.
const NEWEST: u32 = 32;
/// Descriptors tried around the one that was the socket before, first those above: the lowest free
/// number is next. More of them around the latest: a burst of connections is looked up out of order,
/// and a look at every descriptor of a process that has thousands takes milliseconds.
const NEAR: (u32, u32) = (2, 5);
const NEAR_LATEST: (u32, u32) = (24, 96);

#[derive(Debug)]
pub(super) struct Search {
    processes: Processes,
    /// By uid, the latest first.
    places: Mutex<HashMap<u32, Vec<Place>>>,
    recent: Recent,
    /// By uid: who searches for the processes of the moment.
    turns: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

/// Where a socket was found.
#[derive(Clone, Copy, Debug)]
struct Place {
    pid: u32,
    descriptor: u32,
}

/// A socket that is looked for, and until when.
struct Wanted {
    socket: Socket,
    link: Link,
    deadline: Instant,
}

impl Search {
    pub(super) fn open() -> io::Result<Self> {
        let processes = Processes::open()?;
        let places = Mutex::default();
        Ok(Self { processes, places, recent: Recent::default(), turns: Mutex::default() })
    }

    pub(super) fn holder(&self, socket: Socket, patience: Duration) -> Option<Arc<Process>> {
        let wanted = Wanted {
            socket,
            link: Link::to_socket(socket.inode),
            deadline: Instant::now() + patience,
        };
        let places = self.places(wanted.socket.uid);
        let (found, descriptor) = self
            .in_places(&wanted, &places)
            .or_else(|| self.among_newest(&wanted))
            .or_else(|| self.anywhere(&wanted, &places))?;
        self.remember(wanted.socket.uid, Place { pid: found.pid, descriptor });
        self.eldest(&wanted, found, descriptor)
    }

    /// As [`Search::holder`], from a second's memory where that will do.
    pub(super) fn recent_holder(&self, socket: Socket) -> Option<Arc<Process>> {
        self.recent.holder(socket, recent::CLOSE)
    }

    /// Notes that the socket was closed.
    pub(super) fn left(&self, socket: Socket) {
        self.recent.left(socket);
    }

    /// As [`Search::recent_holder`], and where the process was not seen a moment ago it is searched
    /// for.
    pub(super) fn probable_holder(
        &self,
        socket: Socket,
        patience: Duration,
    ) -> Option<Arc<Process>> {
        let recent = self.recent.holder(socket, recent::WIDE);
        recent.or_else(|| self.holder(socket, patience))
    }

    /// Whose turn it is to search for a uid's processes.
    pub(super) fn turns(&self, uid: u32) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= UIDS && !turns.contains_key(&uid) {
            turns.clear();
        }
        turns.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }

    pub(super) fn process_of_pid(&self, pid: u32) -> Option<Arc<Process>> {
        let process = self.processes.pin(pid).filter(Pinned::is_process)?;
        describe(&self.processes.lineage(process))
    }

    /// The descriptors near those seen before, in the processes seen before.
    fn in_places(&self, wanted: &Wanted, places: &[Place]) -> Option<(Pinned, u32)> {
        let reach = std::iter::once(NEAR_LATEST).chain(std::iter::repeat(NEAR));
        places.iter().zip(reach).find_map(|(place, (below, above))| {
            let process = self.pin(wanted, place.pid)?;
            let at = place.descriptor;
            let up = at..=at.saturating_add(above);
            let down = (at.saturating_sub(below)..at).rev();
            let descriptor = process.among(&wanted.link, up.chain(down))?;
            Some((process, descriptor))
        })
    }

    fn among_newest(&self, wanted: &Wanted) -> Option<(Pinned, u32)> {
        let newest = self.processes.newest()?;
        (newest.saturating_sub(NEWEST)..=newest).rev().find_map(|pid| {
            let process = self.pin(wanted, pid).filter(Pinned::is_process)?;
            let descriptor = process.descriptor(&wanted.link, wanted.deadline)?;
            Some((process, descriptor))
        })
    }

    /// Every descriptor of the processes seen before, then of all others, the newest first.
    fn anywhere(&self, wanted: &Wanted, places: &[Place]) -> Option<(Pinned, u32)> {
        let known = places.iter().map(|place| place.pid);
        known.clone().find_map(|pid| self.in_process(wanted, pid)).or_else(|| {
            let pids = self.processes.pids().into_iter();
            pids.take_while(|_| Instant::now() < wanted.deadline)
                .filter(|pid| !known.clone().any(|known| known == *pid))
                .find_map(|pid| self.in_process(wanted, pid))
        })
    }

    fn in_process(&self, wanted: &Wanted, pid: u32) -> Option<(Pinned, u32)> {
        let process = self.pin(wanted, pid)?;
        let descriptor = process.descriptor(&wanted.link, wanted.deadline)?;
        Some((process, descriptor))
    }

    /// The process, if it runs as the uid that made the socket.
    fn pin(&self, wanted: &Wanted, pid: u32) -> Option<Pinned> {
        self.processes.pin(pid).filter(|process| process.uid() == Some(wanted.socket.uid))
    }

    /// The eldest holder on the line of `found`, described; `None` where the line could not be
    /// looked at to its end, or `found` let go of the socket meanwhile.
    fn eldest(&self, wanted: &Wanted, found: Pinned, descriptor: u32) -> Option<Arc<Process>> {
        let line = self.processes.lineage(found);
        let holds = |process: &Pinned| {
            process.uid() == Some(wanted.socket.uid)
                && process.descriptor(&wanted.link, wanted.deadline).is_some()
        };
        let eldest = line.iter().skip(1).rposition(holds).map_or(0, |above| above + 1);
        let described = describe(&line[eldest..])?;
        if Instant::now() > wanted.deadline {
            return None;
        }
        line[0].among(&wanted.link, std::iter::once(descriptor))?;
        if eldest == 0 {
            self.recent.remember(wanted.socket, &line[0], descriptor, &described);
        }
        Some(described)
    }

    fn places(&self, uid: u32) -> Vec<Place> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&uid).cloned().unwrap_or_default()
    }

    fn remember(&self, uid: u32, place: Place) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= UIDS && !places.contains_key(&uid) {
            places.clear();
        }
        let places = places.entry(uid).or_default();
        places.retain(|known| known.pid != place.pid);
        places.truncate(PLACES - 1);
        places.insert(0, place);
    }
}

/// The first of `line` as a process, the rest as its ancestors. An ancestor whose executable
/// can't be seen is left out: nothing matches it.
fn describe(line: &[Pinned]) -> Option<Arc<Process>> {
    let (process, ancestors) = line.split_first()?;
    Some(Arc::new(Process {
        pid: process.pid,
        binary: process.executable()?,
        ancestors: ancestors.iter().filter_map(Pinned::executable).collect(),
    }))
}
