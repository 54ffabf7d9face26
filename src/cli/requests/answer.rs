//! `requests approve` and `requests deny`: what an answer covers is shown before it is given.

use super::whole;
use crate::addr::Shown;
use crate::cli::asking::{AskArgs, block_on};
use crate::cli::words::{plural, shown, told, word};
use crate::cli::{FINDING, yaml};
use crate::config::Span;
use crate::control::client::Client;
use crate::control::wire::{Body, Breadth, Decided, Decision, Request, Scope, Verdict};
use anyhow::{Context, bail};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

/// The flags of an answer.
#[derive(Debug, clap::Args)]
pub(super) struct AnswerArgs {
    /// The entry: r41.
    request: String,
    /// How long it holds: once, for the session, or always (written to the operator's own file).
    #[arg(long, value_name = "SCOPE", env = "PORTCULLIS_SCOPE", default_value = "session")]
    scope: ScopeArg,
    /// For this long alone, with --scope session: 15m.
    #[arg(long = "for", value_name = "TIME", env = "PORTCULLIS_FOR")]
    lasts: Option<String>,
    /// How much it covers: exactly what was shown, the path pattern, or the whole host
    /// [default: exact].
    #[arg(long, value_name = "BREADTH", env = "PORTCULLIS_BREADTH")]
    breadth: Option<BreadthArg>,
    /// With --breadth path: this pattern instead of the proposed one.
    #[arg(long, value_name = "GLOB", env = "PORTCULLIS_PATH")]
    path: Option<String>,
    /// With --breadth path: these methods instead of the entry's own; may be repeated.
    #[arg(
        long = "method",
        value_name = "METHOD",
        env = "PORTCULLIS_METHOD",
        value_delimiter = ','
    )]
    methods: Vec<String>,
    /// For any process, not just the one that asked.
    #[arg(long, env = "PORTCULLIS_ANY_PROCESS")]
    any_process: bool,
    /// Why. Of a denial, the agent reads it.
    #[arg(long, value_name = "TEXT", env = "PORTCULLIS_REASON")]
    reason: Option<String>,
    /// The digest of what was seen (`requests show -o json`); an entry that has changed is refused.
    #[arg(long, value_name = "DIGEST", env = "PORTCULLIS_DIGEST", conflicts_with = "yes")]
    digest: Option<String>,
    /// Answer without asking, whatever the entry is now.
    #[arg(long, short, env = "PORTCULLIS_YES")]
    yes: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ScopeArg {
    Once,
    Session,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BreadthArg {
    Exact,
    Path,
    Host,
}

/// Answers.
pub(super) fn run(args: &AnswerArgs, verdict: Verdict) -> anyhow::Result<ExitCode> {
    let decision = decision(args, verdict)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if args.digest.is_none() && !args.yes && !terminal {
        let (number, verb) = (shown(&args.request), word(verdict));
        bail!(
            "`requests {verb}` asks before it answers, and there is no terminal to ask on\n  fix: \
             add --digest D (from `portcullis requests show {number} -o json`), or --yes"
        );
    }
    let client = args.ask.client()?;
    block_on(async {
        let Some(decision) = consented(args, &client, decision).await? else {
            return Ok(ExitCode::from(FINDING));
        };
        let decided = client.decide(&args.request, &decision).await?;
        args.ask.shape.one(&decided, |decided| done(&args.request, decided))
    })
}

fn decision(args: &AnswerArgs, verdict: Verdict) -> anyhow::Result<Decision> {
    let pattern = args.path.is_some() || !args.methods.is_empty();
    let breadth = match args.breadth {
        Some(BreadthArg::Path) => Breadth::Path,
        None if pattern => Breadth::Path,
        Some(BreadthArg::Exact | BreadthArg::Host) if pattern => {
            bail!("--path and --method go with --breadth path\n  fix: leave --breadth out")
        }
        Some(BreadthArg::Exact) | None => Breadth::Exact,
        Some(BreadthArg::Host) => Breadth::Host,
    };
    let scope = match args.scope {
        ScopeArg::Once => Scope::Once,
        ScopeArg::Session => Scope::Session,
        ScopeArg::Always => Scope::Always,
    };
    let wider =
        pattern || args.any_process || !matches!(args.breadth, None | Some(BreadthArg::Exact));
    if scope == Scope::Once && wider {
        bail!(
            "--scope once is for one request as it was shown\n  fix: leave --breadth, --path, --method and \
             --any-process out, or --scope once"
        );
    }
    if let Some(lasts) = &args.lasts {
        lasts.parse::<Span>().with_context(|| format!("--for {}", Shown::new(lasts)))?;
        if scope != Scope::Session {
            bail!("--for goes with --scope session\n  fix: leave --scope out, or --for");
        }
    }
    Ok(Decision {
        decision: verdict,
        scope,
        breadth,
        path: args.path.clone(),
        methods: (!args.methods.is_empty()).then(|| args.methods.clone()),
        any_process: args.any_process,
        lasts: args.lasts.clone(),
        reason: args.reason.clone(),
        digest: args.digest.clone().unwrap_or_default(),
        via: Some("cli".to_owned()),
    })
}

/// The decision with the digest of what was shown; `None` where the answer was no.
async fn consented(
    args: &AnswerArgs,
    client: &Client,
    decision: Decision,
) -> anyhow::Result<Option<Decision>> {
    if args.digest.is_some() {
        return Ok(Some(decision));
    }
    let request = client.request(&args.request).await?;
    let decision = Decision { digest: request.digest.clone(), ..decision };
    let agreed = args.yes || asked(&request, &decision)?;
    Ok(agreed.then_some(decision))
}

/// Shows the entry and what the answer covers, and asks. Anything but yes is no.
fn asked(request: &Request, decision: &Decision) -> anyhow::Result<bool> {
    let covers = yaml::document(&covers(request, decision))?;
    let rule = rule(request, decision);
    let mut err = std::io::stderr().lock();
    write!(err, "{}\n{covers}{rule}\n{}? [y/N] ", whole(request), word(decision.decision))?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// The rule that an approval for good would write, where it is known.
fn rule(request: &Request, decision: &Decision) -> String {
    let writes = (decision.decision, decision.scope, decision.breadth)
        == (Verdict::Approve, Scope::Always, Breadth::Exact);
    let lines = request.proposal.yaml.lines().filter(|_| writes);
    let lines: String = lines.map(|line| format!("  {}\n", told(line))).collect();
    if lines.is_empty() { lines } else { format!("it writes:\n{lines}") }
}

/// What the answer would cover, as it is shown.
fn covers(request: &Request, decision: &Decision) -> serde_json::Value {
    let entry = request.method.clone().into_iter().collect::<Vec<_>>();
    let proposal = &request.proposal;
    let body = |body: &Body| match body.longer {
        true => "any that begins like the one above",
        false => "the one above",
    };
    let what = match decision.breadth {
        Breadth::Exact if decision.scope == Scope::Always => json!({
            "methods": entry,
            "path": request.path,
            "query": "see the rule",
            "body": "any",
        }),
        Breadth::Exact => json!({
            "methods": entry,
            "path": request.path,
            "query": request.query,
            "body": request.body.as_ref().map(body),
        }),
        Breadth::Path => json!({
            "methods": decision.methods.as_ref().unwrap_or(&proposal.methods),
            "path": decision.path.as_ref().or(proposal.path.as_ref()),
            "query": "any",
            "body": "any",
            "also": format!("{} other pending", proposal.also),
        }),
        Breadth::Host => json!({
            "methods": ["*"],
            "path": "/**",
            "also": format!("{} other pending", proposal.also_host),
        }),
    };
    let lasts = match decision.scope {
        Scope::Once => "one request",
        Scope::Session => decision.lasts.as_deref().unwrap_or("the session"),
        Scope::Always => "always",
    };
    let binary = request.client.as_ref().filter(|_| !decision.any_process);
    json!({ word(decision.decision): {
        "sandbox": request.sandbox,
        "host": format!("{}:{}", request.host, request.port),
        "what": what,
        "process": binary.map_or("any", |client| client.binary.as_str()),
        "lasts": lasts,
    }})
}

fn done(number: &str, decided: &Decided) -> String {
    let mut out = match decided.decision {
        Verdict::Approve => format!("{} is approved", shown(number)),
        Verdict::Deny => format!("{} is denied", shown(number)),
    };
    match decided.scope {
        Scope::Once => out.push_str(" once"),
        Scope::Session => out.push_str(" for the session"),
        Scope::Always => out.push_str(" for good"),
    }
    if let Some(file) = &decided.file {
        out.push_str(&format!(", in {}", shown(file)));
    }
    if let Some(grant) = &decided.grant {
        let grant = shown(grant);
        out.push_str(&format!(" ({grant}; `portcullis grants revoke {grant}` takes it back)"));
    }
    if decided.released > 0 {
        let held = plural(decided.released, "held request");
        out.push_str(&match decided.decision {
            Verdict::Approve => format!("; it lets {held} go on"),
            Verdict::Deny => format!("; it refuses {held}"),
        });
    }
    out.push('\n');
    out
}

impl AnswerArgs {
    #[cfg(test)]
    fn parsed(args: &[&str]) -> anyhow::Result<Decision> {
        use clap::Parser;
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            args: AnswerArgs,
        }
        decision(&Only::try_parse_from(args)?.args, Verdict::Approve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let parsed = |args: &[&str]| AnswerArgs::parsed(&[&["approve", "r1"], args].concat());
        assert_eq!(parsed(&[]).unwrap().breadth, Breadth::Exact);
        assert_eq!(parsed(&["--path", "/a/*"]).unwrap().breadth, Breadth::Path);
        assert_eq!(parsed(&["--method", "GET"]).unwrap().methods.unwrap(), ["GET"]);
        assert!(parsed(&["--path", "/a/*", "--breadth", "host"]).is_err());
        assert!(parsed(&["--for", "15m", "--scope", "once"]).is_err());
        assert!(parsed(&["--for", "soon"]).is_err());
        assert!(parsed(&["--yes", "--digest", "d"]).is_err());
        assert_eq!(parsed(&["--for", "15m"]).unwrap().lasts.as_deref(), Some("15m"));
    }
}
