//! What is long: tunnels and WebSockets hold their place, and their bytes count as any upload. A
//! permit that went while an origin was dialled lets nothing up.

use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, problem, read_all, read_head, wait_for,
};
use crate::http_kit;
use crate::operation_kit::{self, echo, echoes, entry, expect, full, get, once, record_of, status};
use bytes::Bytes;
use portcullis::proxy::websocket::{Opcode, accept_for, encode};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// What is not whole must not look so: bytes without a length say by their end that they are.
#[test]
fn a_reset_goes_through_a_raw_tunnel_as_a_reset() {
    let resets = |stream: &TcpStream| {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (tell, told) = channel();
    let origin = Origin::plain(move |mut stream| {
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        if first == *b"r" {
            stream.write_all(&[b'x'; 1000]).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            return resets(&stream.stream);
        }
        let ended = std::io::copy(&mut stream, &mut std::io::sink());
        tell.send(ended.map_err(|e| e.kind())).unwrap();
    });
    let port = origin.port();
    let entry = format!(
        "  a:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}\n"
    );
    let gateway = Setup::policy(&entry).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tunnel(&authority);
    client.write_all(b"r").unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    let end = client.read(&mut [0; 1]).map_err(|e| e.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));

    let mut client = gateway.tunnel(&authority);
    client.write_all(b"wxyz").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    resets(&client);
    drop(client);
    let end = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    // An end that was said stays one.
    let mut client = gateway.tunnel(&authority);
    client.write_all(b"wxyz").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(3));
    assert_eq!(read_all(&mut client), b"");
    let records = gateway.records(3);
    let ends: Vec<&str> = records.iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert_eq!(ends, ["failed", "failed", "passed"]);
}

#[test]
fn a_tunnel_has_sent_what_its_client_sent() {
    let origin = echo();
    let port = origin.port();
    let gateway = Setup::policy(&entry("a", "origin.test", port, "protocol: tcp")).start();
    for (bytes, sent) in [(&b""[..], false), (b"x", true)] {
        let mut client = operation_kit::open_tunnel(&gateway, &format!("origin.test:{port}"));
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client), bytes);
        let record = gateway.record(1 + usize::from(sent));
        assert_eq!((&record["sent"], &record["upload"]), (&sent.into(), &bytes.len().into()));
        assert_eq!((&record["outcome"], &record["verdict"]), (&"passed".into(), &"allow".into()));
    }
}

/// Agrees to a handshake, and gives back what it gets; other requests get `hi`.
fn mirror(mut stream: impl Read + Write) {
    loop {
        let head = read_head(&mut stream);
        if head.is_empty() {
            return;
        }
        let Some(key) = common::header(&head, "sec-websocket-key") else {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
            continue;
        };
        let accept = accept_for(&key);
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .unwrap();
        stream.flush().unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
        return;
    }
}

/// Opens a WebSocket on `client`, to `uri`.
fn shake(client: &mut TcpStream, uri: &str, port: u16) {
    write!(
        client,
        "GET {uri} HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .unwrap();
    let head = read_head(client);
    assert_eq!(status(&head), 101, "{head}");
}

fn text(bytes: usize) -> Vec<u8> {
    encode(Opcode::Text, &vec![b'x'; bytes], MASK).to_vec()
}

fn message(client: &mut TcpStream, bytes: usize) {
    let text = text(bytes);
    client.write_all(&text).unwrap();
    expect(client, &text);
}

#[test]
fn an_open_websocket_holds_the_place_of_its_connection() {
    let origin = Origin::plain(mirror);
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port))
        .sandbox("    limits: { connections: 1 }\n")
        .start();
    for inside in [false, true] {
        let mut client = if inside {
            // The place of one that ended is free a moment later.
            wait_for(PATIENCE, || tunnelled(&gateway, port))
        } else {
            gateway.connect()
        };
        let uri = if inside { "/ws" } else { &format!("http://origin.test:{port}/ws") };
        shake(&mut client, uri, port);
        message(&mut client, 10);
        for _ in 0..3 {
            let (status, body) = once(&gateway, "origin.test", port, "/");
            assert_eq!((status, &problem(&body)["code"]), (429, &"too_many_connections".into()));
            message(&mut client, 10);
        }
        drop(client);
        wait_for(PATIENCE, || (once(&gateway, "origin.test", port, "/").0 == 200).then_some(()));
    }
}

