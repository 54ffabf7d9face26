//! The gateway as the control API sees it: what is asked, answered, granted and in force.
//!
//! `view` shows, `answers` decides, `pump` tells what has changed and sweeps, `seen` knows which
//! hosts are new. Changes of policy are orders to the loop that also reloads files.

mod accounts;
mod answers;
mod credentials;
mod models;
mod pump;
mod seen;
mod tally;
mod view;

pub(super) use accounts::{Accounts, restore};
pub(super) use answers::{Kept, refused};
pub(super) use models::Models;
pub(super) use pump::{BLOCK, pump, reserve};
pub(super) use seen::{Seen, SeenSink};
pub(super) use tally::{Tally, TallySink};

use super::policies::{self, Order, Shown};
use crate::approval::Queue;
use crate::control::wire::{
    Credential, CredentialCheck, Decided, Decision, EffectivePolicy, Event, Filter, Grant,
    GrantRequest, Inference, PolicyEntry, PolicyVersion, Probe, Problem, Request, SandboxStatus,
    SetInference, Status,
};
use crate::control::{Attendance, Backend, Change, Who};
use crate::proxy::Sandbox;
use crate::record::rfc3339;
use crate::state::State;
use crate::traffic::{Recorder, Writing};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

/// What the operator's side is made of.
pub(super) struct Operator {
    pub(super) started: (SystemTime, Instant),
    pub(super) facts: Facts,
    pub(super) sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    pub(super) listeners: BTreeMap<Arc<str>, Vec<String>>,
    pub(super) state: State,
    pub(super) vault: Arc<crate::vault::Vault>,
    pub(super) recorder: Recorder,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) attended: watch::Sender<usize>,
    /// Told when something has changed in a queue.
    pub(super) changed: Arc<Notify>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) shown: Shown,
    pub(super) tally: Arc<Tally>,
    pub(super) gauges: Arc<crate::metrics::Gauges>,
    pub(super) models: Models,
    pub(super) accounts: Arc<Accounts>,
}

/// What does not change while the gateway runs.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) state_dir: String,
    pub(super) config: Option<String>,
    pub(super) observe: bool,
    pub(super) notes: Vec<String>,
    pub(super) sandboxes: BTreeMap<Arc<str>, SandboxFacts>,
}

/// The same of a sandbox.
#[derive(Clone, Debug)]
pub(super) struct SandboxFacts {
    pub(super) tier: String,
    pub(super) presets: Vec<String>,
    pub(super) notifies: bool,
}

impl Operator {
    /// The queue and the entry's number, of `r41`.
    pub(super) fn find(&self, number: &str) -> Result<(&Arc<Queue>, u64), Problem> {
        let shown = crate::addr::Shown::new(number);
        let parsed = number.strip_prefix('r').unwrap_or(number).parse::<u64>().map_err(|_| {
            Problem::bad_request(format!("`{shown}` is not the number of a request: write r41"))
        })?;
        let queues = self.sandboxes.values().map(|sandbox| sandbox.queue());
        let mut found = queues.filter(|queue| queue.entry(parsed).is_some());
        let missing = || {
            Problem::not_found(format!(
                "there is no {shown}: `portcullis requests list` shows what waits"
            ))
        };
        Ok((found.next().ok_or_else(missing)?, parsed))
    }

    /// An entry as it is shown.
    pub(super) fn shown(&self, queue: &Queue, number: u64) -> Option<Request> {
        let entry = queue.entry(number)?;
        let secrets = self.vault.watchlist().needles();
        Some(view::request(queue, &entry, &queue.neighbours(), &secrets))
    }

