//! A credential goes in where it is bound and nowhere else (security.md 14).

use crate::common::{self, Gateway, Origin, Setup, expired, problem, read_request};
use crate::credentials_kit::{BEARER, Server, TOKEN, ask, ask_bytes, setup};
use crate::http_kit;
use std::io::Write;

fn started(port: u16, inject: &[&str]) -> Gateway {
    setup(port, inject).start()
}

#[test]
fn a_request_that_meets_its_binding_gets_the_credential() {
    let server = Server::ok();
    let gateway = started(server.port(), &[BEARER]);
    let (head, body) = ask(&gateway, "origin.test", server.port(), "GET /user");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"ok");
    assert_eq!(server.only().all("authorization"), [format!("Bearer {TOKEN}")]);
    let record = gateway.record(1);
    assert_eq!(record["credential"], "github");
    assert_eq!(record["outcome"], "passed");
}

#[test]
fn every_copy_that_the_client_sent_is_gone() {
    let server = Server::ok();
    let gateway = started(server.port(), &["header: X-Api-Key"]);
    let mine =
        "GET /\r\nX-Api-Key: mine\r\nx-api-key: mine2\r\nX_Api_Key: mine3\r\nOther: stays\r\n";
    ask(&gateway, "origin.test", server.port(), mine);
    let heard = server.only();
    assert_eq!(heard.all("x-api-key"), [TOKEN]);
    assert!(!heard.head.contains("mine"), "{}", heard.head);
    assert_eq!(heard.all("other"), ["stays"]);
}

#[test]
fn a_client_can_not_have_it_removed_by_naming_it_in_connection() {
    let server = Server::ok();
    let gateway = started(server.port(), &[BEARER]);
    let named = "GET /\r\nConnection: authorization\r\nAuthorization: mine\r\n";
    ask(&gateway, "origin.test", server.port(), named);
    assert_eq!(server.only().all("authorization"), [format!("Bearer {TOKEN}")]);
}

#[test]
fn a_client_can_not_send_its_own_behind_the_body() {
    let server = Server::ok();
    let gateway = started(server.port(), &["header: X-Api-Key"]);
    let request = "POST /\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key, X-Other\r\n";
    let body = b"3\r\nabc\r\n0\r\nX-Api-Key: mine\r\nX_Api_Key: mine\r\nX-Other: stays\r\n\r\n";
    let (head, _) = ask_bytes(&gateway, "origin.test", server.port(), request, body);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let heard = server.only();
    assert!(!String::from_utf8_lossy(&heard.body).contains("mine"), "{heard:?}");
}

#[test]
fn a_request_that_misses_its_binding_gets_none_and_keeps_its_own() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, &[&format!("{BEARER}, methods: [GET, POST], path: \"/repos/**\"")]);
    let own = "\r\nAuthorization: mine\r\n";
    for (host, request) in [
        ("origin.test", "GET /user"),
        ("origin.test", "DELETE /repos/a"),
        ("origin.test", "GET /repos"),
        ("other.test", "GET /repos/a"),
    ] {
        ask(&gateway, host, port, &format!("{request}{own}"));
        assert_eq!(server.last().all("authorization"), ["mine"], "{host} {request}");
    }
    ask(&gateway, "origin.test", port, &format!("POST /repos/a/b{own}Content-Length: 0\r\n"));
    assert_eq!(server.last().all("authorization"), [format!("Bearer {TOKEN}")]);
    let records = gateway.records(5);
    assert!(records[..4].iter().all(|record| record.get("credential").is_none()));
}

/// An origin may read `//pub` and `/;x/pub` as `/pub`.
#[test]
fn a_path_is_bound_in_every_reading_or_not_at_all() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, &[&format!("{BEARER}, path: \"/*/pub\"")]);
    for path in ["//pub", "/;x/pub", "/;/pub"] {
        ask(&gateway, "origin.test", port, &format!("GET {path}"));
        assert_eq!(server.last().all("authorization"), [""; 0], "{path}");
    }
    ask(&gateway, "origin.test", port, "GET /a/pub");
    assert_eq!(server.last().all("authorization"), [format!("Bearer {TOKEN}")]);
}

#[test]
fn a_binding_for_another_port_is_not_met() {
    let (server, other) = (Server::ok(), Server::ok());
    let mut setup = setup(other.port(), &[BEARER]);
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t: {{ endpoints: [{{ host: origin.test, ports: [{}, {}], protocol: rest, enforcement: enforce, access: full }}] }}\n",
        server.port(),
        other.port()
    );
    let gateway = setup.start();
    ask(&gateway, "origin.test", server.port(), "GET /");
    ask(&gateway, "origin.test", other.port(), "GET /");
    assert_eq!(server.only().all("authorization"), [""; 0]);
    assert_eq!(other.only().all("authorization"), [format!("Bearer {TOKEN}")]);
}

