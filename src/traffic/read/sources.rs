//! Which files a recording is made of, and in which order they are read.

use super::{ReadError, Stamp};
use crate::addr::Shown;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of a recording, or stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file; `None` for stdin.
    pub path: Option<PathBuf>,
    /// Its size in bytes as it lies there; 0 where it is not known.
    pub size: u64,
}

impl Source {
    /// As it is shown to people.
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => Shown::new(&path.to_string_lossy()).to_string(),
            None => "(stdin)".to_owned(),
        }
    }
}

/// The files that `paths` name: a file, `-` for stdin, or a directory with all that is below it.
///
/// What is named is read in the order of naming; what a directory holds, in the order of time (by
/// the name of a traffic file, else by when the file was last written). Of a directory only files
/// with the endings of logs and HARs are taken, and none that was last written before `since`.
pub fn sources(paths: &[PathBuf], since: Option<Stamp>) -> Result<Vec<Source>, ReadError> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            found.push(Source { path: None, size: 0 });
            continue;
        }
        let unreadable = |why| ReadError::Unreadable { path: path.clone(), why };
        let meta = fs::metadata(path).map_err(unreadable)?;
        if !meta.is_dir() {
            found.push(Source { path: Some(path.clone()), size: meta.len() });
            continue;
        }
        let mut below = Vec::new();
        walk(path, &mut below)?;
        below.retain(|file| since.is_none_or(|since| file.written >= since));
        below.sort_by(|a, b| (a.began, &a.path).cmp(&(b.began, &b.path)));
        found.extend(below.into_iter().map(|f| Source { path: Some(f.path), size: f.size }));
    }
    Ok(found)
}

struct Below {
    began: Stamp,
    written: Stamp,
    path: PathBuf,
    size: u64,
}

/// Every file below `dir`. A link to a directory is not followed, so that no circle is walked.
fn walk(dir: &Path, found: &mut Vec<Below>) -> Result<(), ReadError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| ReadError::Unreadable { path, why }
    };
    for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
        let entry = entry.map_err(unreadable(dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(unreadable(&path))?.is_dir() {
            walk(&path, found)?;
            continue;
        }
        let meta = match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && is_recording(&name) => meta,
            // What the gateway has just removed, or what is no file.
            Ok(_) | Err(_) => continue,
        };
        let written = meta.modified().map_err(unreadable(&path))?;
        let written = jiff::Timestamp::try_from(written).map_or(0, |time| time.as_microsecond());
        let written = Stamp(written);
        let began = began(&name).unwrap_or(written);
        found.push(Below { began, written, path, size: meta.len() });
    }
    Ok(())
}

/// `2026-11-23T014114.901-0001.jsonl`, packed or not: when the file was begun.
fn began(name: &str) -> Option<Stamp> {
    let stamp = name.get(..21)?;
    let (day, time) = stamp.split_once('T')?;
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let at = format!("{day}T{hour}:{minute}:{second}Z").parse::<jiff::Timestamp>().ok()?;
    name[21..].starts_with('-').then_some(Stamp(at.as_microsecond()))
}

/// By its ending: `.jsonl`, `.ndjson`, `.json`, `.har`, `.log`, each also packed or numbered.
fn is_recording(name: &str) -> bool {
    let mut rest = name;
    for ending in [".gz", ".gzip", ".zst", ".zstd"] {
        rest = rest.strip_suffix(ending).unwrap_or(rest);
    }
    if let Some((before, number)) = rest.rsplit_once('.')
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        rest = before;
    }
    [".jsonl", ".ndjson", ".json", ".har", ".log"].iter().any(|ending| rest.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_in_the_order_of_time_whatever_sandbox_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "b/2026-11-22T000000.000-0000.jsonl.gz",
            "a/2026-11-23T000000.000-0000.jsonl",
            "a/2026-11-23T000000.000-0001.jsonl.zst",
            "b/2026-11-24T000000.000-0000.jsonl",
        ];
        for name in names.iter().rev() {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}\n").unwrap();
        }
        fs::write(dir.path().join("a/README.md"), "no traffic").unwrap();
        fs::write(dir.path().join(".hidden.jsonl"), "{}").unwrap();
        let found = sources(&[dir.path().to_owned()], None).unwrap();
        let found: Vec<_> = found.iter().map(|s| s.path.clone().unwrap()).collect();
        assert_eq!(found, names.map(|name| dir.path().join(name)));
        let future = Some(Stamp(i64::MAX));
        assert_eq!(sources(&[dir.path().to_owned()], future).unwrap(), []);
    }

    #[test]
    fn endings_of_recordings_are_known_packed_and_numbered() {
        for name in ["a.jsonl", "a.har", "a.log.1", "openshell-ocsf.2026-04-01.log", "a.json.zst"] {
            assert!(is_recording(name), "{name}");
        }
        for name in ["a", "a.md", "open.db", "a.gz", "jsonl"] {
            assert!(!is_recording(name), "{name}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_name() {
        let error = sources(&["/nowhere/x.jsonl".into()], None).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.jsonl: "), "{error}");
    }
}
