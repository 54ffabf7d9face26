//! Changes that a person orders on the running gateway, carried out one after the other by the
//! loop that reloads files.

use super::versions::{self, digest};
use super::{Compiled, Policies, Why, approved, compile_layers, runtime_layer};
use crate::approval::{Entry, Plan, Queue};
use crate::config::Config;
use crate::control::wire::{Changed, Problem};
use crate::control::{Change, Who};
use crate::policy::{Layer, Policy};
use crate::proxy::Sandbox;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// An order, and where its answer goes.
pub(in crate::cli::gateway) enum Order {
    /// A change of what is in force.
    Change(Who, Change, oneshot::Sender<Result<Changed, Problem>>),
    /// An answer for good: its rule goes into the operator's file.
    Answer(Arc<Queue>, Box<Plan>, oneshot::Sender<Result<Entry, Problem>>),
    /// An answer for good is taken back: the entry's rule leaves the file.
    Unanswer(Arc<Queue>, u64, Who, oneshot::Sender<Result<(), Problem>>),
}

/// What orders are carried out on.
pub(in crate::cli::gateway) struct Floor<'a> {
    pub(in crate::cli::gateway) policies: &'a Policies,
    pub(in crate::cli::gateway) config: &'a Config,
    pub(in crate::cli::gateway) sandboxes: &'a BTreeMap<Arc<str>, Arc<Sandbox>>,
}

fn bad(error: &anyhow::Error) -> Problem {
    Problem::bad_request(format!("{error:#}"))
}

/// Nothing is written that would not be in force.
pub(in crate::cli::gateway) fn is_pinned(name: &str, version: u64) -> Problem {
    Problem::conflict(format!(
        "{name} is pinned to version {version}, so its file of answers is not in force: unpin it \
         (`portcullis policy unpin -s {name}`), or answer for the session"
    ))
}

fn unkept(error: impl std::fmt::Display) -> Problem {
    Problem::unavailable(format!("{error}"))
}

