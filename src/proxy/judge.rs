//! From a request that was understood to its permit: what must be read is read, the rules judge,
//! and what they do not know is asked about.

use super::asking::{self, Seen, Up};
use super::body::{ClientBody, Peeked};
use super::gate::Connection;
use super::headers::Framing;
use super::judged::{self, JudgedBody};
use super::local;
use super::refuse::{Form, Refusal};
use super::request::Exchange;
use super::subject::{Answered, Asked, Subject};
use super::target::Target;
use crate::addr::Path;
use crate::policy::{
    Ask, Body, Code, Intent, OwnedAsk, OwnedBody, OwnedIntent, Permit, Question, Rules, Verdict,
};
use http::Method;
use http::uri::PathAndQuery;
use std::sync::Arc;
use std::time::Instant;

/// A request line, canonical.
struct Line {
    method: Method,
    target: PathAndQuery,
    websocket: bool,
}

impl Exchange {
    /// Reads what must be read to judge, judges, and puts the exchange on the wheel.
    pub(super) async fn judge(
        &mut self,
        connection: &Arc<Connection>,
        form: &mut Form,
    ) -> Result<(Permit, JudgedBody), Refusal> {
        if local::is_reserved(&self.target.authority.host) {
            // No rule or answer is about it, and no resolver is asked for it.
            let detail = "the gateway itself answers for this host, and not to that";
            return Err(Refusal::unjudged(Code::NotServed, detail));
        }
        let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
        connection.ascertain_in(&mut self.open, Some(&rules)).await;
        let line = self.line();
        let canonical = Path::parse(line.target.path())?;
        let unread = line.intent(connection, &self.target, (&canonical, Body::Unread));
        let mut body = JudgedBody::default();
        if let Some(need) = rules.policy.body_need(&unread) {
            let within = connection.gate.settings.timeouts.header;
            let query = line.target.query();
            let asked = judged::Asked { head: &self.head, query, need };
            body =
                Box::pin(judged::read(asked, &mut self.body, (connection.sandbox.calls(), within)))
                    .await?;
            if let Some(id) = body.rpc_id() {
                *form = Form::Rpc(id);
            }
            self.open.record().facts = body.recorded();
        }
        let now = self.open.record().time;
        // What was answered about one body is not about another.
        let mut seen = self.bodyless(&rules);
        if seen.is_none() && rules.minds_body(&unread, now) {
            let parts = (&mut self.body, &mut self.peeked);
            seen = Some(Box::pin(peek((&self.head, &self.framing), parts, &mut body)).await?);
        }
        let shown = seen.as_ref().map(|seen| seen.shown.clone());
        let started = Instant::now();
        let read = body.facts().map_or(Body::Unread, OwnedBody::body);
        let intent = line.intent(connection, &self.target, (&canonical, read));
        let verdict = rules.judge(&intent, now, shown.as_ref(), None);
        let took = started.elapsed();
        self.open.record().policy = crate::record::PolicyId(rules.policy.id());
        self.open.record().ms.judge = took;
        let (permit, answered) = match verdict {
            Verdict::Allow(permit) | Verdict::Audit(permit) => {
                let answered = shown.map(|shown| Answered { shown: Some(shown), ticket: None });
                (permit, answered)
            }
            Verdict::Deny(denial) => return Err(denial.into()),
            Verdict::Unknown(question) => {
                let about = (&line, canonical, seen);
                let (permit, answered) =
                    Box::pin(self.ask(connection, &mut body, about, question)).await?;
                (permit, Some(answered))
            }
        };
        self.open.permitted(&permit, rules.policy.id(), took);
        take_name(connection, &rules, &permit)?;
        self.watch(connection, &permit, (line, body.take_facts()), answered);
        Ok((permit, body))
    }

    fn line(&mut self) -> Line {
        let websocket = self.upgrade.is_some();
        let record = self.open.record();
        let target = record.target.clone().unwrap_or(PathAndQuery::from_static("/"));
        Line { method: record.method.clone().unwrap_or_default(), target, websocket }
    }

    /// What is known of a body that is not there. `None` where there is one, or nobody answered
    /// anything that could be about it.
    fn bodyless(&self, rules: &Rules) -> Option<Seen> {
        let body = self.body.as_ref().filter(|_| !rules.overlay.is_empty())?;
        http_body::Body::is_end_stream(body).then(|| asking::no_body(&self.head, &self.framing))
    }

