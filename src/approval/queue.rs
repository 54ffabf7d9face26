//! The entries of one sandbox.
//!
//! Owns who waits for what, and the grants that the answers made. Invariants: at most
//! `max_pending` entries wait and `max_held` clients are held; a number is never given twice; an
//! entry that waits is unknown under the rules in force.

mod ends;
mod entry;
mod neighbours;
mod numbers;
mod put;

pub use entry::{Decided, Entry, Outcome, State};
pub use neighbours::Neighbours;
pub use numbers::Numbers;
pub use put::Asking;

use super::asked::{Asked, Key};
use super::hold::{Release, Waiter};
use super::risk::Note;
use super::{About, Mode, Settings};
use crate::addr::Authority;
use crate::policy::{
    Approval, Client, Grant, GrantId, Overlay, OwnedAsk, Rules, Ticket, TunnelVerdict, Verdict,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};

/// How long an answer for one request waits for a client that has left.
pub(super) const LEFT_FOR: Duration = Duration::from_secs(600);
/// How long an answered entry can be seen and undone.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How many answered entries can be seen.
const MOST_REMEMBERED: usize = 1000;
/// Previews of one sandbox take at most this together, in bytes; later ones are cut short.
const MOST_PREVIEWS: usize = 16 << 20;
/// What is kept of a preview beyond that.
const SHORT_PREVIEW: usize = 4096;

/// What the heads of all that one sandbox asks make of what is shown is at most this long together, in bytes:
/// whoever reads the queue reads all of it. What finds no room is dropped.
const MOST_HEADS: usize = 24 << 20;

/// Puts grants in force.
type Publish = Box<dyn Fn(Arc<Overlay>) + Send + Sync>;
/// Finds what may be wrong with what is asked.
type Notes = Box<dyn Fn(&Asked) -> Vec<Note> + Send + Sync>;

/// What a queue is made of.
pub struct Parts {
    /// Whose it is.
    pub sandbox: Arc<str>,
    /// How it asks.
    pub settings: Settings,
    /// Where numbers come from, for all sandboxes.
    pub numbers: Arc<Numbers>,
    /// How many panes and watchers listen.
    pub attended: watch::Receiver<usize>,
    /// Told when something has changed, for whoever tells of it.
    pub changed: Arc<Notify>,
    /// Puts grants in force. Called under the queue's lock: it must not come back.
    pub publish: Publish,
    /// What may be wrong with an entry, found when it is made.
    pub risk: Notes,
    /// The grants of an earlier run.
    pub grants: Vec<Arc<Grant>>,
}

/// The queue of one sandbox.
pub struct Queue {
    sandbox: Arc<str>,
    settings: Settings,
    numbers: Arc<Numbers>,
    attended: watch::Receiver<usize>,
    publish: Publish,
    risk: Notes,
    held: AtomicUsize,
    /// Entries about TLS that can't be ended, ever: most gateways see none.
    opaque: AtomicUsize,
    /// Nobody is asked, and no answer stands.
    closed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) entries: BTreeMap<u64, Entry>,
    by_key: HashMap<Key, u64>,
    pub(super) grants: BTreeMap<GrantId, Arc<Grant>>,
    pending: usize,
    previews: usize,
    heads: usize,
    dropped: u64,
    changes: BTreeMap<u64, Change>,
    /// The entry that was told of last.
    told: u64,
    grants_changed: bool,
    bell: Arc<Notify>,
}

/// What became of an entry since it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, was asked again, or other clients wait.
    Pending,
    /// Its last client left.
    Gone,
    /// It was answered.
    Decided,
    /// It was kept long enough, or the rules answered it.
    Expired,
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that are held.
    pub held: usize,
    /// Entries that wait.
    pub pending: usize,
    /// Questions that were dropped because the queue was full.
    pub dropped: u64,
    /// Approvals and denials that stand.
    pub grants: usize,
}

/// Somebody listens for questions; dropping it says that they have left.
#[derive(Debug)]
pub struct Attendance(watch::Sender<usize>);

impl Attendance {
    /// One more listens.
    pub fn new(attended: &watch::Sender<usize>) -> Self {
        attended.send_modify(|count| *count += 1);
        Self(attended.clone())
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Settings {
    /// How long a client is held.
    pub(super) fn hold(&self, listens: bool) -> Duration {
        if listens { self.timeout } else { self.unattended.min(self.timeout) }
    }
}

impl Queue {
    /// A queue, with the grants of an earlier run in force.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { sandbox, settings, numbers, attended, changed, publish, risk, grants } = parts;
        let grants = grants.into_iter().map(|grant| (grant.id, grant)).collect();
        let inner = Inner { grants, bell: changed, ..Inner::default() };
        let queue = Self {
            sandbox,
            settings,
            numbers,
            attended,
            publish,
            risk,
            held: AtomicUsize::new(0),
            opaque: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            inner: Mutex::new(inner),
        };
        queue.publish(&queue.lock());
        Arc::new(queue)
    }

    /// Whose it is.
    pub fn sandbox(&self) -> &Arc<str> {
        &self.sandbox
    }

    /// How it asks.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn attended(&self) -> watch::Receiver<usize> {
        self.attended.clone()
    }

