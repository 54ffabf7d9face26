//! `portcullis audit`: what left, under which rule or whose approval, and who decided what. Reads
//! the traffic files: no gateway need run.

use super::asking::AskArgs;
use super::table::Table;
use super::traffic::{self, Written};
use super::words::shown;
use crate::addr::Shown;
use crate::config::Span;
use crate::record::{EventLine, Line, Outcome, RecordLine};
use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// The flags of `audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis audit\n  \
    portcullis audit --since 7d --sent -s agent\n  \
    portcullis audit --since 2026-11-01 --by ana\n  \
    portcullis audit --by policy -o json | jq -s 'map(.upload) | add'\n\n\
    Days are in UTC. JSON: objects with \"decision\" first, then the traffic in groups.")]
pub(super) struct AuditArgs {
    /// From then on: today, yesterday, 7d, 2026-11-24, or a time in RFC 3339.
    #[arg(long, value_name = "WHEN", env = "PORTCULLIS_SINCE", default_value = "yesterday")]
    since: String,
    /// What left alone: requests of which at least a byte went upstream.
    #[arg(long, env = "PORTCULLIS_SENT")]
    sent: bool,
    /// What was let through, stopped or decided by: a user's name, policy, guard, limit, grant:g7.
    #[arg(long, value_name = "WHO", env = "PORTCULLIS_BY")]
    by: Option<String>,
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// What one line of the report stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Key {
    sandbox: String,
    host: String,
    method: String,
    outcome: String,
    /// `policy`, `grant:g7`, `guard`.
    by: String,
    /// Who approved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    approved: Option<String>,
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// How much of it there was.
#[derive(Clone, Debug, Default, Serialize)]
struct Sum {
    requests: u64,
    sent: u64,
    upload: u64,
    download: u64,
    first: String,
    last: String,
}

/// One object of the report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Entry {
    Decision(EventLine),
    Traffic {
        #[serde(flatten)]
        key: Key,
        #[serde(flatten)]
        sum: Sum,
    },
}

/// Reports.
pub(super) fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let since = when(&args.since, Timestamp::now())?;
    let (mut decisions, mut groups) = (Vec::new(), BTreeMap::<Key, Sum>::new());
    traffic::since(
        &args.ask.traffic(args.sandbox.as_deref())?,
        since,
        args.sandbox.as_deref(),
        |written| match &written.line {
            Line::Event(event) if decides(event, args) => decisions.push(event.clone()),
            Line::Event(_) => {}
            Line::Record(record) if counts(record, args) => {
                add(groups.entry(key(record)).or_default(), record, written);
            }
            Line::Record(_) => {}
        },
    )?;
    decisions.sort_by(|a, b| a.time.cmp(&b.time));
    let decisions = decisions.into_iter().map(Entry::Decision);
    let traffic = groups.into_iter().map(|(key, sum)| Entry::Traffic { key, sum });
    let entries: Vec<Entry> = decisions.chain(traffic).collect();
    args.ask.shape.all(&entries, |entries| text(entries, since))
}

/// The time that is meant.
fn when(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    const DAY: i64 = 86_400;
    let midnight = now.as_second().div_euclid(DAY) * DAY;
    let at = |second| Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    match text {
        "today" => return Ok(at(midnight)),
        "yesterday" => return Ok(at(midnight - DAY)),
        _ => {}
    }
    if let Ok(span) = text.parse::<Span>() {
        return Ok(now.checked_sub(span.0).unwrap_or(Timestamp::UNIX_EPOCH));
    }
    if let Ok(day) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(day);
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(time),
        Err(_) => bail!(
            "--since `{}` is no time\n  fix: write today, yesterday, 7d, 2026-11-24, or \
             2026-11-24T10:00:00Z",
            Shown::new(text)
        ),
    }
}

/// Whether the event is somebody's decision, and of whom it is asked for.
fn decides(event: &EventLine, args: &AuditArgs) -> bool {
    let decision = matches!(event.event.as_str(), "decision" | "grant.revoked" | "grant.expired");
    let by = event.more.get("by").and_then(Value::as_str);
    let grant = event.more.get("grant").and_then(Value::as_str);
    let grant = grant.map(|grant| format!("grant:{grant}"));
    let asked = args.by.as_deref();
    decision && asked.is_none_or(|who| by == Some(who) || grant.as_deref() == Some(who))
}

fn counts(record: &RecordLine, args: &AuditArgs) -> bool {
    let sent = !args.sent || record.sent == Some(true);
    let approved = record.approval.as_ref().map(|approval| approval.by.as_str());
    sent && args
        .by
        .as_deref()
        .is_none_or(|who| record.by.as_deref() == Some(who) || approved == Some(who))
}

