//! How an entry's waiting ends, begins anew, and how it is forgotten; and how all of it is closed.

use super::{Change, Entry, Inner, Queue, State};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

impl Queue {
    /// Asks nobody from now on, ends what waits, and keeps every grant out of force.
    pub fn close(&self, now: SystemTime) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        self.closed.store(true, Ordering::Release);
        self.publish(inner);
        let mut waiting = Vec::new();
        for entry in inner.entries.values_mut() {
            entry.left = None;
            if entry.state == State::Pending {
                waiting.push(entry.number);
            }
        }
        for number in waiting {
            inner.close(number, State::Expired, now);
            inner.changed(number, Change::Expired);
        }
    }

    /// Asks again, and puts the grants that stand back in force.
    pub fn open(&self) {
        let inner = self.lock();
        if self.closed.swap(false, Ordering::AcqRel) {
            self.publish(&inner);
        }
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Inner {
    /// Ends the waiting of an entry. It can be seen for a while.
    pub(in crate::approval) fn close(&mut self, number: u64, state: State, now: SystemTime) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.state == State::Pending {
            self.pending -= 1;
        }
        entry.state = state;
        entry.closed = Some(now);
        entry.told.send_replace(state);
        // Who asks the same again asks anew, unless an answer waits for them.
        if entry.left.is_none() {
            self.by_key.retain(|_, other| *other != number);
        }
    }

    /// An entry waits again.
    pub(in crate::approval) fn reopen(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.state != State::Pending {
            self.pending += 1;
        }
        entry.state = State::Pending;
        entry.closed = None;
        entry.decided = None;
        entry.left = None;
        entry.told.send_replace(State::Pending);
        let key = entry.asked.key();
        self.by_key.insert(key, number);
    }

    pub(super) fn forget(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.previews -= entry.asked.preview.bytes.len().min(self.previews);
            self.heads -= entry.asked.head_len().min(self.heads);
            self.by_key.retain(|_, other| *other != number);
        }
    }

    pub(super) fn forget_expired(&mut self) -> bool {
        let expired = |entry: &&Entry| entry.state == State::Expired;
        let all: Vec<u64> = self.entries.values().filter(expired).map(|e| e.number).collect();
        all.iter().for_each(|number| self.forget(*number));
        !all.is_empty()
    }

    pub(super) fn forget_beyond(&mut self, most: usize) {
        let closed: Vec<u64> = self
            .entries
            .values()
            .filter(|entry| entry.state != State::Pending)
            .map(|entry| entry.number)
            .collect();
        let beyond = closed.len().saturating_sub(most);
        closed.into_iter().take(beyond).for_each(|number| self.forget(number));
    }
}
