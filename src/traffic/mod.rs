//! Writes and rotates the traffic files; nothing passes that can't be recorded (I5).
//!
//! Owns the bounded queue of records, the one thread that writes them, the files and their
//! retention, the journal of what is open for long, and the reading back (`read`). It does not
//! decide what a record says.
//! Before the first byte leaves, a request holds a [`Slot`]; while records can't be written,
//! no slot is given.
//!
//! What a `kill -9` may lose: the closed records of the last 50 ms; of a flood of identical
//! refusals the count of the last second.

mod collapse;
mod file;
mod journal;
mod log;
mod queue;
pub mod read;
mod writer;

pub use file::folder;
pub use queue::{RecordFailure, Recorder, SandboxRecorder, Slot, Writing};
pub use writer::WriterThread;

use crate::record::Sink;
use crate::secret::Watchlist;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where records go and how long they stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `<state_dir>/traffic`: one directory a sandbox below it.
    pub dir: PathBuf,
    /// `<state_dir>/open.json`: tunnels and streams that are open for long.
    pub journal: PathBuf,
    /// A file that has reached this many bytes is followed by a new one.
    pub rotate: u64,
    /// Files whose last line is older are removed.
    pub keep_for: Duration,
    /// The most bytes that one sandbox's files take together; the oldest go first.
    pub max_size: u64,
    /// The most files that one sandbox keeps; `None`: as many as fit.
    pub keep: Option<usize>,
    /// How many records may be open or waiting to be written, in all sandboxes together.
    pub queue: usize,
    /// What is masked in every line.
    pub watchlist: Watchlist,
}

/// Why the writer could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The directory can't be made or is not ours to write.
    #[error("the traffic directory {path} can't be used: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal of an earlier run can't be read.
    #[error("the journal {path} can't be read: {source}")]
    Journal {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no thread.
    #[error("the traffic writer's thread can't be started: {0}")]
    Thread(std::io::Error),
    /// The deadline passed with records unwritten.
    #[error("{0} traffic records could not be written before the gateway stopped")]
    Unwritten(usize),
}

impl Settings {
    /// The settings of a gateway with this state directory, with the defaults of the config.
    pub fn in_state_dir(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("traffic"),
            journal: state_dir.join("open.json"),
            rotate: 64 << 20,
            keep_for: Duration::from_secs(30 * 24 * 60 * 60),
            max_size: 10 << 30,
            keep: None,
            queue: 65_536,
            watchlist: Watchlist::default(),
        }
    }
}

/// Starts the writer's thread. Tunnels that an earlier run left open are written as `interrupted`
/// first. Each sink sees every record on that thread.
pub fn start(
    settings: Settings,
    sinks: Vec<Box<dyn Sink>>,
) -> Result<(Recorder, WriterThread), TrafficError> {
    file::make_dir(&settings.dir)
        .map_err(|source| TrafficError::Directory { path: settings.dir.clone(), source })?;
    let interrupted = journal::recover(&settings)
        .map_err(|source| TrafficError::Journal { path: settings.journal.clone(), source })?;
    let shared = queue::Shared::new(settings.queue, settings.watchlist.clone());
    let thread = writer::start(settings, sinks, shared.clone(), interrupted)?;
    Ok((Recorder::new(shared), thread))
}
