//! Bodies that are read to judge them: GraphQL, JSON-RPC and MCP over HTTP, end to end.

use crate::common::{Gateway, Origin, Setup, header, problem, read_head, read_response};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

/// An origin that gives each request's body back.
fn mirror() -> Origin {
    Origin::plain(|mut stream| {
        loop {
            let head = read_head(&mut stream);
            let Some(length) = header(&head, "content-length") else { return };
            assert!(header(&head, "transfer-encoding").is_none(), "{head}");
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
            stream.write_all(&body).unwrap();
        }
    })
}

fn endpoint(port: u16, rules: &str) -> Gateway {
    Setup::policy(&format!(
        "  api:\n    endpoints:\n      - {{ host: origin.test, port: {port}, path: /api, {rules} }}"
    ))
    .more("buffer: { graphql: 4KiB, rpc: 4KiB }\n")
    .start()
}

fn post(client: &mut TcpStream, port: u16, body: &[u8], more: &str) -> (String, Vec<u8>) {
    write!(
        client,
        "POST http://origin.test:{port}/api HTTP/1.1\r\nHost: origin.test:{port}\r\n\
         Content-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    drop(client.write_all(body));
    read_response(client)
}

const GRAPHQL: &str = "protocol: graphql, rules: [ { allow: { operation_type: query, fields: [viewer, \"repo*\"] } } ], \
     deny_rules: [ { operation_type: mutation } ]";
const RPC: &str = "protocol: json-rpc, rules: [ { allow: { method: read } } ]";
const MCP: &str = "protocol: mcp, rules: [ { allow: { method: initialize } }, \
     { allow: { method: tools/call, tool: \"get_*\" } } ]";

#[test]
fn a_graphql_operation_is_judged_by_what_its_body_says_and_goes_up_byte_for_byte() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, GRAPHQL);
    let mut client = gateway.connect();
    let good = b"{ \"query\" :\t\"query Q { viewer { a } repository(n: \\\"\\u00fc\\\") { b } }\",\r\n \"variables\": {} }\n";
    let (head, body) = post(&mut client, port, good, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, good);
    let before = origin.heard().len();
    for (query, code) in
        [("mutation { remove }", "denied_by_rule"), ("{ viewer secrets }", "operation_not_allowed")]
    {
        let bad = format!(r#"{{"query":"{query}"}}"#);
        let (head, body) = post(&mut client, port, bad.as_bytes(), "");
        assert!(head.starts_with("HTTP/1.1 403 Forbidden by policy"), "{head}");
        assert_eq!(problem(&body)["code"], code);
    }
    assert_eq!(origin.heard().len(), before, "nothing of a refused one left");
    // The refusals did not cost the connection.
    assert!(post(&mut client, port, good, "").0.starts_with("HTTP/1.1 200"));
    let records = gateway.records(4);
    assert_eq!(records[0]["graphql"], serde_json::json!(["query Q{viewer,repository}"]));
    assert_eq!(records[0]["upload"], good.len());
    assert_eq!(records[1]["graphql"], serde_json::json!(["mutation {remove}"]));
    assert_eq!(records[1]["upload"], 0);
}

#[test]
fn a_graphql_query_in_the_url_is_judged_too() {
    let origin = Origin::ok("{}");
    let port = origin.port();
    let gateway = endpoint(port, GRAPHQL);
    let mut client = gateway.connect();
    for (query, status) in
        [("%7Bviewer%7D", "200"), ("%7Bsecrets%7D", "403"), ("mutation%7Bx%7D", "403")]
    {
        write!(client, "GET http://origin.test:{port}/api?query={query} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{query}: {head}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_and_never_let_through() {
    for (rules, large) in [
        (
            GRAPHQL,
            format!(r#"{{"query":"{{viewer}}","variables":{{"a":"{}"}}}}"#, "x".repeat(5000)),
        ),
        (
            RPC,
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"read","params":["{}"]}}"#,
                "x".repeat(5000)
            ),
        ),
    ] {
        let origin = mirror();
        let port = origin.port();
        let gateway = endpoint(port, rules);
        let (head, body) = post(&mut gateway.connect(), port, large.as_bytes(), "");
        assert!(head.starts_with("HTTP/1.1 413"), "{head}");
        let problem = problem(&body);
        assert_eq!(
            (&problem["error"], &problem["code"]),
            (&"limit_exceeded".into(), &"judged_body_too_large".into())
        );
        // And where its length is not said.
        let mut client = gateway.connect();
        write!(
            client,
            "POST http://origin.test:{port}/api HTTP/1.1\r\nHost: origin.test:{port}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
            large.len()
        )
        .unwrap();
        assert!(read_response(&mut client).0.starts_with("HTTP/1.1 413"));
        assert_eq!(origin.connections(), 0);
        let records = gateway.records(2);
        assert!(
            records
                .iter()
                .all(|r| r["code"] == "judged_body_too_large" && r["outcome"] == "refused")
        );
    }
}

