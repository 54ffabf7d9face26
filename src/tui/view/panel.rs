//! What is asked, above the footer.
//!
//! Owns the wording of every question: what an answer covers stands there in full before it can be
//! given.

use super::{detail, target};
use crate::addr::Shown;
use crate::control::wire::{Breadth, Request, Scope, Verdict};
use crate::tui::line::Line;
use crate::tui::model::Model;
use crate::tui::prompt::{Answer, Fate, Many, Prompt};
use crate::tui::queue::{Entry, Number};
use crate::tui::strip::Strip;
use crate::tui::theme::Tone;

/// Lines of a question about many that are no row of the list.
const AROUND: usize = 2;

/// Lines of a question about one that are not its target: its title, what is typed, how long it
/// holds, and a risk.
const RESERVED: usize = 4;

/// Lines that its target has in any case, where there are so many.
const TARGET: usize = 3;

/// How many rows of a question about many fit where it may have `most` lines.
pub(super) fn listed(most: usize) -> usize {
    most.saturating_sub(AROUND).max(1)
}

/// The question in at most `most` lines; none where nothing is asked.
pub(super) fn lines(model: &Model, width: usize, most: usize) -> Vec<Strip> {
    let Some(prompt) = &model.prompt else { return Vec::new() };
    let (title, body) = match prompt {
        Prompt::Answer(answer) => fitting(model, answer, (width, most)),
        Prompt::Many(many) => return of_many(many, width, most),
        Prompt::Revoke { grant, .. } => {
            let id = Shown::new(&grant.grant).limit(20);
            let what = Strip::new().shown(Tone::Strong, &grant.covers);
            let then =
                "What it let through and still runs is cut. y revokes, anything else doesn't.";
            (format!("revoke {id}?"), vec![what, Strip::of(Tone::Plain, then)])
        }
        Prompt::Search { line, .. } => {
            let mut typed = Strip::of(Tone::Key, "/");
            typed.append(edited(line));
            return vec![rule("search", width), typed];
        }
    };
    let mut lines = vec![rule(&title, width)];
    let wrapped: Vec<Strip> = body.into_iter().flat_map(|line| line.wrap(width, 2)).collect();
    lines.extend(wrapped);
    if lines.len() > most {
        let hidden = lines.len() + 1 - most.max(2);
        lines.truncate(most.max(2) - 1);
        let text = format!("{hidden} lines more: Esc, then Enter shows all");
        lines.push(Strip::of(Tone::Doubtful, text).cut(width));
    }
    lines
}

fn rule(title: &str, width: usize) -> Strip {
    let lead = Strip::of(Tone::Faint, "── ").then(Tone::Strong, title).then(Tone::Faint, " ");
    let rest = width.saturating_sub(lead.width());
    lead.then(Tone::Faint, "─".repeat(rest)).cut(width)
}

/// A line that is typed, with its cursor.
fn edited(line: &Line) -> Strip {
    let (before, here, after) = line.parts();
    let here = Shown::new(here.encode_utf8(&mut [0; 4])).to_string();
    Strip::new()
        .shown(Tone::Strong, &before)
        .then(Tone::Faint, "▏")
        .then(Tone::Strong, here.trim_end())
        .shown(Tone::Strong, &after)
}

/// The question about one, whose target takes as many lines as the rest of it leaves.
fn fitting(model: &Model, answer: &Answer, (width, most): (usize, usize)) -> (String, Vec<Strip>) {
    let rows = |lines: &[Strip]| -> usize {
        lines.iter().map(|line| line.clone().wrap(width, 2).len()).sum()
    };
    let mut room = most.saturating_sub(RESERVED).max(1);
    loop {
        let (title, lines) = one(model, answer, (width, width * room));
        if room <= TARGET || rows(&lines) < most {
            return (title, lines);
        }
        room -= 1;
    }
}

