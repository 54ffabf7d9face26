//! `portcullis policy test`: the tests beside a policy.
//!
//! `suite` is the file and what it means; here it is found, run and printed.

mod suite;

pub(super) use suite::Suite;

use super::output;
use super::{FINDING, effective::EffectiveArgs};
use crate::addr::Shown;
use crate::config::readable;
use crate::policy::Policy;
use anyhow::{Context, anyhow, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use suite::Outcome;

/// The arguments of `policy test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis policy test policy.tests.yaml\n  \
    portcullis policy test -o tap policies/\n  \
    portcullis policy test -o junit policies/*.tests.yaml > report.xml\n  \
    portcullis policy test -o json policy.tests.yaml | jq -r 'select(.ok | not).name'\n\n\
    NAME.tests.yaml tests the policy NAME.yaml beside it, unless it says `policy: [FILE, ...]`.\n\
    Exit status: 0 every case holds, 1 a case fails, 2 a file can't be read.")]
pub(super) struct TestArgs {
    /// Test files, or directories in which files named *.tests.yaml are run.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print: text, tap, junit (XML), json with one object a line, or yaml.
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
    /// For people: what fails, and the count.
    Text,
    /// Test Anything Protocol, version 14.
    Tap,
    /// The XML that CI servers read.
    Junit,
    /// One object a line.
    Json,
    /// One document an object.
    Yaml,
}

/// A file with what became of its cases.
struct Ran {
    file: String,
    outcomes: Vec<Outcome>,
}

/// Runs.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut ran = Vec::new();
    for file in found(&args.files)? {
        ran.push(one(&file)?);
    }
    output::print(&match args.output {
        Output::Text => text(&ran),
        Output::Tap => tap(&ran),
        Output::Junit => junit(&ran),
        Output::Json => json(&ran)?,
        Output::Yaml => super::shape::yaml_of(&json(&ran)?)?,
    })?;
    let holds = ran.iter().flat_map(|ran| &ran.outcomes).all(Outcome::holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(FINDING) })
}

fn found(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let is_suite = |path: &Path| path.to_string_lossy().ends_with(".tests.yaml");
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let shown = || Shown::new(&path.to_string_lossy()).to_string();
        let entries = std::fs::read_dir(path).with_context(shown)?;
        let mut below = Vec::new();
        for entry in entries {
            let file = entry.with_context(shown)?.path();
            below.extend(Some(file).filter(|file| is_suite(file)));
        }
        if below.is_empty() {
            bail!("{}: no tests in it\n  fix: name them NAME.tests.yaml", shown());
        }
        below.sort();
        files.extend(below);
    }
    Ok(files)
}

fn one(path: &Path) -> anyhow::Result<Ran> {
    let file = Shown::new(&path.to_string_lossy()).to_string();
    let text = std::fs::read_to_string(path).map_err(|why| {
        anyhow!("{file}: {why}\n  fix: {}", readable(&why, "name a test file that is there"))
    })?;
    let suite = Suite::parse(&text, &file)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut policy: Vec<PathBuf> = suite.policy.iter().map(|name| beside.join(name)).collect();
    if policy.is_empty() && suite.presets.is_empty() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let stem = name.as_deref().and_then(|name| name.strip_suffix(".tests.yaml"));
        let Some(stem) = stem else {
            bail!(
                "{file}: which policy does it test?\n  fix: add `policy: [FILE]`, or name it NAME.tests.yaml beside NAME.yaml"
            );
        };
        policy.push(beside.join(format!("{stem}.yaml")));
    }
    let args = EffectiveArgs { policy, preset: suite.presets.clone(), ..EffectiveArgs::default() };
    let policy: Policy = args.load()?.compile()?;
    Ok(Ran { outcomes: suite.run(&policy, &file)?, file })
}

fn text(ran: &[Ran]) -> String {
    let mut out = String::new();
    let (mut held, mut failed) = (0, 0);
    for ran in ran {
        for outcome in &ran.outcomes {
            if outcome.holds() {
                held += 1;
                continue;
            }
            failed += 1;
            let word = output::toned("failed", output::Tone::Bad);
            let _ = writeln!(out, "{word} {}:{}: {}", ran.file, outcome.line, outcome.name);
            let _ = writeln!(out, "  expected {}", outcome.expected());
            let _ = writeln!(out, "  but it is {}", outcome.said());
        }
    }
    let _ = writeln!(out, "{held} of {} hold", held + failed);
    out
}

fn tap(ran: &[Ran]) -> String {
    let all: usize = ran.iter().map(|ran| ran.outcomes.len()).sum();
    let mut out = format!("TAP version 14\n1..{all}\n");
    let outcomes = ran.iter().flat_map(|ran| ran.outcomes.iter().map(move |o| (&ran.file, o)));
    for (number, (file, outcome)) in (1..).zip(outcomes) {
        // `#` would begin a directive.
        let name = outcome.name.replace('#', "\\#");
        if outcome.holds() {
            let _ = writeln!(out, "ok {number} - {name}");
            continue;
        }
        let quoted = |text: String| serde_json::Value::from(text).to_string();
        let _ = writeln!(out, "not ok {number} - {name}");
        let _ = writeln!(out, "  ---");
        let _ = writeln!(out, "  at: {}", quoted(format!("{file}:{}", outcome.line)));
        let _ = writeln!(out, "  expected: {}", quoted(outcome.expected()));
        let _ = writeln!(out, "  actual: {}", quoted(outcome.said()));
        let _ = writeln!(out, "  ...");
    }
    out
}

fn junit(ran: &[Ran]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for ran in ran {
        let failed = ran.outcomes.iter().filter(|outcome| !outcome.holds()).count();
        let (file, all) = (xml(&ran.file), ran.outcomes.len());
        let _ = writeln!(
            out,
            "  <testsuite name=\"{file}\" tests=\"{all}\" failures=\"{failed}\" errors=\"0\">"
        );
        for outcome in &ran.outcomes {
            let (name, line) = (xml(&outcome.name), outcome.line);
            let _ = write!(
                out,
                "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{line}\""
            );
            let _ = match outcome.holds() {
                true => writeln!(out, "/>"),
                false => writeln!(
                    out,
                    ">\n      <failure message=\"expected {}, but it is {}\"/>\n    </testcase>",
                    xml(&outcome.expected()),
                    xml(&outcome.said())
                ),
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn json(ran: &[Ran]) -> anyhow::Result<String> {
    let mut out = String::new();
    for ran in ran {
        for outcome in &ran.outcomes {
            let line = serde_json::json!({
                "file": ran.file,
                "line": outcome.line,
                "name": outcome.name,
                "ok": outcome.holds(),
                "expected": outcome.expected(),
                "verdict": outcome.verdict,
                "code": outcome.code,
                "rule": outcome.rule,
                "detail": outcome.detail,
            });
            writeln!(out, "{line}")?;
        }
    }
    Ok(out)
}
