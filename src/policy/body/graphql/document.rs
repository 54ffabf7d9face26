//! A GraphQL document: which operation runs, of what kind, with which root fields.
//!
//! Owns the choice of the operation and the expansion of fragments at its root; parsing is
//! `async-graphql-parser`'s. That parser recurses, and reads a few texts otherwise than the
//! specification does (GraphQL October 2021 §2), so a scan goes before it: what the scan lets
//! through is read the same by both, or not at all by servers.

use crate::policy::{GraphqlKind, GraphqlOperation};
use async_graphql_parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use std::collections::HashSet;

/// How deep braces, brackets and parentheses may nest in a document.
const MAX_DEPTH: usize = 64;

/// The operation of `document` that runs, given the request's `operationName`.
pub(super) fn facts(document: &str, name: Option<&str>) -> Result<GraphqlOperation, &'static str> {
    scan(document)?;
    let parsed = async_graphql_parser::parse_query(document)
        .map_err(|_| "the document is not GraphQL, or holds other than operations and fragments")?;
    // The parser reads `...on#comment` as a spread of `on`, a name that the grammar forbids
    // (§2.8); without such a fragment that spread leads nowhere and is refused below.
    if parsed.fragments.contains_key("on") {
        return Err("a fragment is named \"on\"");
    }
    let (name, operation) = choose(&parsed.operations, name)?;
    let fields = root_fields(&parsed, &operation.selection_set.node)?;
    let kind = match operation.ty {
        OperationType::Query => GraphqlKind::Query,
        OperationType::Mutation => GraphqlKind::Mutation,
        OperationType::Subscription => GraphqlKind::Subscription,
    };
    Ok(GraphqlOperation {
        kind: Some(kind),
        name: name.map(str::to_owned),
        fields,
        persisted: None,
    })
}

fn choose<'a>(
    operations: &'a DocumentOperations,
    name: Option<&str>,
) -> Result<(Option<&'a str>, &'a OperationDefinition), &'static str> {
    match (operations, name) {
        (DocumentOperations::Single(operation), None) => Ok((None, &operation.node)),
        (DocumentOperations::Multiple(named), None) => {
            let mut all = named.iter();
            match (all.next(), all.next()) {
                (Some((name, operation)), None) => Ok((Some(name.as_str()), &operation.node)),
                _ => Err("the document has several operations and no operationName says which"),
            }
        }
        (DocumentOperations::Multiple(named), Some(name)) => named
            .get_key_value(name)
            .map(|(name, operation)| (Some(name.as_str()), &operation.node))
            .ok_or("no operation of the document has the operationName"),
        (DocumentOperations::Single(_), Some(_)) => {
            Err("an operationName is given and the operation has no name")
        }
    }
}

/// The fields that `set` selects at its top, through fragments, each once, in document order.
/// `@skip` and `@include` are not evaluated: a field that may run counts.
fn root_fields(
    document: &ExecutableDocument,
    set: &SelectionSet,
) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut seen = HashSet::new();
    let mut spread = HashSet::new();
    let mut open: Vec<&Selection> = set.items.iter().rev().map(|item| &item.node).collect();
    while let Some(selection) = open.pop() {
        let inner = match selection {
            Selection::Field(field) => {
                let name = field.node.name.node.as_str();
                if seen.insert(name) {
                    fields.push(name.to_owned());
                }
                continue;
            }
            Selection::InlineFragment(fragment) => &fragment.node.selection_set.node,
            Selection::FragmentSpread(fragment) => {
                let name = &fragment.node.fragment_name.node;
                let definition = document
                    .fragments
                    .get(name)
                    .ok_or("a fragment is spread that the document does not define")?;
                // Once is enough, and ends cycles.
                if !spread.insert(name.as_str()) {
                    continue;
                }
                &definition.node.selection_set.node
            }
        };
        open.extend(inner.items.iter().rev().map(|item| &item.node));
    }
    // A rule that asks for "every field" must never be satisfied by none.
    if fields.is_empty() { Err("the operation selects no field") } else { Ok(fields) }
}

/// Refuses what the parser could not take (nesting deeper than [`MAX_DEPTH`]) and the characters
/// whose meaning depends on the server: controls, and those that some take for the end of a line
/// and so of a comment. Strings and comments are told apart as the grammar does (§2.1).
fn scan(document: &str) -> Result<(), &'static str> {
    if document.chars().any(is_odd) {
        return Err("the document holds a control character or an odd line end");
    }
    let mut rest = document.as_bytes();
    let mut depth = 0usize;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'#' => {
                let end = after.iter().position(|b| matches!(b, b'\n' | b'\r'));
                end.map_or(&[][..], |end| &after[end..])
            }
            b'"' => match after.strip_prefix(b"\"\"") {
                Some(block) => after_block_string(block)?,
                None => after_string(after)?,
            },
            b'{' | b'[' | b'(' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err("the document nests deeper than 64");
                }
                after
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                after
            }
            _ => after,
        };
    }
    Ok(())
}

fn is_odd(letter: char) -> bool {
    match letter {
        '\t' | '\n' | '\r' => false,
        '\u{feff}' | '\u{2028}' | '\u{2029}' => true,
        letter => letter.is_control(),
    }
}

fn after_string(mut rest: &[u8]) -> Result<&[u8], &'static str> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', _, after @ ..] => after,
            [] | [b'\n' | b'\r' | b'\\', ..] => {
                return Err("the document has a string without end");
            }
            [_, after @ ..] => after,
        };
    }
}

