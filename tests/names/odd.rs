//! Odd hosts at every entrance: one parser, and a clear refusal (security.md 2).

use crate::common::dns::DnsServer;
use crate::common::hello::{DECODE_ERROR, UNRECOGNIZED_NAME, hello, named, server_name};
use crate::common::{Gateway, Origin, Setup, read_all};
use std::io::Write;

/// Hosts that no entrance takes, as bytes.
fn odd() -> Vec<Vec<u8>> {
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = format!("{}b.test", "abcdefg.".repeat(31));
    assert_eq!(long_name.len(), 254);
    let mut odd: Vec<Vec<u8>> = [
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0",
        "127.0.0.01",
        "127.0.0.1.",
        "256.1.1.1",
        "1.2.3.4.5",
        "origin.test.1",
        "origin.0x1",
        "a..test",
        ".origin.test",
        "origin.test..",
        ".",
        "origin,test",
        "origin!test",
        "orig(in.test",
        "origin.test;x",
        "xn--",
        "xn--a.test",
        "origin_test.%31",
        "or*gin.test",
        "'origin.test'",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    odd.push(long_label.into_bytes());
    odd.push(long_name.into_bytes());
    odd
}

/// Hosts that the syntax of a URL already excludes.
fn unwritable() -> Vec<Vec<u8>> {
    [
        &b"origin.test\0.other.test"[..],
        b"\0origin.test",
        b"origin.test\0",
        b"origin test",
        b"origin.test\t",
        b"ori\x7fgin.test",
        b"\xc3\xb6rigin.test",
        b"\xff.test",
        b"[origin.test]",
        b"[127.0.0.1]",
        b"[::1%lo]",
        b"[fe80::1%25eth0]",
        b"[::1",
        b"user@origin.test",
        b"origin.test@origin.test",
        b"origin.test/",
        b"origin.test#",
        b"origin.test?x",
        b"origin\\test",
        b"",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect()
}

struct Watched {
    gateway: Gateway,
    origin: Origin,
    dns: DnsServer,
}

/// A gateway under which every name and loopback address would be allowed, were it taken.
fn watched() -> Watched {
    let (origin, dns) = (Origin::ok("never"), DnsServer::start());
    let gateway = Setup::allow_all(&["origin.test", "*.origin.test", "127.0.0.1"], origin.port())
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start();
    Watched { gateway, origin, dns }
}

impl Watched {
    /// Sends each text on a connection of its own; all must be refused with 400, and the end.
    fn refuses(&self, what: &str, requests: Vec<Vec<u8>>) {
        let count = requests.len();
        let mut taken = Vec::new();
        for bytes in requests {
            let answer = self.gateway.exchange(&bytes);
            if !answer.starts_with(b"HTTP/1.1 400 ") {
                let (sent, said) = (bytes.escape_ascii(), answer.escape_ascii());
                taken.push(format!("{sent}: {said}"));
            }
        }
        assert!(taken.is_empty(), "{what}: {taken:#?}");
        let records = self.gateway.records(count);
        assert!(
            records.iter().all(|r| r["sent"] == false && r["verdict"] == "none"),
            "{records:#?}"
        );
    }

    fn nothing_left(&self) {
        assert_eq!(self.origin.connections(), 0);
        assert_eq!(self.dns.asked(), Vec::<String>::new());
    }
}

fn around(before: &str, host: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), host, after.as_bytes()].concat()
}

#[test]
fn an_odd_host_in_a_connect_is_refused() {
    let watched = watched();
    let end = format!(":{} HTTP/1.1\r\nHost: origin.test\r\n\r\n", watched.origin.port());
    let hosts = odd().into_iter().chain(unwritable());
    watched.refuses("CONNECT", hosts.map(|h| around("CONNECT ", &h, &end)).collect());
    watched.nothing_left();
}

#[test]
fn a_connect_without_a_port_or_with_an_odd_one_is_refused() {
    let watched = watched();
    let ports = ["", ":", ":0", ":65536", ":080", ":+80", ":-1", ":80:80", ":http", ":8 0", ":٨٠"];
    let line =
        |port: &&str| format!("CONNECT origin.test{port} HTTP/1.1\r\nHost: origin.test\r\n\r\n");
    watched.refuses("port", ports.iter().map(|p| line(p).into_bytes()).collect());
    watched.nothing_left();
}

