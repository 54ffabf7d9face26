//! The presets and tiers that are built in: policies for well-known services.
//!
//! Owns the embedded files of `policy-schema/`. A preset is a plain policy file; its read-write
//! access is a second one that adds to it, so that both are read and checked like any other.

use super::compile::Layer;
use super::document::Document;
use std::sync::LazyLock;

/// What a preset lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// A preset: one service, narrow by method and path.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// The policy file for reading.
    read_only: &'static str,
    /// The policy file that read-write access adds.
    read_write: Option<&'static str>,
}

/// A tier: presets that are there without being named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// The presets, by name, all read-only.
    pub presets: Vec<String>,
}

macro_rules! presets {
    (@write $name:literal read_write) => {
        Some(include_str!(concat!("../../policy-schema/presets/", $name, ".read-write.yaml")))
    };
    (@write $name:literal read_only) => { None };
    ($($name:literal $access:ident,)+) => {
        &[$(Preset {
            name: $name,
            read_only: include_str!(concat!("../../policy-schema/presets/", $name, ".yaml")),
            read_write: presets!(@write $name $access),
        },)+]
    };
}

const PRESETS: &[Preset] = presets![
    "cargo" read_write,
    "debian" read_only,
    "github" read_write,
    "npm" read_write,
    "pypi" read_write,
];

static TIERS: LazyLock<Vec<Tier>> = LazyLock::new(|| {
    let text = include_str!("../../policy-schema/tiers.yaml");
    let tiers: std::collections::BTreeMap<String, Vec<String>> =
        serde_saphyr::from_str(text).expect("the embedded tiers.yaml is read by a test");
    tiers.into_iter().map(|(name, presets)| Tier { name, presets }).collect()
});

impl Access {
    /// As it is written: `read-only` or `read-write`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        }
    }
}

impl Preset {
    /// Whether it can be used with `access`.
    pub fn has(&self, access: Access) -> bool {
        access == Access::ReadOnly || self.read_write.is_some()
    }

    /// What it is for, in one sentence.
    pub fn description(&self) -> String {
        let parsed = Document::parse(self.read_only, self.name);
        let head = parsed.ok().and_then(|document| document.preset);
        head.and_then(|head| head.description).unwrap_or_default()
    }

    /// The layers of `access`; empty where the preset does not have the access.
    pub fn layers(&self, access: Access) -> Vec<Layer> {
        let parse = |(name, text): (String, &str)| Layer {
            document: Document::parse(text, &name).expect("every preset is read by a test"),
            source: name.into(),
            deny_only: false,
        };
        self.files(access).into_iter().map(parse).collect()
    }

    /// The policy files of `access`, as they are called and as they read: all of them hold. Empty
    /// where the preset does not have the access.
    pub fn files(&self, access: Access) -> Vec<(String, &'static str)> {
        let read_only = (format!("preset:{}", self.name), self.read_only);
        match (access, self.read_write) {
            (Access::ReadOnly, _) => vec![read_only],
            (Access::ReadWrite, Some(text)) => {
                vec![read_only, (format!("preset:{}=read-write", self.name), text)]
            }
            (Access::ReadWrite, None) => Vec::new(),
        }
    }
}

/// Every preset of this build, by name.
pub fn all() -> &'static [Preset] {
    PRESETS
}

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// Every tier of this build, by name.
pub fn tiers() -> &'static [Tier] {
    &TIERS
}

/// The tier of that name.
pub fn tier(name: &str) -> Option<&'static Tier> {
    TIERS.iter().find(|tier| tier.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_names_presets_that_exist() {
        assert!(tier("restricted").unwrap().presets.is_empty());
        for tier in tiers() {
            for preset in &tier.presets {
                assert!(find(preset).is_some(), "{}: {preset}", tier.name);
            }
        }
    }

    #[test]
    fn presets_stand_in_order_and_each_once() {
        assert!(all().is_sorted_by(|a, b| a.name < b.name));
    }
}
