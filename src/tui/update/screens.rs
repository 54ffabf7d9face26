//! Going from screen to screen, searching and filtering.

use crate::tui::cursor::Cursor;
use crate::tui::keys::Action;
use crate::tui::line::Line;
use crate::tui::model::{Effect, Model, Policy, Screen};
use crate::tui::page::Page;
use crate::tui::prompt::Prompt;
use crate::tui::traffic::Filter;
use crate::tui::view;

/// Shows a pane by its digit, from 0.
pub(super) fn go(model: &mut Model, pane: u8) -> Vec<Effect> {
    let mut effects = Vec::new();
    match pane {
        0 => model.screen = Screen::Pending,
        1 => model.screen = Screen::Traffic,
        2 => {
            let grants = model.gateway.grants.iter().flatten();
            let ids: Vec<String> = grants.map(|grant| grant.grant.clone()).collect();
            let mut cursor = Cursor::default();
            cursor.settle(&ids, model.now.steady);
            model.screen = Screen::Grants(cursor);
            effects.push(Effect::ReadGrants);
        }
        3 => {
            model.screen = Screen::Policy(Policy::default());
            effects.extend(next_sandbox(model));
        }
        _ => {
            model.screen = Screen::Sandboxes(Page::default());
            rewrite(model);
            effects.extend(look(model));
        }
    }
    effects
}

/// What the screen of the sandboxes is made of is read.
pub(super) fn look(model: &Model) -> Vec<Effect> {
    let mut effects = vec![Effect::ReadStatus];
    effects.extend(look_at_models(model));
    effects
}

/// The model routes are read where there are sandboxes to show.
pub(super) fn look_at_models(model: &Model) -> Option<Effect> {
    let names = names(model);
    (!names.is_empty()).then_some(Effect::ReadInference(names))
}

/// The names of the sandboxes that are shown.
fn names(model: &Model) -> Vec<String> {
    let all = model.gateway.sandboxes().iter().map(|sandbox| sandbox.name.clone());
    all.filter(|name| model.setting.only.as_ref().is_none_or(|only| only == name)).collect()
}

/// The next sandbox: of the policy, round and round; of the traffic, and all after the last.
pub(super) fn next_sandbox(model: &mut Model) -> Vec<Effect> {
    let names = names(model);
    match &mut model.screen {
        Screen::Policy(policy) => {
            let at = names.iter().position(|name| policy.sandbox.as_ref() == Some(name));
            let next = at.map_or(0, |at| (at + 1) % names.len());
            let Some(name) = names.get(next) else {
                rewrite(model);
                return Vec::new();
            };
            if policy.sandbox.as_ref() != Some(name) {
                *policy = Policy { sandbox: Some(name.clone()), ..Policy::default() };
            }
            rewrite(model);
            vec![Effect::ReadPolicy(name.clone())]
        }
        Screen::Traffic => {
            let mut filter = model.traffic.filter().clone();
            filter.next_sandbox(&names);
            model.traffic.show(filter);
            Vec::new()
        }
        Screen::Pending | Screen::Detail(_) | Screen::Grants(_) | Screen::Sandboxes(_) => {
            Vec::new()
        }
    }
}

/// Holds the traffic still, or shows one verdict alone.
pub(super) fn traffic(model: &mut Model, action: Action) {
    if action == Action::Verdict {
        let mut filter = model.traffic.filter().clone();
        filter.next_verdict();
        model.traffic.show(filter);
    } else if model.traffic.paused().is_some() {
        model.traffic.go_on();
    } else {
        model.traffic.pause();
    }
}

/// Opens the search line.
pub(super) fn search(model: &mut Model) {
    let before = match &model.screen {
        Screen::Pending => model.queue.search().to_owned(),
        Screen::Traffic => model.traffic.filter().words.clone(),
        Screen::Policy(policy) => policy.search.clone(),
        Screen::Detail(_) | Screen::Grants(_) | Screen::Sandboxes(_) => return,
    };
    model.prompt = Some(Prompt::Search { line: Line::new(&before) });
}

/// The search line has other words: what is shown follows at once.
pub(super) fn searched(model: &mut Model) {
    if let Some(Prompt::Search { line, .. }) = &model.prompt {
        look_for(model, &line.text());
    }
}

/// Shows what has these words.
pub(super) fn look_for(model: &mut Model, words: &str) {
    match &mut model.screen {
        Screen::Pending => model.queue.search_for(words),
        Screen::Traffic => {
            let filter = model.traffic.filter().clone();
            model.traffic.show(Filter { words: words.to_lowercase(), ..filter });
        }
        Screen::Policy(policy) => {
            policy.search = words.to_lowercase();
            rewrite(model);
        }
        Screen::Detail(_) | Screen::Grants(_) | Screen::Sandboxes(_) => {}
    }
}

/// Esc where nothing is asked: drops marks first, then the search and the filters.
pub(super) fn drop_search(model: &mut Model) {
    match &model.screen {
        Screen::Pending if model.queue.unmark() => {}
        Screen::Traffic => model.traffic.show(Filter::default()),
        _ => look_for(model, ""),
    }
}

/// Writes the list of a question about many again.
pub(super) fn relist(model: &mut Model, resized: bool) {
    let Some(Prompt::Many(many)) = &model.prompt else { return };
    let lines = view::many_lines(model, &many.picks, model.setting.size.0);
    if let Some(Prompt::Many(many)) = &mut model.prompt {
        many.rewrite(lines, resized);
    }
}

/// Writes the pages of the screen again, after what they tell or the terminal's width changed.
pub(super) fn rewrite(model: &mut Model) {
    let width = model.setting.size.0;
    let lines = match &model.screen {
        Screen::Detail(detail) => match model.queue.get(detail.number) {
            Some(entry) => view::detail_lines(entry, model, width),
            None => return,
        },
        Screen::Policy(policy) => view::policy_lines(policy, model, width),
        Screen::Sandboxes(_) => view::sandbox_lines(model, width),
        Screen::Pending | Screen::Traffic | Screen::Grants(_) => return,
    };
    match &mut model.screen {
        Screen::Detail(detail) => detail.page.rewrite(lines),
        Screen::Policy(policy) => policy.page.rewrite(lines),
        Screen::Sandboxes(page) => page.rewrite(lines),
        Screen::Pending | Screen::Traffic | Screen::Grants(_) => {}
    }
}
