//! GraphQL bodies, queries and WebSocket messages: any bytes, no panic, and facts that hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::policy::GraphqlOperation;
use portcullis::policy::body::{graphql, ws_graphql};

fn check(operation: &GraphqlOperation) {
    match operation.kind {
        Some(_) => assert!(!operation.fields.is_empty(), "an operation selects a field"),
        None => assert!(operation.persisted.is_some(), "only a stored document has no kind"),
    }
}

fuzz_target!(|body: &[u8]| {
    let json = Some("application/json");
    let posted = graphql::from_post(json, body, None);
    if let Ok(operations) = &posted {
        assert!(!operations.is_empty());
        operations.iter().for_each(check);
        if operations.len() == 1 && body.trim_ascii_start().starts_with(b"{") {
            let batch = [b"[", body, b",", body, b"]"].concat();
            let twice = [operations.clone(), operations.clone()].concat();
            assert_eq!(graphql::from_post(json, &batch, None), Ok(twice));
        }
    }
    let raw = graphql::from_post(Some("application/graphql"), body, None);
    raw.iter().flatten().for_each(check);
    if let Ok(text) = std::str::from_utf8(body) {
        graphql::from_get(Some(text)).iter().flatten().for_each(check);
        if let Ok(ws_graphql::Message::Operation(operation)) = ws_graphql::message(text) {
            check(&operation);
        }
    }
});
