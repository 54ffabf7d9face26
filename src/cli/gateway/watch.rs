//! The files that a reload reads: watched, and compared before anything is read again.
//!
//! Directories are watched, not files: editors put another file in place, and Kubernetes another
//! symlink two levels up. What woke the gateway is then told from what it saw last by the files
//! themselves, so that a neighbour that changes costs a few `stat`s and no reload.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Watched files, as they were when last noted.
#[derive(Debug)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    directories: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
}

/// What tells two states of a file apart: its inode, its length, when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Watched {
    /// Watches `files`; `changed` is told when something happened near them.
    pub(super) fn new(files: &[PathBuf], changed: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events were lost: the files say whether they changed.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel has a look waiting in it already.
                let _ = changed.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "files are not watched: send SIGHUP"))
            .ok();
        let mut watched =
            Self { files: Vec::new(), seen: Vec::new(), directories: BTreeSet::new(), watcher };
        watched.watch(files);
        watched.note();
        watched
    }

    /// Watches these files from now on. What was noted of them stays noted.
    pub(super) fn watch(&mut self, files: &[PathBuf]) {
        if self.files != files {
            self.files = files.to_vec();
            self.note();
        }
        let directories = directories(files);
        let Some(watcher) = &mut self.watcher else { return };
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
        self.directories = directories;
    }

    /// Remembers the files as they are.
    pub(super) fn note(&mut self) {
        self.seen = self.files.iter().map(|file| Stamp::of(file)).collect();
    }

    /// Whether a file is not as it was noted.
    pub(super) fn changed(&self) -> bool {
        self.files.iter().map(|file| Stamp::of(file)).ne(self.seen.iter().copied())
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
fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let real = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
    let of = |file: &Path| file.parent().map(Path::to_owned);
    files.iter().cloned().chain(real).filter_map(|file| of(&file)).collect()
}
