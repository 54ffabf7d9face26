//! What a message does to the model, and what is to be done outside because of it.
//!
//! Owns the dispatch. Pure: time comes in as a message, and nothing is asked and nothing drawn.

mod answers;
mod feed;
mod moves;
mod screens;

use super::clock::Now;
use super::keys::{self, Action, Key};
use super::model::{Effect, Focus, Link, Model, Msg, Screen, Tally};
use super::page::Page;
use super::prompt::Prompt;
use super::theme::Tone;
use super::view;
use crate::control::wire::{Scope, Verdict};
use crossterm::event::{KeyEvent, MouseButton, MouseEvent, MouseEventKind};

/// How often the status and the model routes are read while the sandboxes are shown, in seconds.
const STATUS_EVERY: i64 = 2;

/// Takes a message in.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    let effects = match msg {
        Msg::Tick(now) => tick(model, now),
        Msg::Key(event) => key(model, event),
        Msg::Paste(text) => paste(model, &text),
        Msg::Mouse(event) => mouse(model, event),
        Msg::Resize(columns, rows) => resize(model, (columns, rows)),
        Msg::Focus(focus) => refocus(model, focus),
        Msg::Link(link) => relink(model, link),
        Msg::Event(event) => feed::event(model, *event),
        Msg::Read(read) => feed::read(model, read),
        Msg::Done(done) => answers::done(model, done),
    };
    model.queue.settle(model.now);
    effects
}

fn tick(model: &mut Model, now: Now) -> Vec<Effect> {
    let before = std::mem::replace(&mut model.now, now);
    let second = now.wall.div_euclid(1000);
    if model.remark.as_ref().is_some_and(|remark| remark.until <= now.steady) {
        model.remark = None;
        model.stale = true;
    }
    if second == before.wall.div_euclid(1000) {
        return Vec::new();
    }
    model.traffic.turn(now.wall);
    model.stale = true;
    let watched = matches!(model.screen, Screen::Sandboxes(_)) && model.link == Link::Up;
    if watched && second % STATUS_EVERY == 0 { screens::look(model) } else { Vec::new() }
}

fn key(model: &mut Model, event: KeyEvent) -> Vec<Effect> {
    let Some(key) = Key::of(event) else { return Vec::new() };
    model.stale = true;
    let deaf = model.help.is_none()
        && model.prompt.as_ref().is_some_and(|prompt| prompt.deaf(model.now.steady));
    if deaf {
        model.say(Tone::Doubtful, "the question is new: that key did nothing; read it, then press");
        return Vec::new();
    }
    if let Some(action) = keys::action(model.places(), key) {
        return act(model, action);
    }
    if let (Key::Char(c), Some(line)) = (key, typed(model)) {
        line.insert(c.encode_utf8(&mut [0; 4]));
        screens::searched(model);
    }
    Vec::new()
}

/// The line that takes characters, where one does.
fn typed(model: &mut Model) -> Option<&mut super::line::Line> {
    if model.help.is_some() {
        return None;
    }
    model.prompt.as_mut().and_then(Prompt::line)
}

/// A paste is text and never keys: it does nothing where no line is typed.
fn paste(model: &mut Model, text: &str) -> Vec<Effect> {
    let deaf = model.prompt.as_ref().is_some_and(|prompt| prompt.deaf(model.now.steady));
    if !deaf && let Some(line) = typed(model) {
        line.insert(text);
        model.stale = true;
        screens::searched(model);
    }
    Vec::new()
}

/// Does what a key means where the pane is.
fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Quit => return vec![Effect::Quit],
        Action::Suspend => return vec![Effect::Suspend],
        Action::Redraw => return vec![Effect::Redraw],
        Action::Help => toggle_help(model),
        Action::Move(rows) => moves::step(model, rows),
        Action::Page(screens) => moves::page(model, screens),
        Action::First => moves::step(model, isize::MIN + 1),
        Action::Last => moves::step(model, isize::MAX),
        Action::Pane(pane) => return screens::go(model, pane),
        Action::NextPane => return screens::go(model, (model.pane() + 1) % view::PANES),
        Action::LastPane => {
            return screens::go(model, (model.pane() + view::PANES - 1) % view::PANES);
        }
        Action::Back => model.screen = Screen::Pending,
        Action::Search => screens::search(model),
        Action::Sort => {
            model.queue.sort_by(model.queue.sort().next());
        }
        Action::Pause | Action::Verdict => screens::traffic(model, action),
        Action::Sandbox => return screens::next_sandbox(model),
        Action::Edit(edit) => {
            if let Some(line) = typed(model) {
                line.edit(edit);
                screens::searched(model);
            }
        }
        Action::Open => answers::open(model),
        Action::Approve => answers::ask(model, Verdict::Approve, Scope::Session),
        Action::Once => answers::ask(model, Verdict::Approve, Scope::Once),
        Action::Always => answers::ask(model, Verdict::Approve, Scope::Always),
        Action::Deny => answers::ask(model, Verdict::Deny, Scope::Once),
        Action::DenySession => answers::ask(model, Verdict::Deny, Scope::Session),
        Action::All => answers::ask_all(model),
        Action::Mark => answers::mark(model),
        Action::Revoke => answers::ask_revoke(model),
        Action::Undo => return answers::undo(model),
        Action::Widen => answers::widen(model, false),
        Action::Narrow => answers::widen(model, true),
        Action::Longer => answers::lengthen(model, false),
        Action::Shorter => answers::lengthen(model, true),
        Action::AnyProcess => answers::any_process(model),
        Action::Confirm => return answers::confirm(model),
        Action::Cancel => answers::cancel(model),
    }
    Vec::new()
}

fn toggle_help(model: &mut Model) {
    model.help = match model.help.take() {
        Some(_) => None,
        None => Some(Page::new(view::help_lines(model.setting.size.0))),
    };
}

/// A click selects, the wheel scrolls; nothing is ever answered by the mouse.
fn mouse(model: &mut Model, event: MouseEvent) -> Vec<Effect> {
    match event.kind {
        MouseEventKind::ScrollDown => moves::step(model, 1),
        MouseEventKind::ScrollUp => moves::step(model, -1),
        MouseEventKind::Down(MouseButton::Left) if model.prompt.is_none() => {
            match view::hit(model, event.column, event.row) {
                Some(view::Hit::Pane(pane)) if model.help.is_none() => {
                    model.stale = true;
                    return screens::go(model, pane);
                }
                Some(view::Hit::Row(row)) if model.help.is_none() => moves::go(model, row),
                _ => return Vec::new(),
            }
        }
        _ => return Vec::new(),
    }
    model.stale = true;
    Vec::new()
}

fn resize(model: &mut Model, size: (u16, u16)) -> Vec<Effect> {
    model.setting.size = size;
    model.stale = true;
    screens::rewrite(model);
    screens::relist(model, true);
    if model.help.is_some() {
        model.help = Some(Page::new(view::help_lines(size.0)));
    }
    Vec::new()
}

fn refocus(model: &mut Model, focus: Focus) -> Vec<Effect> {
    model.focus = focus;
    Vec::new()
}

/// Nothing is closed when the gateway goes: what was known stays on the screen, and is read again
/// when it is back.
fn relink(model: &mut Model, link: Link) -> Vec<Effect> {
    model.stale = true;
    if matches!(link, Link::Gone { .. }) {
        model.sent.clear();
        model.tally = Tally::default();
    }
    model.link = link;
    Vec::new()
}
