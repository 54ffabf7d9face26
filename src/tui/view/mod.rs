//! Draws the model: the header, a screen, what is asked, and the footer.
//!
//! Owns what stands where. Pure: the same model gives the same picture. A picture costs the rows
//! that are seen, however many there are.

mod detail;
mod grants;
mod help;
mod list;
mod models;
mod pages;
mod panel;
mod pending;
mod target;
mod traffic;

pub(super) use detail::lines as detail_lines;
pub(super) use help::lines as help_lines;
pub(super) use pages::{policy as policy_lines, sandboxes as sandbox_lines};
pub(super) use panel::many as many_lines;

use super::clock;
use super::keys::{self, Binding, Place};
use super::model::{Link, Model, Screen};
use super::page::Page;
use super::strip::Strip;
use super::theme::Tone;
use crate::addr::Shown;
use list::Rows;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// How many panes have a digit.
pub(super) const PANES: u8 = 5;
/// From this width on a row of a list is one line of columns.
const WIDE: usize = 60;

/// From this width on names have wide columns and risks are named.
const BROAD: usize = 100;
/// Below this height a question may have the whole screen.
const LOW: u16 = 16;

/// What stands at a place of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// A pane's name in the header, from 0.
    Pane(u8),
    /// A row of the list.
    Row(usize),
}

/// The lines of everything around the screen, and where the screen is.
struct Frames {
    header: Vec<Strip>,
    body: Rect,
    panel: Vec<Strip>,
    footer: Vec<Strip>,
}

/// Draws everything.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    let frames = frames(model, area);
    let mut pen = Pen { buffer: frame.buffer_mut(), model, area, y: area.y };
    for line in frames.header {
        pen.line(line);
    }
    pen.y = frames.body.y;
    body(model, &mut pen, frames.body);
    pen.y = frames.body.bottom();
    for line in frames.panel.into_iter().chain(frames.footer) {
        pen.line(line);
    }
}

/// Writes lines from top to bottom.
struct Pen<'a> {
    buffer: &'a mut Buffer,
    model: &'a Model,
    area: Rect,
    y: u16,
}

impl Pen<'_> {
    fn line(&mut self, strip: Strip) {
        if self.y < self.area.bottom() {
            let line = strip.line(self.model.setting.theme);
            self.buffer.set_line(self.area.x, self.y, &line, self.area.width);
            self.y += 1;
        }
    }

    /// The row under the cursor.
    fn selected(&mut self, strips: Vec<Strip>) {
        let from = self.y;
        for strip in strips {
            self.line(strip);
        }
        let row = Rect { y: from, height: self.y - from, ..self.area };
        self.buffer.set_style(row, self.model.setting.theme.selected());
    }

    fn lines(&mut self, strips: &[Strip]) {
        for strip in strips {
            self.line(strip.clone());
        }
    }
}

fn frames(model: &Model, area: Rect) -> Frames {
    let width = usize::from(area.width);
    let header = header(model, width);
    let footer = footer(model, width);
    let fixed = header.len() + footer.len();
    let most = room(area, fixed);
    let panel = panel::lines(model, width, most);
    let top = u16::try_from(header.len()).unwrap_or(u16::MAX).min(area.height);
    let around = u16::try_from(fixed + panel.len()).unwrap_or(u16::MAX);
    let body = Rect { y: area.y + top, height: area.height.saturating_sub(around), ..area };
    Frames { header, body, panel, footer }
}

/// The screen as large as the terminal was when it last told.
fn screen(model: &Model) -> Rect {
    let (width, height) = model.setting.size;
    Rect { x: 0, y: 0, width, height }
}

/// How many lines a page of the screen shows, its title not counted.
pub(super) fn body_height(model: &Model) -> usize {
    usize::from(frames(model, screen(model)).body.height).saturating_sub(1)
}

/// How many rows of a question about many are on the screen.
pub(super) fn listed(model: &Model) -> usize {
    let area = screen(model);
    let width = usize::from(area.width);
    let fixed = header(model, width).len() + footer(model, width).len();
    panel::listed(room(area, fixed))
}

/// How many lines a question may have: all but two of the screen's, and of a low one all.
fn room(area: Rect, fixed: usize) -> usize {
    let left = if area.height < LOW { 0 } else { 2 };
    usize::from(area.height).saturating_sub(fixed + left)
}

/// What stands at a column and row.
pub(super) fn hit(model: &Model, column: u16, row: u16) -> Option<Hit> {
    let area = screen(model);
    if row == 0 {
        let ends = tabs(model, usize::from(area.width)).into_iter().scan(0, |end, (_, tab)| {
            *end += tab.width();
            Some(*end)
        });
        let pane = ends.take_while(|end| *end <= usize::from(column)).count();
        return u8::try_from(pane).ok().filter(|pane| *pane < PANES).map(Hit::Pane);
    }
    let body = frames(model, area).body;
    let rows = match &model.screen {
        Screen::Pending => pending::rows(model, body),
        Screen::Grants(cursor) => grants::rows(model, cursor, body),
        Screen::Detail(_) | Screen::Traffic | Screen::Policy(_) | Screen::Sandboxes(_) => {
            return None;
        }
    };
    let bottom = body.bottom();
    let height: usize = rows.seen.iter().map(|(_, lines)| lines.len()).sum();
    let top = usize::from(body.y) + rows.heading.len();
    let at = usize::from(row).checked_sub(top)?;
    (at < height && row < bottom).then(|| rows.at(at)).flatten().map(Hit::Row)
}

