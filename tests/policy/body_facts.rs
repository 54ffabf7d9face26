//! Laws of the facts of bodies, over generated bodies.

use portcullis::policy::body::{graphql, rpc, ws_graphql};
use portcullis::policy::{GraphqlKind, GraphqlOperation};
use proptest::prelude::*;

const JSON: Option<&str> = Some("application/json");
const RAW: Option<&str> = Some("application/graphql");

/// Three fragments for the documents whose own fragments don't matter.
const FRAGMENTS: &str = " fragment F0 on T { x } fragment F1 on T { y } fragment F2 on T { z }";

/// Pieces of GraphQL, so that soups of them come near to documents.
fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "!",
        "=",
        "@",
        "$",
        "...",
        "...on",
        "on ",
        "query ",
        "mutation ",
        "subscription ",
        "fragment ",
        "a",
        "b ",
        "A ",
        "B",
        "true",
        "null",
        "1",
        "-0",
        "1.5e3",
        "\"",
        "\"\"\"",
        "\"x\"",
        "\\\"\"\"",
        "\\u00e9",
        "\\",
        "#",
        "\n",
        "\r",
        ",",
        " ",
        "\u{feff}",
        "\u{2028}",
        "é",
        "__typename ",
        "a:b ",
        "{ a }",
        "...A ",
        "... on A { b } ",
        "fragment A on B { c } ",
    ])
}

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(token(), 0..40).prop_map(|tokens| tokens.concat())
}

/// A part of a selection set: a field, perhaps aliased, or fields behind a fragment.
#[derive(Clone, Debug)]
enum Pick {
    Field(u8, bool),
    Inline(Vec<Pick>),
    Spread(u8),
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    let leaf = prop_oneof![
        (0u8..6, any::<bool>()).prop_map(|(field, alias)| Pick::Field(field, alias)),
        (0u8..3).prop_map(Pick::Spread),
    ];
    let pick = leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 1..4).prop_map(Pick::Inline)
    });
    prop::collection::vec(pick, 1..5)
}

fn write(picks: &[Pick]) -> String {
    let parts = picks.iter().map(|pick| match pick {
        Pick::Field(field, true) => format!("safe: f{field}(x: \"}}\") {{ inner }}"),
        Pick::Field(field, false) => format!("f{field} # }}\n"),
        Pick::Inline(inner) => format!("... on T {}", write(inner)),
        Pick::Spread(fragment) => format!("...F{fragment}"),
    });
    format!("{{ {} }}", parts.collect::<Vec<_>>().join(" "))
}

fn collect(picks: &[Pick], fragments: &[Vec<Pick>], seen: &mut Vec<u8>, out: &mut Vec<String>) {
    for pick in picks {
        match pick {
            Pick::Field(field, _) => out.push(format!("f{field}")),
            Pick::Inline(inner) => collect(inner, fragments, seen, out),
            Pick::Spread(fragment) if seen.contains(fragment) => {}
            Pick::Spread(fragment) => {
                seen.push(*fragment);
                collect(&fragments[usize::from(*fragment)], fragments, seen, out);
            }
        }
    }
}

fn sorted(mut fields: Vec<String>) -> Vec<String> {
    fields.sort();
    fields.dedup();
    fields
}

fn quoted(text: String) -> String {
    serde_json::Value::String(text).to_string()
}

