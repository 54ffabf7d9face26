//! Traffic as it goes by, the newest at the bottom.

use super::{BROAD, WIDE, target};
use crate::addr::{Host, Shown};
use crate::control::wire::Row;
use crate::tui::clock;
use crate::tui::model::Model;
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;
use jiff::tz::TimeZone;
use ratatui::layout::Rect;

/// The title and the rows that are seen.
pub(super) fn draw(model: &Model, body: Rect) -> Vec<Strip> {
    let width = usize::from(body.width);
    let height = usize::from(body.height).saturating_sub(1);
    let mut lines = vec![title(model).cut(width)];
    if model.traffic.is_empty() {
        lines.push(Strip::new());
        let text = if model.traffic.is_silent() {
            "No request went by since this pane was opened. `portcullis logs` shows what was before."
        } else {
            "No request that is kept passes the filters. Esc drops them."
        };
        lines.extend(Strip::of(Tone::Faint, text).wrap(width, 0));
        return lines;
    }
    let zone = &model.setting.zone;
    let rows: Vec<&Row> = model.traffic.window(height).collect();
    let many = model.setting.only.is_none() && model.gateway.sandboxes().len() > 1;
    let mut made: Vec<Vec<Strip>> = Vec::new();
    let mut left = height;
    for row in rows.into_iter().rev() {
        let row =
            if width >= WIDE { wide(row, width, zone, many) } else { narrow(row, width, zone) };
        if row.len() > left {
            break;
        }
        left -= row.len();
        made.push(row);
    }
    lines.extend(made.into_iter().rev().flatten());
    lines
}

fn title(model: &Model) -> Strip {
    let traffic = &model.traffic;
    let rate = traffic.per_second();
    let all = rate.passed + rate.refused + rate.failed;
    let mut line = Strip::of(Tone::Plain, format!("{all}/s"))
        .then(Tone::Faint, " passed ")
        .then(Tone::Good, rate.passed.to_string())
        .then(Tone::Faint, " refused ")
        .then(Tone::Bad, rate.refused.to_string())
        .then(Tone::Faint, " failed ")
        .then(Tone::Doubtful, rate.failed.to_string());
    if let Some(later) = traffic.paused() {
        line.push(Tone::Strong, format!(" · held still, {later} more came"));
    }
    let filter = traffic.filter();
    if let Some(verdict) = filter.verdict {
        line.push(Tone::Strong, format!(" · {verdict} alone"));
    }
    if let Some(sandbox) = &filter.sandbox {
        line = line.then(Tone::Faint, " · sandbox ").shown(Tone::Strong, sandbox);
    }
    if !filter.words.is_empty() {
        line = line.then(Tone::Faint, " · found: ").shown(Tone::Strong, &filter.words);
    }
    if traffic.missed() > 0 {
        line.push(Tone::Faint, format!(" · {} without a row", traffic.missed()));
    }
    line
}

fn tone(row: &Row) -> Tone {
    match &*row.outcome {
        "passed" => Tone::Good,
        "refused" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

fn time(row: &Row, zone: &TimeZone) -> String {
    clock::parse(&row.time).map_or_else(|| "--:--:--".to_owned(), |at| clock::time_of_day(at, zone))
}

/// What is behind the target: why it was stopped, how long it took, how many it stands for.
fn tail(row: &Row) -> Strip {
    let mut tail = Strip::new();
    if row.outcome == "passed" {
        tail.push(Tone::Faint, format!(" {:.0} ms", row.total_ms));
    } else {
        tail = tail
            .then(Tone::Plain, " ")
            .then(tone(row), Shown::new(&row.code).limit(24).to_string());
    }
    if let Some(repeat) = row.repeat.filter(|repeat| *repeat > 1) {
        tail.push(Tone::Plain, format!(" x{repeat}"));
    }
    tail
}

fn lead(row: &Row, zone: &TimeZone) -> Strip {
    let status = row.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let outcome = Shown::new(&row.outcome).limit(7).to_string();
    Strip::of(Tone::Faint, time(row, zone))
        .then(Tone::Plain, " ")
        .then(tone(row), cell(&outcome, 7))
        .then(Tone::Plain, format!(" {} ", cell(&status, 3)))
}

/// The host and its port, and the path. The host is whole where it fits into `width` columns, and
/// its registrable domain always.
fn place(row: &Row, width: usize) -> (Strip, Strip) {
    let text = row.host.as_deref().unwrap_or("-");
    let host = Host::parse(text).ok();
    let port = match (&*row.scheme, row.port) {
        ("https", Some(443)) | ("http", Some(80)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let room = width.saturating_sub(port.len());
    let mut name = target::host(host.as_ref(), text, usize::MAX);
    if name.len() > room {
        name = target::host(host.as_ref(), text, room.saturating_sub(target::MARK));
    }
    let path = Shown::new(row.path.as_deref().unwrap_or("")).limit(width).to_string();
    (Strip::of(Tone::Strong, name).then(Tone::Plain, port), Strip::of(Tone::Plain, path))
}

/// One line; two where why it was stopped does not stand beside the host; more where not even the
/// registrable domain fits.
fn wide(row: &Row, width: usize, zone: &TimeZone, sandbox: bool) -> Vec<Strip> {
    let mut line = lead(row, zone);
    if sandbox {
        line.push(Tone::Plain, cell(&Shown::new(&row.sandbox).to_string(), 8) + " ");
    }
    if !sandbox || width >= BROAD {
        line.push(Tone::Plain, cell(&target::program(row.binary.as_deref()), 8) + " ");
    }
    let method = Shown::new(row.method.as_deref().unwrap_or("tcp")).limit(12).to_string();
    line.push(Tone::Strong, cell(&method, 7) + " ");
    let (indent, tail) = (line.width(), tail(row));
    let room = width.saturating_sub(indent);
    let (mut place, path) = place(row, room);
    let named = place.width();
    let beside = room.saturating_sub(tail.width());
    let some = path.width().min(8);
    place.append(path);
    if named + some <= beside {
        line.append(place.cut(beside).pad(beside));
        line.append(tail);
        return vec![line];
    }
    // The mark of what is cut takes a column, and not the host's last.
    line.append(if named < room { place.cut(room) } else { place });
    let mut lines = line.wrap(width, indent);
    let pad = width.saturating_sub(tail.width());
    let mut last = Strip::of(Tone::Plain, " ".repeat(pad));
    last.append(tail);
    lines.push(last.cut(width));
    lines
}

fn narrow(row: &Row, width: usize, zone: &TimeZone) -> Vec<Strip> {
    let mut first = lead(row, zone);
    first.append(tail(row));
    let method = Shown::new(row.method.as_deref().unwrap_or("tcp")).limit(12).to_string();
    let mut target = Strip::of(Tone::Plain, "  ").then(Tone::Strong, method).then(Tone::Plain, " ");
    let (named, path) = place(row, width.max(WIDE));
    target.append(named);
    target.append(path);
    let mut lines = vec![first.cut(width)];
    lines.extend(target.wrap(width, 2));
    lines
}