fn after_block_string(mut rest: &[u8]) -> Result<&[u8], &'static str> {
    loop {
        rest = match rest {
            [b'\\', b'"', b'"', b'"', after @ ..] => after,
            [b'"', b'"', b'"', after @ ..] => return Ok(after),
            [_, after @ ..] => after,
            [] => return Err("the document has a string without end"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(document: &str) -> Vec<String> {
        facts(document, None).unwrap().fields
    }

    #[test]
    fn aliases_do_not_hide_a_field() {
        assert_eq!(fields("{ viewer: deleteAll __typename }"), ["deleteAll", "__typename"]);
    }

    #[test]
    fn fragments_do_not_hide_a_field() {
        let document =
            "mutation M { ...A ... on Mutation { b ...B } ... @include(if: false) { c } }
            fragment A on Mutation { a ...B } fragment B on Mutation { d }";
        let found = facts(document, None).unwrap();
        assert_eq!(found.kind, Some(GraphqlKind::Mutation));
        assert_eq!(found.name.as_deref(), Some("M"));
        assert_eq!(found.fields, ["a", "d", "b", "c"]);
    }

    #[test]
    fn nested_fields_are_no_root_fields() {
        assert_eq!(fields("{ a(x: {b: [1]}) @d(e: \"}\") { f } }"), ["a"]);
    }

    #[test]
    fn cycles_end() {
        let document = "{ a ...A } fragment A on Q { b ...B } fragment B on Q { ...A c }";
        assert_eq!(fields(document), ["a", "b", "c"]);
        assert!(facts("{ ...A } fragment A on Q { ...A }", None).is_err());
    }

    #[test]
    fn a_chain_of_thousands_of_fragments_is_followed_without_recursion() {
        let mut document = "{ ...F0 }".to_owned();
        for i in 0..5_000 {
            document += &format!(" fragment F{i} on Q {{ ...F{} }}", i + 1);
        }
        document += " fragment F5000 on Q { end }";
        assert_eq!(fields(&document), ["end"]);
    }

    #[test]
    fn the_named_operation_counts_and_a_missing_choice_is_refused() {
        let document = "query A { a } mutation B { b }";
        assert_eq!(facts(document, Some("B")).unwrap().fields, ["b"]);
        assert!(facts(document, None).is_err());
        assert!(facts(document, Some("C")).is_err());
        assert!(facts("{ a }", Some("A")).is_err());
        assert_eq!(facts("query A { a }", None).unwrap().name.as_deref(), Some("A"));
        assert!(facts("query A { a } query A { b }", None).is_err());
        assert!(facts("{ a } query A { b }", None).is_err());
        assert!(facts("{ a } { b }", None).is_err());
    }

    #[test]
    fn what_is_not_an_executable_document_is_refused() {
        for document in [
            "",
            " ",
            "{",
            "{}",
            "{ a",
            "type A { b: C }",
            "fragment A on Q { a }",
            "{ ...A }",
            "{ a } }",
        ] {
            assert!(facts(document, None).is_err(), "{document}");
        }
    }

    #[test]
    fn a_comment_between_on_and_its_type_does_not_move_a_field() {
        let trick = "{ ...on#\nMutation { deleteAll } }";
        assert!(facts(trick, None).is_err());
        assert!(facts(&format!("{trick} fragment on on Q {{ safe }}"), None).is_err());
        assert_eq!(fields("{ ... on\nMutation { deleteAll } }"), ["deleteAll"]);
    }

    #[test]
    fn a_line_end_that_only_some_servers_see_does_not_hide_a_field() {
        for end in ['\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}', '\0', '\u{feff}'] {
            assert!(facts(&format!("{{ safe #{end} deleteAll\n }}"), None).is_err(), "{end:?}");
        }
        assert_eq!(fields("{ safe # a\r b\n }"), ["safe", "b"]);
    }

    #[test]
    fn strings_and_comments_do_not_count_as_nesting_and_do_not_lower_it() {
        let document = format!(
            "{{ a(x: \"{}\", y: \"\"\"{}\\\"\"\" \"\"\") }}",
            "{".repeat(99),
            "[".repeat(99)
        );
        assert_eq!(fields(&document), ["a"]);
        let hidden = format!("{{ a # {}\n {} }}", "}".repeat(99), "(".repeat(64));
        assert_eq!(facts(&hidden, None).unwrap_err(), "the document nests deeper than 64");
        let quoted = format!("{{ a(x: \"{}\" y: {}", "]".repeat(99), "[".repeat(99));
        assert_eq!(facts(&quoted, None).unwrap_err(), "the document nests deeper than 64");
    }

    #[test]
    fn deep_nesting_does_not_overflow_a_small_stack() {
        let run = || {
            for (open, close) in [("{a", "}"), ("{a(x:[", "])}"), ("{a(b:{c:", "})}")] {
                for depth in [8, 16, 21, 31, 32, 63, 64, 65, 32_768] {
                    let document = open.repeat(depth) + &close.repeat(depth);
                    let _ = facts(&document, None);
                    let _ = facts(&open.repeat(depth), None);
                }
            }
            for open in ["{", "[", "(", "{a(b:[", "query($a:[", "{a@b(c:[{d:["] {
                let _ = facts(&open.repeat(32_768), None);
                let _ = facts(&format!("query($a: {}", "[".repeat(63)), None);
            }
        };
        let small = std::thread::Builder::new().stack_size(1 << 20);
        small.spawn(run).unwrap().join().unwrap();
    }
}