impl Floor<'_> {
    fn sandbox(&self, name: &str) -> Result<(&Arc<str>, &Arc<Sandbox>), Problem> {
        if self.sandboxes.contains_key(name) && !self.config.sandboxes.contains_key(name) {
            return Err(Problem::conflict(format!(
                "the config no longer has the sandbox {name}: nothing is allowed to it until it has"
            )));
        }
        self.sandboxes.get_key_value(name).ok_or_else(|| {
            let known: Vec<&str> = self.sandboxes.keys().map(|name| &**name).collect();
            let shown = crate::addr::Shown::new(name);
            Problem::not_found(format!(
                "no sandbox is named `{shown}`: there is {}",
                known.join(", ")
            ))
        })
    }

    fn changed(&self, name: &Arc<str>, notes: Vec<String>) -> Changed {
        let shown = self.policies.shown.load();
        let version = shown.get(name).map_or(0, |standing| standing.version);
        Changed { versions: BTreeMap::from([(name.to_string(), version)]), notes }
    }

    fn compile(&self, name: &Arc<str>, runtime: Option<&str>) -> anyhow::Result<Compiled> {
        let mut layers = self.config.layers(name)?;
        if let Some(text) = runtime {
            layers.push(runtime_layer(text, "runtime")?);
        }
        compile_layers(self.config, name, layers)
    }

    /// The policy with the answers as they are now. Where another file can't be used at the moment, what of it
    /// is in force stays: an answer can be taken back all the same.
    fn compile_answers(&self, name: &Arc<str>) -> anyhow::Result<Compiled> {
        let error = match self.compile(name, self.policies.runtime(name).as_deref()) {
            Ok(compiled) => return Ok(compiled),
            Err(error) => error,
        };
        let shown = self.policies.shown.load();
        let Some(standing) = shown.get(name) else { return Err(error) };
        let file = self.config.approved(name);
        let file = file.to_string_lossy();
        let others = standing.layers.iter().filter(|layer| *layer.source != *file);
        let mut layers: Vec<Layer> = others.cloned().collect();
        let at =
            layers.iter().position(|layer| &*layer.source == "runtime").unwrap_or(layers.len());
        layers.splice(at..at, self.config.answers(name)?);
        compile_layers(self.config, name, layers)
    }

    async fn put_in_force(&self, name: &Arc<str>, compiled: Compiled, why: &Why) {
        let Some(sandbox) = self.sandboxes.get(name) else { return };
        if sandbox.policy().id() != compiled.1.id() {
            super::put(sandbox, &compiled);
            self.policies.announce(self.config, name, &compiled, why).await;
        }
    }

    /// The runtime layer of a sandbox becomes another.
    pub(in crate::cli::gateway) async fn apply(
        &self,
        who: &Who,
        name: &str,
        apply: crate::control::wire::Apply,
    ) -> Result<Changed, Problem> {
        let (name, _) = self.sandbox(name)?;
        let empty = apply.policy.trim().is_empty();
        let file = apply.file.as_deref().unwrap_or("the policy");
        if !empty {
            runtime_layer(&apply.policy, file).map_err(|error| bad(&error))?;
        }
        let text = (!empty).then_some(apply.policy);
        let compiled = self.compile(name, text.as_deref()).map_err(|error| bad(&error))?;
        self.policies.state.set_runtime(name, text.clone()).await.map_err(unkept)?;
        self.policies.show(name, |standing| standing.runtime = text);
        let pinned = self.policies.shown.load().get(name).and_then(|s| s.pinned);
        if let Some(version) = pinned {
            let note = format!(
                "{name} is pinned to version {version}: this is kept, and in force after \
                 `portcullis policy unpin -s {name}`"
            );
            return Ok(self.changed(name, vec![note]));
        }
        let why = Why { why: "apply", by: Some(who.name.clone()) };
        self.put_in_force(name, compiled, &why).await;
        Ok(self.changed(name, Vec::new()))
    }

    /// A version comes back, and stays.
    pub(in crate::cli::gateway) async fn rollback(
        &self,
        who: &Who,
        name: &str,
        number: u64,
    ) -> Result<Changed, Problem> {
        let (name, _) = self.sandbox(name)?;
        let state = &self.policies.state;
        let compiled = versions::version(state, self.config, name, number)
            .await
            .map_err(|error| bad(&error))?;
        state.set_pinned(name, Some(number)).await.map_err(unkept)?;
        let why = Why { why: "rollback", by: Some(who.name.clone()) };
        self.put_in_force(name, compiled, &why).await;
        self.policies.show(name, |standing| standing.pinned = Some(number));
        let note = format!(
            "pinned: files are checked and not applied until `portcullis policy unpin -s {name}`"
        );
        Ok(self.changed(name, vec![note]))
    }

    /// The files are followed again.
    pub(in crate::cli::gateway) async fn unpin(
        &self,
        who: &Who,
        name: &str,
    ) -> Result<Changed, Problem> {
        let (name, _) = self.sandbox(name)?;
        let runtime = self.policies.runtime(name);
        let compiled = self.compile(name, runtime.as_deref()).map_err(|error| bad(&error))?;
        self.policies.state.set_pinned(name, None).await.map_err(unkept)?;
        self.policies.show(name, |standing| standing.pinned = None);
        let why = Why { why: "unpin", by: Some(who.name.clone()) };
        self.put_in_force(name, compiled, &why).await;
        Ok(self.changed(name, Vec::new()))
    }

    /// Writes an answer for good, and puts it in force. The entry is answered first, so that the
    /// rule does not seem to have come by itself; it waits again if the file can't be written.
    pub(in crate::cli::gateway) async fn answer(
        &self,
        queue: &Queue,
        plan: Box<Plan>,
    ) -> Result<Entry, Problem> {
        let (name, _) = self.sandbox(queue.sandbox())?;
        self.unpinned(name)?;
        let asked = queue.entry(plan.number).map(|entry| entry.asked);
        let answer = plan.approval.decision;
        let path = self.config.approved(name);
        let rule = plan.rule.clone().unwrap_or_default();
        let text = approved::read(&path).map_err(unkept)?;
        let new = approved::with(&text, name, &rule, plan.number).map_err(|error| bad(&error))?;
        let shown: Arc<str> = path.display().to_string().into();
        let entry = queue
            .carry_out(&plan, Some(shown), SystemTime::now())
            .map_err(|error| super::super::operator::refused(&error))?;
        let by = Some(plan.approval.by.to_string());
        let says = |policy: &Policy| asked.is_some_and(|asked| asked.answered_by(policy, answer));
        let compile = || self.compile(name, self.policies.runtime(name).as_deref());
        let why = Why { why: "approved", by };
        match self.rewrite(name, (&text, &new), (why, says), compile).await {
            Ok(()) => Ok(entry),
            Err(problem) => {
                drop(queue.undo(plan.number));
                Err(problem)
            }
        }
    }

    /// Takes the rule of an answer out of the file.
    pub(in crate::cli::gateway) async fn unanswer(
        &self,
        queue: &Queue,
        number: u64,
        who: &Who,
    ) -> Result<(), Problem> {
        let (name, _) = self.sandbox(queue.sandbox())?;
        self.unpinned(name)?;
        let text = approved::read(&self.config.approved(name)).map_err(unkept)?;
        // Who took it out by hand has undone it already.
        let Some(new) = approved::without(&text, number) else { return Ok(()) };
        let why = Why { why: "undo", by: Some(who.name.clone()) };
        let compile = || self.compile_answers(name);
        self.rewrite(name, (&text, &new), (why, |_: &Policy| true), compile).await
    }

    fn unpinned(&self, name: &Arc<str>) -> Result<(), Problem> {
        let pinned = self.policies.shown.load().get(name).and_then(|s| s.pinned);
        pinned.map_or(Ok(()), |version| Err(is_pinned(name, version)))
    }

    /// Writes the file of answers and puts it in force, if it `says` what it should; or neither.
    async fn rewrite(
        &self,
        name: &Arc<str>,
        (old, new): (&str, &str),
        (why, says): (Why, impl FnOnce(&Policy) -> bool),
        compile: impl FnOnce() -> anyhow::Result<Compiled>,
    ) -> Result<(), Problem> {
        let path = self.config.approved(name);
        approved::write(&path, new).map_err(|error| {
            Problem::unavailable(format!("{} can't be written: {error}", path.display()))
        })?;
        let compiled = compile().and_then(|compiled| {
            anyhow::ensure!(says(&compiled.1), "no rule can say that: answer for the session");
            Ok(compiled)
        });
        match compiled {
            Ok(compiled) => {
                tracing::debug!(digest = %digest(&compiled), "answers for good changed");
                self.put_in_force(name, compiled, &why).await;
                Ok(())
            }
            Err(error) => {
                if let Err(error) = approved::write(&path, old) {
                    tracing::error!(%error, "the file of answers could not be put back");
                }
                Err(bad(&error))
            }
        }
    }
}
