//! Answers, grants ahead, and taking either back: checked, written down, carried out, recorded.

use super::{Operator, view};
use crate::addr::Shown;
use crate::approval::{self, DecideError, Decision, Lasts, Outcome, Queue, Undone};
use crate::config::Span;
use crate::control::Who;
use crate::control::wire::{self, Problem};
use crate::policy::{Answer, Approval, Cover, Grant, GrantId, HostPattern, Scheme, Scope, What};
use crate::record::Event;
use crate::state;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest reason, in characters.
const MOST_REASON: usize = 500;
/// The longest that a grant lasts.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// A grant as it is kept over a restart.
#[derive(Serialize, Deserialize)]
pub(in crate::cli::gateway) struct Kept {
    cover: Cover,
    approval: Approval,
    #[serde(default)]
    request: Option<u64>,
}

impl Kept {
    /// The grant that a row says; `None`, and a warning, where this build can't read it: what is
    /// not granted is asked about again.
    pub(in crate::cli::gateway) fn grant(row: &state::Grant) -> Option<Arc<Grant>> {
        let at = |ms: i64| UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let times = (at(row.made_ms), row.expires_ms.map(at));
        let read = || -> anyhow::Result<Grant> {
            let kept: Self = serde_json::from_str(&row.body)?;
            let approval = Arc::new(kept.approval);
            Ok(Grant::new(GrantId(row.id), kept.cover, times, kept.request, approval)?)
        };
        match read() {
            Ok(grant) => Some(Arc::new(grant)),
            Err(error) => {
                tracing::warn!(grant = row.id, %error, "a grant of an earlier run can't be read");
                None
            }
        }
    }

    fn row(sandbox: &str, grant: &Grant) -> state::Grant {
        let kept = Self {
            cover: grant.cover.clone(),
            approval: Approval::clone(&grant.approval),
            request: grant.request,
        };
        state::Grant {
            id: grant.id.0,
            sandbox: sandbox.to_owned(),
            body: serde_json::to_string(&kept).unwrap_or_default(),
            made_ms: super::policies::millis(grant.made),
            expires_ms: grant.expires.map(super::policies::millis),
        }
    }
}

/// The problem that a refused answer is.
pub(in crate::cli::gateway) fn refused(error: &DecideError) -> Problem {
    let detail = error.to_string();
    match error {
        DecideError::NotFound(_) | DecideError::NoGrant(_) => Problem::not_found(detail),
        DecideError::Changed(_) => Problem::changed(detail),
        DecideError::Decided(_) | DecideError::Undecided(_) => Problem::decided(detail),
        DecideError::NoPath(_)
        | DecideError::Unseen(_)
        | DecideError::Elsewhere(_)
        | DecideError::Cover(_)
        | DecideError::Method(_) => Problem::bad_request(detail),
        DecideError::Numbers => Problem::unavailable(detail),
    }
}

fn lost(error: &state::StateError) -> Problem {
    Problem::unavailable(format!("{error}; nothing was answered"))
}

fn reason(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.chars().count() > MOST_REASON => {
            Err(Problem::bad_request(format!("a reason has at most {MOST_REASON} characters")))
        }
        text => Ok(text.filter(|text| !text.trim().is_empty())),
    }
}

fn lasts(text: Option<&str>) -> Result<Lasts, Problem> {
    let Some(text) = text else { return Ok(Lasts::Session) };
    match text.parse::<Span>() {
        Ok(span) if !span.0.is_zero() && span.0 <= LONGEST => Ok(Lasts::For(span.0)),
        _ => {
            let shown = Shown::new(text);
            let fix = "write 15m, 1h or 2d, at most 365d";
            Err(Problem::bad_request(format!("`{shown}` is not how long a grant lasts: {fix}")))
        }
    }
}

