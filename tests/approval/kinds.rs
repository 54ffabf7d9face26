//! What kind of thing asks is shown as what it is: HTTPS by method and path, WebSocket, gRPC,
//! GraphQL, MCP, raw bytes, TLS that can't be ended. An answer to one kind is none to another.

use crate::approval_kit::{self, Control, answer, asking, body, holding, send_with, status};
use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, Tls, client_config, read_all, read_head,
};
use crate::common::{read_request, test_ca, wait_for};
use crate::http_kit;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

fn tls_origin(body: &'static str) -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            let length = body.len();
            if write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").is_err()
            {
                return;
            }
        }
    })
}

/// Gives back what it gets.
fn echo() -> Origin {
    Origin::plain(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

fn heard(stream: &mut impl Read, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn https_is_asked_about_by_method_and_path_and_nothing_is_dialled_before() {
    let origin = tls_origin("secret");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(
        client,
        "DELETE /repos/1?force=1 HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer s3cr3t\r\n\
         Cookie: a=b\r\nX-Note: \u{e9}\r\n\r\n"
    )
    .unwrap();
    client.flush().unwrap();
    let entry = control.one(1);
    assert_eq!((&entry["kind"], &entry["scheme"]), (&json!("http"), &json!("https")));
    assert_eq!((&entry["method"], &entry["path"]), (&json!("DELETE"), &json!("/repos/1")));
    assert_eq!(entry["query"], "force=1");
    let headers = entry["headers"].to_string();
    assert!(!headers.contains("s3cr3t") && !headers.contains("a=b"), "{headers}");
    assert!(headers.contains("***"), "{headers}");
    assert_eq!(origin.connections(), 0);
    control.approve(&entry, &json!({}));
    assert_eq!(answer(&mut client), (200, b"secret".to_vec()));
    // The same over plain HTTP is another request.
    let _plain = send_with(&gateway, "DELETE", &authority, "/repos/1?force=1", "\r\n");
    assert_eq!(control.one(1)["scheme"], "http");
}

fn handshake(client: &mut impl Write, authority: &str, path: &str) {
    write!(
        client,
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\n"
    )
    .unwrap();
    client.flush().unwrap();
}

fn websocket_echo() -> Origin {
    Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(head).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        }
    })
}

const TEXT: &[u8] = b"\x81\x82\x00\x00\x00\x00hi";

#[test]
fn a_websocket_is_asked_about_as_one_and_a_plain_request_does_not_ride_on_its_answer() {
    let origin = websocket_echo();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let url = format!("http://{authority}/ws");
    let mut client = gateway.connect();
    handshake(&mut client, &authority, &url);
    let entry = control.one(1);
    assert_eq!(entry["kind"], "websocket");
    assert_eq!(entry["facts"], json!(["subprotocols chat"]));
    control.approve(&entry, &json!({}));
    assert_eq!(status(&read_head(&mut client)), 101);
    client.write_all(TEXT).unwrap();
    heard(&mut client, TEXT);
    let _plain = send_with(&gateway, "GET", &authority, "/ws", "\r\n");
    let entry = control.one(1);
    assert_eq!(entry["kind"], "http");
    // Nor by a pattern over the same path.
    control.approve(&entry, &json!({ "breadth": "path", "path": "/**" }));
    let mut other = gateway.connect();
    handshake(&mut other, &authority, &format!("http://{authority}/ws2"));
    assert_eq!(control.one(1)["kind"], "websocket");
}

#[test]
fn messages_ride_on_the_answer_for_their_websocket_also_for_once() {
    let origin = websocket_echo();
    let port = origin.port();
    let entry = format!(
        "  w:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        path: /graphql\n        \
         protocol: websocket\n        rules: [ {{ allow: {{ method: GET, path: /graphql }} }}, \
         {{ allow: {{ operation_type: query }} }} ]"
    );
    let gateway = Setup::policy(&entry).sandbox(&format!("    {}\n", approval_kit::HOLD)).start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{port}");
    for scope in ["once", "session"] {
        let mut client = gateway.connect();
        handshake(&mut client, &authority, &format!("http://{authority}/ws"));
        let entry = control.one(1);
        control.approve(&entry, &json!({ "scope": scope }));
        assert_eq!(status(&read_head(&mut client)), 101);
        client.write_all(TEXT).unwrap();
        heard(&mut client, TEXT);
        if scope == "once" {
            control.undo(&entry);
            assert_eq!(read_all(&mut client)[0], 0x88, "a close frame");
            control.deny(&control.again(&entry), &json!({ "scope": "once" }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_call_says_its_method_and_its_refusal_is_grpcs() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut client = http_kit::client(&gateway, 1).await;
    let call = http_kit::request("POST", 1, "/chat.Chat/Talk")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut up) = client.send_request(call, false).unwrap();
    up.send_data(bytes::Bytes::from_static(b"\0\0\0\0\x02hi"), true).unwrap();
    tokio::task::block_in_place(|| {
        let entry = control.one(1);
        assert_eq!(
            (&entry["kind"], &entry["facts"]),
            (&json!("grpc"), &json!(["gRPC chat.Chat/Talk"]))
        );
        control.deny(&entry, &json!({ "scope": "once", "reason": "no chat" }));
    });
    let response = http_kit::soon(response).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"7".parse().unwrap())
    );
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("no chat"), "{message}");
}

