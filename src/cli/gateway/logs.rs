//! Log lines for people, or for machines; never with a secret or a body in them.

use super::LogFormat;
use crate::secret::Watchlist;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// What is masked in every line. Logging starts before there are values to mask.
static MASKED: OnceLock<Watchlist> = OnceLock::new();

/// Masks from here on what `watchlist` knows.
pub(super) fn mask(watchlist: Watchlist) {
    // A second gateway in one process (tests) is masked by the first's.
    drop(MASKED.set(watchlist));
}

/// Standard error, where each write is a whole line.
struct Masked;

impl Write for Masked {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut stderr = std::io::stderr().lock();
        match MASKED.get() {
            Some(watchlist) => stderr.write_all(&watchlist.needles().mask(line))?,
            None => stderr.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Starts logging to stderr. `RUST_LOG` wins over `-v`.
pub(super) fn start(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 => "portcullis=info,warn",
        1 => "portcullis=debug,info",
        _ => "portcullis=trace,debug",
    };
    let said = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|said| !said.is_empty());
    let filter = said.and_then(|said| EnvFilter::try_new(said).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Masked)
        .with_ansi(colours)
        .with_target(verbose > 0);
    // A second start in one process (tests) keeps the first.
    drop(match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
}