fn body(model: &Model, pen: &mut Pen<'_>, body: Rect) {
    let width = usize::from(body.width);
    if let Some(help) = &model.help {
        return paged(pen, Strip::of(Tone::Strong, "keys"), help, body);
    }
    match &model.screen {
        Screen::Pending => listing(pen, pending::rows(model, body)),
        Screen::Grants(cursor) => listing(pen, grants::rows(model, cursor, body)),
        Screen::Traffic => traffic::draw(model, body).into_iter().for_each(|line| pen.line(line)),
        Screen::Detail(shown) => {
            paged(pen, detail::title(model, shown, width), &shown.page, body);
        }
        Screen::Policy(policy) => {
            paged(pen, pages::policy_title(policy), &policy.page, body);
        }
        Screen::Sandboxes(page) => paged(pen, pages::sandboxes_title(model), page, body),
    }
}

fn listing(pen: &mut Pen<'_>, rows: Rows) {
    pen.lines(&rows.heading);
    for (row, lines) in rows.seen {
        if Some(row) == rows.selected {
            pen.selected(lines);
        } else {
            pen.lines(&lines);
        }
    }
}

fn paged(pen: &mut Pen<'_>, title: Strip, page: &Page, body: Rect) {
    let height = usize::from(body.height).saturating_sub(1);
    let below = match page.below(height) {
        0 => String::new(),
        below => format!(" ↓ {below} more"),
    };
    let width = usize::from(body.width);
    let room = width.saturating_sub(below.chars().count());
    pen.line(title.cut(room).pad(room).then(Tone::Faint, below));
    pen.lines(page.window(height));
}

/// The panes' names; the one that is shown stands in brackets.
fn tabs(model: &Model, width: usize) -> Vec<(Tone, Strip)> {
    const NAMES: [&str; PANES as usize] = ["Pending", "Traffic", "Grants", "Policy", "Sandboxes"];
    let counts = [Some(model.queue.len()), None, model.gateway.grants.as_ref().map(Vec::len)];
    let mut out = Vec::new();
    for (pane, name) in (0..PANES).zip(NAMES) {
        let shown = pane == model.pane();
        let count = counts.get(usize::from(pane)).copied().flatten().filter(|count| *count > 0);
        let digit = pane + 1;
        let mut text = match count {
            Some(count) if shown || width >= WIDE => format!("{digit} {name} {count}"),
            Some(count) if pane == 0 => format!("{digit}:{count}"),
            _ if shown || width >= WIDE => format!("{digit} {name}"),
            _ => digit.to_string(),
        };
        text = if shown { format!("[{text}]") } else { format!(" {text} ") };
        let tone = if shown { Tone::Strong } else { Tone::Plain };
        out.push((tone, Strip::of(tone, text)));
    }
    out
}

fn header(model: &Model, width: usize) -> Vec<Strip> {
    let mut top = Strip::new();
    for (_, tab) in tabs(model, width) {
        top.append(tab);
    }
    let time = clock::time_of_day(model.now.wall, &model.setting.zone);
    if top.width() + 2 + time.len() <= width {
        top = top.pad(width - time.len()).then(Tone::Faint, time);
    }
    let mut lines = vec![top.cut(width)];
    match model.link {
        Link::Up => {}
        Link::Connecting => lines.push(Strip::of(Tone::Faint, "waiting for the gateway…")),
        Link::Gone { again } => {
            let left = again.saturating_sub(model.now.steady).div_ceil(1000);
            let text = match left {
                0 => "gateway gone; trying again".to_owned(),
                left => format!("gateway gone; trying again in {left} s"),
            };
            lines.push(Strip::of(Tone::Bad, text).cut(width));
        }
    }
    let mut warnings = model.warnings().into_iter();
    if let Some(first) = warnings.next() {
        let more = match warnings.count() {
            0 => String::new(),
            more => format!(" (+{more}: 5)"),
        };
        let room = width.saturating_sub(more.len() + 2);
        let text = Shown::new(&first).to_string();
        let line = Strip::of(Tone::Doubtful, text).cut(room);
        let mut whole = Strip::of(Tone::Doubtful, "! ");
        whole.append(line);
        lines.push(whole.then(Tone::Faint, more));
    }
    lines
}

/// The remark while it stands, else the keys.
fn footer(model: &Model, width: usize) -> Vec<Strip> {
    if let Some(remark) = &model.remark {
        let mut lines = Strip::of(remark.tone, &*remark.text).wrap(width, 2);
        lines.truncate(3);
        return lines;
    }
    vec![hints(model, width)]
}

/// As many keys as fit, help last.
fn hints(model: &Model, width: usize) -> Strip {
    let places = model.places();
    let help = keys::KEYS.iter().find(|b| b.place == Place::Anywhere && b.short == "help");
    let help = help.filter(|_| places.contains(&Place::Anywhere)).map(hint);
    let room = width.saturating_sub(help.as_ref().map_or(0, |help| help.width() + 2));
    let mut line = Strip::new();
    let rows = places.iter().flat_map(|p| keys::KEYS.iter().filter(move |b| b.place == *p));
    for binding in rows.filter(|b| !b.short.is_empty() && b.short != "help") {
        let next = hint(binding);
        let gap = if line.width() == 0 { 0 } else { 2 };
        if line.width() + gap + next.width() > room {
            break;
        }
        line.push(Tone::Plain, " ".repeat(gap));
        line.append(next);
    }
    if let Some(help) = help {
        line.push(Tone::Plain, if line.width() == 0 { "" } else { "  " });
        line.append(help);
    }
    line
}

fn hint(binding: &Binding) -> Strip {
    Strip::of(Tone::Key, binding.brief()).then(Tone::Plain, format!(" {}", binding.short))
}
