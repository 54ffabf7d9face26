//! Reading the traffic files of the state directory, newest first or from a time on. No gateway
//! need run.

use crate::config::readable;
use crate::record::Line;
use anyhow::{Context, anyhow};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much of a file's end is read at first.
const END: u64 = 64 << 10;

/// A line, and what it says.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) line: Line,
}

impl Written {
    fn of(text: String) -> Option<Self> {
        let line = serde_json::from_str(&text).ok()?;
        Some(Self { text, line })
    }

    /// When it began, as it is written: RFC 3339 in UTC, so that the order of texts is that of
    /// times.
    pub(super) fn time(&self) -> &str {
        match &self.line {
            Line::Event(event) => &event.time,
            Line::Record(record) => record.time.as_deref().unwrap_or_default(),
        }
    }

    /// Whether it is of this sandbox. Events of the whole gateway are of every one.
    fn of_sandbox(&self, sandbox: Option<&str>) -> bool {
        let Some(wanted) = sandbox else { return true };
        match &self.line {
            Line::Event(event) => event.sandbox.as_deref().is_none_or(|name| name == wanted),
            Line::Record(record) => record.sandbox.as_deref() == Some(wanted),
        }
    }
}

/// The last `n` lines below `dir`, the oldest first.
pub(super) fn last(dir: &Path, n: usize, sandbox: Option<&str>) -> anyhow::Result<Vec<Written>> {
    let mut lines: Vec<Written> = Vec::new();
    for files in folders(dir)? {
        let mut found: Vec<Written> = Vec::new();
        for file in files.iter().rev() {
            if found.len() >= n {
                break;
            }
            let missing = n - found.len();
            let context = || format!("{} can't be read", file.display());
            let mut end = match end(file, missing, sandbox) {
                Err(error) if was_swept(&error) => continue,
                end => end.with_context(context)?,
            };
            end.append(&mut found);
            found = end;
        }
        lines.append(&mut found);
    }
    lines.sort_by(|a, b| a.time().cmp(b.time()));
    lines.drain(..lines.len().saturating_sub(n));
    Ok(lines)
}

/// The last `n` lines of one file that are of the sandbox.
fn end(path: &Path, n: usize, sandbox: Option<&str>) -> std::io::Result<Vec<Written>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut take = END.min(size);
    loop {
        file.seek(SeekFrom::Start(size - take))?;
        let mut bytes = Vec::new();
        (&mut file).take(take).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // What begins in the middle is no line, unless it begins the file.
        let whole = if take == size { Some(&*text) } else { text.split_once('\n').map(|p| p.1) };
        let lines = whole.unwrap_or_default().lines().map(str::to_owned).filter_map(Written::of);
        let mut lines: Vec<Written> = lines.filter(|line| line.of_sandbox(sandbox)).collect();
        if take == size || lines.len() >= n {
            lines.drain(..lines.len().saturating_sub(n));
            return Ok(lines);
        }
        take = (take * 4).min(size);
    }
}

/// Gives every line from `since` on to `see`, the folders one after the other.
pub(super) fn since(
    dir: &Path,
    since: jiff::Timestamp,
    sandbox: Option<&str>,
    mut see: impl FnMut(&Written),
) -> anyhow::Result<()> {
    let from = SystemTime::from(since);
    for file in folders(dir)?.into_iter().flatten() {
        let context = || format!("{} can't be read", file.display());
        let open = match File::open(&file) {
            Err(error) if was_swept(&error) => continue,
            open => open.with_context(context)?,
        };
        // Nothing was written to it since.
        if open.metadata().and_then(|about| about.modified()).is_ok_and(|last| last < from) {
            continue;
        }
        for line in BufReader::new(open).split(b'\n') {
            let text = String::from_utf8_lossy(&line.with_context(context)?).into_owned();
            let Some(read) = Written::of(text) else { continue };
            let late = read.time().parse::<jiff::Timestamp>().is_ok_and(|time| time >= since);
            if late && read.of_sandbox(sandbox) {
                see(&read);
            }
        }
    }
    Ok(())
}

/// What is gone since it was found is what the gateway no longer keeps.
fn was_swept(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// The files of each folder, the oldest first: their names are times.
fn folders(dir: &Path) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let context = || format!("the traffic directory {} can't be read", dir.display());
    let other = "name the gateway's own with --state-dir or --config";
    let mut folders = Vec::new();
    let below = std::fs::read_dir(dir)
        .map_err(|why| anyhow!("{}: {why}\n  fix: {}", context(), readable(&why, other)))?;
    for folder in below {
        let folder = folder.with_context(context)?.path();
        if !folder.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        let found = match std::fs::read_dir(&folder) {
            Err(error) if was_swept(&error) => continue,
            found => found.with_context(context)?,
        };
        for file in found {
            let file = file.with_context(context)?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(file);
            }
        }
        files.sort();
        folders.push(files);
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_swept_away_while_others_are_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("agent");
        std::fs::create_dir(&folder).unwrap();
        let line = "{\"v\":1,\"time\":\"2026-11-22T15:12:24Z\",\"event\":\"gateway.stop\"}\n";
        for name in ["a.jsonl", "c.jsonl"] {
            std::fs::write(folder.join(name), line).unwrap();
        }
        // Found by its name, and gone when it is opened.
        std::os::unix::fs::symlink("gone", folder.join("b.jsonl")).unwrap();
        assert_eq!(last(dir.path(), 9, None).unwrap().len(), 2);
        let mut seen = 0;
        since(dir.path(), jiff::Timestamp::UNIX_EPOCH, None, |_| seen += 1).unwrap();
        assert_eq!(seen, 2);
    }
}
