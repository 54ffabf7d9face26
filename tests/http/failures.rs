//! Origins that fail: every failure has an answer with a stable code, and one record.

use crate::common::{
    self, Gateway, Origin, Setup, certificate, header, problem, read_all, read_head, read_request,
    read_response, server_config,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

fn get(port: u16) -> String {
    format!("GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
}

/// Asks once on a new connection, and asserts the refusal and its record.
fn fails(gateway: &Gateway, port: u16, (status, error, code): (u16, &str, &str)) {
    let mut stream = gateway.connect();
    stream.write_all(get(port).as_bytes()).unwrap();
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let problem = problem(&body);
    assert_eq!((&problem["error"], &problem["code"]), (&error.into(), &code.into()), "{problem}");
    let record = gateway.record(1);
    assert_eq!(record["code"], code);
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["verdict"], "allow");
    assert_eq!(record["status"], status);
    assert_eq!(header(&head, "x-portcullis-id"), record["id"].as_str().map(str::to_owned));
}

#[test]
fn what_is_not_http_is_said_to_be_not_http() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nxx",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let origin = Origin::plain(move |mut stream| {
            read_request(&mut stream);
            drop(stream.write_all(garbage));
        });
        let gateway = allowing(origin.port());
        fails(&gateway, origin.port(), (502, "upstream_protocol", "upstream_protocol"));
    }
}

#[test]
fn an_answer_whose_head_is_too_long_is_an_answer() {
    let origin = Origin::plain(|mut stream| {
        read_request(&mut stream);
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nx: "));
        drop(stream.write_all(&vec![b'x'; 2_000_000]));
    });
    let gateway = allowing(origin.port());
    fails(&gateway, origin.port(), (502, "upstream_protocol", "upstream_protocol"));
}

#[test]
fn chunks_that_are_none_are_the_origins_mistake() {
    for broken in ["xyz\r\n", "5\r\n0123456789\r\n"] {
        let origin = Origin::plain(move |mut stream| {
            read_request(&mut stream);
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
            drop(stream.write_all(head.as_bytes()));
            drop(stream.write_all(broken.as_bytes()));
            read_all(&mut stream);
        });
        let gateway = allowing(origin.port());
        let back = gateway.exchange(get(origin.port()).as_bytes());
        assert!(!back.ends_with(b"\r\n0\r\n\r\n"), "{broken:?}");
        let record = gateway.record(1);
        assert_eq!(record["code"], "upstream_protocol", "{broken:?}");
        assert_eq!(record["outcome"], "failed", "{broken:?}");
    }
}

#[test]
fn nobody_listening_is_a_502() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = allowing(port);
    fails(&gateway, port, (502, "upstream_unreachable", "connect_failed"));
    let record = gateway.record(1);
    assert_eq!(record["sent"], false);
}

#[test]
fn an_origin_that_closes_without_a_word_is_a_502() {
    let origin = Origin::plain(|mut stream| {
        read_request(&mut stream);
    });
    let gateway = allowing(origin.port());
    fails(&gateway, origin.port(), (502, "upstream_protocol", "upstream_closed"));
    assert_eq!(gateway.record(1)["sent"], true);
}