    /// Where its numbers come from.
    pub fn numbers(&self) -> &Arc<Numbers> {
        &self.numbers
    }

    /// The number of a grant that answers no entry; `None` until more were reserved.
    pub fn new_grant(&self) -> Option<GrantId> {
        self.numbers.grant()
    }

    /// How long a client that asks now would be held.
    pub fn holds_for(&self) -> Duration {
        self.settings.hold(*self.attended.borrow() > 0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the grants that stand in force.
    pub(super) fn publish(&self, inner: &Inner) {
        let grants = inner.grants.values().filter(|_| !self.is_closed());
        (self.publish)(Arc::new(Overlay::new(grants.cloned())));
    }

    /// How things stand.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            held: self.held.load(Ordering::Relaxed),
            pending: inner.pending,
            dropped: inner.dropped,
            grants: inner.grants.len(),
        }
    }

    /// Whether anybody would be asked about something on a host that a rule names, or does not.
    pub fn asks(&self, known_host: bool) -> bool {
        if self.is_closed() {
            return false;
        }
        match (self.settings.mode, self.settings.about) {
            (Mode::Deny, _) => false,
            (Mode::Hold | Mode::Queue, About::NewHosts) => !known_host,
            (Mode::Hold | Mode::Queue, About::Any) => true,
        }
    }

    /// The answer that waits for the next try of a client that does not let its TLS be ended.
    pub fn opaque_ticket(
        &self,
        client: &Client,
        target: &Authority,
        now: SystemTime,
    ) -> Option<Arc<Ticket>> {
        if self.opaque.load(Ordering::Relaxed) == 0 || self.is_closed() {
            return None;
        }
        let mut inner = self.lock();
        inner.entries.values_mut().find_map(|entry| {
            let intent = &entry.asked.intent;
            let same = matches!(intent.ask, OwnedAsk::Opaque)
                && intent.target == *target
                && entry.asked.binary() == super::asked::binary(client);
            if !same {
                return None;
            }
            // It stays until it is spent: the rules may have another use for this client.
            entry.drop_left(now);
            entry.left.as_ref().map(|(ticket, _)| ticket.clone())
        })
    }

    /// Waits at an entry from outside, as the agent does at `policy.local`. It counts as held,
    /// and is never given a ticket. `None` where the entry is unknown or too many wait.
    pub fn watch(self: &Arc<Self>, number: u64, most: Duration) -> Option<Watching> {
        let mut inner = self.lock();
        if self.held.load(Ordering::Relaxed) >= self.settings.max_held {
            return None;
        }
        let entry = inner.entries.get_mut(&number)?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Some(Watching { queue: self.clone(), told: entry.told.subscribe(), most })
    }

    /// A client has left, or was let go.
    pub(super) fn leave(&self, number: u64, waiter: &Arc<Waiter>) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.entries.get_mut(&number) else { return };
        entry.waiters.retain(|(other, _)| !Arc::ptr_eq(other, waiter));
        // An answer that nobody took up waits for whoever asks next.
        if let Some(Release::Ticket(ticket)) = waiter.take()
            && ticket.is_open()
        {
            entry.left = Some((ticket, SystemTime::now() + LEFT_FOR));
            let key = entry.asked.key();
            inner.by_key.insert(key, number);
        }
        let Some(entry) = inner.entries.get(&number) else { return };
        if entry.state == State::Pending {
            let change = if entry.waiters.is_empty() { Change::Gone } else { Change::Pending };
            inner.changed(number, change);
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    /// One entry.
    pub fn entry(&self, number: u64) -> Option<Entry> {
        self.lock().entries.get(&number).cloned()
    }

    /// The grants that stand, oldest first.
    pub fn grants(&self) -> Vec<Arc<Grant>> {
        self.lock().grants.values().cloned().collect()
    }

    /// What changed since this was last asked: at most so many entries with their last change, and
    /// whether grants did. All have their turn, in the order of their numbers.
    pub fn take_changes(&self, most: usize) -> (Vec<(u64, Change)>, bool) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let after = inner.changes.range(inner.told + 1..);
        let around = after.chain(inner.changes.range(..=inner.told));
        let changes: Vec<(u64, Change)> = around.take(most).map(|(n, c)| (*n, *c)).collect();
        for (number, _) in &changes {
            inner.changes.remove(number);
            inner.told = *number;
        }
        if !inner.changes.is_empty() {
            inner.bell.notify_one();
        }
        (changes, std::mem::take(&mut inner.grants_changed))
    }

