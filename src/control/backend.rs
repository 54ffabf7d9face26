//! What the server asks of the gateway: the narrow trait between the API and the house.
//!
//! Owns no behaviour. Whoever implements it decides; the server has checked who asks and that the
//! question is well formed, and says what came back.

use super::wire::{
    Apply, Changed, Credential, CredentialCheck, Decided, Decision, EffectivePolicy, Event, Filter,
    Grant, GrantRequest, Inference, PolicyVersion, Probe, Problem, Request, SetInference, Status,
};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Who makes a change: the peer of the connection, as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The uid.
    pub uid: u32,
    /// The user's name, or the uid where it has none.
    pub name: String,
}

/// A change of what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The sandbox's runtime layer becomes this text.
    Apply {
        /// Whose.
        sandbox: String,
        /// What.
        apply: Apply,
    },
    /// A version of the history comes back, and is pinned.
    Rollback {
        /// Whose.
        sandbox: String,
        /// Which.
        version: u64,
    },
    /// The files are followed again.
    Unpin {
        /// Whose.
        sandbox: String,
    },
    /// The files are read again, all sandboxes.
    Reload,
}

/// Somebody listens who can answer: counted by the backend for as long as this lives.
pub struct Attendance(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Attendance {
    /// `leave` runs once, when this is dropped.
    pub fn new(leave: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(leave)))
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if let Some(leave) = self.0.take() {
            leave();
        }
    }
}

impl fmt::Debug for Attendance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attendance")
    }
}

/// The gateway behind the control API.
///
/// A future of a change is driven to its end even where the client leaves. A name of a sandbox
/// that comes in a filter, a path or a body was one of [`Backend::status`] a moment ago.
pub trait Backend: Send + Sync + 'static {
    /// How the gateway does, with its sandboxes.
    fn status(&self) -> Status;

    /// The entries that pass the filter, oldest first.
    fn requests(&self, filter: &Filter) -> Vec<Request>;

    /// One entry.
    fn request(&self, number: &str) -> Result<Request, Problem>;

    /// Answers an entry. A digest that is not the entry's is refused as `changed`.
    fn decide(
        &self,
        who: &Who,
        number: &str,
        decision: Decision,
    ) -> impl Future<Output = Result<Decided, Problem>> + Send;

    /// Takes an answer back; `via` says where, as far as it was told.
    fn undo(
        &self,
        who: &Who,
        number: &str,
        via: Option<&str>,
    ) -> impl Future<Output = Result<Request, Problem>> + Send;

    /// The grants of one sandbox or of all.
    fn grants(&self, sandbox: Option<&str>) -> Vec<Grant>;

    /// Grants ahead. `ask.sandbox` names one.
    fn grant(
        &self,
        who: &Who,
        ask: GrantRequest,
    ) -> impl Future<Output = Result<Grant, Problem>> + Send;

    /// Takes a grant back.
    fn revoke(&self, who: &Who, id: &str) -> impl Future<Output = Result<Grant, Problem>> + Send;

    /// The policy in force.
    fn policy(&self, sandbox: &str) -> Result<EffectivePolicy, Problem>;

    /// Changes what is in force; answered when it is.
    fn change(
        &self,
        who: &Who,
        change: Change,
    ) -> impl Future<Output = Result<Changed, Problem>> + Send;

    /// The versions of the policies, the newest first.
    fn history(
        &self,
        sandbox: Option<&str>,
    ) -> impl Future<Output = Result<Vec<PolicyVersion>, Problem>> + Send;

    /// What is behind a sandbox's `inference.local`.
    fn inference(&self, sandbox: &str) -> Result<Inference, Problem>;

    /// Puts other routes there, tried first unless `set` says otherwise; `None`: those of the
    /// config again.
    fn set_inference(
        &self,
        who: &Who,
        sandbox: &str,
        set: Option<SetInference>,
    ) -> impl Future<Output = Result<Inference, Problem>> + Send;

    /// Tries every route with real requests.
    fn probe(&self, sandbox: &str) -> impl Future<Output = Result<Vec<Probe>, Problem>> + Send;
    /// The credentials that go somewhere for one sandbox, or all.
    fn credentials(&self, sandbox: Option<&str>) -> Vec<Credential>;

    /// Reads a credential's source; `keep`: what it says is used from now on.
    fn check_credential(
        &self,
        name: &str,
        keep: bool,
    ) -> impl Future<Output = Result<CredentialCheck, Problem>> + Send;

    /// What happens from now on: everything but `hello`, `traffic` and `missed`, which are the
    /// server's.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    /// Counts one more who listens and can answer.
    fn attend(&self) -> Attendance;
}
