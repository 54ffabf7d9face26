//! Asking the operator, and what becomes of the answers.
//!
//! Invariants: a key acts on what was under the cursor for longer than the guard; an answer carries
//! the digest that was shown; whatever goes wrong, nothing is approved by it.

use super::{feed, screens};
use crate::addr::Shown;
use crate::control::wire::{Decided, Decision, Scope, Verdict};
use crate::tui::model::{Detail, Done, Effect, Link, Model, Refusal, Screen, Tally, UNDOABLE};
use crate::tui::page::Page;
use crate::tui::prompt::{Answer, Fate, Many, Prompt};
use crate::tui::queue::Number;
use crate::tui::theme::Tone;
use crate::tui::view;

/// Asks about what the cursor stands on, or about all that is marked.
pub(super) fn ask(model: &mut Model, verdict: Verdict, scope: Scope) {
    if held_off(model) || unreachable(model) {
        return;
    }
    let marked: Vec<Number> = model.queue.marks().iter().copied().collect();
    if !matches!(model.screen, Screen::Pending) || marked.is_empty() {
        ask_one(model, verdict, scope);
    } else if scope == Scope::Always {
        model.say(Tone::Doubtful, "rules for good are made one by one: Esc drops the marks");
    } else {
        ask_many(model, verdict, scope, &marked);
    }
}

/// Marks what the cursor stands on.
pub(super) fn mark(model: &mut Model) {
    if !held_off(model) {
        model.queue.toggle_mark();
    }
}

/// Whether a key does nothing because what it would act on has just changed.
fn held_off(model: &mut Model) -> bool {
    let guarded = model.guarded();
    if guarded {
        model.say(Tone::Doubtful, "this has just changed: that key did nothing; look again");
    }
    guarded
}

/// Nothing can be answered while no gateway listens.
fn unreachable(model: &mut Model) -> bool {
    if model.link == Link::Up {
        return false;
    }
    model.say(Tone::Bad, "no gateway listens now: nothing can be answered");
    true
}

/// The request that the screen is about.
fn subject(model: &Model) -> Option<Number> {
    match &model.screen {
        Screen::Pending => model.queue.cursor().selected().copied(),
        Screen::Detail(detail) => Some(detail.number),
        Screen::Traffic | Screen::Grants(_) | Screen::Policy(_) | Screen::Sandboxes(_) => None,
    }
}

/// Shows all about what the cursor stands on.
pub(super) fn open(model: &mut Model) {
    if held_off(model) {
        return;
    }
    if let Some(number) = subject(model) {
        show(model, number, None);
    }
}

/// Shows all about a request; `shaken` where the user did not ask for it.
fn show(model: &mut Model, number: Number, shaken: Option<u64>) {
    let Some(entry) = model.queue.get(number) else { return };
    let page = Page::new(view::detail_lines(entry, model, model.setting.size.0));
    let digest = entry.request.digest.clone();
    model.screen = Screen::Detail(Detail { number, digest, page, shaken, gone: false });
}

fn ask_one(model: &mut Model, verdict: Verdict, scope: Scope) {
    let Some(number) = subject(model) else {
        model.say(Tone::Faint, "nothing waits");
        return;
    };
    if model.sent.contains(&number) {
        model.say(Tone::Faint, format!("{number} is being answered"));
        return;
    }
    match model.queue.get(number) {
        Some(entry) => {
            let answer = Answer::new(entry, verdict, scope, model.now.steady);
            model.prompt = Some(Prompt::Answer(answer));
        }
        None => model.say(Tone::Doubtful, format!("{number} waits no longer")),
    }
}

/// Lists all that is marked, or all that was found, and asks.
pub(super) fn ask_all(model: &mut Model) {
    if held_off(model) || unreachable(model) {
        return;
    }
    let all: Vec<Number> = match model.queue.marks() {
        marks if marks.is_empty() => model.queue.rows().to_vec(),
        marks => marks.iter().copied().collect(),
    };
    if all.is_empty() {
        model.say(Tone::Faint, "nothing waits");
    } else {
        ask_many(model, Verdict::Approve, Scope::Session, &all);
    }
}

fn ask_many(model: &mut Model, verdict: Verdict, scope: Scope, numbers: &[Number]) {
    let digest = |number: &Number| {
        let entry = model.queue.get(*number)?;
        Some((*number, entry.request.digest.clone()))
    };
    let picks: Vec<_> = numbers.iter().filter_map(digest).collect();
    let page = Page::new(view::many_lines(model, &picks, model.setting.size.0));
    let opened = model.now.steady;
    model.prompt = Some(Prompt::Many(Many { verdict, scope, picks, page, seen: 0, opened }));
}

