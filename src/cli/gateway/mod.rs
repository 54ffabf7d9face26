//! `portcullis gateway`: flags and config become settings, settings become a running gateway.
//!
//! `assemble` wires the rooms together, `policies` loads and reloads, `run` waits for signals and
//! changed files.

mod approvals;
mod assemble;
mod banner;
mod bind;
mod earlier;
mod lock;
mod logs;
mod memory;
mod operator;
mod policies;
mod run;
mod watch;
mod written;

pub(super) use lock::StateLock;

use super::settings::{ConfigArgs, SocketArgs};
use crate::config::{Flags, Loaded};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The flags of `gateway`. They win over the config, and speak of the sandbox `default`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis gateway                                         127.0.0.1:3128, everything unknown\n  \
    portcullis gateway --policy policy.yaml --preset pypi\n  \
    portcullis gateway --inference anthropic                   models at https://inference.local\n  \
    portcullis gateway --preset github --credential github     with the token in $GH_TOKEN\n  \
    portcullis gateway --preset github=read-write --listen 127.0.0.1:8080\n  \
    portcullis gateway --config /etc/portcullis/config.yaml --log-format json")]
pub struct GatewayArgs {
    /// Config file and state directory.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where operators reach it.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// A policy file, added to the sandbox's; may be repeated.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_POLICY", value_delimiter = ',')]
    pub policy: Vec<PathBuf>,
    /// A preset, as NAME or NAME=read-write, added to the sandbox's; may be repeated.
    #[arg(
        long,
        value_name = "PRESET",
        env = "PORTCULLIS_PRESET",
        value_delimiter = ',',
        value_parser = crate::cli::typed::preset_with_access(),
        hide_possible_values = true
    )]
    pub preset: Vec<String>,
    /// The tier: the presets that are there without being named.
    #[arg(long, value_name = "TIER", env = "PORTCULLIS_TIER", value_parser = crate::cli::typed::tier())]
    pub tier: Option<String>,
    /// Who answers at inference.local, as PROVIDER or PROVIDER/MODEL; the key is taken from the
    /// provider's usual variable.
    #[arg(long, value_name = "PROVIDER[/MODEL]", env = "PORTCULLIS_INFERENCE")]
    pub inference: Option<String>,
    /// A preset whose credential is put into what it allows, from the service's usual variable or
    /// from `portcullis credentials set PRESET`; may be repeated.
    #[arg(
        long,
        value_name = "PRESET",
        env = "PORTCULLIS_CREDENTIAL",
        value_delimiter = ',',
        value_parser = crate::cli::typed::preset(),
        hide_possible_values = true
    )]
    pub credential: Vec<String>,
    /// The loopback address to listen on [default: 127.0.0.1:3128].
    #[arg(long, value_name = "IP:PORT", env = "PORTCULLIS_LISTEN", value_parser = crate::cli::typed::address)]
    pub listen: Option<SocketAddr>,
    /// Where to serve /metrics and /healthz [default: nowhere].
    #[arg(long, value_name = "IP:PORT", env = "PORTCULLIS_METRICS", value_parser = crate::cli::typed::address)]
    pub metrics: Option<SocketAddr>,
    /// Let through what no rule knows, and mark it in the records: for learning, in a safe place.
    #[arg(long, env = "PORTCULLIS_OBSERVE")]
    pub observe: bool,
    /// With --observe: start although credentials are configured, which unknown requests to bound
    /// hosts then get.
    #[arg(long, env = "PORTCULLIS_OBSERVE_WITH_CREDENTIALS", requires = "observe")]
    pub observe_with_credentials: bool,
    /// Say more: -v what happens, -vv why.
    #[arg(short, long, action = clap::ArgAction::Count, env = "PORTCULLIS_VERBOSE")]
    pub verbose: u8,
    /// How log lines are written.
    #[arg(long, value_name = "FORMAT", env = "PORTCULLIS_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings that the flags and the config mean together.
pub fn settings(args: &GatewayArgs) -> anyhow::Result<Loaded> {
    Ok(args.config.load(Flags {
        policies: args.policy.clone(),
        presets: args.preset.clone(),
        tier: args.tier.clone(),
        listen: args.listen,
        state_dir: None,
        metrics: args.metrics,
        inference: args.inference.clone(),
        credentials: args.credential.clone(),
    })?)
}

/// Whoever observes lets through what nobody has judged: no credential goes along by accident.
fn observes(args: &GatewayArgs, loaded: &Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    if args.observe && !args.observe_with_credentials && !config.credentials.is_empty() {
        let names: Vec<&str> = config.credentials.keys().map(|name| &**name).collect();
        anyhow::bail!(
            "--observe lets unknown requests through, and these credentials are configured: {}\n  \
             fix: take them out while you observe, or add --observe-with-credentials",
            names.join(", ")
        );
    }
    Ok(())
}

/// Runs the gateway until it is told to stop.
pub fn run(args: GatewayArgs) -> anyhow::Result<ExitCode> {
    memory::small_pages();
    let _logging = logs::start(args.verbose, args.log_format)?;
    // What changes while it is read is read again: the files are noted first.
    let watched = watch::Watched::new(&settings(&args)?.files);
    let loaded = settings(&args)?;
    observes(&args, &loaded)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        run::Signals::new()?
    };
    let said = assemble::Said {
        config: args.config.named().map(|file| file.display().to_string()),
        socket: args.socket.path(&loaded.config),
        observe: args.observe,
    };
    let running = runtime.block_on(assemble::assemble(&loaded, said))?;
    banner::print(&loaded, args.config.named().as_deref(), &running)?;
    runtime.block_on(running.run(signals, watched, move || settings(&args)))?;
    Ok(ExitCode::SUCCESS)
}
