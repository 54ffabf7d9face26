//! What a config depends on beside its file: home, XDG directories, the gateway's uid.
//!
//! Read once from the process, or given by a test: nothing else in `config` looks around.

use super::preset_credential;
use crate::inference::Provider;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The surroundings of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// The directory that relative paths of flags start from.
    pub current_dir: PathBuf,
    /// The gateway's effective uid.
    pub euid: u32,
    /// The variables that are set of those in which providers' keys and presets' credentials
    /// usually are.
    pub keys: BTreeSet<String>,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        // An XDG variable that is not absolute is ignored (XDG Base Directory 0.8).
        let dir =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        Self {
            home: dir("HOME"),
            state_home: dir("XDG_STATE_HOME"),
            config_home: dir("XDG_CONFIG_HOME"),
            runtime_dir: dir("XDG_RUNTIME_DIR"),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            euid: rustix::process::geteuid().as_raw(),
            keys: usual_variables()
                .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// `~/.local/state/portcullis`, or where `$XDG_STATE_HOME` says; `None` without a home.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let base =
            self.state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        Some(base?.join("portcullis"))
    }

    /// `~/.config/portcullis/config.yaml`, or where `$XDG_CONFIG_HOME` says.
    pub fn config_file(&self) -> Option<PathBuf> {
        let base = self.config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")));
        Some(base?.join("portcullis/config.yaml"))
    }

    /// `text` as an absolute path: `~` is the home, relative paths start from `base`. `None` where
    /// `~` stands for nothing.
    pub fn path(&self, text: &str, base: &Path) -> Option<PathBuf> {
        match text.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => {
                Some(self.home.as_ref()?.join(rest.trim_start_matches('/')))
            }
            Some(_) => None,
            None => Some(self.current_dir.join(base).join(text)),
        }
    }
}

/// The variables that flags take values from.
fn usual_variables() -> impl Iterator<Item = &'static str> {
    let keys = Provider::ALL.iter().flat_map(|provider| provider.variables()).copied();
    let carried = preset_credential::all().iter().flat_map(|carried| &carried.variables);
    keys.chain(carried.map(String::as_str))
}
