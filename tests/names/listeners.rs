//! A listener serves only whom it names; others get nothing, not even a refusal (security.md 7).

use crate::common::host::{NOBODY, as_uid, ip, neighbour, network, root};
use crate::common::{self, Gateway, Origin, Setup, limits, read_all, wait_for};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

fn request(port: u16) -> Vec<u8> {
    format!("GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Sends a request and reads all there is; what is turned away may be so before it could send.
fn told<S: Read + Write>(mut stream: S, bytes: &[u8]) -> Vec<u8> {
    drop(stream.write_all(bytes));
    read_all(&mut stream)
}

fn tcp(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(at).unwrap();
    limits(&stream);
    told(stream, bytes)
}

fn served(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

fn turned_away(gateway: &Gateway, why: &str) {
    wait_for(common::PATIENCE, || gateway.log().contains(why).then_some(()));
}

#[test]
fn another_uid_on_the_host_gets_nothing() {
    if !root() {
        return;
    }
    let origin = Origin::ok("ok");
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let all = [request(origin.port()), b"\x05\x01\x00".to_vec(), b"garbage\r\n\r\n".to_vec()];
    for bytes in &all {
        assert_eq!(as_uid(NOBODY, || tcp(gateway.proxy, bytes)), b"", "{}", bytes.escape_ascii());
    }
    turned_away(&gateway, "its uid is not in allow_uids");
    assert_eq!(origin.connections(), 0);
    assert!(served(&tcp(gateway.proxy, &all[0])), "the gateway's own uid is served");
    assert_eq!(gateway.records(1).len(), 1, "those turned away leave no record of a request");
}

#[test]
fn the_uids_that_a_listener_names_are_served_and_no_others() {
    if !root() {
        return;
    }
    let origin = Origin::ok("ok");
    let listen = format!("  - {{ address: \"127.0.0.1:0\", allow_uids: [{NOBODY}] }}\n");
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(&listen).start();
    let bytes = request(origin.port());
    assert!(served(&as_uid(NOBODY, || tcp(gateway.proxy, &bytes))));
    assert_eq!(tcp(gateway.proxy, &bytes), b"", "not even the gateway's own");
}

/// A gateway on the Unix socket `agent.sock` of a directory that anyone may enter.
fn on_unix(origin: &Origin, more: &str) -> (Gateway, PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("agent.sock");
    let listen = format!("  - {{ address: \"unix:{}\"{more} }}\n", path.display());
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(&listen).start();
    (gateway, path, dir)
}

fn unix(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    told(stream, bytes)
}

#[test]
fn a_unix_socket_is_for_its_owner_unless_it_says_more() {
    let origin = Origin::ok("ok");
    let (_gateway, path, _dir) = on_unix(&origin, "");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(served(&unix(&path, &request(origin.port()))));
    if root() {
        let refused = as_uid(NOBODY, || UnixStream::connect(&path).unwrap_err().kind());
        assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_unix_socket_that_all_can_open_serves_the_uids_it_names() {
    if !root() {
        return;
    }
    let origin = Origin::ok("ok");
    let bytes = request(origin.port());
    let (gateway, path, _dir) = on_unix(&origin, ", mode: \"0666\", allow_uids: [0]");
    assert_eq!(as_uid(NOBODY, || unix(&path, &bytes)), b"");
    turned_away(&gateway, "its uid is not in allow_uids");
    assert!(served(&unix(&path, &bytes)));

    let more = format!(", mode: \"0666\", allow_uids: [{NOBODY}]");
    let (_gateway, path, _dir) = on_unix(&origin, &more);
    assert!(served(&as_uid(NOBODY, || unix(&path, &bytes))));
    assert_eq!(unix(&path, &bytes), b"");
}

/// A connection from this address of the caller's.
fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect_timeout(&to.into(), common::PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    limits(&stream);
    stream
}

#[test]
fn an_address_that_the_listener_does_not_name_gets_nothing() {
    if !network() {
        return;
    }
    let origin = Origin::ok("ok");
    let listen = "  - { address: \"0.0.0.0:0\", allow_from: [10.77.1.0/24] }\n";
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(listen).start();
    let (at, bytes) =
        (SocketAddr::from(([10, 77, 0, 1], gateway.proxy.port())), request(origin.port()));
    let [inside, outside] = neighbour(&["10.77.1.2/16", "10.77.2.2/16"], || {
        ["10.77.1.2", "10.77.2.2"].map(|from| told(connect_from(from, at), &bytes))
    });
    assert!(served(&inside), "{}", inside.escape_ascii());
    assert_eq!(outside, b"");
    turned_away(&gateway, "its address is not in allow_from");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_on_this_host_is_known_by_its_uid_whatever_its_address() {
    if !network() {
        return;
    }
    for address in ["10.77.0.1/16", "10.77.1.9/16"] {
        ip(&format!("addr add {address} dev lo"));
    }
    let origin = Origin::ok("ok");
    let listen = "  - { address: \"10.77.0.1:0\", allow_from: [10.77.0.0/16] }\n";
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(listen).start();
    let (at, bytes) = (gateway.proxy, request(origin.port()));
    for from in ["10.77.0.1", "10.77.1.9"] {
        assert_eq!(as_uid(NOBODY, || told(connect_from(from, at), &bytes)), b"", "{from}");
        assert!(served(&told(connect_from(from, at), &bytes)), "{from}");
    }
    turned_away(&gateway, "its uid is not in allow_uids");
    // Nor does it help to have closed the socket before anybody looks.
    for linger in [None, Some(std::time::Duration::ZERO)].repeat(10) {
        as_uid(NOBODY, || {
            let mut stream = connect_from("10.77.1.9", at);
            stream.write_all(&bytes).unwrap();
            socket2::SockRef::from(&stream).set_linger(linger).unwrap();
        });
    }
    assert!(served(&told(connect_from("10.77.1.9", at), &bytes)));
    assert_eq!(origin.heard().matches("GET / ").count(), 3, "{}", origin.heard());
}
