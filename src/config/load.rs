//! Reading the config file and laying the flags over it.
//!
//! The file is read once, here; policy files are named and not opened.

use super::error::ConfigError;
use super::file::read_file;
use super::preset_credential;
use super::raw::RawConfig;
use super::settings::{Config, DEFAULT_SANDBOX, ListenAddress, ListenMode, Listener, PresetUse};
use super::settle::{self, Reading, add_preset, named_preset, tier_presets};
use super::source::Fault;
use super::surroundings::Surroundings;
use crate::inference::Routes;
use crate::policy::preset::Access;
use crate::vault::Source;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest config file that is read, in MiB.
const MAX_FILE: u64 = 4;

/// What the command line and `PORTCULLIS_*` variables say. It wins over the file, and speaks of
/// the sandbox `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Policy files, added to the sandbox's.
    pub policies: Vec<PathBuf>,
    /// Presets (`github`, `github=read-write`), added to the sandbox's.
    pub presets: Vec<String>,
    /// The sandbox's tier, instead of the file's.
    pub tier: Option<String>,
    /// Instead of the file's listeners for the sandbox. Loopback alone.
    pub listen: Option<SocketAddr>,
    /// Instead of the file's.
    pub state_dir: Option<PathBuf>,
    /// Instead of the file's.
    pub metrics: Option<SocketAddr>,
    /// `PROVIDER[/MODEL]`: what is behind the sandbox's `inference.local`.
    pub inference: Option<String>,
    /// Presets whose credential the sandbox may use, from its usual variable.
    pub credentials: Vec<String>,
}

/// A config and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What the operator should know.
    pub notices: Vec<Notice>,
    /// What is read again when it changes: the config file, where there is one, policies, roots,
    /// lists of revoked certificates and the parent proxy's credential.
    pub files: Vec<PathBuf>,
}

/// One sentence for the operator: no error, and not to be missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Reads the file at `path` and lays `flags` over it.
    pub fn load(path: &Path, flags: &Flags, around: &Surroundings) -> Result<Loaded, ConfigError> {
        let unreadable = |why| ConfigError::Unreadable { path: path.to_owned(), why };
        let absolute = around.current_dir.join(path);
        let text = read_file(&absolute, MAX_FILE).map_err(unreadable)?;
        let mut loaded = Self::parse(path, &text, flags, around)?;
        loaded.files.insert(0, absolute);
        Ok(loaded)
    }

    /// As [`Config::load`], with the file's text at hand. `path` is what errors name, and what
    /// relative paths start from.
    pub fn parse(
        path: &Path,
        text: &str,
        flags: &Flags,
        around: &Surroundings,
    ) -> Result<Loaded, ConfigError> {
        let raw: RawConfig = serde_saphyr::from_str_with_options(text, options())
            .map_err(|error| yaml_fault(path, text, &error))?;
        let reading = Reading { path, text, around };
        let state_dir = flags.state_dir.as_ref().map(|dir| around.current_dir.join(dir));
        let config = settle::settle(&reading, &raw, state_dir)?;
        finish(config, flags, around)
    }

    /// The config that is there without a file.
    pub fn defaults(flags: &Flags, around: &Surroundings) -> Result<Loaded, ConfigError> {
        Self::parse(Path::new("(no config file)"), "version: 1\n", flags, around)
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    }
}

fn yaml_fault(path: &Path, text: &str, error: &serde_saphyr::Error) -> Fault {
    let fault = Fault::yaml(path, text, error);
    if text.trim().is_empty() {
        return fault.fix("write at least `version: 1`");
    }
    fault
}

