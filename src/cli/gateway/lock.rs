//! One gateway to a state directory: two would mix their journals and rotate each other's records.

use anyhow::Context;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The lock of a state directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub(in crate::cli) struct StateLock {
    #[expect(dead_code, reason = "the kernel holds the lock for as long as it is open")]
    file: File,
}

impl StateLock {
    /// Makes the directory (0700) where it is missing, and takes it.
    pub(in crate::cli) fn take(dir: &Path) -> anyhow::Result<Self> {
        let shown = dir.display();
        DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
            format!(
                "the state directory {shown} can't be made\n  fix: name another with --state-dir"
            )
        })?;
        let path = dir.join("gateway.lock");
        let opened =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let mut file = opened.with_context(|| format!("{} can't be opened", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = std::fs::read_to_string(&path).unwrap_or_default();
                let who =
                    pid.trim().parse::<u32>().map_or(String::new(), |pid| format!(", pid {pid}"));
                anyhow::bail!(
                    "another gateway{who}, runs with the state directory {shown}\n  fix: stop it, or name \
                     another directory with --state-dir"
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} can't be locked", path.display()));
            }
        }
        // Only for people: who holds it is known by the lock alone.
        if file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).is_err() {
            tracing::debug!("the pid could not be noted in {}", path.display());
        }
        Ok(Self { file })
    }
}
