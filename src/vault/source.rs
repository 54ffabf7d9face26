//! The sources of a value, and how a file is read.

use super::error::Cause;
use crate::addr::Shown;
use crate::secret::{MAX_BYTES, Secret};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// A file that changed so short a time before it was read may change again without its times
/// telling.
const SETTLED: Duration = Duration::from_millis(100);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A variable of the gateway's environment, as it was at the start.
    Env(String),
    /// A file, read again when it changes. Absolute.
    File(PathBuf),
    /// A program's output.
    Command {
        /// The program and its arguments; never empty.
        argv: Vec<String>,
        /// How long a value is good for; `None`: until it is refreshed or refused by an origin.
        ttl: Option<Duration>,
        /// How long the program may take.
        timeout: Duration,
    },
}

/// How a file was when it was read; another file, or other content, has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Source {
    /// The variable that it is, if it is one.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Env(name) => Some(name),
            Self::File(_) | Self::Command { .. } => None,
        }
    }

    /// Whether to read it costs nothing worth avoiding.
    pub(super) fn is_cheap(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }
}

/// Of a command the program alone is shown: its arguments may hold what nobody should see.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {}", Shown::new(name)),
            Self::File(path) => write!(f, "file {}", Shown::new(&path.to_string_lossy())),
            Self::Command { argv, .. } => {
                write!(f, "command {}", Shown::new(argv.first().map_or("", String::as_str)))
            }
        }
    }
}

impl Stamp {
    /// The stamp of the file at `path`; `None` where it can't be seen.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }

    /// `None` for a file that may still be being written.
    fn settled(metadata: &Metadata) -> Option<Self> {
        let age = metadata.modified().ok().map(|at| SystemTime::now().duration_since(at));
        matches!(age, Some(Ok(age)) if age > SETTLED).then(|| Self::from(metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads the file at `path`. Blocks, but not on a pipe or a device: those are refused.
pub(super) fn read(path: &Path) -> Result<(Secret, Option<Stamp>), Cause> {
    let unreadable = |error: std::io::Error| Cause::File(path.to_owned(), error.kind());
    // Asked before it is opened: to open a pipe is to wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Cause::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(
            file = %Shown::new(&path.to_string_lossy()),
            "others on this host can read a credential's file; fix: chmod 600"
        );
    }
    // One more than a value and its end of line have, so that too long is seen as that.
    let limit = MAX_BYTES + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    file.take(limit as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    let secret = Secret::read(std::mem::take(&mut *bytes))?;
    Ok((secret, Stamp::settled(&metadata)))
}
