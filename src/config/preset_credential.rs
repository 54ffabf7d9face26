//! The credentials that presets can carry: what `--credential PRESET` means.
//!
//! Owns the embedded files of `policy-schema/credentials/`. A binding is written there as under
//! `inject` in a config, and read by the same code. Invariant: nothing but the operator's flag
//! binds one of them. No policy file can, a preset's own included: what may be asked, and with
//! whose key, are two things.

use super::error::ConfigError;
use super::inject;
use super::raw::{RawAccess, RawInject};
use super::settings::{Config, DEFAULT_SANDBOX};
use super::settle::Reading;
use super::source::At;
use super::surroundings::Surroundings;
use crate::addr::Shown;
use crate::policy::preset::{self, Access};
use crate::proxy::inject::Binding;
use crate::vault::Source;
use serde::Deserialize;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// A credential that a preset can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetCredential {
    /// The preset's name, which is the credential's too.
    pub name: &'static str,
    /// The variables in which its value usually is, the preferred one first; never empty.
    pub variables: Vec<String>,
    /// The access of the preset with which it is of use.
    pub access: Access,
    /// Where it goes; never empty.
    pub bindings: Vec<Binding>,
    /// The lines under `inject:` that say so.
    lines: &'static str,
}

/// One of the embedded files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPresetCredential {
    /// The variables in which its value usually is, the preferred one first.
    variables: Vec<String>,
    /// The access of the preset with which it is of use. Default: `read-only`.
    access: Option<RawAccess>,
    /// Where it goes, as in a config.
    inject: Vec<At<RawInject>>,
}

macro_rules! files {
    ($($name:literal,)+) => {
        &[$(($name, include_str!(concat!("../../policy-schema/credentials/", $name, ".yaml"))),)+]
    };
}

const FILES: &[(&str, &str)] = files!["cargo", "github", "npm", "pypi",];

static ALL: LazyLock<Vec<PresetCredential>> = LazyLock::new(|| {
    let each = |(name, text): &(&'static str, &'static str)| {
        PresetCredential::parse(name, text).expect("every embedded file is read by a test")
    };
    FILES.iter().map(each).collect()
});

/// Every credential that a preset of this build can carry, by name.
pub fn all() -> &'static [PresetCredential] {
    &ALL
}

/// The credential that the preset of this name can carry.
pub fn find(name: &str) -> Option<&'static PresetCredential> {
    ALL.iter().find(|credential| credential.name == name)
}

impl PresetCredential {
    fn parse(name: &'static str, text: &'static str) -> Result<Self, ConfigError> {
        let path = Path::new(name);
        let reading = Reading { path, text, around: &Surroundings::default() };
        let raw: RawPresetCredential = serde_saphyr::from_str(text)
            .map_err(|error| super::source::Fault::yaml(path, text, &error))?;
        let bindings = raw.inject.iter().map(|each| inject::binding(&reading, each));
        Ok(Self {
            name,
            variables: raw.variables,
            access: raw.access.map_or(Access::ReadOnly, RawAccess::meant),
            bindings: bindings.collect::<Result<_, _>>()?,
            lines: text.split_once("\ninject:\n").map_or("", |(_, lines)| lines),
        })
    }

    /// `--credential NAME`, and what of the same meaning stands in a config: lines of comment.
    pub fn as_comment(&self) -> String {
        let Self { name, variables, lines, .. } = self;
        let mut text = format!(
            "# `gateway --credential {name}` puts {} of its environment into what is sent. In a config:\n\
             #   sandboxes: {{ default: {{ credentials: [{name}] }} }}\n\
             #   credentials: {{ {name}: {{ env: {} }} }}\n\
             #   inject:\n",
            variables.join(" or "),
            variables[0],
        );
        for line in lines.lines() {
            let _ = writeln!(text, "#   {line}");
        }
        text
    }

    /// Where its value is: in one of its variables, else where `credentials set` has put it.
    fn source(&self, config: &Config, around: &Surroundings) -> Result<Source, (String, String)> {
        if let Some(variable) = self.variables.iter().find(|name| around.keys.contains(*name)) {
            return Ok(Source::Env(variable.clone()));
        }
        let stored = config.secrets().join(self.name);
        if stored.is_file() {
            return Ok(Source::File(stored));
        }
        let unset = match &*self.variables {
            [one] => format!("{one} is not set"),
            several => format!("none of {} is set", several.join(", ")),
        };
        let what = format!("`{}` has no value: {unset}", self.name);
        let fix = format!(
            "export {}=…, and start the gateway from there; or store it: portcullis credentials set {} < FILE",
            self.variables[0], self.name
        );
        Err((what, fix))
    }

