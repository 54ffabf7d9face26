//! Files of the state directory that must be whole or absent, and private.
//!
//! Owns modes, atomic replacement and the lock between two starts. Knows nothing of what is in the
//! files. Invariant: under its final name a file is complete, and was never readable by others for
//! an instant if it is private.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Mode of a file that only the operator may read.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of a file that a sandbox may read.
pub(super) const PUBLIC: u32 = 0o644;

/// How long a start waits for another that is making the CA: that takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Makes `dir` (0700) where it is missing, and returns its mode.
pub(super) fn make_dir(dir: &Path) -> io::Result<u32> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    Ok(fs::metadata(dir)?.permissions().mode() & 0o7777)
}

/// An exclusive lock on the file `path`, made where it is missing, held until it is dropped.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(PRIVATE).open(path)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has held the lock for 10 s",
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A file's owner and mode bits, and its text.
pub(super) struct Read {
    pub(super) owner: u32,
    pub(super) mode: u32,
    pub(super) text: String,
}

/// Reads a whole file; owner and mode are those of the very file that was read.
pub(super) fn read(path: &Path) -> io::Result<Read> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let text = io::read_to_string(file)?;
    Ok(Read { owner: metadata.uid(), mode: metadata.permissions().mode() & 0o777, text })
}

/// Puts `contents` at `path` in one step: a new file beside it, synced, then renamed over it.
pub(super) fn replace(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:08x}", std::process::id(), random()?));
    let temporary = path.with_file_name(name);
    let written = write_new(&temporary, mode, contents).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not exist; what went wrong first is what is reported.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits that a sandbox needs for reading.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

fn random() -> io::Result<u32> {
    let mut bytes = [0; 4];
    super::DOWNSTREAM
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(u32::from_ne_bytes(bytes))
}
