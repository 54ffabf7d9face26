//! Printing: colour on a terminal alone, a reader that leaves is no error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Wrong, or refused.
    Bad,
    /// Worth a thought.
    Doubtful,
    /// Fine, or allowed.
    Good,
    /// Aside.
    Faint,
}

/// Writes to stdout, and says that all is done.
pub(super) fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// `text` in the colour of `tone`, where stdout shows colours.
pub(super) fn toned(text: &str, tone: Tone) -> String {
    if colours(std::io::stdout().is_terminal()) { painted(text, tone) } else { text.to_owned() }
}

/// Writes an error to stderr.
pub(super) fn error(error: &anyhow::Error) {
    let word = if colours(std::io::stderr().is_terminal()) {
        painted("error:", Tone::Bad)
    } else {
        "error:".to_owned()
    };
    // Nobody to tell where stderr is gone.
    let _ = writeln!(std::io::stderr(), "{word} {}", causes_first(error));
}

/// The error with its causes, each once, and what to do about it last.
fn causes_first(error: &anyhow::Error) -> String {
    let (mut text, mut fixes) = (String::new(), String::new());
    for cause in error.chain() {
        let cause = cause.to_string();
        let (what, fix) = match cause.find("\n  fix: ") {
            // Of several mistakes each keeps its own.
            Some(at) if !cause[at + 1..].contains('\n') => cause.split_at(at),
            _ => (cause.as_str(), ""),
        };
        if text.is_empty() {
            text.push_str(what);
        } else if !text.contains(what) {
            text.push_str(": ");
            text.push_str(what);
        }
        if fixes.is_empty() {
            fixes.push_str(fix);
        }
    }
    text + &fixes
}

/// Writes a complaint that stops nothing to stderr.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How many columns a line may take: those of the terminal; 100 where stdout is none, unless
/// `COLUMNS` says otherwise.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || {
        let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
        Some(usize::from(width.0))
    };
    said.or_else(terminal).filter(|columns| *columns >= 40).unwrap_or(100)
}

/// A paragraph for stdout: in lines that fit where that is a terminal, and in one line in a pipe.
pub(super) fn wrapped(text: &str) -> String {
    if std::io::stdout().is_terminal() { filled(text, width()) } else { text.to_owned() }
}

fn filled(text: &str, width: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > width {
            out.push_str("\n  ");
            column = 2;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// Writes a remark to stderr.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Whether the error is that nobody reads stdout any more (`portcullis … | head`).
pub(super) fn reader_left(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// <https://no-color.org>: set and not empty means none.
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn painted(text: &str, tone: Tone) -> String {
    let code = match tone {
        Tone::Bad => "1;31",
        Tone::Doubtful => "33",
        Tone::Good => "32",
        Tone::Faint => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_broken_between_words() {
        assert_eq!(filled("note: one two three", 11), "note: one\n  two three");
        assert_eq!(filled("note: unbreakable", 8), "note:\n  unbreakable");
        assert_eq!(filled("as it is", 80), "as it is");
    }

    #[test]
    fn a_cause_stands_before_the_fix_and_once() {
        let gone = || std::io::Error::other("no such file");
        let error = anyhow::Error::new(gone()).context("p.yaml\n  fix: name a readable file");
        assert_eq!(causes_first(&error), "p.yaml: no such file\n  fix: name a readable file");
        let twice = anyhow::Error::new(gone()).context("p.yaml: no such file\n  fix: name another");
        assert_eq!(causes_first(&twice), "p.yaml: no such file\n  fix: name another");
        let many = "a:1: wrong\n  fix: one\na:2: wrong\n  fix: two";
        assert_eq!(causes_first(&anyhow::anyhow!(many)), many);
    }
}
