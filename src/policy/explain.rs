//! `policy explain`: the verdict on one intent, and what each endpoint that names its host says.
//!
//! Owns no law of its own: an endpoint's say is what a policy of that endpoint alone would judge.

use super::compile::{CompileError, Layer, Policy};
use super::document::{At, Document, Entry};
use super::intent::Intent;
use super::pattern::HostPattern;
use super::verdict::Verdict;
use crate::addr::Shown;
use serde::Serialize;

/// What a policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// A rule allows it.
    Allow,
    /// No rule allows it, and it is let through.
    Audit,
    /// A deny rule matches.
    Deny,
    /// Nothing allows it, nothing forbids it.
    Unknown,
}

/// A verdict as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The verdict.
    pub verdict: Said,
    /// The stable code.
    pub code: super::Code,
    /// The rule that decided, or the nearest miss. The layer's own text, escaped.
    pub rule: Option<String>,
    /// One sentence without the period; empty where the rule says all.
    pub detail: String,
}

/// What one endpoint says, alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The layer: a file, or `preset:pypi`.
    pub source: String,
    /// The endpoint's line in it; 0 where it has none.
    pub line: u32,
    /// `github/endpoints[0]`.
    pub endpoint: String,
    /// What it says.
    #[serde(flatten)]
    pub reason: Reason,
}

/// The verdict, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What the whole policy says.
    #[serde(flatten)]
    pub reason: Reason,
    /// Every endpoint that names the host, in order.
    pub considered: Vec<Considered>,
}

/// Judges the intent, and asks each endpoint that names its host.
pub fn explain(layers: &[Layer], intent: &Intent<'_>) -> Result<Explained, CompileError> {
    let reason = reason(&Policy::compile(layers, 0)?.judge(intent));
    let mut considered = Vec::new();
    for layer in layers {
        for (key, entry) in &layer.document.network_policies {
            for (index, endpoint) in entry.endpoints.iter().enumerate() {
                let host = endpoint.host.as_ref().map(|host| HostPattern::parse(host));
                let named = match host {
                    Some(Ok(pattern)) => pattern.matches(&intent.target.host),
                    Some(Err(_)) => false,
                    None => true,
                };
                if named {
                    let alone = Policy::compile(&[only(layer, key, entry, index)], 0)?;
                    let name = format!("{key}/endpoints[{index}]");
                    considered.push(Considered {
                        source: Shown::new(&layer.source).to_string(),
                        line: endpoint.line,
                        endpoint: Shown::new(&name).to_string(),
                        reason: renumbered(self::reason(&alone.judge(intent)), key, &name),
                    });
                }
            }
        }
    }
    Ok(Explained { reason, considered })
}

/// The layer with one endpoint of one entry.
fn only(layer: &Layer, key: &str, entry: &At<Entry>, index: usize) -> Layer {
    let mut entry = entry.clone();
    entry.value.endpoints = vec![entry.value.endpoints[index].clone()];
    let mut document = Document { version: layer.document.version.clone(), ..Document::default() };
    document.network_policies.insert(key.to_owned(), entry);
    Layer { document, source: layer.source.clone(), deny_only: layer.deny_only }
}

/// Alone, the endpoint was number 0.
fn renumbered(mut reason: Reason, key: &str, name: &str) -> Reason {
    let alone = Shown::new(&format!("{key}/endpoints[0]")).to_string();
    let name = Shown::new(name).to_string();
    reason.rule = reason.rule.map(|rule| match rule.strip_prefix(&alone) {
        Some(rest) => format!("{name}{rest}"),
        None => rule,
    });
    reason
}

/// A verdict as it is printed.
pub(super) fn reason(verdict: &Verdict) -> Reason {
    let shown = |rule: &str| Some(Shown::new(rule).to_string());
    let permit = |verdict, permit: &super::Permit| Reason {
        verdict,
        code: permit.code(),
        rule: shown(permit.rule()),
        detail: String::new(),
    };
    match verdict {
        Verdict::Allow(allowed) => permit(Said::Allow, allowed),
        Verdict::Audit(audited) => permit(Said::Audit, audited),
        Verdict::Deny(denial) => Reason {
            verdict: Said::Deny,
            code: denial.code,
            rule: denial.rule.as_deref().and_then(shown),
            detail: denial.detail.clone(),
        },
        Verdict::Unknown(question) => Reason {
            verdict: Said::Unknown,
            code: question.code,
            rule: question.nearest.as_deref().and_then(shown),
            detail: question.detail.clone(),
        },
    }
}
