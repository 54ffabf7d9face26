//! An answer for one request: spent once, by compare-and-swap.

use super::Approval;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OPEN: u8 = 0;
const SPENT: u8 = 1;
const REVOKED: u8 = 2;

/// The answer to one entry of the queue, for one request. Never shared, never written down.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    approval: Arc<Approval>,
    state: AtomicU8,
}

/// How a ticket is used.
#[derive(Clone, Copy, Debug)]
pub enum TicketUse<'a> {
    /// For the first time: it is spent by this.
    Spend(&'a Ticket),
    /// By the request that spent it, which is judged again.
    Again(&'a Ticket),
}

impl Ticket {
    /// The answer to entry `number`.
    pub fn new(number: u64, approval: Arc<Approval>) -> Self {
        Self { number, approval, state: AtomicU8::new(OPEN) }
    }

    /// The entry that it answers.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes it back: who has not spent it can't, who has must end. Says whether it was spent.
    pub fn revoke(&self) -> bool {
        self.state.swap(REVOKED, Ordering::AcqRel) == SPENT
    }

    /// Nobody can spend it from now on; who has keeps what it gave.
    pub fn close(&self) {
        // An error: it was spent or taken back before.
        let _ = self.state.compare_exchange(OPEN, REVOKED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether it can still be spent.
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }
}

impl TicketUse<'_> {
    /// The entry and who answered, if the ticket lets this one through.
    pub(super) fn admits(self) -> Option<(u64, Arc<Approval>)> {
        let (ticket, admitted) = match self {
            Self::Spend(ticket) => {
                let spent =
                    ticket.state.compare_exchange(OPEN, SPENT, Ordering::AcqRel, Ordering::Acquire);
                (ticket, spent.is_ok())
            }
            Self::Again(ticket) => (ticket, ticket.state.load(Ordering::Acquire) == SPENT),
        };
        admitted.then(|| (ticket.number, ticket.approval.clone()))
    }
}