const QUERY: &str = "{\"query\":\"mutation Evil { deleteAll }\"}";
const CALL: &str =
    "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"drop\"}}";

#[test]
fn graphql_operations_and_mcp_tools_are_named() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let endpoint = |path: &str, rest: &str| {
        format!("      - {{ host: origin.test, port: {port}, path: {path}, {rest} }}\n")
    };
    let graphql = "protocol: graphql, rules: [ { allow: { operation_type: query } } ]";
    let mcp = "protocol: mcp, rules: [ { allow: { method: tools/call, tool: read } } ]";
    let policy =
        format!("  k:\n    endpoints:\n{}{}", endpoint("/graphql", graphql), endpoint("/mcp", mcp));
    let gateway = Setup::policy(&policy).sandbox(&format!("    {}\n", approval_kit::HOLD)).start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{port}");
    let post = |path: &str, text: &str| {
        send_with(&gateway, "POST", &authority, path, &body("application/json", text))
    };
    for (path, text, kind, fact) in [
        ("/graphql", QUERY, "graphql", "GraphQL mutation Evil{deleteAll}"),
        ("/mcp", CALL, "rpc", "calls tools/call with tool drop"),
        // What no rule is about is named where it can be read.
        ("/else", CALL, "http", "calls tools/call with tool drop"),
        ("/else", QUERY, "http", "GraphQL mutation Evil{deleteAll}"),
    ] {
        let mut held = post(path, text);
        let entry = control.one(1);
        assert_eq!((&entry["kind"], &entry["facts"]), (&json!(kind), &json!([fact])), "{path}");
        control.approve(&entry, &json!({}));
        assert_eq!(answer(&mut held).0, 200);
        assert!(origin.heard().contains(text));
        assert_eq!(answer(&mut post(path, text)).0, 200, "{path} again");
    }
    // Another operation, another tool, is another question.
    let _other = post("/mcp", &CALL.replace("drop", "burn"));
    assert_eq!(control.one(1)["facts"], json!(["calls tools/call with tool burn"]));
    // And denied, MCP's clients get an error object with their id.
    let mut denied = post("/mcp", &CALL.replace("drop", "fire"));
    let entry = wait_for(PATIENCE, || {
        control.pending().into_iter().find(|e| e["facts"].to_string().contains("fire"))
    });
    control.deny(&entry, &json!({ "scope": "once" }));
    let (status, text) = answer(&mut denied);
    let error: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (status, &error["id"], &error["error"]["data"]["error"]),
        (403, &json!(7), &json!("approval_denied"))
    );
}

#[test]
fn a_tool_or_operation_for_good_is_that_tool_or_operation_alone() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let policy = format!(
        "  k:\n    endpoints:\n      - {{ host: origin.test, port: {port}, path: /graphql, protocol: graphql, \
         rules: [ {{ allow: {{ operation_type: query }} }} ] }}\n      - {{ host: origin.test, port: {port}, \
         path: /mcp, protocol: mcp, rules: [ {{ allow: {{ method: tools/call, tool: read }} }} ] }}\n"
    );
    let gateway = Setup::policy(&policy).sandbox(&format!("    {}\n", approval_kit::HOLD)).start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{port}");
    let post = |path: &str, text: &str| {
        send_with(&gateway, "POST", &authority, path, &body("application/json", text))
    };
    let list = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\"}";
    for (path, text, same, others) in [
        ("/mcp", CALL, CALL.replace("7", "8"), [CALL.replace("drop", "d*p"), list.to_owned()]),
        (
            "/graphql",
            QUERY,
            QUERY.replace("{ deleteAll }", "{ deleteAll(really: true) }"),
            [QUERY.replace("deleteAll", "deleteMore"), QUERY.replace("Evil", "Worse")],
        ),
    ] {
        let mut held = post(path, text);
        let entry = control.one(1);
        let yaml = entry["proposal"]["yaml"].as_str().unwrap();
        assert!(yaml.contains("wider than the answer: any arguments"), "{yaml}");
        control.approve(&entry, &json!({ "scope": "always" }));
        assert_eq!(answer(&mut held).0, 200, "{path}");
        assert_eq!(answer(&mut post(path, &same)).0, 200, "{path}");
        for other in others {
            let mut held = post(path, &other);
            control.deny(&control.one(1), &json!({ "scope": "once" }));
            assert_eq!(answer(&mut held).0, 403, "{other}");
        }
    }
}

