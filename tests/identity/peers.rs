//! Whose connection it is: the kernel's answer about real sockets (security.md 7).

use portcullis::identity::{Peers, unix_peer};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A connection as both sides see it: the client's socket, the accepted one.
fn connect(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(to).expect("loopback");
    let (accepted, _) = listener.accept().expect("loopback");
    (client, accepted)
}

fn ends(accepted: &TcpStream) -> (SocketAddr, SocketAddr) {
    (accepted.local_addr().expect("connected"), accepted.peer_addr().expect("connected"))
}

fn inode(stream: &TcpStream) -> u64 {
    let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
    std::fs::metadata(format!("/proc/self/fd/{fd}")).expect("our own socket").ino()
}

fn my_uid() -> u32 {
    std::fs::metadata("/proc/self").expect("proc").uid()
}

#[test]
fn the_client_of_a_loopback_connection_is_found_by_its_own_socket() {
    let peers = Peers::open().expect("sock_diag");
    for ip in ["127.0.0.1", "127.0.0.5", "::1"] {
        let ip: std::net::IpAddr = ip.parse().expect("an address");
        let listener = TcpListener::bind((ip, 0)).expect("loopback");
        let (client, accepted) = connect(&listener, listener.local_addr().expect("bound"));
        let (local, peer) = ends(&accepted);
        let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
        assert_eq!(socket.inode, inode(&client), "{ip}");
        assert_eq!(socket.uid, my_uid(), "{ip}");
    }
}

#[test]
fn ipv4_inside_ipv6_sockets_is_found_from_either_side() {
    let peers = Peers::open().expect("sock_diag");
    let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("dual stack");
    let port = dual.local_addr().expect("bound").port();
    let (client, accepted) = connect(&dual, (Ipv4Addr::LOCALHOST, port).into());
    let (local, peer) = ends(&accepted);
    assert!(peer.is_ipv6(), "the listener sees a mapped address");
    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
    assert_eq!(socket.inode, inode(&client));

    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let port = plain.local_addr().expect("bound").port();
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
    let (client, accepted) = connect(&plain, mapped);
    let (local, peer) = ends(&accepted);
    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
    assert_eq!(socket.inode, inode(&client));
}

#[test]
fn a_closed_client_is_nobody_and_never_root() {
    let peers = Peers::open().expect("sock_diag");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let (client, mut accepted) = connect(&listener, listener.local_addr().expect("bound"));
    let (local, peer) = ends(&accepted);
    drop(client);
    assert_eq!(accepted.read(&mut [0; 1]).expect("its end"), 0);
    assert_eq!(peers.tcp_peer(local, peer).expect("answered"), None);
    drop(accepted);
    assert_eq!(peers.tcp_peer(local, peer).expect("answered"), None, "in TIME_WAIT");
}

#[test]
fn a_half_closed_client_is_still_somebody() {
    let peers = Peers::open().expect("sock_diag");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let (client, mut accepted) = connect(&listener, listener.local_addr().expect("bound"));
    let (local, peer) = ends(&accepted);
    client.shutdown(std::net::Shutdown::Write).expect("connected");
    assert_eq!(accepted.read(&mut [0; 1]).expect("its end"), 0);
    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
    assert_eq!(socket.inode, inode(&client));
}

#[test]
fn a_listener_is_never_taken_for_the_client() {
    let peers = Peers::open().expect("sock_diag");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let (local, peer) = (listener.local_addr().expect("bound"), other.local_addr().expect("bound"));
    assert_eq!(peers.tcp_peer(local, peer).expect("answered"), None);
}

#[test]
fn a_remote_client_is_nobody() {
    let peers = Peers::open().expect("sock_diag");
    let local: SocketAddr = "192.0.2.1:3128".parse().expect("an address");
    for peer in ["192.0.2.2:40000", "198.51.100.1:1", "[2001:db8::1]:40000"] {
        let peer = peer.parse().expect("an address");
        assert_eq!(peers.tcp_peer(local, peer).expect("answered"), None, "{peer}");
    }
    let v6 = "[2001:db8::2]:3128".parse().expect("an address");
    let peer = "[2001:db8::1]:40000".parse().expect("an address");
    assert_eq!(peers.tcp_peer(v6, peer).expect("answered"), None);
}

#[test]
fn many_threads_each_get_the_answer_to_their_own_question() {
    let peers = Peers::open().expect("sock_diag");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
                let to = listener.local_addr().expect("bound");
                let (client, accepted) = connect(&listener, to);
                let (local, peer) = ends(&accepted);
                for _ in 0..200 {
                    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
                    assert_eq!(socket.inode, inode(&client));
                }
            });
        }
    });
}

/// Needs root, to start a client as somebody else.
#[test]
fn the_uid_is_that_of_the_client() {
    if my_uid() != 0 {
        return;
    }
    let peers = Peers::open().expect("sock_diag");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let mut child = Command::new("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r -u 3 line")])
        .uid(65_534)
        .current_dir("/")
        .stderr(Stdio::null())
        .spawn()
        .expect("bash");
    let (mut accepted, peer) = listener.accept().expect("loopback");
    let local = accepted.local_addr().expect("connected");
    let socket = peers.tcp_peer(local, peer).expect("answered").expect("found");
    assert_eq!(socket.uid, 65_534);
    let process = peers.process(socket).expect("seen");
    assert_eq!(process.pid, child.id());
    accepted.write_all(b"bye\n").expect("connected");
    child.wait().expect("our child");
}

#[tokio::test]
async fn the_peer_of_a_unix_socket_is_who_connected_it() {
    let (a, _b) = tokio::net::UnixStream::pair().expect("a pair");
    let peer = unix_peer(&a).expect("credentials");
    assert_eq!(peer.uid, my_uid());
    assert_eq!(peer.pid, Some(std::process::id()));
}
