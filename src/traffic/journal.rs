//! `open.json`: tunnels and streams that have been open for long, so that none ends without a
//! record even where the gateway dies.
//!
//! The file is replaced whole. A record is written before it leaves the journal, so after a crash
//! one may stand in both: recovery looks for it among the lines that were written last.

use super::Settings;
use super::file::{folder, list};
use crate::policy::Code;
use crate::record::{Outcome, RecordLine};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How much older than the journal a file's last line may be and still hold a record of it.
const SLACK: Duration = Duration::from_secs(60);

#[derive(serde::Deserialize)]
struct Journal {
    open: Vec<RecordLine>,
}

/// Replaces the journal: `{"v":1,"open":[line,…]}`, 0600.
pub(super) fn write(path: &Path, lines: &[Vec<u8>]) -> io::Result<()> {
    let mut text = b"{\"v\":1,\"open\":[\n".to_vec();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            text.extend_from_slice(b",\n");
        }
        text.extend_from_slice(line.trim_ascii_end());
    }
    text.extend_from_slice(b"\n]}\n");
    let fresh = path.with_extension("json.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&text)?;
    fs::rename(&fresh, path)
}

/// What an earlier run left open and never wrote, as lines that say `interrupted`. A journal that
/// is not one is set aside as `open.json.bad`: it must not keep the gateway from starting.
pub(super) fn recover(settings: &Settings) -> io::Result<Vec<RecordLine>> {
    let path = &settings.journal;
    let (text, written) =
        match fs::read(path).and_then(|t| Ok((t, fs::metadata(path)?.modified()?))) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
    let open = match serde_json::from_slice::<Journal>(&text) {
        Ok(journal) => journal.open,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the journal of open tunnels is damaged; set aside");
            fs::rename(path, path.with_extension("json.bad"))?;
            return Ok(Vec::new());
        }
    };
    let mut by_folder: HashMap<String, Vec<RecordLine>> = HashMap::new();
    for line in open {
        by_folder.entry(folder(line.sandbox.as_deref().unwrap_or(""))).or_default().push(line);
    }
    let mut interrupted = Vec::new();
    for (folder, lines) in by_folder {
        let ids = lines.iter().filter_map(|line| line.id.clone()).collect();
        let done = recorded(&settings.dir.join(folder), ids, written)?;
        let left =
            lines.into_iter().filter(|line| line.id.as_ref().is_none_or(|id| !done.contains(id)));
        interrupted.extend(left.map(interrupt));
    }
    interrupted.sort_by(|a, b| a.time.cmp(&b.time));
    Ok(interrupted)
}

fn interrupt(line: RecordLine) -> RecordLine {
    RecordLine {
        outcome: Some(Outcome::Failed),
        code: Some(Code::Interrupted.as_str().to_owned()),
        ..line
    }
}

/// Which of `ids` have a line in the files of `dir` that were written since the journal was.
fn recorded(dir: &Path, ids: HashSet<String>, since: SystemTime) -> io::Result<HashSet<String>> {
    let mut found = HashSet::new();
    for file in list(dir)?.into_iter().rev() {
        if file.modified + SLACK < since {
            break;
        }
        let mut lines = BufReader::new(File::open(file.path)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some(id) = line_id(&line).filter(|id| ids.contains(*id)) {
                found.insert(id.to_owned());
            }
            line.clear();
        }
    }
    Ok(found)
}

/// The id of a whole line, as the writer puts it: `"id":"` stands before anything a client names.
fn line_id(line: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"id\":\"";
    if !line.ends_with(b"\n") {
        return None;
    }
    let at = line.windows(KEY.len()).take(80).position(|w| w == KEY)? + KEY.len();
    str::from_utf8(line.get(at..at + 26)?).ok()
}
