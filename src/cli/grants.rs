//! `portcullis grants`: what was granted, granting ahead, and taking back.

use super::asking::{AskArgs, block_on, one_sandbox};
use super::table::Table;
use super::words::{distance, maybe, shown, word};
use crate::addr::Shown;
use crate::catalog::is_shared;
use crate::config::Span;
use crate::control::wire::{Grant, GrantRequest};
use crate::policy::HostPattern;
use anyhow::Context;
use std::process::ExitCode;

/// The flags of `grants`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct GrantsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<GrantsCommand>,
}

/// The commands of `grants`.
#[derive(Debug, clap::Subcommand)]
enum GrantsCommand {
    /// List the grants in force (the default).
    #[command(after_help = "Examples:\n  \
        portcullis grants\n  \
        portcullis grants list -s agent -o json")]
    List(ListArgs),
    /// Grant ahead, before anything asks.
    #[command(after_help = "Examples:\n  \
        portcullis grants add GET 'https://api.github.com/repos/*/*' --for 1h\n  \
        portcullis grants add '*' 'https://build.corp/**' -s ci --reason 'nightly build'\n  \
        portcullis grants add POST https://api.github.com/graphql --binary /usr/bin/gh")]
    Add(AddArgs),
    /// Take a grant back. What it let through and still runs is ended.
    #[command(after_help = "Examples:\n  \
        portcullis grants revoke g7")]
    Revoke(RevokeArgs),
}

/// The flags of `grants list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `grants add`.
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The method, `*` for all.
    method: String,
    /// The URL; host and path may be patterns as in a policy.
    #[arg(value_name = "URL-GLOB")]
    url: String,
    /// How long [default: the sandbox's `session`].
    #[arg(long = "for", value_name = "TIME", env = "PORTCULLIS_FOR")]
    lasts: Option<String>,
    /// For this executable alone [default: any].
    #[arg(long, value_name = "PATH", env = "PORTCULLIS_BINARY")]
    binary: Option<String>,
    /// Why, for whoever reads the list.
    #[arg(long, value_name = "TEXT", env = "PORTCULLIS_REASON")]
    reason: Option<String>,
    /// The sandbox [default: the only one].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `grants revoke`.
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The grant: g7.
    grant: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Lists, grants, revokes.
pub(super) fn run(args: GrantsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list),
        Some(GrantsCommand::List(args)) => list(&args),
        Some(GrantsCommand::Add(args)) => add(args),
        Some(GrantsCommand::Revoke(args)) => {
            let client = args.ask.client()?;
            let grant = block_on(async { Ok(client.revoke(&args.grant).await?) })?;
            let text = |grant: &Grant| {
                format!("{} is revoked: {}\n", shown(&grant.grant), shown(&grant.covers))
            };
            args.ask.shape.one(&grant, text)
        }
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let grants = block_on(async { Ok(client.grants(args.sandbox.as_deref()).await?) })?;
    args.ask.shape.all(&grants, listed)
}

fn listed(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "no grants\n".to_owned();
    }
    let mut table =
        Table::new(&["GRANT", "SANDBOX", "SAYS", "COVERS", "PROCESS", "LEFT", "USED", "BY", "FOR"])
            .keeping(&["GRANT", "COVERS"])
            .naming(&["COVERS"])
            .ending(&["PROCESS"])
            .sparing(&["FOR", "USED", "BY"]);
    for grant in grants {
        let left = grant.expires.as_deref().map_or_else(|| "session".to_owned(), distance);
        table.row([
            shown(&grant.grant),
            shown(&grant.sandbox),
            word(grant.decision),
            shown(&grant.covers),
            grant.binary.as_deref().map_or_else(|| "any".to_owned(), shown),
            left,
            grant.used.to_string(),
            shown(&grant.by),
            maybe(grant.request.as_deref()),
        ]);
    }
    table.sparing_what_is_same(&["SANDBOX"]).text()
}

fn add(args: AddArgs) -> anyhow::Result<ExitCode> {
    if let Some(lasts) = &args.lasts {
        lasts.parse::<Span>().with_context(|| format!("--for {}", Shown::new(lasts)))?;
    }
    let client = args.ask.client()?;
    let shared = shared_domain(&args.url);
    let grant = block_on(async {
        let sandbox = one_sandbox(&client, args.sandbox.as_deref()).await?;
        let ask = GrantRequest {
            sandbox: Some(sandbox),
            method: args.method,
            url: args.url,
            lasts: args.lasts,
            binary: args.binary,
            reason: args.reason,
            via: Some("cli".to_owned()),
        };
        Ok(client.grant(&ask).await?)
    })?;
    if let Some(domain) = shared {
        let number = shown(&grant.grant);
        eprintln!(
            "warning: anyone can have a name under {domain}: this grant spans other people's\n  \
             fix: portcullis grants revoke {number}, and name your own: my-project.{domain}"
        );
    }
    args.ask.shape.one(&grant, |grant| {
        let left = grant.expires.as_deref().map_or_else(
            || "until its session ends".to_owned(),
            |until| format!("for {}", distance(until)),
        );
        format!(
            "{} is granted to {} {left}: {}\n",
            shown(&grant.grant),
            shown(&grant.sandbox),
            shown(&grant.covers)
        )
    })
}

/// The domain that a URL's host is a pattern over, where the names right under it belong to different people.
fn shared_domain(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    match HostPattern::parse(host).ok()? {
        HostPattern::Wild(wild) if is_shared(wild.suffix()) => Some(wild.suffix().to_owned()),
        HostPattern::Wild(_) | HostPattern::Exact(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_over_other_people_s_names_is_one_over_a_public_suffix() {
        for url in ["https://*.co.uk/**", "https://**.github.io:8443"] {
            assert!(shared_domain(url).is_some(), "{url}");
        }
        for url in ["https://*.corp.co.uk/", "https://co.uk/", "https://*.build.corp/**", "co.uk"] {
            assert_eq!(shared_domain(url), None, "{url}");
        }
    }
}
