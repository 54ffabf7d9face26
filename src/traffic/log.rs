//! One sandbox's stream of lines: what waits to be written, and for whom.
//!
//! Invariant: what was handed in stays here, in order, until it stands in a file.

use super::Settings;
use super::collapse::{Collapse, Counted};
use super::file::{Files, Torn};
use super::queue::Place;
use crate::record::{Id, Record};
use crate::secret::Watchlist;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A file nobody wrote to for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// One sandbox's lines.
#[derive(Debug)]
pub(super) struct Log {
    files: Files,
    /// Whole lines that no file has yet.
    pending: Vec<u8>,
    /// The places in the queue that these lines hold.
    places: Vec<Place>,
    /// What leaves the journal once the lines are written.
    ended: Vec<Id>,
    collapse: Collapse,
    used: Instant,
    /// What must not be written.
    watchlist: Watchlist,
}

impl Log {
    pub(super) fn new(dir: PathBuf, watchlist: Watchlist, now: Instant) -> Self {
        Self {
            files: Files::new(dir),
            pending: Vec::new(),
            places: Vec::new(),
            ended: Vec::new(),
            collapse: Collapse::new(now),
            used: now,
            watchlist,
        }
    }

    /// Takes a record in. One that is only counted gives its place back at once.
    pub(super) fn record(&mut self, record: Record, journalled: Option<Id>, place: Place) {
        self.ended.extend(journalled);
        if let Some(record) = self.collapse.admit(record) {
            self.line(|out| record.write_line(1, out));
            self.places.push(place);
        }
    }

    /// Takes a line in, as `write` writes it, without what must not be written.
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.pending.len();
        write(&mut self.pending);
        self.watchlist.mask_line(&mut self.pending, from);
    }

    /// Writes the counted lines of a second that is over, or of this one `at_once`.
    pub(super) fn roll(&mut self, now: Instant, at_once: bool) {
        for Counted { record, repeat } in self.collapse.roll(now, at_once) {
            self.line(|out| record.write_line(repeat, out));
        }
    }

    /// When a counted line is owed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.collapse.due()
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        self.pending.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Writes what waits, and answers what may leave the journal. What could not be written stays.
    pub(super) fn flush(
        &mut self,
        settings: &Settings,
        now: Instant,
    ) -> std::io::Result<std::vec::Drain<'_, Id>> {
        if !self.pending.is_empty() {
            self.used = now;
            if let Err(Torn { kept, source }) = self.files.append(&self.pending, settings) {
                self.pending.drain(..kept);
                return Err(source);
            }
            self.pending.clear();
            self.pending.shrink_to(1 << 20);
            self.places.clear();
        }
        Ok(self.ended.drain(..))
    }

    /// Removes files that are too old or too many; answers whether the log is idle and can go.
    pub(super) fn sweep(&mut self, settings: &Settings, now: Instant) -> bool {
        self.files.sweep(settings);
        let idle = self.pending.is_empty() && self.due().is_none();
        idle && now.saturating_duration_since(self.used) >= IDLE
    }
}
