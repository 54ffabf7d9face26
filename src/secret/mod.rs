//! Secret values: held so that they are never shown, found again wherever they turn up.
//!
//! Owns [`Secret`] (zeroized, without `Display`), the needles that a value is found by in any of
//! its usual spellings, the scrubber that masks them in a stream, and the placeholders that a
//! sandbox holds in a value's stead. Where values come from is `vault`'s, where they go `proxy`'s.
//!
//! Invariant: no item here prints, logs or formats a value; what comes out of a scrubber holds none.

mod escape;
mod forms;
mod needles;
mod placeholder;
mod readings;
mod scrub;
mod value;
mod watchlist;

pub use escape::ends_in_escape;
pub use needles::{MASK, Needles};
pub use placeholder::{Found, PlaceholderError, Placeholders, Spelling};
pub use scrub::Scrubber;
pub use value::{MAX_BYTES, MIN_BYTES, Secret, SecretError};
pub use watchlist::Watchlist;
