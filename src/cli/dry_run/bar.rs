//! How far it is: a line on stderr, where that is a terminal and it takes longer than a second.

use crate::traffic::read::{Progress, Source};
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(100);
const WIDTH: u64 = 30;

/// The progress bar.
pub(super) struct Bar {
    /// All bytes; 0 where it is not known (stdin).
    total: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(super) fn new(sources: &[Source]) -> Self {
        let known = sources.iter().all(|source| source.path.is_some());
        let total = if known { sources.iter().map(|source| source.size).sum() } else { 0 };
        let terminal = std::io::stderr().is_terminal();
        Self { total, started: Instant::now(), shown: None, terminal }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        if !self.terminal {
            return;
        }
        let now = Instant::now();
        let due = self.shown.is_none_or(|shown| now.duration_since(shown) >= EVERY);
        if !due || now.duration_since(self.started) < QUIET {
            return;
        }
        self.shown = Some(now);
        let read = progress.read.load(Ordering::Relaxed);
        let line = line(read, self.total, now.duration_since(self.started));
        // Nobody to tell where stderr is gone.
        let _ = write!(std::io::stderr(), "\r\u{1b}[K{line}");
    }

    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn line(read: u64, total: u64, took: Duration) -> String {
    let rate = u128::from(read) * 1000 / took.as_millis().max(1);
    let (done, rate) = (read >> 20, rate >> 20);
    if total == 0 {
        return format!("{done} MiB, {rate} MiB/s");
    }
    let read = read.min(total);
    let full = usize::try_from(read * WIDTH / total).unwrap_or(0);
    let bar = "=".repeat(full);
    let percent = read * 100 / total;
    format!(
        "[{bar:<width$}] {percent:>3}%  {done} of {} MiB, {rate} MiB/s",
        total >> 20,
        width = 30
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_and_never_beyond_its_end() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line(50 << 20, 100 << 20, second),
            "[===============               ]  50%  50 of 100 MiB, 50 MiB/s"
        );
        assert!(line(300 << 20, 100 << 20, second).contains("100%"));
        assert_eq!(line(3 << 20, 0, second), "3 MiB, 3 MiB/s");
    }
}
