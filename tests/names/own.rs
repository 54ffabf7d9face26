//! Address literals, the gateway's own addresses, and a parent proxy that opens nothing
//! (security.md 6).

use crate::common::dns::DnsServer;
use crate::common::read_response;
use crate::common::{self, Gateway, Origin, Setup, header, limits, problem, read_head};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

fn get(gateway: &Gateway, authority: &str) -> Vec<u8> {
    let request = format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    );
    gateway.exchange(request.as_bytes())
}

fn connect(gateway: &Gateway, authority: &str) -> Vec<u8> {
    let request =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    gateway.exchange(request.as_bytes())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_address_literal_needs_a_rule_that_names_it() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let deny = "    approval: { mode: deny }\n";
    let named = ["origin.test", "*.origin.test", "**.origin.test"];
    let gateway = Setup::allow_all(&named, port).sandbox(deny).start();
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        for said in
            [get(&gateway, &format!("{host}:{port}")), connect(&gateway, &format!("{host}:{port}"))]
        {
            assert!(said.starts_with(b"HTTP/1.1 403 "), "{host}: {}", said.escape_ascii());
            assert_eq!(problem(&said)["code"], "host_unknown", "{host}");
        }
    }
    assert_eq!(origin.connections(), 0);

    let gateway = Setup::allow_all(&["127.0.0.1"], port).sandbox(deny).start();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
        let said = get(&gateway, &format!("{host}:{port}"));
        assert!(said.starts_with(b"HTTP/1.1 200 "), "{host}: {}", said.escape_ascii());
    }
    // The rule names the address, not who happens to live there.
    assert!(get(&gateway, &format!("origin.test:{port}")).starts_with(b"HTTP/1.1 403 "));
}

#[test]
fn a_literal_that_a_rule_names_is_still_guarded() {
    let port = free_port();
    let hosts = ["127.0.0.9", "169.254.169.254", "10.0.0.1", "::1", "fd00::1"];
    let gateway = Setup::allow_all(&hosts, port).start();
    for host in ["127.0.0.9", "169.254.169.254", "10.0.0.1", "[fd00::1]"] {
        let said = get(&gateway, &format!("{host}:{port}"));
        assert!(said.starts_with(b"HTTP/1.1 403 "), "{host}: {}", said.escape_ascii());
        assert_eq!(problem(&said)["code"], "address_refused", "{host}");
    }
}

#[test]
fn the_gateways_own_listeners_are_refused_by_resolved_address() {
    let dns = DnsServer::start();
    let (proxy, metrics) = (free_port(), free_port());
    dns.answer("self.dns.test", &["127.0.0.1"]);
    dns.answer("mapped.dns.test", &["::ffff:127.0.0.1"]);
    let hosts = ["self.dns.test", "mapped.dns.test", "127.0.0.1", "0.0.0.0"];
    let mut entries = String::from("  own:\n    endpoints:\n");
    for host in hosts {
        entries += &format!(
            "      - {{ host: \"{host}\", ports: [{proxy}, {metrics}], protocol: rest, enforcement: enforce, access: full }}\n"
        );
    }
    for port in [proxy, metrics] {
        entries += &format!(
            "  raw{port}:\n    endpoints:\n      - {{ host: raw.dns.test, port: {port}, protocol: tcp }}\n"
        );
    }
    dns.answer("raw.dns.test", &["127.0.0.1"]);
    let gateway = Setup::policy(&entries)
        .listen(&format!("  - {{ address: \"127.0.0.1:{proxy}\", sandbox: default }}\n"))
        .more(&format!("metrics: {{ address: \"127.0.0.1:{metrics}\" }}\n"))
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start();
    for port in [proxy, metrics] {
        for host in hosts {
            let said = get(&gateway, &format!("{host}:{port}"));
            assert!(said.starts_with(b"HTTP/1.1 508 "), "{host}:{port}: {}", said.escape_ascii());
            assert_eq!(problem(&said)["code"], "own_address", "{host}:{port}");
        }
        let said = connect(&gateway, &format!("raw.dns.test:{port}"));
        assert!(said.starts_with(b"HTTP/1.1 508 "), "raw:{port}: {}", said.escape_ascii());
    }
    assert!(gateway.records(10).iter().all(|r| r["sent"] == false && r["code"] == "own_address"));
}

#[test]
fn a_parent_proxy_is_asked_for_checked_addresses_alone() {
    let dns = DnsServer::start();
    let parent = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        if !head.is_empty() {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
        }
        while !common::read_request(&mut stream).is_empty() {
            let sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            if sent.is_err() {
                return;
            }
        }
    });
    dns.answer("good.dns.test", &["93.184.216.34"]);
    dns.answer("bad.dns.test", &["93.184.216.34", "10.0.0.1"]);
    let port = free_port();
    let upstream = format!(
        "  nameservers: [\"{}\"]\n  proxy: {{ url: \"http://{}\" }}\n",
        dns.address(),
        parent.at
    );
    let gateway = Setup::allow_all(&["good.dns.test", "bad.dns.test", "10.0.0.2"], port)
        .upstream(&upstream)
        .start();
    for host in ["bad.dns.test", "10.0.0.2"] {
        let said = get(&gateway, &format!("{host}:{port}"));
        assert!(said.starts_with(b"HTTP/1.1 403 "), "{host}: {}", said.escape_ascii());
        assert_eq!(problem(&said)["code"], "address_refused", "{host}");
    }
    assert_eq!(parent.connections(), 0);
    let said = get(&gateway, &format!("good.dns.test:{port}"));
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", said.escape_ascii());
    let heard = parent.heard();
    assert!(heard.starts_with(&format!("CONNECT 93.184.216.34:{port} HTTP/1.1\r\n")), "{heard}");
    let inner = heard.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(header(inner, "host").unwrap(), format!("good.dns.test:{port}"));
}

