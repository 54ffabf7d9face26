//! An answer: checked against what was shown (I8), written down by the caller, carried out.
//!
//! In two steps, because a grant must be written down before anyone is released: [`Queue::plan`]
//! says what the answer would make, [`Queue::carry_out`] does it if the entry is still what it
//! was.

use super::hold::Release;
use super::proposal;
use super::queue::{Change, Decided, Entry, Inner, LEFT_FOR, Outcome, Queue, State};
use crate::policy::{
    Answer, Approval, Cover, CoverError, Grant, GrantId, OwnedAsk, Scope, Ticket, What,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How much an answer covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// What was shown: method, path, query and body.
    Exact,
    /// Methods on a path pattern, with any query and body.
    Path,
    /// Everything on the host and port.
    Host,
}

/// How long a grant lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// As long as the sandbox's session.
    Session,
    /// This long.
    For(Duration),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Yes or no.
    pub answer: Answer,
    /// How long it holds.
    pub scope: Scope,
    /// How much it covers.
    pub breadth: Breadth,
    /// With [`Breadth::Path`]: another pattern than the proposed one.
    pub path: Option<String>,
    /// With [`Breadth::Path`]: other methods than the entry's own.
    pub methods: Option<Vec<String>>,
    /// For any process.
    pub any_process: bool,
    /// With [`Scope::Session`]: how long.
    pub lasts: Lasts,
    /// Why.
    pub reason: Option<String>,
    /// The digest of what was shown.
    pub digest: String,
}

/// Who answers.
#[derive(Clone, Debug)]
pub struct Who {
    /// The user's name.
    pub name: Box<str>,
    /// The user's id.
    pub uid: u32,
    /// `term`, `cli`, `api`.
    pub via: Box<str>,
}

/// What an answer would make.
#[derive(Debug)]
pub struct Plan {
    /// The entry.
    pub number: u64,
    /// Who answers, and what.
    pub approval: Arc<Approval>,
    /// The grant, to be written down first.
    pub grant: Option<Arc<Grant>>,
    /// What it covers.
    pub cover: Cover,
    /// The rule for the operator's file, with [`Scope::Always`].
    pub rule: Option<String>,
    breadth: Breadth,
    digest: String,
}

/// What was taken back.
#[derive(Debug)]
pub enum Undone {
    /// Nothing that stands.
    Nothing,
    /// A grant: to be forgotten.
    Grant(Arc<Grant>),
    /// The rule of this entry in the operator's file, which covers this: to be taken out.
    Rule(Arc<Cover>),
}

/// Why an answer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// No such entry.
    #[error("there is no r{0}: `portcullis requests list` shows what waits")]
    NotFound(u64),
    /// The entry is not what was shown.
    #[error("r{0} has changed since it was shown: look at it again, and answer that")]
    Changed(u64),
    /// It was answered.
    #[error("r{0} no longer waits: undo its answer first")]
    Decided(u64),
    /// It was not answered.
    #[error("r{0} has no answer that could be undone")]
    Undecided(u64),
    /// Raw bytes have no path.
    #[error("r{0} has no path: answer with breadth exact")]
    NoPath(u64),
    /// Nobody saw the whole body, so another with the same beginning is another request.
    #[error(
        "the body of r{0} was not seen whole, so no answer can hold for it alone: approve it once, or with \
         breadth path, for any body"
    )]
    Unseen(u64),
    /// It would be about something else.
    #[error(
        "that does not cover r{0} itself: widen it, or grant it ahead (`portcullis grants add`)"
    )]
    Elsewhere(u64),
    /// A pattern or method.
    #[error(transparent)]
    Cover(#[from] CoverError),
    /// A name that is no method.
    #[error("`{0}` is not a method")]
    Method(String),
    /// No grant has this number.
    #[error("there is no grant {0}: `portcullis grants list` shows them")]
    NoGrant(GrantId),
    /// No numbers are left until more were reserved.
    #[error("no more answers can be numbered at the moment: try again")]
    Numbers,
}

