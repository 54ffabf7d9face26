//! The rows: plain values and texts. Times are milliseconds since the epoch.

/// A session grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its number, from [`next_grant_id`](super::State::next_grant_id).
    pub id: u64,
    /// Whose it is.
    pub sandbox: String,
    /// What it says, as JSON.
    pub body: String,
    /// When it was made.
    pub made_ms: i64,
    /// When it ends; `None` where it ends with its sandbox.
    pub expires_ms: Option<i64>,
}

/// An answer that was given, or taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at_ms: i64,
    /// Whose request it was about.
    pub sandbox: String,
    /// The entry: `r41`.
    pub request: String,
    /// What was answered, as JSON.
    pub body: String,
}

/// A version of a sandbox's policy, before it has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPolicy {
    /// Whose it is.
    pub sandbox: String,
    /// When it came into force.
    pub at_ms: i64,
    /// The digest of the whole.
    pub digest: String,
    /// Why: `start`, `reload`, `apply`.
    pub why: String,
    /// Who, where a person did it.
    pub by: Option<String>,
    /// Its layers with their texts, as JSON.
    pub layers: String,
}

/// A version of a sandbox's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its number, counted per sandbox from 1.
    pub version: u64,
    /// Whose it is.
    pub sandbox: String,
    /// When it came into force.
    pub at_ms: i64,
    /// The digest of the whole.
    pub digest: String,
    /// Why: `start`, `reload`, `apply`.
    pub why: String,
    /// Who, where a person did it.
    pub by: Option<String>,
    /// Its layers with their texts, as JSON.
    pub layers: String,
}

/// What the models of a sandbox cost in its last day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelDay {
    /// Whose it is.
    pub sandbox: String,
    /// The day, counted from 1970 (UTC).
    pub day: u64,
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
}

/// A model's response that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Whose it is.
    pub sandbox: String,
    /// Its id at the provider.
    pub id: String,
    /// The route that made it.
    pub route: String,
    /// What it cost, in tokens.
    pub tokens: u64,
}
