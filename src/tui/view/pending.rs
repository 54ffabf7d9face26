//! The queue: what waits, since when, for how long, and where it wants to go.

use super::list::{self, Rows};
use super::{BROAD, WIDE, target};
use crate::addr::Shown;
use crate::tui::clock;
use crate::tui::model::Model;
use crate::tui::queue::{Entry, Number, Sort};
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;
use ratatui::layout::Rect;

/// From this height on there is room for headings.
const TALL: u16 = 14;
/// The widths of the columns.
#[derive(Clone, Copy)]
struct Columns {
    sandbox: usize,
    process: usize,
    target: usize,
    risk: usize,
}

impl Columns {
    fn of(width: usize, sandboxes: bool) -> Self {
        let broad = width >= BROAD;
        let sandbox = match (sandboxes, broad) {
            (false, _) => 0,
            (true, false) => 8,
            (true, true) => 13,
        };
        let process = if broad { 13 } else { 8 };
        let risk = if broad { 15 } else { 3 };
        // Cursor and mark, number, age, hold, method, count.
        let fixed = 2 + 6 + 5 + 6 + 8 + 5;
        let target = width.saturating_sub(fixed + sandbox + process + risk);
        Self { sandbox, process, target, risk }
    }
}

/// The rows that are seen.
pub(super) fn rows(model: &Model, body: Rect) -> Rows {
    let width = usize::from(body.width);
    let mut heading = vec![title(model).cut(width)];
    let queue = &model.queue;
    if queue.rows().is_empty() {
        heading.extend(nothing(model, width));
        return Rows { heading, seen: Vec::new(), selected: None };
    }
    let columns = Columns::of(width, many_sandboxes(model));
    if width >= WIDE && body.height >= TALL {
        heading.push(headings(columns));
    }
    let height = usize::from(body.height).saturating_sub(heading.len());
    let row = |at: usize| match queue.rows().get(at).and_then(|number| queue.get(*number)) {
        Some(entry) if width >= WIDE => wide(model, entry, columns),
        Some(entry) => narrow(model, entry, width),
        None => Vec::new(),
    };
    let at = queue.cursor().row();
    let seen = list::window(queue.rows().len(), at, height, row);
    Rows { heading, seen, selected: Some(at) }
}

/// Whether a row must say whose it is.
fn many_sandboxes(model: &Model) -> bool {
    model.setting.only.is_none() && model.gateway.sandboxes().len() > 1
}

fn title(model: &Model) -> Strip {
    let queue = &model.queue;
    let (all, found) = (queue.len(), queue.rows().len());
    let mut line = match (all, found) {
        (0, _) => Strip::new(),
        (all, found) if all == found => Strip::of(Tone::Plain, format!("{all} wait")),
        (all, found) => Strip::of(Tone::Plain, format!("{found} of {all}")),
    };
    if queue.is_short() {
        line.push(Tone::Doubtful, " and more, not shown");
    }
    if queue.held() > 0 {
        line.push(Tone::Plain, format!(", {} held", queue.held()));
    }
    if !queue.marks().is_empty() {
        line.push(Tone::Strong, format!(" · {} marked", queue.marks().len()));
    }
    if queue.sort() != Sort::default() {
        line.push(Tone::Faint, format!(" · by {}", queue.sort().word()));
    }
    if !queue.search().is_empty() {
        line = line.then(Tone::Faint, " · found: ").shown(Tone::Strong, queue.search());
    }
    if let Some(only) = &model.setting.only {
        line = line.then(Tone::Faint, " · sandbox ").shown(Tone::Plain, only);
    }
    let dropped: u64 = model.gateway.sandboxes().iter().map(|sandbox| sandbox.dropped).sum();
    if dropped > 0 {
        line.push(Tone::Doubtful, format!(" · {dropped} dropped, the queue was full"));
    }
    line
}

fn nothing(model: &Model, width: usize) -> Vec<Strip> {
    let text = if !model.gateway.queue_read {
        "The queue is being read…"
    } else if model.queue.is_empty() {
        "Nothing waits. What a sandbox asks for and no rule allows will stand here: \
         a approves it, x denies it. Closing this pane answers nothing."
    } else {
        "Nothing that waits has these words. Esc drops the search."
    };
    let mut lines = vec![Strip::new()];
    lines.extend(Strip::of(Tone::Faint, text).wrap(width, 0));
    lines
}

