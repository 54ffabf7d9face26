//! `portcullis dry-run`: recorded traffic under another policy.
//!
//! `report` prints what changes, `bar` shows how far it is. The judging is `replay`'s.

mod bar;
mod report;

use super::FINDING;
use super::effective::{Effective, EffectiveArgs};
use crate::addr::Shown;
use crate::config::{Identity, Span};
use crate::policy::pattern::HostPattern;
use crate::replay::{Change, Filter, Judge, Plan, Report, RunError, Style, run as replay};
use crate::traffic::read::{Progress, Source, Stamp, sources};
use anyhow::{anyhow, bail};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// How far back the state directory's records are read.
const USUAL_SINCE: &str = "7d";

/// The arguments of `dry-run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis dry-run --policy new.yaml                     the last 7 days of this gateway\n  \
    portcullis dry-run --policy new.yaml traffic/ page.har   directories, files, HARs\n  \
    portcullis dry-run --preset github --tier restricted --since 24h -s agent\n  \
    portcullis dry-run --config config.yaml -s agent --against old.yaml traffic/\n  \
    portcullis dry-run --policy new.yaml --fail-on deny,unknown old-traffic.jsonl.gz\n  \
    zcat *.gz | portcullis dry-run --policy new.yaml -o json - | jq -c 'select(.verdict == \"deny\")'\n\n\
    Exit status: 0 done, 1 a record changes to what --fail-on names, 2 a policy or a record can't be read.")]
pub(super) struct DryRunArgs {
    /// Recorded traffic: files, directories, or - for stdin [default: the state directory's].
    #[arg(value_name = "TRAFFIC")]
    traffic: Vec<PathBuf>,
    #[command(flatten)]
    effective: EffectiveArgs,
    /// Compare with this policy's verdicts instead of the recorded ones; may be repeated.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_AGAINST", value_delimiter = ',')]
    against: Vec<PathBuf>,
    /// Only records since then: a duration as 90m, 24h or 7d [default: 7d without TRAFFIC].
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_SINCE")]
    since: Option<String>,
    /// Only records to these hosts, as in a policy: api.github.com or "*.github.com".
    #[arg(long, value_name = "GLOB", env = "PORTCULLIS_ONLY_HOST")]
    host: Option<String>,
    /// Print only records that change (json and yaml; text never shows others).
    #[arg(long, env = "PORTCULLIS_ONLY_CHANGED")]
    only_changed: bool,
    /// Exit with 1 where a record changes to one of these.
    #[arg(long, value_name = "VERDICTS", env = "PORTCULLIS_FAIL_ON", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    /// Lines that can't be read do not make the exit status 2.
    #[arg(long, env = "PORTCULLIS_SKIP_BAD")]
    skip_bad: bool,
    /// How to print: text, or json with one object a record, or yaml.
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
    /// One object a record.
    Json,
    /// A list.
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Newly allowed.
    Allow,
    /// Newly denied.
    Deny,
    /// Newly asked about.
    Unknown,
    /// Newly undecidable.
    Undecidable,
}

impl FailOn {
    fn change(self) -> Change {
        match self {
            Self::Allow => Change::Allowed,
            Self::Deny => Change::Denied,
            Self::Unknown => Change::Asked,
            Self::Undecidable => Change::Undecidable,
        }
    }
}

