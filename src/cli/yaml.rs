//! YAML for people and for terminals: block style, every character printable ASCII.
//!
//! A text that YAML could take for something else, or that holds what a terminal would not show,
//! stands in double quotes with escapes.

use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// One document.
pub(super) fn document<T: Serialize>(item: &T) -> serde_json::Result<String> {
    let mut out = String::new();
    match serde_json::to_value(item)? {
        Value::Object(keys) if !keys.is_empty() => mapping(&keys, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(&items, 0, &mut out),
        other => {
            scalar(&other, 0, &mut out);
            out.push('\n');
        }
    }
    Ok(out)
}

/// One word, as a key or a value.
pub(super) fn word(word: &str) -> String {
    let mut out = String::new();
    text(word, &mut out);
    out
}

fn mapping(keys: &serde_json::Map<String, Value>, depth: usize, out: &mut String) {
    for (at, (key, value)) in keys.iter().enumerate() {
        if at > 0 {
            indent(depth, out);
        }
        text(key, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                indent(depth + 1, out);
                mapping(inner, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                indent(depth, out);
                sequence(items, depth, out);
            }
            other => {
                out.push(' ');
                scalar(other, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            indent(depth, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(keys) if !keys.is_empty() => mapping(keys, depth + 1, out),
            Value::Array(items) if !items.is_empty() => sequence(items, depth + 1, out),
            other => {
                scalar(other, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(lines) if block(lines) => {
            out.push('|');
            for line in lines.trim_end_matches('\n').split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    indent(depth, out);
                }
                out.push_str(line);
            }
        }
        Value::String(word) => text(word, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// Whether it reads back from a literal block: lines of printable ASCII that end with one newline.
fn block(text: &str) -> bool {
    let Some(lines) = text.strip_suffix('\n') else { return false };
    !lines.is_empty()
        && !lines.ends_with('\n')
        && !lines.starts_with([' ', '\n'])
        && lines.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n'))
}

fn text(text: &str, out: &mut String) {
    if plain(text) {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            '\n' => out.push_str("\\n"),
            c => write!(out, "\\U{:08x}", u32::from(c)).expect("a String takes every text"),
        }
    }
    out.push('"');
}

/// Whether it can only be read as this text: a word that begins with a letter or a slash, and is
/// no word of YAML.
fn plain(text: &str) -> bool {
    const WORDS: &[&str] =
        &["true", "false", "yes", "no", "on", "off", "null", "y", "n", "inf", "nan"];
    let inside = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'+' | b'@')
    };
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(inside)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_document_reads_as_people_write_it() {
        let value = json!({
            "name": "agent", "on": true, "none": null, "empty": [], "odd": "no",
            "list": ["a", { "b": 1, "c": ["x: y"] }], "text": "version: 1\nmore: 2\n",
        });
        let expected = "name: agent\n\"on\": true\nnone: null\nempty: []\nodd: \"no\"\nlist:\n- a\n\
            - b: 1\n  c:\n  - \"x: y\"\ntext: |\n  version: 1\n  more: 2\n";
        assert_eq!(document(&value).unwrap(), expected);
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "\\PC{0,12}",
            "[ -~\\n]{0,20}\\n?",
            Just("\u{9b}\u{202e}\u{1f600}\u{85}\u{feff}".to_owned()),
            Just("2026-11-24".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..5)
                    .prop_map(|keys| Value::Object(keys.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_is_ascii(value in values()) {
            let text = document(&value).unwrap();
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{}", text);
            let back: Value = serde_saphyr::from_str(&text).map_err(|error| {
                TestCaseError::fail(format!("{error}\n{text}"))
            })?;
            prop_assert_eq!(back, value);
        }
    }
}
