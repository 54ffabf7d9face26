//! The bounded queue between the requests and the writer.
//!
//! A [`Slot`] is a place in it: taken before a request may go anywhere, given back once its
//! record stands in the file. A sandbox holds at most as many places as are free in all (the
//! dynamic threshold of Choudhury and Hahne, 1998): alone it gets half of them, with others each
//! gets a fair part, and a flood in one never takes the last place from another.
//!
//! Closing a slot costs one short lock; the writer is woken once a batch, not once a record.

use crate::record::{Event, Id, Record};
use crate::secret::Watchlist;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// How long the writer lets records gather; with the write itself below 50 ms.
const LINGER: Duration = Duration::from_millis(40);

/// How many records are written at once while more come: where the writer shares its core with requests
/// these wait for it, and what was just recorded is still in the cache.
const BATCH: usize = 256;

/// How many events may wait.
const EVENTS: usize = 1024;

/// Why no slot was given. The request must be answered with 503 `record_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFailure {
    /// The queue is full, or this sandbox has its part of it.
    #[error("too many records are open or waiting to be written")]
    Full,
    /// The last write failed; it is tried again every second.
    #[error("traffic records can't be written")]
    Failing,
    /// The writer has stopped.
    #[error("the traffic writer has stopped")]
    Stopped,
}

/// Whether records reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// They do.
    Fine,
    /// The last write failed; it is tried again every second.
    Failing,
    /// The writer has stopped.
    Stopped,
}

/// The way to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    shares: Arc<Mutex<HashMap<Arc<str>, Weak<Share>>>>,
}

/// One sandbox's way to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SandboxRecorder {
    share: Arc<Share>,
}

/// A place in the queue: the promise that one record can be written. End it with
/// [`close`](Self::close). Dropping it is a bug: it counts as lost, and asserts in debug builds.
#[derive(Debug)]
#[must_use = "every accepted request ends in exactly one record"]
pub struct Slot {
    place: Option<Place>,
    /// The id under which it stands in the journal.
    journalled: OnceLock<Id>,
}

/// What the writer finds in the queue.
#[expect(clippy::large_enum_variant, reason = "all but a few are records: a box would cost each")]
pub(super) enum Entry {
    /// A record that has ended.
    Record {
        record: Record,
        /// It stands in the journal under this id.
        journalled: Option<Id>,
        place: Place,
    },
    /// Something that happened to the gateway.
    Event(SystemTime, Box<Event>),
}

/// One unit of the queue's bound; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Share>);

/// What one sandbox holds.
#[derive(Debug)]
pub(super) struct Share {
    sandbox: Arc<str>,
    used: AtomicUsize,
    shared: Arc<Shared>,
}

