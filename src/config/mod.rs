//! The gateway's config: `Raw*` as typed (`raw`), the settings as meant (`settings`), and the
//! way from one to the other (`settle`).
//!
//! Owns the file format, its defaults and its errors. It does not build listeners, resolvers or
//! policies: it says how they are meant. A config that names a feature which this build does not
//! have is refused, because ignoring it would let someone rely on it.

mod credentials;
mod deny;
mod error;
mod file;
mod inference;
mod inject;
mod listen;
mod load;
mod policies;
pub mod preset_credential;
mod raw;
mod settings;
mod settle;
mod source;
mod surroundings;
mod units;
mod upstream;

pub use credentials::is_credential_name;
pub use error::{ConfigError, readable};
pub use file::read_file;
pub use load::{Flags, Loaded, Notice, schema};
pub use policies::{PolicyError, answered};
pub use settings::{
    Approval, ApprovalMode, Ask, Buffer, Config, CredentialSource, DEFAULT_SANDBOX, Identity,
    Limits, ListenAddress, ListenMode, Listener, NoProxy, ParentProxy, PresetUse, Resolve, Sandbox,
    Timeout, Traffic, Upstream,
};
pub use source::{Fault, Place};
pub use surroundings::Surroundings;
pub use units::{Net, Size, Span, UnitError};
