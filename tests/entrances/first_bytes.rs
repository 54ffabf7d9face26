//! One port, told apart by its first bytes, however slowly they come.

use crate::attack::frames;
use crate::common::{self, Gateway, Origin, Setup, problem, read_all, read_head, read_response};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Writes one byte at a time, each in a segment of its own (TCP_NODELAY is set).
fn slowly(stream: &mut impl Write, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).unwrap();
        stream.flush().unwrap();
    }
}

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test", "other.test"], port).start()
}

fn get(path: &str, authority: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// Opens a tunnel a byte at a time.
fn slow_tunnel(gateway: &Gateway, authority: &str) -> TcpStream {
    let mut client = gateway.connect();
    slowly(&mut client, connect(authority).as_bytes());
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    client
}

#[test]
fn a_forward_request_a_byte_at_a_time() {
    let origin = Origin::ok("hello");
    let gateway = allowing(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.connect();
    for _ in 0..2 {
        slowly(&mut client, get(&format!("http://{authority}/x"), &authority).as_bytes());
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"hello");
    }
}

#[test]
fn plain_http_in_a_tunnel_a_byte_at_a_time() {
    let origin = Origin::ok("hello");
    let gateway = allowing(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let mut client = slow_tunnel(&gateway, &authority);
    slowly(&mut client, format!("\r\n{}", get("/x", &authority)).as_bytes());
    assert_eq!(read_response(&mut client).1, b"hello");
    let record = gateway.record(1);
    assert_eq!((&record["scheme"], &record["path"]), (&"http".into(), &"/x".into()), "{record:#}");
}

/// A stream that writes a byte at a time.
struct Slow(TcpStream);

impl Read for Slow {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Slow {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(&buf[..buf.len().min(1)])
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn tls_in_a_tunnel_a_byte_at_a_time() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !common::read_request(&mut stream).is_empty() {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let gateway = allowing(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let pem = std::fs::read(gateway.ca()).unwrap();
    let name = rustls::pki_types::ServerName::try_from("origin.test").unwrap();
    let client =
        rustls::ClientConnection::new(common::client_config(&pem, &["http/1.1"]), name).unwrap();
    let mut client = rustls::StreamOwned::new(client, Slow(slow_tunnel(&gateway, &authority)));
    client.write_all(get("/x", &authority).as_bytes()).unwrap();
    client.flush().unwrap();
    assert_eq!(read_response(&mut client).1, b"ok");
    assert_eq!(gateway.record(1)["scheme"], "https");
}

#[test]
fn an_h2_preface_in_a_tunnel_a_byte_at_a_time() {
    let origin = Origin::ok("never");
    let gateway = allowing(origin.port());
    let mut client = slow_tunnel(&gateway, &format!("origin.test:{}", origin.port()));
    slowly(&mut client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // What an h2 server says first: SETTINGS.
    let mut frame = [0; 9];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3..5], [4, 0], "{frame:?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn opaque_bytes_in_a_tunnel_a_byte_at_a_time() {
    let origin = Origin::plain(|mut stream| {
        let bytes = read_all(&mut stream);
        stream.write_all(&bytes).unwrap();
    });
    let entries =
        format!("  any:\n    endpoints:\n      - {{ host: origin.test, port: {} }}", origin.port());
    let gateway = Setup::policy(&entries).start();
    // Each begins like something else.
    for bytes in [
        &b"GETX"[..],
        b"PRI x\r\n",
        b"0\x0c\x02\x01\x01\x60\x07",
        b"\x05\x01\x00",
        b"\x16\x02\x01\x00",
        b"SSH-2.0-x\r\n",
    ] {
        let mut client = slow_tunnel(&gateway, &format!("origin.test:{}", origin.port()));
        slowly(&mut client, bytes);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client), bytes, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_request_line_that_servers_forgive_is_a_malformed_one() {
    let origin = Origin::ok("never");
    let port = origin.port();
    // Without a protocol, so that any bytes but these would pass.
    let entries = format!("  a:\n    endpoints:\n      - {{ host: origin.test, port: {port} }}");
    let gateway = Setup::policy(&entries).start();
    for (line, code) in [
        ("GET\t/a HTTP/1.1", "malformed_head"),
        ("\n\nA-B\t/a HTTP/1.1", "malformed_head"),
        ("get\x0b/a HTTP/1.1", "malformed_head"),
        ("GET ftp://a/ HTTP/1.1", "bad_target"),
        ("SEARCH a://secret.test/ HTTP/1.1", "bad_target"),
        ("UNSUBSCRIBE ws://secret.test/ HTTP/1.1", "bad_target"),
        (" GET /a HTTP/1.1", "malformed_head"),
        ("\x1c GET /a HTTP/1.1", "malformed_head"),
        ("GET\x1c/a HTTP/1.1", "malformed_head"),
        ("PRI x HTTP/2.0", "malformed_head"),
    ]
    .iter()
    {
        let before = gateway.records_now("default").len();
        let mut client = gateway.tunnel(&format!("origin.test:{port}"));
        let asked = format!("{line}\r\nHost: origin.test:{port}\r\n\r\n");
        client.write_all(asked.as_bytes()).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 400 "), "{line:?}: {head}");
        assert_eq!(gateway.record(before + 1)["code"], *code, "{line:?}");
    }
    assert_eq!(origin.connections(), 0);
}

/// An origin that serves many hosts: what is asked of another than was allowed is not relayed unread, however
/// its request line is cut.
#[test]
fn a_request_for_another_host_in_a_tunnel_is_read_however_it_comes() {
    let origin = Origin::ok("secret");
    let port = origin.port();
    let entries = format!("  a:\n    endpoints:\n      - {{ host: origin.test, port: {port} }}");
    let gateway = Setup::policy(&entries).start();
    let lines = [
        "SEARCH a://secret.test/ HTTP/1.1".to_owned(),
        format!("{} / HTTP/1.1", "M".repeat(40)),
        "GET /admin HTTP/1.1".to_owned(),
    ];
    for (line, count) in lines.iter().zip(1..) {
        let rest = "\r\nHost: secret.test\r\n\r\nGET /admin HTTP/1.1\r\nHost: secret.test\r\n\r\n";
        let mut client = slow_tunnel(&gateway, &format!("origin.test:{port}"));
        slowly(&mut client, line.as_bytes());
        client.write_all(rest.as_bytes()).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 421 ") || head.starts_with("HTTP/1.1 400 "), "{head}");
        assert_eq!(gateway.record(count)["outcome"], "refused", "{line}");
    }
    assert_eq!(origin.connections(), 0);
}

/// RFC 9112 §3.2.3: a CONNECT names host and port and nothing else.
#[test]
fn a_connect_has_no_scheme_and_no_path() {
    let gateway = allowing(1);
    for target in ["http://origin.test:1/", "https://origin.test:1/a?q", "ftp://origin.test:1"] {
        let mut client = gateway.connect();
        write!(client, "CONNECT {target} HTTP/1.1\r\nHost: origin.test:1\r\n\r\n").unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 400 "), "{target}: {head}");
        assert_eq!(problem(&body)["code"], "bad_target", "{target}");
    }
}

/// Whoever begins something and breaks off is in the record, however it breaks off.
#[test]
fn a_beginning_that_ends_in_a_reset_has_a_record() {
    let gateway = allowing(1);
    for (bytes, count) in [&b"GE"[..], b"\x16\x03\x01"].iter().zip(1..) {
        let mut client = gateway.connect();
        client.write_all(bytes).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(gateway.record(count)["code"], "client_gone", "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_resembles_a_request_in_a_tunnel_is_answered_like_one() {
    let origin = Origin::ok("never");
    let entries = format!(
        "  a:\n    endpoints:\n      - {{ host: origin.test, port: {}, protocol: rest, access: full }}",
        origin.port()
    );
    let gateway = Setup::policy(&entries).start();
    let said = ["FOO  bar\r\n\r\n", "FETCH\ta:/x\r\n\r\n", "F_O.O bar\r\n\r\n"];
    for (bytes, count) in said.iter().zip(1..) {
        let mut client = slow_tunnel(&gateway, &format!("origin.test:{}", origin.port()));
        client.write_all(bytes.as_bytes()).unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 403 "), "{bytes:?}: {head}");
        let (problem, record) = (problem(&body), gateway.record(count));
        assert_eq!(problem["code"], "protocol_not_allowed", "{problem:#}");
        assert_eq!(problem["id"], record["id"], "the answer is found in the record");
        assert_eq!((&record["status"], &record["outcome"]), (&403.into(), &"refused".into()));
        assert_eq!(read_all(&mut client), b"", "and then it is closed");
    }
    // Nothing is said into a protocol that is not known.
    let mut client = slow_tunnel(&gateway, &format!("origin.test:{}", origin.port()));
    client.write_all(b"SSH-2.0-x\r\n").unwrap();
    assert_eq!(read_all(&mut client), b"");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_connection_may_forward_first_and_become_a_tunnel_then() {
    let origin = Origin::ok("hello");
    let gateway = allowing(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.connect();
    // All at once: what stands behind the CONNECT is the tunnel's.
    let all = [
        get(&format!("http://{authority}/one"), &authority),
        connect(&authority),
        get("/two", &authority),
    ];
    client.write_all(all.concat().as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(header_count(&head), 0, "a 2xx to CONNECT has no framing fields: {head}");
    assert_eq!(read_response(&mut client).1, b"hello");
    let paths: Vec<_> = gateway.records(2).iter().map(|r| r["path"].clone()).collect();
    assert_eq!(paths, ["/one", "/two"]);
}

/// RFC 9110 §9.3.6: no Content-Length and no Transfer-Encoding in a successful answer to CONNECT.
fn header_count(head: &str) -> usize {
    ["content-length", "transfer-encoding"]
        .iter()
        .filter(|name| common::header(head, name).is_some())
        .count()
}

#[test]
fn a_refused_connect_keeps_the_connection() {
    let origin = Origin::ok("hello");
    let gateway = Setup::allow_all(&["origin.test"], origin.port())
        .sandbox("    approval: { mode: deny }\n")
        .start();
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.connect();
    client.write_all(connect("unknown.test:443").as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(problem(&body)["code"], "host_unknown");
    client.write_all(connect(&authority).as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
    client.write_all(get("/x", &authority).as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
}

#[test]
fn what_is_neither_http_nor_socks_gets_an_answer_and_a_record() {
    let origin = Origin::ok("never");
    let gateway = allowing(origin.port());
    let garbage = [
        common::hello::named("origin.test"),
        common::hello::hello(&common::hello::server_name(b"\0")),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00".to_vec(),
        vec![0; 3],
        vec![0xff; 100_000],
        b"\r\n\r\n\r\n\r\nxx\x01".to_vec(),
        b"GET / HTTP/3.7\r\n\r\n".to_vec(),
    ];
    let mut silent = Vec::new();
    for bytes in &garbage {
        let mut client = gateway.connect();
        drop(client.write_all(bytes));
        let answer = read_all(&mut client);
        if !answer.starts_with(b"HTTP/1.1 400 ") {
            silent.push(format!(
                "{}: {}",
                bytes[..bytes.len().min(40)].escape_ascii(),
                answer.escape_ascii()
            ));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
    let records = gateway.records(garbage.len());
    assert!(records.iter().all(|r| r["verdict"] == "none" && r["status"] == 400), "{records:#?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_first_byte_and_then_nothing_is_told_that_it_was_too_slow() {
    let origin = Origin::ok("never");
    let gateway =
        Setup::allow_all(&["origin.test"], origin.port()).more("timeout: { header: 1s }\n").start();
    for bytes in [&b"G"[..], b"GET http://origin.test/ HTTP/1.1\r\nHost", b"\x16\x03"] {
        let answer = gateway.exchange(bytes);
        let shown = bytes.escape_ascii();
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{shown}: {}", answer.escape_ascii());
    }
    assert!(gateway.records(3).iter().all(|r| r["code"] == "header_timeout"));
}

#[test]
fn an_answer_before_any_request_has_the_id_of_its_record() {
    let origin = Origin::ok("never");
    let setup = Setup::allow_all(&["origin.test"], origin.port());
    let gateway = setup.more("timeout: { header: 1s }\n").start();
    let names = |host: &str| format!("CONNECT origin.test:443 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let said = [
        (408, "header_timeout", "G".to_owned()),
        (408, "header_timeout", "GET http://origin.test/ HTTP/1.1\r\nHost".to_owned()),
        (400, "malformed_head", "SSH-2.0-x\r\n".to_owned()),
        (400, "bad_host", names("not a host")),
        (421, "host_mismatch", names("other.test:443")),
    ];
    for ((status, code, bytes), count) in said.into_iter().zip(1..) {
        let answer = gateway.exchange(bytes.as_bytes());
        let record = gateway.record(count);
        assert_eq!((&record["status"], &record["code"]), (&status.into(), &code.into()), "{bytes}");
        let head = String::from_utf8_lossy(&answer);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let id = record["id"].as_str().map(str::to_owned);
        assert_eq!(common::header(&head, "x-portcullis-id"), id, "{bytes}");
        assert_eq!(problem(&answer)["id"], record["id"], "{bytes}");
    }
}

#[test]
fn a_beginning_and_then_nothing_is_told_in_its_own_language() {
    let origin = Origin::ok("never");
    let setup = Setup::allow_all(&["origin.test"], origin.port());
    let gateway = setup.more("timeout: { header: 1s }\n").start();
    let inside = |bytes: &[u8]| {
        let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
        client.write_all(bytes).unwrap();
        read_all(&mut client)
    };
    let answer = inside(b"G");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    let record = gateway.record(1);
    assert_eq!((&record["status"], &record["host"]), (&408.into(), &"origin.test".into()));
    assert_eq!(problem(&answer)["id"], record["id"]);
    // A fatal alert.
    let answer = inside(b"\x16\x03\x01");
    assert_eq!((answer.len(), &answer[..6]), (7, &[21, 3, 3, 0, 2, 2][..]));
    // What has no language that is known.
    assert_eq!(inside(b"\r\n"), b"");
    // Before its method is chosen a SOCKS client is told that none will do, and then of a failure.
    assert_eq!(gateway.exchange(b"\x05"), [5, 0xff]);
    assert_eq!(gateway.exchange(b"\x05\x02\x00"), [5, 0xff]);
    for bytes in [&b"\x05\x01\x00"[..], b"\x05\x01\x00\x05\x01\x00\x03\x0borigin"] {
        assert_eq!(gateway.exchange(bytes), [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0], "{bytes:?}");
    }
    let records = gateway.records(7);
    assert!(records.iter().all(|r| r["code"] == "header_timeout"), "{records:#?}");
    assert!(records[1..].iter().all(|r| r["status"].is_null()), "{records:#?}");
}

#[test]
fn an_http2_client_that_asks_nothing_is_told_to_go_away() {
    let origin = Origin::ok("never");
    let setup = Setup::allow_all(&["origin.test"], origin.port());
    let gateway = setup.more("timeout: { header: 1s }\n").start();
    let mut client = gateway.tunnel(&format!("origin.test:{}", origin.port()));
    client.write_all(&frames::hello()).unwrap();
    // That it goes, and then which stream was the last: none. Both without an error.
    let first = frames::outcome(&mut client, 1).unwrap();
    assert_eq!((first.kind, &first.payload[4..]), (frames::GOAWAY, &[0; 4][..]));
    let last = frames::outcome(&mut client, 1).unwrap();
    assert_eq!((last.kind, &last.payload[..]), (frames::GOAWAY, &[0; 8][..]));
    assert!(frames::outcome(&mut client, 1).is_none());
    let record = gateway.record(1);
    assert_eq!((&record["code"], &record["scheme"]), (&"header_timeout".into(), &"http".into()));
}

#[test]
fn a_request_that_crosses_the_goaway_is_answered() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        if !read_head(&mut stream).is_empty() {
            // Longer than a client has that asks nothing.
            std::thread::sleep(Duration::from_millis(1_500));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        }
    });
    let setup = Setup::allow_all(&["origin.test"], origin.port());
    let gateway = setup.more("timeout: { header: 1s }\n").start();
    let authority = format!("origin.test:{}", origin.port());
    let mut client = gateway.tls(&authority, "origin.test", &["h2"]);
    client.write_all(&frames::hello()).unwrap();
    client.flush().unwrap();
    let first = std::iter::from_fn(|| frames::read(&mut client)).find(|f| f.kind == frames::GOAWAY);
    assert_eq!(first.unwrap().payload[4..], [0; 4]);
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", &*authority), (":path", "/")];
    client.write_all(&frames::headers(1, &fields, true)).unwrap();
    client.flush().unwrap();
    let seen: Vec<_> = std::iter::from_fn(|| frames::read(&mut client)).collect();
    let answer = seen.iter().find(|f| f.kind == frames::DATA && f.stream == 1);
    assert_eq!(answer.map(|f| &f.payload[..]), Some(&b"hi"[..]), "{seen:?}");
}

#[test]
fn a_unix_socket_is_the_same_entrance() {
    let origin = Origin::ok("hello");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let listen = format!("  - {{ address: \"unix:{}\" }}\n", path.display());
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).listen(&listen).start();
    let authority = format!("origin.test:{}", origin.port());
    let open = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stream
    };
    let mut client = open();
    slowly(&mut client, get(&format!("http://{authority}/one"), &authority).as_bytes());
    assert_eq!(read_response(&mut client).1, b"hello");
    client.write_all(connect(&authority).as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
    client.write_all(get("/two", &authority).as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");

    let mut client = open();
    slowly(&mut client, b"\x05\x01\x00\x05\x01\x00\x03\x0borigin.test");
    slowly(&mut client, &origin.port().to_be_bytes());
    let mut said = [0; 12];
    client.read_exact(&mut said).unwrap();
    assert_eq!(said[..4], [5, 0, 5, 0]);
    client.write_all(get("/three", &authority).as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
    let records = gateway.records(3);
    assert!(records.iter().all(|r| r["client"]["binary"].is_string()), "{records:#?}");
}

/// What follows a CONNECT is the tunnel's: bytes that a length claims would be read in two ways.
#[test]
fn a_connect_with_a_body_is_refused() {
    let origin = Origin::ok("hello");
    let gateway = allowing(origin.port());
    let authority = format!("origin.test:{}", origin.port());
    for (number, (fields, body, code)) in [
        ("Content-Length: 5\r\n", "hello", "bad_framing"),
        // A length that is none is hyper's to refuse.
        ("Content-Length: x\r\n", "", "malformed_head"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "bad_framing"),
    ]
    .into_iter()
    .enumerate()
    {
        let said =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n{body}");
        let mut client = gateway.connect();
        client.write_all(said.as_bytes()).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 400 "), "{fields}: {head}");
        // Awaited each time: that of what hyper refused comes when its connection has ended.
        assert_eq!(gateway.record(number + 1)["code"], code, "{fields}");
    }
    let said =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n");
    let mut client = gateway.connect();
    client.write_all(said.as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    client.write_all(get("/x", &authority).as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
    assert_eq!(origin.connections(), 1);
}
