//! One sandbox's directory of traffic files: naming, writing whole lines, rotating, removing.
//!
//! Invariant: a file holds whole lines, except that its very end may be torn where even cutting it
//! back failed; nothing is ever written behind a torn end, so no two lines are glued together.
//! Every start begins a new file, which keeps the same promise for what a crash tore.

use super::Settings;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The directory that gateway-wide events go to. No sandbox's directory begins with `_`.
pub(super) const GATEWAY: &str = "_gateway";

/// When a file was begun, in its name.
const STAMP: &str = "%Y-%m-%dT%H%M%S.%3f";
/// How long that is: `YYYY-MM-DDTHHMMSS.mmm`.
const STAMP_LENGTH: usize = 21;

/// One sandbox's directory and the file in it that is being written.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    open: Option<Open>,
    /// The name of the last file: names only go up, whatever the clock does. `None` until the
    /// first is made, which goes behind those of earlier runs.
    last: Option<(String, u32)>,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    /// What lies at `path` while it is this file.
    place: (u64, u64),
    /// Bytes of whole lines.
    size: u64,
}

/// What was written before a write failed, and why it did.
#[derive(Debug)]
pub(super) struct Torn {
    /// Bytes of whole lines that are in the file.
    pub(super) kept: usize,
    pub(super) source: io::Error,
}

/// Makes a directory, and what is missing above it, that only its owner enters.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The name of a sandbox's directory: letters, digits, `-`, `_` and `.` stay, except a `.` or `_`
/// in front; every other byte becomes `%XX`. Two sandboxes never share one, none leaves `traffic/`.
pub fn folder(sandbox: &str) -> String {
    use std::fmt::Write;
    let mut name = String::with_capacity(sandbox.len());
    for (i, byte) in sandbox.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || byte == b'-' || i > 0 && matches!(byte, b'.' | b'_');
        if plain {
            name.push(char::from(byte));
        } else {
            write!(name, "%{byte:02X}").expect("a String takes every text");
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

impl Files {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: None, last: None }
    }

    /// Appends whole lines with one write, in a new file where the current one is full or gone.
    pub(super) fn append(&mut self, lines: &[u8], settings: &Settings) -> Result<(), Torn> {
        let nothing = |source| Torn { kept: 0, source };
        let full = |open: &Open| {
            open.size > 0 && open.size.saturating_add(lines.len() as u64) > settings.rotate
        };
        if self.open.as_ref().is_some_and(|open| full(open) || open.is_gone()) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                make_dir(&self.dir).map_err(nothing)?;
                sweep(&self.dir, settings, &Room::For(settings.rotate));
                let open = self.create().map_err(nothing)?;
                self.open.insert(open)
            }
        };
        let torn = match open.append(lines) {
            Ok(()) => return Ok(()),
            Err(torn) => torn,
        };
        // What can't be cut back to whole lines is never written to again; what this file can't
        // take, the next may. An empty file is not left behind at every attempt.
        let cut = open.file.set_len(open.size);
        if open.size == 0 {
            let _ = fs::remove_file(&open.path);
        }
        if cut.is_err() || open.size == 0 || torn.source.kind() == io::ErrorKind::FileTooLarge {
            self.open = None;
        }
        Err(torn)
    }

    /// Removes what is too old or too much.
    pub(super) fn sweep(&self, settings: &Settings) {
        let room = self.open.as_ref().map_or(Room::None, |open| Room::Beside(&open.path));
        sweep(&self.dir, settings, &room);
    }

    fn create(&mut self) -> io::Result<Open> {
        let now = jiff::Timestamp::try_from(SystemTime::now()).map_err(io::Error::other)?;
        let mut stamp = now.strftime(STAMP).to_string();
        let mut number = 0;
        let last = self.last.clone().or_else(|| newest(&self.dir));
        if let Some((last, n)) = last
            && stamp <= last
        {
            (stamp, number) = next(last, n);
        }
        loop {
            let path = self.dir.join(format!("{stamp}-{number:04}.jsonl"));
            let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
                Ok(file) => {
                    self.last = Some((stamp, number));
                    let about = file.metadata()?;
                    return Ok(Open { file, place: place(&about), path, size: 0 });
                }
            }
        }
    }
}