#[test]
fn a_sandbox_without_the_credential_attached_gets_none() {
    let server = Server::ok();
    let mut setup = setup(server.port(), &[BEARER]);
    setup.sandbox = String::new();
    let gateway = setup.start();
    ask(&gateway, "origin.test", server.port(), "GET /");
    assert_eq!(server.only().all("authorization"), [""; 0]);
}

#[test]
fn plain_http_gets_none() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let gateway = started(port, &[BEARER]);
    let answer = gateway.exchange(
        format!("GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(!origin.heard().to_ascii_lowercase().contains("authorization"), "{}", origin.heard());
    assert!(gateway.record(1).get("credential").is_none());
}

#[test]
fn an_origin_that_does_not_verify_gets_none() {
    let heard: std::sync::Arc<std::sync::Mutex<String>> = std::sync::Arc::default();
    let all = heard.clone();
    let config = expired(&["origin.test"]);
    let origin = Origin::plain(move |recorded| {
        let server = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut tls = rustls::StreamOwned::new(server, recorded.stream);
        all.lock().unwrap().push_str(&read_request(&mut tls));
    });
    let gateway = started(origin.port(), &[BEARER]);
    let (head, body) = ask(&gateway, "origin.test", origin.port(), "GET /");
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(problem(&body)["code"], "tls_expired");
    assert_eq!(*heard.lock().unwrap(), "");
}

#[test]
fn a_tunnel_that_is_not_looked_into_gets_none() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t: {{ endpoints: [{{ host: origin.test, port: {port}, tls: skip }}] }}\n"
    );
    let gateway = setup.start();
    let mut stream = gateway.tunnel(&format!("origin.test:{port}"));
    // The origin's own certificate: nobody looks inside.
    let client = rustls::ClientConnection::new(
        common::client_config(common::test_ca().pem.as_bytes(), &["http/1.1"]),
        "origin.test".try_into().unwrap(),
    );
    let mut tls = rustls::StreamOwned::new(client.unwrap(), &mut stream);
    write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").unwrap();
    let (head, _) = common::read_response(&mut tls);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(server.only().all("authorization"), [""; 0]);
}

#[test]
fn what_only_an_audit_lets_through_gets_none() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        enforcement: audit\n        rules: [{{ allow: {{ method: GET, path: /allowed }} }}]\n"
    );
    let gateway = setup.start();
    ask(&gateway, "origin.test", port, "GET /allowed");
    assert_eq!(server.last().all("authorization"), [format!("Bearer {TOKEN}")]);
    ask(&gateway, "origin.test", port, "GET /audited");
    assert_eq!(server.last().all("authorization"), [""; 0]);
    assert_eq!(gateway.record(2)["code"], "audited");
}

#[test]
fn a_binding_alone_allows_nothing() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[BEARER]).sandbox("    approval: { mode: deny }\n");
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        enforcement: enforce\n        rules: [{{ allow: {{ method: GET, path: /allowed }} }}]\n"
    );
    let gateway = setup.start();
    let (head, body) = ask(&gateway, "origin.test", port, "GET /other");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(problem(&body)["code"], "path_not_allowed");
    assert_eq!(server.count(), 0);
}

#[test]
fn an_address_that_the_binding_does_not_list_gets_none() {
    let server = Server::ok();
    let port = server.port();
    let gateway = Setup::allow_all(&["origin.test"], port)
        .sandbox("    credentials: [github]\n")
        .file("secret", TOKEN)
        .more(&format!(
            "credentials:\n  github: {{ file: secret }}\ninject:\n  - {{ credential: github, host: origin.test, port: {port}, addresses: [192.0.2.1], {BEARER} }}\n"
        ))
        .start();
    let (head, body) = ask(&gateway, "origin.test", port, "GET /");
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(problem(&body)["error"], "credential_unavailable");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_source_that_fails_is_a_502_with_the_name_and_nothing_goes_up() {
    let server = Server::ok();
    let port = server.port();
    for source in [
        "file: not-there",
        "env: NOT_SET_ANYWHERE",
        "command: [/bin/false]",
        "command: [/no/such/program]",
    ] {
        let mut setup = setup(port, &[BEARER]);
        setup.more = setup.more.replace("file: secret", source);
        let gateway = setup.start();
        let (head, body) = ask(&gateway, "origin.test", port, "GET /\r\nAuthorization: mine\r\n");
        assert!(head.starts_with("HTTP/1.1 502"), "{source}: {head}");
        let body = problem(&body);
        assert_eq!(body["error"], "credential_unavailable");
        assert_eq!(body["code"], "credential_unavailable");
        assert_eq!(body["detail"], "the credential `github` is not available");
        let record = gateway.record(1);
        assert_eq!((&record["sent"], &record["outcome"]), (&false.into(), &"failed".into()));
    }
    assert_eq!(server.count(), 0);
    assert_eq!(server.origin.connections(), 0);
}

#[test]
fn basic_and_query_and_bare_headers_go_where_they_are_said_to() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(
        port,
        &[
            "basic: { user: bot@acme.com }, path: \"/basic\"",
            "query: api key, path: \"/query\"",
            "header: X-Token, path: \"/bare\"",
            "header: X-Both, path: \"/both\"",
            "query: key, path: \"/both\"",
        ],
    );
    ask(&gateway, "origin.test", port, "GET /basic\r\nAuthorization: Bearer mine\r\n");
    assert_eq!(
        server.last().all("authorization"),
        ["Basic Ym90QGFjbWUuY29tOmdocF9TM2NyZXQvVmFsdWUrMD0="]
    );
    ask(&gateway, "origin.test", port, "GET /query?a=1&api+key=mine&b=2");
    assert_eq!(server.last().target(), "/query?a=1&b=2&api%20key=ghp_S3cret%2FValue%2B0%3D");
    ask(&gateway, "origin.test", port, "GET /bare");
    assert_eq!(server.last().all("x-token"), [TOKEN]);
    ask(&gateway, "origin.test", port, "GET /both");
    let heard = server.last();
    assert_eq!(heard.all("x-both"), [TOKEN]);
    assert_eq!(heard.target(), "/both?key=ghp_S3cret%2FValue%2B0%3D");
    let records = gateway.records(4);
    assert_eq!(records[1]["query"], "a=1&api+key=***&b=2");
    assert!(records[3].get("query").is_none(), "what was judged is recorded");
}

