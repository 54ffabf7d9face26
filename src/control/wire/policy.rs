//! Policies: what is in force, what was, and changing it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The effective policy of a sandbox: `GET /v1/sandboxes/{name}/policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectivePolicy {
    /// Whose it is.
    pub sandbox: String,
    /// Its digest.
    pub policy: String,
    /// The version in the history.
    pub version: u64,
    /// The version that a rollback pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// Its entries, in the order they were loaded.
    pub entries: Vec<PolicyEntry>,
}

/// An entry of the effective policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyEntry {
    /// Its key.
    pub name: String,
    /// Where it comes from: a file, `preset:pypi`, `approved`, `runtime`, `defaults`.
    pub source: String,
    /// What it says, as YAML.
    pub yaml: String,
    /// Of a layer that only forbids: it makes no host known (`defaults`, and answers that deny for good).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deny_only: bool,
}

/// A version of a sandbox's policy: `GET /v1/policy/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersion {
    /// Its number, counted per sandbox from 1.
    pub version: u64,
    /// Whose it is.
    pub sandbox: String,
    /// When it came into force.
    pub at: String,
    /// Its digest.
    pub policy: String,
    /// Why: `start`, `reload`, `apply`, `approved`, `rollback`, `unpin`, `undo`.
    pub why: String,
    /// Who, where a person did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its layers: files, `preset:pypi`, `runtime`.
    pub sources: Vec<String>,
    /// Whether it is in force.
    pub current: bool,
}

/// `PUT /v1/sandboxes/{name}/policy`: the sandbox's runtime layer becomes `policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// A policy file's text. An empty one takes the runtime layer away.
    pub policy: String,
    /// The file's name, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a change of policy came to: the answer to apply, rollback, unpin and reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Each sandbox and the version of its policy that is now in force.
    pub versions: BTreeMap<String, u64>,
    /// What is worth knowing, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `POST /v1/sandboxes/{name}/policy/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version to go back to, and to stay at.
    pub version: u64,
}
