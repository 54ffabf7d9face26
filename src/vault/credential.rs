//! One credential: its value while that is good, and one read of its source for all who wait.

use super::command::Run;
use super::error::{Cause, VaultError};
use super::held::{Held, Known};
use super::source::{self, Source, Stamp};
use crate::secret::Secret;
use crate::tasks::Tasks;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// How long a command that failed is left alone: a client that tries again at once does not make
/// the host run it again at once.
const LET_BE: Duration = Duration::from_secs(1);

/// How often an origin's 401 may make a source be read again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A named value and its source.
#[derive(Debug)]
pub struct Credential {
    name: Arc<str>,
    source: Source,
    room: Room,
    state: Mutex<State>,
    read: Notify,
}

/// What can be said of a credential. No part of it tells the value.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// Its source, without a command's arguments.
    pub source: String,
    /// Tells its value from another; `None` where none was read.
    pub fingerprint: Option<String>,
    /// When the value was first read.
    pub since: Option<SystemTime>,
    /// When it was last wanted.
    pub last_used: Option<SystemTime>,
    /// How often it was.
    pub uses: u64,
    /// When its source last failed, and how; `None` once it has been read again.
    pub error: Option<(SystemTime, VaultError)>,
}

/// What a credential shares with the others of its vault.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) known: Arc<Known>,
    pub(super) tasks: Tasks,
    /// The variables that hold credentials.
    pub(super) hidden: Arc<[String]>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<Held>>,
    stamp: Option<Stamp>,
    /// When the source was last read.
    at: Option<Instant>,
    /// Reads so far; who waits for one knows by it that it is over.
    reads: u64,
    reading: bool,
    /// An origin refused the value: it is read again before it is given again.
    doubted: bool,
    doubted_at: Option<Instant>,
    error: Option<(SystemTime, VaultError)>,
    last_used: Option<SystemTime>,
    uses: u64,
}

