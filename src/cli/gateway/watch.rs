//! The files that a reload reads: watched, and compared before anything is read again.
//!
//! Directories are watched, not files: editors put another file in place, and Kubernetes another
//! symlink two levels up. What woke the gateway is then told from what it saw last by the files
//! themselves, so that a neighbour that changes costs a few `stat`s and no reload.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Watched files, as they were before they were last read.
#[derive(Debug)]
pub(super) struct Watched {
    seen: BTreeMap<PathBuf, Option<Stamp>>,
    directories: BTreeSet<PathBuf>,
    watching: Option<(RecommendedWatcher, mpsc::Sender<()>)>,
}

/// What tells two states of a file apart: its inode, its length, when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Watched {
    /// Notes `files` as they are, before they are read for the first time.
    pub(super) fn new(files: &[PathBuf]) -> Self {
        let seen = files.iter().map(|file| (file.clone(), Stamp::of(file))).collect();
        Self { seen, directories: BTreeSet::new(), watching: None }
    }

    /// Watches from now on; `changed` is told when something happened near the files, and at once
    /// where they changed since they were noted.
    pub(super) fn start(&mut self, changed: mpsc::Sender<()>) {
        let near = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events were lost: the files say whether they changed.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel has a look waiting in it already.
                let _ = near.try_send(());
            }
        });
        match watcher {
            Ok(watcher) => self.watching = Some((watcher, changed)),
            Err(error) => tracing::warn!(%error, "files are not watched: send SIGHUP"),
        }
        self.follow();
    }

    /// Watches these files from now on. What was noted of those that it knew stays noted.
    pub(super) fn watch(&mut self, files: &[PathBuf]) {
        let was = std::mem::take(&mut self.seen);
        let note = |file: &PathBuf| was.get(file).copied().unwrap_or_else(|| Stamp::of(file));
        self.seen = files.iter().map(|file| (file.clone(), note(file))).collect();
        self.follow();
    }

    /// Watches the directories that the files are in now.
    fn follow(&mut self) {
        let directories = directories(self.seen.keys());
        let Some((watcher, changed)) = &mut self.watching else { return };
        for gone in self.directories.difference(&directories) {
            // It may be gone from the disk too.
            let _ = watcher.unwatch(gone);
        }
        // Anew each time: a directory that was replaced is another one under the same name.
        for directory in &directories {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "not watched: send SIGHUP after a change");
            }
        }
        let changed = changed.clone();
        self.directories = directories;
        if self.changed() {
            let _ = changed.try_send(());
        }
    }

    /// Remembers the files as they are, before they are read.
    pub(super) fn note(&mut self) {
        for (file, stamp) in &mut self.seen {
            *stamp = Stamp::of(file);
        }
    }

    /// Remembers one file as it is: it was written here.
    pub(super) fn wrote(&mut self, file: &Path) {
        if let Some(stamp) = self.seen.get_mut(file) {
            *stamp = Stamp::of(file);
        }
    }

    /// Whether a file is not as it was noted.
    pub(super) fn changed(&self) -> bool {
        self.seen.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let meta = std::fs::metadata(file).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some(Self { inode: (meta.dev(), meta.ino()), length: meta.len(), changed })
    }
}

/// Where the files are named and, through symlinks, where they are.
fn directories<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let both = |file: &'a PathBuf| [Some(file.clone()), std::fs::canonicalize(file).ok()];
    let of = |file: PathBuf| file.parent().map(Path::to_owned);
    files.flat_map(both).flatten().filter_map(of).collect()
}
