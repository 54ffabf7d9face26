//! The grants in force, and the denials for a session.

use super::WIDE;
use super::list::{self, Rows};
use crate::addr::Shown;
use crate::control::wire::{Grant, Verdict};
use crate::tui::clock;
use crate::tui::cursor::Cursor;
use crate::tui::model::Model;
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;
use ratatui::layout::Rect;

/// The rows that are seen.
pub(super) fn rows(model: &Model, cursor: &Cursor<String>, body: Rect) -> Rows {
    let width = usize::from(body.width);
    let grants: &[Grant] = model.gateway.grants.as_deref().unwrap_or_default();
    if grants.is_empty() {
        let text = match &model.gateway.grants {
            None => "The grants are being read…",
            Some(_) => {
                "No grant is in force. Approving a request makes one; `portcullis grants add` \
                 grants ahead. Rules for good stand in 4 Policy."
            }
        };
        let mut heading = vec![Strip::of(Tone::Plain, "no grants"), Strip::new()];
        heading.extend(Strip::of(Tone::Faint, text).wrap(width, 0));
        return Rows { heading, seen: Vec::new(), selected: None };
    }
    let count = grants.len();
    let word = if count == 1 { "grant" } else { "grants" };
    let mut heading = vec![Strip::of(Tone::Plain, format!("{count} {word} in force"))];
    if width >= WIDE {
        let text = format!(
            "  {} {} {} {} {}",
            cell("no", 5),
            cell("left", 7),
            cell("sandbox", 9),
            cell("", 5),
            "what it covers"
        );
        heading.push(Strip::of(Tone::Faint, text));
    }
    let height = usize::from(body.height).saturating_sub(heading.len());
    let row = |at: usize| match grants.get(at) {
        Some(grant) => one(model, grant, cursor.selected() == Some(&grant.grant), width),
        None => Vec::new(),
    };
    let at = cursor.row();
    Rows { heading, seen: list::window(count, at, height, row), selected: Some(at) }
}

fn one(model: &Model, grant: &Grant, under: bool, width: usize) -> Vec<Strip> {
    let left = match grant.expires.as_deref().map(clock::parse) {
        None => "session".to_owned(),
        Some(Some(at)) => clock::left(at - model.now.wall),
        Some(None) => "?".to_owned(),
    };
    let (tone, word) = match grant.decision {
        Verdict::Approve => (Tone::Good, "allow"),
        Verdict::Deny => (Tone::Bad, "deny"),
    };
    let id = Shown::new(&grant.grant).to_string();
    let sandbox = Shown::new(&grant.sandbox).to_string();
    let line = Strip::of(Tone::Key, if under { ">" } else { " " })
        .then(Tone::Plain, format!(" {} {} ", cell(&id, 5), cell(&left, 7)));
    let mut covers = Strip::new().shown(Tone::Strong, &grant.covers);
    if let Some(binary) = &grant.binary {
        covers = covers.then(Tone::Faint, " for ").shown(Tone::Plain, binary);
    }
    let mut about = Strip::of(Tone::Faint, "by ").shown(Tone::Faint, &grant.by);
    match &grant.request {
        Some(request) => about = about.then(Tone::Faint, ", for ").shown(Tone::Faint, request),
        None => about.push(Tone::Faint, ", ahead"),
    }
    about.push(Tone::Faint, format!(", used {} times", grant.used));
    if let Some(reason) = &grant.reason {
        about = about.then(Tone::Faint, ": ").shown(Tone::Faint, reason);
    }
    let mut lines = if width >= WIDE {
        let mut line =
            line.then(Tone::Plain, cell(&sandbox, 9) + " ").then(tone, cell(word, 5) + " ");
        line.append(covers);
        line.wrap(width, 32)
    } else {
        let line = line.then(tone, word).then(Tone::Plain, format!(" {sandbox}"));
        let mut whole = Strip::of(Tone::Plain, "  ");
        whole.append(covers);
        let mut lines = vec![line.cut(width)];
        lines.extend(whole.wrap(width, 2));
        lines
    };
    let indent = if width >= WIDE { 32 } else { 2 };
    let mut last = Strip::of(Tone::Plain, " ".repeat(indent));
    last.append(about);
    lines.extend(last.wrap(width, indent));
    lines
}
