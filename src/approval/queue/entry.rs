//! One entry of the queue.

use crate::approval::asked::{Asked, Key};
use crate::approval::hold::Waiter;
use crate::approval::risk::Note;
use crate::approval::{Breadth, proposal};
use crate::policy::{Approval, Cover, GrantId, Ticket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// The state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for an answer.
    Pending,
    /// It may leave.
    Approved,
    /// It may not.
    Denied,
    /// Nobody answered, or the rules did.
    Expired,
}

/// An entry. A clone is what it was at one moment.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// What wants to leave.
    pub asked: Arc<Asked>,
    /// What may be wrong with it.
    pub risk: Arc<[Note]>,
    /// Its state.
    pub state: State,
    /// How often it was asked.
    pub count: u64,
    /// When it was first asked.
    pub first_seen: SystemTime,
    /// When it was last asked.
    pub last_seen: SystemTime,
    /// The digest of what is shown.
    pub digest: String,
    /// The pattern that is proposed for its path.
    pub pattern: Option<Arc<str>>,
    /// How it was answered.
    pub decided: Option<Decided>,
    /// How often it was answered and waits on.
    pub(in crate::approval) answers: u64,
    pub(in crate::approval) waiters: Vec<(Arc<Waiter>, Instant)>,
    pub(in crate::approval) left: Option<(Arc<Ticket>, SystemTime)>,
    pub(in crate::approval) group: Key,
    pub(in crate::approval) closed: Option<SystemTime>,
    pub(in crate::approval) told: watch::Sender<State>,
}

/// How an entry was answered.
#[derive(Clone, Debug)]
pub struct Decided {
    /// By whom, and what.
    pub approval: Arc<Approval>,
    /// How much it covers.
    pub breadth: Breadth,
    /// What it made.
    pub outcome: Outcome,
    /// How many clients it let go.
    pub released: usize,
}

/// What an answer made.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing that stands: a denial of those who waited.
    Nothing,
    /// An answer for one request.
    Ticket(Arc<Ticket>),
    /// A grant.
    Grant(GrantId),
    /// A rule.
    Rule {
        /// In this file.
        file: Arc<str>,
        /// What it covers.
        cover: Arc<Cover>,
    },
}

impl Entry {
    pub(super) fn new(number: u64, asked: Asked, risk: Vec<Note>, now: SystemTime) -> Self {
        let pattern = asked.request().map(|(_, path, _)| proposal::generalise(path).into());
        Self {
            number,
            digest: asked.digest(number, 0),
            group: asked.group(),
            pattern,
            asked: Arc::new(asked),
            risk: risk.into(),
            state: State::Pending,
            count: 1,
            first_seen: now,
            last_seen: now,
            decided: None,
            answers: 0,
            waiters: Vec::new(),
            left: None,
            closed: None,
            told: watch::Sender::new(State::Pending),
        }
    }

    /// How many clients wait at it.
    pub fn held(&self) -> usize {
        self.waiters.len()
    }

    /// How long the client that came last will still wait if it is held for `within`.
    pub fn held_for(&self, within: Duration) -> Option<Duration> {
        let (_, last) = self.waiters.last()?;
        Some((*last + within).saturating_duration_since(Instant::now()))
    }

    /// When it goes, unless it is asked again.
    pub fn kept_until(&self, keep: Duration) -> SystemTime {
        self.last_seen + keep
    }

    pub(super) fn decided_before(&self, now: SystemTime, ago: Duration) -> bool {
        let since = self.closed.and_then(|closed| now.duration_since(closed).ok());
        self.left.is_none() && since.is_some_and(|since| since >= ago)
    }

    /// It is another entry than was shown: whoever answers must look again.
    pub(in crate::approval) fn answered_once(&mut self) {
        self.answers += 1;
        self.digest = self.asked.digest(self.number, self.answers);
    }

    /// It shows something else that is asked by the same key.
    pub(super) fn shows(&mut self, asked: Asked, risk: Vec<Note>) {
        self.digest = asked.digest(self.number, self.answers);
        self.group = asked.group();
        self.asked = Arc::new(asked);
        self.risk = risk.into();
    }

    /// Drops an answer that nobody took up in time, or that is spent.
    pub(super) fn drop_left(&mut self, now: SystemTime) {
        let over = |(ticket, until): &(Arc<Ticket>, SystemTime)| *until <= now || !ticket.is_open();
        if self.left.as_ref().is_some_and(over)
            && let Some((ticket, _)) = self.left.take()
        {
            ticket.close();
        }
    }
}
