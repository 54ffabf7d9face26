//! Bytes that are neither TLS nor HTTP do not pass to a host that gets a credential: nothing looks through
//! what it says in them.

use crate::common::{Origin, read_all};
use crate::credentials_kit::*;
use std::io::Write;
use std::net::Shutdown;

/// An origin on another port, which says the value to whoever says anything.
fn tells() -> Origin {
    Origin::plain(|mut stream| {
        use std::io::Read;
        let mut some = [0; 3];
        if stream.read_exact(&mut some).is_ok() {
            drop(write!(stream, "HTTP/1.0 200 OK\r\n\r\n{TOKEN}"));
        }
    })
}

fn said(protocol: &str, first: &[u8]) -> (String, serde_json::Value) {
    let server = Server::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let other = tells();
    let (port, raw) = (server.port(), other.port());
    let mut setup = setup(port, &[BEARER]);
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, enforcement: enforce, access: full }}\n      - {{ host: origin.test, port: {raw}{protocol} }}\n"
    );
    let gateway = setup.start();
    let mut tunnel = gateway.tunnel(&format!("origin.test:{raw}"));
    tunnel.write_all(first).unwrap();
    tunnel.shutdown(Shutdown::Write).unwrap();
    let said = String::from_utf8(read_all(&mut tunnel)).unwrap();
    (said, gateway.record(1))
}

#[test]
fn a_request_line_that_servers_forgive_is_read_as_one() {
    for first in ["\n", "\r\n\n\r\n", "", "\n\n\n\n\n"] {
        for line in ["GET / HTTP/1.1", "get  / HTTP/1.1", "GET\t/ HTTP/1.1", "A_B / HTTP/1.1"] {
            let asked = format!("{first}{line}\r\nHost: origin.test\r\n\r\n");
            let (said, record) = said("", asked.as_bytes());
            assert!(!said.contains(TOKEN), "{asked:?}: {said}");
            assert!(record["scheme"] == "http", "{asked:?}: {record}");
        }
    }
}

#[test]
fn other_bytes_pass_where_the_policy_says_tcp_alone() {
    let (answer, record) = said("", b"\x01\x02\x03");
    assert_eq!((&answer[..], &record["code"]), ("", &"protocol_not_allowed".into()));
    assert_eq!(record["sent"], false);
    let (answer, record) = said(", protocol: tcp", b"\x01\x02\x03");
    assert!(answer.ends_with(TOKEN), "{answer}");
    assert_eq!(record["code"], "allowed");
}
