//! One call's entry in the accounts of its sandbox: opened when it is let through, settled once.

use super::super::sandbox::Sandbox;
use super::calls::lock;
use crate::inference::{Body, Budget, Call, Kept, Operation, Owed, Spent, Tokens, Work};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes of a request a token.
const BYTES: u64 = 4;

/// An open entry.
pub(crate) struct Account {
    sandbox: Arc<Sandbox>,
    work: Work,
    /// What it is thought to read and to write, in tokens.
    thought: Tokens,
    background: bool,
    /// The earlier response that is asked for, whose cost is not known yet.
    settles: Option<Box<str>>,
    route: Arc<str>,
    model: Arc<str>,
    due: Due,
}

/// What is still to be counted where an account is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// A provider is asked, and has neither answered nor failed: it read what it was asked.
    Read,
    /// It writes its answer too, whoever waits for it.
    Written,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// To its first token, where there was one.
    pub(super) first: Option<Duration>,
    /// To its end.
    pub(super) total: Duration,
}

/// Counts a call that costs no tokens and needs no account.
pub(super) fn counted(sandbox: &Sandbox) -> Result<(), Spent> {
    let calls = sandbox.calls();
    let budget = calls.routes().map(|routes| routes.budget).unwrap_or_default();
    let budget = Budget { tokens_per_day: None, ..budget };
    lock(&calls.ledger).admit(budget, 0, SystemTime::now())
}

impl Account {
    /// Opens an account for a call, within the budget.
    pub(super) fn open(
        sandbox: &Arc<Sandbox>,
        call: &Call<'_>,
        body: Option<&Body>,
    ) -> Result<Self, Spent> {
        let calls = sandbox.calls();
        let work = call.operation.work();
        // What it goes on from is read first.
        let before = body.and_then(Body::follows).map_or(0, |id| lock(&calls.made).tokens(id));
        let thought = match body {
            Some(body) if work != Work::Free => Tokens {
                input: (body.len() as u64).div_ceil(BYTES).saturating_add(before),
                output: body.output(work),
                estimated: true,
            },
            _ => Tokens::default(),
        };
        let settles = match &call.operation {
            Operation::Kept { id } if lock(&calls.made).owes(id) => Some((*id).into()),
            _ => None,
        };
        let mut budget = calls.routes().map(|routes| routes.budget).unwrap_or_default();
        if work == Work::Free {
            // What costs no tokens is a call all the same.
            budget.tokens_per_day = None;
        }
        lock(&calls.ledger).admit(budget, thought.total(), SystemTime::now())?;
        let none: Arc<str> = Arc::from("-");
        let background = work == Work::Response && body.is_some_and(Body::in_background);
        Ok(Self {
            sandbox: sandbox.clone(),
            work,
            thought,
            background,
            settles,
            route: none.clone(),
            model: none,
            due: Due::Nothing,
        })
    }

    /// What is to be read off the answer: what for, and the bytes of the request.
    pub(super) fn metered(&self, asked: u64) -> Option<(Work, u64)> {
        match self.work {
            Work::Free => self.settles.is_some().then_some((Work::Response, asked)),
            work => Some((work, asked)),
        }
    }

    /// Whether the record of the call says that it cost this. Who asks for an earlier response pays
    /// once, when its cost is known: not each time that it is asked for.
    pub(super) fn records(&self, tokens: Tokens) -> bool {
        self.work != Work::Free || !tokens.estimated
    }

    /// Notes who is asked.
    pub(super) fn on(&mut self, route: &Arc<str>, model: Option<&Arc<str>>) {
        self.due = match self.work {
            Work::Free => Due::Nothing,
            _ if self.background => Due::Written,
            _ => Due::Read,
        };
        self.route = route.clone();
        if let Some(model) = model {
            self.model = model.clone();
        }
    }

    /// The call failed.
    pub(super) fn failed(mut self) {
        self.due = Due::Nothing;
        if self.work != Work::Free {
            let mut ledger = lock(&self.sandbox.calls().ledger);
            ledger.fail(&self.route, &self.model, SystemTime::now());
        }
    }

    /// The call went up, and no answer came in time: what it was for was done all the same.
    pub(super) fn late(mut self) {
        if self.due == Due::Read {
            self.due = Due::Written;
        }
    }

    /// What an answer cost, where it does not say so itself: not less than what it read for certain.
    fn cost(&self, said: Tokens) -> Tokens {
        if said.estimated && self.background {
            return self.thought;
        }
        let least = if said.estimated { self.thought.input } else { 0 };
        Tokens { input: said.input.max(least), ..said }
    }

    /// The answer broke off: what came of it cost `tokens`, and it made the response `id`.
    pub(super) fn broke(mut self, tokens: Tokens, id: Option<&str>, why: Option<&str>) {
        self.due = Due::Nothing;
        if self.work == Work::Free {
            return;
        }
        let tokens = self.cost(tokens);
        let mut ledger = lock(&self.sandbox.calls().ledger);
        let now = SystemTime::now();
        ledger.lose(&self.route, &self.model, tokens, now);
        if let Some(why) = why {
            ledger.error(&self.route, why, now);
        }
        drop(ledger);
        self.made(id, tokens, now);
    }

    /// Notes the response that was made; what is worked on in the background says its cost when it
    /// is asked for.
    fn made(&self, id: Option<&str>, counted: Tokens, at: SystemTime) {
        let Some(id) = id else { return };
        let (route, model) = (self.route.clone(), self.model.clone());
        let made = Kept { id: id.into(), route: route.clone(), tokens: counted.total() };
        let unknown = self.background && counted.estimated;
        let owed = unknown.then_some(Owed { route, model, counted, at });
        lock(&self.sandbox.calls().made).note(made, owed);
    }

    /// The call cost `tokens`, as far as the answer says, and made the response `id`.
    pub(super) fn answered(mut self, tokens: Tokens, id: Option<&str>, took: Took) {
        self.due = Due::Nothing;
        let (sandbox, now) = (self.sandbox.clone(), SystemTime::now());
        let calls = sandbox.calls();
        if self.work == Work::Free {
            let Some(id) = self.settles.take().filter(|_| !tokens.estimated) else { return };
            let owed = lock(&calls.made).settle(&id, tokens.total());
            if let Some(owed) = owed {
                lock(&calls.ledger).settle(&owed, tokens, now);
            }
            return;
        }
        // What is worked on in the background counts for all that it may cost until that is known,
        // and if that never is.
        let tokens = self.cost(tokens);
        let mut ledger = lock(&calls.ledger);
        ledger.answer(tokens, now);
        let usage = ledger.usage(&self.route, &self.model);
        usage.requests += 1;
        usage.add(tokens);
        if let Some(first) = took.first {
            usage.first_token += first;
            usage.making += took.total.saturating_sub(first);
        }
        drop(ledger);
        self.made(id, tokens, now);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.work == Work::Free {
            return;
        }
        let mut ledger = lock(&self.sandbox.calls().ledger);
        ledger.release(self.thought.total());
        if self.due != Due::Nothing {
            // Who leaves before the answer has had what was asked for read all the same.
            let output = if self.due == Due::Written { self.thought.output } else { 0 };
            let tokens = Tokens { output, ..self.thought };
            ledger.lose(&self.route, &self.model, tokens, SystemTime::now());
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("route", &self.route).finish_non_exhaustive()
    }
}
