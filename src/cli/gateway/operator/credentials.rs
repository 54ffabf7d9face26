//! Credentials as an operator sees them.

use super::Operator;
use crate::addr::Shown;
use crate::control::wire::{
    Credential, CredentialBinding, CredentialCheck, CredentialFailure, Problem,
};
use crate::proxy::Sandbox;
use crate::record::rfc3339;
use crate::vault::{Status, VaultError};
use std::sync::Arc;
use std::time::SystemTime;

impl Operator {
    /// The credentials that go somewhere for a sandbox, or all of them.
    pub(super) fn held_credentials(&self, sandbox: Option<&str>) -> Vec<Credential> {
        let mut all: Vec<Credential> = self.vault.list().into_iter().map(shown).collect();
        for (name, each) in &self.sandboxes {
            if sandbox.is_none_or(|wanted| wanted == &**name) {
                bindings(name, each, &mut all);
            }
        }
        all.retain(|credential| sandbox.is_none() || !credential.bindings.is_empty());
        all
    }

    /// What is to be said of credentials that have no value: what needs one is answered 502.
    pub(super) fn without_value(&self) -> Vec<String> {
        let missing = self.vault.list().into_iter().filter(|each| each.fingerprint.is_none());
        missing
            .filter_map(|each| {
                let (_, error) = each.error?;
                let name = Shown::new(&each.name).to_string();
                let why = Shown::new(&error.cause.to_string()).to_string();
                Some(format!("the credential {name} has no value: {why}"))
            })
            .collect()
    }

    pub(super) async fn check(&self, name: &str, keep: bool) -> Result<CredentialCheck, Problem> {
        let Some(credential) = self.vault.find(name) else {
            let shown = Shown::new(name);
            let detail = format!(
                "there is no credential `{shown}`: `portcullis credentials list` shows those that are there"
            );
            return Err(Problem::not_found(detail));
        };
        let failed = |error: crate::vault::VaultError| Problem::conflict(error.to_string());
        let before = credential.status().fingerprint;
        let (fingerprint, changed) = if keep {
            let held = credential.refresh().await.map_err(failed)?;
            let now = held.fingerprint().to_owned();
            let changed = before.as_ref() != Some(&now);
            (now, changed)
        } else {
            let (fingerprint, same) = credential.test().await.map_err(failed)?;
            (fingerprint, !same)
        };
        Ok(CredentialCheck { credential: name.to_owned(), fingerprint, changed, in_use: keep })
    }
}

fn shown(status: Status) -> Credential {
    Credential {
        credential: status.name.to_string(),
        source: status.source,
        fingerprint: status.fingerprint,
        since: status.since.map(rfc3339),
        last_used: status.last_used.map(rfc3339),
        uses: status.uses,
        error: status.error.map(failure),
        bindings: Vec::new(),
    }
}

/// Why a source last gave no value.
pub(super) fn failure((at, error): (SystemTime, VaultError)) -> CredentialFailure {
    CredentialFailure { at: rfc3339(at), text: error.cause.to_string() }
}

fn bindings(name: &Arc<str>, sandbox: &Sandbox, all: &mut [Credential]) {
    let Some(injector) = sandbox.injector() else { return };
    for binding in injector.bindings() {
        let own = all.iter_mut().find(|credential| credential.credential == *binding.credential);
        let Some(own) = own else { continue };
        own.bindings.push(CredentialBinding {
            sandbox: name.to_string(),
            host: binding.host.to_string(),
            port: binding.port.get(),
            methods: binding.methods.iter().map(ToString::to_string).collect(),
            path: binding.path.written().to_owned(),
            place: binding.place.to_string(),
        });
    }
}
