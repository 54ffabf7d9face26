//! Why a config was refused. Every one says what would be right.

use super::source::Fault;
use std::path::PathBuf;

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}\n  fix: name a readable file with --config or PORTCULLIS_CONFIG", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in the file.
    #[error(transparent)]
    Fault(Box<Fault>),
    /// A flag.
    #[error("{flag}: {what}\n  fix: {fix}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        what: String,
        /// What would be right.
        fix: String,
    },
    /// Neither the config nor the environment says where state goes.
    #[error(
        "no place for state: HOME and XDG_STATE_HOME are not set\n  fix: add --state-dir DIR, or `state_dir: DIR` to the config"
    )]
    NoStateDir,
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}