fn finish(mut config: Config, flags: &Flags, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let mut notices = lay_over(&mut config, flags, around)?;
    notices.extend(self::notices(&config));
    let mut files: Vec<PathBuf> = Vec::new();
    for file in config.sandboxes.values().flat_map(|sandbox| &sandbox.policies) {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    files.extend(config.all_approved());
    files.extend(config.upstream.files().cloned());
    Ok(Loaded { config, notices, files })
}

/// Gives what the operator should know of it.
fn lay_over(
    config: &mut Config,
    flags: &Flags,
    around: &Surroundings,
) -> Result<Vec<Notice>, ConfigError> {
    if let Some(metrics) = flags.metrics {
        config.metrics = Some(metrics);
    }
    if let Some(address) = flags.listen {
        listen(config, address, around)?;
    }
    let speaks = !flags.policies.is_empty()
        || !flags.presets.is_empty()
        || flags.tier.is_some()
        || flags.inference.is_some()
        || !flags.credentials.is_empty();
    if !speaks {
        return Ok(Vec::new());
    }
    let Some(sandbox) = config.sandboxes.get_mut(DEFAULT_SANDBOX) else {
        return Err(ConfigError::Flag {
            flag: "--policy, --preset, --tier, --inference, --credential",
            what: "they speak of the sandbox `default`, and the config has none".into(),
            fix: "name the policy in the config's sandbox, or add --listen ADDR".into(),
        });
    };
    if let Some(tier) = &flags.tier {
        let own = std::mem::take(&mut sandbox.presets);
        let old = tier_presets(&sandbox.tier).unwrap_or_default();
        sandbox.presets = tier_presets(tier).map_err(flag("--tier"))?;
        for preset in own.into_iter().filter(|preset| !old.contains(preset)) {
            add_preset(&mut sandbox.presets, preset);
        }
        sandbox.tier = tier.as_str().into();
    }
    if let Some(text) = &flags.inference {
        let routes = inference(&mut config.credentials, text, around)?;
        sandbox.inference = Some(routes.name.clone());
        config.inference.insert(routes.name.clone(), Arc::new(routes));
    }
    for text in &flags.presets {
        add_preset(&mut sandbox.presets, preset_flag(text).map_err(flag("--preset"))?);
    }
    for file in &flags.policies {
        sandbox.policies.push(around.current_dir.join(file));
    }
    credentials(config, &flags.credentials, around)
}

/// `--credential`: what a preset carries, each once.
fn credentials(
    config: &mut Config,
    names: &[String],
    around: &Surroundings,
) -> Result<Vec<Notice>, ConfigError> {
    let mut notices = Vec::new();
    for (number, name) in names.iter().enumerate() {
        if !names[..number].contains(name) {
            let notice = preset_credential::lay_over(config, name, around);
            notices.extend(notice.map_err(flag("--credential"))?.map(Notice));
        }
    }
    Ok(notices)
}

/// `--inference`: a route that is paid with the key in its provider's usual variable.
fn inference(
    credentials: &mut BTreeMap<Arc<str>, Source>,
    text: &str,
    around: &Surroundings,
) -> Result<Routes, ConfigError> {
    let (mut routes, variables) = super::inference::flag(text).map_err(flag("--inference"))?;
    let set = variables.iter().find(|name| around.keys.contains(**name));
    let provider = routes.routes[0].provider;
    if set.is_none() && provider.needs_key() {
        return Err(ConfigError::Flag {
            flag: "--inference",
            what: format!("{provider} needs a key, and {} is not set", variables.join(" or ")),
            fix: format!("export {}=…, and start the gateway from there", variables[0]),
        });
    }
    if let Some(variable) = set {
        let name: Arc<str> = super::inference::FLAG.into();
        credentials.insert(name.clone(), Source::Env((*variable).to_owned()));
        for route in &mut routes.routes {
            route.credential = Some(name.clone());
        }
    }
    Ok(routes)
}

/// `--listen` stands in for the listeners of the sandbox `default`.
fn listen(
    config: &mut Config,
    address: SocketAddr,
    around: &Surroundings,
) -> Result<(), ConfigError> {
    if !address.ip().to_canonical().is_loopback() {
        return Err(ConfigError::Flag {
            flag: "--listen",
            what: format!("others can reach {address}, and a flag can't say whom it serves"),
            fix: format!(
                "write it into a config: listen: [{{ address: \"{address}\", allow_from: [172.18.0.0/16] }}]"
            ),
        });
    }
    config.listeners.retain(|listener| {
        let replaced = &*listener.sandbox == DEFAULT_SANDBOX && listener.mode == ListenMode::Proxy;
        !replaced && listener.address != ListenAddress::Tcp(address)
    });
    config.listeners.insert(0, Listener::loopback(address, around.euid));
    if !config.sandboxes.contains_key(DEFAULT_SANDBOX) {
        let standard = Config::defaults(&Flags::default(), around)?.config;
        config.sandboxes.extend(standard.sandboxes);
    }
    Ok(())
}

fn flag(flag: &'static str) -> impl Fn((String, String)) -> ConfigError {
    move |(what, fix)| ConfigError::Flag { flag, what, fix }
}

/// `github`, or `github=read-write`.
fn preset_flag(text: &str) -> Result<PresetUse, (String, String)> {
    match text.split_once('=') {
        None | Some((_, "read-only")) => {
            named_preset(text.split('=').next().unwrap_or(text), Access::ReadOnly)
        }
        Some((name, "read-write")) => named_preset(name, Access::ReadWrite),
        Some(_) => Err((
            "an access is read-only or read-write".into(),
            "write --preset github=read-write".into(),
        )),
    }
}

fn notices(config: &Config) -> Vec<Notice> {
    let mut notices = Vec::new();
    if config.metrics.is_some_and(|address| !address.ip().to_canonical().is_loopback()) {
        notices.push(Notice("metrics can be read by whoever reaches their address".into()));
    }
    if config.upstream.proxy.as_ref().is_some_and(|p| p.resolve == super::Resolve::Proxy) {
        notices.push(Notice(
            "upstream.proxy resolves names: the address guard sees address literals alone".into(),
        ));
    }
    notices
}

/// The JSON schema of the config file.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(RawConfig)
}