#[test]
fn an_odd_host_in_an_absolute_url_is_refused() {
    let watched = watched();
    let end = format!(":{}/ HTTP/1.1\r\nHost: origin.test\r\n\r\n", watched.origin.port());
    // `/`, `?` and `#` end the authority of a URL: what is left is a name without a port.
    let unwritable = unwritable().into_iter().filter(|h| !h.iter().any(|b| b"/?#".contains(b)));
    let hosts = odd().into_iter().chain(unwritable);
    watched.refuses("URL", hosts.map(|h| around("GET http://", &h, &end)).collect());
    watched.nothing_left();
}

#[test]
fn an_odd_host_field_is_refused() {
    let watched = watched();
    let port = watched.origin.port();
    let start = format!("GET http://origin.test:{port}/ HTTP/1.1\r\nHost: ");
    let end = format!(":{port}\r\n\r\n");
    let hosts = odd().into_iter().chain(unwritable());
    watched.refuses("Host", hosts.map(|h| around(&start, &h, &end)).collect());
    watched.nothing_left();
}

#[test]
fn an_odd_host_field_inside_a_tunnel_is_refused() {
    let watched = watched();
    let authority = format!("origin.test:{}", watched.origin.port());
    let end = format!(":{}\r\n\r\n", watched.origin.port());
    let hosts: Vec<_> = odd().into_iter().chain(unwritable()).collect();
    let mut taken = Vec::new();
    for host in &hosts {
        let mut client = watched.gateway.tunnel(&authority);
        client.write_all(&around("GET / HTTP/1.1\r\nHost: ", host, &end)).unwrap();
        let answer = read_all(&mut client);
        if !answer.starts_with(b"HTTP/1.1 400 ") {
            taken.push(format!("{}: {}", host.escape_ascii(), answer.escape_ascii()));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
    watched.gateway.records(hosts.len());
    watched.nothing_left();
}

#[test]
fn an_odd_name_in_a_socks_request_is_refused() {
    let watched = watched();
    // A name in UTF-8 is one that IDNA knows; in HTTP it can't be written.
    let unwritable = unwritable().into_iter().filter(|h| *h != "örigin.test".as_bytes());
    let hosts: Vec<_> = odd().into_iter().chain(unwritable).collect();
    let mut taken = Vec::new();
    for host in &hosts {
        let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(host.len()).unwrap()];
        bytes.extend_from_slice(host);
        bytes.extend_from_slice(&watched.origin.port().to_be_bytes());
        let said = watched.gateway.exchange(&bytes);
        if said != [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0] {
            taken.push(format!("{}: {said:?}", host.escape_ascii()));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
    let records = watched.gateway.records(hosts.len());
    assert!(records.iter().all(|r| r["code"] == "bad_host"), "{records:#?}");
    watched.nothing_left();
}

#[test]
fn an_odd_name_in_an_sni_gets_an_alert() {
    let watched = watched();
    let authority = format!("origin.test:{}", watched.origin.port());
    let hosts: Vec<_> = odd().into_iter().chain(unwritable()).collect();
    let mut taken = Vec::new();
    for host in &hosts {
        let mut client = watched.gateway.tunnel(&authority);
        client.write_all(&hello(&server_name(host))).unwrap();
        let said = read_all(&mut client);
        if said != DECODE_ERROR {
            taken.push(format!("{}: {said:?}", host.escape_ascii()));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
    let records = watched.gateway.records(hosts.len());
    assert!(records.iter().all(|r| r["code"] == "bad_client_hello"), "{records:#?}");
    // An address is well-formed, and another name all the same.
    let mut client = watched.gateway.tunnel(&authority);
    client.write_all(&named("127.0.0.1")).unwrap();
    assert_eq!(read_all(&mut client), UNRECOGNIZED_NAME);
    watched.nothing_left();
}

#[test]
fn one_name_in_other_spellings_is_the_same_name() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for name in ["Origin.TEST", "origin.test.", "ORIGIN.TEST."] {
        let mut client = gateway.tunnel(&format!("{name}:{port}"));
        write!(client, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let answer = read_all(&mut client);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{name}");
    }
}
