//! Which policy is meant: `--policy`, `--preset` and `--tier` as `gateway` takes them, or the whole
//! effective policy that a config gives a sandbox.
//!
//! One place, so that every command that judges means the same by the same flags.

use super::settings::ConfigArgs;
use crate::addr::Shown;
use crate::config::{Config, DEFAULT_SANDBOX, Flags, Identity, Surroundings};
use crate::policy::{BodyLimits, CompileError, Layer, Policy};
use anyhow::bail;
use std::path::PathBuf;

/// The flags that select a policy.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EffectiveArgs {
    /// A policy file; may be repeated.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_POLICY", value_delimiter = ',')]
    pub(super) policy: Vec<PathBuf>,
    /// A preset, as NAME or NAME=read-write; may be repeated.
    #[arg(
        long,
        value_name = "PRESET",
        env = "PORTCULLIS_PRESET",
        value_delimiter = ',',
        value_parser = super::typed::preset_with_access(),
        hide_possible_values = true
    )]
    pub(super) preset: Vec<String>,
    /// The tier: the presets that are there without being named.
    #[arg(long, value_name = "TIER", env = "PORTCULLIS_TIER", value_parser = super::typed::tier())]
    pub(super) tier: Option<String>,
    /// The sandbox: whose policy is meant, and whose traffic.
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    pub(super) sandbox: Option<String>,
    /// Config file and state directory.
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// A policy with what else of its sandbox decides.
#[derive(Debug)]
pub(super) struct Effective {
    /// Deny rules of the defaults, presets and files, in order.
    pub(super) layers: Vec<Layer>,
    /// What happens to entries with binaries where the process can't be seen.
    pub(super) identity: Identity,
    /// How much of a body is read in order to judge it.
    pub(super) limits: BodyLimits,
}

impl EffectiveArgs {
    /// Whether flags name the policy, so that the config's does not count.
    pub(super) fn named(&self) -> bool {
        !self.policy.is_empty() || !self.preset.is_empty() || self.tier.is_some()
    }

    /// The policy that the flags name; else the config's, which must be named, too.
    pub(super) fn load_named(&self) -> anyhow::Result<Effective> {
        if !self.named() && self.config.config.is_none() {
            bail!(
                "no policy is named\n  fix: add --policy FILE, --preset NAME or --tier TIER, \
                 or --config FILE -s NAME for the whole policy of a sandbox"
            );
        }
        self.load()
    }

    /// The policy that the flags name; else the one that the config gives the sandbox.
    pub(super) fn load(&self) -> anyhow::Result<Effective> {
        let flags = Flags {
            policies: self.policy.clone(),
            presets: self.preset.clone(),
            tier: self.tier.clone(),
            ..Flags::default()
        };
        if self.named() {
            // The policy is what the flags say, and nothing of a config that lies about.
            let flags = Flags { state_dir: Some(PathBuf::from("/")), ..flags };
            let config = Config::defaults(&flags, &Surroundings::here())?.config;
            return Effective::of(&config, DEFAULT_SANDBOX);
        }
        let config = self.config.load(flags)?.config;
        let sandbox = match &self.sandbox {
            Some(name) => name.clone(),
            None => only_sandbox(&config)?,
        };
        Effective::of(&config, &sandbox)
    }

    /// Where the gateway with this config keeps its records, of which the sandbox has some.
    pub(super) fn traffic_dir(&self) -> anyhow::Result<PathBuf> {
        let config = self.config.load(Flags::default())?.config;
        super::asking::traffic(&config, self.sandbox.as_deref())
    }
}

/// The sandbox that is meant where none is named.
fn only_sandbox(config: &Config) -> anyhow::Result<String> {
    let names: Vec<&str> = config.sandboxes.keys().map(|name| &**name).collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ if names.contains(&DEFAULT_SANDBOX) => Ok(DEFAULT_SANDBOX.to_owned()),
        _ => {
            let shown: Vec<String> = names.iter().map(|n| Shown::new(n).to_string()).collect();
            bail!("which sandbox? {}\n  fix: add -s NAME", shown.join(", "))
        }
    }
}

impl Effective {
    /// The policy of a sandbox of the config.
    pub(super) fn of(config: &Config, sandbox: &str) -> anyhow::Result<Self> {
        let layers = config.layers(sandbox)?;
        let identity = config.sandboxes.get(sandbox).map_or(Identity::Required, |s| s.identity);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits =
            BodyLimits { graphql: size(config.buffer.graphql), rpc: size(config.buffer.rpc) };
        Ok(Self { layers, identity, limits })
    }

    /// Policy files alone, as one policy.
    pub(super) fn of_files(files: &[PathBuf]) -> anyhow::Result<Self> {
        EffectiveArgs { policy: files.to_vec(), ..EffectiveArgs::default() }.load()
    }

    /// Compiled.
    pub(super) fn compile(&self) -> Result<Policy, CompileError> {
        Ok(Policy::compile(&self.layers, 0)?.with_body_limits(self.limits))
    }
}