    /// The rules have changed: entries that they answer go, the others are asked under them, and
    /// every client is judged again (I7).
    pub fn rules_changed(&self, rules: &Rules, now: SystemTime) {
        let mut inner = self.lock();
        let mut answered = Vec::new();
        for entry in inner.entries.values_mut() {
            if entry.state == State::Pending && entry.ask_again(rules, now) {
                answered.push(entry.number);
            }
            for (waiter, _) in &entry.waiters {
                waiter.release(Release::Judge);
            }
        }
        for number in answered {
            inner.close(number, State::Expired, now);
            inner.changed(number, Change::Expired);
        }
    }

    /// The rules have changed while something was asked about under those from before.
    pub fn catch_up(&self, asked: &Rules, rules: &Rules, now: SystemTime) {
        if asked.policy.id() != rules.policy.id() {
            self.rules_changed(rules, now);
        }
    }

    /// Whether there is nothing that time could take away.
    pub fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.entries.is_empty() && inner.grants.is_empty()
    }

    /// Takes away what has had its time: grants, entries, answers that nobody took up. Gives the
    /// grants that ended.
    pub fn sweep(&self, now: SystemTime) -> Vec<Arc<Grant>> {
        let mut inner = self.lock();
        let (stand, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut inner.grants).into_iter().partition(|(_, g)| g.stands(now));
        inner.grants = stand;
        if !ended.is_empty() {
            self.publish(&inner);
            inner.grants_changed();
        }
        let keep = self.settings.keep;
        let mut late = BTreeSet::new();
        let mut forgotten = BTreeSet::new();
        for entry in inner.entries.values_mut() {
            entry.drop_left(now);
            match entry.state {
                State::Pending if entry.kept_until(keep) <= now && entry.waiters.is_empty() => {
                    late.insert(entry.number);
                }
                State::Pending => {}
                _ if entry.decided_before(now, REMEMBERED) => {
                    forgotten.insert(entry.number);
                }
                _ => {}
            }
        }
        for number in late {
            inner.close(number, State::Expired, now);
            inner.changed(number, Change::Expired);
        }
        forgotten.into_iter().for_each(|number| inner.forget(number));
        inner.forget_beyond(MOST_REMEMBERED);
        ended.into_values().collect()
    }
}

/// Somebody who waits at an entry without having asked.
#[derive(Debug)]
pub struct Watching {
    queue: Arc<Queue>,
    told: watch::Receiver<State>,
    most: Duration,
}

impl Watching {
    /// Waits until the entry is answered, as long as was asked for.
    pub async fn answered(mut self) {
        let most = self.most;
        let answered = self.told.wait_for(|state| *state != State::Pending);
        drop(tokio::time::timeout(most, answered).await);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.queue.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    pub(super) fn changed(&mut self, number: u64, change: Change) {
        self.changes.insert(number, change);
        self.bell.notify_one();
    }

    pub(super) fn grants_changed(&mut self) {
        self.grants_changed = true;
        self.bell.notify_one();
    }
}

impl Entry {
    /// Asks it under other rules. True where they answer it.
    fn ask_again(&mut self, rules: &Rules, now: SystemTime) -> bool {
        let intent = &self.asked.intent;
        let unseen = !matches!(intent.ask, OwnedAsk::Request { .. });
        if unseen && rules.blind(&intent.client, &intent.target, now) {
            return true;
        }
        let question = match &intent.ask {
            OwnedAsk::Opaque => {
                match rules.judge_tunnel(&intent.client, &intent.target, now, None) {
                    TunnelVerdict::Relay(_) | TunnelVerdict::Deny(_) => return true,
                    TunnelVerdict::Inspect => self.asked.question.clone(),
                    TunnelVerdict::Unknown(question) => question,
                }
            }
            OwnedAsk::Bytes | OwnedAsk::Request { .. } => {
                match intent.judge(rules, now, Some(&self.asked.body), None) {
                    Some(Verdict::Unknown(question)) => question,
                    Some(Verdict::Allow(_) | Verdict::Audit(_) | Verdict::Deny(_)) | None => {
                        return true;
                    }
                }
            }
        };
        let asked = Arc::make_mut(&mut self.asked);
        asked.known_host = rules.policy.names_host(&asked.intent.target.host);
        asked.policy = rules.policy.id();
        asked.question = question;
        self.digest = self.asked.digest(self.number, self.answers);
        false
    }
}

impl Decided {
    pub(super) fn new(approval: Arc<Approval>, breadth: super::Breadth) -> Self {
        Self { approval, breadth, outcome: Outcome::Nothing, released: 0 }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}
