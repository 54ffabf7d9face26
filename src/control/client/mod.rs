//! Asking the gateway over its control socket.
//!
//! Owns one call at a time: a connection of its own, a deadline, a typed answer or a typed error.
//! It keeps no connection and tries nothing twice: whether to ask again is the caller's to decide.
//! Nothing is spawned: a call drives its connection itself, and ends with its future.

mod call;
mod error;
mod events;

pub use error::ClientError;
pub use events::Events;

use super::wire::{
    Apply, Changed, Credential, CredentialCheck, Decided, Decision, EffectivePolicy, Filter, Grant,
    GrantRequest, Inference, Listen, PolicyVersion, Probe, Request, Rollback, SandboxStatus,
    SetInference, Status,
};
use call::Ask;
use http::Method;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the gateway may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take, its body included.
const ANSWER: Duration = Duration::from_secs(30);

type Answer<T> = Result<T, ClientError>;

/// A gateway, as its control socket shows it. Cheap to clone; it holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    answer: Duration,
}

impl Client {
    /// The gateway that listens at `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), answer: ANSWER }
    }

    /// The same, with another deadline for answers than 30 seconds.
    #[must_use]
    pub fn answer_within(self, answer: Duration) -> Self {
        Self { answer, ..self }
    }

    /// Where the socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How the gateway does.
    pub async fn status(&self) -> Answer<Status> {
        self.ask(Ask::get("/v1/status")).await
    }

    /// The sandboxes, by name.
    pub async fn sandboxes(&self) -> Answer<Vec<SandboxStatus>> {
        self.ask(Ask::get("/v1/sandboxes")).await
    }

    /// One sandbox.
    pub async fn sandbox(&self, name: &str) -> Answer<SandboxStatus> {
        self.ask(Ask::get("/v1/sandboxes").then(name)).await
    }

    /// The entries of the queue that pass `filter`.
    pub async fn requests(&self, filter: &Filter) -> Answer<Vec<Request>> {
        let state = filter.state.map(call::word);
        let ask = Ask::get("/v1/requests").with("state", state.as_deref());
        self.ask(ask.with("sandbox", filter.sandbox.as_deref())).await
    }

    /// One entry: `r41`.
    pub async fn request(&self, number: &str) -> Answer<Request> {
        self.ask(Ask::get("/v1/requests").then(number)).await
    }

    /// Answers an entry.
    pub async fn decide(&self, number: &str, decision: &Decision) -> Answer<Decided> {
        let ask = Ask::new(Method::POST, "/v1/requests").then(number).then("decision");
        self.ask(ask.body(decision)).await
    }

    /// Takes an answer back; the entry waits again. `via`: `term`, `cli`, `api`.
    pub async fn undo(&self, number: &str, via: &str) -> Answer<Request> {
        let ask = Ask::new(Method::DELETE, "/v1/requests").then(number).then("decision");
        self.ask(ask.with("via", Some(via))).await
    }

    /// What was granted, in one sandbox or in all.
    pub async fn grants(&self, sandbox: Option<&str>) -> Answer<Vec<Grant>> {
        self.ask(Ask::get("/v1/grants").with("sandbox", sandbox)).await
    }

    /// Grants ahead.
    pub async fn grant(&self, grant: &GrantRequest) -> Answer<Grant> {
        self.ask(Ask::new(Method::POST, "/v1/grants").body(grant)).await
    }

    /// Takes a grant back: `g7`. What it let through and still runs ends.
    pub async fn revoke(&self, id: &str) -> Answer<Grant> {
        self.ask(Ask::new(Method::DELETE, "/v1/grants").then(id)).await
    }

    /// The policy in force, each entry with its source.
    pub async fn policy(&self, sandbox: &str) -> Answer<EffectivePolicy> {
        self.ask(Self::policy_of(Method::GET, sandbox)).await
    }

    /// Puts a policy file in force as the sandbox's runtime layer.
    pub async fn apply(&self, sandbox: &str, apply: &Apply) -> Answer<Changed> {
        self.ask(Self::policy_of(Method::PUT, sandbox).body(apply)).await
    }

    /// Goes back to a version of the history, and pins it.
    pub async fn rollback(&self, sandbox: &str, version: u64) -> Answer<Changed> {
        let ask = Self::policy_of(Method::POST, sandbox).then("rollback");
        self.ask(ask.body(&Rollback { version })).await
    }

    /// Follows the files again.
    pub async fn unpin(&self, sandbox: &str) -> Answer<Changed> {
        self.ask(Self::policy_of(Method::POST, sandbox).then("unpin")).await
    }

    /// Reads the files again; answered when what they say is in force.
    pub async fn reload(&self) -> Answer<Changed> {
        self.ask(Ask::new(Method::POST, "/v1/reload")).await
    }

    /// The versions of the policies, the newest first.
    pub async fn history(&self, sandbox: Option<&str>) -> Answer<Vec<PolicyVersion>> {
        self.ask(Ask::get("/v1/policy/history").with("sandbox", sandbox)).await
    }

    /// What is behind a sandbox's `inference.local`.
    pub async fn inference(&self, sandbox: &str) -> Answer<Inference> {
        self.ask(Self::inference_of(Method::GET, sandbox)).await
    }

    /// Puts other routes there. They are tried first, which takes a while.
    pub async fn set_inference(&self, sandbox: &str, set: &SetInference) -> Answer<Inference> {
        self.ask(Self::inference_of(Method::PUT, sandbox).body(set)).await
    }

    /// Goes back to the routes of the config.
    pub async fn unset_inference(&self, sandbox: &str) -> Answer<Inference> {
        self.ask(Self::inference_of(Method::DELETE, sandbox)).await
    }

    /// Tries every route with real requests, which takes a while.
    pub async fn probe(&self, sandbox: &str) -> Answer<Vec<Probe>> {
        self.ask(Self::inference_of(Method::POST, sandbox).then("probe")).await
    }

    fn inference_of(method: Method, sandbox: &str) -> Ask {
        Ask::new(method, "/v1/sandboxes").then(sandbox).then("inference")
    }

    /// The credentials that go somewhere for a sandbox, or all of them; never their values.
    pub async fn credentials(&self, sandbox: Option<&str>) -> Answer<Vec<Credential>> {
        self.ask(match sandbox {
            Some(name) => Ask::get("/v1/sandboxes").then(name).then("credentials"),
            None => Ask::get("/v1/credentials"),
        })
        .await
    }

    /// Reads a credential's source; `keep`: what it says is used from now on.
    pub async fn check_credential(&self, name: &str, keep: bool) -> Answer<CredentialCheck> {
        let what = if keep { "refresh" } else { "test" };
        self.ask(Ask::new(Method::POST, "/v1/credentials").then(name).then(what)).await
    }

    /// What happens from now on. The first event is `hello`.
    pub async fn events(&self, listen: &Listen) -> Answer<Events> {
        let ask = Ask::get("/v1/events")
            .with("sandbox", listen.sandbox.as_deref())
            .with("traffic", Some(&call::word(listen.traffic)))
            .with("attend", listen.attend.then_some("true"));
        Events::open(self, ask).await
    }

    fn policy_of(method: Method, sandbox: &str) -> Ask {
        Ask::new(method, "/v1/sandboxes").then(sandbox).then("policy")
    }
}
