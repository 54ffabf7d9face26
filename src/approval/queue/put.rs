//! A question becomes an entry, or joins the one that asks the same.

use super::{Change, Entry, Inner, Queue, State};
use super::{LEFT_FOR, MOST_HEADS, MOST_PREVIEWS, SHORT_PREVIEW};
use crate::approval::asked::{Asked, Key};
use crate::approval::hold::{Hold, Waiter};
use crate::approval::{Kind, Mode};
use crate::policy::Ticket;
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long a question waits for a number.
const NUMBERED_WITHIN: Duration = Duration::from_secs(5);

/// What came of asking.
#[derive(Debug)]
pub enum Asking {
    /// Nobody is asked about this.
    NotAsked,
    /// It was answered before, for one request: judge again with this.
    Ticket(Arc<Ticket>),
    /// It was answered before, for one request that is still to come.
    Answered(u64),
    /// The client waits.
    Held(Hold),
    /// It is asked, and not held.
    Queued(u64),
    /// Too many wait already; the entry's number, where there is one.
    Full(Option<u64>),
}

/// What an entry has for one who asks the same.
enum Again {
    /// An answer that waited for them.
    Ticket(Arc<Ticket>),
    /// The same, and whoever asks has nothing to send yet.
    Answered(u64),
    /// It waits still.
    Waits(u64),
    /// It is answered, for others.
    Closed,
}

impl Queue {
    /// Asks about `asked`. With `hold`, the client waits where the mode says so. Where numbers have
    /// run out it waits for some: what another sandbox asks takes no question of this one away.
    pub async fn ask(self: &Arc<Self>, mut asked: Asked, hold: bool, now: SystemTime) -> Asking {
        let until = Instant::now() + NUMBERED_WITHIN;
        loop {
            let mut more = pin!(self.numbers.more());
            more.as_mut().enable();
            match self.put(asked, hold, now) {
                Ok(asking) => return asking,
                Err(unnumbered) => asked = *unnumbered,
            }
            if tokio::time::timeout_at(until, more).await.is_err() {
                self.lock().dropped += 1;
                return Asking::Full(None);
            }
        }
    }

    /// The same where nothing can be waited for.
    pub fn ask_now(self: &Arc<Self>, asked: Asked, hold: bool, now: SystemTime) -> Asking {
        self.put(asked, hold, now).unwrap_or_else(|_| {
            self.lock().dropped += 1;
            Asking::Full(None)
        })
    }

    /// Puts a question in; it comes back where there is no number for it.
    fn put(
        self: &Arc<Self>,
        asked: Asked,
        hold: bool,
        now: SystemTime,
    ) -> Result<Asking, Box<Asked>> {
        if !self.asks(asked.known_host) {
            return Ok(Asking::NotAsked);
        }
        let key = asked.key();
        let mut inner = self.lock();
        let known = inner.by_key.get(&key).copied();
        let number = match known.map(|number| inner.again(number, now, hold)) {
            Some(Again::Ticket(ticket)) => return Ok(Asking::Ticket(ticket)),
            Some(Again::Answered(number)) => return Ok(Asking::Answered(number)),
            Some(Again::Waits(number)) => {
                self.comes_true(&mut inner, number, asked);
                number
            }
            Some(Again::Closed) | None => {
                if !self.has_room(&mut inner, asked.head_len(), now) {
                    inner.dropped += 1;
                    return Ok(Asking::Full(None));
                }
                let Some(number) = self.numbers.request() else { return Err(Box::new(asked)) };
                self.enter(&mut inner, (number, key), asked, now);
                number
            }
        };
        inner.changed(number, Change::Pending);
        if !hold || self.settings.mode != Mode::Hold {
            return Ok(Asking::Queued(number));
        }
        let held = self.hold(&mut inner, number, None);
        Ok(held.map_or(Asking::Full(Some(number)), Asking::Held))
    }