    /// What the operator should know where the sandbox's presets do not ask with it.
    fn unused(&self, config: &Config) -> Option<String> {
        let name = self.name;
        let presets = &config.sandboxes.get(DEFAULT_SANDBOX)?.presets;
        let add = match self.access {
            Access::ReadOnly => format!("--preset {name}"),
            Access::ReadWrite => format!("--preset {name}={}", self.access.as_str()),
        };
        let lacks = match presets.iter().find(|preset| &*preset.name == name) {
            Some(used) if used.access >= self.access => return None,
            Some(_) => format!("the preset `{name}` is read-only here and asks without it"),
            None => format!("the preset `{name}` is not in use"),
        };
        Some(format!(
            "--credential {name}: {lacks}, so the value goes along only where another rule or your \
             answer allows its hosts; {add} adds the rules"
        ))
    }
}

/// Binds, for the sandbox `default`, the credential that the preset `name` carries. Gives what the
/// operator should know; on failure what is wrong, and what would be right.
pub(super) fn lay_over(
    config: &mut Config,
    name: &str,
    around: &Surroundings,
) -> Result<Option<String>, (String, String)> {
    let carried = named(name)?;
    if config.credentials.contains_key(name) {
        let what = format!("the config has a credential `{name}` of its own");
        let fix =
            format!("leave the flag out: sandboxes: {{ default: {{ credentials: [{name}] }} }}");
        return Err((what, fix));
    }
    let fixed = |binding: &&Binding| {
        binding.host.name().is_some_and(|host| config.upstream.hosts.contains_key(host))
    };
    if let Some(binding) = carried.bindings.iter().find(fixed) {
        let what = format!(
            "`upstream.hosts` says where {} is, and the flag does not list the address",
            Shown::host(&binding.host)
        );
        let fix = format!(
            "write it into the config with addresses: [127.0.0.1]; portcullis preset show {name} has the lines"
        );
        return Err((what, fix));
    }
    let source = carried.source(config, around)?;
    let credential: Arc<str> = carried.name.into();
    config.credentials.insert(credential.clone(), source);
    // A flag wins: of two bindings for one place the first counts.
    config.inject.splice(0..0, carried.bindings.iter().cloned());
    if let Some(sandbox) = config.sandboxes.get_mut(DEFAULT_SANDBOX) {
        sandbox.credentials.push(credential);
    }
    Ok(carried.unused(config))
}

fn named(name: &str) -> Result<&'static PresetCredential, (String, String)> {
    find(name).ok_or_else(|| {
        let shown = Shown::new(name);
        let what = match preset::find(name) {
            Some(_) => format!("the preset `{shown}` carries no credential"),
            None => format!("no preset of this build is named `{shown}`"),
        };
        let known: Vec<&str> = all().iter().map(|credential| credential.name).collect();
        let fix = format!(
            "use one of: {}; any other goes into a config: credentials, inject",
            known.join(", ")
        );
        (what, fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::document::Endpoint;
    use std::collections::BTreeSet;

    #[test]
    fn each_goes_to_hosts_of_its_own_preset_alone() {
        assert!(all().is_sorted_by(|a, b| a.name < b.name));
        for carried in all() {
            let preset = preset::find(carried.name).expect(carried.name);
            assert!(preset.has(carried.access), "{}", carried.name);
            let layers = preset.layers(carried.access);
            let entries = layers.iter().flat_map(|layer| layer.document.network_policies.values());
            let at = |endpoint: &Endpoint| {
                let port = endpoint.port.as_ref().map_or(443, |port| **port);
                endpoint.host.as_ref().map(|host| format!("{}:{port}", **host))
            };
            let hosts: BTreeSet<String> = entries
                .flat_map(|entry| entry.endpoints.iter().filter_map(|endpoint| at(endpoint)))
                .collect();
            assert!(!carried.variables.is_empty() && !carried.bindings.is_empty());
            for binding in &carried.bindings {
                assert_eq!(&*binding.credential, carried.name);
                let goes = format!("{}:{}", binding.host, binding.port.get());
                assert!(hosts.contains(&goes), "{}: {goes} is not in {hosts:?}", carried.name);
            }
        }
    }

    #[test]
    fn the_comment_is_a_config_that_means_the_same() {
        for carried in all() {
            let comment = carried.as_comment();
            let lines = comment.lines().skip(1).map(|line| line.strip_prefix("#   ").expect(line));
            let text = format!("version: 1\n{}\n", lines.collect::<Vec<_>>().join("\n"));
            let around = Surroundings { home: Some("/home/ana".into()), ..Surroundings::default() };
            let loaded =
                Config::parse(Path::new("c.yaml"), &text, &super::super::Flags::default(), &around)
                    .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(loaded.config.inject, carried.bindings, "{text}");
            assert_eq!(loaded.config.credentials.len(), 1);
        }
    }
}