/// What the requests and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    watchlist: Watchlist,
    capacity: usize,
    used: AtomicUsize,
    writing: AtomicU8,
    /// Slots that were dropped without a record.
    lost: AtomicU64,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// What is open for long, each as the line that it would be.
    journal: Mutex<HashMap<Id, Vec<u8>>>,
    journal_changed: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    entries: Vec<Entry>,
    events: usize,
    /// The writer waits for a first entry.
    asleep: bool,
    /// Something else than an entry wants the writer: it looks once.
    nudged: bool,
    /// Asked to stop, at the latest then.
    stop: Option<Instant>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, shares: Arc::default() }
    }

    /// The way for one sandbox; all that are made for one name share its part of the queue.
    pub fn for_sandbox(&self, sandbox: &Arc<str>) -> SandboxRecorder {
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(sandbox).and_then(Weak::upgrade) {
            return SandboxRecorder { share };
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share {
            sandbox: sandbox.clone(),
            used: AtomicUsize::new(0),
            shared: self.shared.clone(),
        });
        shares.insert(sandbox.clone(), Arc::downgrade(&share));
        SandboxRecorder { share }
    }

    /// Writes an event line. An event that finds no room is an error, which the caller logs.
    pub fn event(&self, event: Event) -> Result<(), RecordFailure> {
        self.shared.event(event)
    }

    /// Whether records reach the disk: for health.
    pub fn writing(&self) -> Writing {
        self.shared.writing()
    }

    /// Records that are open or wait to be written: for a gauge.
    pub fn queued(&self) -> usize {
        self.shared.used()
    }

    /// Slots that were dropped without a record since the start: each is a bug.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl SandboxRecorder {
    /// Takes a place in the queue, or says why nothing may pass.
    pub fn reserve(&self) -> Result<Slot, RecordFailure> {
        let (share, shared) = (&self.share, &*self.share.shared);
        match shared.writing() {
            Writing::Fine => {}
            Writing::Failing => return Err(RecordFailure::Failing),
            Writing::Stopped => return Err(RecordFailure::Stopped),
        }
        // Taken first and given back if it was one too many: two takers never both get the last.
        let place = Place::take(share);
        let all = shared.used.load(Ordering::Relaxed);
        let mine = share.used.load(Ordering::Relaxed);
        if all > shared.capacity || mine > shared.capacity - all + 1 {
            return Err(RecordFailure::Full);
        }
        Ok(Slot { place: Some(place), journalled: OnceLock::new() })
    }

    /// As [`Recorder::event`].
    pub fn event(&self, event: Event) -> Result<(), RecordFailure> {
        self.share.shared.event(event)
    }

    /// The sandbox.
    pub fn sandbox(&self) -> &Arc<str> {
        &self.share.sandbox
    }
}

impl Slot {
    /// Ends the request: its record is written within 50 ms. Never blocks on the disk.
    pub fn close(mut self, record: Record) {
        let Some(place) = self.place.take() else { return };
        let share = place.0.clone();
        let journalled = self.journalled.take();
        let inbox = lock(&share.shared.inbox);
        share.shared.push(inbox, Entry::Record { record, journalled, place });
    }

    /// Puts `draft` into the journal, or replaces the one there: for what has been open for more
    /// than 10 s. Should the gateway die, the next start writes it as `interrupted`.
    pub fn long(&self, draft: &Record) {
        let Some(place) = &self.place else { return };
        let id = *self.journalled.get_or_init(|| draft.id);
        let mut line = Vec::with_capacity(512);
        draft.write_line(1, &mut line);
        let shared = &*place.0.shared;
        shared.watchlist.mask_line(&mut line, 0);
        lock(&shared.journal).insert(id, line);
        shared.journal_changed.store(true, Ordering::Release);
        shared.nudge();
    }

    /// Gives the place back without a record: only for an intercepted tunnel out of which
    /// requests came, each with a record of its own.
    pub fn release(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) -> Option<Place> {
        let place = self.place.take()?;
        if let Some(id) = self.journalled.take() {
            place.0.shared.forget([id]);
            place.0.shared.nudge();
        }
        Some(place)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(place) = self.give_back() {
            place.0.shared.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(sandbox = %place.0.sandbox, "a request ended without a record");
            debug_assert!(std::thread::panicking(), "a slot was dropped without a record (I5)");
        }
    }
}

