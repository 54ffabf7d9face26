//! Asking the operator: entries that wait, clients that are held, answers, session grants.
//!
//! ```text
//! asked      what wants to leave, as it is shown; what makes two the same
//! queue      the entries of one sandbox: ask, sweep, what a new policy answers
//! hold       a client that waits for an answer (I6: it has a deadline)
//! decide     an answer: checked against what was shown (I8), committed, carried out
//! proposal   what an answer would cover: path patterns, and the rule as YAML
//! risk       what may be wrong with it
//! ```
//!
//! Nothing here lets anything through: an answer becomes a grant or a ticket, and the waiter is
//! judged again with it. Every bound is per sandbox: a flood fills the queue of who floods.

mod asked;
mod decide;
mod hold;
mod proposal;
mod queue;
pub mod risk;

pub use asked::{Asked, Kind, Preview};
pub use decide::{Breadth, DecideError, Decision, Lasts, Plan, Undone, Who, methods_of, undoing};
pub use hold::{Hold, Release};
pub use proposal::{generalise, rule};
pub use queue::{
    Asking, Attendance, Change, Counts, Decided, Entry, Neighbours, Numbers, Outcome, Parts, Queue,
    State,
};

use std::time::Duration;

/// What happens to what no rule knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether it is held, queued or refused.
    pub mode: Mode,
    /// What is asked about.
    pub about: About,
    /// How long a client is held.
    pub timeout: Duration,
    /// How long while nobody listens.
    pub unattended: Duration,
    /// How long session grants live.
    pub session: Duration,
    /// How long an unanswered entry stays.
    pub keep: Duration,
    /// Clients held at once.
    pub max_held: usize,
    /// Entries waiting at once.
    pub max_pending: usize,
}

/// Whether what no rule knows is held, queued or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It waits for an answer.
    Hold,
    /// It is answered at once, and asked about.
    Queue,
    /// It is refused and never asked about.
    Deny,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Everything unknown.
    Any,
    /// Hosts that no rule covers.
    NewHosts,
}

impl Mode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Queue => "queue",
            Self::Deny => "deny",
        }
    }
}