/// The name of a directory's newest file.
fn newest(dir: &Path) -> Option<(String, u32)> {
    // What can't be listed is written to all the same: then the clock alone gives the order.
    let newest = list(dir).ok()?.pop()?;
    let (stamp, number) = newest.path.file_stem()?.to_str()?.split_at_checked(STAMP_LENGTH)?;
    Some((stamp.to_owned(), number.strip_prefix('-')?.parse().ok()?))
}

/// The name behind this one. Numbers stay at four digits, or they would not sort.
fn next(stamp: String, number: u32) -> (String, u32) {
    if number < 9999 {
        return (stamp, number + 1);
    }
    let later = jiff::civil::DateTime::strptime(STAMP, &stamp)
        .and_then(|time| time.checked_add(jiff::Span::new().milliseconds(1)));
    match later {
        Ok(later) => (later.strftime(STAMP).to_string(), 0),
        Err(_) => (stamp, number.saturating_add(1)),
    }
}

/// Which file it is, whatever its name: device and inode.
fn place(about: &fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

impl Open {
    /// Whether the file was removed, or moved away with the directories above it: what is written
    /// now would be seen by nobody.
    fn is_gone(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(there) => place(&there) != self.place,
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), Torn> {
        let mut written = 0;
        while written < lines.len() {
            let source = match self.file.write(&lines[written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    written += n;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let kept = lines[..written].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.size += kept as u64;
            return Err(Torn { kept, source });
        }
        self.size += lines.len() as u64;
        Ok(())
    }
}

/// What is to have room in a directory beside the files that stay.
enum Room<'a> {
    /// Nothing: nobody writes there.
    None,
    /// The file that is being written.
    Beside(&'a Path),
    /// A new file, which may grow to this size.
    For(u64),
}

/// Removes traffic files that are older than `keep_for` and the oldest until there is room: always
/// the oldest first, and none before one that was written earlier. Files of other names are left alone. What can't be removed is no reason to stop writing.
fn sweep(dir: &Path, settings: &Settings, room: &Room<'_>) {
    if let Err(error) = try_sweep(dir, settings, room, |path| fs::remove_file(path)) {
        tracing::warn!(dir = %dir.display(), %error, "old traffic files can't be removed");
    }
}

/// Goes on where one can't be removed, and gives the first reason.
fn try_sweep(
    dir: &Path,
    settings: &Settings,
    room: &Room<'_>,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut files = list(dir)?;
    let mut total: u64 = files.iter().map(|file| file.size).sum();
    let mut count = files.len();
    match room {
        Room::None => {}
        Room::Beside(open) => files.retain(|file| file.path != *open),
        Room::For(size) => {
            total = total.saturating_add(*size);
            count += 1;
        }
    }
    let mut kept = None;
    let ages = ages(&files);
    for (file, age) in files.into_iter().zip(ages) {
        let over = total > settings.max_size || settings.keep.is_some_and(|keep| count > keep);
        if age <= settings.keep_for && !over {
            // What is behind it was written later, whatever its time says.
            break;
        }
        match remove(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                kept.get_or_insert(error);
                continue;
            }
            Ok(()) | Err(_) => {}
        }
        total = total.saturating_sub(file.size);
        count -= 1;
    }
    kept.map_or(Ok(()), Err)
}

/// How long ago each file was written to. One with a time that is yet to come (the clock was set
/// back) is as old as the one that was written after it: it is not kept for longer.
fn ages(files: &[Found]) -> Vec<Duration> {
    let now = SystemTime::now();
    let mut later = Duration::ZERO;
    let mut ages: Vec<Duration> = Vec::with_capacity(files.len());
    for file in files.iter().rev() {
        later = now.duration_since(file.modified).unwrap_or(later);
        ages.push(later);
    }
    ages.reverse();
    ages
}

/// Sweeps the directories of sandboxes that nobody writes for, and removes those left empty.
pub(super) fn sweep_others(traffic: &Path, busy: &HashSet<String>, settings: &Settings) {
    for entry in fs::read_dir(traffic).into_iter().flatten().flatten() {
        let known = entry.file_name().to_str().is_some_and(|name| busy.contains(name));
        if !known && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(&entry.path(), settings, &Room::None);
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A traffic file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// The traffic files of a directory, the oldest first. A directory that is not there has none.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let ours = entry.file_name().to_str().is_some_and(is_traffic_file);
        if let (true, Ok(meta)) = (ours, entry.metadata())
            && meta.is_file()
        {
            let modified = meta.modified()?;
            found.push(Found { path: entry.path(), size: meta.len(), modified });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// [`STAMP`]`-N.jsonl`.
fn is_traffic_file(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".jsonl") else { return false };
    let shape = b"0000-00-00T000000.000-";
    let (stamp, number) = stem.as_bytes().split_at(shape.len().min(stem.len()));
    let same =
        |(got, want): (&u8, &u8)| if *want == b'0' { got.is_ascii_digit() } else { got == want };
    stamp.len() == shape.len()
        && stamp.iter().zip(shape).all(same)
        && !number.is_empty()
        && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings { rotate: 100, ..Settings::in_state_dir(dir) }
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |file: Found| file.path.file_name().unwrap().to_str().unwrap().to_owned();
        list(dir).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn a_sandbox_name_never_leaves_the_directory_and_never_meets_another() {
        let odd =
            ["agent", "a.b_c-1", "..", ".", "", "../x", "a/b", "%", "%2F", "_gateway", ".x", "é"];
        let folders: HashSet<String> = odd.iter().map(|name| folder(name)).collect();
        assert_eq!(folders.len(), odd.len());
        assert_eq!(folder("agent"), "agent");
        assert_eq!(folder("_gateway"), "%5Fgateway");
        assert!(folders.iter().all(|name| !name.contains('/') && !name.starts_with(['.', '_'])));
    }

    #[test]
    fn names_sort_in_the_order_of_writing_within_a_millisecond_too() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let mut files = Files::new(dir.path().join("agent"));
        for i in 0..40 {
            files.append(format!("{i:099}\n").as_bytes(), &settings).unwrap();
        }
        let text: Vec<String> = list(&files.dir)
            .unwrap()
            .iter()
            .map(|file| fs::read_to_string(&file.path).unwrap())
            .collect();
        assert_eq!(text, (0..40).map(|i| format!("{i:099}\n")).collect::<Vec<_>>());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&files.dir), 0o700);
        assert_eq!(mode(&list(&files.dir).unwrap()[0].path), 0o600);
    }

    #[test]
    fn the_oldest_files_go_first_and_strange_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { max_size: 350, ..settings(dir.path()) };
        let mut files = Files::new(dir.path().to_owned());
        fs::write(dir.path().join("notes.jsonl"), "mine\n").unwrap();
        for i in 0..10 {
            files.append(format!("{i:099}\n").as_bytes(), &settings).unwrap();
        }
        let kept = names(dir.path());
        assert_eq!(kept.len(), 3, "{kept:?}");
        let newest = fs::read_to_string(dir.path().join(&kept[2])).unwrap();
        assert!(newest.ends_with("9\n"));
        assert!(dir.path().join("notes.jsonl").exists());
    }

    #[test]
    fn files_older_than_keep_for_go_and_a_count_can_be_set() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let mut files = Files::new(dir.path().to_owned());
        for i in 0..5 {
            files.append(format!("{i:099}\n").as_bytes(), &settings).unwrap();
        }
        let old = &list(dir.path()).unwrap()[0].path;
        let long_ago = SystemTime::now() - settings.keep_for - Duration::from_secs(60);
        File::open(old).unwrap().set_modified(long_ago).unwrap();
        files.sweep(&settings);
        assert_eq!(names(dir.path()).len(), 4);
        files.sweep(&Settings { keep: Some(2), ..settings.clone() });
        assert_eq!(names(dir.path()).len(), 2);
        files.append(&[b'x'; 100], &Settings { keep: Some(2), ..settings }).unwrap();
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn a_file_that_was_removed_is_followed_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let mut files = Files::new(dir.path().join("agent"));
        files.append(b"one\n", &settings).unwrap();
        fs::remove_dir_all(&files.dir).unwrap();
        files.append(b"two\n", &settings).unwrap();
        let found = list(&files.dir).unwrap();
        assert_eq!(fs::read_to_string(&found[0].path).unwrap(), "two\n");
    }

    #[test]
    fn a_clock_that_was_set_back_over_a_restart_removes_the_oldest_first_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { keep: Some(3), ..settings(dir.path()) };
        let ahead = ["2099-01-01T000000.000-0000.jsonl", "2099-01-01T000000.000-9998.jsonl"];
        for (n, name) in ahead.iter().enumerate() {
            fs::write(dir.path().join(name), format!("{n}\n")).unwrap();
        }
        let text = || -> String {
            let files = list(dir.path()).unwrap();
            files.iter().map(|file| fs::read_to_string(&file.path).unwrap()).collect()
        };
        for n in 2..6 {
            // A new one each time, as after a restart.
            let mut files = Files::new(dir.path().to_owned());
            files.append(format!("{n}\n").as_bytes(), &settings).unwrap();
        }
        assert_eq!(text(), "3\n4\n5\n");
        assert!(names(dir.path())[2].starts_with("2099-01-01T000000.001-0002"));
    }

    #[test]
    fn a_file_with_a_time_that_is_yet_to_come_goes_with_the_one_written_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let mut files = Files::new(dir.path().to_owned());
        for i in 0..4 {
            files.append(format!("{i:099}\n").as_bytes(), &settings).unwrap();
        }
        let found = list(dir.path()).unwrap();
        let now = SystemTime::now();
        let set = |at: usize, time| File::open(&found[at].path).unwrap().set_modified(time);
        set(0, now + settings.keep_for).unwrap();
        files.sweep(&settings);
        assert_eq!(names(dir.path()).len(), 4);
        set(1, now - settings.keep_for - Duration::from_secs(60)).unwrap();
        files.sweep(&settings);
        assert_eq!(names(dir.path()).len(), 2);
        // The clock was back for an hour: what was written then is not older than what was before.
        set(2, now).unwrap();
        let mut files = Files::new(dir.path().to_owned());
        set(3, now - settings.keep_for - Duration::from_secs(60)).unwrap();
        files.append(b"new\n", &settings).unwrap();
        assert_eq!(names(dir.path()).len(), 3);
    }

    #[test]
    fn a_file_that_can_not_be_removed_keeps_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let stuck = dir.path().join("0000-00-00T000000.000-0000.jsonl");
        let mut files = Files::new(dir.path().to_owned());
        for i in 0..3 {
            files.append(format!("{i:099}\n").as_bytes(), &settings).unwrap();
        }
        let removed = |path: &Path| match path == stuck {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => fs::remove_file(path),
        };
        fs::write(&stuck, "stuck\n").unwrap();
        let settings = Settings { keep: Some(2), ..settings };
        let error = try_sweep(dir.path(), &settings, &Room::None, removed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(names(dir.path()).len(), 2);
        assert!(stuck.exists());
    }

    #[test]
    fn a_directory_that_was_moved_away_is_followed_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let (traffic, away) = (dir.path().join("traffic"), dir.path().join("away"));
        let mut files = Files::new(traffic.join("agent"));
        files.append(b"one\n", &settings).unwrap();
        fs::rename(&traffic, &away).unwrap();
        files.append(b"two\n", &settings).unwrap();
        files.append(b"three\n", &settings).unwrap();
        let text = |dir: &Path| fs::read_to_string(&list(dir).unwrap()[0].path).unwrap();
        assert_eq!(text(&away.join("agent")), "one\n");
        assert_eq!(text(&files.dir), "two\nthree\n");
    }
}
