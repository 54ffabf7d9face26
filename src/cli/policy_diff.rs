//! `portcullis policy diff`: what changes in meaning, and for recorded traffic.

use super::effective::{Effective, EffectiveArgs};
use super::output::{self, Tone, toned};
use super::{FINDING, UNREADABLE};
use crate::policy::diff::{Aspect, Change, Diff, Row, diff};
use crate::replay::{Change as Effect, Report};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `policy diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis policy diff old.yaml new.yaml\n  \
    portcullis policy diff preset:pypi mine.yaml,preset:npm=read-write\n  \
    portcullis policy diff <(git show main:policy.yaml) policy.yaml --traffic traffic/\n  \
    portcullis policy diff -o json old.yaml new.yaml | jq -r 'select(.change == \"gained\").example.url'\n  \
    portcullis policy diff -o markdown old.yaml new.yaml >> \"$GITHUB_STEP_SUMMARY\"\n\n\
    A policy is a FILE, preset:NAME, preset:NAME=read-write or tier:NAME; several are joined by commas.\n\
    What passes with `enforcement: audit` counts as let through.\n\
    Exit status: 0 NEW allows nothing that OLD does not, 1 it does or may, 2 a file can't be read.")]
pub(super) struct DiffArgs {
    /// The policy as it was.
    old: String,
    /// The policy as it will be.
    new: String,
    /// Recorded traffic, to show what changes for it: files or directories; may be repeated.
    #[arg(long, value_name = "TRAFFIC", env = "PORTCULLIS_TRAFFIC", value_delimiter = ',')]
    traffic: Vec<PathBuf>,
    /// How to print: text, json with one object a line, yaml, or a markdown table.
    #[arg(
        short = 'o',
        long = "output",
        alias = "format",
        value_name = "FORMAT",
        env = "PORTCULLIS_OUTPUT",
        default_value = "text"
    )]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// One document an object.
    Yaml,
    /// A table, for a pull request.
    Markdown,
}

/// Compares.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let (old, new) = (side(&args.old)?, side(&args.new)?);
    let found = diff(&old.layers, &new.layers)?;
    let effect = match args.traffic.as_slice() {
        [] => None,
        traffic => Some(super::dry_run::effect(&old, &new, traffic)?),
    };
    let mut out = match args.output {
        Output::Text => text(&found),
        Output::Json | Output::Yaml => json(&found)?,
        Output::Markdown => markdown(&found),
    };
    if let Some((report, text)) = &effect {
        match args.output {
            Output::Text => out = out + "\nfor the recorded traffic:\n" + text,
            Output::Markdown => out = out + "\nFor the recorded traffic:\n\n```\n" + text + "```\n",
            Output::Json | Output::Yaml => effects(&mut out, report)?,
        }
    }
    if args.output == Output::Yaml {
        out = super::shape::yaml_of(&out)?;
    }
    output::print(&out)?;
    let broken = effect.as_ref().is_some_and(|(report, _)| report.totals.broken > 0);
    let widened = effect.as_ref().is_some_and(|(report, _)| report.totals.of(Effect::Allowed) > 0);
    Ok(match (broken, found.gains() || widened) {
        (true, _) => ExitCode::from(UNREADABLE),
        (_, true) => ExitCode::from(FINDING),
        _ => ExitCode::SUCCESS,
    })
}

/// The policy that an argument means.
pub(super) fn side(text: &str) -> anyhow::Result<Effective> {
    let mut args = EffectiveArgs::default();
    for part in text.split(',') {
        match part.split_once(':') {
            Some(("preset", name)) => args.preset.push(name.to_owned()),
            Some(("tier", name)) => args.tier = Some(name.to_owned()),
            _ => args.policy.push(PathBuf::from(part)),
        }
    }
    args.load()
}

fn text(found: &Diff) -> String {
    let mut out = String::new();
    let mut last = None;
    for row in &found.rows {
        if last != Some(row.change) {
            let (word, tone) = heading(row.change);
            let gap = if last.is_some() { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{}", toned(word, tone));
            last = Some(row.change);
        }
        line(&mut out, row);
    }
    let count = |change| found.rows.iter().filter(|row| row.change == change).count();
    let gap = if found.rows.is_empty() { "" } else { "\n" };
    let _ = match found.rows.len() {
        0 => writeln!(out, "no change in what is allowed"),
        _ => writeln!(
            out,
            "{gap}{} gained, {} not decided, {} lost, {} no longer denied",
            count(Change::Gained),
            count(Change::MayGain),
            count(Change::Lost),
            count(Change::Undenied)
        ),
    };
    out
}

fn heading(change: Change) -> (&'static str, Tone) {
    match change {
        Change::Gained => ("gained: allowed by NEW, not by OLD", Tone::Bad),
        Change::MayGain => ("may be gained: it could not be decided", Tone::Bad),
        Change::Lost => ("lost: allowed by OLD, not by NEW", Tone::Good),
        Change::Undenied => ("no longer denied: the operator may be asked", Tone::Doubtful),
    }
}

fn line(out: &mut String, row: &Row) {
    let _ = write!(out, "  {}:{}  {}  {}", row.host, row.port, what(row), row.path);
    if !row.query.is_empty() {
        let _ = write!(out, "  ?{}", row.query.join("&"));
    }
    let _ = writeln!(out, "{}", if row.partly { "  (in part)" } else { "" });
    let _ = write!(out, "      by {}", row.rule);
    if let Some(binaries) = &row.binaries {
        let _ = write!(out, " for {}", binaries.join(", "));
    }
    let other = if row.change == Change::Lost { "now" } else { "was" };
    let _ = match (&row.denied_by, row.other) {
        (Some(rule), _) => writeln!(out, "; {other} denied by {rule}"),
        (None, Some(code)) => writeln!(out, "; {other} {code}"),
        (None, None) => writeln!(out),
    };
    if let Some(example) = &row.example {
        let _ = write!(out, "      {} {}", example.method, example.url);
        if !example.binaries.is_empty() {
            let _ = write!(out, " by {}", example.binaries.join(" of "));
        }
        let _ = match &example.body {
            Some(body) => writeln!(out, ": {body}"),
            None => writeln!(out),
        };
    }
}

fn what(row: &Row) -> String {
    match row.what {
        Aspect::Requests if row.methods.is_empty() => "requests".to_owned(),
        Aspect::Requests if row.methods == ["*"] => "any method".to_owned(),
        Aspect::Requests => row.methods.join(" "),
        Aspect::Websockets => "WebSockets".to_owned(),
        Aspect::Messages => "WebSocket messages".to_owned(),
        Aspect::Bytes => "bytes that are no HTTP".to_owned(),
        Aspect::Tunnel => "raw tunnels, whatever is in them".to_owned(),
        Aspect::AnyName => "raw tunnels to a name that is not checked".to_owned(),
        Aspect::Addresses => "more addresses behind the name".to_owned(),
        Aspect::Sizes => "longer bodies".to_owned(),
    }
}

fn json(found: &Diff) -> anyhow::Result<String> {
    let mut out = String::new();
    for row in &found.rows {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    }
    Ok(out)
}

fn effects(out: &mut String, report: &Report) -> anyhow::Result<()> {
    for change in Effect::ALL {
        let line =
            serde_json::json!({"traffic": change.as_str(), "requests": report.totals.of(change)});
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A table that a forge renders: what stands in a cell can't end it.
fn markdown(found: &Diff) -> String {
    let mut out = String::new();
    if found.rows.is_empty() {
        out.push_str("No change in what is allowed.\n");
        return out;
    }
    out.push_str("| change | host | what | path | rule | example |\n|---|---|---|---|---|---|\n");
    for row in &found.rows {
        let change = match row.change {
            Change::Gained => "**gained**",
            Change::MayGain => "**may be gained**",
            Change::Lost => "lost",
            Change::Undenied => "no longer denied",
        };
        let example = row.example.as_ref().map(|e| cell(&format!("{} {}", e.method, e.url)));
        let _ = writeln!(
            out,
            "| {change}{} | {} | {} | {} | {} | {} |",
            if row.partly { " in part" } else { "" },
            cell(&format!("{}:{}", row.host, row.port)),
            what(row),
            cell(&row.path),
            cell(&row.rule),
            example.unwrap_or_default(),
        );
    }
    out
}

fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|").replace('`', "'"))
}
