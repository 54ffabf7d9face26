//! The socket's place in the file system: 0600 in a directory that nobody else can change, taken
//! from a gateway that is gone and never from one that listens.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path of a socket: `sun_path` without its NUL (unix(7)).
const LONGEST: usize = 107;

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

/// The socket's file. It is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct Placed {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Placed {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == self.file)
        {
            // Where it can't be removed the next gateway finds nobody behind it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`. Its directory is made (0700) where it is missing. The listener does not
/// block: `tokio::net::UnixListener::from_std` takes it.
pub fn bind(path: &Path) -> Result<(UnixListener, Placed), BindError> {
    if path.as_os_str().len() > LONGEST {
        return Err(BindError::TooLong { path: path.into() });
    }
    let io = |source| BindError::Io { path: path.into(), source };
    directory(path)?;
    // Two gateways that start together would each find the other's socket stale.
    let _turn = turn(path).map_err(io)?;
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    listener.set_nonblocking(true).map_err(io)?;
    let made = std::fs::symlink_metadata(path).map_err(io)?;
    Ok((listener, Placed { path: path.into(), file: (made.dev(), made.ino()) }))
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

/// Takes away a socket behind which nobody listens.
fn clear(path: &Path) -> Result<(), BindError> {
    let io = |source| BindError::Io { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    #[expect(clippy::disallowed_methods, reason = "whether a gateway listens at its own socket")]
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::Taken { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io)
        }
        // A full backlog (EAGAIN) is somebody's too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::Taken { path: path.into() })
        }
        Err(error) => Err(io(error)),
    }
}
