//! `tls: skip`: one ClientHello is read, however it comes, and its name must be the tunnel's
//! (security.md 1).

use crate::common::hello::{
    DECODE_ERROR, UNRECOGNIZED_NAME, ech, fragmented, hello, named, server_name,
};
use crate::common::{self, Gateway, Origin, Setup, read_all, wait_for};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

const ANSWER: &[u8] = b"the origin's first flight";

/// An origin that reads until `end` bytes have come or the end, and answers then.
fn answers_after(end: usize) -> Origin {
    Origin::plain(move |mut stream| {
        let mut bytes = vec![0; end];
        if stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(ANSWER).unwrap();
        }
        read_all(&mut stream);
    })
}

fn skipping(port: u16, more: &str) -> Gateway {
    Setup::policy(&format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {port}, tls: skip{more} }}"
    ))
    .start()
}

/// What the client gets that sends `bytes` through a `tls: skip` tunnel to `origin`.
fn told(gateway: &Gateway, origin: &Origin, bytes: &[u8]) -> Vec<u8> {
    let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    read_all(&mut client)
}

#[test]
fn a_hello_for_the_tunnels_name_reaches_the_origin_as_it_came() {
    for bytes in [
        named("origin.test"),
        named("ORIGIN.test."),
        hello(&[]),
        fragmented(&server_name(b"origin.test"), 7),
    ] {
        let origin = answers_after(bytes.len());
        let gateway = skipping(origin.port(), "");
        assert_eq!(told(&gateway, &origin, &bytes), ANSWER);
        assert_eq!(origin.seen.lock().unwrap()[0], bytes);
        assert_eq!(gateway.record(1)["outcome"], "passed");
    }
}

