//! Credentials as the control API shows them: never a value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A credential, as `GET /v1/credentials` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// Its name.
    pub credential: String,
    /// Its source: `file PATH`, `env NAME`, `command PROGRAM` (without its arguments).
    pub source: String,
    /// Tells its value from another, and says nothing of it; absent where none was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// When this value was first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
    /// How often it was.
    pub uses: u64,
    /// Why its source gives no value; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CredentialFailure>,
    /// Where it goes.
    pub bindings: Vec<CredentialBinding>,
}

/// A source that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialFailure {
    /// When.
    pub at: String,
    /// Why.
    pub text: String,
}

/// Where a credential goes, for one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialBinding {
    /// The sandbox that it is attached to.
    pub sandbox: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The methods; empty: all.
    pub methods: Vec<String>,
    /// The paths.
    pub path: String,
    /// The place in the request: `header Authorization`.
    pub place: String,
}

/// What a credential's source says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialCheck {
    /// Its name.
    pub credential: String,
    /// The fingerprint of what the source says.
    pub fingerprint: String,
    /// Whether that is another value than the one that was in use.
    pub changed: bool,
    /// Whether it is in use from now on (`refresh`), or was only looked at (`test`).
    pub in_use: bool,
}
