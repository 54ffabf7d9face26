//! The policy of a sandbox: the union of the defaults' deny rules, its presets, its files, and the
//! operator's own answers (`approved/<sandbox>.yaml`).
//!
//! Reads the files; compiles nothing.

use super::error::readable;
use super::file::read_file;
use super::settings::Config;
use crate::policy::{Document, Layer, LoadError, preset};
use std::path::PathBuf;

/// The largest policy file that is read, in MiB.
const MAX_FILE: u64 = 64;

/// Why a sandbox's policy can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The config has no such sandbox.
    #[error("no sandbox is named `{name}`\n  fix: use one of: {known}")]
    NoSandbox {
        /// The name, escaped.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A file can't be read.
    #[error("{}: {why}\n  fix: {}", .path.display(), readable(.why, "name a policy file that is there"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// A file is not a policy.
    #[error(transparent)]
    Invalid(#[from] LoadError),
}

impl Config {
    /// The layers of a sandbox's policy, read anew: deny rules of the defaults, presets, files.
    pub fn layers(&self, sandbox: &str) -> Result<Vec<Layer>, PolicyError> {
        let Some(settings) = self.sandboxes.get(sandbox) else {
            let known: Vec<&str> = self.sandboxes.keys().map(|name| &**name).collect();
            let name = crate::addr::Shown::new(sandbox).to_string();
            return Err(PolicyError::NoSandbox { name, known: known.join(", ") });
        };
        let mut layers: Vec<Layer> = self.deny_layer().into_iter().collect();
        for used in &settings.presets {
            layers.extend(preset::find(&used.name).into_iter().flat_map(|p| p.layers(used.access)));
        }
        for path in &settings.policies {
            layers.push(read_layer(path.clone())?);
        }
        layers.extend(self.answers(sandbox)?);
        Ok(layers)
    }

    /// What is denied to every sandbox.
    pub fn deny_layer(&self) -> Option<Layer> {
        let document = Document::clone(self.deny.as_deref()?);
        Some(Layer { document, source: "defaults".into(), deny_only: true })
    }

    /// The layers of a sandbox's answers for good, read anew.
    pub fn answers(&self, sandbox: &str) -> Result<Vec<Layer>, PolicyError> {
        let file = self.approved(sandbox);
        if file.exists() { Ok(answered(read_layer(file)?)) } else { Ok(Vec::new()) }
    }

    /// Where `credentials set` stores values, one a file.
    pub fn secrets(&self) -> PathBuf {
        self.state_dir.join("secrets")
    }

    /// The file that answers for good are written to.
    pub fn approved(&self, sandbox: &str) -> PathBuf {
        self.state_dir.join("approved").join(format!("{sandbox}.yaml"))
    }

    /// Every sandbox's such file, whether it is there or not: what to watch beside the others.
    pub fn all_approved(&self) -> Vec<PathBuf> {
        self.sandboxes.keys().map(|name| self.approved(name)).collect()
    }
}

/// The operator's answers as layers. An entry that only denies speaks for nothing: it must not
/// make the rest of its host an inspected one.
pub fn answered(layer: Layer) -> Vec<Layer> {
    let denies = |entry: &crate::policy::document::Entry| {
        !entry.endpoints.is_empty()
            && entry.endpoints.iter().all(|endpoint| {
                endpoint.deny_rules.is_some()
                    && endpoint.rules.is_none()
                    && endpoint.access.is_none()
            })
    };
    let (mut allowing, mut denying) = (layer.document.clone(), layer.document);
    allowing.network_policies.retain(|_, entry| !denies(entry));
    denying.network_policies.retain(|_, entry| denies(entry));
    let source = layer.source;
    let layers = [
        Layer { document: allowing, source: source.clone(), deny_only: false },
        Layer { document: denying, source, deny_only: true },
    ];
    layers.into_iter().filter(|layer| !layer.document.network_policies.is_empty()).collect()
}

/// Reads one policy file as a layer.
fn read_layer(path: PathBuf) -> Result<Layer, PolicyError> {
    let unreadable = |why| PolicyError::Unreadable { path: path.clone(), why };
    let text = read_file(&path, MAX_FILE).map_err(unreadable)?;
    let source = path.to_string_lossy();
    let document = Document::parse(&text, &source)?;
    Ok(Layer { document, source: source.into(), deny_only: false })
}
