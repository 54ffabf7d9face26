//! Log lines for people, or for machines; never with a secret or a body in them.
//!
//! A thread of its own writes them, so that nobody who serves waits for who reads them: a terminal
//! that was stopped, a full disk, a pipe without a reader. What does not fit meanwhile is dropped and
//! counted, and what can't be written is lost without a word: there is nobody to tell.

use super::LogFormat;
use crate::secret::Watchlist;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// How many lines wait to be written.
const WAITING: usize = 4096;
/// How long to wait before a full queue is tried again.
const AGAIN: Duration = Duration::from_millis(5);
/// How long the end waits for them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is masked in every line. Logging starts before there are values to mask.
static MASKED: OnceLock<Watchlist> = OnceLock::new();
/// The way to the writer. Before there is one, lines are written where they are made.
static WRITER: OnceLock<SyncSender<Line>> = OnceLock::new();
/// Lines that had no room.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What the writer gets.
enum Line {
    Text(Vec<u8>),
    /// Whoever asks is told when all before it is written.
    Flush(SyncSender<()>),
}

/// Masks from here on what `watchlist` knows.
pub(super) fn mask(watchlist: Watchlist) {
    // A second gateway in one process (tests) is masked by the first's.
    drop(MASKED.set(watchlist));
}

/// Standard error, where each write is a whole line. It never fails: a subscriber that is told of an
/// error tells stderr of it, and panics as that fails too.
struct Masked;

impl Write for Masked {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let masked = match MASKED.get() {
            Some(watchlist) => watchlist.needles().mask(line),
            None => line.into(),
        };
        match WRITER.get() {
            None => drop(std::io::stderr().write_all(&masked)),
            Some(writer) => match writer.try_send(Line::Text(masked.into_owned())) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            },
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log for as long as this is there; what waits at its end is still written.
pub(super) struct Logging(());

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(writer) = WRITER.get() else { return };
        let (tell, told) = sync_channel(1);
        let until = Instant::now() + LAST_LINES;
        while let Err(TrySendError::Full(_)) = writer.try_send(Line::Flush(tell.clone())) {
            if Instant::now() >= until {
                // Who has not read by now has not read for long.
                return;
            }
            std::thread::sleep(AGAIN);
        }
        let left = until.saturating_duration_since(Instant::now());
        let _: Result<(), RecvTimeoutError> = told.recv_timeout(left);
    }
}

/// Starts logging to stderr. `RUST_LOG` wins over `-v`.
pub(super) fn start(verbose: u8, format: LogFormat) -> std::io::Result<Logging> {
    let level = match verbose {
        0 => "portcullis=info,warn",
        1 => "portcullis=debug,info",
        _ => "portcullis=trace,debug",
    };
    let said = std::env::var("RUST_LOG").ok().filter(|said| !said.is_empty());
    let filter = said.and_then(|said| EnvFilter::try_new(said).ok());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (writer, lines) = sync_channel(WAITING);
    if WRITER.set(writer).is_ok() {
        std::thread::Builder::new().name("log".into()).spawn(move || write(&lines, format))?;
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        .with_writer(|| Masked)
        .log_internal_errors(false)
        .with_ansi(colours)
        .with_target(verbose > 0);
    // A second start in one process (tests) keeps the first.
    drop(match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
    Ok(Logging(()))
}

/// Writes what comes, to the end of the process.
fn write(lines: &Receiver<Line>, format: LogFormat) {
    for line in lines {
        match line {
            Line::Text(text) => {
                let _ = std::io::stderr().write_all(&text);
                say_dropped(format);
            }
            Line::Flush(tell) => {
                say_dropped(format);
                let _ = tell.send(());
            }
        }
    }
}

/// Says how many lines had no room since it was said last.
fn say_dropped(format: LogFormat) {
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        let _ = writeln!(std::io::stderr(), "{}", missing(dropped, format));
    }
}

/// What stands for lines that had no room.
fn missing(lines: u64, format: LogFormat) -> String {
    let now = jiff::Timestamp::now();
    let text = format!("{lines} log lines were left out: they came faster than they were read");
    match format {
        LogFormat::Text => format!("{now}  WARN {text}"),
        LogFormat::Json => serde_json::json!({
            "timestamp": now.to_string(), "level": "WARN", "fields": { "message": text },
        })
        .to_string(),
    }
}
