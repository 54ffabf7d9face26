//! `portcullis suggest`: the narrowest policy that recorded traffic needs.

use super::policy_diff::side;
use super::settings::ConfigArgs;
use super::{FINDING, UNREADABLE, output};
use crate::addr::Shown;
use crate::config::{Flags, Span};
use crate::policy::pattern::HostPattern;
use crate::replay::Judge;
use crate::replay::suggest::{Gathered, Options, Suggestion, suggest};
use crate::traffic::read::{Item, Progress, Recorded, Source, Stamp, read, sources};
use anyhow::{Context, anyhow, bail};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// Lines about single requests or patterns that are shown.
const MOST_SHOWN: usize = 20;
/// How many names of sandboxes are kept to be shown.
const NAMES: usize = 64;

/// The arguments of `suggest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis suggest                                   from the last 7 days of this gateway\n  \
    portcullis suggest traffic/ page.har > policy.yaml   from directories, files, HARs\n  \
    portcullis suggest --base policy.yaml,preset:pypi traffic/ > missing.yaml\n  \
    portcullis suggest --strict --include-denied -s agent traffic/\n\n\
    The policy goes to stdout; what there is to say of it, to stderr.\n\
    Exit status: 0 done, 1 some traffic is not covered, 2 a file or a record can't be read.")]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub(super) struct SuggestArgs {
    /// Recorded traffic: files, directories, or - for stdin [default: the state directory's].
    #[arg(value_name = "TRAFFIC")]
    traffic: Vec<PathBuf>,
    /// Only what is missing from this policy: a FILE, preset:NAME or tier:NAME, joined by commas.
    #[arg(long, value_name = "POLICY", env = "PORTCULLIS_BASE")]
    base: Option<String>,
    /// So many different values of a path segment make a `*`.
    #[arg(long, value_name = "N", env = "PORTCULLIS_MERGE", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..))]
    merge: u16,
    /// Every path as it was seen, no `*`.
    #[arg(long, conflicts_with = "merge", env = "PORTCULLIS_STRICT")]
    strict: bool,
    /// Also what was denied or left unanswered.
    #[arg(long, env = "PORTCULLIS_INCLUDE_DENIED")]
    include_denied: bool,
    /// Write out what a preset would cover.
    #[arg(long, env = "PORTCULLIS_NO_PRESETS")]
    no_presets: bool,
    /// Allow any process what one was seen to do.
    #[arg(long, env = "PORTCULLIS_ANY_PROCESS")]
    any_process: bool,
    /// Only this sandbox's traffic.
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    /// Only records since then: a duration as 90m, 24h or 7d [default: 7d without TRAFFIC].
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_SINCE")]
    since: Option<String>,
    /// Only records to these hosts, as in a policy: api.github.com or "*.github.com".
    #[arg(long, value_name = "GLOB", env = "PORTCULLIS_ONLY_HOST")]
    host: Option<String>,
    /// Lines that can't be read do not make the exit status 2.
    #[arg(long, env = "PORTCULLIS_SKIP_BAD")]
    skip_bad: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Which records are looked at.
struct Wanted<'a> {
    sandbox: Option<&'a str>,
    /// Whose records were seen.
    seen: BTreeSet<String>,
    since: Option<Stamp>,
    host: Option<HostPattern>,
}

/// Suggests.
pub(super) fn run(args: &SuggestArgs) -> anyhow::Result<ExitCode> {
    let base = args.base.as_deref().map(side).transpose()?;
    let layers = base.as_ref().map(|base| base.layers.clone()).unwrap_or_default();
    let judge = match &base {
        Some(base) => Some(Judge::new(base.compile()?, false)),
        None => None,
    };
    let usual = args.traffic.is_empty().then_some("7d");
    let mut wanted = Wanted {
        sandbox: args.sandbox.as_deref(),
        seen: BTreeSet::new(),
        since: args.since.as_deref().or(usual).map(since).transpose()?,
        host: args.host.as_deref().map(host).transpose()?,
    };
    let mut gathered = Gathered::new(Options {
        merge: (!args.strict).then_some(usize::from(args.merge)),
        include_denied: args.include_denied,
        presets: !args.no_presets,
        processes: !args.any_process,
    });
    let sources = recording(args, wanted.since)?;
    let broken = gather(&sources, &mut wanted, judge.as_ref(), &mut gathered)?;
    super::asking::recorded(wanted.sandbox, &wanted.seen)?;
    let suggestion = suggest(&gathered, &layers)?;
    output::print(&suggestion.text)?;
    report(args, &gathered, &suggestion);
    Ok(match (broken > 0 && !args.skip_bad, suggestion.missed.is_empty()) {
        (true, _) => ExitCode::from(UNREADABLE),
        (_, false) => ExitCode::from(FINDING),
        _ => ExitCode::SUCCESS,
    })
}

