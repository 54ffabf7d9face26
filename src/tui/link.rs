//! The gateway at the other end: its events, and what is read from it and sent to it.
//!
//! Owns the coming back: a stream that ended is opened again, at first at once, then ever later.
//! Reads and answers go separate ways, so that a long list keeps no answer waiting; answers go one
//! after the other, in the order in which they were given.

use super::model::{Done, Effect, Link, Msg, Read, Refusal};
use super::queue::Number;
use super::run::Clock;
use crate::control::client::{Client, ClientError};
use crate::control::wire::{Decision, Filter, Listen, State, Traffic};
use crate::tasks::Tasks;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Messages on their way to the pane; when it can't keep up, the gateway hears it.
const INBOX: usize = 1024;
/// Effects on their way out.
const OUTBOX: usize = 64;
/// Rounds of watching on their way out: one that waits is as good as many.
const ROUNDS: usize = 1;
/// The first wait before the gateway is tried again, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The gateway, from the pane's side.
pub(super) struct Gateway {
    client: Client,
    only: Option<String>,
    clock: Clock,
    inbox: Sender<Msg>,
}

/// The ways out.
pub(super) struct Outbox {
    reads: Sender<Effect>,
    /// What is read again and again: a round that takes long delays no other read.
    watch: Sender<Effect>,
    answers: Sender<Effect>,
    answering: Tasks,
}

impl Gateway {
    /// Starts listening, reading and answering. Everything ends with the runtime.
    pub(super) fn open(
        client: Client,
        only: Option<String>,
        clock: Clock,
    ) -> (Outbox, Receiver<Msg>) {
        let (inbox, messages) = channel(INBOX);
        let (reads, to_read) = channel(OUTBOX);
        let (watch, to_watch) = channel(ROUNDS);
        let (answers, to_answer) = channel(OUTBOX);
        let gateway = |inbox| Self { client: client.clone(), only: only.clone(), clock, inbox };
        let (tasks, answering) = (Tasks::new(), Tasks::new());
        tasks.spawn(gateway(inbox.clone()).listen());
        tasks.spawn(gateway(inbox.clone()).work(to_read));
        tasks.spawn(gateway(inbox.clone()).work(to_watch));
        answering.spawn(gateway(inbox).work(to_answer));
        (Outbox { reads, watch, answers, answering }, messages)
    }

    /// Events, for as long as the pane is open.
    async fn listen(self) {
        let mut wait = WAITS.0;
        while !self.inbox.is_closed() {
            if self.stream().await {
                wait = WAITS.0;
            }
            let again = self.clock.now().steady + u64::try_from(wait.as_millis()).unwrap_or(0);
            self.tell(Msg::Link(Link::Gone { again })).await;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// One stream to its end. True where an event came.
    async fn stream(&self) -> bool {
        let listen = Listen { sandbox: self.only.clone(), traffic: Traffic::Sampled, attend: true };
        let mut events = match self.client.events(&listen).await {
            Ok(events) => events,
            Err(error) => {
                // That nobody listens is what the header says already.
                if !error.no_gateway() {
                    self.tell(Msg::Read(Read::Failed(refusal(&error)))).await;
                }
                return false;
            }
        };
        let mut heard = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.tell(Msg::Event(Box::new(event))).await,
                Err(error) => {
                    self.tell(Msg::Read(Read::Failed(refusal(&error)))).await;
                    return heard;
                }
            }
            heard = true;
        }
        heard
    }

