//! A socket's place in the file system: taken from an owner that is gone, never from one that
//! listens, and never from what is no socket. It has its mode from the first moment, and is given
//! up if it is still the same.

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The longest path of a socket: `sun_path` without its NUL (unix(7)).
pub(super) const LONGEST: usize = 107;
/// The backlog.
const BACKLOG: i32 = 1024;

/// Why there is no socket at a place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system takes no such path.
    #[error("it is {0} bytes long and the system takes {LONGEST}\n  fix: name a shorter path")]
    TooLong(usize),
    /// Somebody listens.
    #[error("another program listens there\n  fix: stop it, or name another path")]
    Taken,
    /// Something else is there.
    #[error("what is there is not a socket\n  fix: remove it, or name another path")]
    NotASocket,
    /// It can't be made.
    #[error(transparent)]
    Io(#[from] io::Error),
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

/// Listens at `path`, with this mode. The listener does not block:
/// `tokio::net::UnixListener::from_std` takes it.
pub fn place(path: &Path, mode: u32) -> Result<(UnixListener, Placed), PlaceError> {
    let length = path.as_os_str().len();
    if length > LONGEST {
        return Err(PlaceError::TooLong(length));
    }
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The file gets the socket's mode, so that it is open to nobody for an instant; what the umask
    // took of it comes back.
    fchmod(&socket, Mode::from_raw_mode(mode)).map_err(io::Error::from)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = std::fs::symlink_metadata(path)?;
    let placed = Placed { path: path.into(), file: (made.dev(), made.ino()) };
    if made.mode() & 0o777 != mode & 0o777 {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok((socket.into(), placed))
}

/// Takes away a socket behind which nobody listens.
fn clear(path: &Path) -> Result<(), PlaceError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(there) if !there.file_type().is_socket() => return Err(PlaceError::NotASocket),
        Ok(_) => {}
    }
    // One that blocks would wait for an owner that is stopped, for as long as that is.
    let asks = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    #[expect(clippy::disallowed_methods, reason = "whether somebody listens at our own socket")]
    match asks.connect(&address) {
        Ok(()) => Err(PlaceError::Taken),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(std::fs::remove_file(path)?)
        }
        // A full backlog (EAGAIN) is somebody's too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(PlaceError::Taken),
        Err(error) => Err(error.into()),
    }
}
