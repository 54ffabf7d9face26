//! The cursor and the scrolling: moves of the user, which answer nothing.

use crate::tui::model::{Model, Screen};
use crate::tui::prompt::Prompt;
use crate::tui::view;

/// Moves by rows; the far ends are the first and the last.
pub(super) fn step(model: &mut Model, rows: isize) {
    let height = view::body_height(model);
    if let Some(help) = &mut model.help {
        return help.scroll(rows, height);
    }
    let listed = view::listed(model);
    match &mut model.prompt {
        Some(Prompt::Many(many)) => return many.scroll(rows, listed),
        Some(_) => return,
        None => {}
    }
    match &mut model.screen {
        Screen::Pending => model.queue.step(rows),
        Screen::Detail(detail) => detail.page.scroll(rows, height),
        Screen::Traffic if rows == isize::MAX => model.traffic.go_on(),
        Screen::Traffic => model.traffic.scroll(rows, height),
        Screen::Grants(cursor) => cursor.step(&ids(&model.gateway.grants), rows),
        Screen::Policy(policy) => policy.page.scroll(rows, height),
        Screen::Sandboxes(page) => page.scroll(rows, height),
    }
}

/// Moves by screens.
pub(super) fn page(model: &mut Model, screens: isize) {
    let height = match &model.prompt {
        Some(Prompt::Many(_)) if model.help.is_none() => view::listed(model),
        _ => view::body_height(model),
    };
    step(model, screens * isize::try_from(height.max(2) - 1).unwrap_or(1));
}

/// Puts the cursor on a row.
pub(super) fn go(model: &mut Model, row: usize) {
    match &mut model.screen {
        Screen::Pending => model.queue.go(row),
        Screen::Grants(cursor) => cursor.go(&ids(&model.gateway.grants), row),
        Screen::Detail(_) | Screen::Traffic | Screen::Policy(_) | Screen::Sandboxes(_) => {}
    }
}

fn ids(grants: &Option<Vec<crate::control::wire::Grant>>) -> Vec<String> {
    grants.iter().flatten().map(|grant| grant.grant.clone()).collect()
}
