//! `sandboxes.defaults.deny_rules`: what is denied to every sandbox, whatever allows it.

use super::error::ConfigError;
use super::raw::{RawConfig, RawDeny};
use super::settle::Reading;
use super::source::At;
use crate::policy::document::{DenyRule, Document, Endpoint, Entry};
use std::sync::Arc;

/// The entry's key: deny rules are named `defaults/endpoints[0]/deny_rules[0]`.
const KEY: &str = "defaults";

/// Settles the deny rules of `sandboxes.defaults`; every other sandbox has none.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &RawConfig,
    defaults: &str,
) -> Result<Option<Arc<Document>>, ConfigError> {
    for (name, sandbox) in &raw.sandboxes {
        if let Some(rule) = sandbox.value.deny_rules.first().filter(|_| name != defaults) {
            let what = "`deny_rules` stands in `defaults` alone, and holds for all sandboxes";
            let fix = "move it to sandboxes.defaults, or into the sandbox's policy file";
            return Err(reading.fault(rule.place, what, fix));
        }
    }
    let rules = raw.sandboxes.get(defaults).map_or(&[][..], |sandbox| &sandbox.value.deny_rules);
    if rules.is_empty() {
        return Ok(None);
    }
    let mut entry = Entry::default();
    for rule in rules {
        entry.endpoints.push(endpoint(reading, rule)?.into());
    }
    Ok(Some(Arc::new(document(entry))))
}

fn document(entry: Entry) -> Document {
    let mut document = Document { version: Some(1.into()), ..Document::default() };
    document.network_policies.insert(KEY.to_owned(), entry.into());
    document
}

fn endpoint(reading: &Reading<'_>, rule: &At<RawDeny>) -> Result<Endpoint, ConfigError> {
    let raw = &rule.value;
    let deny = DenyRule {
        method: Some(raw.method.clone().unwrap_or_else(|| "*".to_owned())),
        path: Some(raw.path.clone().unwrap_or_else(|| "/**".to_owned())),
        query: raw.query.clone(),
        quiet: raw.quiet,
        ..DenyRule::default()
    };
    let endpoint = Endpoint {
        host: Some(raw.host.clone().into()),
        ports: raw.ports.clone().map(Into::into),
        deny_rules: Some(vec![deny.into()].into()),
        ..Endpoint::default()
    };
    // The policy's own checks, on this rule alone; a file's endpoint always names a port.
    let ports = Some(raw.ports.clone().unwrap_or_else(|| vec![443]).into());
    let mut alone = Entry::default();
    alone.endpoints.push(Endpoint { ports, ..endpoint.clone() }.into());
    let text = serde_json::to_string(&document(alone)).map_err(|error| {
        reading.fault(rule.place, error.to_string(), "write { host: api.test }")
    })?;
    match Document::parse(&text, KEY) {
        Ok(_) => Ok(endpoint),
        Err(error) => {
            let mistake = error.mistakes.into_iter().next();
            let (what, fix) = mistake.map_or_else(Default::default, |m| (m.problem, m.right));
            Err(reading.fault(rule.place, what, fix))
        }
    }
}
