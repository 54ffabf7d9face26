//! From the config as typed to the config as meant.
//!
//! Fills in defaults, makes paths absolute, and refuses what makes no sense or what this build
//! does not have. Reads no file and changes nothing outside.

use super::error::ConfigError;
use super::raw::{
    RawAccess, RawApproval, RawAsk, RawBuffer, RawConfig, RawIdentity, RawLimits, RawMode,
    RawPreset, RawSandbox, RawTimeout, RawTraffic,
};
use super::settings::{
    Approval, ApprovalMode, Ask, Buffer, Config, DEFAULT_SANDBOX, Identity, Limits, Listener,
    PresetUse, Sandbox, Timeout, Traffic,
};
use super::source::{At, Fault, Place};
use super::surroundings::Surroundings;
use super::units::{Size, Span};
use super::{credentials, deny, inference, inject, listen, upstream};
use crate::addr::Shown;
use crate::policy::preset::{self, Access};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The tier of a sandbox that names none.
pub(super) const DEFAULT_TIER: &str = "restricted";

/// The key of `sandboxes` that holds for all of them.
const DEFAULTS: &str = "defaults";

/// The file that is being read, and what is around it.
pub(super) struct Reading<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) around: &'a Surroundings,
}

impl Reading<'_> {
    /// A fault at `place`, with the fix.
    pub(super) fn fault(
        &self,
        place: Place,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> ConfigError {
        Fault::new(self.path, self.text, place, what).fix(fix).into()
    }

    /// A fault whose line may hold a secret: the line is not shown.
    pub(super) fn secret_fault(&self, place: Place, what: &str, fix: &str) -> ConfigError {
        Fault::new(self.path, "", place, what).fix(fix).into()
    }

    /// `text` as an absolute path, starting from the file's directory.
    pub(super) fn path(&self, text: &str, place: Place) -> Result<PathBuf, ConfigError> {
        let base = self.path.parent().unwrap_or(Path::new(""));
        self.around.path(text, base).filter(|_| !text.is_empty()).ok_or_else(|| {
            let what = format!("`{}` is not a path", Shown::new(text));
            self.fault(place, what, "write a path; only `~` and `~/…` expand, to $HOME")
        })
    }
}

/// Settles a whole file. `state_dir` is what a flag says, which wins.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &RawConfig,
    state_dir: Option<PathBuf>,
) -> Result<Config, ConfigError> {
    version(reading, raw)?;
    let listeners = listeners(reading, raw)?;
    let state_dir_named = state_dir.is_some() || raw.state_dir.is_some();
    let state_dir = match (&state_dir, &raw.state_dir) {
        (Some(flag), _) => flag.clone(),
        (None, Some(text)) => reading.path(text, Place::default())?,
        (None, None) => reading.around.state_dir().ok_or(ConfigError::NoStateDir)?,
    };
    Ok(Config {
        state_dir,
        state_dir_named,
        sandboxes: sandboxes(reading, raw, &listeners)?,
        deny: deny::settle(reading, raw, DEFAULTS)?,
        listeners,
        credentials: credentials::settle(reading, &raw.credentials)?,
        inject: inject::settle(reading, raw)?,
        inference: inference::settle(reading, &raw.inference, &raw.credentials)?,
        upstream: upstream::settle(reading, &raw.upstream, &raw.credentials)?,
        timeout: timeout(reading, &raw.timeout)?,
        buffer: buffer(reading, &raw.buffer)?,
        traffic: traffic(reading, &raw.traffic)?,
        metrics: raw.metrics.as_ref().map(|m| metrics(reading, &m.address)).transpose()?,
    })
}

fn version(reading: &Reading<'_>, raw: &RawConfig) -> Result<(), ConfigError> {
    if raw.version.value == 1 {
        return Ok(());
    }
    let what = format!("version {} of the config is not known", raw.version.value);
    Err(reading.fault(raw.version.place, what, "write `version: 1`"))
}

