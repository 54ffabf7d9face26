//! The writer's thread: takes batches out of the queue and puts them into the files.
//!
//! One write a batch and sandbox, no fsync. A write that fails stops the gate ([`Writing`]); what
//! could not be written is kept (it is bounded by the places it holds) and tried again every
//! second, until it stands in the file or the gateway stops.

use super::file::{self, GATEWAY};
use super::log::Log;
use super::queue::{Entry, Shared, Writing};
use super::{Settings, TrafficError, journal};
use crate::record::{RecordLine, Sink};
use hashbrown::HashMap;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(1);
/// The same while the gateway waits to stop.
const RETRY_STOPPING: Duration = Duration::from_millis(50);
/// How often the journal is written, at most.
const JOURNAL: Duration = Duration::from_secs(1);
/// How often old files are looked for.
const SWEEP: Duration = Duration::from_secs(600);

/// The writer's thread. Stop it last, when nothing is open any more.
#[derive(Debug)]
pub struct WriterThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// How many lines were left, when it is done.
    done: Receiver<usize>,
}

struct Writer {
    settings: Settings,
    sinks: Vec<Box<dyn Sink>>,
    shared: Arc<Shared>,
    logs: HashMap<Arc<str>, Log>,
    /// The lines of the whole gateway.
    gateway: Log,
    batch: Vec<Entry>,
    /// The last write failed: when the next is tried.
    retry: Option<Instant>,
    journal_next: Instant,
    sweep_next: Instant,
}

pub(super) fn start(
    settings: Settings,
    sinks: Vec<Box<dyn Sink>>,
    shared: Arc<Shared>,
    interrupted: Vec<RecordLine>,
) -> Result<WriterThread, TrafficError> {
    let now = Instant::now();
    let mut writer = Writer {
        gateway: Log::new(settings.dir.join(GATEWAY), settings.watchlist.clone(), now),
        settings,
        sinks,
        shared: shared.clone(),
        logs: HashMap::new(),
        batch: Vec::new(),
        retry: None,
        journal_next: now,
        sweep_next: now,
    };
    for line in interrupted {
        let sandbox: Arc<str> = line.sandbox.as_deref().unwrap_or("").into();
        writer.log(&sandbox, now).line(|out| line.write_line(out));
        shared.journal_failed();
    }
    let (tell, done) = sync_channel(1);
    let thread = std::thread::Builder::new().name("traffic".to_owned()).spawn(move || {
        let gone = Gone(writer.shared.clone());
        writer.run();
        let left = gone.0.close() + writer.waiting();
        let _ = tell.send(left);
    });
    Ok(WriterThread { shared, thread: Some(thread.map_err(TrafficError::Thread)?), done })
}

/// However the thread ends, a panicking sink included: nothing passes any more.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl WriterThread {
    /// Writes what waits and ends the thread. Where that takes longer than `within`, says how many
    /// lines are lost.
    pub fn stop(mut self, within: Duration) -> Result<(), TrafficError> {
        self.shared.stop(Instant::now() + within);
        // The thread keeps the deadline itself; the margin is for one write that hangs.
        match self.done.recv_timeout(within + RETRY) {
            Ok(0) => {}
            Ok(left) => return Err(TrafficError::Unwritten(left)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(TrafficError::Unwritten(self.shared.used()));
            }
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        Ok(())
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.shared.stop(Instant::now() + RETRY);
    }
}

