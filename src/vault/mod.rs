//! Where secret values come from: the environment, a file, a command.
//!
//! Owns reading them, keeping them fresh, and what may be said about them (fingerprint, age, last
//! use, last error). It does not know where a value goes: that is the house's.
//!
//! Invariants: a value leaves only as [`crate::secret::Secret`]; no error, log line or status here
//! holds one; a source that fails yields an error and never an old value that is known to be stale.

mod command;
mod credential;
mod error;
mod fingerprint;
mod held;
mod source;
#[cfg(test)]
mod tests;

pub use credential::{Credential, Status};
pub use error::{Cause, VaultError};
pub use fingerprint::FingerprintKey;
pub use held::Held;
pub use source::Source;

use crate::secret::{Needles, Watchlist};
use crate::tasks::Tasks;
use held::Known;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

/// The credentials of one gateway, by name.
#[derive(Debug)]
pub struct Vault {
    credentials: BTreeMap<Arc<str>, Arc<Credential>>,
    known: Arc<Known>,
}

impl Vault {
    /// Credentials from `sources`. Variables are looked up now, with `env`, and stay as they are;
    /// files and commands are read when a value is first wanted.
    pub fn new(
        sources: impl IntoIterator<Item = (Arc<str>, Source)>,
        env: impl Fn(&str) -> Option<OsString>,
        key: FingerprintKey,
        tasks: &Tasks,
    ) -> Self {
        let sources: Vec<(Arc<str>, Source)> = sources.into_iter().collect();
        // A command gets the gateway's environment without the other credentials.
        let hidden: Arc<[String]> =
            sources.iter().filter_map(|(_, source)| source.variable().map(Into::into)).collect();
        let known = Arc::new(Known::new(key));
        let credentials = sources.into_iter().map(|(name, source)| {
            let from_env = source.variable().map(&env);
            let room = credential::Room {
                known: known.clone(),
                tasks: tasks.clone(),
                hidden: hidden.clone(),
            };
            (name.clone(), Credential::new(name, source, from_env, room))
        });
        Self { credentials: credentials.collect(), known }
    }

    /// No credentials.
    pub fn empty(tasks: &Tasks) -> Self {
        Self::new([], |_| None, FingerprintKey::random(), tasks)
    }

    /// The credential of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(name)
    }

    /// What can be said of each, by name.
    pub fn list(&self) -> Vec<Status> {
        self.credentials.values().map(|credential| credential.status()).collect()
    }

    /// What every value is found by that this vault has given or may still have given: the present
    /// ones and those before them, for requests that are under way.
    pub fn needles(&self) -> Arc<Needles> {
        self.known.watchlist().needles()
    }

    /// The same, as it changes: for whoever writes.
    pub fn watchlist(&self) -> Watchlist {
        self.known.watchlist().clone()
    }

    /// Reads every variable and file once, so that what is wrong is known at the start. Commands
    /// are not run.
    pub async fn check(&self) -> Vec<VaultError> {
        let mut errors = Vec::new();
        for credential in self.credentials.values() {
            if credential.source().is_cheap()
                && let Err(error) = credential.refresh().await
            {
                errors.push(error);
            }
        }
        errors
    }
}
