//! What outlives the gateway: session grants, decisions, versions of policies, numbers that were
//! given out, what models cost today. One SQLite file, `state.db`, of the operator alone (0600).
//!
//! Owns the file and the one thread that touches it. It knows rows of plain values and texts, not
//! what they mean. Every call is answered when its rows are on the disk, [`State::log_decision`]
//! excepted; a caller who leaves takes nothing back. A database that is broken or of a newer
//! version is an error and is never made anew, because someone's grants and denials are in it.

mod open;
mod rows;
mod sql;
mod thread;

pub use rows::{Decision, Grant, ModelDay, NewPolicy, Policy, Response};

use rusqlite::Connection;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thread::{Job, Thread};

/// The state of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct State {
    thread: Thread,
    path: Arc<Path>,
}

/// Why the state can't be opened, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file can't be made, opened or locked.
    #[error("the state database {} can't be opened: {why}", path.display())]
    Unopenable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It was written by a later version.
    #[error(
        "the state database {} is of a newer version ({found}; this build knows up to {known})\n  \
         fix: run the newer portcullis, or name another --state-dir", path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// It is damaged, or no database of ours.
    #[error(
        "the state database {0} is not usable: {why}\n  fix: restore it, or move it away \
         (`mv {0} {0}.broken`) to start with an empty one; session grants and the history of \
         policies are in it", path.display()
    )]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A call came to nothing; nothing of it was kept.
    #[error("the state database {} could not be read or written: {why}", path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// Why: a full disk.
        why: String,
    },
    /// It was closed, because the gateway is stopping.
    #[error("the state database is closed: the gateway is stopping")]
    Closed,
}

type Answer<T> = Result<T, StateError>;

impl State {
    /// Opens the database at `path` and brings it up to date; makes it where there is none. Blocks
    /// for as long as that takes.
    pub fn open(path: &Path) -> Answer<Self> {
        let connection = open::open(path)?;
        let thread = Thread::start(connection).map_err(|error| StateError::Unopenable {
            path: path.into(),
            why: error.to_string(),
        })?;
        Ok(Self { thread, path: path.into() })
    }

    /// Ends the state when all that was asked before is done. Later calls are refused.
    pub async fn close(&self) {
        self.thread.close().await;
    }

    /// A number for a new grant. None is given out twice, in this run or another.
    pub async fn next_grant_id(&self) -> Answer<u64> {
        self.reserve("grant", 1).await
    }

    /// Keeps a grant; one with the same id is replaced.
    pub async fn save_grant(&self, grant: Grant) -> Answer<()> {
        self.call(move |db| sql::save_grant(db, &grant)).await
    }

    /// Forgets a grant; says whether there was one.
    pub async fn remove_grant(&self, id: u64) -> Answer<bool> {
        self.call(move |db| sql::remove_grant(db, id)).await
    }

    /// All grants, those that have expired included, by id.
    pub async fn grants(&self) -> Answer<Vec<Grant>> {
        self.call(|db| sql::grants(db)).await
    }

    /// Takes `n` numbers of the counter `name` and gives the first: 1 at the very start. They are
    /// never given out again, whether they are used or not.
    pub async fn reserve(&self, name: &'static str, n: u64) -> Answer<u64> {
        self.call(move |db| sql::reserve(db, name, n)).await
    }

    /// Notes a decision, soon and without an answer. Where more wait than are kept, it is dropped
    /// and the log says so.
    pub fn log_decision(&self, decision: Decision) {
        let job: Job = Box::new(move |db| {
            if let Err(error) = sql::log_decision(db, &decision) {
                tracing::error!(%error, "a decision could not be noted in the history");
            }
        });
        if !self.thread.offer(job) {
            tracing::error!("a decision was not noted in the history: too many wait to be written");
        }
    }

    /// The decisions since then, the oldest first; of one sandbox or of all.
    pub async fn decisions(&self, since_ms: i64, sandbox: Option<&str>) -> Answer<Vec<Decision>> {
        let sandbox = sandbox.map(str::to_owned);
        self.call(move |db| sql::decisions(db, since_ms, sandbox.as_deref())).await
    }

    /// Keeps a version of a sandbox's policy and gives its number: 1 for a sandbox's first. One
    /// that is the same as the newest is that: starts do not wash others away. The newest 200 are
    /// kept, and the pinned one.
    pub async fn append_policy(&self, policy: NewPolicy) -> Answer<u64> {
        self.call(move |db| sql::append_policy(db, &policy)).await
    }

    /// The versions that are kept, the newest first; of one sandbox or of all.
    pub async fn policies(&self, sandbox: Option<&str>) -> Answer<Vec<Policy>> {
        let sandbox = sandbox.map(str::to_owned);
        self.call(move |db| sql::policies(db, sandbox.as_deref())).await
    }

    /// One version; `None` where it is not kept.
    pub async fn policy(&self, sandbox: &str, version: u64) -> Answer<Option<Policy>> {
        let sandbox = sandbox.to_owned();
        self.call(move |db| sql::policy(db, &sandbox, version)).await
    }

    /// Keeps the text of a sandbox's runtime layer, or takes it away.
    pub async fn set_runtime(&self, sandbox: &str, text: Option<String>) -> Answer<()> {
        let sandbox = sandbox.to_owned();
        self.call(move |db| sql::set_runtime(db, &sandbox, text.as_deref())).await
    }

    /// The text of a sandbox's runtime layer.
    pub async fn runtime(&self, sandbox: &str) -> Answer<Option<String>> {
        let sandbox = sandbox.to_owned();
        self.call(move |db| sql::runtime(db, &sandbox)).await
    }

    /// Pins a sandbox to a version, or lets it follow its files. A version that is not kept can't
    /// be pinned.
    pub async fn set_pinned(&self, sandbox: &str, version: Option<u64>) -> Answer<()> {
        let sandbox = sandbox.to_owned();
        self.call(move |db| sql::set_pinned(db, &sandbox, version)).await
    }

    /// The version that a sandbox is pinned to.
    pub async fn pinned(&self, sandbox: &str) -> Answer<Option<u64>> {
        let sandbox = sandbox.to_owned();
        self.call(move |db| sql::pinned(db, &sandbox)).await
    }

    /// Keeps what models cost, a sandbox's last day alone, and the responses that were made: the
    /// newest 4,096 of each sandbox.
    pub async fn save_models(&self, days: Vec<ModelDay>, responses: Vec<Response>) -> Answer<()> {
        self.call(move |db| sql::save_models(db, &days, &responses)).await
    }

    /// What models cost, each sandbox's last day.
    pub async fn model_days(&self) -> Answer<Vec<ModelDay>> {
        self.call(|db| sql::model_days(db)).await
    }

    /// The responses that are kept, the oldest first.
    pub async fn responses(&self) -> Answer<Vec<Response>> {
        self.call(|db| sql::responses(db)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let done = self.thread.call(work).await.ok_or(StateError::Closed)?;
        done.map_err(|error| StateError::Failed {
            path: self.path.to_path_buf(),
            why: error.to_string(),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.path).finish()
    }
}