/// Asks whether to take the grant under the cursor back.
pub(super) fn ask_revoke(model: &mut Model) {
    if held_off(model) {
        return;
    }
    let Screen::Grants(cursor) = &model.screen else { return };
    let id = cursor.selected();
    let found = model.gateway.grants.iter().flatten().find(|grant| Some(&grant.grant) == id);
    match found.cloned() {
        Some(grant) if !unreachable(model) => {
            model.prompt = Some(Prompt::Revoke { grant, opened: model.now.steady });
        }
        _ => {}
    }
}

/// Covers more, or less.
pub(super) fn widen(model: &mut Model, narrower: bool) {
    let Some(Prompt::Answer(answer)) = &mut model.prompt else { return };
    let Some(entry) = model.queue.get(answer.number) else { return };
    answer.widen(entry, narrower);
    if answer.scope == Scope::Once {
        model.say(Tone::Faint, "once is for exactly this request");
    }
}

/// Holds for longer, or for less long.
pub(super) fn lengthen(model: &mut Model, shorter: bool) {
    if let Some(Prompt::Answer(answer)) = &mut model.prompt {
        answer.lengthen(shorter);
    }
}

/// For any process, or for the one that asked.
pub(super) fn any_process(model: &mut Model) {
    if let Some(Prompt::Answer(answer)) = &mut model.prompt {
        answer.any_process = !answer.any_process;
    }
}

/// Yes to what is shown.
pub(super) fn confirm(model: &mut Model) -> Vec<Effect> {
    let listed = view::listed(model);
    match model.prompt.take() {
        Some(Prompt::Answer(answer)) => confirm_one(model, answer),
        Some(Prompt::Many(many)) => {
            let unseen = many.unseen(listed);
            if unseen > 0 {
                let text = format!("{unseen} lines more stand below: look at them first (PgDn)");
                model.say(Tone::Doubtful, text);
                model.prompt = Some(Prompt::Many(many));
                return Vec::new();
            }
            send(model, many.decisions())
        }
        Some(Prompt::Revoke { grant, .. }) => vec![Effect::Revoke(grant.grant)],
        Some(Prompt::Search { .. }) | None => Vec::new(),
    }
}

fn confirm_one(model: &mut Model, answer: Answer) -> Vec<Effect> {
    let number = answer.number;
    let entry = match (&answer.fate, model.queue.get(number)) {
        (Fate::Same, Some(entry)) => entry,
        (Fate::Changed, Some(_)) => {
            show(model, number, Some(model.now.steady));
            model.say(Tone::Doubtful, format!("{number} changed: nothing was answered"));
            return Vec::new();
        }
        (_, None) | (Fate::Gone, _) => {
            model.say(Tone::Doubtful, format!("{number} waits no longer: nothing was answered"));
            return Vec::new();
        }
    };
    if let Some(why) = answer.objection(entry) {
        model.say(Tone::Bad, why);
        model.prompt = Some(Prompt::Answer(answer));
        return Vec::new();
    }
    let decision = answer.decision(entry);
    send(model, vec![(number, decision)])
}

fn send(model: &mut Model, decisions: Vec<(Number, Decision)>) -> Vec<Effect> {
    if unreachable(model) || decisions.is_empty() {
        return Vec::new();
    }
    model.sent.extend(decisions.iter().map(|(number, _)| *number));
    model.queue.unmark();
    vec![Effect::Decide(decisions)]
}

/// No, or nothing.
pub(super) fn cancel(model: &mut Model) {
    match model.prompt.take() {
        Some(Prompt::Search { .. }) => screens::look_for(model, ""),
        Some(Prompt::Answer(answer)) => {
            let number = answer.number;
            model.say(Tone::Faint, format!("{number} was not answered"));
        }
        Some(Prompt::Many(_)) => model.say(Tone::Faint, "nothing was answered"),
        Some(Prompt::Revoke { .. }) => model.say(Tone::Faint, "nothing was revoked"),
        None => screens::drop_search(model),
    }
}

/// Takes the last answers back. It needs no question: nothing is let through by it.
pub(super) fn undo(model: &mut Model) -> Vec<Effect> {
    if unreachable(model) {
        return Vec::new();
    }
    match model.given.pop() {
        Some(numbers) => vec![Effect::Undo(numbers)],
        None => {
            model.say(Tone::Faint, "no answer was given here that could be taken back");
            Vec::new()
        }
    }
}

