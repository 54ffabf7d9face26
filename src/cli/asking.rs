//! Asking the running gateway: where it is, which sandbox is meant, and how to exit.

use super::settings::{ConfigArgs, SocketArgs};
use super::shape::ShapeArgs;
use super::{FINDING, NO_GATEWAY, UNREADABLE};
use crate::addr::Shown;
use crate::config::{Config, Flags};
use crate::control::client::{Client, ClientError};
use crate::control::wire::SandboxStatus;
use anyhow::{Context, bail};
use std::future::Future;
use std::path::PathBuf;

/// The flags of every command that asks the running gateway.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct AskArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    pub(super) shape: ShapeArgs,
}

impl AskArgs {
    /// The gateway that the flags mean. Nothing is opened yet.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        client(&self.config, &self.socket)
    }

    /// Where the traffic files are that the flags mean. A sandbox that is named is in the config, or has left
    /// records.
    pub(super) fn traffic(&self, sandbox: Option<&str>) -> anyhow::Result<PathBuf> {
        let config = self.config.load(Flags::default())?.config;
        traffic(&config, sandbox)
    }
}

/// Where the traffic files of this config are. A sandbox that is named is in the config, or has left records.
pub(super) fn traffic(config: &Config, sandbox: Option<&str>) -> anyhow::Result<PathBuf> {
    let dir = config.state_dir.join("traffic");
    if let Some(name) = sandbox
        && !config.sandboxes.contains_key(name)
        && !dir.join(crate::traffic::folder(name)).is_dir()
    {
        let known: Vec<String> =
            config.sandboxes.keys().map(|name| Shown::new(name).to_string()).collect();
        let name = Shown::new(name);
        bail!(
            "no sandbox is named `{name}`, and none left records\n  fix: use one of: {}",
            known.join(", ")
        );
    }
    Ok(dir)
}

/// Fails where a recording is of other sandboxes alone: a misspelt name would find nothing wrong.
pub(super) fn recorded<'a>(
    sandbox: Option<&str>,
    others: impl IntoIterator<Item = &'a String>,
) -> anyhow::Result<()> {
    let Some(name) = sandbox else { return Ok(()) };
    let names: Vec<&String> = others.into_iter().collect();
    if names.is_empty() || names.iter().any(|other| *other == name) {
        return Ok(());
    }
    let names: Vec<String> = names.iter().map(|name| Shown::new(name).to_string()).collect();
    bail!(
        "no record is of the sandbox `{}`\n  fix: use one of those that left records: {}",
        Shown::new(name),
        names.join(", ")
    )
}

/// The gateway that the flags mean. A socket that is named needs no config.
pub(super) fn client(config: &ConfigArgs, socket: &SocketArgs) -> anyhow::Result<Client> {
    if let Some(named) = &socket.socket {
        return Ok(Client::new(named));
    }
    Ok(Client::new(socket.path(&config.load(Flags::default())?.config)))
}

/// Runs a command that asks.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the asynchronous runtime can't be started")?.block_on(work)
}

/// The sandbox that a change is meant for: the one that is named, or the only one.
pub(super) async fn one_sandbox(client: &Client, named: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let mut sandboxes = client.sandboxes().await?;
    if sandboxes.len() == 1 {
        return Ok(sandboxes.swap_remove(0).name);
    }
    bail!("which sandbox? {}: add -s NAME", names(&sandboxes))
}

/// Their names, for a message.
pub(super) fn names(sandboxes: &[SandboxStatus]) -> String {
    let names: Vec<String> =
        sandboxes.iter().map(|sandbox| Shown::new(&sandbox.name).to_string()).collect();
    names.join(", ")
}

/// How to exit after an error.
pub(super) fn exit_status(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ClientError>() {
        None => UNREADABLE,
        Some(ClientError::Refused(problem)) => match problem.status {
            400 | 404 | 405 | 408 | 413 | 422 => UNREADABLE,
            _ => FINDING,
        },
        Some(
            ClientError::NoGateway { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Late { .. }
            | ClientError::Broken { .. },
        ) => NO_GATEWAY,
    }
}