fn listeners(reading: &Reading<'_>, raw: &RawConfig) -> Result<Vec<Listener>, ConfigError> {
    if raw.listen.is_empty() {
        return Ok(vec![Listener::standard(reading.around.euid)]);
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(raw.listen.len());
    for each in &raw.listen {
        let listener = listen::settle(reading, each)?;
        if listeners.iter().any(|other| other.address == listener.address) {
            let what = format!("{} is listened on twice", listener.address);
            return Err(reading.fault(each.value.address.place, what, "remove one of the two"));
        }
        let name = &*listener.sandbox;
        if name != DEFAULT_SANDBOX && (name == DEFAULTS || !raw.sandboxes.contains_key(name)) {
            let place = each.value.sandbox.as_ref().map_or(each.place, |sandbox| sandbox.place);
            let shown = Shown::new(name);
            let what = format!("no sandbox is named `{shown}`");
            let fix = format!("add it: sandboxes: {{ {shown}: {{ policy: [policy.yaml] }} }}");
            return Err(reading.fault(place, what, fix));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn sandboxes(
    reading: &Reading<'_>,
    raw: &RawConfig,
    listeners: &[Listener],
) -> Result<BTreeMap<Arc<str>, Sandbox>, ConfigError> {
    let nothing = At { value: RawSandbox::default(), place: Place::default() };
    let defaults = raw.sandboxes.get(DEFAULTS).unwrap_or(&nothing);
    let mut settled = BTreeMap::new();
    for (name, own) in raw.sandboxes.iter().filter(|(name, _)| *name != DEFAULTS) {
        sandbox_name(reading, name, own.place)?;
        let sandbox = sandbox(reading, raw, (&defaults.value, &own.value))?;
        settled.insert(name.as_str().into(), sandbox);
    }
    for listener in listeners {
        if !settled.contains_key(&listener.sandbox) {
            let own = sandbox(reading, raw, (&defaults.value, &nothing.value))?;
            settled.insert(listener.sandbox.clone(), own);
        }
    }
    Ok(settled)
}

/// A sandbox's name is a directory of `traffic/` and a label of metrics.
fn sandbox_name(reading: &Reading<'_>, name: &str, place: Place) -> Result<(), ConfigError> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if !name.is_empty() && name.len() <= 63 && name.bytes().all(fine) {
        return Ok(());
    }
    let what = format!("`{}` is not a sandbox's name", Shown::new(name));
    let fix = "use 1 to 63 lower-case letters, digits, `-` and `_`";
    Err(reading.fault(place, what, fix))
}

fn sandbox(
    reading: &Reading<'_>,
    raw: &RawConfig,
    (defaults, own): (&RawSandbox, &RawSandbox),
) -> Result<Sandbox, ConfigError> {
    let tier = own.tier.as_ref().or(defaults.tier.as_ref());
    let tier_name = tier.map_or(DEFAULT_TIER, |tier| tier.value.as_str());
    let mut presets = tier_presets(tier_name).map_err(|(what, fix)| {
        reading.fault(tier.map(|tier| tier.place).unwrap_or_default(), what, fix)
    })?;
    for each in defaults.presets.iter().chain(&own.presets) {
        let found =
            preset_use(&each.value).map_err(|(what, fix)| reading.fault(each.place, what, fix))?;
        add_preset(&mut presets, found);
    }
    let routes = own.inference.as_ref().or(defaults.inference.as_ref());
    let policies = defaults.policy.iter().chain(&own.policy);
    let policies = policies.map(|file| reading.path(&file.value, file.place));
    Ok(Sandbox {
        policies: policies.collect::<Result<_, _>>()?,
        presets,
        tier: tier_name.into(),
        identity: match own.identity.or(defaults.identity) {
            None | Some(RawIdentity::Required) => Identity::Required,
            Some(RawIdentity::Ignore) => Identity::Ignore,
        },
        credentials: inject::attached(reading, raw, (defaults, own))?,
        approval: approval(reading, defaults.approval.as_ref(), own.approval.as_ref())?,
        agent_api: own.agent_api.or(defaults.agent_api).unwrap_or(true),
        inference: routes
            .map(|name| inference::named(reading, name, &raw.inference))
            .transpose()?,
        limits: limits(reading, &defaults.limits, &own.limits)?,
    })
}

/// The presets of a tier, read-only. On failure what is wrong, and what would be right.
pub(super) fn tier_presets(name: &str) -> Result<Vec<PresetUse>, (String, String)> {
    let Some(tier) = preset::tier(name) else {
        let known: Vec<&str> = preset::tiers().iter().map(|tier| tier.name.as_str()).collect();
        let what = format!("no tier of this build is named `{}`", Shown::new(name));
        return Err((what, format!("use one of: {}", known.join(", "))));
    };
    let read_only =
        |name: &String| PresetUse { name: name.as_str().into(), access: Access::ReadOnly };
    Ok(tier.presets.iter().map(read_only).collect())
}

/// Checks that a preset exists and has the access.
pub(super) fn named_preset(name: &str, access: Access) -> Result<PresetUse, (String, String)> {
    let shown = Shown::new(name);
    let Some(preset) = preset::find(name) else {
        let known: Vec<&str> = preset::all().iter().map(|preset| preset.name).collect();
        let what = format!("no preset of this build is named `{shown}`");
        if let Some((name, access @ ("read-only" | "read-write"))) = name.split_once('=')
            && preset::find(name).is_some()
        {
            return Err((what, format!("write {{ name: {name}, access: {access} }}")));
        }
        return Err((what, format!("use one of: {}", known.join(", "))));
    };
    if !preset.has(access) {
        let what = format!("the preset `{shown}` has no {} access", access.as_str());
        return Err((what, "use read-only, or leave the access out".into()));
    }
    Ok(PresetUse { name: preset.name.into(), access })
}

fn preset_use(raw: &RawPreset) -> Result<PresetUse, (String, String)> {
    named_preset(&raw.name, raw.access.map_or(Access::ReadOnly, RawAccess::meant))
}

/// Adds a preset; of one that is there already, the nearer mention decides the access.
pub(super) fn add_preset(presets: &mut Vec<PresetUse>, new: PresetUse) {
    match presets.iter_mut().find(|old| old.name == new.name) {
        Some(old) => *old = new,
        None => presets.push(new),
    }
}

fn approval(
    reading: &Reading<'_>,
    defaults: Option<&At<RawApproval>>,
    own: Option<&At<RawApproval>>,
) -> Result<Approval, ConfigError> {
    let mut settled = Approval::default();
    for raw in [defaults, own].into_iter().flatten().map(|at| &at.value) {
        settled.mode = match raw.mode {
            None => settled.mode,
            Some(RawMode::Hold) => ApprovalMode::Hold,
            Some(RawMode::Queue) => ApprovalMode::Queue,
            Some(RawMode::Deny) => ApprovalMode::Deny,
        };
        settled.ask = match raw.ask {
            None => settled.ask,
            Some(RawAsk::Any) => Ask::Any,
            Some(RawAsk::NewHosts) => Ask::NewHosts,
        };
        settled.timeout = raw.timeout.map_or(settled.timeout, |span| span.0);
        settled.unattended = raw.unattended.map_or(settled.unattended, |span| span.0);
        settled.session = raw.session.map_or(settled.session, |span| span.0);
        settled.keep = raw.keep.map_or(settled.keep, |span| span.0);
        settled.max_held = count(reading, &raw.max_held)?.unwrap_or(settled.max_held);
        settled.max_pending = count(reading, &raw.max_pending)?.unwrap_or(settled.max_pending);
        if !raw.notify.is_empty() {
            settled.notify.clone_from(&raw.notify);
        }
    }
    Ok(settled)
}

fn limits(
    reading: &Reading<'_>,
    defaults: &RawLimits,
    own: &RawLimits,
) -> Result<Limits, ConfigError> {
    Ok(Limits {
        connections: count(reading, &own.connections)?.or(count(reading, &defaults.connections)?),
        request_body: size(reading, &own.request_body)?.or(size(reading, &defaults.request_body)?),
        requests_per_second: count(reading, &own.requests_per_second)?
            .or(count(reading, &defaults.requests_per_second)?),
        upload_per_day: size(reading, &own.upload_per_day)?
            .or(size(reading, &defaults.upload_per_day)?),
    })
}

fn timeout(reading: &Reading<'_>, raw: &RawTimeout) -> Result<Timeout, ConfigError> {
    let standard = Timeout::default();
    Ok(Timeout {
        header: span(reading, &raw.header)?.unwrap_or(standard.header),
        connect: span(reading, &raw.connect)?.unwrap_or(standard.connect),
        first_byte: span(reading, &raw.first_byte)?.unwrap_or(standard.first_byte),
        idle: span(reading, &raw.idle)?.unwrap_or(standard.idle),
        drain: span(reading, &raw.drain)?.unwrap_or(standard.drain),
        total: span(reading, &raw.total)?,
    })
}

fn buffer(reading: &Reading<'_>, raw: &RawBuffer) -> Result<Buffer, ConfigError> {
    let standard = Buffer::default();
    Ok(Buffer {
        graphql: size(reading, &raw.graphql)?.unwrap_or(standard.graphql),
        rpc: size(reading, &raw.rpc)?.unwrap_or(standard.rpc),
        placeholder: size(reading, &raw.placeholder)?.unwrap_or(standard.placeholder),
        sigv4: size(reading, &raw.sigv4)?.unwrap_or(standard.sigv4),
    })
}

fn traffic(reading: &Reading<'_>, raw: &RawTraffic) -> Result<Traffic, ConfigError> {
    let standard = Traffic::default();
    let settled = Traffic {
        rotate: size(reading, &raw.rotate)?.unwrap_or(standard.rotate),
        keep_for: span(reading, &raw.keep_for)?.unwrap_or(standard.keep_for),
        max_size: size(reading, &raw.max_size)?.unwrap_or(standard.max_size),
        max_files: raw.max_files,
    };
    if settled.max_size < settled.rotate {
        let place = raw.max_size.as_ref().or(raw.rotate.as_ref()).map(|at| at.place);
        let what = format!(
            "`max_size` ({}) is less than one file (`rotate`, {})",
            Size(settled.max_size),
            Size(settled.rotate)
        );
        let fix = "make `rotate` smaller or `max_size` larger";
        return Err(reading.fault(place.unwrap_or_default(), what, fix));
    }
    Ok(settled)
}

fn metrics(reading: &Reading<'_>, address: &At<String>) -> Result<SocketAddr, ConfigError> {
    address.value.parse().map_err(|_| {
        let what = format!("`{}` is not an address to listen on", Shown::new(&address.value));
        reading.fault(address.place, what, "write metrics: { address: \"127.0.0.1:9464\" }")
    })
}

fn count(reading: &Reading<'_>, raw: &Option<At<u32>>) -> Result<Option<u32>, ConfigError> {
    not_zero(reading, raw, |n| *n == 0)
}

fn size(reading: &Reading<'_>, raw: &Option<At<Size>>) -> Result<Option<u64>, ConfigError> {
    Ok(not_zero(reading, raw, |size| size.0 == 0)?.map(|size| size.0))
}

fn span(reading: &Reading<'_>, raw: &Option<At<Span>>) -> Result<Option<Duration>, ConfigError> {
    Ok(not_zero(reading, raw, |span| span.0.is_zero())?.map(|span| span.0))
}

fn not_zero<T: Copy>(
    reading: &Reading<'_>,
    raw: &Option<At<T>>,
    is_zero: fn(&T) -> bool,
) -> Result<Option<T>, ConfigError> {
    match raw {
        Some(at) if is_zero(&at.value) => {
            let what = "0 would let nothing through";
            Err(reading.fault(at.place, what, "write a number above 0, or leave the line out"))
        }
        Some(at) => Ok(Some(at.value)),
        None => Ok(None),
    }
}