#[test]
fn an_origin_that_says_nothing_is_a_504() {
    let origin = Origin::plain(|mut stream| {
        read_all(&mut stream);
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port())
        .more("timeout: { first_byte: 1s }\n")
        .start();
    let started = Instant::now();
    fails(&gateway, origin.port(), (504, "upstream_timeout", "first_byte_timeout"));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_origin_that_does_not_finish_its_handshake_is_a_504() {
    let origin = Origin::plain(|mut stream| {
        read_all(&mut stream);
    });
    let port = origin.port();
    let gateway =
        Setup::allow_all(&["origin.test"], port).more("timeout: { connect: 1s }\n").start();
    let mut client = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(client, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert_eq!(problem(&body)["code"], "connect_timeout");
}

#[test]
fn a_body_that_stands_still_is_cut_and_recorded() {
    let origin = Origin::plain(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ").unwrap();
        read_all(&mut stream);
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).more("timeout: { idle: 1s }\n").start();
    let back = gateway.exchange(get(port).as_bytes());
    assert!(back.ends_with(b"\r\n\r\nhalf "), "{}", String::from_utf8_lossy(&back));
    let record = gateway.record(1);
    assert_eq!((&record["code"], &record["outcome"]), (&"idle_timeout".into(), &"failed".into()));
    assert_eq!(record["download"], 5);
}

/// The answer of a gateway to a GET inside TLS, where the origin has this certificate.
fn untrusted(config: Arc<rustls::ServerConfig>) -> (String, serde_json::Value, serde_json::Value) {
    let origin = Origin::plain(move |recorded| {
        let server = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(server, recorded.stream);
        let mut byte = [0];
        assert!(
            !stream.read(&mut byte).is_ok_and(|n| n > 0),
            "a byte went to an origin that is not trusted"
        );
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(client, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    let (head, body) = read_response(&mut client);
    let record = gateway.record(1);
    (head, problem(&body), record)
}

/// A server's config with a certificate that `change` altered, signed by the test CA or by itself.
fn changed(change: impl Fn(&mut rcgen::CertificateParams)) -> Arc<rustls::ServerConfig> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["origin.test".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    with(certificate.der().clone(), key)
}

fn with(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

#[test]
fn an_origin_whose_certificate_does_not_verify_gets_nothing_and_the_client_the_reason() {
    let (wrong, key) = certificate(&["other.test"]);
    for (config, code) in [
        (with(wrong, key), "tls_wrong_host"),
        (changed(|_| {}), "tls_unknown_issuer"),
        (common::expired(&["origin.test"]), "tls_expired"),
        (server_config(&["10.0.0.1"], &[]), "tls_wrong_host"),
    ] {
        let (head, problem, record) = untrusted(config);
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        assert_eq!(problem["error"], "upstream_tls");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(record["code"], code);
        assert_eq!(record["sent"], false);
    }
}

/// An origin that answers the first request of each connection, and closes when it has read the
/// next.
fn forgetful() -> (Origin, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let origin = Origin::plain(move |mut stream| {
        read_request(&mut stream);
        count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        if !read_request(&mut stream).is_empty() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (origin, requests)
}

#[test]
fn a_stale_connection_costs_a_get_nothing_and_is_tried_once() {
    let (origin, requests) = forgetful();
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    for _ in 0..2 {
        stream.write_all(get(port).as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"ok");
    }
    assert_eq!(origin.connections(), 2);
    assert_eq!(requests.load(Ordering::SeqCst), 3, "the second was sent twice");
    assert_eq!(gateway.records(2).len(), 2);
}

#[test]
fn an_answer_that_had_begun_is_not_asked_for_again() {
    for begun in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let origin = Origin::plain(move |mut stream| {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            read_request(&mut stream);
            drop(stream.write_all(begun.as_bytes()));
        });
        let port = origin.port();
        let gateway = allowing(port);
        let mut stream = gateway.tunnel(&format!("origin.test:{port}"));
        let get = format!("GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n");
        stream.write_all(get.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).1, b"ok");
        stream.write_all(get.as_bytes()).unwrap();
        let mut head = read_head(&mut stream);
        if head.starts_with("HTTP/1.1 103 ") {
            head = read_head(&mut stream);
        }
        assert!(head.starts_with("HTTP/1.1 502 "), "{begun:?}: {head}");
        assert_eq!(origin.heard().matches("GET / HTTP/1.1").count(), 2, "{begun:?}");
        assert_eq!(origin.connections(), 1, "{begun:?}");
        assert_eq!(gateway.record(2)["outcome"], "failed");
    }
}

#[test]
fn a_post_with_a_body_is_never_sent_twice() {
    let (origin, requests) = forgetful();
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    stream.write_all(get(port).as_bytes()).unwrap();
    read_response(&mut stream);
    write!(
        stream,
        "{}data",
        get(port).replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n")
    )
    .unwrap();
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(problem(&body)["code"], "upstream_closed");
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    assert_eq!(origin.connections(), 1);
    let records = gateway.records(2);
    assert_eq!((&records[1]["outcome"], &records[1]["sent"]), (&"failed".into(), &true.into()));
}

#[test]
fn a_connection_that_was_closed_while_it_idled_is_not_used() {
    let origin = Origin::plain(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    for n in 0..5 {
        write!(
            stream,
            "{}data",
            get(port).replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n")
        )
        .unwrap();
        let (head, _) = read_response(&mut stream);
        // Whoever is quicker: the origin's FIN or the next request. A POST is not repeated.
        let fine = head.starts_with("HTTP/1.1 200") || (n > 0 && head.starts_with("HTTP/1.1 502"));
        assert!(fine, "{head}");
    }
    assert_eq!(gateway.records(5).len(), 5);
}

fn read_only(port: u16) -> Gateway {
    Setup::policy(&format!(
        "  api:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, access: read-only }}"
    ))
    .start()
}

#[test]
fn a_refusal_keeps_the_connection_where_the_body_is_small_and_closes_it_where_it_is_large() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let gateway = read_only(port);
    let post = |length: usize| {
        get(port)
            .replace("GET", "POST")
            .replace("\r\n\r\n", &format!("\r\nContent-Length: {length}\r\n\r\n"))
    };
    let mut stream = gateway.connect();
    stream.write_all(post(64 * 1024).as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 64 * 1024]).unwrap();
    let (head, _) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(header(&head, "connection").is_none(), "{head}");
    stream.write_all(get(port).as_bytes()).unwrap();
    assert!(read_response(&mut stream).0.starts_with("HTTP/1.1 200"));
    // The client sends the whole large body before it reads.
    stream.write_all(post(4_000_000).as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || drop(writer.write_all(&vec![b'x'; 4_000_000])));
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(header(&head, "connection").as_deref(), Some("close"));
    assert_eq!(problem(&body)["code"], "method_not_allowed");
    read_all(&mut stream);
    sending.join().unwrap();
    let codes: Vec<_> = gateway.records(3).iter().map(|r| r["code"].clone()).collect();
    assert_eq!(codes, ["method_not_allowed", "allowed", "method_not_allowed"]);
    assert!(!origin.heard().contains('x'));
}

#[test]
fn a_refusal_of_what_the_rules_allow_keeps_the_connection_too() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    // The one is not among the internal addresses that may be reached.
    let gateway = Setup::allow_all(&["127.0.0.9", "origin.test"], port).start();
    let mut stream = gateway.connect();
    for length in [4, 64 * 1024] {
        let head = get(port).replace("origin.test", "127.0.0.9").replace("GET", "POST");
        let head = head.replace("\r\n\r\n", &format!("\r\nContent-Length: {length}\r\n\r\n"));
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; length]).unwrap();
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert_eq!(problem(&body)["code"], "address_refused");
        assert!(header(&head, "connection").is_none(), "{head}");
        stream.write_all(get(port).as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).1, b"ok");
    }
    let verdicts: Vec<_> = gateway.records(4).iter().map(|r| r["verdict"].clone()).collect();
    assert_eq!(verdicts, ["allow"; 4], "it was refused after it was allowed");
    assert!(!origin.heard().contains('x'));
}

#[test]
fn a_client_that_sends_all_before_it_reads_still_reads_its_refusal() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let gateway = read_only(port);
    for _ in 0..5 {
        let mut stream = gateway.connect();
        let head = get(port)
            .replace("GET", "POST")
            .replace("\r\n\r\n", "\r\nContent-Length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        drop(stream.write_all(&vec![b'x'; 1_000_000]));
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 403"));
    }
}
