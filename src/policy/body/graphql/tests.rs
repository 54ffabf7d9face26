//! Envelopes, one law a test.

use super::*;
use crate::policy::GraphqlKind;

/// Looks like a hash, and is that of nothing here.
const HASH: &str = "8b1a7ff1bd76f4a2b0b1ae5f6b8d1c5b0d7d4a6e2b1a7ff1bd76f4a2b0b1ae5f";

fn post(body: &str) -> Result<Vec<GraphqlOperation>, &'static str> {
    from_post(Some("application/json"), body.as_bytes(), None)
}

fn hash_of(document: &str) -> String {
    Sha256::digest(document.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_post_is_read() {
    let body = r#"{"query":"query A { a b: c } mutation B { d }","operationName":"A",
        "variables":{"x":1},"extensions":{"tracing":true}}"#;
    let operations = post(body).unwrap();
    let expected = GraphqlOperation {
        kind: Some(GraphqlKind::Query),
        name: Some("A".to_owned()),
        fields: vec!["a".to_owned(), "c".to_owned()],
        persisted: None,
    };
    assert_eq!(operations, [expected]);
}

#[test]
fn null_members_count_as_absent() {
    let body = r#"{"query":"{ a }","operationName":null,"variables":null,"extensions":null,
        "id":null}"#;
    assert_eq!(post(body).unwrap()[0].fields, ["a"]);
    assert_eq!(post(r#"{"query":"{ a }","operationName":""}"#).unwrap()[0].fields, ["a"]);
}

#[test]
fn every_operation_of_a_batch_is_read() {
    let operations = post(r#"[{"query":"{ a }"},{"query":"mutation { b }"}]"#).unwrap();
    assert_eq!(operations.len(), 2);
    assert_eq!(operations[1].kind, Some(GraphqlKind::Mutation));
    assert!(post("[]").is_err());
    assert!(post(r#"[{"query":"{ a }"},{}]"#).is_err());
    assert!(post(r#"[[{"query":"{ a }"}]]"#).is_err());
}

#[test]
fn an_envelope_with_two_readings_is_refused() {
    for body in [
        r#"{"query":"{ a }","query":"mutation { b }"}"#,
        r#"{"query":"{ a }","Query":"mutation { b }"}"#,
        r#"{"query":"{ a }","qu\u0065ry":"mutation { b }"}"#,
        r#"{"query":"query A { a } mutation B { b }","operationName":"A","operationName":"B"}"#,
        r#"{"query":"query A { a } mutation B { b }","operationName":"A","operation_name":"B"}"#,
        r#"{"query":"{ a }","variables":{},"variables":{}}"#,
        r#"{"query":"{ a }","id":"stored"}"#,
        r#"{"query":"{ a }","documentId":"stored"}"#,
        r#"{"query":"{ a }","doc_id":"stored"}"#,
        r#"{"query":"{ a }","hash":"stored"}"#,
        r#"{"id":"one","documentId":"two"}"#,
        r#"{"extensions":{"persistedQuery":{"sha256Hash":"a","sha256Hash":"b"}}}"#,
        r#"{"extensions":{"persistedQuery":{"sha256Hash":"a"},"persistedquery":{}}}"#,
        r#"{"extensions":{"persistedQuery":{"sha256Hash":"a"}},"id":"b"}"#,
    ] {
        assert!(post(body).is_err(), "{body}");
    }
}

#[test]
fn members_of_other_types_are_refused() {
    for body in [
        "",
        "null",
        "\"{ a }\"",
        "{}",
        r#"{"query":null}"#,
        r#"{"query":1}"#,
        r#"{"query":["{ a }"]}"#,
        r#"{"query":{"a":1}}"#,
        r#"{"query":"{ a }","operationName":1}"#,
        r#"{"query":"{ a }","extensions":"{}"}"#,
        r#"{"query":"{ a }","variables":[]}"#,
        r#"{"query":"{ a }"} x"#,
        r#"{"id":1}"#,
        r#"{"id":""}"#,
        r#"{"extensions":{"persistedQuery":{}}}"#,
        r#"{"extensions":{"persistedQuery":{"sha256Hash":""}}}"#,
    ] {
        assert!(post(body).is_err(), "{body}");
    }
    assert!(from_post(Some("application/json"), b"{\"query\":\"{ a }\xff\"}", None).is_err());
    let marked = "\u{feff}{\"query\":\"{ a }\"}";
    assert!(post(marked).is_err());
}

#[test]
fn a_persisted_query_is_known_by_its_hash_alone() {
    let operations = post(&format!(
        r#"{{"operationName":"Claimed","extensions":{{"persistedQuery":{{"version":1,"sha256Hash":"{HASH}"}}}}}}"#
    ));
    let operation = &operations.unwrap()[0];
    assert_eq!((operation.kind, operation.name.as_deref()), (None, None));
    assert_eq!(operation.persisted.as_deref(), Some(HASH));
    for name in IDS {
        let operations = post(&format!(r#"{{"{name}":"abc","variables":{{}}}}"#)).unwrap();
        assert_eq!(operations[0].persisted.as_deref(), Some("abc"));
    }
}

#[test]
fn a_hash_beside_a_document_must_be_its_hash() {
    let body = |hash: &str| {
        format!(
            r#"{{"query":"{{ a }}","extensions":{{"persistedQuery":{{"sha256Hash":"{hash}"}}}}}}"#
        )
    };
    let hash = hash_of("{ a }");
    let operation = &post(&body(&hash)).unwrap()[0];
    assert_eq!(operation.persisted.as_deref(), Some(hash.as_str()));
    assert_eq!(operation.fields, ["a"]);
    assert!(post(&body(&hash.to_uppercase())).is_ok());
    assert!(post(&body(HASH)).is_err());
    assert!(post(&body(&hash[1..])).is_err());
    assert!(post(&body(&format!("+{}", &hash[1..]))).is_err());
}

#[test]
fn other_content_types_are_refused() {
    let json = br#"{"query":"{ a }"}"#;
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/json; charset=utf-7"),
        Some("application/graphql+json"),
    ] {
        assert!(from_post(content_type, json, None).is_err(), "{content_type:?}");
    }
}

#[test]
fn a_graphql_body_is_the_document() {
    let read = |body: &[u8]| from_post(Some("application/graphql; charset=utf-8"), body, None);
    assert_eq!(read(b"mutation { a }").unwrap()[0].kind, Some(GraphqlKind::Mutation));
    assert!(read(b"query A { a } query B { b }").is_err());
    assert!(read(b"\xef\xbb\xbf{ a }").is_err());
    assert!(read(br#"{"query":"{ a }"}"#).is_err());
}

#[test]
fn the_url_of_a_post_must_not_speak() {
    let with = |query| from_post(Some("application/json"), br#"{"query":"{ a }"}"#, Some(query));
    assert!(with("").is_ok());
    assert!(with("op=A&trace=1").is_ok());
    for query in [
        "query=mutation{b}",
        "QUERY=x",
        "query%5B%5D=x",
        "operationName=A",
        "operation_name=A",
        "extensions=%7B%7D",
        "variables",
        "documentId=1",
        "a=%zz",
        "a;query=x",
    ] {
        assert!(with(query).is_err(), "{query}");
    }
}

#[test]
fn a_get_is_read_from_its_query() {
    let operations = from_get(Some("query=mutation+M%7Bx%3Aa%7D&variables=%7B%7D")).unwrap();
    assert_eq!(operations[0].kind, Some(GraphqlKind::Mutation));
    assert_eq!(operations[0].fields, ["a"]);
    let chosen = from_get(Some("query=query%20A{a}%20query%20B{b}&operationName=B")).unwrap();
    assert_eq!(chosen[0].name.as_deref(), Some("B"));
    let hashed = from_get(Some("extensions={%22persistedQuery%22:{%22sha256Hash%22:%22ab%22}}"));
    assert_eq!(hashed.unwrap()[0].persisted.as_deref(), Some("ab"));
    assert_eq!(from_get(Some("documentId=d")).unwrap()[0].persisted.as_deref(), Some("d"));
}

#[test]
fn a_get_with_two_readings_is_refused() {
    for query in [
        "",
        "query=",
        "query={a}&query={b}",
        "query={a}&Query={b}",
        "query={a}&query[]={b}",
        "query={a}&documentId=d",
        "query={a}&doc_id=d",
        "query={a}&extensions=x",
        "query={a}&extensions=[]",
        "query={a};operationName=x",
        "query=%ff",
    ] {
        assert!(from_get(Some(query)).is_err(), "{query}");
    }
    assert!(from_get(None).is_err());
}