fn key(record: &RecordLine) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let port = record.port.map(|port| format!(":{port}")).unwrap_or_default();
    Key {
        sandbox: text(&record.sandbox),
        host: text(&record.host) + &port,
        method: text(&record.method),
        outcome: record.outcome.map_or("-", Outcome::as_str).to_owned(),
        by: text(&record.by),
        approved: record.approval.as_ref().map(|approval| approval.by.clone()),
        rule: record.rule.clone(),
    }
}

fn add(sum: &mut Sum, record: &RecordLine, written: &Written) {
    let repeat = record.repeat.unwrap_or(1);
    sum.requests += repeat;
    sum.sent += if record.sent == Some(true) { repeat } else { 0 };
    sum.upload += record.upload.unwrap_or(0);
    sum.download += record.download.unwrap_or(0);
    let time = written.time();
    if sum.first.is_empty() || time < sum.first.as_str() {
        time.clone_into(&mut sum.first);
    }
    if time > sum.last.as_str() {
        time.clone_into(&mut sum.last);
    }
}

fn text(entries: &[Entry], since: Timestamp) -> String {
    if entries.is_empty() {
        return format!("nothing since {since}\n");
    }
    let mut decided = Table::new(&[
        "TIME", "SANDBOX", "WHAT", "BY", "VIA", "REQUEST", "GRANT", "COVERS", "REASON",
    ])
    .keeping(&["WHAT", "COVERS"])
    .naming(&["COVERS"])
    .sparing(&["VIA", "REQUEST", "GRANT", "REASON"]);
    let mut traffic = Table::new(&[
        "SANDBOX", "HOST", "METHOD", "OUTCOME", "REQUESTS", "SENT", "UP", "DOWN", "BY", "APPROVED",
        "RULE", "LAST",
    ])
    .keeping(&["HOST", "OUTCOME", "BY", "APPROVED", "RULE"])
    // Of a rule the entry and its end stay, as of a URL.
    .naming(&["HOST", "RULE"])
    .sparing(&["SENT", "UP", "DOWN", "LAST", "SANDBOX"]);
    let (mut decisions, mut groups) = (0, 0);
    for entry in entries {
        match entry {
            Entry::Decision(event) => {
                decisions += 1;
                decided.row(decision(event));
            }
            Entry::Traffic { key, sum } => {
                groups += 1;
                traffic.row(group(key, sum));
            }
        }
    }
    let mut out = String::new();
    if decisions > 0 {
        out.push_str(&decided.text());
    }
    if groups > 0 {
        out.push_str(if decisions > 0 { "\n" } else { "" });
        out.push_str(&traffic.text());
    }
    out
}

fn decision(event: &EventLine) -> [String; 9] {
    let fact = |key: &str| {
        event.more.get(key).and_then(Value::as_str).map_or_else(|| "-".to_owned(), shown)
    };
    let what = match event.event.as_str() {
        "decision" => format!("{} {}", fact("decision"), fact("scope")),
        other => shown(other),
    };
    [
        shown(&event.time),
        event.sandbox.as_deref().map_or_else(|| "-".to_owned(), shown),
        what,
        fact("by"),
        fact("via"),
        fact("request"),
        fact("grant"),
        fact("covers"),
        fact("reason"),
    ]
}

fn group(key: &Key, sum: &Sum) -> [String; 12] {
    let maybe = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), shown);
    [
        shown(&key.sandbox),
        shown(&key.host),
        shown(&key.method),
        shown(&key.outcome),
        sum.requests.to_string(),
        sum.sent.to_string(),
        bytes(sum.upload),
        bytes(sum.download),
        shown(&key.by),
        maybe(&key.approved),
        maybe(&key.rule),
        shown(&sum.last),
    ]
}

/// `999B`, `12KiB`, `3MiB`: rounded up, so that something is never nothing.
fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count}B"),
        1024..1_048_576 => format!("{}KiB", count.div_ceil(1 << 10)),
        1_048_576.. => format!("{}MiB", count.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_people_write() {
        let now: Timestamp = "2026-11-24T17:00:00Z".parse().unwrap();
        for (text, time) in [
            ("today", "2026-11-24T00:00:00Z"),
            ("yesterday", "2026-11-23T00:00:00Z"),
            ("2h", "2026-11-24T15:00:00Z"),
            ("7d", "2026-11-17T17:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T10:00:00+02:00", "2026-11-01T08:00:00Z"),
        ] {
            assert_eq!(when(text, now).unwrap().to_string(), time, "{text}");
        }
        assert!(when("noon", now).unwrap_err().to_string().contains("fix: write today"));
        assert!(when("2026-13-01", now).is_err());
    }
}