#[test]
fn raw_bytes_are_asked_about_and_covered_by_an_answer_about_raw_bytes_alone() {
    let origin = echo();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let mut raw = gateway.tunnel(&authority);
    raw.write_all(b"\x00SSH-ish").unwrap();
    let entry = control.one(1);
    assert_eq!((&entry["kind"], &entry["scheme"]), (&json!("tcp"), &json!("tcp")));
    assert!(entry["path"].is_null());
    assert_eq!(control.decide(&entry, "approve", &json!({ "breadth": "path" })).0, 400);
    assert_eq!(origin.connections(), 0);
    control.approve(&entry, &json!({}));
    heard(&mut raw, b"\x00SSH-ish");
    let mut again = gateway.tunnel(&authority);
    again.write_all(b"\x00more").unwrap();
    heard(&mut again, b"\x00more");
    let _http = send_with(&gateway, "GET", &authority, "/", "\r\n");
    assert_eq!(control.one(1)["kind"], "http");
    drop((raw, again));
    for record in gateway.records(2) {
        assert_eq!((&record["by"], &record["scheme"]), (&json!("grant:g1"), &json!("tcp")));
        assert_eq!(record["approval"]["decision"], "approve");
    }
    // An answer about every request on the host says nothing of raw bytes.
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let _held = send_with(&gateway, "GET", &authority, "/", "\r\n");
    control.approve(&control.one(1), &json!({ "breadth": "host" }));
    let mut raw = gateway.tunnel(&authority);
    raw.write_all(b"\x00raw").unwrap();
    assert_eq!(control.one(1)["kind"], "tcp");
}

#[test]
fn nobody_is_asked_about_bytes_that_could_be_what_is_denied_there() {
    let origin = echo();
    let port = origin.port();
    let entry = format!(
        "  d:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        \
         access: read-only\n        deny_rules: [ {{ method: POST, path: /secret }} ]"
    );
    let gateway = Setup::policy(&entry).sandbox(&format!("    {}\n", approval_kit::HOLD)).start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{port}");
    let mut raw = gateway.tunnel(&authority);
    raw.write_all(b"\x00POST /secret").unwrap();
    assert_eq!(read_all(&mut raw), b"");
    let record = gateway.record(1);
    assert_eq!((&record["outcome"], &record["sent"]), (&json!("refused"), &json!(false)));
    assert!(distrusting(&gateway, &authority).is_none());
    gateway.records(2);
    assert_eq!((control.pending().len(), origin.connections()), (0, 0));
    // The operator's own denial is one, too.
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut raw = gateway.tunnel(&authority);
    raw.write_all(b"\x00one").unwrap();
    control.approve(&control.one(1), &json!({}));
    heard(&mut raw, b"\x00one");
    let mut denied = send_with(&gateway, "POST", &authority, "/secret", "\r\n");
    control.deny(&control.one(1), &json!({}));
    assert_eq!(answer(&mut denied).0, 403);
    // What lived by the answer before ends.
    assert_eq!(read_all(&mut raw), b"");
    let mut raw = gateway.tunnel(&authority);
    raw.write_all(b"\x00two").unwrap();
    assert_eq!(read_all(&mut raw), b"");
    assert_eq!(control.pending().len(), 0);
}

/// A client that trusts the origin's CA and not the gateway's: its TLS once it is through.
fn distrusting(gateway: &Gateway, authority: &str) -> Option<Tls> {
    let mut stream = TcpStream::connect(gateway.proxy).unwrap();
    common::limits(&stream);
    write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    let head = read_head(&mut stream);
    assert_eq!(status(&head), 200, "{head}");
    let config = client_config(test_ca().pem.as_bytes(), &["http/1.1"]);
    let name = ServerName::try_from("origin.test").unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    client.complete_io(&mut stream).ok()?;
    Some(rustls::StreamOwned::new(client, stream))
}