    fn sandbox_status(&self, name: &Arc<str>, sandbox: &Sandbox) -> SandboxStatus {
        let counts = sandbox.queue().counts();
        let shown = self.shown.load();
        let standing = shown.get(name).cloned().unwrap_or_default();
        let facts = self.facts.sandboxes.get(name);
        SandboxStatus {
            name: name.to_string(),
            listeners: self.listeners.get(name).cloned().unwrap_or_default(),
            tier: facts.map(|facts| facts.tier.clone()).unwrap_or_default(),
            presets: facts.map(|facts| facts.presets.clone()).unwrap_or_default(),
            mode: sandbox.queue().settings().mode.as_str().into(),
            connections: sandbox.connections() as u64,
            held: counts.held as u64,
            pending: counts.pending as u64,
            dropped: counts.dropped,
            grants: counts.grants as u64,
            requests: self.tally.of(name),
            policy: standing.digest,
            runtime: u64::from(standing.runtime.is_some()),
            pinned: standing.pinned,
            rejected: standing.rejected,
        }
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Problem>>) -> Order,
    ) -> Result<T, Problem> {
        let stopping = || Problem::unavailable("the gateway is stopping");
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

impl Backend for Operator {
    fn status(&self) -> Status {
        let sandboxes: Vec<SandboxStatus> =
            self.sandboxes.iter().map(|(name, s)| self.sandbox_status(name, s)).collect();
        let recording = self.recorder.writing() == Writing::Fine;
        let (at, since) = self.started;
        let mut warnings = warnings(&sandboxes, recording, self.facts.observe);
        warnings.extend(self.without_value());
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime: since.elapsed().as_secs(),
            started: rfc3339(at),
            pid: std::process::id(),
            policy: sandboxes.iter().map(|s| (s.name.clone(), s.policy.clone())).collect(),
            held: sandboxes.iter().map(|s| s.held).sum(),
            pending: sandboxes.iter().map(|s| s.pending).sum(),
            connections: self.gauges.connections.load(Ordering::Relaxed).max(0).unsigned_abs(),
            state_dir: self.facts.state_dir.clone(),
            config: self.facts.config.clone(),
            recording,
            observe: self.facts.observe,
            attended: *self.attended.borrow() as u64
                + self.facts.sandboxes.values().filter(|facts| facts.notifies).count() as u64,
            warnings,
            notes: self.facts.notes.clone(),
            sandboxes,
        }
    }

    fn requests(&self, filter: &Filter) -> Vec<Request> {
        let wanted = |name: &str| filter.sandbox.as_deref().is_none_or(|wanted| wanted == name);
        let mut all = Vec::new();
        for (name, sandbox) in &self.sandboxes {
            if !wanted(name) {
                continue;
            }
            let queue = sandbox.queue();
            let neighbours = queue.neighbours();
            let entries = queue.entries();
            let secrets = self.vault.watchlist().needles();
            let view = |entry| view::request(queue, entry, &neighbours, &secrets);
            let shown = entries.iter().map(view);
            all.extend(shown.filter(|r| filter.state.is_none_or(|state| state == r.state)));
        }
        all
    }

    fn request(&self, number: &str) -> Result<Request, Problem> {
        let (queue, found) = self.find(number)?;
        self.shown(queue, found).ok_or_else(|| Problem::not_found("it has just gone"))
    }

    fn credentials(&self, sandbox: Option<&str>) -> Vec<Credential> {
        self.held_credentials(sandbox)
    }

    async fn check_credential(&self, name: &str, keep: bool) -> Result<CredentialCheck, Problem> {
        self.check(name, keep).await
    }

    async fn decide(&self, who: &Who, number: &str, ask: Decision) -> Result<Decided, Problem> {
        self.answer(who, number, ask).await
    }

    async fn undo(&self, who: &Who, number: &str, via: Option<&str>) -> Result<Request, Problem> {
        self.take_back(who, number, via).await
    }

    fn grants(&self, sandbox: Option<&str>) -> Vec<Grant> {
        let mut all = Vec::new();
        for (name, each) in &self.sandboxes {
            if sandbox.is_none_or(|wanted| wanted == &**name) {
                all.extend(each.queue().grants().iter().map(|grant| view::grant(name, grant)));
            }
        }
        all
    }

    async fn grant(&self, who: &Who, ask: GrantRequest) -> Result<Grant, Problem> {
        self.grant_ahead(who, ask).await
    }

    async fn revoke(&self, who: &Who, id: &str) -> Result<Grant, Problem> {
        self.revoke_grant(who, id).await
    }

    fn policy(&self, sandbox: &str) -> Result<EffectivePolicy, Problem> {
        let shown = self.shown.load();
        let standing = shown.get(sandbox).ok_or_else(|| unknown(sandbox))?;
        let mut entries = Vec::new();
        for layer in &standing.layers {
            for (name, entry) in &layer.document.network_policies {
                let yaml = serde_saphyr::to_string(&entry.value)
                    .map_err(|error| Problem::unavailable(error.to_string()))?;
                let (name, source) = (name.clone(), layer.source.to_string());
                let deny_only = layer.deny_only;
                entries.push(PolicyEntry { name, source, yaml, deny_only });
            }
        }
        Ok(EffectivePolicy {
            sandbox: sandbox.to_owned(),
            policy: standing.digest.clone(),
            version: standing.version,
            pinned: standing.pinned,
            entries,
        })
    }

    async fn change(
        &self,
        who: &Who,
        change: Change,
    ) -> Result<crate::control::wire::Changed, Problem> {
        self.order(|reply| Order::Change(who.clone(), change, reply)).await
    }

    async fn history(&self, sandbox: Option<&str>) -> Result<Vec<PolicyVersion>, Problem> {
        let kept = self.state.policies(sandbox).await;
        let kept = kept.map_err(|error| Problem::unavailable(error.to_string()))?;
        let shown = self.shown.load();
        let current = |name: &str| shown.get(name).map_or(0, |standing| standing.version);
        let version = |kept: crate::state::Policy| PolicyVersion {
            current: current(&kept.sandbox) == kept.version,
            version: kept.version,
            at: at(kept.at_ms),
            policy: kept.digest,
            why: kept.why,
            by: kept.by,
            sources: policies::sources(&kept.layers),
            sandbox: kept.sandbox,
        };
        Ok(kept.into_iter().map(version).collect())
    }

    fn inference(&self, sandbox: &str) -> Result<Inference, Problem> {
        self.models.show(sandbox)
    }

    async fn set_inference(
        &self,
        who: &Who,
        sandbox: &str,
        set: Option<SetInference>,
    ) -> Result<Inference, Problem> {
        self.models.set(who, sandbox, set).await
    }

    async fn probe(&self, sandbox: &str) -> Result<Vec<Probe>, Problem> {
        self.models.probe(sandbox).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn attend(&self) -> Attendance {
        let listens = crate::approval::Attendance::new(&self.attended);
        Attendance::new(move || drop(listens))
    }
}

fn at(ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    rfc3339(SystemTime::UNIX_EPOCH + since)
}

fn unknown(sandbox: &str) -> Problem {
    Problem::not_found(format!("no sandbox is named `{}`", crate::addr::Shown::new(sandbox)))
}

fn warnings(sandboxes: &[SandboxStatus], recording: bool, observe: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if observe {
        warnings.push("observing: what no rule knows is let through and recorded".to_owned());
    }
    if !recording {
        warnings.push("the traffic record can't be written: nothing passes".to_owned());
    }
    for sandbox in sandboxes {
        let name = &sandbox.name;
        if let Some(error) = &sandbox.rejected {
            // Its lines are escaped.
            let first = error.split("\\n").next().unwrap_or_default();
            warnings.push(format!("{name}: the newest files are not in force: {first}"));
        }
        if let Some(version) = sandbox.pinned {
            warnings.push(format!(
                "{name} is pinned to version {version} of its policy: `portcullis policy unpin -s {name}`"
            ));
        }
        if sandbox.runtime > 0 {
            warnings
                .push(format!("{name} has a runtime layer: `portcullis policy show -s {name}`"));
        }
        if sandbox.dropped > 0 {
            let dropped = sandbox.dropped;
            warnings.push(format!("{name}: {dropped} questions were dropped, its queue was full"));
        }
    }
    warnings
}
