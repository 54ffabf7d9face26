//! `portcullis policy show|apply|history|rollback|unpin`: the policy of the running gateway.

use super::asking::{AskArgs, block_on, one_sandbox};
use super::settings::{ConfigArgs, SocketArgs};
use super::shape::ShapeArgs;
use super::status::changed_text;
use super::table::Table;
use super::words::{distance, maybe, shown};
use super::yaml;
use crate::addr::Shown;
use crate::config::readable;
use crate::control::client::ClientError;
use crate::control::wire::{Apply, EffectivePolicy, PolicyVersion};
use crate::policy::{Document, Layer};
use anyhow::{Context, anyhow, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How long a policy file may be: what the gateway takes, less what JSON adds.
const LONGEST: u64 = 512 << 10;

/// The commands of `policy` that ask the running gateway.
#[derive(Debug, clap::Subcommand)]
pub(super) enum LiveCommand {
    /// Show the policy in force, each entry with its source.
    #[command(after_help = "Examples:\n  \
        portcullis policy show\n  \
        portcullis policy show -s agent\n  \
        portcullis policy show -s agent -o json | jq -r '.entries[].source'")]
    Show(WhichArgs),
    /// Put a policy file in force beside the others, until it is taken away.
    #[command(after_help = "Examples:\n  \
        portcullis policy apply -f extra.yaml -s agent\n  \
        portcullis policy apply -f - < extra.yaml\n  \
        portcullis policy apply -f /dev/null              takes it away\n\n\
        It replaces what was applied before, survives restarts, and stands in `policy show` as `runtime`.")]
    Apply(ApplyArgs),
    /// List the versions that were in force.
    #[command(after_help = "Examples:\n  \
        portcullis policy history\n  \
        portcullis policy history -s agent -o json")]
    History(WhichArgs),
    /// Go back to a version and stay there: changed files are checked, and not applied.
    #[command(after_help = "Examples:\n  \
        portcullis policy rollback 12 -s agent\n  \
        portcullis policy unpin -s agent                  follows the files again")]
    Rollback(RollbackArgs),
    /// Follow the files again after a rollback.
    #[command(after_help = "Examples:\n  \
        portcullis policy unpin -s agent")]
    Unpin(WhichArgs),
}

/// Which sandbox.
#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    /// The sandbox [default: all for what reads, the only one for what changes].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `policy apply`.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// The policy file; `-` for stdin.
    #[arg(short, long, value_name = "FILE", env = "PORTCULLIS_FILE")]
    file: PathBuf,
    #[command(flatten)]
    which: WhichArgs,
}

/// The flags of `policy rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The version, from `policy history`.
    version: u64,
    #[command(flatten)]
    which: WhichArgs,
}

/// Asks the gateway.
pub(super) fn run(command: &LiveCommand) -> anyhow::Result<ExitCode> {
    match command {
        LiveCommand::Show(args) => show(args),
        LiveCommand::Apply(args) => apply(args),
        LiveCommand::History(args) => {
            let client = args.ask.client()?;
            let sandbox = args.sandbox.as_deref();
            let versions = block_on(async { Ok(client.history(sandbox).await?) })?;
            args.ask.shape.all(&versions, history)
        }
        LiveCommand::Rollback(args) => {
            let (client, which) = (args.which.ask.client()?, &args.which);
            let changed = block_on(async {
                let sandbox = one_sandbox(&client, which.sandbox.as_deref()).await?;
                Ok(client.rollback(&sandbox, args.version).await?)
            })?;
            which.ask.shape.one(&changed, changed_text)
        }
        LiveCommand::Unpin(args) => {
            let client = args.ask.client()?;
            let changed = block_on(async {
                let sandbox = one_sandbox(&client, args.sandbox.as_deref()).await?;
                Ok(client.unpin(&sandbox).await?)
            })?;
            args.ask.shape.one(&changed, changed_text)
        }
    }
}

fn show(args: &WhichArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let policies = block_on(async {
        let names = match &args.sandbox {
            Some(name) => vec![name.clone()],
            None => client.sandboxes().await?.into_iter().map(|sandbox| sandbox.name).collect(),
        };
        let mut policies = Vec::new();
        for name in names {
            policies.push(client.policy(&name).await?);
        }
        Ok(policies)
    })?;
    args.ask.shape.all(&policies, |policies| policies.iter().map(effective).collect())
}

/// A policy file's text, with a comment where each entry comes from.
fn effective(policy: &EffectivePolicy) -> String {
    let (name, digest) = (shown(&policy.sandbox), shown(&policy.policy));
    let mut out = format!("# {name}: version {}, {digest}\n", policy.version);
    if let Some(version) = policy.pinned {
        writeln!(
            out,
            "# pinned to {version} by a rollback: `policy unpin` follows the files again"
        )
        .expect("a String takes every text");
    }
    out.push_str("version: 1\nnetwork_policies:");
    if policy.entries.is_empty() {
        out.push_str(" {}");
    }
    out.push('\n');
    for entry in &policy.entries {
        let name = yaml::word(&entry.name);
        writeln!(out, "  # {}\n  {name}:", shown(&entry.source))
            .expect("a String takes every text");
        for line in entry.yaml.lines() {
            writeln!(out, "    {}", shown_line(line)).expect("a String takes every text");
        }
    }
    out
}

