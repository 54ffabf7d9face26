//! Where the control socket is: one rule for the gateway that makes it and for all who look for it.

use std::path::{Path, PathBuf};

/// The socket's name in its directory.
const NAME: &str = "control.sock";

/// What decides where the socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// `--socket` or `$PORTCULLIS_SOCKET`.
    pub socket: Option<PathBuf>,
    /// The state directory that a flag, a variable or the config names.
    pub state_dir: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// The state directory where none is named.
    pub default_state_dir: PathBuf,
}

impl Whereabouts {
    /// The socket's path: as named, else in the state directory that was named, else in the
    /// user's runtime directory, else in the default state directory. A runtime directory that is
    /// not an absolute path is none (XDG Base Directory Specification).
    pub fn path(&self) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        if let Some(state_dir) = &self.state_dir {
            return state_dir.join(NAME);
        }
        match self.runtime_dir.as_deref().filter(|dir| Path::is_absolute(dir)) {
            Some(dir) => dir.join("portcullis").join(NAME),
            None => self.default_state_dir.join(NAME),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Whereabouts {
        Whereabouts {
            socket: Some("/s/own.sock".into()),
            state_dir: Some("/named".into()),
            runtime_dir: Some("/run/user/1000".into()),
            default_state_dir: "/home/ana/.local/state/portcullis".into(),
        }
    }

    #[test]
    fn what_is_named_goes_before_what_is_usual() {
        let mut at = all();
        assert_eq!(at.path(), Path::new("/s/own.sock"));
        at.socket = None;
        assert_eq!(at.path(), Path::new("/named/control.sock"));
        at.state_dir = None;
        assert_eq!(at.path(), Path::new("/run/user/1000/portcullis/control.sock"));
        at.runtime_dir = None;
        assert_eq!(at.path(), Path::new("/home/ana/.local/state/portcullis/control.sock"));
    }

    #[test]
    fn a_runtime_directory_that_is_not_absolute_is_none() {
        for odd in ["", "run", "./run"] {
            let at = Whereabouts {
                socket: None,
                state_dir: None,
                runtime_dir: Some(odd.into()),
                ..all()
            };
            assert_eq!(at.path(), Path::new("/home/ana/.local/state/portcullis/control.sock"));
        }
    }
}