fn decision(ask: wire::Decision) -> Result<Decision, Problem> {
    if ask.lasts.is_some() && ask.scope != wire::Scope::Session {
        return Err(Problem::bad_request("`for` goes with scope session alone"));
    }
    let breadth = match (ask.breadth, &ask.path, &ask.methods) {
        (wire::Breadth::Path, _, _) | (wire::Breadth::Exact, Some(_), _) => approval::Breadth::Path,
        (wire::Breadth::Exact, None, None) => approval::Breadth::Exact,
        (wire::Breadth::Host, None, None) => approval::Breadth::Host,
        (wire::Breadth::Exact, None, Some(_)) | (wire::Breadth::Host, _, _) => {
            return Err(Problem::bad_request("path and methods go with breadth path"));
        }
    };
    Ok(Decision {
        answer: match ask.decision {
            wire::Verdict::Approve => Answer::Approve,
            wire::Verdict::Deny => Answer::Deny,
        },
        scope: match ask.scope {
            wire::Scope::Once => Scope::Once,
            wire::Scope::Session => Scope::Session,
            wire::Scope::Always => Scope::Always,
        },
        breadth,
        path: ask.path,
        methods: ask.methods,
        any_process: ask.any_process,
        lasts: lasts(ask.lasts.as_deref())?,
        reason: reason(ask.reason)?,
        digest: ask.digest,
    })
}

fn who(who: &Who, via: Option<&str>) -> approval::Who {
    let via = match via {
        Some("term") => "term",
        Some("cli") => "cli",
        _ => "api",
    };
    approval::Who { name: who.name.as_str().into(), uid: who.uid, via: via.into() }
}

impl Operator {
    /// Answers an entry.
    pub(super) async fn answer(
        &self,
        by: &Who,
        number: &str,
        ask: wire::Decision,
    ) -> Result<wire::Decided, Problem> {
        let (queue, number) = self.find(number)?;
        let by = who(by, ask.via.as_deref());
        let decision = decision(ask)?;
        let plan = queue
            .plan(number, &decision, &by, SystemTime::now())
            .map_err(|error| refused(&error))?;
        if let Some(grant) = &plan.grant {
            let row = Kept::row(queue.sandbox(), grant);
            self.state.save_grant(row).await.map_err(|error| lost(&error))?;
        }
        let (approval, covers) = (plan.approval.clone(), view::covers(&plan.cover));
        let kept = plan.grant.clone();
        let entry = if plan.rule.is_some() {
            let queue = queue.clone();
            self.order(|reply| super::Order::Answer(queue, Box::new(plan), reply)).await
        } else {
            queue.carry_out(&plan, None, SystemTime::now()).map_err(|error| refused(&error))
        };
        if entry.is_err()
            && let Some(grant) = &kept
            && let Err(error) = self.state.remove_grant(grant.id.0).await
        {
            tracing::error!(%error, grant = %grant.id, "a grant that did not come about is kept");
        }
        let entry = entry?;
        let decided = entry.decided.as_ref();
        self.told(
            queue,
            Told { number: Some(number), covers, grant: kept, undo: false },
            &approval,
        );
        decided.map(view::decided).ok_or_else(|| Problem::changed("it was undone at once"))
    }

    /// Takes an answer back.
    pub(super) async fn take_back(
        &self,
        by: &Who,
        number: &str,
        via: Option<&str>,
    ) -> Result<wire::Request, Problem> {
        let (queue, number) = self.find(number)?;
        self.may_undo(queue, number)?;
        let by = who(by, via);
        let entry = queue.entry(number);
        let decided = entry.as_ref().and_then(|entry| entry.decided.as_ref());
        if let Some(Outcome::Rule { .. }) = decided.map(|decided| &decided.outcome) {
            // First: where the rule can't be taken out, the answer stands and can be taken back again.
            let (queue, who) = (queue.clone(), Who { uid: by.uid, name: by.name.to_string() });
            self.order(|reply| super::Order::Unanswer(queue, number, who, reply)).await?;
        }
        let scope = decided.map_or(Scope::Session, |decided| decided.approval.scope);
        let undone = queue.undo(number).map_err(|error| refused(&error))?;
        let approval = approval::undoing(&by, scope, SystemTime::now());
        let (covers, grant) = match undone {
            Undone::Nothing => {
                let exactly = entry.map(|entry| entry.asked.covering_exactly());
                (exactly.as_ref().map(view::covers).unwrap_or_default(), None)
            }
            Undone::Rule(cover) => (view::covers(&cover), None),
            Undone::Grant(revoked) => {
                self.forget(&revoked).await?;
                (view::covers(&revoked.cover), Some(revoked))
            }
        };
        let shown = self.shown(queue, number);
        self.told(queue, Told { number: Some(number), covers, grant, undo: true }, &approval);
        shown.ok_or_else(|| Problem::not_found("it has just gone"))
    }