    /// Asks about what no rule knows.
    async fn ask(
        &mut self,
        connection: &Arc<Connection>,
        body: &mut JudgedBody,
        (line, path, seen): (&Line, Path<'_>, Option<Seen>),
        question: Question,
    ) -> Result<(Permit, Answered), Refusal> {
        let queue = connection.sandbox.queue();
        if !queue.asks(connection.sandbox.rules().policy.names_host(&self.target.authority.host)) {
            return Err(question.into());
        }
        connection.ascertain_in(&mut self.open, None).await;
        let seen = match seen {
            Some(seen) => seen,
            None => {
                let parts = (&mut self.body, &mut self.peeked);
                peek((&self.head, &self.framing), parts, body).await?
            }
        };
        let intent = OwnedIntent {
            client: connection.client().clone(),
            scheme: self.target.scheme,
            target: self.target.authority.clone(),
            ask: OwnedAsk::Request {
                method: line.method.as_str().to_owned(),
                path: path.into_owned(),
                query: line.target.query().map(Into::into),
                websocket: line.websocket,
                body: body.facts().cloned(),
            },
        };
        let subject = asking::Subject { intent, head: Some(&self.head) };
        asking::ask(connection, &mut self.open, &subject, (&seen, question)).await
    }

    /// Puts it on the wheel: it has deadlines, and is judged again when the rules change.
    fn watch(
        &mut self,
        connection: &Connection,
        permit: &Permit,
        (line, facts): (Line, Option<Box<OwnedBody>>),
        answered: Option<Answered>,
    ) {
        let subject = Subject {
            client: connection.client().clone(),
            scheme: self.target.scheme,
            target: self.target.authority.clone(),
            asked: Asked::Request {
                method: line.method,
                path: line.target,
                websocket: line.websocket,
                messages: permit.judges_messages(),
                facts,
            },
            answered: answered.map(Box::new),
        };
        let watch =
            connection.worker.wheel.judged(connection.sandbox.clone(), subject, permit.epoch());
        // What it waited for the operator is not its own time.
        let began = self.open.started() + self.open.record().ms.held;
        watch.in_all(began, connection.gate.settings.timeouts.total);
        if self.stream.is_none() {
            // An answer that an HTTP/1 client does not take is not polled, and so does not hear that it
            // must end: then its connection goes.
            watch.carried_by(&connection.watch);
        }
        self.open.set_watch(watch);
    }
}

/// Reads the first bytes of a body. They stay in their place before the rest.
async fn peek(
    (head, framing): (&http::request::Parts, &Framing),
    (incoming, peeked): (&mut Option<ClientBody>, &mut Option<Box<Peeked>>),
    body: &mut JudgedBody,
) -> Result<Seen, Refusal> {
    let mut seen = asking::peek(head, framing, (incoming, body)).await?;
    match seen.up.take() {
        Some(Up::Whole(bytes)) => *body = JudgedBody::seen(bytes),
        Some(Up::Peeked(first)) => *peeked = Some(first),
        None => {}
    }
    Ok(seen)
}

impl Line {
    fn intent<'a>(
        &'a self,
        connection: &'a Connection,
        target: &'a Target,
        (path, body): (&'a Path<'a>, Body<'a>),
    ) -> Intent<'a> {
        let (client, scheme) = (connection.client(), target.scheme);
        Intent { client, scheme, target: &target.authority, ask: self.ask(path, body) }
    }

    fn ask<'a>(&'a self, path: &'a Path<'a>, body: Body<'a>) -> Ask<'a> {
        Ask::Request {
            method: self.method.as_str(),
            path,
            query: self.target.query(),
            websocket: self.websocket,
            body,
        }
    }
}

/// Counts the name that is asked for, where a wildcard lets the client choose it.
pub(super) fn take_name(
    connection: &Connection,
    rules: &Rules,
    permit: &Permit,
) -> Result<(), Refusal> {
    let chosen = permit.lets_client_name() || rules.policy.covered_by_wildcard(permit.target());
    if chosen && let Some(name) = permit.target().host.name() {
        let sentence = "too many distinct names under one wildcard a minute";
        let taken = connection.sandbox.take_name(name, Instant::now());
        taken.map_err(|code| Refusal::unjudged(code, sentence))?;
    }
    Ok(())
}