/// A line of YAML as it is, unless a terminal would not show it as it is.
fn shown_line(line: &str) -> String {
    let printable = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable { line.to_owned() } else { shown(line) }
}

fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let (policy, file) = text(&args.file)?;
    let client = args.which.ask.client()?;
    let changed = block_on(async {
        let sandbox = one_sandbox(&client, args.which.sandbox.as_deref()).await?;
        Ok(client.apply(&sandbox, &Apply { policy, file: Some(file) }).await?)
    })?;
    args.which.ask.shape.one(&changed, changed_text)
}

fn text(file: &Path) -> anyhow::Result<(String, String)> {
    let (name, text) = read(file)?;
    if text.len() as u64 > LONGEST {
        bail!(
            "{}: the file is longer than {} KiB\n  fix: name it in the config's `policy`, where it may be",
            Shown::new(&name),
            LONGEST >> 10
        );
    }
    Ok((text, name))
}

/// Name and text of a policy file, or of stdin for `-`.
pub(super) fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let stdin = file == Path::new("-");
    let name = if stdin { "(stdin)".to_owned() } else { file.to_string_lossy().into_owned() };
    let text = match stdin {
        true => std::io::read_to_string(std::io::stdin().lock()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|why| {
        let fix = readable(&why, "name a policy file that is there, or - for stdin");
        anyhow!("{}: {why}\n  fix: {fix}", Shown::new(&name))
    })?;
    Ok((name, text))
}

fn history(versions: &[PolicyVersion]) -> String {
    let mut table = Table::new(&["VERSION", "SANDBOX", "AGE", "WHY", "BY", "POLICY", "FROM"])
        .keeping(&["WHY"])
        .sparing(&["POLICY", "BY"]);
    for version in versions {
        let current = if version.current { "*" } else { "" };
        let digest = version.policy.strip_prefix("sha256:").unwrap_or(&version.policy);
        table.row([
            format!("{}{current}", version.version),
            shown(&version.sandbox),
            distance(&version.at),
            shown(&version.why),
            maybe(version.by.as_deref()),
            shown(digest.get(..8).unwrap_or(digest)),
            shown(&version.sources.join(", ")),
        ]);
    }
    table.text()
}

/// The policy that the running gateway has in force; `None` where no gateway runs.
pub(super) fn in_force(
    sandbox: Option<&str>,
    config: &ConfigArgs,
    socket: &SocketArgs,
) -> anyhow::Result<Option<InForce>> {
    let client = super::asking::client(config, socket)?;
    let asked = block_on(async {
        let sandbox = one_sandbox(&client, sandbox).await?;
        Ok(client.policy(&sandbox).await?)
    });
    let policy = match asked {
        Ok(policy) => policy,
        // Who names the socket means that gateway.
        Err(error) if socket.socket.is_none() && is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let name = format!(
        "version {} of {}, in force (grants aside)",
        policy.version,
        shown(&policy.sandbox)
    );
    Ok(Some(InForce { layers: layers(&policy)?, name }))
}

/// What the running gateway judges by.
pub(super) struct InForce {
    /// In order.
    pub(super) layers: Vec<Layer>,
    /// `version 3 of agent, in force (grants aside)`.
    pub(super) name: String,
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<ClientError>(), Some(ClientError::NoGateway { .. }))
}

/// The entries as layers again. They have no lines: nobody wrote them as they are here.
fn layers(policy: &EffectivePolicy) -> anyhow::Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    for entry in &policy.entries {
        let mut text = format!("version: 1\nnetwork_policies:\n  {}:\n", yaml::word(&entry.name));
        for line in entry.yaml.lines() {
            writeln!(text, "    {line}").expect("a String takes every text");
        }
        let mut document = Document::parse(&text, &entry.source)
            .context("the gateway is of another version: its policy can't be read here")?;
        for entry in document.network_policies.values_mut() {
            entry.value.endpoints.iter_mut().for_each(|endpoint| endpoint.line = 0);
        }
        let same = |layer: &&mut Layer| {
            (&*layer.source, layer.deny_only) == (entry.source.as_str(), entry.deny_only)
                && !layer.document.network_policies.contains_key(&entry.name)
        };
        match layers.last_mut().filter(same) {
            Some(layer) => layer.document.network_policies.extend(document.network_policies),
            None => layers.push(Layer {
                document,
                source: entry.source.as_str().into(),
                deny_only: entry.deny_only,
            }),
        }
    }
    Ok(layers)
}

/// `policy explain r41`: what the running gateway knows of the entry.
pub(super) fn explain(
    number: &str,
    config: &ConfigArgs,
    socket: &SocketArgs,
    shape: ShapeArgs,
) -> anyhow::Result<ExitCode> {
    let client = super::asking::client(config, socket)?;
    let request = block_on(async { Ok(client.request(number).await?) })?;
    shape.one(&request, super::requests::whole)
}