#[test]
fn where_the_parent_resolves_literals_are_guarded_all_the_same() {
    let parent = Origin::ok("never");
    let port = free_port();
    let upstream = format!("  proxy: {{ url: \"http://{}\", resolve: proxy }}\n", parent.at);
    let hosts = ["10.0.0.1", "169.254.169.254", "127.0.0.9"];
    let gateway = Setup::allow_all(&hosts, port).upstream(&upstream).start();
    for host in hosts {
        let said = get(&gateway, &format!("{host}:{port}"));
        assert!(said.starts_with(b"HTTP/1.1 403 "), "{host}: {}", said.escape_ascii());
        assert_eq!(problem(&said)["code"], "address_refused", "{host}");
    }
    assert_eq!(parent.connections(), 0);
}

/// `*` stands in no URL, and a URL is what a parent is asked for (RFC 9112 §3.2.4): one made of both
/// would name another authority than was judged.
#[test]
fn a_server_as_a_whole_is_not_asked_about_through_a_parent() {
    let parent = Origin::ok("never");
    let port = free_port();
    let upstream = format!("  proxy: {{ url: \"http://{}\", resolve: proxy }}\n", parent.at);
    let gateway = Setup::allow_all(&["far.test"], port).upstream(&upstream).start();
    let mut tunnel = gateway.tunnel(&format!("far.test:{port}"));
    let head = format!("OPTIONS * HTTP/1.1\r\nHost: far.test:{port}\r\n\r\n");
    tunnel.write_all(head.as_bytes()).unwrap();
    let (head, body) = read_response(&mut tunnel);
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(problem(&body)["detail"].as_str().unwrap().contains("OPTIONS *"), "{head}");
    assert_eq!(parent.heard(), "");
}

/// A parent proxy that sends each head on as it came, to where it is told; the ninth, nowhere.
fn relay(to: Arc<OnceLock<SocketAddr>>) -> Origin {
    let rounds = AtomicUsize::new(0);
    Origin::plain(move |mut stream| {
        let head = read_head(&mut stream);
        if head.is_empty() || rounds.fetch_add(1, Ordering::SeqCst) == 8 {
            return;
        }
        let mut next = TcpStream::connect(to.get().unwrap()).unwrap();
        limits(&next);
        next.write_all(head.as_bytes()).unwrap();
        let (mut back, mut there) = (next.try_clone().unwrap(), stream.stream.try_clone().unwrap());
        std::thread::spawn(move || drop(std::io::copy(&mut back, &mut there)));
        drop(std::io::copy(&mut stream.stream, &mut next));
    })
}

#[test]
fn a_parent_proxy_that_leads_back_here_ends_the_request_and_no_chain_begins() {
    let port = free_port();
    let policy = format!(
        "  a:\n    endpoints:\n      - {{ host: plain.far.test, port: {port}, protocol: rest, access: full }}\n      \
         - {{ host: raw.far.test, port: {port}, protocol: tcp }}\n"
    );
    let asked = ["plain", "raw"].map(|name| format!("{name}.far.test:{port}"));
    for (authority, forwarded) in asked.iter().zip([true, false]) {
        let at = Arc::new(OnceLock::new());
        let parent = relay(at.clone());
        let upstream = format!("  proxy: {{ url: \"http://{}\", resolve: proxy }}\n", parent.at);
        let gateway = Setup::policy(&policy).upstream(&upstream).start();
        at.set(gateway.proxy).unwrap();
        let said = if forwarded { get(&gateway, authority) } else { connect(&gateway, authority) };
        let text = said.escape_ascii();
        let records = gateway.records(2);
        assert_eq!(parent.connections(), 1, "{text} {records:#?}");
        assert_eq!((&records[0]["code"], &records[0]["status"]), (&"loop".into(), &508.into()));
        assert_eq!(records[0]["sent"], false);
        if forwarded {
            assert!(said.starts_with(b"HTTP/1.1 508 "), "{text}");
            assert_eq!(problem(&said)["code"], "loop", "{text}");
        } else {
            assert!(said.starts_with(b"HTTP/1.1 502 "), "{text}");
            assert!(problem(&said)["detail"].as_str().unwrap().contains(" with 508"), "{text}");
        }
        let mark = header(&parent.heard(), "x-portcullis-loop").unwrap();
        assert!(mark.len() == 32 && !text.to_string().contains(&mark), "{text}");
    }
}
