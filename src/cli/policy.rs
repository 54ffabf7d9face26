//! `portcullis policy check|explain`: files alone, no running gateway.

use super::FINDING;
use super::effective::EffectiveArgs;
use super::output::{Tone, toned};
use super::settings::SocketArgs;
use super::shape::ShapeArgs;
use crate::addr::{Authority, Path, Port, Shown};
use crate::policy::explain::{Explained, Said, explain};
use crate::policy::lint::{Checked, Finding, FindingCode, Severity, WrittenFor, lint};
use crate::policy::preset::{self, Preset};
use crate::policy::{
    Ask, Body, Client, Document, Intent, Layer, LoadError, LoadOptions, Process, Scheme,
};
use anyhow::{Context, anyhow, bail};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The commands of `policy`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Find what a reader of policy files would miss.
    #[command(after_help = "Examples:\n  \
        portcullis policy check policy.yaml\n  \
        portcullis policy check --from openshell sandbox-policy.yaml\n  \
        portcullis policy check -o json *.yaml | jq -r 'select(.severity == \"error\")'\n\n\
        Exit status: 0 no errors, 1 errors, 2 a file can't be read.")]
    Check(CheckArgs),
    /// Say what would become of a request, and why.
    #[command(after_help = "Examples:\n  \
        portcullis policy explain --policy policy.yaml GET https://api.github.com/repos/a/b\n  \
        portcullis policy explain --preset github=read-write POST https://github.com/a/b/git-receive-pack\n  \
        portcullis policy explain --policy p.yaml --binary /usr/bin/curl GET https://pypi.org/simple/six/\n  \
        portcullis policy explain -s agent GET https://pypi.org/simple/six/\n  \
        portcullis policy explain r41\n\n\
        Without --policy, --preset and --tier: by what the running gateway has in force, and where none runs \
        by the files of the config.")]
    Explain(ExplainArgs),
    #[command(flatten)]
    Live(super::policy_live::LiveCommand),
    /// Say what a policy allows that another does not, in meaning and not in text.
    Diff(super::policy_diff::DiffArgs),
    /// Run the tests beside a policy.
    Test(super::policy_test::TestArgs),
}

/// The arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Policy files, `-` for stdin; they are checked as one policy, their union.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Note each way in which a file written for another program means something else here.
    #[arg(long, value_name = "PROGRAM", env = "PORTCULLIS_FROM")]
    from: Option<From>,
    /// Accept middlewares that fail closed, which do not run here.
    #[arg(long, env = "PORTCULLIS_IGNORE_MIDDLEWARES")]
    ignore_middlewares: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// NVIDIA OpenShell.
    Openshell,
}

/// The arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The method; or an entry of the running gateway's queue, r41, instead of METHOD and URL.
    method: String,
    /// The URL: http, https, ws, wss, or tcp://HOST:PORT for raw bytes.
    url: Option<String>,
    /// The executable that asks [default: a process that can't be seen].
    #[arg(long, value_name = "PATH", env = "PORTCULLIS_BINARY")]
    binary: Option<String>,
    #[command(flatten)]
    effective: EffectiveArgs,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Checks or explains.
pub(super) fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::Explain(args) => explained(args),
        PolicyCommand::Live(command) => super::policy_live::run(command),
        PolicyCommand::Diff(args) => super::policy_diff::run(args),
        PolicyCommand::Test(args) => super::policy_test::run(args),
    }
}

/// The preset of that name.
pub(super) fn preset(name: &str) -> anyhow::Result<&'static Preset> {
    preset::find(name).with_context(|| {
        let known: Vec<&str> = preset::all().iter().map(|preset| preset.name).collect();
        format!(
            "no preset of this build is named `{}`\n  fix: use one of: {}",
            Shown::new(name),
            known.join(", ")
        )
    })
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let options = LoadOptions { ignore_middlewares: args.ignore_middlewares };
    let mut invalid = Vec::new();
    let mut documents: Vec<(String, Document)> = Vec::new();
    for file in &args.files {
        let (name, text) = super::policy_live::read(file)?;
        match Document::parse_with(&text, &name, options) {
            Ok(document) => documents.push((name, document)),
            Err(error) => invalid.push(error),
        }
    }
    let checked: Vec<Checked<'_>> =
        documents.iter().map(|(file, document)| Checked { document, file }).collect();
    let written_for = match args.from {
        Some(From::Openshell) => WrittenFor::Openshell,
        None => WrittenFor::Portcullis,
    };
    let findings = lint(&checked, written_for);
    let mistakes: Vec<Finding> = invalid.iter().flat_map(mistakes).collect();
    let all: Vec<&Finding> = mistakes.iter().chain(&findings).collect();
    args.shape.all(&all, |_| check_text(args, &invalid, &findings))?;
    let errors = all.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if errors { ExitCode::from(FINDING) } else { ExitCode::SUCCESS })
}

