//! `/proc`, one process at a time.
//!
//! Owns reading a process: its uid, its descriptors, its executable, its parent. Invariant: all
//! that is read of a [`Pinned`] process is of one and the same process, because its directory is
//! held open: after its death every read fails, also when its pid lives again.

use rustix::fs::{Mode, OFlags, RawDir, fstat, openat, readlinkat_raw, stat, statat};
use std::ffi::CStr;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Ancestors that are looked at; a longer line is cut.
const MAX_ANCESTORS: usize = 64;
/// Descriptors between two looks at the clock.
const PER_LOOK: usize = 256;

/// The `/proc` of our pid namespace.
#[derive(Debug)]
pub(super) struct Processes {
    root: OwnedFd,
}

/// A process whose directory is held open.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) pid: u32,
    dir: OwnedFd,
}

/// How a descriptor of a socket reads in `/proc/PID/fd`.
pub(super) struct Link(String);

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Clock ticks since boot.
    started: u64,
    /// What the parent gets when it ends; -1 for a thread that is not the first of its process.
    exit_signal: i32,
}

impl Link {
    pub(super) fn to_socket(inode: u64) -> Self {
        Self(format!("socket:[{inode}]"))
    }
}

impl Processes {
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open("/proc", flags, Mode::empty())? })
    }

    pub(super) fn pin(&self, pid: u32) -> Option<Pinned> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&self.root, decimal(pid, &mut [0; 11]), flags, Mode::empty()).ok()?;
        Some(Pinned { pid, dir })
    }

    /// The pid that was given out last (`/proc/loadavg`, the last field).
    pub(super) fn newest(&self) -> Option<u32> {
        let mut buffer = [0; 128];
        let text = read(&self.root, c"loadavg", &mut buffer)?;
        text.trim_end().rsplit(' ').next()?.parse().ok()
    }

    /// Every pid, the highest first.
    pub(super) fn pids(&self) -> Vec<u32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(root) = openat(&self.root, c".", flags, Mode::empty()) else { return Vec::new() };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut entries = RawDir::new(root, &mut buffer);
        let mut pids = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            pids.extend(number(entry.file_name()));
        }
        pids.sort_unstable_by(|a, b| b.cmp(a));
        pids
    }

    /// `process` and its ancestors, up to pid 1.
    pub(super) fn lineage(&self, process: Pinned) -> Vec<Pinned> {
        let mut born = process.stat();
        let mut line = vec![process];
        while line.len() <= MAX_ANCESTORS
            && let Some(child) = born
            && let Some(parent) = self.pin(child.parent)
        {
            // A parent is older than its child: a younger one is a stranger with a reused pid.
            born = parent.stat().filter(|parent| parent.started <= child.started);
            if born.is_some() {
                line.push(parent);
            }
        }
        line
    }
}

impl Pinned {
    /// The effective uid; 0 for a process that is not dumpable.
    pub(super) fn uid(&self) -> Option<u32> {
        fstat(&self.dir).ok().map(|stat| stat.st_uid)
    }

