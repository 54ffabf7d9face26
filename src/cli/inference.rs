//! `portcullis inference`: the routes behind `inference.local`, what to set in a client, what
//! works, and what it has cost.

use super::FINDING;
use super::asking::{AskArgs, block_on, one_sandbox};
use super::table::Table;
use super::words::{maybe, plural, shown, told};
use crate::control::wire::{Inference, InferenceRoute, Probe, SetInference};
use std::process::ExitCode;
use std::time::Duration;

/// How long tries may take in all.
const TRIES: Duration = Duration::from_secs(600);

/// The flags of `inference`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct InferenceArgs {
    #[command(flatten)]
    show: WhoseArgs,
    #[command(subcommand)]
    command: Option<InferenceCommand>,
}

/// The commands of `inference`.
#[derive(Debug, clap::Subcommand)]
enum InferenceCommand {
    /// Show the routes and what to set in the client (the default).
    #[command(after_help = "Examples:\n  \
        portcullis inference\n  \
        portcullis inference show -s agent -o json")]
    Show(WhoseArgs),
    /// Put another provider or other routes behind inference.local, once they have been tried.
    #[command(after_help = "Examples:\n  \
        portcullis inference set anthropic/claude-opus-5\n  \
        portcullis inference set main -s agent\n  \
        portcullis inference set vllm --endpoint http://127.0.0.1:8000/v1 --no-verify\n  \
        portcullis inference set --config-routes")]
    Set(SetArgs),
    /// Try every route with real requests: a chat, a stream, a call of a tool.
    #[command(after_help = "Examples:\n  \
        portcullis inference probe\n  \
        portcullis inference probe -s agent -o json")]
    Probe(WhoseArgs),
    /// What each model has cost since the gateway started.
    #[command(after_help = "Examples:\n  \
        portcullis inference usage -s agent")]
    Usage(WhoseArgs),
}

/// Whose routes.
#[derive(Debug, clap::Args)]
struct WhoseArgs {
    /// The sandbox [default: the only one].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `inference set`.
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Routes of the config by their name, or a provider and a model to pin.
    #[arg(value_name = "ROUTES|PROVIDER[/MODEL]", required_unless_present = "config_routes")]
    to: Option<String>,
    /// Go back to what the config says.
    #[arg(long, conflicts_with = "to", env = "PORTCULLIS_CONFIG_ROUTES")]
    config_routes: bool,
    /// Where the provider is, if not at its usual endpoint.
    #[arg(long, value_name = "URL", env = "PORTCULLIS_ENDPOINT")]
    endpoint: Option<String>,
    /// The gateway's credential that pays.
    #[arg(long, value_name = "NAME", env = "PORTCULLIS_CREDENTIAL")]
    credential: Option<String>,
    /// Put it in force without having tried it.
    #[arg(long, env = "PORTCULLIS_NO_VERIFY")]
    no_verify: bool,
    #[command(flatten)]
    whose: WhoseArgs,
}

/// Shows, sets, tries, counts.
pub(super) fn run(args: InferenceArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => show(&args.show, routes),
        Some(InferenceCommand::Show(args)) => show(&args, routes),
        Some(InferenceCommand::Usage(args)) => show(&args, usage),
        Some(InferenceCommand::Set(args)) => set(args),
        Some(InferenceCommand::Probe(args)) => probe(&args),
    }
}

fn show(args: &WhoseArgs, text: fn(&Inference) -> String) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let inference = block_on(async {
        let sandbox = one_sandbox(&client, args.sandbox.as_deref()).await?;
        Ok(client.inference(&sandbox).await?)
    })?;
    args.ask.shape.one(&inference, text)
}

fn set(args: SetArgs) -> anyhow::Result<ExitCode> {
    let whose = args.whose;
    let client = whose.ask.client()?.answer_within(TRIES);
    let inference = block_on(async {
        let sandbox = one_sandbox(&client, whose.sandbox.as_deref()).await?;
        let Some(to) = args.to else { return Ok(client.unset_inference(&sandbox).await?) };
        let set = SetInference {
            to,
            endpoint: args.endpoint,
            credential: args.credential,
            unverified: args.no_verify,
        };
        Ok(client.set_inference(&sandbox, &set).await?)
    })?;
    whose.ask.shape.one(&inference, routes)
}