/// Judges the recording.
pub(super) fn run(args: &DryRunArgs) -> anyhow::Result<ExitCode> {
    let new = judge(&args.effective.load_named()?)?;
    let old = match args.against.as_slice() {
        [] => None,
        files => Some(judge(&Effective::of_files(files)?)?),
    };
    let plan = Plan {
        new: &new,
        old: old.as_ref(),
        filter: filter(args)?,
        style: match args.output {
            Output::Text => Style::Report,
            Output::Json => Style::Json,
            Output::Yaml => Style::Yaml,
        },
        only_changed: args.only_changed,
        workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let sources = recording(args, plan.filter.since)?;
    let report = judged(&plan, &sources)?;
    for broken in &report.broken {
        super::output::complain(&broken.shown());
    }
    if report.totals.judged + report.totals.unjudged == 0 {
        super::asking::recorded(args.effective.sandbox.as_deref(), &report.sandboxes)?;
    }
    if args.output == Output::Text {
        super::output::print(&report::text(&report, plan.old.is_some()))?;
    }
    Ok(status(args, &report))
}

/// What changes for recorded traffic from one policy to another, for `policy diff --traffic`.
pub(super) fn effect(
    old: &Effective,
    new: &Effective,
    traffic: &[PathBuf],
) -> anyhow::Result<(Report, String)> {
    let (old, new) = (judge(old)?, judge(new)?);
    let plan = Plan {
        new: &new,
        old: Some(&old),
        filter: Filter::default(),
        style: Style::Report,
        only_changed: true,
        workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let report = judged(&plan, &sources(traffic, None)?)?;
    for broken in &report.broken {
        super::output::complain(&broken.shown());
    }
    let text = report::text(&report, true);
    Ok((report, text))
}

fn judge(effective: &Effective) -> anyhow::Result<Judge> {
    Ok(Judge::new(effective.compile()?, effective.identity == Identity::Ignore))
}

fn judged(plan: &Plan<'_>, sources: &[Source]) -> anyhow::Result<Report> {
    let progress = Progress::default();
    let mut bar = bar::Bar::new(sources);
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let report = replay(plan, sources, &progress, &mut out, &mut || bar.show(&progress));
    bar.clear();
    match report {
        Ok(report) => {
            out.flush()?;
            Ok(report)
        }
        // As it is, so that a reader who leaves is known.
        Err(RunError::Write(error)) => Err(error.into()),
        Err(RunError::Read(error)) => Err(error.into()),
    }
}

/// A broken line weighs more than a change: what was not read may have been worse.
fn status(args: &DryRunArgs, report: &Report) -> ExitCode {
    if report.totals.broken > 0 && !args.skip_bad {
        return ExitCode::from(super::UNREADABLE);
    }
    match args.fail_on.iter().any(|on| report.totals.of(on.change()) > 0) {
        true => ExitCode::from(FINDING),
        false => ExitCode::SUCCESS,
    }
}

fn filter(args: &DryRunArgs) -> anyhow::Result<Filter> {
    let usual = args.traffic.is_empty().then_some(USUAL_SINCE);
    let since = args.since.as_deref().or(usual).map(since).transpose()?;
    let host = args.host.as_deref().map(host).transpose()?;
    Ok(Filter { sandbox: args.effective.sandbox.clone(), since, host })
}

fn host(text: &str) -> anyhow::Result<HostPattern> {
    HostPattern::parse(text).map_err(|error| {
        let shown = Shown::new(text);
        anyhow!("--host: `{shown}`: {error}\n  fix: write a host as in a policy: \"*.github.com\"")
    })
}

/// That long before now.
fn since(text: &str) -> anyhow::Result<Stamp> {
    let Ok(Span(span)) = Span::from_str(text) else {
        let shown = Shown::new(text);
        bail!("--since: `{shown}` is no duration\n  fix: write 90m, 24h or 7d");
    };
    let now = jiff::Timestamp::now().as_microsecond();
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Ok(Stamp(now.saturating_sub(span)))
}

/// What is read: what was named, else the records of the gateway.
fn recording(args: &DryRunArgs, since: Option<Stamp>) -> anyhow::Result<Vec<Source>> {
    if !args.traffic.is_empty() {
        return Ok(sources(&args.traffic, since)?);
    }
    let dir = args.effective.traffic_dir()?;
    let found = match dir.exists() {
        true => sources(std::slice::from_ref(&dir), since)?,
        false => Vec::new(),
    };
    if found.is_empty() {
        bail!(
            "no traffic was recorded in {} since then\n  fix: name files of traffic, or add --since 30d",
            Shown::new(&dir.to_string_lossy())
        );
    }
    Ok(found)
}
