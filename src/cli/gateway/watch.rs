//! The files that a reload reads: watched, and compared before anything is read again.
//!
//! Directories are watched, not files: editors put another file in place, and Kubernetes another
//! symlink two levels up. What woke the gateway is then told from what it saw last by the files
//! themselves, so that a neighbour that changes costs a few `stat`s and no reload; and what no
//! event tells of (a link further up, another host's write) is seen by whoever looks now and then.
//!
//! A file that is being written is not read before its writer is done.

use super::written::is_written;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Files are often written in several steps: they are read when they have been still for this long.
const SETTLE: Duration = Duration::from_millis(100);
/// Where they never are, or their writer never closes them, they are read this long after they
/// first changed.
const LONGEST: Duration = Duration::from_secs(10);

/// Watched files, as they were before they were last read.
#[derive(Debug)]
pub(super) struct Watched {
    seen: Stamps,
    changing: Option<Changing>,
    directories: BTreeSet<PathBuf>,
    watching: Option<(RecommendedWatcher, mpsc::Sender<()>)>,
}

type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Files that are not as they were noted, and not read yet.
#[derive(Debug)]
struct Changing {
    /// How they are now.
    stamps: Stamps,
    /// When they became that.
    still: Instant,
    /// When the first change was seen.
    since: Instant,
}

/// What is to be done about the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are as they were noted.
    Unchanged,
    /// They changed, and may be changing still: look again then.
    Again(Instant),
    /// They changed and are to be read.
    Read,
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
        Self { seen, changing: None, directories: BTreeSet::new(), watching: None }
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
            Err(error) => {
                tracing::warn!(%error, "files are not watched: they are looked at every second")
            }
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
    pub(super) fn follow(&mut self) {
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
                tracing::warn!(%directory, %error, "not watched: its files are looked at every second");
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
        self.changing = None;
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

    /// Looks at the files, and says whether they are to be read at `now`.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        let stamps: Stamps = self.seen.keys().map(|file| (file.clone(), Stamp::of(file))).collect();
        if stamps == self.seen {
            self.changing = None;
            return Look::Unchanged;
        }
        let changing = self.changing.get_or_insert_with(|| Changing {
            stamps: stamps.clone(),
            still: now,
            since: now,
        });
        if changing.stamps != stamps {
            (changing.stamps, changing.still) = (stamps, now);
        }
        let late = now.saturating_duration_since(changing.since) >= LONGEST;
        let settled = changing.still + SETTLE;
        if now < settled && !late {
            return Look::Again(settled);
        }
        let changed = changing.stamps.iter().filter(|(file, stamp)| self.seen[*file] != **stamp);
        let written = changed.map(|(file, _)| file).find(|file| is_written(file));
        match written {
            Some(_) if !late => return Look::Again(now + SETTLE),
            Some(file) => {
                let file = file.display();
                tracing::warn!(%file, "still open for writing after {LONGEST:?}: read all the same");
            }
            None => {}
        }
        Look::Read
    }

    /// Whether a file is not as it was noted.
    fn changed(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;

    fn one() -> (tempfile::TempDir, PathBuf, Watched) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let watched = Watched::new(std::slice::from_ref(&file));
        (dir, file, watched)
    }

    #[test]
    fn files_are_read_once_when_they_have_been_still() {
        let (_dir, file, mut watched) = one();
        let now = Instant::now();
        assert_eq!(watched.look(now), Look::Unchanged);
        fs::write(&file, "another").unwrap();
        assert_eq!(watched.look(now), Look::Again(now + SETTLE));
        fs::write(&file, "and another").unwrap();
        let later = now + SETTLE;
        assert_eq!(watched.look(later), Look::Again(later + SETTLE));
        assert_eq!(watched.look(later + SETTLE), Look::Read);
        watched.note();
        assert_eq!(watched.look(later + SETTLE), Look::Unchanged);
        // One that is gone is a change, and once it was noted it is none any more.
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.look(now), Look::Again(now + SETTLE));
        assert_eq!(watched.look(now + SETTLE), Look::Read);
        watched.note();
        assert_eq!(watched.look(now + LONGEST), Look::Unchanged);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone_for_so_long_and_no_longer() {
        let (_dir, file, mut watched) = one();
        let now = Instant::now();
        let mut writer = File::create(&file).unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(watched.look(now), Look::Again(now + SETTLE));
        let later = now + Duration::from_secs(5);
        assert_eq!(watched.look(later), Look::Again(later + SETTLE));
        assert_eq!(watched.look(now + LONGEST), Look::Read);
        drop(writer);
        assert_eq!(watched.look(later), Look::Read);
        // What is never still is read, too.
        watched.note();
        for step in 0..100_u32 {
            fs::write(&file, step.to_string()).unwrap();
            let at = now + step * SETTLE;
            assert_eq!(watched.look(at), Look::Again(at + SETTLE), "{step}");
        }
        fs::write(&file, "the last").unwrap();
        assert_eq!(watched.look(now + LONGEST), Look::Read);
    }
}
