//! Why there is no value. Nothing here holds one.

use crate::addr::Shown;
use crate::secret::SecretError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A credential without a value. Its text is for the operator; a sandbox is told the name alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct VaultError {
    /// Which.
    pub credential: Arc<str>,
    /// Why.
    pub cause: Cause,
}

/// Why a source gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The variable is not set.
    Unset(String),
    /// The file can't be read.
    File(PathBuf, io::ErrorKind),
    /// A directory, a pipe, a device.
    NotAFile(PathBuf),
    /// The program could not be started.
    NotStarted(String, io::ErrorKind),
    /// It said by its status that it failed; `None`: a signal ended it.
    Exited(String, Option<i32>),
    /// It took too long.
    TooSlow(String, Duration),
    /// Its output broke off.
    Output(String, io::ErrorKind),
    /// What came is no secret value.
    Value(SecretError),
    /// The gateway stops.
    Stopping,
}

impl From<SecretError> for Cause {
    fn from(error: SecretError) -> Self {
        Self::Value(error)
    }
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential `{}`: {}", Shown::new(&self.credential), self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &PathBuf| Shown::new(&path.to_string_lossy()).to_string();
        match self {
            Self::Unset(name) => write!(
                f,
                "the variable {} is not set; set it and start the gateway again",
                Shown::new(name)
            ),
            Self::File(at, io::ErrorKind::NotFound) => {
                write!(f, "{} does not exist; put the value there", path(at))
            }
            Self::File(at, kind) => write!(f, "{} can't be read: {kind}", path(at)),
            Self::NotAFile(at) => write!(f, "{} is not a regular file", path(at)),
            Self::NotStarted(program, kind) => {
                write!(f, "`{}` could not be started: {kind}", Shown::new(program))
            }
            Self::Exited(program, Some(status)) => write!(
                f,
                "`{}` ended with status {status}; the gateway's log has what it said",
                Shown::new(program)
            ),
            Self::Exited(program, None) => {
                write!(f, "`{}` was ended by a signal", Shown::new(program))
            }
            Self::TooSlow(program, within) => write!(
                f,
                "`{}` took longer than {within:?}; raise its `timeout`",
                Shown::new(program)
            ),
            Self::Output(program, kind) => {
                write!(f, "the output of `{}` broke off: {kind}", Shown::new(program))
            }
            Self::Value(error) => write!(f, "{error}"),
            Self::Stopping => f.write_str("the gateway is stopping"),
        }
    }
}