impl Writer {
    fn run(&mut self) {
        loop {
            let mut batch = std::mem::take(&mut self.batch);
            let stop = self.shared.wait(self.next(), self.retry.is_some(), &mut batch);
            let now = Instant::now();
            let last = stop.is_some() && batch.is_empty();
            // A flood's room is given back step by step, a steady load's is kept.
            let spare = batch.len() < batch.capacity() / 4 && batch.capacity() > 2048;
            let room = if spare { batch.capacity() / 2 } else { batch.capacity() };
            batch.drain(..).for_each(|entry| self.take(entry, now));
            batch.shrink_to(room);
            self.batch = batch;
            if stop.is_some() || self.retry.is_none_or(|retry| now >= retry) {
                let result = self.flush(now, stop.is_some());
                self.note(result);
            }
            if now >= self.sweep_next {
                self.sweep_next = now + SWEEP;
                self.sweep(now);
            }
            match stop {
                Some(_) if last && self.retry.is_none() => return,
                Some(by) if Instant::now() >= by => return,
                Some(_) if self.retry.is_some() => std::thread::sleep(RETRY_STOPPING),
                Some(_) | None => {}
            }
        }
    }

    /// When the thread must look, even if nothing comes.
    fn next(&self) -> Option<Instant> {
        if self.retry.is_some() {
            return self.retry;
        }
        let owed = self.logs.values().filter_map(Log::due).min();
        let journal = self.shared.journal_changed().then_some(self.journal_next);
        [owed, journal, Some(self.sweep_next)].into_iter().flatten().min()
    }

    fn take(&mut self, entry: Entry, now: Instant) {
        match entry {
            Entry::Record { record, journalled, place } => {
                for sink in &mut self.sinks {
                    sink.record(&record);
                }
                let sandbox = record.sandbox.clone();
                self.log(&sandbox, now).record(record, journalled, place);
            }
            Entry::Event(time, event) => {
                let log = match event.sandbox() {
                    Some(sandbox) => self.log(sandbox, now),
                    None => &mut self.gateway,
                };
                log.line(|out| event.write_line(time, out));
            }
        }
    }

    fn log(&mut self, sandbox: &Arc<str>, now: Instant) -> &mut Log {
        let Settings { dir, watchlist, .. } = &self.settings;
        self.logs
            .entry(sandbox.clone())
            .or_insert_with(|| Log::new(dir.join(file::folder(sandbox)), watchlist.clone(), now))
    }

    /// Writes what waits, then what is still open. A log that fails does not keep the others from
    /// being written; the first error is the one that counts.
    fn flush(&mut self, now: Instant, stopping: bool) -> io::Result<()> {
        let mut result = Ok(());
        for log in self.logs.values_mut().chain([&mut self.gateway]) {
            log.roll(now, stopping);
            match log.flush(&self.settings, now) {
                Ok(mut ended) => {
                    if ended.len() > 0 {
                        self.shared.forget(&mut ended);
                    }
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result?;
        if (now >= self.journal_next || stopping)
            && let Some(lines) = self.shared.drafts()
        {
            self.journal_next = now + JOURNAL;
            journal::write(&self.settings.journal, &lines)
                .inspect_err(|_| self.shared.journal_failed())?;
        }
        Ok(())
    }

    /// Opens or shuts the gate, and says so once.
    fn note(&mut self, result: io::Result<()>) {
        let was = self.retry.is_some();
        match result {
            Ok(()) => {
                self.retry = None;
                if was {
                    self.shared.set_writing(Writing::Fine);
                    tracing::warn!("traffic records are written again");
                }
            }
            Err(error) => {
                self.retry = Some(Instant::now() + RETRY);
                if !was {
                    self.shared.set_writing(Writing::Failing);
                    let dir = self.settings.dir.display();
                    tracing::error!(%dir, %error, "traffic records can't be written: nothing passes");
                }
            }
        }
    }

    /// Removes old files, of sandboxes that are gone too, and forgets logs that are idle.
    fn sweep(&mut self, now: Instant) {
        let (settings, mut busy) = (&self.settings, HashSet::from([GATEWAY.to_owned()]));
        self.gateway.sweep(settings, now);
        self.logs.retain(|sandbox, log| {
            let idle = log.sweep(settings, now);
            if !idle {
                busy.insert(file::folder(sandbox));
            }
            !idle
        });
        file::sweep_others(&settings.dir, &busy, settings);
    }

    fn waiting(&self) -> usize {
        self.logs.values().chain([&self.gateway]).map(Log::waiting).sum()
    }
}
