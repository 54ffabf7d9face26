//! The history of what was in force, and the way back.

use super::{Compiled, Policies, Standing, Why, compile_layers};
use crate::config::Config;
use crate::policy::{Document, Layer};
use crate::record::PolicyId;
use crate::state::{NewPolicy, State, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A layer as the history keeps it. The document is one that was read, written as JSON, which is
/// YAML too.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) source: String,
    #[serde(default)]
    pub(super) deny_only: bool,
    pub(super) document: String,
}

impl Policies {
    /// Keeps a version. `None` where it could not be kept: what is in force is not undone for that.
    pub(super) async fn keep(
        &self,
        sandbox: &Arc<str>,
        layers: &[Layer],
        digest: &str,
        why: &Why,
    ) -> Option<u64> {
        let kept = layers.iter().map(|layer| Kept {
            source: layer.source.to_string(),
            deny_only: layer.deny_only,
            document: serde_json::to_string(&layer.document).unwrap_or_default(),
        });
        let new = NewPolicy {
            sandbox: sandbox.to_string(),
            at_ms: millis(SystemTime::now()),
            digest: digest.to_owned(),
            why: why.why.to_owned(),
            by: why.by.clone(),
            layers: serde_json::to_string(&kept.collect::<Vec<_>>()).unwrap_or_default(),
        };
        match self.state.append_policy(new).await {
            Ok(version) => Some(version),
            Err(error) => {
                tracing::error!(%sandbox, %error, "this version of the policy is not in the history");
                None
            }
        }
    }
}

/// What was changed on the gateway when it last ran.
pub(in crate::cli::gateway) async fn earlier(
    state: &State,
    config: &Config,
) -> Result<BTreeMap<Arc<str>, Standing>, StateError> {
    let mut all = BTreeMap::new();
    for name in config.sandboxes.keys() {
        let standing = Standing {
            runtime: state.runtime(name).await?,
            pinned: state.pinned(name).await?,
            ..Standing::default()
        };
        all.insert(name.clone(), standing);
    }
    Ok(all)
}

/// A version of the history, compiled as it was.
pub(in crate::cli::gateway) async fn version(
    state: &State,
    config: &Config,
    sandbox: &str,
    number: u64,
) -> anyhow::Result<Compiled> {
    let kept = state.policy(sandbox, number).await?;
    let kept = kept.ok_or_else(|| {
        anyhow::anyhow!(
            "version {number} of sandbox {sandbox} is not kept: `portcullis policy history` shows \
             those that are"
        )
    })?;
    let layers: Vec<Kept> = serde_json::from_str(&kept.layers)?;
    let layers = layers.into_iter().map(|kept| {
        let document = Document::parse(&kept.document, &kept.source)?;
        let (source, deny_only) = (kept.source.into(), kept.deny_only);
        Ok(Layer { document, source, deny_only })
    });
    compile_layers(config, sandbox, layers.collect::<anyhow::Result<_>>()?)
}

/// The sources of a version's layers.
pub(in crate::cli::gateway) fn sources(layers: &str) -> Vec<String> {
    let kept: Vec<Kept> = serde_json::from_str(layers).unwrap_or_default();
    kept.into_iter().map(|kept| kept.source).collect()
}

/// Milliseconds since the epoch.
pub(in crate::cli::gateway) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The digest of a compiled policy as it is shown.
pub(super) fn digest(compiled: &Compiled) -> String {
    PolicyId(compiled.1.id()).to_string()
}
