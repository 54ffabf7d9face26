//! The policies in force, and how they are swapped: all of them, or none (security.md 23).

use crate::config::Config;
use crate::policy::{BodyLimits, Policy};
use crate::proxy::Sandbox;
use crate::record::{Event, PolicyId};
use crate::traffic::Recorder;
use anyhow::Context;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Compiles every sandbox's policy, read anew.
pub(super) fn compile(config: &Config) -> anyhow::Result<BTreeMap<Arc<str>, Arc<Policy>>> {
    let limits = bodies(config);
    let mut policies = BTreeMap::new();
    for name in config.sandboxes.keys() {
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let layers = config.layers(name)?;
        let policy = Policy::compile(&layers, epoch)
            .with_context(|| format!("the policy of sandbox {name}"))?;
        policies.insert(name.clone(), Arc::new(policy.with_body_limits(limits)));
    }
    Ok(policies)
}

/// How much of a body is read to judge.
pub(super) fn bodies(config: &Config) -> BodyLimits {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    BodyLimits { graphql: size(config.buffer.graphql), rpc: size(config.buffer.rpc) }
}

/// Records that `policy` is in force for `sandbox`.
pub(super) fn announce(recorder: &Recorder, config: &Config, sandbox: &Arc<str>, policy: &Policy) {
    let files = files(config, sandbox);
    tracing::info!(
        %sandbox,
        policy = %PolicyId(policy.id()),
        endpoints = policy.endpoint_count(),
        "policy loaded"
    );
    let event =
        Event::PolicyLoaded { sandbox: sandbox.clone(), policy: PolicyId(policy.id()), files };
    if recorder.event(event).is_err() {
        tracing::warn!(%sandbox, "the loaded policy could not be recorded");
    }
}

/// Swaps every policy whose meaning changed. A sandbox that the config no longer has keeps its
/// listener and allows nothing.
pub(super) fn swap(
    recorder: &Recorder,
    config: &Config,
    sandboxes: &BTreeMap<Arc<str>, Arc<Sandbox>>,
    mut policies: BTreeMap<Arc<str>, Arc<Policy>>,
) {
    for (name, sandbox) in sandboxes {
        let policy = policies
            .remove(name)
            .unwrap_or_else(|| Arc::new(Policy::empty(EPOCH.fetch_add(1, Ordering::Relaxed))));
        if sandbox.policy().id() == policy.id() {
            continue;
        }
        announce(recorder, config, name, &policy);
        sandbox.swap(policy);
    }
    for name in policies.keys() {
        tracing::warn!(sandbox = %name, "a new sandbox needs a restart");
    }
}

/// Records that the files changed and can't be used; what is in force stays.
pub(super) fn rejected(recorder: &Recorder, config: &Config, error: &anyhow::Error) {
    tracing::error!("the last good policy stays in force: {error:#}");
    for sandbox in config.sandboxes.keys() {
        let event = Event::PolicyRejected {
            sandbox: sandbox.clone(),
            files: files(config, sandbox),
            error: crate::addr::Shown::new(&format!("{error:#}")).to_string(),
        };
        if recorder.event(event).is_err() {
            tracing::warn!(%sandbox, "the rejected policy could not be recorded");
        }
    }
}

fn files(config: &Config, sandbox: &Arc<str>) -> Vec<String> {
    let settings = config.sandboxes.get(sandbox);
    let policies = settings.map(|s| s.policies.as_slice()).unwrap_or_default();
    policies.iter().map(|p| crate::addr::Shown::new(&p.to_string_lossy()).to_string()).collect()
}
