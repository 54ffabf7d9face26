//! The control socket: 0600 in a directory that nobody else can change, taken by one gateway at a
//! time.

use super::place::{LONGEST, PlaceError, Placed, place};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system takes no such path.
    #[error(
        "the control socket's path {} is {} bytes long and the system takes {LONGEST}\n  \
         fix: name a shorter one with --socket", path.display(), path.as_os_str().len()
    )]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Somebody listens.
    #[error(
        "another gateway listens at {}\n  fix: stop it, or name another socket with --socket",
        path.display()
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error(
        "{} is there and is not a socket\n  fix: remove it, or name another socket with --socket",
        path.display()
    )]
    NotASocket {
        /// What.
        path: PathBuf,
    },
    /// Others could put their own socket there.
    #[error(
        "the directory {0} of the control socket can be written by others (mode {mode:04o})\n  \
         fix: chmod 700 {0}", path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory or the socket can't be made.
    #[error("the control socket {} can't be made: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens at `path`. Its directory is made (0700) where it is missing. The listener does not
/// block: `tokio::net::UnixListener::from_std` takes it.
pub fn bind(path: &Path) -> Result<(UnixListener, Placed), BindError> {
    let refused = |error| {
        let path = path.into();
        match error {
            PlaceError::TooLong(_) => BindError::TooLong { path },
            PlaceError::Taken => BindError::Taken { path },
            PlaceError::NotASocket => BindError::NotASocket { path },
            PlaceError::Io(source) => BindError::Io { path, source },
        }
    };
    let length = path.as_os_str().len();
    if length > LONGEST {
        return Err(refused(PlaceError::TooLong(length)));
    }
    directory(path)?;
    // Two gateways that start together would each find the other's socket stale.
    let _turn = turn(path).map_err(|error| refused(error.into()))?;
    place(path, 0o600).map_err(refused)
}

fn directory(path: &Path) -> Result<(), BindError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let io = |source| BindError::Io { path: path.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let mode = std::fs::metadata(dir).map_err(io)?.mode() & 0o7777;
    // In a sticky directory (/tmp) nobody else can take the socket away.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(BindError::Open { path: dir.into(), mode });
    }
    Ok(())
}

fn turn(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let file = options.open(name)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
