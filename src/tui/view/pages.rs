//! The policy, and the sandboxes with inference: pages that scroll.

use super::models;
use crate::addr::Shown;
use crate::control::wire::{EffectivePolicy, PolicyEntry, SandboxStatus};
use crate::tui::model::{Model, Policy};
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;

/// The policy's title.
pub(super) fn policy_title(policy: &Policy) -> Strip {
    let mut line = Strip::of(Tone::Plain, "policy");
    if let Some(sandbox) = &policy.sandbox {
        line = line.then(Tone::Faint, " of ").shown(Tone::Strong, sandbox);
    }
    if let Some(found) = &policy.policy {
        line.push(Tone::Faint, format!(" · version {}", found.version));
        if let Some(pinned) = found.pinned {
            line.push(Tone::Doubtful, format!(" · pinned at {pinned}: files are not applied"));
        }
    }
    if !policy.search.is_empty() {
        line = line.then(Tone::Faint, " · found: ").shown(Tone::Strong, &policy.search);
    }
    line
}

/// The policy's entries, each under its source.
pub(in crate::tui) fn policy(screen: &Policy, model: &Model, width: u16) -> Vec<Strip> {
    let width = usize::from(width);
    let Some(policy) = &screen.policy else {
        let text = match (&screen.sandbox, &model.gateway.status) {
            (Some(_), _) => "The policy is being read…",
            (None, None) => "The gateway has not said yet which sandboxes there are.",
            (None, Some(_)) => "The gateway has no sandbox, so no policy is in force.",
        };
        let mut lines = vec![Strip::new()];
        lines.extend(Strip::of(Tone::Faint, text).wrap(width, 0));
        return lines;
    };
    let mut lines = Vec::new();
    lines.extend(
        Strip::of(Tone::Faint, "digest ").shown(Tone::Faint, &policy.policy).wrap(width, 7),
    );
    let found: Vec<&PolicyEntry> =
        policy.entries.iter().filter(|entry| found(entry, &screen.search)).collect();
    if found.is_empty() {
        lines.push(Strip::new());
        lines.extend(Strip::of(Tone::Faint, nothing(policy)).wrap(width, 0));
    }
    for entry in found {
        lines.push(Strip::new());
        let name = Strip::new().shown(Tone::Strong, &entry.name);
        lines.extend(
            name.then(Tone::Faint, "  from ").shown(Tone::Key, &entry.source).wrap(width, 2),
        );
        for line in entry.yaml.trim_end_matches('\n').split('\n') {
            lines.extend(Strip::of(Tone::Plain, "  ").shown(Tone::Plain, line).wrap(width, 4));
        }
    }
    lines
}

fn nothing(policy: &EffectivePolicy) -> &'static str {
    if policy.entries.is_empty() {
        "No entry: whatever is asked for is unknown, and waits for an answer or is refused. \
         `portcullis preset list` shows what can be added."
    } else {
        "No entry has these words. Esc drops the search."
    }
}

fn found(entry: &PolicyEntry, words: &str) -> bool {
    let hay = [&*entry.name, &entry.source, &entry.yaml].join("\n").to_lowercase();
    words.split_whitespace().all(|word| hay.contains(word))
}

/// The sandboxes' title.
pub(super) fn sandboxes_title(model: &Model) -> Strip {
    let Some(status) = &model.gateway.status else {
        return Strip::of(Tone::Faint, "sandboxes");
    };
    let version = Shown::new(&status.version).limit(20);
    let mut line = Strip::of(Tone::Plain, format!("portcullis {version}"));
    line.push(Tone::Faint, format!(" · up {}", up(status.uptime)));
    line.push(Tone::Faint, format!(" · pid {}", status.pid));
    line.push(Tone::Faint, format!(" · {} connections", status.connections));
    line.then(Tone::Faint, format!(" · {} listening", status.attended))
}

fn up(seconds: u64) -> String {
    crate::tui::clock::age(i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

/// The sandboxes and inference.
pub(in crate::tui) fn sandboxes(model: &Model, width: u16) -> Vec<Strip> {
    let width = usize::from(width);
    let mut lines = Vec::new();
    for warning in model.warnings() {
        let line = Strip::of(Tone::Doubtful, "! ").shown(Tone::Doubtful, &warning);
        lines.extend(line.wrap(width, 2));
    }
    let only = model.setting.only.as_deref();
    let shown = |sandbox: &&SandboxStatus| only.is_none_or(|only| only == sandbox.name);
    let mut any = false;
    for sandbox in model.gateway.sandboxes().iter().filter(shown) {
        any = true;
        lines.push(Strip::new());
        one(sandbox, width, &mut lines);
        models::rows(model, &sandbox.name, width, &mut lines);
    }
    if !any {
        let text = match &model.gateway.status {
            None => "The sandboxes are being read…",
            Some(_) => "The gateway has no such sandbox: `portcullis sandboxes` lists them.",
        };
        lines.push(Strip::new());
        lines.extend(Strip::of(Tone::Faint, text).wrap(width, 0));
    }
    lines
}

/// A value beside its label.
pub(super) fn row(lines: &mut Vec<Strip>, width: usize, label: &str, value: Strip) {
    let mut line = Strip::of(Tone::Faint, format!("  {}", cell(label, 10)));
    line.append(value);
    lines.extend(line.wrap(width, 12));
}

fn one(sandbox: &SandboxStatus, width: usize, lines: &mut Vec<Strip>) {
    let head = Strip::new().shown(Tone::Strong, &sandbox.name);
    let head = head.then(Tone::Faint, "  tier ").shown(Tone::Plain, &sandbox.tier);
    lines.extend(
        head.then(Tone::Faint, "  unknown: ").shown(Tone::Plain, &sandbox.mode).wrap(width, 2),
    );
    let mut row = |label: &str, value: Strip| row(lines, width, label, value);
    let list = |texts: &[String], none: &str| match texts {
        [] => none.to_owned(),
        texts => {
            texts.iter().map(|text| Shown::new(text).to_string()).collect::<Vec<_>>().join(", ")
        }
    };
    row("listens", Strip::of(Tone::Plain, list(&sandbox.listeners, "nowhere")));
    row("presets", Strip::of(Tone::Plain, list(&sandbox.presets, "none")));
    let now = format!(
        "{} connections, {} held, {} waiting, {} grants",
        sandbox.connections, sandbox.held, sandbox.pending, sandbox.grants
    );
    row("now", Strip::of(Tone::Plain, now));
    let requests = sandbox.requests;
    let since = Strip::of(Tone::Good, format!("{} passed", requests.passed))
        .then(Tone::Plain, ", ")
        .then(Tone::Bad, format!("{} refused", requests.refused))
        .then(Tone::Plain, ", ")
        .then(Tone::Doubtful, format!("{} failed", requests.failed));
    row("requests", since);
    if sandbox.dropped > 0 {
        let text = format!("{} questions: the queue was full", sandbox.dropped);
        row("dropped", Strip::of(Tone::Doubtful, text));
    }
    row("policy", Strip::new().shown(Tone::Faint, &sandbox.policy));
    if sandbox.runtime > 0 {
        let text = format!("{} changes made on the running gateway", sandbox.runtime);
        row("runtime", Strip::of(Tone::Doubtful, text));
    }
    if let Some(pinned) = sandbox.pinned {
        let text =
            format!("at version {pinned}: `portcullis policy unpin` follows the files again");
        row("pinned", Strip::of(Tone::Doubtful, text));
    }
    if let Some(why) = &sandbox.rejected {
        row("rejected", Strip::new().shown(Tone::Bad, why));
    }
}
