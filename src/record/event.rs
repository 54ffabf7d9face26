//! What happened to the gateway itself: the lines that carry `event` instead of `verdict`.

use super::{PolicyId, text};
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;

/// Something that happened to the gateway or to a sandbox's policy. Texts that came from outside
/// are `Shown` by who fills them in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    /// The gateway has started.
    #[serde(rename = "gateway.start")]
    GatewayStart {
        /// Its version.
        version: String,
    },
    /// The gateway is stopping, as it was asked to.
    #[serde(rename = "gateway.stop")]
    GatewayStop,
    /// A policy is in force.
    #[serde(rename = "policy.loaded")]
    PolicyLoaded {
        /// Whose.
        sandbox: Arc<str>,
        /// Its digest.
        #[serde(serialize_with = "digest")]
        policy: PolicyId,
        /// The files it was read from.
        files: Vec<String>,
    },
    /// A policy could not be read; the last good one stays in force.
    #[serde(rename = "policy.rejected")]
    PolicyRejected {
        /// Whose.
        sandbox: Arc<str>,
        /// The files that were read.
        files: Vec<String>,
        /// Why, in one sentence.
        error: String,
    },
    /// The operator answered an entry of the queue, granted ahead, or took an answer back.
    #[serde(rename = "decision")]
    Decision {
        /// Whose.
        sandbox: Arc<str>,
        /// The entry: `r41`; absent where it was granted ahead.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        /// `approve`, `deny`, or `undo`.
        decision: &'static str,
        /// `once`, `session` or `always`.
        scope: &'static str,
        /// What it covers, in one line.
        covers: String,
        /// The grant that it made or ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        grant: Option<String>,
        /// Who.
        by: String,
        /// The uid of who answered.
        uid: u32,
        /// Where: `term`, `cli`, `api`.
        via: String,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A grant was taken back.
    #[serde(rename = "grant.revoked")]
    GrantRevoked {
        /// Whose.
        sandbox: Arc<str>,
        /// Which: `g7`.
        grant: String,
        /// What it covered.
        covers: String,
        /// Who took it back.
        by: String,
    },
    /// A grant has ended.
    #[serde(rename = "grant.expired")]
    GrantExpired {
        /// Whose.
        sandbox: Arc<str>,
        /// Which: `g7`.
        grant: String,
        /// What it covered.
        covers: String,
    },
    /// Other routes were put behind a sandbox's `inference.local`.
    #[serde(rename = "inference")]
    Inference {
        /// Whose.
        sandbox: Arc<str>,
        /// Which: a name in the config, or `PROVIDER/MODEL`.
        routes: String,
        /// Who did.
        by: String,
    },
    /// Something about a credential, never its value.
    #[serde(rename = "credential")]
    Credential {
        /// Whose.
        sandbox: Arc<str>,
        /// The credential's name; absent where nobody knows the placeholder.
        #[serde(skip_serializing_if = "Option::is_none")]
        credential: Option<Arc<str>>,
        /// What happened.
        what: CredentialEvent,
        /// The host that it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// A listener took up its address, or could not.
    #[serde(rename = "listener")]
    Listener {
        /// Whose.
        sandbox: Arc<str>,
        /// Where: `127.0.0.1:3128`, `unix:/run/…`.
        address: String,
        /// Why it does not listen; absent where it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// What happened to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialEvent {
    /// A placeholder was sent where it is not bound.
    PlaceholderMisuse,
}

impl Event {
    /// Whose event it is; `None` for the whole gateway's.
    pub fn sandbox(&self) -> Option<&Arc<str>> {
        match self {
            Self::GatewayStart { .. } | Self::GatewayStop => None,
            Self::PolicyLoaded { sandbox, .. }
            | Self::PolicyRejected { sandbox, .. }
            | Self::Credential { sandbox, .. }
            | Self::Decision { sandbox, .. }
            | Self::GrantRevoked { sandbox, .. }
            | Self::GrantExpired { sandbox, .. }
            | Self::Inference { sandbox, .. }
            | Self::Listener { sandbox, .. } => Some(sandbox),
        }
    }

    /// Appends the line and its newline to `out`: `{"v":1,"time":…,"event":"policy.loaded",…}`.
    pub fn write_line(&self, time: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"v\":1,\"time\":\"");
        text::time(time, out);
        out.extend_from_slice(b"\",");
        let start = out.len();
        text::json(self, out);
        out.remove(start);
        out.push(b'\n');
    }
}

fn digest<S: serde::Serializer>(policy: &PolicyId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(policy)
}
