//! Names, ports, paths and addresses: the only parser of each.
//!
//! Owns the canonical form of everything that a request is judged by. What is judged is what is
//! forwarded (I3), so nothing above this floor compares a name or a path that did not come
//! through here. Pure: no I/O.

mod authority;
mod class;
mod escape;
mod host;
mod path;
mod shown;

pub use authority::{Authority, AuthorityError, Port};
pub use class::{Class, classify};
pub(crate) use escape::escaped;
pub use host::{Host, HostError, Name};
pub use path::{Decoded, Path, PathError, Readings, check_query};
pub use shown::{Shown, ShownHost};
