//! `-o text|json|yaml` of what the gateway says. JSON is one object a line, YAML one document an
//! object; both are ASCII, so that nothing in them moves a cursor.

use super::output;
use super::yaml;
use serde::Serialize;
use std::process::ExitCode;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shape {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
    /// One document an object.
    Yaml,
}

/// The flag that chooses it.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct ShapeArgs {
    /// How to print: text, json with one object a line, or yaml.
    #[arg(
        short = 'o',
        long = "output",
        alias = "format",
        value_name = "FORMAT",
        env = "PORTCULLIS_OUTPUT",
        default_value = "text"
    )]
    pub(super) shape: Shape,
}

impl ShapeArgs {
    /// Prints `items`, as text where nothing else is asked for.
    pub(super) fn all<T: Serialize>(
        self,
        items: &[T],
        text: impl FnOnce(&[T]) -> String,
    ) -> anyhow::Result<ExitCode> {
        output::print(&match self.shape {
            Shape::Text => text(items),
            Shape::Json => items.iter().map(json).collect::<Result<_, _>>()?,
            Shape::Yaml => {
                let documents: Vec<String> =
                    items.iter().map(yaml::document).collect::<Result<_, _>>()?;
                documents.join("---\n")
            }
        })
    }

    /// Prints one.
    pub(super) fn one<T: Serialize>(
        self,
        item: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<ExitCode> {
        self.all(std::slice::from_ref(item), |items| items.first().map(text).unwrap_or_default())
    }
}

/// What stands in lines of JSON, as YAML: one document a line.
pub(super) fn yaml_of(lines: &str) -> serde_json::Result<String> {
    let document = |line| yaml::document(&serde_json::from_str::<serde_json::Value>(line)?);
    Ok(lines.lines().map(document).collect::<Result<Vec<_>, _>>()?.join("---\n"))
}

/// One line of JSON.
pub(super) fn json<T: Serialize>(item: &T) -> serde_json::Result<String> {
    Ok(ascii(&serde_json::to_string(item)?) + "\n")
}

/// JSON in which every character that a terminal may not show as it is stands as `\u`. Outside of
/// strings JSON has none.
pub(super) fn ascii(json: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes every text");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_and_means_the_same() {
        let text = "a\u{9b}2J\u{202e}\u{7f}\u{1f600}\n\"";
        let line = json(&text).unwrap();
        assert!(line.trim_end().bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
