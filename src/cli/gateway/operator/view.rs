//! Entries, grants and counts as the control API shows them.

use crate::addr::Name;
use crate::approval::{self, Breadth, Decided, Entry, Kind, Neighbours, Outcome, Queue, State};
use crate::control::wire;
use crate::policy::{Answer, Client, Cover, Grant, Scheme, Scope, What};
use crate::record::{masked_query, rfc3339};
use crate::secret::Needles;
use std::time::{Duration, SystemTime};

/// An entry, with what else waits beside it.
pub(super) fn request(
    queue: &Queue,
    entry: &Entry,
    beside: &Neighbours,
    secrets: &Needles,
) -> wire::Request {
    let settings = queue.settings();
    let (also, also_host) = beside.also(entry);
    let variants = beside.variants(entry);
    let asked = &entry.asked;
    let request = asked.request();
    let text = |text: &str| text.to_owned();
    wire::Request {
        request: format!("r{}", entry.number),
        state: state(entry.state),
        sandbox: queue.sandbox().to_string(),
        kind: kind(asked.kind),
        client: client(&asked.intent.client),
        scheme: scheme(asked.intent.scheme).into(),
        host: asked.intent.target.host.to_string(),
        unicode: asked.intent.target.host.name().and_then(Name::unicode),
        port: asked.intent.target.port.get(),
        method: request.map(|(method, ..)| text(method)),
        path: request.map(|(_, path, _)| text(path)),
        query: request
            .and_then(|(_, _, query)| Some(secrets.mask_str(&masked_query(query?)).into_owned())),
        headers: headers(asked, secrets),
        body: body(asked, secrets),
        facts: asked.facts.clone(),
        count: entry.count,
        held: entry.held() as u64,
        first_seen: rfc3339(entry.first_seen),
        last_seen: rfc3339(entry.last_seen),
        held_until: held_until(queue, entry),
        expires: rfc3339(entry.kept_until(settings.keep)),
        code: asked.question.code.as_str().into(),
        detail: asked.question.detail.clone(),
        nearest: asked.question.nearest.as_deref().map(text),
        proposal: wire::Proposal {
            methods: request.map(|(method, ..)| text(method)).into_iter().collect(),
            path: entry.pattern.as_deref().map(text),
            also: also as u64,
            also_host: also_host as u64,
            yaml: yaml(entry),
        },
        risk: entry.risk.iter().map(note).collect(),
        variants: variants.iter().map(|number| format!("r{number}")).collect(),
        agent_reason: asked.reason.clone(),
        digest: entry.digest.clone(),
        decision: entry.decided.as_ref().map(decided),
    }
}

/// The rule that an answer for good about exactly this would write.
fn yaml(entry: &Entry) -> String {
    let approval = crate::policy::Approval {
        decision: Answer::Approve,
        scope: Scope::Always,
        by: "you".into(),
        uid: rustix::process::geteuid().as_raw(),
        via: "term".into(),
        at: entry.first_seen,
        reason: None,
    };
    let cover = entry.asked.covering_exactly();
    let rule = approval::rule(entry.number, (&cover, entry.asked.says()), &approval);
    // Who and when is not known yet.
    rule.lines()
        .skip(1)
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect()
}

fn note(note: &approval::risk::Note) -> wire::Note {
    let code = serde_json::to_value(note.code).ok();
    let code = code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
    wire::Note { code, text: note.text.clone() }
}

fn held_until(queue: &Queue, entry: &Entry) -> Option<String> {
    let left: Duration = entry.held_for(queue.holds_for())?;
    Some(rfc3339(SystemTime::now() + left))
}

/// Header fields as they were masked by name, with every known value masked besides.
fn headers(asked: &approval::Asked, secrets: &Needles) -> Vec<(String, String)> {
    let each = |(name, value): &(String, String)| {
        let value = secrets.mask_str(value);
        (name.clone(), approval::risk::redact(&value))
    };
    asked.headers.iter().map(each).collect()
}