fn get(client: &mut Tls, authority: &str) -> (u16, Vec<u8>) {
    write!(client, "GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    answer(client)
}

#[test]
fn a_client_that_distrusts_the_ca_is_asked_about_by_host_and_passes_at_its_next_try() {
    let origin = tls_origin("private");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    assert!(distrusting(&gateway, &authority).is_none());
    let entry = control.one(0);
    assert_eq!((&entry["kind"], &entry["scheme"]), (&json!("opaque"), &json!("https")));
    assert!(entry["path"].is_null() && !entry["risk"].as_array().unwrap().is_empty(), "{entry}");
    assert_eq!(origin.connections(), 0);
    control.approve(&entry, &json!({ "scope": "once" }));
    let mut client = distrusting(&gateway, &authority).unwrap();
    assert_eq!(get(&mut client, &authority), (200, b"private".to_vec()));
    drop(client);
    assert!(distrusting(&gateway, &authority).is_none(), "once");
    let records = gateway.records(3);
    assert_eq!(records[0]["request"], entry["request"]);
    let passed = records.iter().find(|record| record["outcome"] == "passed").unwrap();
    assert_eq!((&passed["by"], &passed["request"]), (&json!("grant:r1"), &json!("r1")));
    assert_eq!(passed["approval"]["decision"], "approve");
    control.approve(&control.one(0), &json!({}));
    for _ in 0..2 {
        let mut client = distrusting(&gateway, &authority).unwrap();
        assert_eq!(get(&mut client, &authority).0, 200);
    }
}

#[test]
fn an_answer_about_opaque_tls_lets_nothing_but_tls_to_that_name_through() {
    let origin = tls_origin("private");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    assert!(distrusting(&gateway, &authority).is_none());
    control.approve(&control.one(0), &json!({}));
    let through = |bytes: &[u8]| {
        let mut raw = gateway.tunnel(&authority);
        raw.write_all(bytes).unwrap();
        raw.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(&mut raw)
    };
    assert_eq!(through(b"POST /secret HTTP/1.1\r\nHost: x\r\n\r\n"), b"");
    assert_eq!(through(b"\x00raw bytes"), b"");
    assert_eq!(through(b""), b"");
    assert_eq!(through(&common::hello::named("other.test")), common::hello::UNRECOGNIZED_NAME);
    assert_eq!(origin.heard(), "");
    let records = gateway.records(5);
    assert!(records.iter().all(|record| record["sent"] == false), "{records:#?}");
    // Plain requests are asked about as before.
    let _held = send_with(&gateway, "GET", &authority, "/", "\r\n");
    assert_eq!(control.one(1)["kind"], "http");
}

#[test]
fn a_request_answers_no_opaque_tunnel_and_an_opaque_tunnel_no_request() {
    let origin = tls_origin("private");
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let ask = || {
        let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        get(&mut client, &authority).0
    };
    assert_eq!(ask(), 403);
    assert!(distrusting(&gateway, &authority).is_none());
    let entries = control.waits(2);
    let (http, opaque) = (&entries[0], &entries[1]);
    assert_eq!((&http["kind"], &opaque["kind"]), (&json!("http"), &json!("opaque")));
    assert_eq!((&http["variants"], &opaque["variants"]), (&json!([]), &json!([])));
    control.approve(http, &json!({ "breadth": "host" }));
    assert_eq!(ask(), 200);
    assert!(distrusting(&gateway, &authority).is_none());
    let waits = wait_for(PATIENCE, || Some(control.one(0)).filter(|entry| entry["count"] == 2));
    assert_eq!(waits["kind"], "opaque");
    // Denied for the session it is not asked about again.
    control.deny(&waits, &json!({}));
    assert!(distrusting(&gateway, &authority).is_none());
    gateway.records(5);
    assert_eq!(control.pending().len(), 0);
    assert_eq!(ask(), 200, "the denial is about opaque tunnels alone");
}

#[test]
fn an_opaque_tunnel_for_good_is_a_rule_and_is_taken_back() {
    let origin = tls_origin("private");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    assert!(distrusting(&gateway, &authority).is_none());
    let entry = control.one(0);
    assert!(entry["proposal"]["yaml"].as_str().unwrap().contains("nothing in it is seen"));
    control.approve(&entry, &json!({ "scope": "always" }));
    let mut client = distrusting(&gateway, &authority).unwrap();
    assert_eq!(get(&mut client, &authority).0, 200);
    control.undo(&entry);
    assert_eq!(read_all(&mut client.sock), b"");
    assert!(distrusting(&gateway, &authority).is_none());
}
