//! Patterns: hosts by labels, paths by segments, values as one stretch of text.
//!
//! Owns the dialect (`*`, `**`, `?`, classes, alternates) that globset calls
//! `literal_separator(true)`, compiled so that matching allocates nothing and costs a pointer
//! walk; globset is the oracle of the property tests. Owns nothing about rules. Invariant: no
//! token but a whole-segment `**` ever crosses a separator.

mod glob;
mod host;
mod language;
mod path;
mod text;

pub use glob::GlobError;
pub(in crate::policy) use host::RESERVED;
pub use host::{HostPattern, HostPatternError, WildHost, is_reserved};
pub(in crate::policy) use language::{Automaton, Language, Step};
pub use path::{PathPattern, PathPatternError};
pub use text::{TextPattern, TextPatternError};
