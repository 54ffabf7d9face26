//! Where a setting stands in its file, and how a fault is shown: file, line, column, the lines
//! around it, and what would be right.
//!
//! Text of the file reaches the terminal only through `Shown`.

use crate::addr::Shown;
use crate::policy::document::slip;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file; both counted from 1, 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value and the place where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// One fault in a file, with the lines around it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The file as it was named.
    pub path: PathBuf,
    /// Where.
    pub place: Place,
    /// What is wrong, one sentence without the period.
    pub what: String,
    /// What would be right.
    pub fix: Option<String>,
    lines: Vec<(usize, String)>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(d)?;
        Ok(Self { place: Place::from(spanned.referenced), value: spanned.value })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(0);
        Self { line: number(location.line()), column: number(location.column()) }
    }
}

impl Fault {
    /// A fault at `place` of `text`, which was read from `path`.
    pub fn new(path: &Path, text: &str, place: Place, what: impl Into<String>) -> Self {
        let first = place.line.saturating_sub(2).max(1);
        let lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line))
            .filter(|(number, _)| place.line > 0 && (first..=place.line + 1).contains(number))
            .map(|(number, line)| (number, cropped(line)))
            .collect();
        Self { path: path.to_owned(), place, what: what.into(), fix: None, lines }
    }

    /// The fault of YAML that does not parse or does not fit.
    pub fn yaml(path: &Path, text: &str, error: &serde_saphyr::Error) -> Self {
        let bare = error.without_snippet();
        let place = bare.location().map(Place::from).unwrap_or_default();
        let message = bare.to_string();
        let first = message.lines().next().unwrap_or_default();
        let at = format!(" at line {}, column {}", place.line, place.column);
        let slip = slip(text, (place.line, place.column), &first.replace(&at, ""));
        let mut fault = Self::new(path, text, place, Shown::new(&slip.what).to_string());
        fault.fix = slip.fix;
        if slip.secret {
            fault.lines.clear();
        }
        fault
    }

    /// Adds what would be right.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

fn cropped(line: &str) -> String {
    line.chars().take(160).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        write!(f, "{}", Shown::new(&path))?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        write!(f, ": {}", self.what)?;
        for (number, line) in &self.lines {
            write!(f, "\n{number:>5} | {}", Shown::new(line))?;
            if *number == self.place.line && self.place.column > 0 {
                let before: String = line.chars().take(self.place.column - 1).collect();
                let width = Shown::new(&before).to_string().len();
                write!(f, "\n      | {:width$}^", "")?;
            }
        }
        match &self.fix {
            Some(fix) => write!(f, "\n  fix: {fix}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_the_lines_around_it_and_the_fix() {
        let text = "version: 1\nlisten:\n  - { address: x }\nmetrics: {}\nlast: 1\n";
        let place = Place { line: 3, column: 16 };
        let fault = Fault::new(Path::new("c.yaml"), text, place, "`x` is no address")
            .fix("write \"127.0.0.1:3128\"");
        assert_eq!(
            fault.to_string(),
            "c.yaml:3:16: `x` is no address\n    1 | version: 1\n    2 | listen:\n    3 |   - { address: x }\n      |                ^\n    4 | metrics: {}\n  fix: write \"127.0.0.1:3128\""
        );
    }

    #[test]
    fn text_of_the_file_is_shown_harmlessly() {
        let place = Place { line: 1, column: 1 };
        let fault = Fault::new(Path::new("c.yaml"), "a: \u{1b}[2J\u{202e}", place, "no");
        assert!(fault.to_string().bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
    }
}