/// `room` is how many columns the target may take, so that the rest of the question stands there too.
fn one(model: &Model, answer: &Answer, (width, room): (usize, usize)) -> (String, Vec<Strip>) {
    let number = answer.number;
    let verb = match answer.verdict {
        Verdict::Approve => "approve",
        Verdict::Deny => "deny",
    };
    let (Fate::Same, Some(entry)) = (&answer.fate, model.queue.get(number)) else {
        let text = match answer.fate {
            Fate::Changed => {
                "It changed while this was asked. Enter shows it as it stands now; nothing is answered."
            }
            Fate::Same | Fate::Gone => {
                "It waits no longer: it was answered, or has gone. Esc leaves."
            }
        };
        return (format!("{verb} {number}?"), vec![Strip::of(Tone::Bad, text)]);
    };
    let mut lines = vec![covers(model, answer, entry, room)];
    if answer.types() {
        let label = match answer.verdict {
            Verdict::Approve => "path: ",
            Verdict::Deny => "reason for the agent: ",
        };
        let mut line = Strip::of(Tone::Faint, label);
        line.append(edited(&answer.line));
        lines.push(line);
    }
    lines.push(holds(answer, entry));
    for note in &entry.request.risk {
        lines.push(Strip::of(Tone::Doubtful, "! ").told(Tone::Doubtful, &note.text));
    }
    if answer.scope == Scope::Always && answer.breadth == Breadth::Exact {
        let yaml = entry.request.proposal.yaml.trim_end();
        // What it says of itself first, and whole: that it is wider than what was asked.
        let (says, writes): (Vec<&str>, Vec<&str>) =
            yaml.split('\n').partition(|line| line.trim_start().starts_with('#'));
        let says =
            says.into_iter().map(|line| Strip::of(Tone::Plain, "  ").shown(Tone::Faint, line));
        let writes = writes.into_iter().map(|line| {
            let line = Shown::new(line).limit(width.saturating_sub(20)).to_string();
            Strip::of(Tone::Plain, "  ").then(Tone::Faint, line)
        });
        lines.extend(says.chain(writes));
    }
    (format!("{verb} {number}?"), lines)
}

/// `session · exact  GET api.github.com/repos/a/b`.
fn covers(model: &Model, answer: &Answer, entry: &Entry, room: usize) -> Strip {
    let request = &entry.request;
    let scope = match answer.scope {
        Scope::Once => "once",
        Scope::Session => "session",
        Scope::Always => "always",
    };
    let breadth = match answer.breadth {
        Breadth::Exact => "exact",
        Breadth::Path => "path",
        Breadth::Host => "host",
    };
    let mut line = Strip::of(Tone::Key, format!("{scope} · {breadth}")).then(Tone::Plain, "  ");
    let authority = target::authority(entry, room / 2);
    match answer.breadth {
        Breadth::Exact => {
            line.append(target::whole(entry, room));
            if let Some(body) = &request.body {
                line.push(Tone::Faint, format!(" with this body ({})", detail::of_body(body)));
            }
            return line;
        }
        Breadth::Path => {
            let path = request.proposal.path.as_deref().unwrap_or("/");
            line = line.shown(Tone::Strong, &request.proposal.methods.join(", "));
            line = line.then(Tone::Plain, " ").then(Tone::Strong, authority);
            if !answer.types() || answer.verdict == Verdict::Deny {
                line = line.shown(Tone::Plain, path);
            }
            line.push(Tone::Plain, " with any query and body");
        }
        Breadth::Host => {
            line.push(Tone::Plain, "every method and path on ");
            line.push(Tone::Strong, authority);
        }
    }
    let also = answer.also(&model.queue, entry);
    line.then(
        Tone::Plain,
        match also {
            0 => "; nothing else that waits".to_owned(),
            1 => "; also 1 other that waits".to_owned(),
            also => format!("; also {also} others that wait"),
        },
    )
}

