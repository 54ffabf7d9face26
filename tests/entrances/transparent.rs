//! A transparent listener: the name comes from SNI or Host, the address that the client meant is
//! ignored, and counts only where there is no name (security.md 7).

use crate::common::hello::{ACCESS_DENIED, DECODE_ERROR, hello, named, server_name};
use crate::common::host::{ip, network};
use crate::common::{
    self, Gateway, Origin, Setup, limits, problem, read_all, read_request, read_response,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

/// Where routed connections arrive: another address than the origins', on the origin's port.
const ROUTED: [u8; 4] = [127, 0, 0, 9];

fn tls_origin() -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_err() {
                return;
            }
        }
    })
}

/// A transparent listener beside `origin`, on its port.
fn routed(setup: Setup, origin: &Origin) -> Gateway {
    let at = SocketAddr::from((ROUTED, origin.port()));
    setup
        .listen(&format!(
            "  - {{ address: \"{at}\", mode: transparent, allow_from: [127.0.0.0/8] }}\n"
        ))
        .start()
}

fn client(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    limits(&stream);
    stream
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn tls(gateway: &Gateway, stream: TcpStream, sni: bool) -> common::Tls {
    let pem = std::fs::read(gateway.ca()).unwrap();
    let mut config = (*common::client_config(&pem, &["http/1.1"])).clone();
    config.enable_sni = sni;
    let name = rustls::pki_types::ServerName::try_from("origin.test").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(client, stream)
}

#[test]
fn plain_http_goes_where_its_host_says() {
    let origin = Origin::ok("hello");
    let gateway = routed(Setup::allow_all(&["origin.test"], origin.port()), &origin);
    let port = origin.port();
    let mut stream = client(gateway.proxy);
    for byte in get("/x", &format!("origin.test:{port}")).bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).1, b"hello");
    // The next request of the connection is judged by its own name.
    stream.write_all(get("/y", &format!("other.test:{port}")).as_bytes()).unwrap();
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(problem(&body)["code"], "host_unknown");
    let records = gateway.records(2);
    assert_eq!(records[0]["host"], "origin.test");
    assert_eq!(records[0]["address"], "127.0.0.1");
}

#[test]
fn the_port_is_the_one_that_the_client_meant() {
    let origin = Origin::ok("never");
    let setup = Setup::allow_all(&["origin.test"], origin.port());
    let gateway = routed(setup, &origin);
    for host in ["origin.test", "origin.test:1"] {
        let mut stream = client(gateway.proxy);
        stream.write_all(get("/x", host).as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 421 "), "{host}: {head}");
        assert_eq!(problem(&body)["code"], "host_mismatch", "{host}");
    }
    let mut stream = client(gateway.proxy);
    let url = format!("http://origin.test:{}/x", origin.port());
    stream.write_all(get(&url, "other.test").as_bytes()).unwrap();
    assert!(read_response(&mut stream).0.starts_with("HTTP/1.1 421 "));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_whole_url_must_have_the_scheme_of_the_connection() {
    let origin = Origin::ok("hello");
    let gateway = routed(Setup::allow_all(&["origin.test"], origin.port()), &origin);
    let authority = format!("origin.test:{}", origin.port());
    for (scheme, status) in [("http", 200), ("HTTP", 200), ("https", 400), ("httpx", 400)] {
        let mut stream = client(gateway.proxy);
        stream.write_all(get(&format!("{scheme}://{authority}/x"), &authority).as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{scheme}: {head}");
        if status == 400 {
            assert_eq!(problem(&body)["code"], "bad_target", "{scheme}");
        }
    }
    let sent: Vec<_> = gateway.records(4).iter().map(|record| record["sent"].clone()).collect();
    assert_eq!(sent, [true, true, false, false]);
}

#[test]
fn tls_goes_where_its_sni_says() {
    let origin = tls_origin();
    let gateway = routed(Setup::allow_all(&["origin.test"], origin.port()), &origin);
    let authority = format!("origin.test:{}", origin.port());
    let mut stream = tls(&gateway, client(gateway.proxy), true);
    stream.write_all(get("/x", &authority).as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).1, b"hello");
    stream.write_all(get("/y", &format!("other.test:{}", origin.port())).as_bytes()).unwrap();
    assert!(read_response(&mut stream).0.starts_with("HTTP/1.1 421 "));
    let records = gateway.records(2);
    assert_eq!(
        (&records[0]["host"], &records[0]["scheme"]),
        (&"origin.test".into(), &"https".into())
    );
}

#[test]
fn tls_that_no_rule_knows_gets_an_alert_and_a_record() {
    let origin = Origin::ok("never");
    let setup =
        Setup::allow_all(&["origin.test"], origin.port()).sandbox("    approval: { mode: deny }\n");
    let gateway = routed(setup, &origin);
    for (number, (bytes, said, code)) in [
        (named("other.test"), ACCESS_DENIED, "host_unknown"),
        (named("127.0.0.1"), ACCESS_DENIED, "host_unknown"),
        (hello(&[]), ACCESS_DENIED, "host_unknown"),
        (hello(&server_name(b"origin.test\0")), DECODE_ERROR, "bad_client_hello"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = client(gateway.proxy);
        stream.write_all(&bytes).unwrap();
        assert_eq!(read_all(&mut stream), said, "{code}");
        assert_eq!(gateway.record(number + 1)["code"], code);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_skipped_hello_is_relayed_by_its_own_name() {
    let bytes = named("origin.test");
    let length = bytes.len();
    let origin = Origin::plain(move |mut stream| {
        let mut all = vec![0; length];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(b"flight").unwrap();
    });
    let entries = format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {}, tls: skip }}",
        origin.port()
    );
    let gateway = routed(Setup::policy(&entries), &origin);
    let mut stream = client(gateway.proxy);
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), b"flight");
    assert_eq!(origin.seen.lock().unwrap()[0], bytes);
}

