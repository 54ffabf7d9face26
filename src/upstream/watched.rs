//! A small system file kept in memory as what it means, and read again when it changes.
//!
//! The file's identity (mtime, length, inode) is looked at no more than once a second, so asking
//! costs a clock read. The files are local, small and the operator's: reading them blocks.

use arc_swap::ArcSwap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the file's identity is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A file's meaning.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    read: fn(&Path, io::Result<Vec<u8>>) -> T,
    born: Instant,
    /// Milliseconds after `born` at which the identity is looked at again.
    next: AtomicU64,
    now: ArcSwap<Version<T>>,
}

/// One reading of the file.
#[derive(Debug)]
pub(super) struct Version<T> {
    /// What the file means, or what its absence does.
    pub(super) meaning: T,
    /// Counts the readings.
    pub(super) number: u64,
    identity: Option<Identity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    mtime: (i64, i64),
    length: u64,
    inode: (u64, u64),
}

impl<T> Watched<T> {
    /// Reads the file now. `read` also says what an unreadable file means.
    pub(super) fn new(path: PathBuf, read: fn(&Path, io::Result<Vec<u8>>) -> T) -> Self {
        let identity = identify(&path);
        let meaning = read(&path, std::fs::read(&path));
        let now = ArcSwap::new(Arc::new(Version { meaning, number: 0, identity }));
        let next = AtomicU64::new(as_millis(EVERY));
        Self { path, read, born: Instant::now(), next, now }
    }

    /// The newest reading, at most a second old.
    pub(super) fn get(&self) -> arc_swap::Guard<Arc<Version<T>>> {
        let now = as_millis(self.born.elapsed());
        let due = self.next.load(Ordering::Relaxed);
        if now >= due {
            let next = now + as_millis(EVERY);
            let claim = self.next.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
            if claim.is_ok() {
                self.refresh();
            }
        }
        self.now.load()
    }

    /// Reads the file again if it is another one than last time. The identity is taken before the
    /// content: a change in between is seen next time.
    pub(super) fn refresh(&self) {
        let identity = identify(&self.path);
        let known = self.now.load();
        if identity == known.identity {
            return;
        }
        let meaning = (self.read)(&self.path, std::fs::read(&self.path));
        let number = known.number + 1;
        self.now.store(Arc::new(Version { meaning, number, identity }));
    }
}

fn identify(path: &Path) -> Option<Identity> {
    let found = std::fs::metadata(path).ok()?;
    Some(Identity {
        mtime: (found.mtime(), found.mtime_nsec()),
        length: found.len(),
        inode: (found.dev(), found.ino()),
    })
}

fn as_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
