//! Which config is read: `--config`, `$PORTCULLIS_CONFIG`, `$XDG_CONFIG_HOME`, or none.

use crate::config::{Config, ConfigError, Flags, Loaded, Surroundings};
use crate::control::Whereabouts;
use std::path::PathBuf;

/// The flags that name the config and its state directory.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// The config file [default: $XDG_CONFIG_HOME/portcullis/config.yaml, where it is there].
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub config: Option<PathBuf>,
    /// The directory of the CA and the traffic records [default: ~/.local/state/portcullis].
    #[arg(long, value_name = "DIR", env = "PORTCULLIS_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// The flag that names the control socket.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SocketArgs {
    /// The control socket [default: control.sock in the state directory that is named, else
    /// $XDG_RUNTIME_DIR/portcullis/control.sock].
    #[arg(long, value_name = "PATH", env = "PORTCULLIS_SOCKET")]
    pub socket: Option<PathBuf>,
}

impl SocketArgs {
    /// Where the socket of the gateway with this config is.
    pub fn path(&self, config: &Config) -> PathBuf {
        let around = Surroundings::here();
        let named = config.state_dir_named.then(|| config.state_dir.clone());
        Whereabouts {
            socket: self.socket.as_ref().map(|socket| around.current_dir.join(socket)),
            state_dir: named,
            runtime_dir: around.runtime_dir,
            default_state_dir: config.state_dir.clone(),
        }
        .path()
    }
}

impl ConfigArgs {
    /// The config file that is read, if one is.
    pub fn named(&self) -> Option<PathBuf> {
        self.file(&Surroundings::here())
    }

    /// The file that is read; `None` where none is named and the usual one is not there.
    pub fn file(&self, around: &Surroundings) -> Option<PathBuf> {
        let usual = || around.config_file().filter(|file| file.exists());
        self.config.clone().or_else(usual)
    }

    /// Reads the config, with `flags` laid over it.
    pub fn load(&self, flags: Flags) -> Result<Loaded, ConfigError> {
        let around = Surroundings::here();
        let flags = Flags { state_dir: self.state_dir.clone().or(flags.state_dir), ..flags };
        match self.file(&around) {
            Some(file) => Config::load(&file, &flags, &around),
            None => Config::defaults(&flags, &around),
        }
    }
}