#[test]
fn a_new_value_is_used_from_the_next_request_on_without_a_restart() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, &[BEARER]);
    ask(&gateway, "origin.test", port, "GET /");
    let beside = gateway.dir.path().join("secret.new");
    std::fs::write(&beside, "another-value\n").unwrap();
    std::fs::rename(&beside, gateway.dir.path().join("secret")).unwrap();
    ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(server.last().all("authorization"), ["Bearer another-value"]);
}

#[test]
fn a_401_of_the_origin_has_the_command_run_again_for_the_next_request() {
    let server =
        Server::new(|_| b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_vec());
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    let command = "command: [/bin/sh, -c, \"echo x >> runs; echo the-value-$(wc -l < runs)\"]";
    setup.more = setup.more.replace("file: secret", command);
    let gateway = setup.start();
    for (request, run) in [(1, 1), (2, 2), (3, 2)] {
        let (head, _) = ask(&gateway, "origin.test", port, "GET /");
        assert!(head.starts_with("HTTP/1.1 401"), "the client sees what the origin said");
        let value = format!("Bearer the-value-{run}");
        assert_eq!(server.last().all("authorization"), [value], "request {request}");
    }
}

#[test]
fn a_reload_that_takes_a_binding_away_takes_the_credential_away() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, &[BEARER]);
    ask(&gateway, "origin.test", port, "GET /");
    let config = gateway.dir.path().join("config.yaml");
    let text = common::text(&config).replace("credentials: [github]", "credentials: []");
    std::fs::write(&config, text).unwrap();
    gateway.signal("HUP");
    common::wait_for(common::PATIENCE, || {
        ask(&gateway, "origin.test", port, "GET /");
        server.last().all("authorization").is_empty().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stream_of_an_http2_client_gets_it_on_its_own() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, &[&format!("{BEARER}, path: \"/bound\"")]);
    let mut client = http_kit::client(&gateway, port).await;
    for (path, gets) in [("/bound", true), ("/other", false), ("/bound", true)] {
        let request = http_kit::request("GET", port, path).body(()).unwrap();
        let (head, _, _) = http_kit::exchange(&mut client, request, b"").await;
        assert_eq!(head.status(), 200);
        let heard = server.last().all("authorization");
        assert_eq!(!heard.is_empty(), gets, "{path}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_origin_gets_it_too() {
    let heard: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
    let all = heard.clone();
    let origin = http_kit::H2Origin::tls(move |request, respond| {
        let all = all.clone();
        async move {
            let values = request.headers().get_all("authorization").iter();
            all.lock().unwrap().extend(values.map(|v| v.to_str().unwrap().to_owned()));
            http_kit::reply(respond, 200, format!("you sent {TOKEN}").as_bytes());
        }
    });
    let port = origin.port();
    let gateway = started(port, &[BEARER]);
    let mut client = http_kit::client(&gateway, port).await;
    let request =
        http_kit::request("GET", port, "/").header("authorization", "mine").body(()).unwrap();
    let (_, body, _) = http_kit::exchange(&mut client, request, b"").await;
    assert_eq!(String::from_utf8_lossy(&body), "you sent ***");
    assert_eq!(*heard.lock().unwrap(), [format!("Bearer {TOKEN}")]);
}
