//! Why a call has no answer.

use crate::addr::Shown;
use crate::control::wire::Problem;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call has no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens.
    NoGateway {
        /// Where nobody does.
        socket: PathBuf,
    },
    /// The socket is there and can't be used.
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    Late {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// What came back is not an answer: cut off, too long, or not of this API.
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The gateway said no.
    Refused(Problem),
}

impl ClientError {
    /// Whether there is no gateway to ask.
    pub fn no_gateway(&self) -> bool {
        matches!(self, Self::NoGateway { .. })
    }

    /// What the gateway said, where it said no.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::NoGateway { .. }
            | Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Broken { .. } => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |socket: &PathBuf| Shown::new(&socket.to_string_lossy()).to_string();
        match self {
            Self::NoGateway { socket } => write!(
                f,
                "no gateway is running at {}: start one with `portcullis gateway`\n  fix: where \
                 one runs, name its socket with --socket, or its state directory with --state-dir",
                path(socket)
            ),
            Self::Unreachable { socket, source } => {
                write!(f, "the gateway's socket {} can't be opened: {source}", path(socket))?;
                match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("\n  fix: run this as the user whose gateway it is, or as root")
                    }
                    _ => f.write_str("\n  fix: name the gateway's own socket with --socket"),
                }
            }
            Self::Late { socket, waited } => write!(
                f,
                "the gateway at {} gave no answer within {} s\n  fix: ask `portcullis status`, \
                 or look at the gateway's log",
                path(socket),
                waited.as_secs()
            ),
            Self::Broken { socket, why } => write!(
                f,
                "what listens at {} does not answer as a gateway does: {}\n  fix: name the \
                 gateway's own socket with --socket, and use one version for both",
                path(socket),
                Shown::new(why)
            ),
            Self::Refused(problem) => lines(&problem.detail, f),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Its text is part of ours.
        None
    }
}

/// A detail may have lines of its own (`fix: …`); within a line everything is `Shown`.
fn lines(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, line) in text.trim_end().split('\n').enumerate() {
        if at > 0 {
            f.write_str("\n")?;
        }
        write!(f, "{}", Shown::new(line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_says_reaches_a_terminal_escaped() {
        let detail = "no `\u{1b}[2J`\n  fix: none".to_owned();
        let error = ClientError::Refused(Problem { status: 404, code: "not_found".into(), detail });
        assert_eq!(error.to_string(), "no `\\u{1b}[2J`\n  fix: none");
    }
}
