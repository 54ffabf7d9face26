//! `portcullis credentials`: what the gateway holds, and storing a value for it. No value is ever
//! printed.

use super::asking::{AskArgs, block_on};
use super::env::word;
use super::settings::ConfigArgs;
use super::shape::ShapeArgs;
use super::table::Table;
use super::words::{distance, plural, shown};
use super::yaml;
use crate::addr::Shown;
use crate::config::{Flags, is_credential_name, preset_credential};
use crate::control::wire::{Credential, CredentialCheck};
use crate::secret::{MAX_BYTES, Secret};
use anyhow::{Context, bail};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The flags of `credentials`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CredentialsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<CredentialsCommand>,
}

/// The commands of `credentials`.
#[derive(Debug, clap::Subcommand)]
enum CredentialsCommand {
    /// List the credentials with their sources and bindings (the default).
    #[command(after_help = "Examples:\n  \
        portcullis credentials\n  \
        portcullis credentials list -s agent -o json")]
    List(ListArgs),
    /// Store a value, read from standard input, in a file that the gateway alone reads.
    #[command(after_help = "Examples:\n  \
        gh auth token | portcullis credentials set github\n  \
        portcullis credentials set github < token.txt")]
    Set(SetArgs),
    /// Read a credential's source, and change nothing.
    #[command(after_help = "Examples:\n  \
        portcullis credentials test github")]
    Test(OneArgs),
    /// Read a credential's source, and use what it says from now on.
    #[command(after_help = "Examples:\n  \
        portcullis credentials refresh gcloud")]
    Refresh(OneArgs),
}

/// The flags of `credentials list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Those of one sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `credentials test` and `credentials refresh`.
#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The credential's name.
    name: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// The flags of `credentials set`.
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The credential's name.
    name: String,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// A value that was stored.
#[derive(Debug, serde::Serialize)]
struct Stored {
    credential: String,
    file: String,
}

/// Lists, stores, reads.
pub(super) fn run(args: CredentialsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list),
        Some(CredentialsCommand::List(args)) => list(&args),
        Some(CredentialsCommand::Set(args)) => set(&args),
        Some(CredentialsCommand::Test(args)) => check(&args, false),
        Some(CredentialsCommand::Refresh(args)) => check(&args, true),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let all = block_on(async { Ok(client.credentials(args.sandbox.as_deref()).await?) })?;
    args.ask.shape.all(&all, listed)
}

fn listed(all: &[Credential]) -> String {
    if all.is_empty() {
        return "no credentials\n".to_owned();
    }
    let mut table =
        Table::new(&["CREDENTIAL", "SOURCE", "FINGERPRINT", "AGE", "USED", "GOES TO", "ERROR"])
            .keeping(&["CREDENTIAL", "USED", "GOES TO", "ERROR"])
            .ending(&["SOURCE"])
            .sparing(&["FINGERPRINT", "AGE"]);
    for credential in all {
        let ago = |time: &Option<String>| time.as_deref().map(distance).unwrap_or_default();
        let used = match &credential.last_used {
            None => "never".to_owned(),
            Some(_) => {
                format!("{}, {} ago", plural(credential.uses, "time"), ago(&credential.last_used))
            }
        };
        let mut goes: Vec<String> = Vec::new();
        for binding in &credential.bindings {
            let port =
                if binding.port == 443 { String::new() } else { format!(":{}", binding.port) };
            let line = format!("{}{port} ({})", shown(&binding.host), shown(&binding.place));
            if !goes.contains(&line) {
                goes.push(line);
            }
        }
        table.row([
            shown(&credential.credential),
            shown(&credential.source),
            credential.fingerprint.as_deref().map_or_else(|| "none".to_owned(), shown),
            ago(&credential.since),
            used,
            if goes.is_empty() { "nowhere".to_owned() } else { goes.join(", ") },
            credential.error.as_ref().map(|error| shown(&error.text)).unwrap_or_default(),
        ]);
    }
    table.text()
}

fn check(args: &OneArgs, keep: bool) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    let checked = block_on(async { Ok(client.check_credential(&args.name, keep).await?) })?;
    args.ask.shape.one(&checked, |checked: &CredentialCheck| {
        let what = match (checked.changed, checked.in_use) {
            (true, true) => "a new value, in use from now on",
            (true, false) => "another value than the one in use",
            (false, _) => "the value in use",
        };
        format!("{}: {what} ({})\n", shown(&checked.credential), shown(&checked.fingerprint))
    })
}

fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let name = Shown::new(&args.name).to_string();
    if !is_credential_name(&args.name) {
        bail!(
            "`{name}` is not a credential's name; use up to 63 letters, digits, `-`, `_` and `.`, \
             a letter or digit first"
        );
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        bail!(
            "the value is read from standard input; write: portcullis credentials set {name} < FILE"
        );
    }
    let limit = MAX_BYTES + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    stdin.lock().take(limit as u64).read_to_end(&mut bytes).context("standard input")?;
    let secret = Secret::read(std::mem::take(&mut *bytes)).context("standard input")?;
    let dir = args.config.load(Flags::default())?.config.secrets();
    let path = dir.join(&args.name);
    store(&dir, &path, &secret).with_context(|| path.display().to_string())?;
    let stored = Stored { credential: args.name.clone(), file: path.to_string_lossy().into() };
    args.shape.one(&stored, |stored| usage(&stored.credential, &stored.file, &args.config))
}

/// How a stored value is used, to be pasted as it is.
fn usage(name: &str, file: &str, config: &ConfigArgs) -> String {
    let mut flag = String::new();
    if preset_credential::find(name).is_some() {
        flag = format!("portcullis gateway --credential {name}");
        let named = [("config", &config.config), ("state-dir", &config.state_dir)];
        for (option, path) in named {
            let Some(path) = path else { continue };
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            flag.push_str(&format!(" --{option} {}", word(&path.to_string_lossy())));
        }
        flag.push_str(", or ");
    }
    let line = format!("credentials: {{ {name}: {{ file: {} }} }}", yaml::word(file));
    format!("stored in {file}\nuse it: {flag}{line}\n")
}

/// Writes the value beside its place and renames it there: who reads it meanwhile reads the old
/// one or the new one.
fn store(dir: &Path, path: &Path, secret: &Secret) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = std::path::PathBuf::from(beside);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(secret.expose().as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    written
}
