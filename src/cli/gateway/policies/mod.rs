//! The policies in force, and how they are swapped: all of them, or none (security.md 23).
//!
//! Files, presets and answers for good come from the config; beside them stand what was changed
//! on the running gateway: a runtime layer, and a version that a rollback pinned.

mod approved;
mod orders;
mod versions;

pub(super) use approved::make_dir;
pub(super) use orders::{Floor, Order, is_pinned};
pub(super) use versions::{earlier, millis, sources, version};

use crate::config::{Config, Loaded};
use crate::policy::{BodyLimits, Document, Layer, Policy};
use crate::proxy::Sandbox;
use crate::record::{Event, PolicyId};
use crate::state::State;
use crate::traffic::Recorder;
use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a reload waits for the history. SQLite itself waits for a lock for five seconds.
const KEPT_WITHIN: Duration = Duration::from_secs(6);

static EPOCH: AtomicU64 = AtomicU64::new(1);

/// A policy with the layers that it was compiled from.
pub(super) type Compiled = (Vec<Layer>, Arc<Policy>);

/// What is in force for one sandbox, as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Its layers.
    pub(super) layers: Vec<Layer>,
    /// Its digest.
    pub(super) digest: String,
    /// Its number in the history.
    pub(super) version: u64,
    /// It stays at this version until it is let go.
    pub(super) pinned: Option<u64>,
    /// The text of the runtime layer.
    pub(super) runtime: Option<String>,
    /// Why the newest files are not in force: until they are read and good.
    pub(super) rejected: Option<String>,
}

/// What is in force, for all who look at it.
pub(super) type Shown = Arc<ArcSwap<BTreeMap<Arc<str>, Standing>>>;

/// What keeps and changes what is in force.
pub(super) struct Policies {
    pub(super) state: State,
    pub(super) shown: Shown,
    pub(super) recorder: Recorder,
    pub(super) events: tokio::sync::broadcast::Sender<Arc<crate::control::wire::Event>>,
}

/// Who changes what is in force, and why, for the history.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) why: &'static str,
    pub(super) by: Option<String>,
}

impl Why {
    pub(super) fn itself(why: &'static str) -> Self {
        Self { why, by: None }
    }
}

