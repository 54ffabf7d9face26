//! Connections that NAT brings to a transparent listener: where they were going is what the kernel
//! remembers of it, and of that only the port counts (security.md 7).

use crate::common::host::{NOBODY, as_uid, ip, neighbour, network};
use crate::common::{Gateway, Origin, Setup, limits, read_all, read_response, tool};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// Where the clients mean to go. Nobody is there.
const MEANT: [u8; 4] = [203, 0, 113, 7];

fn nft(rules: &str) {
    let output = Command::new("nft").arg(rules).output().unwrap();
    assert!(output.status.success(), "nft {rules}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Brings what is meant for `port` to the listener.
fn redirect(gateway: &Gateway, port: u16) {
    let to = gateway.proxy.port();
    nft("add table ip way");
    for hook in ["prerouting", "output"] {
        nft(&format!("add chain ip way {hook} {{ type nat hook {hook} priority -100; }}"));
        let meant = "203.0.113.0/24";
        nft(&format!("add rule ip way {hook} ip daddr {meant} tcp dport {port} redirect to :{to}"));
    }
}

fn routed(origin: &Origin) -> Gateway {
    let listen = "  - { address: \"0.0.0.0:0\", mode: transparent, allow_from: [10.77.0.0/16] }\n";
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(listen).start();
    redirect(&gateway, origin.port());
    gateway
}

/// Asks `host` for a page on a connection that means to go elsewhere.
fn asked(host: &str, port: u16) -> String {
    let mut stream = TcpStream::connect(SocketAddr::from((MEANT, port))).unwrap();
    limits(&stream);
    drop(write!(stream, "GET /x HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"));
    read_response(&mut stream).0
}

#[test]
fn a_redirected_neighbour_reaches_the_name_it_asks_for() {
    if !tool("nft") || !network() {
        return;
    }
    let origin = Origin::ok("hello");
    let port = origin.port();
    let gateway = routed(&origin);
    neighbour(&["10.77.1.2/16"], || {
        ip("route add default via 10.77.0.1");
        let head = asked("origin.test", port);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let head = asked("203.0.113.7", port);
        assert!(head.starts_with("HTTP/1.1 403"), "no rule names the address: {head}");
        let mut stream = TcpStream::connect(SocketAddr::from((MEANT, port))).unwrap();
        limits(&stream);
        stream.write_all(b"SSH-2.0-client\r\n").unwrap();
        assert_eq!(read_all(&mut stream), b"");
    });
    let records = gateway.records(3);
    let hosts: Vec<_> = records.iter().map(|r| r["host"].clone()).collect();
    assert_eq!(hosts, ["origin.test", "203.0.113.7", "203.0.113.7"]);
    assert!(records.iter().all(|r| r["port"] == port), "{records:#?}");
    assert_eq!(records[0]["address"], "127.0.0.1");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_redirected_client_on_this_host_is_known_by_its_uid() {
    if !tool("nft") || !network() {
        return;
    }
    ip("link add out type veth peer name far");
    ip("link set far up");
    ip("addr add 10.77.3.1/24 dev out");
    ip("link set out up");
    ip("route add default via 10.77.3.2");
    let origin = Origin::ok("hello");
    let gateway = routed(&origin);
    let port = origin.port();
    assert_eq!(as_uid(NOBODY, || asked("origin.test", port)), "");
    assert_eq!(origin.connections(), 0);
    let head = asked("origin.test", port);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(gateway.record(1)["client"]["binary"].is_string());
}

#[test]
fn an_http_1_0_client_that_names_no_host_reaches_the_address_that_a_rule_names() {
    if !tool("nft") || !network() {
        return;
    }
    let origin = Origin::ok("hello");
    let port = origin.port();
    let entries = format!(
        "  raw:\n    endpoints:\n      - {{ host: 203.0.113.7, port: {port}, protocol: rest, access: read-only, allowed_ips: [203.0.113.7] }}"
    );
    let listen = "  - { address: \"0.0.0.0:0\", mode: transparent, allow_from: [10.77.0.0/16] }\n";
    let gateway =
        Setup::policy(&entries).sandbox("    approval: { mode: deny }\n").listen(listen).start();
    nft("add table ip way");
    nft("add chain ip way prerouting { type nat hook prerouting priority -100; }");
    nft("add chain ip way output { type nat hook output priority -100; }");
    let (meant, to) = ("ip daddr 203.0.113.0/24", gateway.proxy.port());
    nft(&format!("add rule ip way prerouting {meant} tcp dport {port} redirect to :{to}"));
    // Who is at the address, for the gateway.
    nft(&format!("add rule ip way output {meant} tcp dport {port} dnat to 127.0.0.1:{port}"));
    ip("link add out type veth peer name far");
    ip("link set far up");
    ip("addr add 10.77.3.1/30 dev out");
    ip("link set out up");
    ip("route add 203.0.113.0/24 via 10.77.3.2");
    neighbour(&["10.77.1.2/16"], || {
        ip("route add default via 10.77.0.1");
        for (at, asked, status) in [
            (7, "GET /x HTTP/1.0\r\n\r\n", 200),
            (7, "POST /x HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 403),
            (8, "GET /x HTTP/1.0\r\n\r\n", 403),
            // Who has a name must say it (RFC 9112 §3.2).
            (7, "GET /x HTTP/1.1\r\n\r\n", 400),
        ] {
            let mut stream =
                TcpStream::connect(SocketAddr::from(([203, 0, 113, at], port))).unwrap();
            limits(&stream);
            stream.write_all(asked.as_bytes()).unwrap();
            let head = read_response(&mut stream).0;
            assert!(head.split(' ').nth(1) == Some(&status.to_string()), "{asked}: {head}");
        }
    });
    let records = gateway.records(4);
    let hosts: Vec<_> = records.iter().map(|r| r["host"].clone()).collect();
    assert_eq!(hosts[..3], ["203.0.113.7", "203.0.113.7", "203.0.113.8"]);
    assert_eq!(records[0]["address"], "203.0.113.7");
    let seen = origin.seen.lock().unwrap();
    let head = String::from_utf8_lossy(&seen[0]).to_lowercase();
    assert!(head.contains(&format!("host: 203.0.113.7:{port}\r\n")), "{head}");
    assert_eq!(origin.connections(), 1);
}
