//! Numbers of entries and grants: short enough to type, never given twice.

use crate::policy::GrantId;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Numbers, from blocks that were reserved before (and written down, so that a restart does not
/// give them again). Where a block is used up and no other was reserved, none are given.
#[derive(Debug)]
pub struct Numbers {
    requests: Block,
    grants: Block,
    /// How few may be left before more are wanted.
    few: u64,
    wanted: Notify,
    more: Notify,
}

#[derive(Debug)]
struct Block {
    next: AtomicU64,
    /// The first number that is not reserved.
    end: AtomicU64,
}

impl Numbers {
    /// Numbers from `requests` and `grants` on, `count` of each.
    pub fn new(requests: u64, grants: u64, count: u64) -> Self {
        let block = |first: u64| Block {
            next: AtomicU64::new(first),
            end: AtomicU64::new(first.saturating_add(count)),
        };
        let (wanted, more) = (Notify::new(), Notify::new());
        Self { requests: block(requests), grants: block(grants), few: count / 2, wanted, more }
    }

    /// The number of an entry.
    pub fn request(&self) -> Option<u64> {
        self.take(&self.requests)
    }

    /// The number of a grant.
    pub fn grant(&self) -> Option<GrantId> {
        self.take(&self.grants).map(GrantId)
    }

    fn take(&self, block: &Block) -> Option<u64> {
        let taken = block.take();
        if block.left() < self.few {
            self.wanted.notify_one();
        }
        taken
    }

    /// Ends when few are left. One waits here: whoever reserves more.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// More are wanted, also if nobody takes one.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Ends when more entries can be numbered.
    pub fn more(&self) -> Notified<'_> {
        self.more.notified()
    }

    /// How many entries can still be numbered, and how many grants.
    pub fn left(&self) -> (u64, u64) {
        (self.requests.left(), self.grants.left())
    }

    /// `count` more entries can be numbered: they directly follow those reserved before.
    pub fn more_requests(&self, count: u64) {
        self.requests.end.fetch_add(count, Ordering::AcqRel);
        self.more.notify_waiters();
    }

    /// The same for grants.
    pub fn more_grants(&self, count: u64) {
        self.grants.end.fetch_add(count, Ordering::AcqRel);
    }
}

impl Block {
    fn take(&self) -> Option<u64> {
        let end = self.end.load(Ordering::Acquire);
        let next = |n: u64| (n < end).then_some(n + 1);
        self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()
    }

    fn left(&self) -> u64 {
        self.end.load(Ordering::Acquire).saturating_sub(self.next.load(Ordering::Acquire))
    }
}
