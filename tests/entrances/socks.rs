//! SOCKS5 (RFC 1928) on the proxy port: names, addresses, and the reply codes.

use crate::common::dns::DnsServer;
use crate::common::{Gateway, Origin, Setup, read_all, read_response};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

const HELLO: &[u8] = &[5, 1, 0];

/// A request with this command for this address and port.
fn request(command: u8, address: &[u8], port: u16) -> Vec<u8> {
    [&[5, command, 0][..], address, &port.to_be_bytes()].concat()
}

fn name(name: &str) -> Vec<u8> {
    [&[3, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()
}

fn v4(ip: Ipv4Addr) -> Vec<u8> {
    [&[1][..], &ip.octets()].concat()
}

fn v6(ip: Ipv6Addr) -> Vec<u8> {
    [&[4][..], &ip.octets()].concat()
}

/// The reply code, and the connection.
fn asked(gateway: &Gateway, address: &[u8], port: u16) -> (u8, TcpStream) {
    let mut client = gateway.connect();
    for byte in [HELLO, &request(1, address, port)].concat() {
        client.write_all(&[byte]).unwrap();
    }
    let mut reply = [0; 12];
    client.read_exact(&mut reply).unwrap();
    assert_eq!((reply[..3].to_vec(), &reply[4..]), (vec![5, 0, 5], &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    (reply[3], client)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn names_and_addresses_lead_where_they_say() {
    let origin = Origin::ok("hello");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test", "127.0.0.1"], port).start();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    for (address, host) in [
        (name("origin.test"), "origin.test"),
        (name("ORIGIN.test."), "origin.test"),
        (name("127.0.0.1"), "127.0.0.1"),
        (v4(Ipv4Addr::LOCALHOST), "127.0.0.1"),
        (v6(mapped), "127.0.0.1"),
    ] {
        let (reply, mut client) = asked(&gateway, &address, port);
        assert_eq!(reply, 0, "{address:?}");
        write!(client, "GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut client).1, b"hello", "{address:?}");
        write!(client, "GET / HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 421 "), "{address:?}: {head}");
    }
}

#[test]
fn an_ipv6_address_leads_where_it_says() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: IPv6 is not there");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"banner").unwrap();
    });
    let entries =
        format!("  six:\n    endpoints:\n      - {{ host: \"::1\", port: {port}, protocol: tcp }}");
    let gateway = Setup::policy(&entries).start();
    let (reply, mut client) = asked(&gateway, &v6(Ipv6Addr::LOCALHOST), port);
    assert_eq!(reply, 0);
    assert_eq!(read_all(&mut client), b"banner");
}

#[test]
fn what_a_rule_refuses_gets_reply_2() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let dns = DnsServer::start();
    dns.answer("inside.dns.test", &["10.0.0.1"]);
    let entries = format!(
        "  raw:\n    endpoints:\n      - {{ host: inside.dns.test, port: {port}, protocol: tcp }}\n      - {{ host: 127.0.0.9, port: {port}, protocol: tcp }}\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        enforcement: enforce\n        access: full\n        deny_rules: [{{ method: '*', path: /** }}]"
    );
    let gateway = Setup::policy(&entries)
        .sandbox("    approval: { mode: deny }\n")
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start();
    let cases = [
        (name("unknown.test"), "host_unknown"),
        (name("origin.test"), "denied_by_rule"),
        (v4(Ipv4Addr::LOCALHOST), "host_unknown"),
        (v6(Ipv6Addr::LOCALHOST), "host_unknown"),
        (name("inside.dns.test"), "address_refused"),
        (v4(Ipv4Addr::new(127, 0, 0, 9)), "address_refused"),
    ];
    for (number, (address, code)) in cases.iter().enumerate() {
        let (reply, mut client) = asked(&gateway, address, port);
        assert_eq!(reply, 2, "{code}: {address:?}");
        assert_eq!(read_all(&mut client), b"");
        let record = gateway.record(number + 1);
        assert_eq!(record["code"], *code, "{record:#}");
        assert_eq!(record["sent"], false, "{record:#}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_fails_upstream_gets_reply_4_or_5() {
    let port = free_port();
    let dns = DnsServer::start();
    dns.fail("broken.dns.test");
    dns.answer("closed.dns.test", &["127.0.0.1"]);
    let hosts = ["missing.dns.test", "broken.dns.test", "closed.dns.test"];
    let mut entries = String::from("  raw:\n    endpoints:\n");
    for host in hosts {
        entries += &format!("      - {{ host: {host}, port: {port}, protocol: tcp }}\n");
    }
    let gateway = Setup::policy(&entries)
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start();
    let cases = [
        (hosts[0], 4, "name_not_found"),
        (hosts[1], 4, "dns_failed"),
        (hosts[2], 5, "connect_failed"),
    ];
    for (number, (host, expected, code)) in cases.into_iter().enumerate() {
        let (reply, mut client) = asked(&gateway, &name(host), port);
        assert_eq!(reply, expected, "{host}");
        assert_eq!(read_all(&mut client), b"");
        let record = gateway.record(number + 1);
        assert_eq!((&record["host"], &record["code"]), (&host.into(), &code.into()), "{record:#}");
    }
}

#[test]
fn other_commands_and_address_types_get_replies_7_and_8() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for (request, reply) in [
        (request(2, &name("origin.test"), port), 7),
        (request(3, &v4(Ipv4Addr::LOCALHOST), port), 7),
        (request(0, &name("origin.test"), port), 7),
        (request(1, &[2, 1, 2, 3, 4], port), 8),
        (request(1, &[0, 1, 2, 3, 4], port), 8),
    ] {
        let said = gateway.exchange(&[HELLO, &request].concat());
        assert_eq!(said, [5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0], "{request:?}");
    }
    assert!(gateway.records(5).iter().all(|r| r["code"] == "bad_socks" && r["sent"] == false));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_malformed_request_gets_an_answer_and_a_record() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let good = request(1, &name("origin.test"), port);
    for (bytes, said) in [
        // No method that is served: RFC 1928 §3.
        (vec![5, 1, 2], vec![5, 0xff]),
        (vec![5, 0], vec![5, 0xff]),
        (
            [HELLO, &request(1, &name("origin.test"), 0)].concat(),
            vec![5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        ([HELLO, &[4], &good[1..]].concat(), vec![5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
    ] {
        let answer = gateway.exchange(&bytes);
        assert!(answer.starts_with(&said), "{bytes:?}: {answer:?}");
    }
    let mut cut = gateway.connect();
    cut.write_all(&[HELLO, &good[..good.len() - 1]].concat()).unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut cut)[..4], [5, 0, 5, 1]);
    let records = gateway.records(5);
    assert!(records.iter().all(|r| r["code"] == "bad_socks"), "{records:#?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn bytes_sent_before_the_reply_are_the_tunnels() {
    let origin = Origin::plain(|mut stream| {
        let bytes = read_all(&mut stream);
        stream.write_all(&bytes).unwrap();
    });
    let port = origin.port();
    let entries = format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}"
    );
    let gateway = Setup::policy(&entries).start();
    let mut client = gateway.connect();
    client.write_all(&[HELLO, &request(1, &name("origin.test"), port), b"early"].concat()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let said = read_all(&mut client);
    assert_eq!(said[..4], [5, 0, 5, 0]);
    assert_eq!(&said[12..], b"early");
}