    /// A rule can't be taken out of a version that is pinned.
    fn may_undo(&self, queue: &Queue, number: u64) -> Result<(), Problem> {
        let entry = queue.entry(number);
        let outcome = entry.and_then(|entry| entry.decided).map(|decided| decided.outcome);
        let pinned = self.shown.load().get(queue.sandbox()).and_then(|s| s.pinned);
        match (outcome, pinned) {
            (Some(Outcome::Rule { .. }), Some(version)) => {
                Err(super::policies::is_pinned(queue.sandbox(), version))
            }
            _ => Ok(()),
        }
    }

    async fn forget(&self, grant: &Grant) -> Result<(), Problem> {
        // It is out of force already; where it can't be forgotten, a restart would bring it back.
        self.state.remove_grant(grant.id.0).await.map(drop).map_err(|error| {
            Problem::unavailable(format!(
                "{} is out of force, but {error}: take it back again before the next restart",
                grant.id
            ))
        })
    }

    /// Grants ahead.
    pub(super) async fn grant_ahead(
        &self,
        by: &Who,
        ask: wire::GrantRequest,
    ) -> Result<wire::Grant, Problem> {
        let queue = self.queue(ask.sandbox.as_deref())?;
        let by = who(by, ask.via.as_deref());
        let cover = cover(&ask)?;
        let now = SystemTime::now();
        let lasts = match lasts(ask.lasts.as_deref())? {
            Lasts::Session => queue.settings().session,
            Lasts::For(lasts) => lasts,
        };
        let approval = Arc::new(Approval {
            decision: Answer::Approve,
            scope: Scope::Session,
            by: by.name,
            uid: by.uid,
            via: by.via,
            at: now,
            reason: reason(ask.reason)?.map(Into::into),
        });
        let id = queue.new_grant().ok_or_else(|| refused(&DecideError::Numbers))?;
        let times = (now, now.checked_add(lasts));
        let grant = Grant::new(id, cover, times, None, approval.clone())
            .map_err(|error| refused(&DecideError::Cover(error)))?;
        let grant = Arc::new(grant);
        let row = Kept::row(queue.sandbox(), &grant);
        self.state.save_grant(row).await.map_err(|error| lost(&error))?;
        queue.grant_ahead(&grant, now);
        let shown = view::grant(queue.sandbox(), &grant);
        let covers = view::covers(&grant.cover);
        self.told(queue, Told { number: None, covers, grant: Some(grant), undo: false }, &approval);
        Ok(shown)
    }

    /// Takes a grant back.
    pub(super) async fn revoke_grant(&self, by: &Who, id: &str) -> Result<wire::Grant, Problem> {
        let parsed: GrantId = id.parse().map_err(|()| {
            let shown = Shown::new(id);
            Problem::bad_request(format!("`{shown}` is not the number of a grant: write g7"))
        })?;
        let mut queues = self.sandboxes.values().map(|sandbox| sandbox.queue());
        let queue = queues
            .find(|queue| queue.grant(parsed).is_ok())
            .ok_or_else(|| refused(&DecideError::NoGrant(parsed)))?;
        let grant = queue.revoke(parsed).map_err(|error| refused(&error))?;
        self.forget(&grant).await?;
        let event = Event::GrantRevoked {
            sandbox: queue.sandbox().clone(),
            grant: parsed.to_string(),
            covers: Shown::new(&view::covers(&grant.cover)).to_string(),
            by: Shown::new(&by.name).to_string(),
        };
        self.record(event);
        Ok(view::grant(queue.sandbox(), &grant))
    }