fn check_text(args: &CheckArgs, invalid: &[LoadError], findings: &[Finding]) -> String {
    let mut out = String::new();
    for error in invalid {
        let _ = writeln!(out, "{} {error}\n", toned("error[invalid]", Tone::Bad));
    }
    for finding in findings {
        let _ = writeln!(out, "{}", finding_text(finding));
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let mistakes: usize = invalid.iter().map(|error| error.mistakes.len()).sum();
    let _ = writeln!(
        out,
        "{} in {}: {}, {}, {}",
        if mistakes > 0 { toned("not usable", Tone::Bad) } else { toned("checked", Tone::Good) },
        plural(args.files.len(), "file"),
        plural(mistakes + count(Severity::Error), "error"),
        plural(count(Severity::Warning), "warning"),
        plural(count(Severity::Note), "note"),
    );
    out
}

fn finding_text(finding: &Finding) -> String {
    let (word, tone) = match finding.severity {
        Severity::Error => ("error", Tone::Bad),
        Severity::Warning => ("warning", Tone::Doubtful),
        Severity::Note => ("note", Tone::Faint),
    };
    let head = toned(&format!("{word}[{}]", finding.code.as_str()), tone);
    let rule = if finding.rule.is_empty() { String::new() } else { format!("{}: ", finding.rule) };
    let file = Shown::new(&finding.file);
    let Finding { line, column, what, fix, .. } = finding;
    format!("{head} {file}:{line}:{column}: {rule}{what}\n  fix: {fix}")
}

/// What keeps a file from being used, as findings.
fn mistakes(error: &LoadError) -> impl Iterator<Item = Finding> {
    error.mistakes.iter().map(|mistake| Finding {
        severity: FindingCode::Invalid.severity(),
        code: FindingCode::Invalid,
        file: error.source_name.clone(),
        line: mistake.line,
        column: mistake.column,
        rule: String::new(),
        what: mistake.problem.clone(),
        fix: mistake.right.clone(),
    })
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn explained(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let Some(typed) = &args.url else {
        let number = args.method.strip_prefix('r').unwrap_or_default();
        if number.parse::<u64>().is_err() {
            let typed = Shown::new(&args.method);
            bail!("`{typed}` is no entry\n  fix: write METHOD and URL, or an entry like r41");
        }
        let config = &args.effective.config;
        return super::policy_live::explain(&args.method, config, &args.socket, args.shape);
    };
    let (layers, judged_by) = layers(args)?;
    let url = Url::parse(typed)?;
    let method = http::Method::from_bytes(args.method.as_bytes()).map_err(|_| {
        let typed = Shown::new(&args.method);
        anyhow!("`{typed}` is not a method\n  fix: write one like GET, then the URL")
    })?;
    let path = Path::parse(url.path).with_context(|| {
        format!("`{}`\n  fix: write it as it would be sent: https://HOST/PATH", Shown::new(typed))
    })?;
    let client = match &args.binary {
        Some(binary) => Client::Seen(Arc::new(Process {
            pid: 0,
            binary: binary.as_str().into(),
            ancestors: Box::default(),
        })),
        None => Client::Unseen,
    };
    let ask = match url.scheme {
        Scheme::Tcp => Ask::Bytes,
        Scheme::Http | Scheme::Https => Ask::Request {
            method: method.as_str(),
            path: &path,
            query: url.query,
            websocket: url.websocket,
            body: Body::Unread,
        },
    };
    let intent = Intent { client: &client, scheme: url.scheme, target: &url.target, ask };
    let explained = explain(&layers, &intent)?;
    args.shape.one(&explained, |said| explained_text(args, typed, judged_by.as_deref(), said))
}

/// What the flags name; else what the running gateway has in force; else what its config says. Where
/// nothing names it, which it is.
fn layers(args: &ExplainArgs) -> anyhow::Result<(Vec<Layer>, Option<String>)> {
    let EffectiveArgs { sandbox, config, .. } = &args.effective;
    if args.effective.named() {
        return Ok((args.effective.load()?.layers, None));
    }
    Ok(match super::policy_live::in_force(sandbox.as_deref(), config, &args.socket)? {
        Some(policy) => (policy.layers, Some(policy.name)),
        None => {
            let name = "the config's files: no gateway is running".to_owned();
            (args.effective.load()?.layers, Some(name))
        }
    })
}

/// A URL, taken apart for judging: the parts go through the parsers of `addr`.
#[derive(Debug)]
pub(super) struct Url<'a> {
    pub(super) scheme: Scheme,
    pub(super) websocket: bool,
    pub(super) target: Authority,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> anyhow::Result<Self> {
        let shown = Shown::new(text);
        let Some((scheme, rest)) = text.split_once("://") else {
            bail!("`{shown}` is not a URL\n  fix: write https://HOST/PATH, or tcp://HOST:PORT");
        };
        let (scheme, websocket, port) = match scheme {
            "http" => (Scheme::Http, false, Some(Port::HTTP)),
            "https" => (Scheme::Https, false, Some(Port::HTTPS)),
            "ws" => (Scheme::Http, true, Some(Port::HTTP)),
            "wss" => (Scheme::Https, true, Some(Port::HTTPS)),
            "tcp" => (Scheme::Tcp, false, None),
            _ => bail!("`{shown}`: no scheme of ours\n  fix: write http, https, ws, wss or tcp"),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = Authority::parse(authority, port).with_context(|| {
            format!("`{shown}`\n  fix: write https://HOST/PATH, or tcp://HOST:PORT")
        })?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, websocket, target, path, query })
    }
}

