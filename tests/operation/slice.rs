//! The main job, end to end: forward, CONNECT with TLS ended, a refusal that explains itself.

use crate::common::{Origin, Setup, problem, read_all, read_request, read_response};
use std::io::Write;

#[test]
fn a_plain_request_is_forwarded_and_recorded() {
    let origin = Origin::ok("hello");
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let port = origin.port();
    let mut client = gateway.connect();
    for n in 1..=3 {
        write!(
            client,
            "GET http://origin.test:{port}/a?n={n} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        )
        .unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"hello");
    }
    assert_eq!(origin.connections(), 1, "one kept connection carries all three");
    let record = gateway.record(3);
    assert_eq!(record["verdict"], "allow");
    assert_eq!(record["rule"], "test/endpoints[0]/access");
    assert_eq!(record["status"], 200);
    assert_eq!(record["download"], 5);
    assert_eq!(record["sent"], true);
    assert_eq!(record["path"], "/a");
    assert_eq!(record["query"], "n=3");
}

#[test]
fn tls_is_ended_and_each_request_is_judged() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            let sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
            if sent.is_err() {
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  api:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        enforcement: enforce\n        access: read-only"
    ))
    .start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(client, "GET /x HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"hi");
    write!(client, "POST /x HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4\r\n\r\ndata")
        .unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 403 Forbidden by policy"), "{head}");
    let problem = problem(&body);
    assert_eq!(problem["code"], "method_not_allowed");
    assert_eq!(problem["error"], "approval_required");
    // The refusal did not cost the connection.
    write!(client, "GET /y HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    let (head, _) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let records = gateway.records(3);
    assert_eq!(records[1]["verdict"], "unknown");
    assert_eq!(records[1]["outcome"], "refused");
    assert_eq!(records[1]["sent"], false);
}

#[test]
fn an_unknown_host_is_refused_before_anything_is_dialled() {
    let origin = Origin::ok("never");
    let gateway = Setup::allow_all(&["other.test"], origin.port())
        .sandbox("    approval: { mode: deny }\n")
        .start();
    let port = origin.port();
    let answer = gateway.exchange(
        format!("CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 403 Forbidden by policy"), "{text}");
    assert_eq!(problem(&answer)["code"], "host_unknown");
    assert_eq!(origin.connections(), 0);
    assert_eq!(gateway.record(1)["verdict"], "unknown");
}

#[test]
fn a_raw_tunnel_relays_both_ways() {
    let origin = Origin::plain(|mut stream| {
        let text = read_all(&mut stream);
        stream.write_all(&text).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}"
    ))
    .start();
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    client.write_all(&[7; 600_000]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let back = read_all(&mut client);
    assert_eq!(back.len(), 600_000);
    let record = gateway.record(1);
    assert_eq!(record["upload"], 600_000);
    assert_eq!(record["download"], 600_000);
    assert_eq!(record["outcome"], "passed");
}

#[test]
fn a_connection_that_rests_goes_on_with_its_next_request() {
    let origin = Origin::ok("hello");
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let port = origin.port();
    let mut client = gateway.connect();
    for n in 1..=3 {
        if n == 3 {
            // Half a head, then the rest: the first bytes after a rest are not lost.
            client.write_all(b"GET http://origin").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            write!(client, ".test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
        } else {
            write!(
                client,
                "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
            )
            .unwrap();
        }
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"hello");
        // Longer than a connection stays awake: this is what is tested, not a wait for a result.
        std::thread::sleep(std::time::Duration::from_millis(1800));
    }
    assert_eq!(gateway.records(3).len(), 3);
}

/// Two layers with an entry of one name are told apart by their files, which are none of the sandbox's
/// business; the operator's record says them.
#[test]
fn a_refusal_names_no_file_of_the_host() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    // The preset has one too.
    let entry = format!(
        "  pypi:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, enforcement: enforce, access: read-only }}\n"
    );
    let gateway = Setup::policy(&entry).sandbox("    presets: [pypi]\n").start();
    let said = format!(
        "DELETE http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n"
    );
    let answer = String::from_utf8(gateway.exchange(said.as_bytes())).unwrap();
    assert!(answer.contains("\"nearest\":\"pypi/endpoints[0]"), "{answer}");
    assert!(!answer.contains("policy.yaml"), "{answer}");
    let rule = gateway.record(1)["rule"].to_string();
    assert!(rule.contains("policy.yaml:pypi/endpoints[0]"), "{rule}");
}
