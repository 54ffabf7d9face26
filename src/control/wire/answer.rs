//! Answers: decisions, and the grants that they make.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may leave.
    Approve,
    /// It may not.
    Deny,
}

/// How long an answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For one request.
    Once,
    /// Until the session ends, or for as long as `for` says.
    #[default]
    Session,
    /// For good: a rule in the operator's own file.
    Always,
}

/// How much an answer covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Breadth {
    /// What was shown: method, path, query and body.
    #[default]
    Exact,
    /// The methods on a path pattern, with any query and body.
    Path,
    /// Everything on the host and port.
    Host,
}

/// `POST /v1/requests/{r}/decision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Yes or no.
    pub decision: Verdict,
    /// How long it holds.
    #[serde(default)]
    pub scope: Scope,
    /// How much it covers.
    #[serde(default)]
    pub breadth: Breadth,
    /// With `breadth: path`: the pattern; the proposed one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `breadth: path`: the methods; the entry's own where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// For any process, not just the one that asked.
    #[serde(default)]
    pub any_process: bool,
    /// With `scope: session`: how long, `15m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Why. Of a denial, the agent reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The digest of what was shown.
    pub digest: String,
    /// Where the answer was given: `term`, `cli`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// The query of `DELETE /v1/requests/{r}/decision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// Where the answer was taken back: `term`, `cli`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// What became of a decision: the body of its answer, and part of the entry from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// Yes or no.
    pub decision: Verdict,
    /// How long it holds.
    pub scope: Scope,
    /// How much it covers.
    pub breadth: Breadth,
    /// The user's name, or the uid where it has none.
    pub by: String,
    /// The uid of who answered.
    pub uid: u32,
    /// Where: `term`, `cli`, `api`.
    pub via: String,
    /// When.
    pub at: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The grant that it made: `g7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The file that it was written to, with `scope: always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many held clients it released or refused.
    #[serde(default)]
    pub released: u64,
}

/// A grant: `GET /v1/grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// Its id: `g7`.
    pub grant: String,
    /// Whose it is.
    pub sandbox: String,
    /// `approve`, or `deny` for what the operator does not want to be asked about.
    pub decision: Verdict,
    /// What it covers, in one line: `GET https://api.github.com/repos/*/* with any query and body`.
    pub covers: String,
    /// How much of it: `exact` is one request with its query and body, `path` takes any query and body,
    /// `host` is all that is asked of host and port, and of a raw tunnel all that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breadth: Option<Breadth>,
    /// The executable that it is for; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// When it was made.
    pub made: String,
    /// When it ends; absent where it lives as long as its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Who made it.
    pub by: String,
    /// The entry that it answered; absent where it was granted ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many requests it has let through or refused since the gateway started.
    #[serde(default)]
    pub used: u64,
}

/// `POST /v1/grants`: granting ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// Whose it will be; may be left out where there is one sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The method, `*` for all.
    pub method: String,
    /// `https://api.github.com/repos/*/issues`; the host may be a pattern as in a policy.
    pub url: String,
    /// How long: `1h`. The sandbox's `session` where it is absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// The executable that it is for; any where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it was made: `cli`, `api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}