fn tunnelled(gateway: &Gateway, port: u16) -> Option<TcpStream> {
    let mut client = gateway.connect();
    write!(client, "CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    (status(&read_head(&mut client)) == 200).then_some(client)
}

/// The record of what ended for the limit of the day.
fn is_over(gateway: &Gateway) -> serde_json::Value {
    let record = record_of(gateway, "upload_limit");
    assert_eq!((&record["by"], &record["outcome"]), (&"limit".into(), &"refused".into()));
    assert_eq!(record["verdict"], "allow", "what the policy said of it");
    record
}

#[test]
fn what_a_tunnel_sends_counts_against_the_day() {
    let origin = echo();
    let port = origin.port();
    let gateway = Setup::policy(&entry("a", "origin.test", port, "protocol: tcp"))
        .sandbox("    limits: { upload_per_day: 1000 }\n")
        .start();
    let mut client = operation_kit::open_tunnel(&gateway, &format!("origin.test:{port}"));
    // What comes down does not count.
    for _ in 0..80 {
        echoes(&mut client);
    }
    let sent = 80 * "still there".len();
    client.write_all(&[b'z'; 500]).unwrap();
    assert!(read_all(&mut client).is_empty());
    assert_eq!(is_over(&gateway)["upload"], sent);
    assert_eq!(origin.seen.lock().unwrap()[0].len(), sent, "nothing of what is over goes up");
}

#[test]
fn bulk_in_a_tunnel_counts_against_the_day() {
    let origin = Origin::plain(|mut stream| drop(read_all(&mut stream)));
    let port = origin.port();
    let gateway = Setup::policy(&entry("a", "origin.test", port, "protocol: tcp"))
        .sandbox("    limits: { upload_per_day: 1MiB }\n")
        .start();
    let mut client = gateway.tunnel(&format!("origin.test:{port}"));
    while client.write_all(&[0; 10_000]).is_ok() {}
    let upload = is_over(&gateway)["upload"].as_u64().unwrap();
    assert!((256 * 1024..=1024 * 1024).contains(&upload), "{upload}");
}

#[test]
fn what_a_websocket_sends_counts_against_the_day() {
    let judged = "protocol: websocket, rules: [ { allow: { method: GET, path: /ws } }, \
                  { allow: { method: WEBSOCKET_TEXT, path: /ws } } ]";
    for rules in ["protocol: rest, access: full", judged] {
        let origin = Origin::plain(mirror);
        let port = origin.port();
        let gateway = Setup::policy(&entry("a", "origin.test", port, rules))
            .sandbox("    limits: { upload_per_day: 1000 }\n")
            .start();
        let mut client = gateway.connect();
        shake(&mut client, &format!("http://origin.test:{port}/ws"), port);
        message(&mut client, 600);
        client.write_all(&text(600)).unwrap();
        let mut close = [0; 4];
        client.read_exact(&mut close).unwrap();
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1008));
        drop(client);
        assert_eq!(is_over(&gateway)["upload"], text(600).len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_websocket_over_http2_is_not_idle() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], mirror);
    let port = origin.port();
    let idle = Duration::from_secs(1);
    let gateway = Setup::policy(&full("a", "origin.test", port))
        .more("timeout: { idle: 1s, first_byte: 2s }\n")
        .start();
    let mut client = http_kit::client(&gateway, port).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http_kit::request("CONNECT", port, "/ws").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut up) = client.send_request(request, false).unwrap();
    let response = http_kit::soon(response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut down = response.into_body();
    let began = Instant::now();
    while began.elapsed() < 3 * idle {
        let message = text(100);
        up.send_data(Bytes::copy_from_slice(&message), false).unwrap();
        let mut back = 0;
        while back < message.len() {
            let data = http_kit::soon(down.data()).await.expect("it was cut").unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            back += data.len();
        }
    }
    up.send_data(Bytes::new(), true).unwrap();
    let (rest, _) = http_kit::collect(down).await;
    assert!(rest.is_empty());
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

/// The dial may take longer than a tunnel may be idle: what is left of its time is not the tunnel's.
#[test]
fn a_tunnel_that_is_idle_from_its_beginning_is_cut() {
    let origin = echo();
    let port = origin.port();
    let gateway = Setup::policy(&entry("a", "origin.test", port, "protocol: tcp"))
        .more("timeout: { idle: 1s }\n")
        .start();
    let mut client = operation_kit::open_tunnel(&gateway, &format!("origin.test:{port}"));
    let began = Instant::now();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Cut, by an end or a reset.
    assert!(client.read(&mut [0; 1]).map_or(true, |n| n == 0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(gateway.record(1)["code"], "idle_timeout");
}

#[test]
fn a_place_is_free_when_its_tunnel_has_ended() {
    let origin = echo();
    let port = origin.port();
    let other = Origin::ok("hi");
    let policy =
        entry("a", "origin.test", port, "protocol: tcp") + &full("b", "other.test", other.port());
    let gateway = Setup::policy(&policy).sandbox("    limits: { connections: 1 }\n").start();
    let mut client = operation_kit::open_tunnel(&gateway, &format!("origin.test:{port}"));
    assert_eq!(once(&gateway, "other.test", other.port(), "/").0, 429);
    echoes(&mut client);
    drop(client);
    wait_for(PATIENCE, || {
        let mut next = gateway.connect();
        (get(&mut next, "other.test", other.port(), "/").0 == 200).then_some(())
    });
}

/// A TLS origin on whose `held`-th connection the handshake waits: `(came, go, heard)`. It answers
/// one request a connection and leaves at the next; what comes on the held one is told.
fn holding(held: usize) -> (Origin, Receiver<()>, Sender<()>, Receiver<String>) {
    let ((come, came), (go, goes), (hear, heard)) = (channel(), channel::<()>(), channel());
    let (goes, count) = (Mutex::new(goes), AtomicUsize::new(0));
    let config = common::server_config(&["origin.test"], &["http/1.1"]);
    let origin = Origin::plain(move |recorded| {
        let server = rustls::ServerConnection::new(config.clone()).unwrap();
        let held = count.fetch_add(1, Ordering::SeqCst) == held;
        if held {
            come.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
        }
        let mut stream = rustls::StreamOwned::new(server, recorded.stream);
        let head = read_head(&mut stream);
        if held {
            return hear.send(head).unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        stream.flush().unwrap();
        read_head(&mut stream);
    });
    (origin, came, go, heard)
}

#[test]
fn a_permit_that_went_while_its_origin_was_dialled_lets_nothing_up() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // A WebSocket's handshake, and the one retry of a request. More than once: the clock's next
    // turn would end it too, if it came in time.
    for (held, fields) in [(0, upgrade), (1, "")].repeat(3) {
        let (origin, came, go, heard) = holding(held);
        let port = origin.port();
        let gateway = Setup::policy(&full("a", "origin.test", port)).start();
        let authority = format!("origin.test:{port}");
        let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        for _ in 0..held {
            write!(client, "GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
            assert_eq!(common::read_response(&mut client).1, b"hi");
        }
        write!(client, "GET /ws HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n").unwrap();
        came.recv_timeout(PATIENCE).unwrap();
        operation_kit::reload(&gateway, &full("a", "other.test", port), 2);
        go.send(()).unwrap();
        let (head, body) = common::read_response(&mut client);
        assert_eq!(status(&head), 403, "{head}");
        assert_eq!(problem(&body)["code"], "policy_changed");
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "", "held: {held}");
    }
}
