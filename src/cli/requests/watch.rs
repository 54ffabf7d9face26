//! `requests watch`: each entry once, as it comes, and a command that gets it on stdin.
//!
//! The stream is read on whatever the commands do: at most [`RUNNING`] run at a time, a bounded
//! number waits, and none outlives its deadline.

use super::argv;
use crate::addr::Shown;
use crate::cli::asking::{AskArgs, block_on};
use crate::cli::output;
use crate::cli::shape::{Shape, json};
use crate::cli::words::{asks, process, shown};
use crate::cli::yaml;
use crate::config::Span;
use crate::control::client::{Client, ClientError, Events};
use crate::control::wire::{Event, Filter, Listen, Request, State, Traffic};
use anyhow::Context;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

/// How many commands run at a time.
const RUNNING: usize = 8;
/// How many entries wait for one.
const WAITING: usize = 1000;
/// How long after a gateway has gone the next is looked for.
const AGAIN: Duration = Duration::from_secs(1);

/// The flags of `requests watch`.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Run this for each entry, with the entry as JSON on its stdin. Words and quotes as in a
    /// shell; no shell is started. What it prints goes to stderr with `-o json` and `-o yaml`.
    #[arg(long, value_name = "COMMAND", env = "PORTCULLIS_EXEC")]
    exec: Option<String>,
    /// How long a command may run.
    #[arg(long, value_name = "TIME", env = "PORTCULLIS_EXEC_TIMEOUT", default_value = "60s")]
    exec_timeout: String,
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// What is done with each entry.
struct Watch {
    client: Client,
    sandbox: Option<String>,
    shape: Shape,
    argv: Option<Vec<String>>,
    within: Duration,
    /// Entries that were told; those that are answered are forgotten.
    told: HashSet<String>,
    waiting: VecDeque<Request>,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Watches until the process is ended.
pub(super) fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let within = args.exec_timeout.parse::<Span>();
    let mut watch = Watch {
        client: args.ask.client()?,
        sandbox: args.sandbox.clone(),
        shape: args.ask.shape.shape,
        argv: args.exec.as_deref().map(argv::split).transpose().context("--exec")?,
        within: within
            .with_context(|| format!("--exec-timeout {}", Shown::new(&args.exec_timeout)))?
            .0,
        told: HashSet::new(),
        waiting: VecDeque::new(),
        running: FuturesUnordered::new(),
    };
    block_on(async {
        // The first time nobody listens is an error; later it is a restart.
        let mut events = watch.open().await?;
        loop {
            watch.follow(&mut events).await?;
            output::note("the gateway has gone; waiting for the next");
            events = watch.again().await?;
        }
    })
}

impl Watch {
    async fn open(&mut self) -> anyhow::Result<Events> {
        let sandbox = self.sandbox.clone();
        let listen = Listen { sandbox, traffic: Traffic::None, attend: true };
        let events = self.client.events(&listen).await?;
        self.catch_up().await?;
        Ok(events)
    }

    async fn again(&mut self) -> anyhow::Result<Events> {
        loop {
            sleep(AGAIN).await;
            match self.open().await {
                Ok(events) => return Ok(events),
                Err(error) => match error.downcast_ref::<ClientError>() {
                    // The next gateway has other sandboxes, or the pipe is closed.
                    None | Some(ClientError::Refused(_)) => return Err(error),
                    Some(_) => {}
                },
            }
        }
    }

    /// What waited before the stream began, or was missed.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let filter = Filter { state: Some(State::Pending), sandbox: self.sandbox.clone() };
        for request in self.client.requests(&filter).await? {
            self.tell(request)?;
        }
        Ok(())
    }

    /// Tells what comes, until the stream ends.
    async fn follow(&mut self, events: &mut Events) -> anyhow::Result<()> {
        loop {
            while self.running.len() < RUNNING
                && let Some(request) = self.waiting.pop_front()
            {
                self.start(request)?;
            }
            let event = tokio::select! {
                Some(()) = self.running.next() => continue,
                event = events.next() => event,
            };
            match event {
                None => return Ok(()),
                Some(Err(error)) => {
                    output::note(&error.to_string());
                    return Ok(());
                }
                Some(Ok(Event::Pending(request))) => self.tell(*request)?,
                Some(Ok(
                    Event::Decided(request) | Event::Expired(request) | Event::Gone(request),
                )) => {
                    if request.state != State::Pending {
                        self.told.remove(&request.request);
                    }
                }
                Some(Ok(Event::Missed { .. })) => self.catch_up().await?,
                Some(Ok(
                    Event::Hello(_)
                    | Event::Grants { .. }
                    | Event::PolicyLoaded { .. }
                    | Event::PolicyRejected { .. }
                    | Event::Traffic(_)
                    | Event::Stopping {},
                )) => {}
            }
        }
    }

    /// Prints an entry that is new, and queues its command.
    fn tell(&mut self, request: Request) -> anyhow::Result<()> {
        if !self.told.insert(request.request.clone()) {
            return Ok(());
        }
        output::print(&match self.shape {
            Shape::Text => line(&request),
            Shape::Json => json(&request)?,
            Shape::Yaml => format!("---\n{}", yaml::document(&request)?),
        })?;
        if self.argv.is_some() {
            if self.waiting.len() >= WAITING {
                let number = shown(&request.request);
                output::note(&format!("no command for {number}: {WAITING} wait already"));
            } else {
                self.waiting.push_back(request);
            }
        }
        Ok(())
    }

    /// Where a command's output goes: not between the objects that a script reads.
    fn said_to(&self) -> std::io::Result<Stdio> {
        match self.shape {
            Shape::Text => Ok(Stdio::inherit()),
            Shape::Json | Shape::Yaml => Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into()),
        }
    }

    fn start(&mut self, request: Request) -> anyhow::Result<()> {
        let Some([program, args @ ..]) = self.argv.as_deref() else { return Ok(()) };
        let mut command = tokio::process::Command::new(program);
        command
            .args(args)
            // What it asks the gateway goes to the same one.
            .env("PORTCULLIS_SOCKET", self.client.socket())
            .stdin(Stdio::piped())
            .stdout(self.said_to()?)
            .kill_on_drop(true);
        let entry = json(&request)?;
        let (number, within) = (shown(&request.request), self.within);
        self.running.push(Box::pin(async move {
            if let Err(why) = carried_out(command, entry, within).await {
                output::note(&format!("the command for {number} {why}"));
            }
        }));
        Ok(())
    }
}

/// Runs one command to its end; an error is what a note says of it.
async fn carried_out(
    mut command: tokio::process::Command,
    entry: String,
    within: Duration,
) -> Result<(), String> {
    let mut child = command.spawn().map_err(|error| format!("can't be started: {error}"))?;
    let stdin = child.stdin.take();
    let fed = async {
        if let Some(mut stdin) = stdin {
            // Who does not read it has no need of it.
            let _ = stdin.write_all(entry.as_bytes()).await;
        }
    };
    let ended = timeout(within, async { tokio::join!(fed, child.wait()).1 }).await;
    match ended {
        Err(_) => {
            let _ = child.kill().await;
            Err(format!("was ended: it ran longer than {} s", within.as_secs()))
        }
        Ok(Err(error)) => Err(format!("is lost: {error}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("failed: {status}")),
    }
}

fn line(request: &Request) -> String {
    let Request { request: number, first_seen, sandbox, client, .. } = request;
    let process = process(client.as_ref());
    format!(
        "{} {} {} {process} {}\n",
        shown(first_seen),
        shown(number),
        shown(sandbox),
        asks(request)
    )
}
