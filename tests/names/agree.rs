//! CONNECT, SNI, Host and absolute URI are one name, on every request (security.md 1).

use crate::common::hello::{DECODE_ERROR, UNRECOGNIZED_NAME, named};
use crate::common::{self, Gateway, Origin, Setup, problem, read_all, read_request, read_response};
use std::io::{Read, Write};
use std::sync::Arc;

/// A TLS origin that answers every request with 200.
fn tls_origin(alpn: &[&str]) -> Origin {
    Origin::tls(&["origin.test", "other.test"], alpn, |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    })
}

/// Both names are allowed, so only their disagreement can be why something is refused.
fn both(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test", "other.test"], port).start()
}

#[test]
fn a_forwarded_url_and_its_host_must_agree() {
    let origin = Origin::ok("never");
    let gateway = both(origin.port());
    let port = origin.port();
    for host in [
        format!("other.test:{port}"),
        "origin.test".to_owned(),
        format!("origin.test:{}", port - 1),
        format!("sub.origin.test:{port}"),
        format!("127.0.0.1:{port}"),
    ] {
        let answer = gateway.exchange(
            format!("GET http://origin.test:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(),
        );
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 421 "), "{host}: {text}");
        assert_eq!(problem(&answer)["code"], "host_mismatch", "{host}");
        assert_eq!(problem(&answer)["error"], "name_mismatch", "{host}");
    }
    assert_eq!(origin.connections(), 0);
    let records = gateway.records(5);
    assert!(records.iter().all(|r| r["verdict"] == "none" && r["sent"] == false), "{records:#?}");
}

#[test]
fn spellings_of_one_name_agree_and_the_origin_gets_the_canonical_one() {
    let origin = Origin::ok("ok");
    let gateway = both(origin.port());
    let port = origin.port();
    let mut client = gateway.connect();
    for (url, host) in [("ORIGIN.test", "origin.TEST."), ("origin.test.", "Origin.Test")] {
        write!(client, "GET http://{url}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    let heard = origin.heard().to_ascii_lowercase();
    assert_eq!(heard.matches(&format!("host: origin.test:{port}\r\n")).count(), 2, "{heard}");
}

#[test]
fn a_connect_and_its_host_must_agree() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let port = origin.port();
    let answer = gateway.exchange(
        format!("CONNECT origin.test:{port} HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n")
            .as_bytes(),
    );
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 421 "), "{text}");
    assert_eq!(problem(&answer)["code"], "host_mismatch");
    assert_eq!(gateway.record(1)["code"], "host_mismatch");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn every_request_inside_tls_must_name_the_tunnels_host() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    for line in [
        format!("GET / HTTP/1.1\r\nHost: other.test:{}\r\n\r\n", origin.port()),
        "GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n".to_owned(),
        format!("GET https://other.test:{0}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n", origin.port()),
        format!("GET https://{authority}/ HTTP/1.1\r\nHost: other.test\r\n\r\n"),
    ] {
        let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(client, "GET /first HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        client.write_all(line.as_bytes()).unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 421 "), "{line}: {head}");
        assert_eq!(problem(&body)["code"], "host_mismatch", "{line}");
        assert_eq!(read_all(&mut client), b"", "the connection ends with the 421: {line}");
    }
    let records = gateway.records(8);
    let passed = records.iter().filter(|r| r["outcome"] == "passed");
    assert!(passed.clone().all(|r| r["path"] == "/first"), "{records:#?}");
    assert_eq!(passed.count(), 4);
    let lies: Vec<_> = records.iter().filter(|r| r["code"] == "host_mismatch").collect();
    assert!(lies.iter().all(|r| r["sent"] == false));
    assert!(lies.iter().all(|r| r["host"] == "origin.test"), "it is known who was to cover it");
}

#[test]
fn an_absolute_url_inside_a_tunnel_may_name_the_tunnels_host_in_the_tunnels_scheme_alone() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    for (url, status) in [("https", "200"), ("HTTPS", "200"), ("http", "400"), ("ftp", "400")] {
        let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(client, "GET {url}://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{url}: {head}");
    }
}

#[test]
fn every_request_of_a_plain_tunnel_must_name_its_host() {
    let origin = Origin::ok("ok");
    let gateway = both(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.tunnel(&authority);
    write!(client, "GET /a HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
    write!(client, "GET /b HTTP/1.1\r\nHost: other.test:{}\r\n\r\n", origin.port()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    assert_eq!(problem(&body)["code"], "host_mismatch");
    assert_eq!(read_all(&mut client), b"");
    assert!(!origin.heard().contains("/b"), "{}", origin.heard());
}

#[test]
fn an_sni_of_another_name_gets_an_alert_and_a_record() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    client.write_all(&named("other.test")).unwrap();
    assert_eq!(read_all(&mut client), UNRECOGNIZED_NAME);
    let record = gateway.record(1);
    assert_eq!(record["code"], "sni_mismatch");
    assert_eq!(record["verdict"], "none");
    assert_eq!(record["host"], "origin.test");
    assert_eq!(record["sent"], false);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_hello_that_two_readers_could_understand_differently_gets_an_alert() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let twice = [named("origin.test"), vec![0; 9]].concat();
    let mut two_names = common::hello::server_name(b"origin.test");
    two_names.extend(common::hello::server_name(b"other.test"));
    let cases = [
        common::hello::hello(&two_names),
        common::hello::hello(&common::hello::server_name(b"origin.test\0.other.test")),
        common::hello::hello(&common::hello::server_name(b"")),
        common::hello::hello(&common::hello::extension(0, &[0, 9, 0])),
        [&[22, 3, 1, 0, 4][..], &[2, 0, 0, 0]].concat(),
        [&[22, 3, 1, 0xff, 0xff][..], &twice].concat(),
    ];
    for (number, bytes) in cases.iter().enumerate() {
        let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
        client.write_all(bytes).unwrap();
        assert_eq!(read_all(&mut client), DECODE_ERROR, "case {number}");
        assert_eq!(gateway.record(number + 1)["code"], "bad_client_hello", "case {number}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn without_an_sni_the_connect_target_stands() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let pem = std::fs::read(gateway.ca()).unwrap();
    let mut config = (*common::client_config(&pem, &["http/1.1"])).clone();
    config.enable_sni = false;
    let name = rustls::pki_types::ServerName::try_from("origin.test").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = rustls::StreamOwned::new(client, gateway.tunnel(&authority));
    write!(client, "GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
    write!(client, "GET / HTTP/1.1\r\nHost: other.test:{}\r\n\r\n", origin.port()).unwrap();
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 421 "));
    let mut rest = Vec::new();
    drop(client.read_to_end(&mut rest));
    assert_eq!(rest, b"");
}

#[test]
fn a_connect_whose_host_spells_another_port_is_refused() {
    let origin = tls_origin(&["http/1.1"]);
    let gateway = both(origin.port());
    let port = origin.port();
    for other in [80, 443, 1] {
        let line =
            format!("CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{other}\r\n\r\n");
        let answer = gateway.exchange(line.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 421 "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(problem(&answer)["code"], "host_mismatch");
    }
    for host in ["origin.test".to_owned(), format!("ORIGIN.test:{port}")] {
        let mut client = gateway.connect();
        write!(client, "CONNECT origin.test:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let head = common::read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!(gateway.records(3)[2]["code"], "host_mismatch");
    assert_eq!(origin.connections(), 0);
}