fn body(asked: &approval::Asked, secrets: &Needles) -> Option<wire::Body> {
    let (shown, preview) = (&asked.body, &asked.preview);
    if shown.is_empty() && !preview.waits && !preview.longer {
        return None;
    }
    let seen = preview.bytes.len() as u64;
    Some(wire::Body {
        content_type: shown.content_type.clone(),
        length: shown.length,
        preview: approval::risk::redact(&String::from_utf8_lossy(&secrets.mask(&preview.bytes))),
        seen,
        unseen: shown.length.map(|length| length.saturating_sub(seen)),
        longer: preview.longer,
        waits: preview.waits,
    })
}

fn client(client: &Client) -> Option<wire::Client> {
    match client {
        Client::Seen(process) => Some(wire::Client {
            binary: process.binary.to_string(),
            ancestors: process.ancestors.iter().map(ToString::to_string).collect(),
            pid: process.pid,
        }),
        Client::Unseen | Client::Ignored => None,
    }
}

fn state(state: State) -> wire::State {
    match state {
        State::Pending => wire::State::Pending,
        State::Approved => wire::State::Approved,
        State::Denied => wire::State::Denied,
        State::Expired => wire::State::Expired,
    }
}

fn kind(kind: Kind) -> wire::Kind {
    match kind {
        Kind::Http => wire::Kind::Http,
        Kind::Websocket => wire::Kind::Websocket,
        Kind::Grpc => wire::Kind::Grpc,
        Kind::Graphql => wire::Kind::Graphql,
        Kind::Rpc => wire::Kind::Rpc,
        Kind::Tcp => wire::Kind::Tcp,
        Kind::Opaque => wire::Kind::Opaque,
        Kind::Ahead => wire::Kind::Ahead,
    }
}

fn scheme(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Tcp => "tcp",
    }
}

/// What became of an answer.
pub(super) fn decided(decided: &Decided) -> wire::Decided {
    let approval = &decided.approval;
    let (grant, file) = match &decided.outcome {
        Outcome::Nothing | Outcome::Ticket(_) => (None, None),
        Outcome::Grant(id) => (Some(id.to_string()), None),
        Outcome::Rule { file, .. } => (None, Some(file.to_string())),
    };
    wire::Decided {
        decision: answer(approval.decision),
        scope: match approval.scope {
            Scope::Once => wire::Scope::Once,
            Scope::Session => wire::Scope::Session,
            Scope::Always => wire::Scope::Always,
        },
        breadth: match decided.breadth {
            Breadth::Exact => wire::Breadth::Exact,
            Breadth::Path => wire::Breadth::Path,
            Breadth::Host => wire::Breadth::Host,
        },
        by: approval.by.to_string(),
        uid: approval.uid,
        via: approval.via.to_string(),
        at: rfc3339(approval.at),
        reason: approval.reason.as_deref().map(str::to_owned),
        grant,
        file,
        released: decided.released as u64,
    }
}

fn answer(answer: Answer) -> wire::Verdict {
    match answer {
        Answer::Approve => wire::Verdict::Approve,
        Answer::Deny => wire::Verdict::Deny,
    }
}

/// A grant.
pub(super) fn grant(sandbox: &str, grant: &Grant) -> wire::Grant {
    wire::Grant {
        grant: grant.id.to_string(),
        sandbox: sandbox.to_owned(),
        decision: answer(grant.approval.decision),
        covers: covers(&grant.cover),
        breadth: Some(match grant.cover.what {
            What::Exact { .. } => wire::Breadth::Exact,
            What::Paths { .. } => wire::Breadth::Path,
            What::Host | What::Bytes | What::Opaque => wire::Breadth::Host,
        }),
        binary: grant.cover.binary.clone(),
        made: rfc3339(grant.made),
        expires: grant.expires.map(rfc3339),
        by: grant.approval.by.to_string(),
        request: grant.request.map(|number| format!("r{number}")),
        reason: grant.approval.reason.as_deref().map(str::to_owned),
        used: grant.used(),
    }
}

/// What a grant covers in one line, with the secrets of a query masked.
pub(super) fn covers(cover: &Cover) -> String {
    let mut shown = cover.clone();
    if let What::Exact { query: Some(query), .. } = &mut shown.what {
        *query = masked_query(query).into_owned();
    }
    shown.to_string()
}