impl Place {
    fn take(share: &Arc<Share>) -> Self {
        share.used.fetch_add(1, Ordering::Relaxed);
        share.shared.used.fetch_add(1, Ordering::Relaxed);
        Self(share.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.shared.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(capacity: usize, watchlist: Watchlist) -> Arc<Self> {
        Arc::new(Self {
            watchlist,
            capacity: capacity.max(2),
            used: AtomicUsize::new(0),
            writing: AtomicU8::new(0),
            lost: AtomicU64::new(0),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            journal: Mutex::default(),
            journal_changed: AtomicBool::new(false),
        })
    }

    /// How many places are taken.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn writing(&self) -> Writing {
        match self.writing.load(Ordering::Relaxed) {
            0 => Writing::Fine,
            1 => Writing::Failing,
            _ => Writing::Stopped,
        }
    }

    pub(super) fn set_writing(&self, writing: Writing) {
        let number = match writing {
            Writing::Fine => 0,
            Writing::Failing => 1,
            Writing::Stopped => 2,
        };
        self.writing.store(number, Ordering::Relaxed);
    }

    /// A batch of this size is written at once. A sandbox that is alone fills half of the queue.
    fn batch(&self) -> usize {
        (self.capacity / 4).clamp(1, BATCH)
    }

    fn event(&self, event: Event) -> Result<(), RecordFailure> {
        if self.writing() == Writing::Stopped {
            return Err(RecordFailure::Stopped);
        }
        let mut inbox = lock(&self.inbox);
        if inbox.events >= EVENTS {
            return Err(RecordFailure::Full);
        }
        inbox.events += 1;
        self.push(inbox, Entry::Event(SystemTime::now(), Box::new(event)));
        Ok(())
    }

    fn push(&self, mut inbox: MutexGuard<'_, Inbox>, entry: Entry) {
        if self.writing() == Writing::Stopped {
            drop(inbox);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return tracing::error!("a record came after the traffic writer had stopped");
        }
        inbox.entries.push(entry);
        let wake = inbox.asleep || inbox.entries.len() == self.batch();
        inbox.asleep = false;
        drop(inbox);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Waits for a first entry, at most until `until`, lets others gather, and swaps them into
    /// `batch`, which is empty. With `hold`, waits until then and leaves the entries where they
    /// are. Answers the time by which the writer must have stopped, where it was asked to.
    pub(super) fn wait(
        &self,
        until: Option<Instant>,
        hold: bool,
        batch: &mut Vec<Entry>,
    ) -> Option<Instant> {
        let mut inbox = lock(&self.inbox);
        while inbox.stop.is_none()
            && !inbox.nudged
            && (hold || inbox.entries.is_empty())
            && !due(until)
        {
            inbox.asleep = !hold;
            inbox = self.sleep(inbox, until);
        }
        (inbox.asleep, inbox.nudged) = (false, false);
        if hold && inbox.stop.is_none() {
            return None;
        }
        let gathered = Instant::now() + LINGER;
        while inbox.stop.is_none()
            && !inbox.entries.is_empty()
            && inbox.entries.len() < self.batch()
            && !due(Some(gathered))
        {
            inbox = self.sleep(inbox, Some(gathered));
        }
        std::mem::swap(&mut inbox.entries, batch);
        inbox.events = 0;
        inbox.stop
    }

    fn sleep<'a>(
        &self,
        inbox: MutexGuard<'a, Inbox>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Inbox> {
        match until {
            None => self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.wake.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Makes the writer look at the journal.
    fn nudge(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.nudged = true;
        if std::mem::take(&mut inbox.asleep) {
            self.wake.notify_one();
        }
    }

    /// The writer is gone: nothing is taken any more. Answers how many entries nobody will write.
    pub(super) fn close(&self) -> usize {
        let entries = {
            let mut inbox = lock(&self.inbox);
            self.set_writing(Writing::Stopped);
            std::mem::take(&mut inbox.entries)
        };
        entries.len()
    }

    /// Asks the writer to stop by then.
    pub(super) fn stop(&self, by: Instant) {
        lock(&self.inbox).stop = Some(by);
        self.wake.notify_one();
    }

    /// Takes what has ended out of the journal.
    pub(super) fn forget(&self, ids: impl IntoIterator<Item = Id>) {
        let mut journal = lock(&self.journal);
        for id in ids {
            journal.remove(&id);
        }
        self.journal_changed.store(true, Ordering::Release);
    }

    /// The journal's lines, if it has changed since they were last asked for. Who can't write
    /// them says so with [`journal_failed`](Self::journal_failed).
    pub(super) fn drafts(&self) -> Option<Vec<Vec<u8>>> {
        let changed = self.journal_changed.swap(false, Ordering::AcqRel);
        changed.then(|| lock(&self.journal).values().cloned().collect())
    }

    /// Whether the journal on disk is behind.
    pub(super) fn journal_changed(&self) -> bool {
        self.journal_changed.load(Ordering::Acquire)
    }

    /// The journal could not be written: it is tried again.
    pub(super) fn journal_failed(&self) {
        self.journal_changed.store(true, Ordering::Release);
    }
}

fn due(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