impl Queue {
    /// What `decision` would make of entry `number`.
    pub fn plan(
        &self,
        number: u64,
        decision: &Decision,
        who: &Who,
        now: SystemTime,
    ) -> Result<Plan, DecideError> {
        let inner = self.lock();
        let entry = inner.waits(number, &decision.digest)?;
        let what = decision.what(entry)?;
        let approval = Arc::new(Approval {
            decision: decision.answer,
            scope: decision.scope,
            by: who.name.clone(),
            uid: who.uid,
            via: who.via.clone(),
            at: now,
            reason: decision.reason.as_deref().map(Into::into),
        });
        let unseen = decision.answer == Answer::Approve
            && decision.scope == Scope::Session
            && matches!(&what, What::Exact { body, .. } if body.longer);
        if unseen {
            return Err(DecideError::Unseen(number));
        }
        let cover = match decision.scope {
            // However wide it was meant: one request is exactly what was shown.
            Scope::Once => entry.asked.covering_exactly(),
            Scope::Session | Scope::Always => entry.asked.cover(what, decision.any_process),
        };
        let grant = |id, until| {
            let grant =
                Grant::new(id, cover.clone(), (now, until), Some(number), approval.clone())?;
            let covered = covers(&grant, &entry.asked.intent.ask, entry);
            if covered { Ok(Arc::new(grant)) } else { Err(DecideError::Elsewhere(number)) }
        };
        let (grant, rule) = match decision.scope {
            Scope::Once => (None, None),
            Scope::Always => {
                if decision.breadth != Breadth::Exact {
                    // Never in force: it shows that the rule is about this entry.
                    grant(GrantId(0), None)?;
                }
                (None, Some(proposal::rule(number, (&cover, entry.asked.says()), &approval)))
            }
            Scope::Session => {
                let lasts = match decision.lasts {
                    Lasts::Session => self.settings().session,
                    Lasts::For(lasts) => lasts,
                };
                let id = self.numbers().grant().ok_or(DecideError::Numbers)?;
                (Some(grant(id, now.checked_add(lasts))?), None)
            }
        };
        let (breadth, digest) = (decision.breadth, decision.digest.clone());
        Ok(Plan { number, approval, grant, cover, rule, breadth, digest })
    }

    /// Does what was planned, if the entry is still what was shown. With a rule, the file is
    /// written and put in force by the caller, right after this.
    pub fn carry_out(
        &self,
        plan: &Plan,
        file: Option<Arc<str>>,
        now: SystemTime,
    ) -> Result<Entry, DecideError> {
        let mut inner = self.lock();
        inner.waits(plan.number, &plan.digest)?;
        let mut decided = Decided::new(plan.approval.clone(), plan.breadth);
        match (&plan.grant, file, plan.approval.decision) {
            (Some(grant), _, _) => {
                decided.outcome = Outcome::Grant(grant.id);
                self.put_in_force(&mut inner, grant, &decided, now);
            }
            (None, Some(file), answer) => {
                decided.outcome = Outcome::Rule { file, cover: Arc::new(plan.cover.clone()) };
                decided.released = match answer {
                    // Judged again when the rule is in force.
                    Answer::Approve => inner.entries.get(&plan.number).map_or(0, Entry::held),
                    Answer::Deny => inner.refuse_all(plan),
                };
                inner.decide(plan.number, decided, now);
            }
            (None, None, Answer::Approve) => inner.approve_once(plan, decided, now),
            (None, None, Answer::Deny) => {
                decided.released = inner.refuse_all(plan);
                inner.decide(plan.number, decided, now);
            }
        }
        inner.entries.get(&plan.number).cloned().ok_or(DecideError::NotFound(plan.number))
    }

    /// Puts a grant in force that no entry asked for. It answers those that it covers.
    pub fn grant_ahead(&self, grant: &Arc<Grant>, now: SystemTime) {
        let mut inner = self.lock();
        let mut decided = Decided::new(grant.approval.clone(), Breadth::Path);
        decided.outcome = Outcome::Grant(grant.id);
        self.put_in_force(&mut inner, grant, &decided, now);
    }

