//! `portcullis requests`: the queue for scripts and for a shell.

mod answer;
mod argv;
mod show;
mod watch;

pub(super) use show::whole;

use super::asking::{AskArgs, block_on};
use super::table::Table;
use super::words::{asks, distance, process, shown, word};
use crate::control::wire::{Filter, Request, State, Verdict};
use std::process::ExitCode;

/// The flags of `requests`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RequestsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<RequestsCommand>,
}

/// The commands of `requests`.
#[derive(Debug, clap::Subcommand)]
enum RequestsCommand {
    /// List what waits for an answer (the default).
    #[command(after_help = "Examples:\n  \
        portcullis requests\n  \
        portcullis requests list --state denied -s agent\n  \
        portcullis requests list -o json | jq -r '.request + \" \" + .host'")]
    List(ListArgs),
    /// Show everything that is known of an entry.
    #[command(after_help = "Examples:\n  \
        portcullis requests show r41\n  \
        portcullis requests show r41 -o json | jq -r .digest")]
    Show(ShowArgs),
    /// Let it through.
    #[command(after_help = "Examples:\n  \
        portcullis requests approve r41                             shows it and asks\n  \
        portcullis requests approve r41 --for 15m --yes\n  \
        portcullis requests approve r41 --breadth path --scope always\n  \
        portcullis requests approve r41 --path '/repos/*/*' --method GET --method HEAD\n  \
        portcullis requests approve r41 --digest \"$(portcullis requests show r41 -o json | jq -r .digest)\"")]
    Approve(answer::AnswerArgs),
    /// Refuse it. The agent reads the reason.
    #[command(after_help = "Examples:\n  \
        portcullis requests deny r41 --reason 'use the mirror at mirror.corp' --yes\n  \
        portcullis requests deny r41 --scope session --breadth host     stops the asking\n  \
        portcullis requests deny r41 --scope always --yes")]
    Deny(answer::AnswerArgs),
    /// Take an answer back: its grant is revoked, its rule leaves the file, and the entry waits again.
    #[command(after_help = "Examples:\n  \
        portcullis requests list --state all\n  \
        portcullis requests undo r41")]
    Undo(ShowArgs),
    /// Print each entry as it comes, and run a command on it.
    #[command(after_help = "Examples:\n  \
        portcullis requests watch -o json\n  \
        portcullis requests watch --exec 'notify-send Portcullis'\n  \
        portcullis requests watch --exec ./decide.sh    reads the entry from stdin, answers with\n  \
        \u{20}                                            portcullis requests approve R --digest D\n\n\
        While this runs, requests are held for as long as the sandbox's `timeout` says.")]
    Watch(watch::WatchArgs),
}

/// The flags of `requests list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Entries in this state.
    #[arg(long, value_name = "STATE", env = "PORTCULLIS_STATE", default_value = "pending")]
    state: Which,
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// They wait for an answer.
    Pending,
    /// They were approved.
    Approved,
    /// They were denied.
    Denied,
    /// Nobody answered in time, or the policy did.
    Expired,
    /// All of them.
    All,
}

/// The flags of `requests show`.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The entry: r41.
    request: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks, shows, answers.
pub(super) fn run(args: RequestsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list),
        Some(RequestsCommand::List(args)) => list(&args),
        Some(RequestsCommand::Show(args)) => {
            let client = args.ask.client()?;
            let request = block_on(async { Ok(client.request(&args.request).await?) })?;
            args.ask.shape.one(&request, whole)
        }
        Some(RequestsCommand::Approve(args)) => answer::run(&args, Verdict::Approve),
        Some(RequestsCommand::Deny(args)) => answer::run(&args, Verdict::Deny),
        Some(RequestsCommand::Undo(args)) => {
            let client = args.ask.client()?;
            let request = block_on(async { Ok(client.undo(&args.request, "cli").await?) })?;
            args.ask.shape.one(&request, |request| {
                let (number, state) = (shown(&request.request), word(request.state));
                format!("the answer to {number} is taken back: it is {state}\n")
            })
        }
        Some(RequestsCommand::Watch(args)) => watch::run(&args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let state = match args.state {
        Which::Pending => Some(State::Pending),
        Which::Approved => Some(State::Approved),
        Which::Denied => Some(State::Denied),
        Which::Expired => Some(State::Expired),
        Which::All => None,
    };
    let client = args.ask.client()?;
    let filter = Filter { state, sandbox: args.sandbox.clone() };
    let requests = block_on(async { Ok(client.requests(&filter).await?) })?;
    args.ask.shape.all(&requests, |requests| listed(requests, state))
}

fn listed(requests: &[Request], state: Option<State>) -> String {
    if requests.is_empty() {
        let what = state.map(|state| format!("{} ", word(state))).unwrap_or_default();
        return format!("no {what}requests\n");
    }
    let mut table =
        Table::new(&["REQUEST", "AGE", "STATE", "HELD", "SANDBOX", "PROCESS", "ASKS", "RISK"])
            .keeping(&["ASKS"])
            .naming(&["ASKS"])
            .ending(&["PROCESS"])
            .sparing(&["AGE"]);
    for request in requests {
        let risk: Vec<String> = request.risk.iter().map(|note| shown(&note.code)).collect();
        table.row([
            shown(&request.request),
            distance(&request.first_seen),
            word(request.state),
            request.held.to_string(),
            shown(&request.sandbox),
            process(request.client.as_ref()),
            asks(request),
            risk.join(","),
        ]);
    }
    table.sparing_what_is_same(&["STATE", "SANDBOX"]).text()
}
