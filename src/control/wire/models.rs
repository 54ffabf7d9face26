//! What goes over the control socket about model calls.

use super::CredentialFailure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is behind a sandbox's `inference.local`: `GET /v1/sandboxes/{name}/inference`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inference {
    /// Whose it is.
    pub sandbox: String,
    /// The name of the routes; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where they come from: `config`, `runtime` (`inference set`), `none`.
    pub source: String,
    /// The routes, tried top down.
    pub routes: Vec<InferenceRoute>,
    /// Names that stand for models.
    #[serde(default)]
    pub aliases: std::collections::BTreeMap<String, String>,
    /// Tokens spent in the present day (UTC).
    pub spent_today: u64,
    /// What the present day (UTC) has seen.
    #[serde(default)]
    pub today: InferenceDay,
    /// The most that may be spent in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// The most calls a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// What each model has cost since the gateway started.
    pub usage: Vec<InferenceUsage>,
}

/// What a day has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InferenceDay {
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InferenceRoute {
    /// Its name.
    pub name: String,
    /// The pattern over model names; absent: whatever the routes above did not take.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// Who answers.
    pub provider: String,
    /// Where.
    pub endpoint: String,
    /// The credential that pays, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Whether that credential has a value; absent where none pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CredentialState>,
    /// Why that credential's source gives no value; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_error: Option<CredentialFailure>,
    /// The models: the pinned one or the listed ones; empty: any that the provider has.
    pub models: Vec<String>,
    /// The routes that stand in for it.
    pub fallback: Vec<String>,
    /// What to set in the client, one variable for each shape that it speaks.
    pub settings: Vec<String>,
    /// How often it gave no answer that a model made, since the gateway started or the routes were
    /// last changed: also where another route stood in for it.
    #[serde(default)]
    pub errors: u64,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<InferenceFailure>,
}

/// Whether a credential has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// It has been read.
    Available,
    /// Nobody has wanted it yet: it is read with the first call.
    Unread,
    /// Its source fails.
    Failing,
    /// The gateway has no credential of this name.
    Missing,
}

/// An error of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InferenceFailure {
    /// When.
    pub at: String,
    /// What happened.
    pub text: String,
}

/// What one model has cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InferenceUsage {
    /// The route.
    pub route: String,
    /// The model.
    pub model: String,
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
    /// Calls whose tokens are estimated.
    pub estimated: u64,
    /// The mean time to the first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<f64>,
    /// Tokens made a second, from the first token on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

/// Other routes: `PUT /v1/sandboxes/{name}/inference`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetInference {
    /// The name of routes in the config, or `PROVIDER[/MODEL]`.
    pub to: String,
    /// Where the provider is, if not at its usual endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The credential that pays, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Whether it is put in force without having been tried.
    #[serde(default)]
    pub unverified: bool,
}

/// What came of one check: `POST /v1/sandboxes/{name}/inference/probe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The route.
    pub route: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What was tried: `models`, `chat`, `stream`, `tool`.
    pub check: String,
    /// Whether it works.
    pub works: bool,
    /// How long the first byte took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<f64>,
    /// What is wrong where it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