fn probe(args: &WhoseArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?.answer_within(TRIES);
    let probed = block_on(async {
        let sandbox = one_sandbox(&client, args.sandbox.as_deref()).await?;
        Ok(client.probe(&sandbox).await?)
    })?;
    args.ask.shape.all(&probed, tried)?;
    let works = probed.iter().all(|probe| probe.works);
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(FINDING) })
}

fn routes(inference: &Inference) -> String {
    let sandbox = shown(&inference.sandbox);
    if inference.routes.is_empty() {
        return format!(
            "{sandbox} has no model route: portcullis inference set PROVIDER -s {sandbox}\n"
        );
    }
    let name = maybe(inference.name.as_deref());
    let mut out = format!("{sandbox}: {name} ({})\n\n", shown(&inference.source));
    let mut table =
        Table::new(&["ROUTE", "TAKES", "PROVIDER", "ENDPOINT", "MODELS", "PAID BY", "FALLBACK"])
            .keeping(&["ROUTE", "ENDPOINT"])
            .sparing(&["FALLBACK"]);
    for route in &inference.routes {
        table.row([
            shown(&route.name),
            route.matches.as_deref().map_or_else(|| "the rest".to_owned(), shown),
            shown(&route.provider),
            shown(&route.endpoint),
            listed(&route.models, "any"),
            maybe(route.credential.as_deref()),
            listed(&route.fallback, "-"),
        ]);
    }
    out += &table.text();
    for (alias, model) in &inference.aliases {
        out += &format!("\nalias {} is {}", shown(alias), shown(model));
    }
    out += "\nin the client, with any key:\n";
    let mut settings: Vec<&String> = Vec::new();
    for setting in inference.routes.iter().flat_map(|route: &InferenceRoute| &route.settings) {
        if !settings.contains(&setting) {
            settings.push(setting);
            out += &format!("  export {}\n", shown(setting));
        }
    }
    out
}

fn listed(all: &[String], none: &str) -> String {
    if all.is_empty() { none.to_owned() } else { shown(&all.join(", ")) }
}

fn usage(inference: &Inference) -> String {
    let mut out = format!("{} tokens today", inference.spent_today);
    if let Some(limit) = inference.tokens_per_day {
        out += &format!(" of {limit}");
    }
    out.push('\n');
    for route in inference.routes.iter().filter(|route| route.errors > 0) {
        out += &errors(route);
    }
    if inference.usage.is_empty() {
        return out;
    }
    let mut table = Table::new(&[
        "ROUTE",
        "MODEL",
        "CALLS",
        "FAILED",
        "INPUT",
        "OUTPUT",
        "ESTIMATED",
        "FIRST TOKEN",
        "TOKENS/S",
    ])
    .keeping(&["MODEL"])
    .sparing(&["TOKENS/S", "ESTIMATED"]);
    for each in &inference.usage {
        let number = |n: Option<f64>, unit: &str| {
            n.map_or_else(|| "-".to_owned(), |n| format!("{n:.0}{unit}"))
        };
        table.row([
            shown(&each.route),
            shown(&each.model),
            each.requests.to_string(),
            each.failed.to_string(),
            each.input.to_string(),
            each.output.to_string(),
            each.estimated.to_string(),
            number(each.first_token, " ms"),
            number(each.tokens_per_second, ""),
        ]);
    }
    out + "\n" + &table.text()
}

fn errors(route: &InferenceRoute) -> String {
    let mut out = format!("{}: {}", shown(&route.name), plural(route.errors, "error"));
    if let Some(last) = &route.last_error {
        out += &format!(", the last at {}: {}", shown(&last.at), told(&last.text));
    }
    out + "\n"
}

fn tried(probed: &[Probe]) -> String {
    let mut table = Table::new(&["ROUTE", "MODEL", "CHECK", "WORKS", "FIRST BYTE", "WHY NOT"])
        .keeping(&["WORKS", "WHY NOT"])
        .sparing(&["FIRST BYTE"]);
    for probe in probed {
        table.row([
            shown(&probe.route),
            maybe(probe.model.as_deref()),
            shown(&probe.check),
            if probe.works { "yes" } else { "no" }.to_owned(),
            probe.first.map_or_else(|| "-".to_owned(), |first| format!("{first:.0} ms")),
            maybe(probe.detail.as_deref()),
        ]);
    }
    table.text()
}
