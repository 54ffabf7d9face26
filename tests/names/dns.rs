//! Policy before DNS, and the address guard behind it, end to end (security.md 3 to 5).

use crate::common::dns::DnsServer;
use crate::common::hello::named;
use crate::common::{self, Gateway, Origin, Setup, problem, read_all, read_request, read_response};
use std::io::Write;

/// A gateway that asks `dns`, under this `network_policies:` body.
fn asking(dns: &DnsServer, entries: &str, mode: &str) -> Gateway {
    Setup::policy(entries)
        .sandbox(&format!("    approval: {{ mode: {mode} }}\n"))
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start()
}

/// An origin that answers one request a connection.
fn closing_origin() -> Origin {
    Origin::plain(|mut stream| {
        if !read_request(&mut stream).is_empty() {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(head.as_bytes()).unwrap();
        }
    })
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

fn get(gateway: &Gateway, url: &str) -> Vec<u8> {
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    gateway.exchange(request.as_bytes())
}

const RULES: &str = "
  api:
    endpoints:
      - host: api.dns.test
        port: 8080
        protocol: rest
        enforcement: enforce
        rules: [{ allow: { method: GET, path: /ok/** } }]
        deny_rules: [{ method: '*', path: /ok/secret }]
      - { host: raw.dns.test, port: 8080, tls: skip }
      - { host: '*.wild.dns.test', port: 8080, protocol: rest, enforcement: enforce, access: read-only }
  never:
    endpoints:
      - host: denied.dns.test
        port: 8080
        protocol: rest
        enforcement: enforce
        access: full
        deny_rules: [{ method: '*', path: /** }]";

#[test]
fn what_is_refused_was_never_resolved() {
    for mode in ["deny", "queue"] {
        let dns = DnsServer::start();
        let gateway = asking(&dns, RULES, mode);
        for url in [
            "http://unknown.test:8080/",
            "http://denied.dns.test:8080/",
            "http://api.dns.test/ok/a",
            "http://api.dns.test:8080/no",
            "http://api.dns.test:8080/ok/secret",
            "http://api.dns.test:8080/ok/../no",
            "http://deep.a.wild.dns.test:8080/",
            "http://xapi.dns.test:8080/ok/a",
            "http://raw.dns.test.other.test:8080/",
        ] {
            let status = status(&get(&gateway, url));
            assert!(matches!(status, 400 | 403), "{url}: {status}");
        }
        let post = "POST http://api.dns.test:8080/ok/a HTTP/1.1\r\nHost: api.dns.test:8080\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(status(&gateway.exchange(post.as_bytes())), 403);
        let other = "GET http://api.dns.test:8080/ok/a HTTP/1.1\r\nHost: raw.dns.test:8080\r\n\r\n";
        assert_eq!(status(&gateway.exchange(other.as_bytes())), 421);
        assert_eq!(dns.asked(), Vec::<String>::new(), "mode {mode}");
        assert!(gateway.records(11).iter().all(|r| r["sent"] == false));
    }
}

#[test]
fn a_tunnel_is_not_resolved_before_what_is_inside_was_judged() {
    let dns = DnsServer::start();
    let gateway = asking(&dns, RULES, "queue");
    for authority in ["api.dns.test:8080", "unknown.test:443", "a.wild.dns.test:8080"] {
        let host = authority.split(':').next().unwrap();
        let mut client = gateway.tls(authority, host, &["http/1.1"]);
        write!(client, "DELETE /x HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 403"), "{authority}: {head}");

        let mut client = gateway.tunnel(authority);
        client.write_all(b"SSH-2.0-client\r\n").unwrap();
        assert_eq!(read_all(&mut client), b"", "{authority}");

        let mut client = gateway.tunnel(authority);
        client.write_all(&named("other.test")).unwrap();
        assert_eq!(read_all(&mut client), common::hello::UNRECOGNIZED_NAME, "{authority}");
    }
    gateway.records(9);
    assert_eq!(dns.asked(), Vec::<String>::new());
}

#[test]
fn a_socks_name_is_not_resolved_before_it_was_judged() {
    let dns = DnsServer::start();
    let gateway = asking(&dns, RULES, "deny");
    for name in ["unknown.test", "denied.dns.test"] {
        let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&8080_u16.to_be_bytes());
        assert_eq!(gateway.exchange(&bytes)[..4], [5, 0, 5, 2], "{name}");
    }
    assert_eq!(dns.asked(), Vec::<String>::new());
}

#[test]
fn an_allowed_name_is_resolved_once_and_as_it_was_judged() {
    let (dns, origin) = (DnsServer::start(), closing_origin());
    dns.answer("api.dns.test", &["127.0.0.1"]);
    let rules = RULES.replace("8080", &origin.port().to_string());
    let gateway = asking(&dns, &rules, "deny");
    let answer = get(&gateway, &format!("http://API.dns.test.:{}/ok/a", origin.port()));
    assert_eq!(status(&answer), 200);
    assert_eq!(dns.lookups("api.dns.test"), 1);
    assert!(dns.asked().iter().all(|name| name == "api.dns.test"), "{:?}", dns.asked());
    assert_eq!(gateway.record(1)["address"], "127.0.0.1");
}

fn allowed(port: u16, more: &str) -> String {
    format!(
        "  api:\n    endpoints:\n      - {{ host: api.dns.test, port: {port}, protocol: rest, enforcement: enforce, access: full{more} }}\n      - {{ host: raw.dns.test, port: {port}, protocol: tcp{more} }}"
    )
}

#[test]
fn a_mixed_answer_is_refused_whole() {
    let (dns, origin) = (DnsServer::start(), closing_origin());
    let gateway = asking(&dns, &allowed(origin.port(), ""), "deny");
    for (number, answer) in [
        &["127.0.0.1", "10.0.0.1"][..],
        &["169.254.169.254", "127.0.0.1"],
        &["127.0.0.1", "fd00::1"],
    ]
    .into_iter()
    .enumerate()
    {
        dns.answer("api.dns.test", answer);
        let said = get(&gateway, &format!("http://api.dns.test:{}/", origin.port()));
        assert_eq!(status(&said), 403, "{answer:?}");
        assert_eq!(problem(&said)["code"], "address_refused", "{answer:?}");
        let record = gateway.record(number + 1);
        assert_eq!(record["by"], "guard", "{record:#}");
        assert_eq!(record["verdict"], "allow", "{record:#}");
        assert_eq!(record["outcome"], "refused", "{record:#}");
        assert_eq!(record["sent"], false, "{record:#}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let (dns, origin) = (DnsServer::start(), closing_origin());
    // Whoever asks twice for one request reaches the second address.
    dns.script("api.dns.test", &[&["127.0.0.1"], &["127.0.0.9"]]);
    let gateway = asking(&dns, &allowed(origin.port(), ""), "deny");
    let url = format!("http://api.dns.test:{}/", origin.port());
    assert_eq!(status(&get(&gateway, &url)), 200);
    assert_eq!(dns.lookups("api.dns.test"), 1);
    let said = get(&gateway, &url);
    assert_eq!(status(&said), 403);
    assert_eq!(problem(&said)["code"], "address_refused");
    assert_eq!(dns.lookups("api.dns.test"), 2);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn internal_addresses_of_every_kind_are_refused_behind_a_name() {
    let (dns, origin) = (DnsServer::start(), closing_origin());
    let gateway = asking(&dns, &allowed(origin.port(), ""), "deny");
    let addresses = [
        "127.0.0.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "::",
        "::ffff:10.0.0.1",
        "::127.0.0.9",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ];
    let mut passed = Vec::new();
    for address in addresses {
        dns.answer("api.dns.test", &[address]);
        dns.answer("raw.dns.test", &[address]);
        let said = get(&gateway, &format!("http://api.dns.test:{}/", origin.port()));
        let raw = gateway.exchange(
            format!("CONNECT raw.dns.test:{0} HTTP/1.1\r\nHost: raw.dns.test:{0}\r\nConnection: close\r\n\r\n", origin.port())
                .as_bytes(),
        );
        for answer in [said, raw] {
            if status(&answer) != 403 || problem(&answer)["code"] != "address_refused" {
                passed.push(format!("{address}: {}", String::from_utf8_lossy(&answer)));
            }
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_policy_opens_private_addresses_and_never_loopback_or_link_local() {
    let (dns, origin) = (DnsServer::start(), closing_origin());
    let more = ", allowed_ips: [10.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16]";
    let rules = allowed(origin.port(), more);
    let gateway = asking(&dns, &rules, "deny");
    for address in ["127.0.0.9", "169.254.169.254", "127.255.255.254"] {
        dns.answer("api.dns.test", &[address]);
        let said = get(&gateway, &format!("http://api.dns.test:{}/", origin.port()));
        assert_eq!(problem(&said)["code"], "address_refused", "{address}");
    }
    assert_eq!(origin.connections(), 0);
}
