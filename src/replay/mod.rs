//! Recorded traffic through a policy: what would have become of it.
//!
//! Owns the judgement of records (`Judge`), its comparison with what was recorded or with another
//! policy's (`Change`), and the way from files to a report on all cores. It reads no files itself
//! and prints nothing. Invariant: what a record does not say is never guessed. Where it could
//! change the verdict, the record is undecidable.

mod facts;
mod judge;
mod key;
mod run;
mod shape;
pub mod suggest;
mod table;

pub use judge::{Judge, Now, Outcome};
pub use run::{Broken, Filter, Plan, Report, RunError, Style, Totals, run};
pub use shape::shape;
pub use table::{Change, Example, Group, Key, Was};