/// Takes every record that is wanted; how many lines can't be read.
fn gather(
    sources: &[Source],
    wanted: &mut Wanted<'_>,
    base: Option<&Judge>,
    gathered: &mut Gathered,
) -> anyhow::Result<usize> {
    let mut broken = 0;
    read(sources, &Progress::default(), &mut |block| {
        for (number, item) in block.items() {
            match item {
                Item::Record(record) if wanted.wants(&record) => gathered.take(&record, base),
                Item::Record(_) | Item::Other => {}
                Item::Broken(why) => {
                    broken += 1;
                    if broken <= MOST_SHOWN {
                        output::complain(&format!("{}:{number}: {why}", block.source.name()));
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    if broken > MOST_SHOWN {
        output::complain(&format!("{broken} lines can't be read in all"));
    }
    Ok(broken)
}

impl Wanted<'_> {
    fn wants(&mut self, record: &Recorded<'_>) -> bool {
        if let Some(name) = record.sandbox.as_deref()
            && self.seen.len() < NAMES
            && !self.seen.contains(name)
        {
            self.seen.insert(name.to_owned());
        }
        let named = |pattern: &HostPattern| {
            crate::addr::Host::parse(&record.host).is_ok_and(|host| pattern.matches(&host))
        };
        self.sandbox.is_none_or(|name| record.sandbox.as_deref() == Some(name))
            && self.since.is_none_or(|since| record.time.is_none_or(|time| time >= since))
            && self.host.as_ref().is_none_or(named)
    }
}

fn report(args: &SuggestArgs, gathered: &Gathered, suggestion: &Suggestion) {
    let Suggestion { covered, records, missed, wider, presets, .. } = suggestion;
    output::note(&format!(
        "judged against what it was made from: {covered} different requests ({records} records) allowed, {} not",
        missed.len()
    ));
    listed(missed.iter().map(|line| format!("not covered: {line}")));
    if !presets.is_empty() {
        let flags: Vec<String> = presets.iter().map(|name| format!("--preset {name}")).collect();
        output::note(&format!("it stands beside {}", flags.join(" ")));
    }
    listed(wider.iter().map(|w| {
        let (method, target, pattern) = (&w.method, &w.target, Shown::new(&w.pattern));
        format!("wider than what was seen: {method} {target}{pattern} stands for {} paths", w.seen)
    }));
    let skipped = [
        (gathered.known, "allowed by the base already"),
        (gathered.denied, "denied or unanswered, left out: --include-denied takes them"),
        (gathered.impossible, "that no policy can allow (malformed, TRACE, CONNECT)"),
    ];
    for (count, why) in skipped.into_iter().filter(|(count, _)| *count > 0) {
        output::note(&format!("{count} records {why}"));
    }
    if gathered.records == 0 && args.traffic.is_empty() {
        output::note("no traffic is recorded: name files or directories, or run a gateway first");
    }
}

fn listed(lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(MOST_SHOWN);
    lines.take(MOST_SHOWN).for_each(|line| output::note(&line));
    if more > 0 {
        output::note(&format!("and {more} more"));
    }
}

fn recording(args: &SuggestArgs, since: Option<Stamp>) -> anyhow::Result<Vec<Source>> {
    if !args.traffic.is_empty() {
        return Ok(sources(&args.traffic, since)?);
    }
    let config = args.config.load(Flags::default())?.config;
    let dir = super::asking::traffic(&config, args.sandbox.as_deref())?;
    match dir.exists() {
        true => Ok(sources(std::slice::from_ref(&dir), since)?),
        false => Ok(Vec::new()),
    }
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
        bail!("--since: `{}` is no duration\n  fix: write 90m, 24h or 7d", Shown::new(text));
    };
    let span = i64::try_from(span.as_micros()).context("--since: too long")?;
    Ok(Stamp(jiff::Timestamp::now().as_microsecond().saturating_sub(span)))
}