/// How long it holds, and for whom.
fn holds(answer: &Answer, entry: &Entry) -> Strip {
    let request = &entry.request;
    let how_long = match (answer.scope, answer.verdict, answer.lasts()) {
        (Scope::Once, Verdict::Approve, _) => "for this one request".to_owned(),
        (Scope::Once, Verdict::Deny, _) => "this time; it may ask again".to_owned(),
        (Scope::Session, _, None) => "until the session ends".to_owned(),
        (Scope::Session, _, Some(lasts)) => format!("for {lasts}"),
        (Scope::Always, ..) => {
            format!("for good, in approved/{}.yaml", Shown::new(&request.sandbox).limit(60))
        }
    };
    let line = Strip::of(Tone::Plain, how_long).then(Tone::Faint, " · for ");
    match &request.client {
        Some(client) if !answer.any_process => {
            line.shown(Tone::Plain, &client.binary).then(Tone::Faint, " alone")
        }
        _ => line.then(Tone::Plain, "any process of ").shown(Tone::Plain, &request.sandbox),
    }
}

fn of_many(many: &Many, width: usize, most: usize) -> Vec<Strip> {
    let count = many.picks.len();
    let word = if count == 1 { "request" } else { "requests" };
    let (verb, scope) = match (many.verdict, many.scope) {
        (Verdict::Approve, Scope::Once) => ("approve", "once"),
        (Verdict::Approve, _) => ("approve", "for the session"),
        (Verdict::Deny, Scope::Once) => ("deny", "this time"),
        (Verdict::Deny, _) => ("deny", "for the session"),
    };
    let height = listed(most);
    let mut lines = vec![rule(&format!("{verb} {count} {word}, each exactly, {scope}?"), width)];
    lines.extend(many.page.window(height).iter().cloned());
    let last = match (many.unseen(height), many.page.below(height)) {
        (0, 0) => Strip::of(Tone::Plain, "y yes to all · n, Esc, Enter no"),
        (0, below) => Strip::of(Tone::Plain, format!("y yes to all · n no · ↓ {below} more")),
        (_, below) => {
            Strip::of(Tone::Doubtful, format!("↓ {below} more: PgDn; y works at the end"))
        }
    };
    lines.push(last.cut(width));
    lines
}

/// The list of a question about many: each target whole, and what may be wrong with it.
pub(in crate::tui) fn many(model: &Model, picks: &[(Number, String)], width: u16) -> Vec<Strip> {
    let one = |(number, digest): &(Number, String)| {
        let mut line = Strip::of(Tone::Plain, format!("{number} "));
        match model.queue.get(*number) {
            None => line.push(Tone::Bad, "waits no longer"),
            Some(entry) if entry.request.digest != *digest => {
                line.push(Tone::Bad, "changed: will not be answered");
            }
            Some(entry) => {
                line.append(target::whole(entry, target::LISTED));
                line = told_apart(line, &entry.request);
                for note in &entry.request.risk {
                    line = line.then(Tone::Doubtful, " !").shown(Tone::Doubtful, &note.code);
                }
            }
        }
        line.wrap(usize::from(width), 4)
    };
    picks.iter().flat_map(one).collect()
}

/// Who asks, from where, with what: two of the same target may differ in nothing else.
fn told_apart(line: Strip, request: &Request) -> Strip {
    const BEGINNING: usize = 24;
    let binary = request.client.as_ref().map_or("a process not seen", |client| &client.binary);
    let line = line
        .then(Tone::Faint, " · ")
        .then(Tone::Plain, Shown::new(&request.sandbox).limit(40).to_string())
        .then(Tone::Faint, " · ")
        .then(Tone::Plain, Shown::new(binary).limit(60).to_string());
    let Some(body) = &request.body else { return line };
    let unseen = if body.longer { ", not seen whole" } else { "" };
    let beginning = Shown::new(&body.preview).limit(BEGINNING).to_string();
    line.then(Tone::Faint, format!(" · {}{unseen}: ", detail::of_body(body)))
        .then(Tone::Plain, beginning)
}
