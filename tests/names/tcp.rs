//! What is neither HTTP nor TLS passes only where an endpoint allows it (security.md 13).

use crate::common::{Gateway, Origin, Setup, read_all};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

const OPAQUE: &[&[u8]] = &[
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"EHLO agent.test\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"*1\r\n$4\r\nPING\r\n",
    b"\x05\x01\x00",
    b"\x80\x2e\x01\x00\x02",
    b"GET",
    b"\x16",
    b"\xff\xfe\xfd",
];

/// An origin that sends back all that came.
fn echo() -> Origin {
    Origin::plain(|mut stream| {
        let bytes = read_all(&mut stream);
        drop(stream.write_all(&bytes));
    })
}

/// An origin that speaks first, and then sends back what it is told.
fn greeter() -> Origin {
    Origin::plain(|mut stream| {
        stream.write_all(b"220 mail.test ESMTP\r\n").unwrap();
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

fn endpoint(port: u16, more: &str) -> String {
    format!("      - {{ host: origin.test, port: {port}{more} }}\n")
}

fn gateway(endpoints: &[String]) -> Gateway {
    Setup::policy(&format!("  mail:\n    endpoints:\n{}", endpoints.concat())).start()
}

/// What comes back when `bytes` and the end are sent through a tunnel.
fn sent(gateway: &Gateway, port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    read_all(&mut client)
}

#[test]
fn opaque_bytes_are_refused_where_only_http_is_allowed() {
    let (origin, other) = (echo(), echo());
    let rest = ", protocol: rest, enforcement: enforce, access: full";
    // `tcp` on another port of the same host opens nothing here.
    let gateway =
        gateway(&[endpoint(origin.port(), rest), endpoint(other.port(), ", protocol: tcp")]);
    for (number, bytes) in OPAQUE.iter().enumerate() {
        // What resembles a request line is answered like one, the rest is closed.
        let answer = sent(&gateway, origin.port(), bytes);
        let refused = answer.starts_with(b"HTTP/1.1 403 Forbidden by policy");
        // SSL 2's hello gets an alert.
        let alert = answer.starts_with(b"\x15\x03");
        assert!(answer.is_empty() || refused || alert, "{}", bytes.escape_ascii());
        let record = gateway.record(number + 1);
        let ssl2 = bytes[0] == 0x80;
        let code = if ssl2 { "bad_client_hello" } else { "protocol_not_allowed" };
        assert_eq!(record["code"], code, "{record:#}");
        assert_eq!(record["outcome"], "refused");
        assert_eq!(record["sent"], false);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn opaque_bytes_to_an_unknown_host_are_refused() {
    let origin = echo();
    let gateway = gateway(&[endpoint(9, ", protocol: tcp")]);
    assert_eq!(sent(&gateway, origin.port(), OPAQUE[0]), b"");
    let record = gateway.record(1);
    assert_eq!(record["verdict"], "unknown", "{record:#}");
    assert_eq!(record["code"], "port_not_allowed", "{record:#}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn opaque_bytes_pass_where_tcp_is_allowed() {
    let origin = echo();
    let gateway = gateway(&[endpoint(origin.port(), ", protocol: tcp")]);
    let all = OPAQUE.iter().copied().chain([&b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"[..]]);
    for (number, bytes) in all.enumerate() {
        assert_eq!(sent(&gateway, origin.port(), bytes), bytes, "{}", bytes.escape_ascii());
        let record = gateway.record(number + 1);
        assert_eq!(record["outcome"], "passed", "{record:#}");
        assert_eq!(record["scheme"], "tcp", "{record:#}");
    }
}

#[test]
fn without_a_protocol_opaque_bytes_pass_and_http_is_still_judged() {
    let origin = echo();
    let gateway = gateway(&[endpoint(origin.port(), "")]);
    assert_eq!(sent(&gateway, origin.port(), OPAQUE[0]), OPAQUE[0]);
    let said = sent(&gateway, origin.port(), b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert!(said.starts_with(b"HTTP/1.1 421 "), "{}", said.escape_ascii());
    assert_eq!(origin.connections(), 1);
}

/// Reads the banner, and has one word echoed.
fn greeted(gateway: &Gateway, port: u16) -> Duration {
    let started = Instant::now();
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    let mut banner = [0; 21];
    client.read_exact(&mut banner).unwrap();
    let took = started.elapsed();
    assert_eq!(&banner, b"220 mail.test ESMTP\r\n");
    client.write_all(b"QUIT").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"QUIT");
    took
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let rest = ", protocol: rest, enforcement: enforce, access: full";
    let origin = greeter();
    let port = origin.port();
    let tcp = endpoint(port, ", protocol: tcp");
    for (endpoints, within) in [
        (vec![tcp.clone()], Duration::from_secs(2)),
        (vec![endpoint(port, ", tls: skip")], Duration::from_secs(2)),
        (vec![endpoint(port, rest), tcp], Duration::from_secs(4)),
    ] {
        let took = greeted(&gateway(&endpoints), port);
        assert!(took < within, "{took:?} under {endpoints:?}");
    }
}

#[test]
fn a_banner_that_comes_with_the_clients_first_bytes_is_not_lost() {
    let origin = greeter();
    let gateway = gateway(&[endpoint(origin.port(), ", protocol: tcp")]);
    let mut client = gateway.connect();
    let at = format!("origin.test:{}", origin.port());
    // The client's first bytes stand behind its CONNECT in one segment.
    write!(client, "CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\nEHLO x\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let said = String::from_utf8(read_all(&mut client)).unwrap();
    let (head, inside) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(inside, "220 mail.test ESMTP\r\nEHLO x\r\n");
    let record = gateway.record(1);
    assert_eq!((&record["upload"], &record["download"]), (&8.into(), &29.into()), "{record:#}");
}

#[test]
fn silence_where_nothing_opaque_is_allowed_ends_with_a_record() {
    let origin = greeter();
    let rest = endpoint(origin.port(), ", protocol: rest, enforcement: enforce, access: full");
    let gateway = Setup::policy(&format!("  mail:\n    endpoints:\n{rest}"))
        .more("timeout: { header: 1s }\n")
        .start();
    let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    assert_eq!(read_all(&mut client), b"");
    let record = gateway.record(1);
    assert_eq!(record["code"], "header_timeout", "{record:#}");
    assert_eq!(record["sent"], false);
    assert_eq!(origin.connections(), 0);
}

/// Telnet and FTP mark a place in the stream with TCP's urgent pointer (RFC 9293 §3.8.5): what follows it is not
/// left lying.
#[test]
fn what_follows_an_urgent_byte_goes_through() {
    let origin = Origin::plain(|mut recorded| {
        let mut got = [0; 9];
        recorded.stream.read_exact(&mut got).unwrap();
        recorded.stream.write_all(&got).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  t:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp, allowed_ips: [\"127.0.0.0/8\"] }}\n"
    ))
    .start();
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    client.write_all(b"abc").unwrap();
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"ABOR\r\n").unwrap();
    let mut got = [0; 9];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"abcABOR\r\n");
}
