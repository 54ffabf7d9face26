//! From text to [`Document`], and the mistakes on the way, shown where they stand.

use super::Document;
use crate::addr::Shown;
use std::fmt;

/// Lines shown before and after the mistaken one.
const AROUND: usize = 2;
/// Mistakes shown at once; the rest are counted.
const MOST_SHOWN: usize = 20;
/// The longest part of a line that is shown, in characters.
const WIDEST: usize = 160;

/// How to read a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Accept middlewares that fail closed, which do not run here (`--ignore-middlewares`).
    pub ignore_middlewares: bool,
}

/// Why a file is not a policy: every mistake in it, or the first where it is not even YAML of the
/// right shape. `Display` shows file, line, column, the lines around each, and what would be
/// right; what the file says is escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Listing(self))]
pub struct LoadError {
    /// The file, as the caller named it.
    pub source_name: String,
    /// The mistakes, in the order of the file; never empty.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based; 0 where no line can be named.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// What is wrong. May quote the file, escaped.
    pub problem: String,
    /// What would be right; empty where the problem says it.
    pub right: String,
    /// The lines around, numbered and escaped.
    pub excerpt: String,
}

impl Document {
    /// Reads a policy file. `source` is its name in errors.
    pub fn parse(text: &str, source: &str) -> Result<Self, LoadError> {
        Self::parse_with(text, source, LoadOptions::default())
    }

    /// [`Document::parse`], with options.
    pub fn parse_with(text: &str, source: &str, options: LoadOptions) -> Result<Self, LoadError> {
        let fail = |mut mistakes: Vec<Mistake>| {
            for mistake in &mut mistakes {
                mistake.excerpt = excerpt(text, mistake.line, mistake.column);
            }
            LoadError { source_name: source.to_owned(), mistakes }
        };
        let document: Self = serde_saphyr::from_str_with_options(text, reading())
            .map_err(|error| fail(vec![syntax(text, &error)]))?;
        let mut mistakes = super::check::mistakes(&document, options);
        if mistakes.is_empty() {
            return Ok(document);
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        Err(fail(mistakes))
    }
}

/// Duplicate keys stay refused (the default); aliases stay bounded; a policy of 10,000 entries
/// fits.
fn reading() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = 4_000_000;
    budget.max_events = 12_000_000;
    serde_saphyr::options! { budget: Some(budget), with_snippet: false }
}

fn syntax(text: &str, error: &serde_saphyr::Error) -> Mistake {
    let place = error.location();
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let options = serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off };
    let rendered = error.without_snippet().render_with_options(options);
    // The place is shown by the listing, once.
    let message = rendered.split(" at line ").next().unwrap_or(&rendered);
    let line = place.map_or(0, |place| number(place.line()));
    let column = place.map_or(0, |place| number(place.column()));
    let slip = super::slip(text, (line as usize, column as usize), message);
    Mistake {
        line,
        column,
        problem: Shown::new(&slip.what).to_string(),
        right: slip.fix.unwrap_or_else(|| hint(message).to_owned()),
        excerpt: String::new(),
    }
}

/// What would be right, for the mistakes that serde sees.
fn hint(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "a key stands once in a map: merge the two"
    } else if message.contains("unknown field") {
        "check the spelling; a key that is not understood would be a rule that does not hold"
    } else {
        ""
    }
}

fn excerpt(text: &str, line: u32, column: u32) -> String {
    let Some(at) = (line as usize).checked_sub(1) else { return String::new() };
    let mut out = String::new();
    let first = at.saturating_sub(AROUND);
    for (i, content) in text.lines().enumerate().skip(first).take(at - first + AROUND + 1) {
        let cut: String = content.chars().take(WIDEST).collect();
        let mark = if i == at { '>' } else { ' ' };
        out.push_str(&format!("{mark}{:>5} | {}\n", i + 1, Shown::new(&cut)));
        if i == at && column > 0 && (column as usize) <= WIDEST {
            // Escaping may widen what stands before the column.
            let before: String = content.chars().take(column as usize - 1).collect();
            let width = Shown::new(&before).to_string().len();
            out.push_str(&format!("       | {}^\n", " ".repeat(width)));
        }
    }
    out
}

struct Listing<'e>(&'e LoadError);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadError { source_name, mistakes } = self.0;
        for (i, mistake) in mistakes.iter().take(MOST_SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", Shown::new(source_name))?;
            if mistake.line > 0 {
                write!(f, ":{}:{}", mistake.line, mistake.column)?;
            }
            write!(f, ": {}", mistake.problem)?;
            if !mistake.excerpt.is_empty() {
                write!(f, "\n{}", mistake.excerpt.trim_end())?;
            }
            if !mistake.right.is_empty() {
                write!(f, "\n  fix: {}", mistake.right)?;
            }
        }
        match mistakes.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
