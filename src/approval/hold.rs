//! A client that waits for an answer. It has a deadline (I6), and leaves by being dropped.

use super::queue::Queue;
use crate::policy::{Approval, Ticket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What ends a wait, or interrupts it.
#[derive(Clone, Debug)]
pub enum Release {
    /// Rules or grants have changed: judge again, and wait on if nothing came of it.
    Judge,
    /// It may leave, this once: judge again with this.
    Ticket(Arc<Ticket>),
    /// The operator said no.
    Denied(Arc<Approval>),
    /// Nobody answered in time.
    TimedOut,
}

/// A waiting client, as its entry knows it.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    release: Mutex<Option<Release>>,
    notify: Notify,
}

/// A place among those who wait; dropping it frees it.
#[derive(Debug)]
pub struct Hold {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) waiter: Arc<Waiter>,
    pub(super) since: Instant,
    /// As long as this at most, whoever listens.
    pub(super) most: Option<Duration>,
}

impl Waiter {
    /// Gives it an answer. A final one is never taken back by a later call to judge again.
    pub(super) fn release(&self, release: Release) {
        let mut slot = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!((&*slot, &release), (Some(_), Release::Judge)) {
            *slot = Some(release);
        }
        drop(slot);
        self.notify.notify_one();
    }

    /// Whether an answer lies there that was not taken up.
    pub(super) fn take(&self) -> Option<Release> {
        self.release.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Hold {
    /// The entry that it waits at.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The answer to its entry, where it has one.
    pub fn approval(&self) -> Option<Arc<Approval>> {
        Some(self.queue.entry(self.number)?.decided?.approval)
    }

    /// How long it has waited.
    pub fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits for an answer, or for something to be judged again by.
    pub async fn next(&mut self) -> Release {
        let mut attended = self.queue.attended();
        loop {
            if let Some(release) = self.waiter.take() {
                return release;
            }
            let listens = *attended.borrow_and_update() > 0;
            let within = self.queue.settings().hold(listens);
            let within = self.most.map_or(within, |most| within.min(most));
            tokio::select! {
                () = self.waiter.notify.notified() => {}
                () = tokio::time::sleep_until(self.since + within) => {
                    // An answer that came at the last moment counts.
                    return self.waiter.take().unwrap_or(Release::TimedOut);
                }
                changed = attended.changed() => {
                    if changed.is_err() {
                        return Release::TimedOut;
                    }
                }
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.queue.leave(self.number, &self.waiter);
    }
}