fn explained_text(
    args: &ExplainArgs,
    url: &str,
    judged_by: Option<&str>,
    explained: &Explained,
) -> String {
    let reason = &explained.reason;
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", Shown::new(&args.method), Shown::new(url));
    let _ = writeln!(out, "  verdict  {}", verdict(reason.verdict));
    let _ = writeln!(out, "  code     {}", reason.code.as_str());
    if let Some(rule) = &reason.rule {
        let decided = matches!(reason.verdict, Said::Allow | Said::Audit | Said::Deny);
        let _ = writeln!(out, "  {}  {rule}", if decided { "rule   " } else { "nearest" });
    }
    if !reason.detail.is_empty() {
        let _ = writeln!(out, "  because  {}", reason.detail);
    }
    if let Some(policy) = judged_by {
        let _ = writeln!(out, "  policy   {policy}");
    }
    if explained.considered.is_empty() {
        let _ = writeln!(out, "no endpoint names the host");
    } else {
        let _ = writeln!(out, "considered, each alone:");
    }
    for each in &explained.considered {
        let why = match (&each.reason.rule, each.reason.detail.as_str()) {
            (Some(rule), "") => rule.as_str(),
            (_, detail) => detail,
        };
        let place = match each.line {
            0 => each.source.clone(),
            line => format!("{}:{line}", each.source),
        };
        let said = verdict(each.reason.verdict);
        let _ = writeln!(out, "  {said} {}  ({place})\n          {why}", each.endpoint);
    }
    if args.binary.is_none()
        && explained.considered.iter().any(|c| c.reason.code == crate::policy::Code::ProcessUnknown)
    {
        let _ = writeln!(out, "the process was taken as unseen: add --binary PATH");
    }
    out
}

fn verdict(said: Said) -> String {
    match said {
        Said::Allow => toned("allow  ", Tone::Good),
        Said::Audit => toned("audit  ", Tone::Doubtful),
        Said::Deny => toned("deny   ", Tone::Bad),
        Said::Unknown => toned("unknown", Tone::Bad),
    }
}