    async fn work(self, mut effects: Receiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            match effect {
                Effect::Decide(decisions) => self.decide(decisions).await,
                Effect::Undo(numbers) => self.undo(numbers).await,
                Effect::Revoke(grant) => {
                    let result = self.client.revoke(&grant).await.map(drop);
                    let result = result.map_err(|error| refusal(&error));
                    self.tell(Msg::Done(Done::Revoked { grant, result })).await;
                }
                Effect::ReadInference(sandboxes) => self.look(sandboxes).await,
                Effect::ReadRequests
                | Effect::ReadRequest(_)
                | Effect::ReadGrants
                | Effect::ReadStatus
                | Effect::ReadPolicy(_) => {
                    let read = self.read(effect).await;
                    let read = read.unwrap_or_else(|error| Read::Failed(refusal(&error)));
                    self.tell(Msg::Read(read)).await;
                }
                // The loop's own.
                Effect::Call(_) | Effect::Suspend | Effect::Redraw | Effect::Quit => {}
            }
        }
    }

    async fn decide(&self, decisions: Vec<(Number, Decision)>) {
        let mut left = decisions.len();
        for (number, decision) in decisions {
            left -= 1;
            let result = self.client.decide(&number.to_string(), &decision).await;
            let result = result.map(Box::new).map_err(|error| refusal(&error));
            let verdict = decision.decision;
            self.tell(Msg::Done(Done::Decided { number, verdict, result, left })).await;
        }
    }

    async fn undo(&self, numbers: Vec<Number>) {
        for number in numbers {
            let result = self.client.undo(&number.to_string(), "term").await;
            let result = result.map(Box::new).map_err(|error| refusal(&error));
            self.tell(Msg::Done(Done::Undone { number, result })).await;
        }
    }

    async fn look(&self, sandboxes: Vec<String>) {
        let mut read = Vec::with_capacity(sandboxes.len());
        for sandbox in sandboxes {
            let result = self.client.inference(&sandbox).await;
            read.push((sandbox, result.map_err(|error| refusal(&error))));
        }
        self.tell(Msg::Read(Read::Inference(read))).await;
    }

    async fn read(&self, effect: Effect) -> Result<Read, ClientError> {
        let only = self.only.as_deref();
        Ok(match effect {
            Effect::ReadRequest(number) => {
                Read::Request(Box::new(self.client.request(&number.to_string()).await?))
            }
            Effect::ReadGrants => Read::Grants(self.client.grants(only).await?),
            Effect::ReadPolicy(sandbox) => {
                Read::Policy(Box::new(self.client.policy(&sandbox).await?))
            }
            Effect::ReadRequests => {
                let filter = Filter { state: Some(State::Pending), sandbox: self.only.clone() };
                Read::Requests(self.client.requests(&filter).await?)
            }
            Effect::ReadStatus
            | Effect::ReadInference(_)
            | Effect::Decide(_)
            | Effect::Undo(_)
            | Effect::Revoke(_)
            | Effect::Call(_)
            | Effect::Suspend
            | Effect::Redraw
            | Effect::Quit => Read::Status(Box::new(self.client.status().await?)),
        })
    }

    async fn tell(&self, msg: Msg) {
        // A pane that has closed needs no message.
        drop(self.inbox.send(msg).await);
    }
}

impl Outbox {
    /// Sends an effect on its way; what does not fit is answered with a refusal.
    pub(super) fn send(&self, effect: Effect) -> Vec<Msg> {
        let way = match &effect {
            Effect::Decide(_) | Effect::Undo(_) | Effect::Revoke(_) => &self.answers,
            Effect::ReadInference(_) => &self.watch,
            _ => &self.reads,
        };
        let Err(full) = way.try_send(effect) else { return Vec::new() };
        let refusal = Refusal {
            code: "busy".to_owned(),
            text: "too much is on its way to the gateway: wait a moment, then try again".to_owned(),
        };
        match full.into_inner() {
            Effect::Decide(decisions) => {
                let count = decisions.len();
                let refused = decisions.into_iter().enumerate().map(|(at, (number, decision))| {
                    let (verdict, left) = (decision.decision, count - at - 1);
                    let result = Err(refusal.clone());
                    Msg::Done(Done::Decided { number, verdict, result, left })
                });
                refused.collect()
            }
            // The round before it is still under way.
            Effect::ReadInference(_) => Vec::new(),
            _ => vec![Msg::Read(Read::Failed(refusal))],
        }
    }

    /// Waits, but not for long, until the answers that were given are sent.
    pub(super) async fn close(self, within: Duration) {
        let Self { answers, answering, .. } = self;
        drop(answers);
        answering.drain();
        drop(tokio::time::timeout(within, answering.finished()).await);
    }
}

/// An error in one line.
fn refusal(error: &ClientError) -> Refusal {
    let code = error.problem().map_or("unreachable", |problem| &problem.code);
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    Refusal { code: code.to_owned(), text: lines.join("; ") }
}
