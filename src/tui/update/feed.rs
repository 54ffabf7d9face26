//! What the gateway says: events as they come, and lists as they are read.

use super::screens;
use crate::addr::Shown;
use crate::control::wire::{Event, Inference, Request, Status};
use crate::tui::model::{Effect, Focus, Link, Model, Read, Reading, Refusal, Screen};
use crate::tui::prompt::{Fate, Prompt};
use crate::tui::queue::Number;
use crate::tui::theme::Tone;

/// How often, in milliseconds, the user is called at most.
const CALL_EVERY: u64 = 2_000;

pub(super) fn event(model: &mut Model, event: Event) -> Vec<Effect> {
    if let Event::Traffic(batch) = event {
        let shown = matches!(model.screen, Screen::Traffic);
        model.traffic.take(batch, model.now.wall);
        model.stale |= shown && model.traffic.paused().is_none();
        return Vec::new();
    }
    model.stale = true;
    match event {
        Event::Hello(status) => {
            let mut effects = took_status(model, *status);
            effects.extend(read_all(model));
            effects
        }
        Event::Missed { .. } => read_all(model),
        Event::Pending(request) => pending(model, *request),
        Event::Gone(request) => {
            if !foreign(model, &request) {
                model.queue.put(*request, model.now);
            }
            after(model);
            Vec::new()
        }
        Event::Decided(request) | Event::Expired(request) => {
            if let Some(number) = Number::parse(&request.request) {
                model.queue.remove(number);
            }
            after(model);
            Vec::new()
        }
        Event::Grants { .. } => vec![Effect::ReadGrants],
        Event::PolicyLoaded { sandbox, .. } => {
            let mut effects = vec![Effect::ReadStatus];
            if let Screen::Policy(policy) = &model.screen
                && policy.sandbox.as_deref() == Some(&*sandbox)
            {
                effects.push(Effect::ReadPolicy(sandbox));
            }
            effects
        }
        Event::PolicyRejected { sandbox, error } => {
            let (sandbox, error) = (Shown::new(&sandbox).limit(40), Shown::new(&error).limit(400));
            model
                .say(Tone::Bad, format!("{sandbox}: the last good policy stays in force: {error}"));
            vec![Effect::ReadStatus]
        }
        Event::Stopping {} => {
            model.say(Tone::Doubtful, "the gateway is stopping");
            Vec::new()
        }
        Event::Traffic(_) => Vec::new(),
    }
}

/// The lists are read again; what events say meanwhile is newer.
fn read_all(model: &mut Model) -> Vec<Effect> {
    model.link = Link::Up;
    model.queue.asked();
    let mut effects = vec![Effect::ReadRequests, Effect::ReadGrants];
    if let Screen::Policy(policy) = &model.screen
        && let Some(sandbox) = &policy.sandbox
    {
        effects.push(Effect::ReadPolicy(sandbox.clone()));
    }
    if matches!(model.screen, Screen::Sandboxes(_)) {
        effects.extend(screens::look_at_models(model));
    }
    effects
}

/// Whether it is of a sandbox that is not looked at.
fn foreign(model: &Model, request: &Request) -> bool {
    model.setting.only.as_ref().is_some_and(|only| *only != request.sandbox)
}

fn pending(model: &mut Model, request: Request) -> Vec<Effect> {
    let notice = notice(&request);
    if foreign(model, &request) || !model.queue.put(request, model.now) {
        after(model);
        return Vec::new();
    }
    let now = model.now.steady;
    let lately = model.called.is_some_and(|at| now < at + CALL_EVERY);
    if model.focus == Focus::Elsewhere && !lately {
        model.called = Some(now);
        return vec![Effect::Call(notice)];
    }
    Vec::new()
}

/// What a desktop shows: which sandbox, what, where.
fn notice(request: &Request) -> String {
    let sandbox = Shown::new(&request.sandbox).limit(40);
    let method = Shown::new(request.method.as_deref().unwrap_or("tcp")).limit(20);
    let host = match crate::addr::Host::parse(&request.host) {
        Ok(host) => Shown::host(&host).limit(60).to_string(),
        Err(_) => Shown::new(&request.host).limit(60).to_string(),
    };
    format!("portcullis: {sandbox} asks for {method} {host}")
}

pub(super) fn read(model: &mut Model, read: Read) -> Vec<Effect> {
    model.stale = true;
    match read {
        Read::Requests(list) => {
            model.gateway.queue_read = true;
            model.queue.replace(list, model.now);
            after(model);
        }
        Read::Request(request) => {
            model.queue.put(*request, model.now);
            after(model);
        }
        Read::Grants(grants) => {
            if let Screen::Grants(cursor) = &mut model.screen {
                let ids: Vec<String> = grants.iter().map(|grant| grant.grant.clone()).collect();
                cursor.settle(&ids, model.now.steady);
            }
            model.gateway.grants = Some(grants);
        }
        Read::Status(status) => return took_status(model, *status),
        Read::Policy(policy) => {
            if let Screen::Policy(screen) = &mut model.screen
                && screen.sandbox.as_ref() == Some(&policy.sandbox)
            {
                screen.policy = Some(*policy);
                screens::rewrite(model);
            }
        }
        Read::Inference(read) => took_inference(model, read),
        Read::Failed(Refusal { text, .. }) => model.say(Tone::Bad, text),
    }
    Vec::new()
}

/// What was known stays, beside why it could not be read anew.
fn took_inference(model: &mut Model, read: Vec<(String, Result<Inference, Refusal>)>) {
    for (sandbox, result) in read {
        let reading = model.gateway.inference.entry(sandbox).or_default();
        match result {
            Ok(inference) => *reading = Reading { known: Some(inference), failed: None },
            Err(refusal) => reading.failed = Some(refusal.text),
        }
    }
    screens::rewrite(model);
}

fn took_status(model: &mut Model, status: Status) -> Vec<Effect> {
    let there = |name: &String| status.sandboxes.iter().any(|sandbox| sandbox.name == *name);
    model.gateway.inference.retain(|name, _| there(name));
    model.gateway.status = Some(status);
    screens::rewrite(model);
    // A policy screen that was opened before a sandbox was known.
    match &model.screen {
        Screen::Policy(policy) if policy.sandbox.is_none() => screens::next_sandbox(model),
        _ => Vec::new(),
    }
}

/// An entry may have changed or gone: what is asked about it, and the screen that shows it, learn
/// of it.
pub(super) fn after(model: &mut Model) {
    if let Some(Prompt::Answer(answer)) = &mut model.prompt {
        let digest = model.queue.get(answer.number).map(|entry| &entry.request.digest);
        answer.fate = match digest {
            Some(digest) if *digest == answer.digest => answer.fate.clone(),
            Some(_) => Fate::Changed,
            None => Fate::Gone,
        };
    }
    screens::relist(model, false);
    let Screen::Detail(detail) = &mut model.screen else { return };
    let digest = model.queue.get(detail.number).map(|entry| entry.request.digest.clone());
    match digest {
        None => detail.gone = true,
        Some(digest) => {
            detail.gone = false;
            if detail.digest != digest {
                detail.digest = digest;
                detail.shaken = Some(model.now.steady);
                let text = format!("{} changed: this is how it stands now", detail.number);
                model.say(Tone::Doubtful, text);
            }
            screens::rewrite(model);
        }
    }
}