/// What became of something that was sent.
pub(super) fn done(model: &mut Model, done: Done) -> Vec<Effect> {
    model.stale = true;
    match done {
        Done::Decided { number, verdict, result, left } => {
            model.sent.remove(&number);
            let effects = match result {
                Ok(decided) => accepted(model, number, &decided),
                Err(refusal) => refused(model, number, &refusal, left),
            };
            if left == 0 {
                summed(model, verdict);
            }
            return effects;
        }
        Done::Undone { number, result: Ok(request) } => {
            model.queue.put(*request, model.now);
            feed::after(model);
            model.say(Tone::Good, format!("the answer to {number} was taken back"));
        }
        Done::Undone { number, result: Err(refusal) } => {
            let text = format!("the answer to {number} stands: {}", refusal.text);
            model.say(Tone::Bad, text);
        }
        Done::Revoked { grant, result: Ok(()) } => {
            model.say(Tone::Good, format!("{} is revoked", Shown::new(&grant).limit(20)));
            return vec![Effect::ReadGrants];
        }
        Done::Revoked { grant, result: Err(refusal) } => {
            let grant = Shown::new(&grant).limit(20);
            model.say(Tone::Bad, format!("{grant} is not revoked: {}", refusal.text));
        }
    }
    Vec::new()
}

fn accepted(model: &mut Model, number: Number, decided: &Decided) -> Vec<Effect> {
    model.tally.done.push(number);
    model.queue.remove(number);
    // The detail was read and answered: back to what still waits.
    if matches!(&model.screen, Screen::Detail(detail) if detail.number == number) {
        model.screen = Screen::Pending;
    }
    let word = match decided.decision {
        Verdict::Approve => "approved",
        Verdict::Deny => "denied",
    };
    let mut text = format!("{number} {word}");
    match (decided.decision, decided.released) {
        (_, 0) => {}
        (Verdict::Approve, 1) => text.push_str(", 1 client goes on"),
        (Verdict::Approve, many) => text.push_str(&format!(", {many} clients go on")),
        (Verdict::Deny, 1) => text.push_str(", 1 client is refused"),
        (Verdict::Deny, many) => text.push_str(&format!(", {many} clients are refused")),
    }
    if let Some(grant) = &decided.grant {
        text.push_str(&format!(", grant {}", Shown::new(grant).limit(20)));
    }
    if let Some(file) = &decided.file {
        text.push_str(&format!(", written to {}", Shown::new(file).limit(200)));
    }
    text.push_str(" · u takes it back");
    let tone = if decided.decision == Verdict::Approve { Tone::Good } else { Tone::Bad };
    model.say(tone, text);
    Vec::new()
}

/// An answer that the gateway did not take: the entry is read again, and shown where it changed.
fn refused(model: &mut Model, number: Number, refusal: &Refusal, left: usize) -> Vec<Effect> {
    let alone = left == 0 && model.tally.refused == 0 && model.tally.done.is_empty();
    model.tally.refused += 1;
    let text = match &*refusal.code {
        "changed" => format!("{number} changed meanwhile: not answered; look again"),
        "decided" => format!("{number} was answered meanwhile: {}", refusal.text),
        _ => format!("{number} is not answered: {}", refusal.text),
    };
    if refusal.code == "changed" && alone {
        show(model, number, Some(model.now.steady));
    }
    model.say(Tone::Bad, text);
    if refusal.code == "not_found" {
        model.queue.remove(number);
        feed::after(model);
        return Vec::new();
    }
    match &*refusal.code {
        "changed" | "decided" => vec![Effect::ReadRequest(number)],
        _ => Vec::new(),
    }
}

/// Says what came of answers that were sent together.
fn summed(model: &mut Model, verdict: Verdict) {
    let Tally { done, refused } = std::mem::take(&mut model.tally);
    let count = done.len();
    if !done.is_empty() {
        model.given.push(done);
    }
    if model.given.len() > UNDOABLE {
        model.given.remove(0);
    }
    if count as u64 + refused < 2 {
        return;
    }
    let word = if verdict == Verdict::Approve { "approved" } else { "denied" };
    let rest = match refused {
        0 => String::new(),
        left_out => format!(", {left_out} not answered: changed, gone, or not seen whole"),
    };
    model.say(Tone::Good, format!("{count} {word}{rest} · u takes them back"));
}
