//! Why a config was refused. Every one says what would be right.

use super::source::Fault;
use std::path::PathBuf;

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {why}\n  fix: {}", .path.display(), readable(.why, "name the file with --config or PORTCULLIS_CONFIG"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
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

/// What helps where a file can't be read; `other` where it is not the right to do so that lacks.
pub fn readable(why: &std::io::Error, other: &str) -> String {
    match why.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "give the user that reads it the right to: chmod or chown the file, or a directory above it"
                .to_owned()
        }
        _ => other.to_owned(),
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_file_that_may_not_be_read_is_no_file_to_name_otherwise() {
        let other = "name a policy file that is there";
        let denied = readable(&Error::from(ErrorKind::PermissionDenied), other);
        assert!(denied.contains("chmod or chown"), "{denied}");
        assert_eq!(readable(&Error::from(ErrorKind::NotFound), other), other);
    }
}
