//! `portcullis status` and `portcullis reload`.

use super::asking::{AskArgs, block_on};
use super::output::{Tone, toned, wrapped};
use super::words::{lasts, maybe, plural, shown};
use super::{FINDING, sandboxes};
use crate::control::wire::{Changed, Status};
use anyhow::bail;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// How long `reload --wait` waits.
const PATIENT: Duration = Duration::from_secs(600);

/// The flags of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis status\n  \
    portcullis status -o json | jq .pending\n\n\
    Exit status: 0 it does its work, 1 records can't be written so that nothing passes, 3 no gateway runs.")]
pub(super) struct StatusArgs {
    /// Of the sandboxes this one alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis reload\n  \
    portcullis reload --wait && curl …\n\n\
    The gateway watches its files by itself; this says what came of them. Exit status: 0 they are in\n\
    force, 1 they were rejected and the last good ones stay.")]
pub(super) struct ReloadArgs {
    /// Wait for as long as it takes, ten minutes at most [default: 30 seconds].
    #[arg(long, env = "PORTCULLIS_WAIT")]
    wait: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Says how the gateway does.
pub(super) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let mut status = block_on(async { Ok(client.status().await?) })?;
    if let Some(name) = &args.sandbox {
        let known = super::asking::names(&status.sandboxes);
        status.sandboxes.retain(|sandbox| sandbox.name == *name);
        status.policy.retain(|sandbox, _| sandbox == name);
        if status.sandboxes.is_empty() {
            bail!("no sandbox is named `{}`\n  fix: use one of: {known}", shown(name));
        }
    }
    let printed = args.ask.shape.one(&status, text)?;
    Ok(if status.recording { printed } else { ExitCode::from(FINDING) })
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let config = status.config.as_deref().map_or_else(|| "none".to_owned(), shown);
    let up = lasts(Duration::from_secs(status.uptime));
    let facts = [
        format!("portcullis {}, pid {}, up {up}", shown(&status.version), status.pid),
        format!("config file {config}, state {}", shown(&status.state_dir)),
        format!(
            "{}, {} held, {} pending, {}",
            plural(status.connections, "connection"),
            status.held,
            status.pending,
            match status.attended {
                0 => "nobody listens for questions".to_owned(),
                1 => "1 listens for questions".to_owned(),
                more => format!("{more} listen for questions"),
            }
        ),
    ];
    for fact in facts {
        writeln!(out, "{fact}").expect("a String takes every text");
    }
    if !status.recording {
        let what = "records can't be written: nothing passes";
        writeln!(out, "{}", toned(what, Tone::Bad)).expect("a String takes every text");
    }
    if status.observe {
        let what = "--observe: unknown requests are let through";
        writeln!(out, "{}", toned(what, Tone::Doubtful)).expect("a String takes every text");
    }
    for warning in &status.warnings {
        let line = format!("{} {}", toned("warning:", Tone::Doubtful), shown(warning));
        writeln!(out, "{}", wrapped(&line)).expect("a String takes every text");
    }
    for note in &status.notes {
        let line = format!("note: {}", shown(note));
        writeln!(out, "{}", wrapped(&line)).expect("a String takes every text");
    }
    out.push_str(&sandboxes::table(&status.sandboxes));
    out
}

/// Has the files read again.
pub(super) fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let client = if args.wait { client.answer_within(PATIENT) } else { client };
    let changed = block_on(async { Ok(client.reload().await?) })?;
    args.ask.shape.one(&changed, changed_text)
}

/// What a change of policy came to.
pub(super) fn changed_text(changed: &Changed) -> String {
    let mut out = String::new();
    for (sandbox, version) in &changed.versions {
        writeln!(out, "{}: policy {version} is in force", shown(sandbox))
            .expect("a String takes every text");
    }
    for note in &changed.notes {
        writeln!(out, "note: {}", maybe(Some(note))).expect("a String takes every text");
    }
    out
}