#[test]
fn a_body_that_cannot_be_read_allows_nothing() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, GRAPHQL);
    let mut client = gateway.connect();
    let good = br#"{"query":"{viewer}"}"#;
    for (body, more) in [
        (&b"not json"[..], ""),
        (b"", ""),
        (good, "Content-Encoding: gzip\r\n"),
        (br#"{"query":"{viewer}","query":"mutation{x}"}"#, ""),
    ] {
        let (head, body) = post(&mut client, port, body, more);
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert_eq!(problem(&body)["code"], "body_not_understood");
    }
    assert_eq!(origin.connections(), 0);
    // A body in chunks is judged and forwarded whole.
    write!(
        client,
        "POST http://origin.test:{port}/api HTTP/1.1\r\nHost: origin.test:{port}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for byte in good {
        write!(client, "1\r\n{}\r\n", char::from(*byte)).unwrap();
    }
    write!(client, "0\r\n\r\n").unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, good);
}

fn rpc_error(body: &[u8]) -> Value {
    let error: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(error["jsonrpc"], "2.0");
    assert!(error["error"]["code"].is_i64());
    assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    error
}

#[test]
fn a_refused_call_is_told_as_json_rpc_with_its_id() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, RPC);
    let mut client = gateway.connect();
    let good = br#"{"jsonrpc":"2.0","id":"a-1","method":"read"}"#;
    assert_eq!(post(&mut client, port, good, "").1, good);
    for (id, back) in
        [("7", Value::from(7)), (r#""x\u0041""#, Value::from("xA")), ("null", Value::Null)]
    {
        let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"wipe"}}"#);
        let (head, body) = post(&mut client, port, call.as_bytes(), "");
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert_eq!(header(&head, "content-type").as_deref(), Some("application/json"));
        let error = rpc_error(&body);
        assert_eq!(error["id"], back);
        assert_eq!(error["error"]["data"]["code"], "rpc_method_not_allowed");
    }
    let records = gateway.records(4);
    assert_eq!(records[0]["rpc"][0]["method"], "read");
    assert_eq!(records[3]["rpc"][0]["method"], "wipe");
    assert_eq!(records[3]["outcome"], "refused");
}

#[test]
fn a_refusal_stays_under_4_kib_whatever_was_asked() {
    let gateway = endpoint(1, RPC);
    let mut client = gateway.connect();
    for (id, method) in [(254, 3_000), (3_000, 200)] {
        let given = id < 256;
        let (id, method) = ("\\\"".repeat(id / 2), "\\\"".repeat(method / 2));
        let call = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}"}}"#);
        let (head, body) = post(&mut client, 1, call.as_bytes(), "");
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert!(body.len() < 4096, "{}", body.len());
        // With an id that is too long it is no call.
        match given {
            true => assert_eq!(rpc_error(&body)["id"].as_str().unwrap().len(), id.len() / 2),
            false => assert_eq!(problem(&body)["code"], "body_not_understood"),
        }
    }
    // Of the first request of a connection the method must look like one.
    let (path, method) = ("\"".repeat(60_000), "M".repeat(2_000));
    write!(client, "{method} http://origin.test:1/{path} HTTP/1.1\r\nHost: origin.test:1\r\n\r\n")
        .unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(body.len() < 4096, "{}", body.len());
    assert!(problem(&body)["path"].as_str().unwrap().starts_with("/\"\""));
}

#[test]
fn one_refused_call_refuses_the_batch() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, RPC);
    let mut client = gateway.connect();
    let good = br#"[{"jsonrpc":"2.0","id":1,"method":"read"},{"jsonrpc":"2.0","method":"read"}]"#;
    assert_eq!(post(&mut client, port, good, "").1, good);
    let before = origin.heard().len();
    let bad =
        br#"[{"jsonrpc":"2.0","id":1,"method":"read"},{"jsonrpc":"2.0","id":2,"method":"wipe"}]"#;
    let (head, body) = post(&mut client, port, bad, "");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    rpc_error(&body);
    assert_eq!(origin.heard().len(), before);
    assert_eq!(gateway.record(2)["rpc"].as_array().unwrap().len(), 2);
}

