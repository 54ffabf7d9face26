//! `portcullis sandboxes`: what the gateway serves.

use super::asking::{AskArgs, block_on};
use super::table::Table;
use super::words::shown;
use crate::control::wire::SandboxStatus;
use std::fmt::Write;
use std::process::ExitCode;

/// The flags of `sandboxes`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SandboxesArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<SandboxesCommand>,
}

/// The flags of `sandboxes list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The commands of `sandboxes`.
#[derive(Debug, clap::Subcommand)]
enum SandboxesCommand {
    /// List the sandboxes (the default).
    #[command(after_help = "Examples:\n  \
        portcullis sandboxes\n  \
        portcullis sandboxes list -o json | jq -r .name")]
    List(ListArgs),
    /// Show one sandbox.
    #[command(after_help = "Examples:\n  \
        portcullis sandboxes show agent\n  \
        portcullis sandboxes show agent -o yaml")]
    Show(ShowArgs),
}

/// The flags of `sandboxes show`.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The sandbox.
    name: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Lists or shows.
pub(super) fn run(args: SandboxesArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list),
        Some(SandboxesCommand::List(args)) => list(&args),
        Some(SandboxesCommand::Show(args)) => {
            let client = args.ask.client()?;
            let sandbox = block_on(async { Ok(client.sandbox(&args.name).await?) })?;
            args.ask.shape.one(&sandbox, whole)
        }
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let sandboxes = block_on(async {
        Ok(match &args.sandbox {
            Some(name) => vec![client.sandbox(name).await?],
            None => client.sandboxes().await?,
        })
    })?;
    args.ask.shape.all(&sandboxes, table)
}

/// A line each.
pub(super) fn table(sandboxes: &[SandboxStatus]) -> String {
    let mut table = Table::new(&[
        "SANDBOX", "TIER", "MODE", "LISTENS", "CONNS", "PENDING", "HELD", "GRANTS", "PASSED",
        "REFUSED", "FAILED", "POLICY",
    ])
    .keeping(&["SANDBOX", "LISTENS"])
    .sparing(&["CONNS", "GRANTS", "TIER", "HELD", "FAILED", "POLICY"]);
    for sandbox in sandboxes {
        table.row([
            shown(&sandbox.name),
            shown(&sandbox.tier),
            shown(&sandbox.mode),
            shown(&sandbox.listeners.join(" ")),
            sandbox.connections.to_string(),
            sandbox.pending.to_string(),
            sandbox.held.to_string(),
            sandbox.grants.to_string(),
            sandbox.requests.passed.to_string(),
            sandbox.requests.refused.to_string(),
            sandbox.requests.failed.to_string(),
            policy(sandbox),
        ]);
    }
    table.text()
}

/// The digest, and what is not as the files say.
fn policy(sandbox: &SandboxStatus) -> String {
    let digest = sandbox.policy.strip_prefix("sha256:").unwrap_or(&sandbox.policy);
    let mut text = shown(digest.get(..8).unwrap_or(digest));
    if let Some(version) = sandbox.pinned {
        text.push_str(&format!(" pinned to {version}"));
    }
    if sandbox.runtime > 0 {
        text.push_str(&format!(" +{} runtime", sandbox.runtime));
    }
    if sandbox.rejected.is_some() {
        text.push_str(" (newest rejected)");
    }
    text
}

fn whole(sandbox: &SandboxStatus) -> String {
    let mut out = format!("{}\n", shown(&sandbox.name));
    let presets: Vec<String> = sandbox.presets.iter().map(|preset| shown(preset)).collect();
    let requests = sandbox.requests;
    let facts = [
        ("listens", shown(&sandbox.listeners.join(", "))),
        ("tier", shown(&sandbox.tier)),
        ("presets", if presets.is_empty() { "none".to_owned() } else { presets.join(", ") }),
        ("mode", shown(&sandbox.mode)),
        ("open", format!("{} connections", sandbox.connections)),
        ("queue", format!("{} pending, {} held", sandbox.pending, sandbox.held)),
        ("dropped", format!("{} questions, because the queue was full", sandbox.dropped)),
        ("grants", sandbox.grants.to_string()),
        (
            "requests",
            format!(
                "{} passed, {} refused, {} failed",
                requests.passed, requests.refused, requests.failed
            ),
        ),
        ("policy", policy(sandbox)),
    ];
    for (name, what) in facts {
        writeln!(out, "  {name:8} {what}").expect("a String takes every text");
    }
    if let Some(why) = &sandbox.rejected {
        writeln!(out, "  rejected {}", shown(why)).expect("a String takes every text");
    }
    out
}
