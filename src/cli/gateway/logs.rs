//! Log lines for people, or for machines; never with a secret or a body in them.

use super::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. `RUST_LOG` wins over `-v`.
pub(super) fn start(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 => "portcullis=info,warn",
        1 => "portcullis=debug,info",
        _ => "portcullis=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(verbose > 0);
    // A second start in one process (tests) keeps the first.
    drop(match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
}
