//! Running a command for its output.
//!
//! It has a deadline, its own process group, no input, and the gateway's environment without the
//! other credentials. What it says on its error output goes to the log, masked.

use super::error::Cause;
use crate::addr::Shown;
use crate::secret::{MAX_BYTES, Needles, Secret};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// How much of the error output is kept, in bytes.
const SAID: usize = 8 * 1024;

/// What is run.
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) argv: &'a [String],
    pub(super) timeout: Duration,
    /// Variables that it does not get.
    pub(super) hidden: &'a [String],
    /// What is masked in what it says, beside the value itself.
    pub(super) needles: &'a Needles,
}

/// The whole group of a child, ended unless the child has ended by itself.
struct Group(Option<rustix::process::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Run<'_> {
    /// Runs it and reads its output as a value.
    pub(super) async fn value(&self) -> Result<Secret, Cause> {
        let program = self.argv.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(self.argv.iter().skip(1));
        self.hidden.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.process_group(0).kill_on_drop(true).spawn();
        let mut child =
            started.map_err(|error| Cause::NotStarted(program.clone(), error.kind()))?;
        let mut group =
            Group(child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())));
        let Ok(ended) = tokio::time::timeout(self.timeout, outputs(&mut child)).await else {
            return Err(Cause::TooSlow(program, self.timeout));
        };
        let (mut output, said, status) =
            ended.map_err(|error| Cause::Output(program.clone(), error.kind()))?;
        // From here on its number may be another's.
        group.0 = None;
        let secret = Secret::read(std::mem::take(&mut *output));
        self.log(&said, secret.as_ref().ok());
        if !status.success() {
            return Err(Cause::Exited(program, status.code()));
        }
        Ok(secret?)
    }

    fn log(&self, said: &[u8], secret: Option<&Secret>) {
        let own = secret.map_or_else(Needles::none, |secret| Needles::new([secret]));
        // Masked before it is cut into lines: nothing is put together from two of them.
        let masked = own.mask(said);
        let masked = self.needles.mask(&masked);
        for line in String::from_utf8_lossy(&masked).lines().filter(|line| !line.trim().is_empty())
        {
            tracing::warn!(credential = %Shown::new(self.name), "its command says: {}", Shown::new(line));
        }
    }
}

type Outputs = (Zeroizing<Vec<u8>>, Vec<u8>, std::process::ExitStatus);

async fn outputs(child: &mut Child) -> std::io::Result<Outputs> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async {
        let mut output = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 3));
        match stdout {
            Some(stdout) => read(stdout, MAX_BYTES + 3, &mut output).await.map(|()| output),
            None => Ok(output),
        }
    };
    let said = async {
        let mut said = Vec::new();
        match stderr {
            Some(stderr) => read(stderr, SAID, &mut said).await.map(|()| said),
            None => Ok(said),
        }
    };
    let (output, said) = tokio::try_join!(output, said)?;
    Ok((output, said, child.wait().await?))
}

/// Reads to the end; what is beyond `limit` is read and let go, so that the program does not stand
/// still on a full pipe.
async fn read(
    mut from: impl AsyncRead + Unpin,
    limit: usize,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut piece = Zeroizing::new([0; 1024]);
    loop {
        let n = from.read(&mut *piece).await?;
        if n == 0 {
            return Ok(());
        }
        let room = limit.saturating_sub(into.len());
        into.extend_from_slice(&piece[..n.min(room)]);
    }
}