#[test]
fn the_client_sees_the_origins_own_certificate() {
    let origin = Origin::tls(&["origin.test"], &[], |mut stream| {
        let mut four = [0; 4];
        stream.read_exact(&mut four).unwrap();
        stream.write_all(&four).unwrap();
        stream.conn.send_close_notify();
        drop(stream.flush());
    });
    let gateway = skipping(origin.port(), "");
    let tunnel = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    let config = common::client_config(common::test_ca().pem.as_bytes(), &[]);
    let name = rustls::pki_types::ServerName::try_from("origin.test").unwrap();
    let client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
    let mut client = rustls::StreamOwned::new(client, tunnel);
    client.write_all(b"ping").unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

#[test]
fn a_hello_for_another_name_gets_an_alert_and_not_a_byte_of_it_leaves() {
    let other = named("other.test");
    for bytes in [
        other.clone(),
        [&other[..], b"what follows it"].concat(),
        fragmented(&server_name(b"other.test"), 5),
        named("sub.origin.test"),
        named("origin.test.other.test"),
        named("127.0.0.1"),
    ] {
        let origin = answers_after(1);
        let gateway = skipping(origin.port(), "");
        assert_eq!(told(&gateway, &origin, &bytes), UNRECOGNIZED_NAME);
        let record = gateway.record(1);
        assert_eq!(record["code"], "sni_mismatch");
        assert_eq!(record["outcome"], "refused");
        assert_eq!(record["sent"], false);
        assert_eq!(origin.heard(), "");
    }
}

/// RFC 8446 §5.1 has a server ignore a record's version, and Java's skips an alert before the hello: what
/// they would read must not pass as something else than TLS.
#[test]
fn a_hello_that_only_a_forgiving_server_reads_is_none() {
    let bytes = named("other.test");
    let odd = [
        [&[22, 2, 1][..], &bytes[3..]].concat(),
        [&[22, 0, 0][..], &bytes[3..]].concat(),
        [&[21, 3, 1, 0, 2, 1, 90][..], &bytes].concat(),
        [&[20, 3, 3, 0, 1, 1][..], &bytes].concat(),
        [&[22, 3, 1, 0, 0][..], &bytes].concat(),
        b"\x80\x2e\x01\x03\x01\0\x03\0\0\0\x10\0\0\x2f".to_vec(),
    ];
    for endpoint in [", tls: skip", ""] {
        let origin = answers_after(1);
        let host = format!("{{ host: origin.test, port: {}{endpoint} }}", origin.port());
        let gateway = Setup::policy(&format!("  raw:\n    endpoints: [ {host} ]")).start();
        for (number, bytes) in odd.iter().enumerate() {
            assert_eq!(told(&gateway, &origin, bytes), DECODE_ERROR, "{endpoint} {bytes:?}");
            assert_eq!(gateway.record(number + 1)["code"], "bad_client_hello");
        }
        // What is no TLS at all passes as it did.
        assert_eq!(told(&gateway, &origin, b"\x16\x01\0\0\x07\0"), ANSWER);
        assert_eq!(origin.heard(), "\u{16}\u{1}\0\0\u{7}\0");
    }
}

#[test]
fn a_hello_that_comes_a_byte_at_a_time_is_held_back_until_its_name_was_read() {
    let origin = answers_after(1);
    let gateway = skipping(origin.port(), "");
    for name in ["origin.test", "other.test"] {
        let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
        let bytes = named(name);
        for byte in &bytes {
            client.write_all(&[*byte]).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let expected = if name == "origin.test" { ANSWER } else { &UNRECOGNIZED_NAME[..] };
        assert_eq!(read_all(&mut client), expected, "{name}");
    }
    // The second connection was dialled before its name was known; not a byte went on it.
    let heard = origin.seen.lock().unwrap().concat();
    assert_eq!(heard, named("origin.test"));
}

#[test]
fn a_hello_cut_short_gets_an_alert_and_not_a_byte_of_it_leaves() {
    let bytes = named("origin.test");
    let origin = answers_after(1);
    let gateway = skipping(origin.port(), "");
    for (number, end) in [1, 5, 6, bytes.len() - 1].into_iter().enumerate() {
        assert_eq!(told(&gateway, &origin, &bytes[..end]), DECODE_ERROR, "{end}");
        assert_eq!(gateway.record(number + 1)["code"], "bad_client_hello", "{end}");
    }
    assert_eq!(origin.heard(), "");
}

#[test]
fn an_origin_that_has_said_its_end_does_not_end_the_check() {
    let origin = Origin::plain(|mut stream| {
        stream.stream.shutdown(Shutdown::Write).unwrap();
        read_all(&mut stream);
    });
    let gateway = skipping(origin.port(), "");
    let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    // The end comes through: what follows is sent after the gateway has seen it.
    assert_eq!(read_all(&mut client), b"");
    client.write_all(&named("other.test")).unwrap();
    let record = gateway.record(1);
    assert_eq!(record["code"], "sni_mismatch");
    assert_eq!(origin.heard(), "");
}

#[test]
fn a_hello_that_hides_its_name_passes_only_where_the_operator_said_so() {
    let bytes = hello(&[server_name(b"origin.test"), ech()].concat());
    let provider = hello(&[ech(), server_name(b"provider.test")].concat());
    let origin = answers_after(bytes.len());
    let gateway = skipping(origin.port(), "");
    assert_eq!(told(&gateway, &origin, &bytes), UNRECOGNIZED_NAME);
    let record = gateway.record(1);
    assert_eq!(record["code"], "encrypted_client_hello");
    assert_eq!(record["sent"], false);
    assert_eq!(origin.heard(), "");

    for hidden in [bytes, provider] {
        let origin = answers_after(hidden.len());
        let gateway = skipping(origin.port(), ", allow_ech: true");
        assert_eq!(told(&gateway, &origin, &hidden), ANSWER);
        assert_eq!(origin.seen.lock().unwrap()[0], hidden);
    }
    let origin = answers_after(1);
    let gateway = skipping(origin.port(), ", allow_ech: true");
    assert_eq!(told(&gateway, &origin, &named("other.test")), UNRECOGNIZED_NAME);
}

#[test]
fn an_intercepted_hello_may_hold_an_ech_that_nobody_reads() {
    let origin = answers_after(1);
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.tunnel(&authority);
    client.write_all(&hello(&[server_name(b"origin.test"), ech()].concat())).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // Its other extensions are missing, so the handshake fails, but not for the name's sake.
    let said = read_all(&mut client);
    assert_eq!(said[..1], [0x15], "{said:?}");
    assert_ne!(said, UNRECOGNIZED_NAME);
    assert_eq!(gateway.record(1)["code"], "client_tls");
}

#[test]
fn a_failed_dial_is_answered_in_the_connect() {
    let closed = TcpStream::connect(answers_after(1).at).unwrap().local_addr().unwrap().port();
    let gateway = skipping(closed, "");
    let line =
        format!("CONNECT origin.test:{closed} HTTP/1.1\r\nHost: origin.test:{closed}\r\n\r\n");
    let mut client = gateway.connect();
    client.write_all(line.as_bytes()).unwrap();
    let (head, body) = common::read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(common::problem(&body)["code"], "connect_failed");
    wait_for(common::PATIENCE, || (gateway.records_now("default").len() == 1).then_some(()));
}
