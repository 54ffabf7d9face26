//! `portcullis logs`: traffic as it happened and as it happens, one greppable line each.

use super::asking::{AskArgs, block_on};
use super::output;
use super::shape::{Shape, ascii, json};
use super::traffic::{self, Written};
use super::words::shown;
use super::yaml;
use crate::control::client::Client;
use crate::control::wire::{Event, Listen, Row, Traffic};
use crate::record::{EventLine, Line, LineScheme, RecordLine};
use std::fmt::Write;
use std::process::ExitCode;

/// The flags of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis logs -n 100 | grep ' deny '\n  \
    portcullis logs -f -s agent\n  \
    portcullis logs -n 1000 -o json | jq -r 'select(.sent) | .host'\n\n\
    A line: time, sandbox, verdict, outcome, code, what was asked, status, bytes up and down,\n\
    milliseconds, who let it through or stopped it, rule. -n reads the files of the state directory,\n\
    -f asks the running gateway.")]
pub(super) struct LogsArgs {
    /// Go on with what happens, until interrupted.
    #[arg(short, long, env = "PORTCULLIS_FOLLOW")]
    follow: bool,
    /// Print the last N lines [default: 20; with -f 0].
    #[arg(short = 'n', long, value_name = "N", env = "PORTCULLIS_LINES")]
    lines: Option<usize>,
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Prints the last lines, and the next ones.
pub(super) fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let lines = args.lines.unwrap_or(if args.follow { 0 } else { 20 });
    // Asked first: what happens while the files are read is not lost.
    let client = args.follow.then(|| args.ask.client()).transpose()?;
    if lines > 0 {
        let last = traffic::last(
            // Who follows may wait for one that is still to come.
            &args.ask.traffic(args.sandbox.as_deref().filter(|_| !args.follow))?,
            lines,
            args.sandbox.as_deref(),
        )?;
        let mut out = String::new();
        for line in &last {
            out.push_str(&written(line, args.ask.shape.shape)?);
        }
        output::print(&out)?;
    }
    match client {
        Some(client) => block_on(follow(&client, args)),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn follow(client: &Client, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let sandbox = args.sandbox.clone();
    let listen = Listen { sandbox, traffic: Traffic::All, attend: false };
    let mut events = client.events(&listen).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Traffic(batch) => {
                let mut out = String::new();
                for row in &batch.rows {
                    out.push_str(&match args.ask.shape.shape {
                        Shape::Text => line(row),
                        Shape::Json => json(row)?,
                        Shape::Yaml => format!("---\n{}", yaml::document(row)?),
                    });
                }
                output::print(&out)?;
                if batch.missed > 0 {
                    let missed = batch.missed;
                    output::note(&format!("{missed} requests went by too fast to be shown"));
                }
            }
            Event::Stopping {} => break,
            Event::Hello(_)
            | Event::Pending(_)
            | Event::Decided(_)
            | Event::Expired(_)
            | Event::Gone(_)
            | Event::Grants { .. }
            | Event::PolicyLoaded { .. }
            | Event::PolicyRejected { .. }
            | Event::Missed { .. } => {}
        }
    }
    output::note("the gateway has stopped");
    Ok(ExitCode::SUCCESS)
}

fn written(written: &Written, shape: Shape) -> anyhow::Result<String> {
    Ok(match shape {
        Shape::Json => ascii(&written.text) + "\n",
        Shape::Yaml => {
            let value: serde_json::Value = serde_json::from_str(&written.text)?;
            format!("---\n{}", yaml::document(&value)?)
        }
        Shape::Text => match &written.line {
            Line::Record(record) => line(&row(record)),
            Line::Event(event) => event_line(event),
        },
    })
}

/// One line, whatever it says: a space stands between any two facts, and in none but the last.
pub(super) fn line(row: &Row) -> String {
    let dash = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(shown);
    let or_dash = |text: Option<&str>| dash(text).unwrap_or_else(|| "-".to_owned());
    let host = row.host.as_deref().unwrap_or("-");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = match (row.scheme.as_str(), row.port) {
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let path = row.path.as_deref().unwrap_or_default();
    let url = shown(&format!("{}://{host}{port}{path}", row.scheme)).replace(' ', "%20");
    let status = row.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let mut out = format!(
        "{} {} {} {} {} {} {url} {status} {}B {}B {:.1}ms {} {}",
        shown(&to_millis(&row.time)),
        shown(&row.sandbox),
        shown(&row.verdict),
        shown(&row.outcome),
        shown(&row.code),
        or_dash(row.method.as_deref()),
        row.upload,
        row.download,
        row.total_ms,
        shown(&row.by),
        or_dash(row.rule.as_deref()),
    );
    if let Some(request) = &row.request {
        write!(out, " {}", shown(request)).expect("a String takes every text");
    }
    if let Some(repeat) = row.repeat.filter(|repeat| *repeat > 1) {
        write!(out, " x{repeat}").expect("a String takes every text");
    }
    out.push('\n');
    out
}

/// A time to the millisecond: files have microseconds, and what is followed has not.
fn to_millis(time: &str) -> String {
    let Some((seconds, rest)) = time.split_once('.') else { return time.to_owned() };
    match rest.strip_suffix('Z').and_then(|fraction| fraction.get(..3)) {
        Some(millis) => format!("{seconds}.{millis}Z"),
        None => time.to_owned(),
    }
}

fn event_line(event: &EventLine) -> String {
    let sandbox = event.sandbox.as_deref().map_or_else(|| "-".to_owned(), shown);
    let time = shown(&to_millis(&event.time));
    let mut out = format!("{time} {sandbox} {}", shown(&event.event));
    for (key, value) in &event.more {
        let value = match value {
            serde_json::Value::String(text) => shown(text),
            other => ascii(&other.to_string()),
        };
        write!(out, " {}={value}", shown(key)).expect("a String takes every text");
    }
    out.push('\n');
    out
}

/// A written record, as a row of live traffic says it.
pub(super) fn row(record: &RecordLine) -> Row {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    Row {
        time: text(&record.time),
        id: text(&record.id),
        sandbox: text(&record.sandbox),
        binary: record.client.as_ref().map(|client| client.binary.clone()),
        verdict: record.verdict.map_or("-", |verdict| verdict.as_str()).to_owned(),
        outcome: record.outcome.map_or("-", |outcome| outcome.as_str()).to_owned(),
        code: text(&record.code),
        by: text(&record.by),
        rule: record.rule.clone(),
        scheme: match record.scheme {
            Some(LineScheme::Http) => "http",
            Some(LineScheme::Https) | None => "https",
            Some(LineScheme::Tcp) => "tcp",
        }
        .to_owned(),
        method: record.method.clone(),
        host: record.host.clone(),
        port: record.port.map(std::num::NonZeroU16::get),
        path: record.path.clone(),
        status: record.status,
        upload: record.upload.unwrap_or(0),
        download: record.download.unwrap_or(0),
        total_ms: record.ms.map_or(0.0, |ms| ms.total.0.as_secs_f64() * 1000.0),
        request: record.request.clone(),
        repeat: record.repeat,
    }
}