/// A value of any shape, as JSON text.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("true".to_owned()),
        any::<String>().prop_map(quoted),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let members = prop::collection::vec((any::<String>(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let members =
                    members.into_iter().map(|(key, value)| format!("{}:{value}", quoted(key)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn rpc_message() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["tools/call", "tools/list", "reports.list", "ping"]);
    (method, "[a-z_.-]{1,8}", any::<u32>(), json()).prop_map(|(method, tool, id, extra)| {
        let params = format!(r#"{{"name":"{tool}","arguments":{extra}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = rpc::calls(&bytes);
        let _ = graphql::from_post(JSON, &bytes, None);
        let _ = graphql::from_post(RAW, &bytes, None);
        let text = String::from_utf8_lossy(&bytes);
        let _ = graphql::from_post(Some(&text), &bytes, Some(&text));
        let _ = graphql::from_get(Some(&text));
        let _ = ws_graphql::message(&text);
    }

    #[test]
    fn any_json_is_taken_without_a_panic(text in json()) {
        let _ = rpc::calls(text.as_bytes());
        let _ = graphql::from_post(JSON, text.as_bytes(), None);
        let _ = ws_graphql::message(&text);
    }

    #[test]
    fn any_soup_of_graphql_is_taken_without_a_panic_and_facts_name_a_field(document in soup()) {
        if let Ok(operations) = graphql::from_post(RAW, document.as_bytes(), None) {
            prop_assert_eq!(operations.len(), 1);
            prop_assert!(!operations[0].fields.is_empty());
            prop_assert!(operations[0].kind.is_some());
        }
    }

    #[test]
    fn every_root_field_is_found_behind_fragments_and_aliases(
        root in picks(),
        fragments in prop::collection::vec(picks(), 3),
        kind in prop::sample::select(vec!["query", "mutation", "subscription"]),
    ) {
        let mut document = format!("{kind} M {}", write(&root));
        for (index, fragment) in fragments.iter().enumerate() {
            document += &format!("\nfragment F{index} on T {}", write(fragment));
        }
        let mut expected = Vec::new();
        collect(&root, &fragments, &mut Vec::new(), &mut expected);
        let body = serde_json::json!({ "query": document }).to_string();
        match graphql::from_post(JSON, body.as_bytes(), None) {
            Ok(operations) => {
                prop_assert_eq!(sorted(operations[0].fields.clone()), sorted(expected));
                prop_assert_eq!(operations[0].name.as_deref(), Some("M"));
            }
            Err(why) => prop_assert!(expected.is_empty(), "{}: {}", why, document),
        }
    }

    #[test]
    fn the_same_operation_is_read_by_every_road(root in picks(), named in any::<bool>()) {
        let name = if named { "mutation M " } else { "" };
        let document = format!("{name}{}{FRAGMENTS}", write(&root));
        let body = serde_json::json!({ "query": document }).to_string();
        let posted = graphql::from_post(JSON, body.as_bytes(), None);
        prop_assert_eq!(&posted, &graphql::from_post(RAW, document.as_bytes(), None));
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &document)
            .finish();
        prop_assert_eq!(&posted, &graphql::from_get(Some(&query)));
        let message = format!(r#"{{"type":"subscribe","id":"1","payload":{body}}}"#);
        let operation = posted.map(|mut operations| operations.remove(0));
        let expected = operation.map(ws_graphql::Message::Operation);
        prop_assert_eq!(ws_graphql::message(&message), expected);
    }

    #[test]
    fn the_facts_of_a_batch_of_calls_are_those_of_its_parts(
        messages in prop::collection::vec(rpc_message(), 1..5),
    ) {
        let alone: Vec<_> =
            messages.iter().flat_map(|text| rpc::calls(text.as_bytes()).unwrap()).collect();
        let batch = format!("[{}]", messages.join(","));
        prop_assert_eq!(rpc::calls(batch.as_bytes()), Ok(alone));
    }

    #[test]
    fn the_facts_of_a_batch_of_operations_are_those_of_its_parts(
        documents in prop::collection::vec(picks(), 1..5),
    ) {
        let parts: Vec<_> = documents
            .iter()
            .map(|root| format!("{}{FRAGMENTS}", write(root)))
            .map(|document| serde_json::json!({ "query": document }).to_string())
            .collect();
        let alone: Result<Vec<GraphqlOperation>, _> = parts
            .iter()
            .map(|part| graphql::from_post(JSON, part.as_bytes(), None).map(|mut o| o.remove(0)))
            .collect();
        let batch = format!("[{}]", parts.join(","));
        prop_assert_eq!(graphql::from_post(JSON, batch.as_bytes(), None), alone);
    }

    #[test]
    fn a_second_reading_of_any_member_that_decides_is_refused(
        key in prop::sample::select(vec!["jsonrpc", "id", "method", "params"]),
        upper in any::<bool>(),
        value in json(),
        first in any::<bool>(),
    ) {
        let member = if upper { key.to_uppercase() } else { key.to_owned() };
        let call = r#""jsonrpc":"2.0","id":1,"method":"a","params":{}"#;
        let text = if first {
            format!(r#"{{"{member}":{value},{call}}}"#)
        } else {
            format!(r#"{{{call},"{member}":{value}}}"#)
        };
        prop_assert!(rpc::calls(text.as_bytes()).is_err());
    }

    #[test]
    fn the_id_comes_back_as_it_was_sent(id in prop_oneof![
        any::<i64>().prop_map(|id| id.to_string()),
        ".{0,40}".prop_map(quoted),
    ]) {
        let text = format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"a"}}"#);
        let calls = rpc::calls(text.as_bytes()).unwrap();
        prop_assert_eq!(calls[0].id.as_deref(), Some(id.as_str()));
    }
}

#[test]
fn a_document_is_read_in_time_linear_in_its_size() {
    // The bound is loose: a quadratic reader would take 256 times as long for 16 times the bytes.
    let shapes: [fn(usize) -> String; 6] = [
        |n| "a ".repeat(n / 2),
        |n| "a(x:\"y\") ".repeat(n / 9),
        |n| "...on T{a} ".repeat(n / 11),
        |n| format!("a(x:[{}])", "1 ".repeat(n / 2)),
        |n| "#".repeat(n / 2) + "\na",
        |n| "a\n".repeat(n / 2),
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let time = |size: usize| {
            let document = format!("{{ {} }}", shape(size));
            let runs = (0..3).map(|_| {
                let start = std::time::Instant::now();
                let read = graphql::from_post(RAW, document.as_bytes(), None);
                assert_eq!(read.unwrap()[0].kind, Some(GraphqlKind::Query));
                start.elapsed()
            });
            runs.min().unwrap()
        };
        let (small, large) = (time(32 << 10), time(512 << 10));
        println!("shape {index}: {small:?} and {large:?}");
        assert!(large < small * 100, "shape {index}: {small:?} and {large:?}");
    }
}