    fn queue(&self, sandbox: Option<&str>) -> Result<&Arc<Queue>, Problem> {
        match (sandbox, self.sandboxes.len()) {
            (Some(name), _) => {
                self.sandboxes.get(name).map(|s| s.queue()).ok_or_else(|| super::unknown(name))
            }
            (None, 1) => self
                .sandboxes
                .values()
                .next()
                .map(|sandbox| sandbox.queue())
                .ok_or_else(|| super::unknown("default")),
            (None, _) => Err(Problem::which_sandbox(self.sandboxes.keys().map(|name| &**name))),
        }
    }

    pub(super) fn record(&self, event: Event) {
        if self.recorder.event(event).is_err() {
            tracing::error!("a decision could not be recorded");
        }
    }

    /// Records an answer, and keeps it in the history.
    fn told(&self, queue: &Queue, told: Told, approval: &Approval) {
        let request = told.number.map(|number| format!("r{number}"));
        let event = Event::Decision {
            sandbox: queue.sandbox().clone(),
            request: request.clone(),
            decision: if told.undo { "undo" } else { approval.decision.as_str() },
            scope: approval.scope.as_str(),
            covers: Shown::new(&told.covers).to_string(),
            grant: told.grant.as_ref().map(|grant| grant.id.to_string()),
            by: Shown::new(&approval.by).to_string(),
            uid: approval.uid,
            via: approval.via.to_string(),
            reason: approval.reason.as_deref().map(|text| Shown::new(text).to_string()),
        };
        self.state.log_decision(state::Decision {
            at_ms: super::policies::millis(approval.at),
            sandbox: queue.sandbox().to_string(),
            request: request.unwrap_or_default(),
            body: serde_json::to_string(&event).unwrap_or_default(),
        });
        self.record(event);
    }
}

struct Told {
    number: Option<u64>,
    covers: String,
    grant: Option<Arc<Grant>>,
    undo: bool,
}

/// What `GET https://api.github.com/repos/*/issues` covers.
fn cover(ask: &wire::GrantRequest) -> Result<Cover, Problem> {
    let shown = Shown::new(&ask.url);
    let bad = |what: &str| {
        let fix = "write https://api.github.com/repos/*/issues";
        Problem::bad_request(format!("`{shown}` {what}: {fix}"))
    };
    let (scheme, rest) = ask.url.split_once("://").ok_or_else(|| bad("has no scheme"))?;
    let (websocket, scheme, port) = match scheme {
        "https" => (false, Scheme::Https, 443),
        "http" => (false, Scheme::Http, 80),
        "wss" => (true, Scheme::Https, 443),
        "ws" => (true, Scheme::Http, 80),
        _ => return Err(bad("has a scheme that is not http, https, ws or wss")),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/**"),
    };
    if path.contains('?') || path.contains('#') {
        return Err(bad("has a query, which a grant ahead can't name (it covers any)"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, text)) if !host.ends_with(':') && !text.ends_with(']') => {
            (host, text.parse().map_err(|_| bad("has a port that is no number"))?)
        }
        _ => (authority, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    HostPattern::parse(&host).map_err(|error| bad(&format!("names no host ({error})")))?;
    let methods =
        approval::methods_of(std::slice::from_ref(&ask.method)).map_err(|error| refused(&error))?;
    if websocket && !methods.is_empty() && methods != ["GET"] {
        let method = Shown::new(&ask.method);
        let detail = format!("a WebSocket opens with GET, never with {method}: write GET {shown}");
        return Err(Problem::bad_request(detail));
    }
    let what = What::Paths { websocket, methods, path: path.to_owned() };
    Ok(Cover { binary: ask.binary.clone(), scheme, host, port, what })
}