    /// The descriptor by which it holds `link`, if it does; `None` also past `deadline`.
    pub(super) fn descriptor(&self, link: &Link, deadline: Instant) -> Option<u32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = openat(&self.dir, c"fd", flags, Mode::empty()).ok()?;
        let mut buffer = [MaybeUninit::uninit(); 2 * 1024];
        let mut entries = RawDir::new(&fds, &mut buffer);
        let mut seen = 0;
        while let Some(Ok(entry)) = entries.next() {
            let Some(descriptor) = number(entry.file_name()) else { continue };
            match is_link(&fds, entry.file_name(), link) {
                Ok(true) => return Some(descriptor),
                // Not ours to see: the rest of them neither.
                Err(rustix::io::Errno::ACCESS) => return None,
                // Another file, or closed meanwhile.
                Ok(false) | Err(_) => {}
            }
            seen += 1;
            if seen % PER_LOOK == 0 && Instant::now() > deadline {
                return None;
            }
        }
        None
    }

    /// Which of `descriptors` is `link`.
    pub(super) fn among(&self, link: &Link, descriptors: impl Iterator<Item = u32>) -> Option<u32> {
        Self::holds_among(&self.descriptors()?, link, descriptors)
    }

    /// Its directory of descriptors, held open: after its death every read fails.
    pub(super) fn descriptors(&self) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.dir, c"fd", flags, Mode::empty()).ok()
    }

    /// Which of `descriptors` in the directory `fds` is `link`.
    pub(super) fn holds_among(
        fds: &OwnedFd,
        link: &Link,
        mut descriptors: impl Iterator<Item = u32>,
    ) -> Option<u32> {
        descriptors.find(|fd| is_link(fds, decimal(*fd, &mut [0; 11]), link) == Ok(true))
    }

    /// The executable, if its path leads from here to the file that runs.
    pub(super) fn executable(&self) -> Option<Box<str>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let (path, rest) = readlinkat_raw(&self.dir, c"exe", &mut buffer[..]).ok()?;
        let path = std::str::from_utf8(path).ok().filter(|path| path.starts_with('/'))?;
        if rest.is_empty() {
            return None;
        }
        let runs = statat(&self.dir, c"exe", rustix::fs::AtFlags::empty()).ok()?;
        let named = stat(path).ok()?;
        (runs.st_dev == named.st_dev && runs.st_ino == named.st_ino).then(|| path.into())
    }

    /// Whether it is a process: `/proc/TID` opens for every other thread too.
    pub(super) fn is_process(&self) -> bool {
        self.stat().is_some_and(|stat| stat.exit_signal >= 0)
    }

    fn stat(&self) -> Option<Stat> {
        let mut buffer = [0; 1024];
        Stat::parse(read(&self.dir, c"stat", &mut buffer)?)
    }
}

impl Stat {
    /// `pid (name) state ppid …`, the start time being the 22nd field and the exit signal the 38th
    /// (`proc_pid_stat(5)`). A name may hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        let exit_signal = fields.nth(15)?.parse().ok()?;
        Some(Self { parent, started, exit_signal })
    }
}

fn is_link(fds: &OwnedFd, name: &CStr, link: &Link) -> rustix::io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 64];
    let (text, _) = readlinkat_raw(fds, name, &mut buffer[..])?;
    Ok(*text == *link.0.as_bytes())
}

/// Reads a small file of `/proc`, which comes in one piece.
fn read<'a>(dir: &OwnedFd, name: &CStr, buffer: &'a mut [u8]) -> Option<&'a str> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(dir, name, flags, Mode::empty()).ok()?);
    let length = file.read(buffer).ok()?;
    // A process names itself with any bytes: what comes before the last ')' is of no interest.
    let bytes = &buffer[..length];
    let start = bytes.iter().rposition(|b| *b == b')').unwrap_or(0);
    std::str::from_utf8(&bytes[start..]).ok()
}

fn number(name: &CStr) -> Option<u32> {
    name.to_str().ok()?.parse().ok()
}

/// `n` as a C string, without an allocation.
fn decimal(mut n: u32, buffer: &mut [u8; 11]) -> &CStr {
    let mut at = 10;
    loop {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    CStr::from_bytes_until_nul(&buffer[at..]).unwrap_or(c"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_forge_its_stat_with_its_name() {
        let tail = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 9 1 1 1 0 0 0 0 0 0 0 \
                    0 0 17 0 0 0";
        let expected = Some(Stat { parent: 7, started: 4242, exit_signal: 17 });
        assert_eq!(Stat::parse(&format!("9 (sh) {tail}")), expected);
        assert_eq!(Stat::parse(&format!("9 (a) S 1 (b) ) {tail}")), expected);
        assert_eq!(Stat::parse("9 (sh) S 7"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn numbers_become_names() {
        for n in [0, 7, 10, 4_294_967_295] {
            assert_eq!(decimal(n, &mut [0; 11]).to_str(), Ok(n.to_string().as_str()));
        }
    }
}
