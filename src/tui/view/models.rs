//! What is behind a sandbox's `inference.local`: rows of the sandboxes' page.

use super::pages::row;
use crate::addr::Shown;
use crate::control::wire::{CredentialState, Inference, InferenceRoute};
use crate::tui::clock::{self, Now};
use crate::tui::model::Model;
use crate::tui::strip::Strip;
use crate::tui::theme::Tone;

/// The rows of one sandbox.
pub(super) fn rows(model: &Model, sandbox: &str, width: usize, lines: &mut Vec<Strip>) {
    let reading = model.gateway.inference.get(sandbox);
    let known = reading.and_then(|reading| reading.known.as_ref());
    let failed = reading.and_then(|reading| reading.failed.as_deref());
    match known {
        Some(inference) => known_rows(inference, model.now, width, lines),
        None if failed.is_none() => {
            row(lines, width, "inference", Strip::of(Tone::Faint, "being read…"));
        }
        None => {}
    }
    if let Some(why) = failed {
        let label = if known.is_some() { "" } else { "inference" };
        let text = Strip::of(Tone::Bad, "could not be read: ").told(Tone::Bad, why);
        row(lines, width, label, text);
    }
}

fn known_rows(inference: &Inference, now: Now, width: usize, lines: &mut Vec<Strip>) {
    if inference.routes.is_empty() {
        return row(lines, width, "inference", Strip::of(Tone::Plain, "no models"));
    }
    let name = inference.name.as_deref().unwrap_or("-");
    let title = Strip::new().shown(Tone::Strong, name);
    let title = title.then(Tone::Faint, " from ").shown(Tone::Faint, &inference.source);
    row(lines, width, "inference", title.then(Tone::Faint, ", asked top down"));
    for (number, route) in (1..).zip(&inference.routes) {
        lines.extend(takes(number, route).wrap(width, 15));
        let mut below = |strip: Strip| {
            let mut line = Strip::of(Tone::Plain, " ".repeat(15));
            line.append(strip);
            lines.extend(line.wrap(width, 15));
        };
        below(asks(route, now));
        if route.errors > 0 {
            below(errors(route, now));
        }
    }
    if !inference.aliases.is_empty() {
        row(lines, width, "aliases", aliases(inference));
    }
    row(lines, width, "today", today(inference));
    if let Some(budget) = budget(inference) {
        row(lines, width, "budget", budget);
    }
}

/// Which calls a route takes.
fn takes(number: usize, route: &InferenceRoute) -> Strip {
    let line = Strip::of(Tone::Faint, format!("{}{number:<3}", " ".repeat(12)));
    let line = line.shown(Tone::Strong, &route.name).then(Tone::Faint, " takes ");
    let line = match &route.matches {
        Some(pattern) => line.shown(Tone::Plain, pattern),
        None => line.then(Tone::Plain, "the rest"),
    };
    let line = match &*route.models {
        [] => line.then(Tone::Faint, ", any model"),
        models => line.then(Tone::Faint, ", models ").then(Tone::Plain, listed(models)),
    };
    match &*route.fallback {
        [] => line,
        routes => line.then(Tone::Faint, ", falls back to ").then(Tone::Plain, listed(routes)),
    }
}

/// Who is asked, and who pays.
fn asks(route: &InferenceRoute, now: Now) -> Strip {
    let line = Strip::new().shown(Tone::Plain, &route.provider).then(Tone::Faint, " at ");
    let line = line.shown(Tone::Plain, &route.endpoint);
    let line = match &route.credential {
        None => line.then(Tone::Faint, ", no credential"),
        Some(name) => paid(line.then(Tone::Faint, ", paid by ").shown(Tone::Key, name), route, now),
    };
    if route.errors == 0 { line.then(Tone::Faint, ", no errors") } else { line }
}

/// How the credential does.
fn paid(line: Strip, route: &InferenceRoute, now: Now) -> Strip {
    let Some(state) = route.key else { return line };
    match state {
        CredentialState::Available => line.then(Tone::Good, " (available)"),
        CredentialState::Unread => line.then(Tone::Faint, " (not read yet)"),
        CredentialState::Missing => line.then(Tone::Bad, " (there is none of this name)"),
        CredentialState::Failing => {
            let mut line = line.then(Tone::Bad, " (not available");
            if let Some(error) = &route.key_error {
                line = line.then(Tone::Bad, ": ").told(Tone::Bad, &error.text);
                line.push(Tone::Bad, format!(";{}", ago(&error.at, now)));
            }
            line.then(Tone::Bad, ")")
        }
    }
}

fn errors(route: &InferenceRoute, now: Now) -> Strip {
    let count = match route.errors {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    let line = Strip::of(Tone::Bad, count);
    match &route.last_error {
        None => line,
        Some(last) => {
            let line = line.then(Tone::Faint, format!(", the last{}: ", ago(&last.at, now)));
            line.told(Tone::Plain, &last.text)
        }
    }
}

/// How long ago a time of the wire is, where it is one.
fn ago(at: &str, now: Now) -> String {
    let ms = clock::parse(at).map(|at| now.wall - at);
    ms.map_or_else(String::new, |ms| format!(" {} ago", clock::age(ms)))
}

fn aliases(inference: &Inference) -> Strip {
    let mut line = Strip::new();
    for (at, (alias, model)) in inference.aliases.iter().enumerate() {
        line.push(Tone::Faint, if at > 0 { ", " } else { "" });
        line = line.shown(Tone::Plain, alias).then(Tone::Faint, " is ").shown(Tone::Plain, model);
    }
    line
}

fn today(inference: &Inference) -> Strip {
    let today = inference.today;
    let line = Strip::of(Tone::Plain, format!("{} tokens in, {} out; ", today.input, today.output));
    let line = line.then(Tone::Good, format!("{} calls answered", today.requests));
    let tone = if today.failed > 0 { Tone::Bad } else { Tone::Faint };
    line.then(Tone::Plain, ", ").then(tone, format!("{} failed", today.failed))
}

fn budget(inference: &Inference) -> Option<Strip> {
    let tokens = inference.tokens_per_day.map(|limit| {
        let left = limit.saturating_sub(inference.spent_today);
        let tone = if left == 0 { Tone::Bad } else { Tone::Plain };
        Strip::of(tone, format!("{left} of {limit} tokens left today (UTC)"))
    });
    let calls = inference.requests_per_minute.map(|limit| format!("{limit} calls a minute"));
    match (tokens, calls) {
        (None, None) => None,
        (None, Some(calls)) => Some(Strip::of(Tone::Plain, calls)),
        (Some(tokens), None) => Some(tokens),
        (Some(tokens), Some(calls)) => Some(tokens.then(Tone::Plain, format!(", {calls}"))),
    }
}

fn listed(texts: &[String]) -> String {
    texts.iter().map(|text| Shown::new(text).to_string()).collect::<Vec<_>>().join(", ")
}