fn headings(columns: Columns) -> Strip {
    let mut line = format!("  {} {} {} ", cell("no", 5), cell("age", 4), cell("held", 5));
    if columns.sandbox > 0 {
        line.push_str(&cell("sandbox", columns.sandbox));
    }
    line.push_str(&cell("process", columns.process));
    line.push_str(&cell("method", 8));
    line.push_str(&cell("host and path", columns.target));
    line.push_str(&format!(" {}", cell("n", 4)));
    line.push_str(if columns.risk > 3 { "risk" } else { "!" });
    Strip::of(Tone::Faint, line)
}

/// Cursor, mark and number.
fn lead(model: &Model, entry: &Entry) -> Strip {
    let number: Number = entry.number;
    let under = model.queue.cursor().selected() == Some(&number);
    let cursor = if under { ">" } else { " " };
    let mark = if model.queue.marked(number) { "*" } else { " " };
    let sent = model.sent.contains(&number);
    let tone = if sent { Tone::Faint } else { Tone::Plain };
    Strip::of(Tone::Key, cursor)
        .then(Tone::Strong, mark)
        .then(tone, cell(&number.to_string(), 5))
        .then(Tone::Plain, " ")
}

/// What is left of the hold; `…` while an answer is on its way, nothing where nobody is held.
fn hold(model: &Model, entry: &Entry) -> (Tone, String) {
    if model.sent.contains(&entry.number) {
        return (Tone::Faint, "…".to_owned());
    }
    match entry.until {
        Some(until) if entry.request.held > 0 => {
            let left = until - model.now.wall;
            let tone = if left < 10_000 { Tone::Bad } else { Tone::Good };
            (tone, clock::left(left))
        }
        _ => (Tone::Faint, "-".to_owned()),
    }
}

fn count(entry: &Entry) -> String {
    match entry.request.count {
        0 | 1 => String::new(),
        many @ 2..1000 => format!("x{many}"),
        _ => "x999+".chars().take(4).collect(),
    }
}

fn wide(model: &Model, entry: &Entry, columns: Columns) -> Vec<Strip> {
    let request = &entry.request;
    let (tone, hold) = hold(model, entry);
    let mut line = lead(model, entry)
        .then(Tone::Plain, cell(&clock::age(model.now.wall - entry.first), 4))
        .then(Tone::Plain, " ")
        .then(tone, cell(&hold, 5))
        .then(Tone::Plain, " ");
    if columns.sandbox > 0 {
        let sandbox = Shown::new(&request.sandbox).to_string();
        line.push(Tone::Plain, cell(&sandbox, columns.sandbox - 1) + " ");
    }
    let binary = request.client.as_ref().map(|client| &*client.binary);
    line.push(Tone::Plain, cell(&target::program(binary), columns.process - 1) + " ");
    line.push(Tone::Strong, cell(&target::method(request), 7) + " ");
    let indent = line.width();
    let mut targets = target::lines(entry, columns.target).into_iter();
    line.append(targets.next().unwrap_or_default().pad(columns.target));
    line.push(Tone::Plain, format!(" {}", cell(&count(entry), 4)));
    if let Some(first) = request.risk.first() {
        let text = match request.risk.len() {
            _ if columns.risk <= 3 => format!("!{}", request.risk.len().min(9)),
            1 => format!("!{}", Shown::new(&first.code)),
            many => format!("!{many} {}", Shown::new(&first.code)),
        };
        line.push(Tone::Doubtful, cell(&text, columns.risk).trim_end());
    }
    let mut lines = vec![line];
    for more in targets {
        let mut next = Strip::of(Tone::Plain, " ".repeat(indent));
        next.append(more);
        lines.push(next);
    }
    lines
}

/// A line of facts, then method, host and path whole.
fn narrow(model: &Model, entry: &Entry, width: usize) -> Vec<Strip> {
    let request = &entry.request;
    let (tone, hold) = hold(model, entry);
    let mut first = lead(model, entry)
        .then(Tone::Plain, clock::age(model.now.wall - entry.first))
        .then(Tone::Faint, " held ")
        .then(tone, hold);
    let binary = request.client.as_ref().map(|client| &*client.binary);
    first.push(Tone::Plain, format!(" {}", target::program(binary)));
    if many_sandboxes(model) {
        first.push(Tone::Faint, format!(" {}", Shown::new(&request.sandbox)));
    }
    let mut tail = Strip::new();
    if request.count > 1 {
        tail.push(Tone::Plain, format!(" {}", count(entry)));
    }
    if !request.risk.is_empty() {
        tail.push(Tone::Doubtful, format!(" !{}", request.risk.len()));
    }
    let room = width.saturating_sub(tail.width());
    let mut first = first.cut(room);
    first.append(tail);
    let mut lines = vec![first];
    lines.extend(target::wrapped(entry, width, 2));
    lines
}