#[test]
fn without_a_name_the_address_needs_a_rule() {
    let origin = Origin::ok("never");
    let gateway = routed(Setup::allow_all(&["origin.test"], origin.port()), &origin);
    let mut stream = client(gateway.proxy);
    stream.write_all(b"SSH-2.0-client\r\n").unwrap();
    assert_eq!(read_all(&mut stream), b"");
    let record = gateway.record(1);
    assert_eq!((&record["host"], &record["code"]), (&"127.0.0.9".into(), &"host_unknown".into()));
    assert_eq!(record["sent"], false);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn an_address_that_a_rule_names_is_guarded_all_the_same() {
    let origin = Origin::ok("never");
    let entries = format!(
        "  raw:\n    endpoints:\n      - {{ host: 127.0.0.9, port: {}, protocol: tcp }}",
        origin.port()
    );
    let gateway = routed(Setup::policy(&entries), &origin);
    let mut stream = client(gateway.proxy);
    assert_eq!(read_all(&mut stream), b"");
    assert_eq!(gateway.record(1)["code"], "own_address");
    assert_eq!(origin.connections(), 0);
}

/// A network where every address of 198.51.100.0/24 is routed to the host itself, as a sandbox's
/// way out is: no NAT, the local address of a connection is the one that the client meant.
fn routed_network() -> bool {
    if !network() {
        return false;
    }
    ip("route add local 198.51.100.0/24 dev lo");
    true
}

#[test]
fn on_a_local_route_the_meant_address_is_ignored_and_its_port_is_kept() {
    if !routed_network() {
        return;
    }
    ip("addr add 10.77.0.1/24 dev lo");
    let origin = tls_origin();
    let port = origin.port();
    let listen = format!(
        "  - {{ address: \"198.51.100.1:{port}\", mode: transparent, allow_from: [10.77.0.0/24] }}\n  - {{ address: \"198.51.100.2:{port}\", mode: transparent, allow_from: [10.77.0.0/24] }}\n"
    );
    let gateway = Setup::allow_all(&["origin.test"], port).listen(&listen).start();
    for at in &gateway.listeners {
        let mut stream = tls(&gateway, client(*at), true);
        stream.write_all(get("/x", &format!("origin.test:{port}")).as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).1, b"hello", "{at}");
    }
    assert!(gateway.records(2).iter().all(|r| r["address"] == "127.0.0.1"));
}