impl Credential {
    pub(super) fn new(
        name: Arc<str>,
        source: Source,
        from_env: Option<Option<OsString>>,
        room: Room,
    ) -> Arc<Self> {
        let credential = Self { name, source, room, state: Mutex::default(), read: Notify::new() };
        if let (Source::Env(variable), Some(value)) = (&credential.source, from_env) {
            let unset = || Cause::Unset(variable.clone());
            let read = value.ok_or_else(unset).and_then(|v| Ok(Secret::read(v.into_vec())?));
            credential.done(read.map(|secret| (secret, None)));
        }
        Arc::new(credential)
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where its value comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The value, for a use of it: the one at hand while it is good, else the source's. All who
    /// wait for the source at the same time wait for one read of it.
    pub async fn value(self: &Arc<Self>) -> Result<Arc<Held>, VaultError> {
        let held = match self.at_hand() {
            Some(at_hand) => at_hand?,
            None => self.refresh().await?,
        };
        let mut state = self.state();
        state.uses += 1;
        state.last_used = Some(SystemTime::now());
        Ok(held)
    }

    /// Reads the source, whatever is at hand. A variable stays as it was.
    pub async fn refresh(self: &Arc<Self>) -> Result<Arc<Held>, VaultError> {
        let before = {
            let mut state = self.state();
            if self.source.variable().is_some() {
                return self.outcome(&state);
            }
            if !state.reading {
                state.reading = true;
                let reading = Reading(Some(self.clone()));
                // Not the waiter's own: a client that leaves does not end it for the others.
                self.room.tasks.spawn(reading.run());
            }
            state.reads
        };
        loop {
            let mut read = std::pin::pin!(self.read.notified());
            read.as_mut().enable();
            {
                let state = self.state();
                if state.reads != before {
                    return self.outcome(&state);
                }
            }
            read.await;
        }
    }

    /// Reads the source and keeps nothing of it: its fingerprint, and whether the value is the one
    /// in use.
    pub async fn test(self: &Arc<Self>) -> Result<(String, bool), VaultError> {
        let held = self.state().held.clone();
        let read = match &self.source {
            Source::Env(_) => {
                let held = self.outcome(&self.state())?;
                return Ok((held.fingerprint().to_owned(), true));
            }
            Source::File(_) | Source::Command { .. } => self.fetch().await,
        };
        let (secret, _) = read.map_err(|cause| self.error(cause))?;
        let same = held.is_some_and(|held| held.secret().same(&secret));
        Ok((self.room.known.fingerprint(&secret), same))
    }

    /// An origin refused `held` (401): the source is read again, once, before the next use. The
    /// answer that says so goes to the client as it is.
    pub fn refused(&self, held: &Held) {
        let mut state = self.state();
        let present =
            state.held.as_ref().is_some_and(|now| now.fingerprint() == held.fingerprint());
        let rested = state.doubted_at.is_none_or(|at| at.elapsed() >= PATIENCE);
        if present && rested && self.source.variable().is_none() {
            state.doubted = true;
            state.doubted_at = Some(Instant::now());
        }
    }

    /// What can be said of it.
    pub fn status(&self) -> Status {
        let state = self.state();
        Status {
            name: self.name.clone(),
            source: self.source.to_string(),
            fingerprint: state.held.as_ref().map(|held| held.fingerprint().to_owned()),
            since: state.held.as_ref().map(|held| held.since()),
            last_used: state.last_used,
            uses: state.uses,
            error: state.error.clone(),
        }
    }

    /// What may be given without reading the source; `None`: it must be read.
    fn at_hand(&self) -> Option<Result<Arc<Held>, VaultError>> {
        let state = self.state();
        let good = match &self.source {
            Source::Env(_) => return Some(self.outcome(&state)),
            _ if state.doubted => false,
            Source::File(path) => state.stamp.is_some() && state.stamp == Stamp::of(path),
            Source::Command { ttl, .. } => {
                let age = state.at.map(|at| at.elapsed());
                if state.error.is_some() {
                    // It failed a moment ago.
                    return age.is_some_and(|age| age < LET_BE).then(|| self.outcome(&state));
                }
                age.is_some_and(|age| ttl.is_none_or(|ttl| age < ttl))
            }
        };
        good.then(|| self.outcome(&state))
    }

    /// What the last read came to.
    fn outcome(&self, state: &State) -> Result<Arc<Held>, VaultError> {
        match (&state.error, &state.held) {
            (None, Some(held)) => Ok(held.clone()),
            (Some((_, error)), _) => Err(error.clone()),
            (None, None) => Err(self.error(Cause::Stopping)),
        }
    }

    async fn fetch(&self) -> Result<(Secret, Option<Stamp>), Cause> {
        match &self.source {
            Source::Env(name) => Err(Cause::Unset(name.clone())),
            Source::File(path) => {
                let path = path.clone();
                let read = self.room.tasks.blocking(move || source::read(&path)).await;
                read.unwrap_or(Err(Cause::Stopping))
            }
            Source::Command { argv, timeout, .. } => {
                let run = Run {
                    name: &self.name,
                    argv,
                    timeout: *timeout,
                    hidden: &self.room.hidden,
                    needles: &self.room.known.watchlist().needles(),
                };
                run.value().await.map(|secret| (secret, None))
            }
        }
    }

    /// Notes what a read came to, and lets those go who wait for it.
    fn done(&self, read: Result<(Secret, Option<Stamp>), Cause>) {
        let mut state = self.state();
        state.reading = false;
        state.reads += 1;
        state.at = Some(Instant::now());
        state.doubted = false;
        match read {
            Ok((secret, stamp)) => {
                state.error = None;
                state.stamp = stamp;
                // The same value stays the same: it keeps its age and its needles.
                if !state.held.as_ref().is_some_and(|held| held.secret().same(&secret)) {
                    state.held = Some(self.room.known.take(&self.name, secret));
                }
            }
            Err(cause) => {
                state.stamp = None;
                let error = self.error(cause);
                // Once for each way to fail: a client can make it fail as often as it asks.
                if state.error.as_ref().is_none_or(|(_, before)| *before != error) {
                    tracing::warn!(%error, "a credential has no value");
                }
                state.error = Some((SystemTime::now(), error));
            }
        }
        drop(state);
        self.read.notify_waiters();
    }

    fn error(&self, cause: Cause) -> VaultError {
        VaultError { credential: self.name.clone(), cause }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read under way. Whoever waits for it hears of its end, also where the runtime drops it.
struct Reading(Option<Arc<Credential>>);

impl Reading {
    async fn run(mut self) {
        if let Some(credential) = self.0.clone() {
            let read = credential.fetch().await;
            self.0 = None;
            credential.done(read);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(credential) = self.0.take() {
            credential.done(Err(Cause::Stopping));
        }
    }
}
