//! Whether a file is being written: somebody has it open for that, and what it says now may be
//! half of what it will say.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `F_SETSIG` (fcntl(2)): libc has no name for it.
const SET_SIGNAL: libc::c_int = 10;

/// Whether another descriptor has the file open for writing. `false` where that can't be told: the
/// file is another user's, or its file system has no leases.
pub(super) fn is_written(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    // To open a pipe is to wait for its writer.
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let Ok(file) = options.open(path) else { return false };
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return false;
    }
    // Who opens it for writing while the lease is held has the holder told by a signal: by one that
    // does nothing, where the usual one would end the process.
    if control(&file, SET_SIGNAL, libc::SIGURG).is_err() {
        return false;
    }
    match control(&file, libc::F_SETLEASE, libc::F_RDLCK) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(()) => {
            // Closing the file would give it up, too.
            let _ = control(&file, libc::F_SETLEASE, libc::F_UNLCK);
            false
        }
    }
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe interface has leases")]
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the commands that are
    // passed here take an integer and no pointer (fcntl(2)).
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_being_written_for_as_long_as_somebody_has_it_open_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        assert!(!is_written(&path));
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"half").unwrap();
        let reader = File::open(&path).unwrap();
        assert!(is_written(&path));
        drop(writer);
        assert!(!is_written(&path));
        drop(reader);
        // It leaves nothing behind that would keep a writer out.
        drop(OpenOptions::new().write(true).open(&path).unwrap());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_written(dir.path()));
        assert!(!is_written(Path::new("/dev/null")));
    }
}
