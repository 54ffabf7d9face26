//! Session tickets leave with what follows at once, and by themselves where nothing does; an alert that looks
//! like them leaves all the same.

use crate::common::{Gateway, Origin, PATIENCE, Setup, Tls, client_config, read_all};
use crate::http_kit::read_message;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long nothing may come before it counts as nothing.
const SILENCE: Duration = Duration::from_millis(300);

fn origin() -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !crate::common::read_head(&mut stream).is_empty() {
            let answered = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            answered.and_then(|()| stream.flush()).unwrap();
        }
    })
}

fn config(gateway: &Gateway, alpn: &str) -> Arc<ClientConfig> {
    client_config(&std::fs::read(gateway.ca()).unwrap(), &[alpn])
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("origin.test").unwrap()).unwrap()
}

/// A client's TLS, the handshake made.
fn shaken(gateway: &Gateway, port: u16, config: &Arc<ClientConfig>) -> Tls {
    let stream = gateway.tunnel(&format!("origin.test:{port}"));
    let mut tls = Tls::new(client(config), stream);
    while tls.conn.is_handshaking() || tls.conn.wants_write() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
    tls
}

/// What has come, before nothing came for a while.
fn came(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    loop {
        match stream.read(&mut some) {
            Ok(0) => panic!("it was closed behind {all:?}"),
            Ok(n) => all.extend_from_slice(&some[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    all
}

/// The records of what came, by their content types.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, 3, 3, high, low, body @ ..] = bytes {
        types.push(*kind);
        bytes = &body[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    types
}

fn reads(tls: &mut Tls, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        tls.conn.read_tls(&mut bytes).unwrap();
        tls.conn.process_new_packets().unwrap();
    }
}

/// Clients that use GnuTLS wait for tickets, and Nagle's algorithm for an acknowledgement, before the
/// first request leaves (RFC 9293 §3.7.4).
#[test]
fn over_http1_tickets_leave_before_anything_is_asked() {
    let origin = origin();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let config = config(&gateway, "http/1.1");
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let mut tls = shaken(&gateway, port, &config);
        assert_eq!(tls.conn.handshake_kind(), Some(kind));
        let tickets = came(&mut tls.sock);
        assert!(!tickets.is_empty() && records(&tickets).iter().all(|kind| *kind == 23));
        reads(&mut tls, &tickets);
        for _ in 0..2 {
            write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
            let (head, body, _) = read_message(&mut tls);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(body, b"ok");
        }
    }
}

#[test]
fn over_http2_tickets_leave_with_the_settings_and_are_good() {
    let gateway = Setup::allow_all(&["origin.test"], 443).start();
    let config = config(&gateway, "h2");
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut tls = shaken(&gateway, 443, &config);
        assert_eq!(tls.conn.handshake_kind(), Some(kind));
        let mut first = [0; 16 * 1024];
        let length = tls.sock.read(&mut first).unwrap();
        assert!(records(&first[..length]).len() >= 2, "tickets, and what HTTP/2 says");
        reads(&mut tls, &first[..length]);
        let mut settings = [0; 9];
        tls.conn.reader().read_exact(&mut settings).unwrap();
        assert_eq!(settings[3], 4, "SETTINGS: {settings:?}");
    }
}

#[test]
fn a_handshake_that_fails_at_its_end_is_told_so() {
    let gateway = Setup::allow_all(&["origin.test"], 443).start();
    let mut client = client(&config(&gateway, "h2"));
    let mut stream = gateway.tunnel("origin.test:443");
    client.write_tls(&mut stream).unwrap();
    let flight = came(&mut stream);
    assert_eq!(flight.first(), Some(&22), "{flight:?}");
    // Encrypted, and by nobody who shook hands: it should be the client's Finished.
    let record = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    stream.write_all(&record).unwrap();
    let alert = read_all(&mut stream);
    assert_eq!(alert.get(..3), Some(&[23, 3, 3][..]), "an encrypted alert: {alert:?}");
    let record = gateway.record(1);
    assert_eq!(record["code"], "client_tls", "{record}");
}