#[test]
fn mcp_tools_are_judged_and_recorded() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, MCP);
    let mut client = gateway.connect();
    let call = |tool: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
        )
    };
    let (head, body) = post(&mut client, port, call("get_issue").as_bytes(), "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, call("get_issue").as_bytes());
    let (head, body) = post(&mut client, port, call("delete_repo").as_bytes(), "");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let error = rpc_error(&body);
    assert_eq!(
        (&error["id"], &error["error"]["data"]["code"]),
        (&3.into(), &"tool_not_allowed".into())
    );
    let records = gateway.records(2);
    assert_eq!(
        records[0]["rpc"],
        serde_json::json!([{ "method": "tools/call", "tool": "get_issue" }])
    );
    assert_eq!(records[1]["rpc"][0]["tool"], "delete_repo");
}

/// Says `head` and a call of `get_issue`, or of `read`, and returns the status and the code.
fn said(
    client: &mut TcpStream,
    port: u16,
    (line, fields): (&str, &str),
    body: &str,
) -> (u16, Value) {
    write!(
        client,
        "{line} HTTP/1.1\r\nHost: origin.test:{port}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (head, body) = read_response(client);
    let status = head[9..12].parse().unwrap();
    match status {
        200 => (status, Value::Null),
        _ => (status, problem(&body)["code"].clone()),
    }
}

#[test]
fn a_body_whose_type_another_server_reads_otherwise_is_no_call() {
    for (rules, good) in [
        (RPC, r#"{"jsonrpc":"2.0","id":1,"method":"read"}"#),
        (MCP, r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#),
        (GRAPHQL, r#"{"query":"{viewer}"}"#),
    ] {
        let origin = mirror();
        let port = origin.port();
        let gateway = endpoint(port, rules);
        let mut client = gateway.connect();
        let line = format!("POST http://origin.test:{port}/api");
        let refused = (403, Value::from("body_not_understood"));
        for kinds in [
            &["application/json; charset=utf-7"][..],
            &["application/json; charset*=us-ascii''utf-7"],
            &["application/json; charset*0=utf-7"],
            &["application/json; \"charset\"=utf-7"],
            &["application/json; x=\"; charset=utf-7\""],
            &["application/json; x=\"charset=utf-7\""],
            &["application/json", "application/json"],
            &["application/json", "application/json; charset=utf-7"],
            &["application/json, text/xml"],
            &["application/json; x=\u{e9}"],
            &["application/cbor"],
            &["application/x-www-form-urlencoded"],
            &[""],
        ] {
            let fields: String =
                kinds.iter().map(|kind| format!("Content-Type: {kind}\r\n")).collect();
            let answer = said(&mut client, port, (&line, &fields), good);
            assert_eq!(answer, refused, "{rules}: {kinds:?}");
        }
        assert_eq!(origin.connections(), 0, "nothing of a refused one left");
        let taken = "Content-Type: application/json; version=1; charset=\"UTF-8\"\r\n";
        assert_eq!(said(&mut client, port, (&line, taken), good).0, 200, "{rules}");
    }
}

#[test]
fn json_rpc_is_sent_as_json_or_as_nothing_said() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, RPC);
    let mut client = gateway.connect();
    let line = format!("POST http://origin.test:{port}/api");
    let good = r#"{"jsonrpc":"2.0","id":1,"method":"read"}"#;
    for kind in [
        "application/json-rpc",
        "application/jsonrequest",
        "text/plain",
        "Text/Plain; charset=utf-8",
    ] {
        let field = format!("Content-Type: {kind}\r\n");
        assert_eq!(said(&mut client, port, (&line, &field), good).0, 200, "{kind}");
    }
    assert_eq!(said(&mut client, port, (&line, ""), good).0, 200);
}

#[test]
fn a_get_or_delete_of_mcp_with_a_body_may_be_a_call() {
    let origin = mirror();
    let port = origin.port();
    let gateway = endpoint(port, MCP);
    let mut client = gateway.connect();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_repo"}}"#;
    let refused = (403, Value::from("body_not_understood"));
    for method in ["GET", "DELETE"] {
        let line = format!("{method} http://origin.test:{port}/api");
        let json = "Content-Type: application/json\r\n";
        assert_eq!(said(&mut client, port, (&line, json), call), refused, "{method}");
        write!(
            client,
            "{line} HTTP/1.1\r\nHost: origin.test:{port}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{call}\r\n0\r\n\r\n",
            call.len()
        )
        .unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 403"), "{method}: {head}");
        assert_eq!(problem(&body)["code"], "body_not_understood");
        assert!(problem(&body)["detail"].as_str().unwrap().contains("sent with POST"));
    }
    assert_eq!(origin.connections(), 0, "nothing of a refused one left");
    // Without one it opens the stream, or ends the session.
    for method in ["GET", "DELETE"] {
        let line = format!("{method} http://origin.test:{port}/api");
        assert_eq!(said(&mut client, port, (&line, ""), "").0, 200, "{method}");
    }
}