    /// What was asked ahead is there: it is shown in the place of what was said of it.
    fn comes_true(&self, inner: &mut Inner, number: u64, asked: Asked) {
        let Some(entry) = inner.entries.get(&number) else { return };
        if entry.asked.kind != Kind::Ahead || asked.kind == Kind::Ahead {
            return;
        }
        let reason = entry.asked.reason.clone();
        let was = entry.asked.head_len();
        let asked = self.shortened(inner, Asked { reason, ..asked });
        inner.heads = inner.heads.saturating_sub(was) + asked.head_len();
        let risk = (self.risk)(&asked);
        if let Some(entry) = inner.entries.get_mut(&number) {
            entry.shows(asked, risk);
        }
    }

    /// Its preview, as long as there is room for it among the others.
    fn shortened(&self, inner: &mut Inner, mut asked: Asked) -> Asked {
        let most = MOST_PREVIEWS.saturating_sub(inner.previews).max(SHORT_PREVIEW);
        let bytes = &mut asked.preview.bytes;
        if bytes.len() > most {
            // A copy: a part of them would keep them all.
            *bytes = Bytes::copy_from_slice(&bytes[..most]);
        }
        inner.previews += asked.preview.bytes.len();
        asked
    }

    /// Whether one more may wait, once what had its chance has gone.
    fn has_room(&self, inner: &mut Inner, head: usize, now: SystemTime) -> bool {
        let fits = |inner: &Inner| inner.heads + head <= MOST_HEADS;
        while !fits(inner) {
            // What nobody answered is seen afterwards as long as there is room.
            if !inner.forget_expired() && !inner.make_room(now) {
                return false;
            }
        }
        inner.pending < self.settings.max_pending || inner.make_room(now)
    }

    /// Makes an entry.
    fn enter(&self, inner: &mut Inner, (number, key): (u64, Key), asked: Asked, now: SystemTime) {
        let asked = self.shortened(inner, asked);
        if asked.kind == Kind::Opaque {
            self.opaque.fetch_add(1, Ordering::Relaxed);
        }
        inner.heads += asked.head_len();
        let risk = (self.risk)(&asked);
        let entry = Entry::new(number, asked, risk, now);
        inner.by_key.insert(key, number);
        inner.entries.insert(number, entry);
        inner.pending += 1;
    }

    /// Holds a client at an entry that waits.
    pub(super) fn hold(
        self: &Arc<Self>,
        inner: &mut Inner,
        number: u64,
        most: Option<Duration>,
    ) -> Option<Hold> {
        if self.held.load(Ordering::Relaxed) >= self.settings.max_held {
            inner.dropped += 1;
            return None;
        }
        let entry = inner.entries.get_mut(&number)?;
        self.held.fetch_add(1, Ordering::Relaxed);
        let waiter = Arc::new(Waiter::default());
        let since = Instant::now();
        entry.waiters.push((waiter.clone(), since));
        Some(Hold { queue: self.clone(), number, waiter, since, most })
    }
}

impl Inner {
    fn again(&mut self, number: u64, now: SystemTime, sends: bool) -> Again {
        let Some(entry) = self.entries.get_mut(&number) else { return Again::Closed };
        entry.drop_left(now);
        if !sends && entry.left.is_some() {
            return Again::Answered(number);
        }
        if let Some((ticket, _)) = entry.left.take() {
            return Again::Ticket(ticket);
        }
        if entry.state != State::Pending {
            return Again::Closed;
        }
        entry.count += 1;
        entry.last_seen = now;
        Again::Waits(number)
    }

    /// Drops the entry that was last asked the longest ago, nobody waits at, and that had its
    /// chance.
    fn make_room(&mut self, now: SystemTime) -> bool {
        let stale = |entry: &&Entry| {
            entry.state == State::Pending
                && entry.waiters.is_empty()
                && now.duration_since(entry.last_seen).is_ok_and(|since| since >= LEFT_FOR)
        };
        let oldest = self.entries.values().filter(stale).min_by_key(|entry| entry.last_seen);
        let Some(number) = oldest.map(|entry| entry.number) else { return false };
        self.dropped += 1;
        self.close(number, State::Expired, now);
        self.changed(number, Change::Expired);
        true
    }
}