/// Compiles every sandbox's policy, read anew, with what was changed on the running gateway.
pub(super) fn compile(
    config: &Config,
    runtime: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<BTreeMap<Arc<str>, Compiled>> {
    let mut policies = BTreeMap::new();
    for name in config.sandboxes.keys() {
        let mut layers = config.layers(name)?;
        if let Some(text) = runtime(name) {
            layers.push(runtime_layer(&text, "runtime")?);
        }
        policies.insert(name.clone(), compile_layers(config, name, layers)?);
    }
    Ok(policies)
}

/// A runtime layer's text as a layer; `file` is its name in errors.
pub(super) fn runtime_layer(text: &str, file: &str) -> anyhow::Result<Layer> {
    let document = Document::parse(text, file)?;
    Ok(Layer { document, source: "runtime".into(), deny_only: false })
}

pub(super) fn compile_layers(
    config: &Config,
    name: &str,
    layers: Vec<Layer>,
) -> anyhow::Result<Compiled> {
    let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
    let policy = Policy::compile(&layers, epoch)
        .with_context(|| format!("the policy of sandbox {name}"))?
        .with_body_limits(bodies(config));
    Ok((layers, Arc::new(policy)))
}

/// How much of a body is read to judge.
pub(super) fn bodies(config: &Config) -> BodyLimits {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    BodyLimits { graphql: size(config.buffer.graphql), rpc: size(config.buffer.rpc) }
}

/// The policy as its agent may see it: what is allowed and what is not, and nothing of the host
/// (files, inner addresses, whose credentials).
pub(super) fn agent_view(layers: &[Layer]) -> serde_json::Value {
    let mut all = serde_json::Map::new();
    for layer in layers {
        for (name, entry) in &layer.document.network_policies {
            let mut shown = serde_json::to_value(&entry.value).unwrap_or_default();
            let endpoints = shown.get_mut("endpoints").and_then(|e| e.as_array_mut());
            for endpoint in endpoints.into_iter().flatten().filter_map(|e| e.as_object_mut()) {
                endpoint.retain(|key, _| AGENT_SEES.contains(&key.as_str()));
            }
            all.insert(name.clone(), shown);
        }
    }
    all.into()
}

/// The keys of an endpoint that an agent may see.
const AGENT_SEES: [&str; 9] =
    ["host", "port", "ports", "path", "protocol", "enforcement", "access", "rules", "deny_rules"];

impl Policies {
    /// The text of a sandbox's runtime layer.
    pub(super) fn runtime(&self, name: &str) -> Option<String> {
        self.shown.load().get(name).and_then(|standing| standing.runtime.clone())
    }

    /// Notes what is in force for a sandbox.
    pub(super) fn show(&self, name: &Arc<str>, change: impl FnOnce(&mut Standing)) {
        let mut all = BTreeMap::clone(&self.shown.load());
        change(all.entry(name.clone()).or_default());
        self.shown.store(Arc::new(all));
    }

    /// Records that a policy is in force for `sandbox`, and keeps it in the history.
    pub(super) async fn announce(
        &self,
        config: &Config,
        sandbox: &Arc<str>,
        new: &Compiled,
        why: &Why,
    ) {
        self.say(config, sandbox, new);
        self.number(sandbox, new, why).await;
    }

    /// Records that a policy is in force for `sandbox`, and tells of it.
    fn say(&self, config: &Config, sandbox: &Arc<str>, (layers, policy): &Compiled) {
        let id = PolicyId(policy.id());
        let endpoints = policy.endpoint_count();
        tracing::info!(%sandbox, policy = %id, endpoints, "policy loaded");
        let files = files(config, sandbox);
        let event = Event::PolicyLoaded { sandbox: sandbox.clone(), policy: id, files };
        if self.recorder.event(event).is_err() {
            tracing::warn!(%sandbox, "the loaded policy could not be recorded");
        }
        self.show(sandbox, |standing| {
            standing.layers.clone_from(layers);
            standing.digest = id.to_string();
        });
        self.tell(crate::control::wire::Event::PolicyLoaded {
            sandbox: sandbox.to_string(),
            policy: id.to_string(),
        });
    }

    /// Keeps what is in force in the history, and shows its number there.
    async fn number(&self, sandbox: &Arc<str>, new: &Compiled, why: &Why) {
        let digest = PolicyId(new.1.id()).to_string();
        if let Some(version) = self.keep(sandbox, &new.0, &digest, why).await {
            self.show(sandbox, |standing| standing.version = version);
        }
    }

    pub(super) fn tell(&self, event: crate::control::wire::Event) {
        // Nobody may be listening.
        drop(self.events.send(Arc::new(event)));
    }

    /// Swaps every policy whose meaning changed. A sandbox that the config no longer has keeps its
    /// listener and allows nothing; one that is pinned stays what it is.
    pub(super) async fn swap(
        &self,
        config: &Config,
        sandboxes: &BTreeMap<Arc<str>, Arc<Sandbox>>,
        mut policies: BTreeMap<Arc<str>, Compiled>,
        why: &Why,
    ) {
        let (mut changed, mut returns) = (Vec::new(), Vec::new());
        for (name, sandbox) in sandboxes {
            self.show(name, |standing| standing.rejected = None);
            let Some(new) = policies.remove(name) else {
                changed.extend(close(config, name, sandbox).map(|new| (name, new)));
                continue;
            };
            let pinned = self.shown.load().get(name).and_then(|standing| standing.pinned);
            if let Some(version) = pinned {
                tracing::warn!(sandbox = %name, version, "pinned: the files are fine, and not in force");
                if sandbox.is_closed() {
                    returns.push((name, sandbox, version));
                }
            } else if sandbox.is_closed() || sandbox.policy().id() != new.1.id() {
                put(sandbox, &new);
                changed.push((name, new));
            }
        }
        // All are in force before one is said, and before the history has it: what is taken away
        // is gone, however long the state is locked. Nor does the next change wait for long.
        for (name, new) in &changed {
            self.say(config, name, new);
        }
        let kept = join_all(changed.iter().map(|(name, new)| self.number(name, new, why)));
        if tokio::time::timeout(KEPT_WITHIN, kept).await.is_err() {
            tracing::error!("the history of policies is behind: the state is slow or locked");
        }
        for (name, sandbox, version) in returns {
            match versions::version(&self.state, config, name, version).await {
                Ok(pinned) => {
                    put(sandbox, &pinned);
                    self.announce(config, name, &pinned, why).await;
                }
                Err(error) => {
                    tracing::error!(sandbox = %name, version, "it allows nothing: {error:#}");
                }
            }
        }
        for name in policies.keys() {
            tracing::warn!(sandbox = %name, "a new sandbox needs a restart");
        }
    }

    /// Records that the files changed and can't be used; what is in force stays.
    pub(super) fn rejected(&self, config: &Config, error: &anyhow::Error) {
        tracing::error!("the last good policy stays in force: {error:#}");
        let shown = crate::addr::Shown::new(&format!("{error:#}")).to_string();
        for sandbox in config.sandboxes.keys() {
            let event = Event::PolicyRejected {
                sandbox: sandbox.clone(),
                files: files(config, sandbox),
                error: shown.clone(),
            };
            if self.recorder.event(event).is_err() {
                tracing::warn!(%sandbox, "the rejected policy could not be recorded");
            }
            self.show(sandbox, |standing| standing.rejected = Some(shown.clone()));
            self.tell(crate::control::wire::Event::PolicyRejected {
                sandbox: sandbox.to_string(),
                error: shown.clone(),
            });
        }
    }

    /// The files of `loaded` as they would be in force now.
    pub(super) fn compiled(&self, loaded: &Loaded) -> anyhow::Result<BTreeMap<Arc<str>, Compiled>> {
        compile(&loaded.config, &|name| self.runtime(name))
    }
}

/// Puts a policy in force.
fn put(sandbox: &Sandbox, new: &Compiled) {
    sandbox.show_agent(agent_view(&new.0));
    sandbox.swap(new.1.clone());
}

/// Closes a sandbox that the config no longer has, pinned or not: what is denied to all is denied
/// to it, and nothing else is allowed or asked. Gives what is in force, where that is new.
fn close(config: &Config, name: &str, sandbox: &Sandbox) -> Option<Compiled> {
    let layers = config.deny_layer().into_iter().collect();
    let new = compile_layers(config, name, layers).unwrap_or_else(|error| {
        tracing::error!(sandbox = name, "what is denied to all is unknown to it: {error:#}");
        (Vec::new(), Arc::new(Policy::empty(EPOCH.fetch_add(1, Ordering::Relaxed))))
    });
    if sandbox.is_closed() && sandbox.policy().id() == new.1.id() {
        return None;
    }
    sandbox.show_agent(agent_view(&new.0));
    sandbox.close(new.1.clone());
    Some(new)
}

fn files(config: &Config, sandbox: &Arc<str>) -> Vec<String> {
    let settings = config.sandboxes.get(sandbox);
    let policies = settings.map(|s| s.policies.as_slice()).unwrap_or_default();
    policies.iter().map(|p| crate::addr::Shown::new(&p.to_string_lossy()).to_string()).collect()
}
