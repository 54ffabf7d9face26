//! The command line: clap, printing, exit codes.
//!
//! Owns what users type and what they read. Exit status: 0 done, 1 a finding or a refusal, 2 wrong
//! usage or unreadable input, 3 no running gateway. Errors go to stderr and end with the fix.

mod allocator;
mod asking;
mod audit;
mod ca;
mod credentials;
mod dry_run;
mod effective;
mod env;
pub mod gateway;
mod grants;
mod inference;
mod logs;
mod output;
mod policy;
mod policy_diff;
mod policy_live;
mod policy_test;
mod preset;
mod requests;
mod sandboxes;
mod schema;
mod settings;
mod shape;
mod status;
mod suggest;
mod table;
mod term;
mod traffic;
mod typed;
mod words;
mod yaml;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

pub use allocator::Allocator;
pub use gateway::GatewayArgs;
pub use settings::ConfigArgs;

/// A finding or a refusal.
const FINDING: u8 = 1;
/// Wrong usage or unreadable input.
const UNREADABLE: u8 = 2;

/// No running gateway.
const NO_GATEWAY: u8 = 3;

/// An egress gateway for AI agent sandboxes: what no rule allows does not leave.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        portcullis gateway --policy policy.yaml      the gateway, in the foreground\n  \
        eval \"$(portcullis env)\"                     point this shell at it\n  \
        portcullis policy check policy.yaml          what a reader of the file would miss\n  \
        portcullis policy explain --preset pypi GET https://pypi.org/simple/six/"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    Gateway(gateway::GatewayArgs),
    /// Watch what sandboxes ask for, and answer: the approval pane.
    Term(term::TermArgs),
    /// Print the variables and mounts that point a program or container at the gateway.
    Env(env::EnvArgs),
    /// What waits for an answer, and answering it.
    Requests(requests::RequestsArgs),
    /// What was granted, granting ahead, and taking back.
    Grants(grants::GrantsArgs),
    /// The model routes behind inference.local, and what to set in the client.
    Inference(inference::InferenceArgs),
    /// The credentials that the gateway holds: sources and bindings, never values.
    Credentials(credentials::CredentialsArgs),
    /// The sandboxes that the gateway serves.
    Sandboxes(sandboxes::SandboxesArgs),
    /// How the gateway does.
    Status(status::StatusArgs),
    /// Traffic, one line each.
    Logs(logs::LogsArgs),
    /// What left, under which rule or whose approval, and who decided what.
    Audit(audit::AuditArgs),
    /// Have the gateway read its files again.
    Reload(status::ReloadArgs),
    /// Check and explain policy files, and change the policy of the running gateway.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Judge recorded traffic under another policy: what would change.
    DryRun(dry_run::DryRunArgs),
    /// Write the narrowest policy that recorded traffic needs.
    Suggest(suggest::SuggestArgs),
    /// Show the built-in presets.
    #[command(subcommand)]
    Preset(preset::PresetCommand),
    /// Show or export the certificate authority that clients must trust.
    Ca(ca::CaArgs),
    /// Print a JSON schema, for editors and checks.
    Schema(schema::SchemaArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  \
        portcullis completions bash > ~/.local/share/bash-completion/completions/portcullis\n  \
        portcullis completions zsh > ~/.zfunc/_portcullis")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, does what it says, and gives the exit status.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches();
    let cli = matches
        .and_then(|matches| Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command())))
        .unwrap_or_else(|error| typed::refuse(&error));
    let done = match cli.command {
        Command::Gateway(args) => gateway::run(args),
        Command::Term(args) => term::run(args),
        Command::Env(args) => env::run(&args),
        Command::Requests(args) => requests::run(args),
        Command::Grants(args) => grants::run(args),
        Command::Inference(args) => inference::run(args),
        Command::Credentials(args) => credentials::run(args),
        Command::Sandboxes(args) => sandboxes::run(args),
        Command::Status(args) => status::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Reload(args) => status::reload(&args),
        Command::Policy(command) => policy::run(&command),
        Command::DryRun(args) => dry_run::run(&args),
        Command::Suggest(args) => suggest::run(&args),
        Command::Preset(command) => preset::run(&command),
        Command::Ca(args) => ca::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions { shell } => completions(shell),
    };
    done.unwrap_or_else(|error| {
        if output::reader_left(&error) {
            return ExitCode::SUCCESS;
        }
        output::error(&error);
        ExitCode::from(asking::exit_status(&error))
    })
}

fn command() -> clap::Command {
    typed::with_variables(Cli::command())
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    // clap_complete panics where its writer fails: it writes to memory, and we to the pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_gateway_has_its_variable() {
        let cli = Cli::command();
        let gateway = cli.find_subcommand("gateway").unwrap();
        for arg in gateway.get_arguments().filter(|arg| arg.get_id() != "help") {
            let name = arg.get_long().unwrap().to_uppercase().replace('-', "_");
            let env = arg.get_env().unwrap_or_else(|| panic!("--{name} has no variable"));
            assert_eq!(env.to_str().unwrap(), format!("PORTCULLIS_{name}"));
        }
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command) {
            let inner: Vec<_> = command.get_subcommands().collect();
            if inner.is_empty() || command.get_name() == "portcullis" {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "{}", command.get_name());
            }
            inner.into_iter().for_each(check);
        }
        check(&Cli::command());
    }
}