    /// A grant is put in force; whoever it covers is judged again, and so released or refused.
    fn put_in_force(
        &self,
        inner: &mut Inner,
        grant: &Arc<Grant>,
        decided: &Decided,
        now: SystemTime,
    ) {
        inner.grants.insert(grant.id, grant.clone());
        inner.grants_changed();
        self.publish(inner);
        let covered = |entry: &&Entry| {
            entry.state == State::Pending && covers(grant, &entry.asked.intent.ask, entry)
        };
        let numbers: Vec<u64> =
            inner.entries.values().filter(covered).map(|entry| entry.number).collect();
        for number in numbers {
            let mut decided = decided.clone();
            if let Some(entry) = inner.entries.get(&number) {
                decided.released = entry.held();
                entry.waiters.iter().for_each(|(waiter, _)| waiter.release(Release::Judge));
            }
            inner.decide(number, decided, now);
        }
    }

    /// Takes an answer back. What it made is to be forgotten by the caller too.
    pub fn undo(&self, number: u64) -> Result<Undone, DecideError> {
        let mut inner = self.lock();
        let entry = inner.entries.get(&number).ok_or(DecideError::NotFound(number))?;
        let decided = entry.decided.clone().ok_or(DecideError::Undecided(number))?;
        let undone = match decided.outcome {
            Outcome::Nothing => Undone::Nothing,
            Outcome::Rule { cover, .. } => Undone::Rule(cover),
            Outcome::Grant(id) => match inner.grants.remove(&id) {
                Some(grant) => Undone::Grant(grant),
                None => Undone::Nothing,
            },
            Outcome::Ticket(ticket) => {
                ticket.revoke();
                Undone::Nothing
            }
        };
        match &undone {
            // It answered every entry that it covered.
            Undone::Grant(grant) => {
                inner.grants_changed();
                for number in inner.answered_by(grant.id) {
                    inner.reopen(number);
                    inner.changed(number, Change::Pending);
                }
            }
            Undone::Nothing | Undone::Rule(_) => {
                inner.reopen(number);
                inner.changed(number, Change::Pending);
            }
        }
        // A ticket that was spent, too: who left by it is judged again.
        self.publish(&inner);
        Ok(undone)
    }

    /// The grant with this number, before it is taken back.
    pub fn grant(&self, id: GrantId) -> Result<Arc<Grant>, DecideError> {
        self.lock().grants.get(&id).cloned().ok_or(DecideError::NoGrant(id))
    }

    /// Takes a grant back: what lives by it ends (I7).
    pub fn revoke(&self, id: GrantId) -> Result<Arc<Grant>, DecideError> {
        let mut inner = self.lock();
        let grant = inner.grants.remove(&id).ok_or(DecideError::NoGrant(id))?;
        inner.grants_changed();
        self.publish(&inner);
        Ok(grant)
    }
}

fn covers(grant: &Grant, ask: &OwnedAsk, entry: &Entry) -> bool {
    let intent = &entry.asked.intent;
    match (ask, intent.intent()) {
        (OwnedAsk::Opaque, _) | (_, None) => {
            grant.cover.what == What::Opaque && grant.reaches(&intent.client, &intent.target)
        }
        (_, Some(intent)) => grant.covers(&intent, Some(&entry.asked.body)),
    }
}

impl Inner {
    /// The entry, if it waits and is what was shown.
    fn waits(&self, number: u64, digest: &str) -> Result<&Entry, DecideError> {
        let entry = self.entries.get(&number).ok_or(DecideError::NotFound(number))?;
        if entry.state != State::Pending {
            return Err(DecideError::Decided(number));
        }
        if entry.digest != digest {
            return Err(DecideError::Changed(number));
        }
        Ok(entry)
    }

    /// The entries that a grant answered.
    fn answered_by(&self, id: GrantId) -> Vec<u64> {
        let by = |entry: &&Entry| {
            let outcome = entry.decided.as_ref().map(|decided| &decided.outcome);
            matches!(outcome, Some(Outcome::Grant(by)) if *by == id)
        };
        self.entries.values().filter(by).map(|entry| entry.number).collect()
    }

    fn decide(&mut self, number: u64, decided: Decided, now: SystemTime) {
        let state = match decided.approval.decision {
            Answer::Approve => State::Approved,
            Answer::Deny => State::Denied,
        };
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.decided = Some(decided);
        }
        self.close(number, state, now);
        self.changed(number, Change::Decided);
    }

    /// Who waits at the entry is told no. Says how many they are.
    fn refuse_all(&self, plan: &Plan) -> usize {
        let Some(entry) = self.entries.get(&plan.number) else { return 0 };
        for (waiter, _) in &entry.waiters {
            waiter.release(Release::Denied(plan.approval.clone()));
        }
        entry.held()
    }

    /// One client may leave: the one that has waited longest, or the next that asks the same.
    /// Where others wait, the entry waits on.
    fn approve_once(&mut self, plan: &Plan, mut decided: Decided, now: SystemTime) {
        let number = plan.number;
        let ticket = Arc::new(Ticket::new(number, plan.approval.clone()));
        decided.outcome = Outcome::Ticket(ticket.clone());
        let Some(entry) = self.entries.get_mut(&number) else { return };
        // Who was told before and has not left yet is not told twice.
        match entry.waiters.is_empty() {
            true => entry.left = Some((ticket, now + LEFT_FOR)),
            false => {
                let (waiter, _) = entry.waiters.remove(0);
                decided.released = 1;
                waiter.release(Release::Ticket(ticket));
            }
        }
        if entry.waiters.is_empty() {
            self.decide(number, decided, now);
        } else {
            entry.decided = Some(decided);
            entry.answered_once();
            self.changed(number, Change::Pending);
        }
    }
}

impl Decision {
    fn what(&self, entry: &Entry) -> Result<What, DecideError> {
        let exact = entry.asked.exact();
        let Some((method, ..)) = entry.asked.request() else {
            return match (self.breadth, &self.path) {
                (Breadth::Path, _) | (_, Some(_)) => Err(DecideError::NoPath(entry.number)),
                (Breadth::Exact | Breadth::Host, None) => Ok(exact),
            };
        };
        match self.breadth {
            Breadth::Exact if self.scope == Scope::Always && method == "*" => {
                Err(DecideError::Method(method.to_owned()))
            }
            Breadth::Exact => Ok(exact),
            Breadth::Host => Ok(What::Host),
            Breadth::Path => {
                let path = match (&self.path, &entry.pattern) {
                    (Some(path), _) => path.clone(),
                    (None, Some(pattern)) => pattern.to_string(),
                    (None, None) => return Err(DecideError::NoPath(entry.number)),
                };
                let methods = match &self.methods {
                    // A token, and so a method; in a rule it would be all of them.
                    None if method == "*" => return Err(DecideError::Method(method.to_owned())),
                    None => vec![method.to_owned()],
                    Some(methods) => methods_of(methods)?,
                };
                Ok(What::Paths { websocket: entry.asked.websocket(), methods, path })
            }
        }
    }
}

/// Who takes an answer back, as its record says it.
pub fn undoing(who: &Who, scope: Scope, now: SystemTime) -> Approval {
    Approval {
        decision: Answer::Deny,
        scope,
        by: who.name.clone(),
        uid: who.uid,
        via: who.via.clone(),
        at: now,
        reason: None,
    }
}

/// Methods as they were typed; `*` is all.
pub fn methods_of(typed: &[String]) -> Result<Vec<String>, DecideError> {
    if typed.iter().any(|method| method == "*") {
        return Ok(Vec::new());
    }
    let method = |text: &String| {
        let fine = http::Method::from_bytes(text.as_bytes()).is_ok();
        fine.then(|| text.to_ascii_uppercase())
            .ok_or_else(|| DecideError::Method(crate::addr::Shown::new(text).to_string()))
    };
    let methods: Vec<String> = typed.iter().map(method).collect::<Result<_, _>>()?;
    // An empty list would be every method.
    if methods.is_empty() { Err(DecideError::Method(String::new())) } else { Ok(methods) }
}
