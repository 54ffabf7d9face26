//! Which version of HTTP a request of an HTTP/1 client goes up in (ADR 0003): what has no body shares an
//! HTTP/2 connection where the origin speaks it, all else keeps HTTP/1.1, and nobody's slow client holds
//! up another's request.

use crate::attack::frames::{self, data, frame, headers};
use crate::common::{self, Gateway, Origin, Setup, Tls, limits, read_head, read_request};
use crate::http_kit::{self, H2Origin};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const OK: &[(&str, &str)] = &[(":status", "200")];

/// HTTP_1_1_REQUIRED (RFC 9113 §7).
const HTTP_1_1_REQUIRED: [u8; 4] = [0, 0, 0, 13];

/// The origin's end of a connection.
type Io = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// An origin that speaks both versions. It tells which each connection speaks, and of each stream that the
/// gateway resets, and answers over HTTP/1.1
/// what it was asked; `serve` has the requests of an HTTP/2 connection, as their streams.
fn both(serve: impl Fn(&mut Io, u32) + Send + Sync + 'static) -> (Origin, Receiver<&'static str>) {
    let (tell, told) = channel();
    let origin = Origin::tls(&["origin.test"], &["h2", "http/1.1"], move |mut io| {
        let mut preface = [0; 1];
        if io.read_exact(&mut preface).is_err() {
            return;
        }
        if io.conn.alpn_protocol() == Some(b"h2") {
            tell.send("h2").unwrap();
            io.read_exact(&mut [0; frames::PREFACE.len() - 1]).unwrap();
            io.write_all(&frame(frames::SETTINGS, 0, 0, &[])).unwrap();
            while let Some(frame) = frames::read(&mut io) {
                match frame.kind {
                    frames::HEADERS => serve(&mut io, frame.stream),
                    frames::RST_STREAM => tell.send("reset").unwrap(),
                    frames::SETTINGS if frame.flags & frames::ACK == 0 => {
                        io.write_all(&frames::frame(frames::SETTINGS, frames::ACK, 0, &[]))
                            .unwrap();
                    }
                    _ => {}
                }
            }
            return;
        }
        tell.send("http/1.1").unwrap();
        let mut first = preface.to_vec();
        loop {
            let mut rest = std::io::Cursor::new(std::mem::take(&mut first)).chain(&mut io);
            let asked = read_request(&mut rest);
            if asked.is_empty() {
                return;
            }
            let line = asked.lines().next().unwrap();
            assert!(asked.to_lowercase().contains("\r\nhost: origin.test:"), "{asked}");
            let length = line.len();
            write!(io, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{line}").unwrap();
        }
    });
    (origin, told)
}

fn ok(io: &mut Io, stream: u32) {
    io.write_all(&[headers(stream, OK, false), data(stream, b"over h2", true)].concat()).unwrap();
}

fn client(gateway: &Gateway, port: u16) -> Tls {
    let client = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    limits(&client.sock);
    client
}

fn asks(client: &mut Tls, port: u16, line: &str, rest: &str) -> String {
    write!(client, "{line} HTTP/1.1\r\nHost: origin.test:{port}\r\n{rest}").unwrap();
    client.flush().unwrap();
    let (head, body, _) = http_kit::read_message(client);
    assert!(head.starts_with("HTTP/1.1 200"), "{line}: {head}");
    String::from_utf8(body).unwrap()
}

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// RFC 4559 §6: others are on an HTTP/2 connection, and would be who authenticated it.
#[test]
fn what_authenticates_its_connection_has_one_of_its_own() {
    let (origin, told) = both(ok);
    let gateway = allowing(origin.port());
    let port = origin.port();
    let mut client = client(&gateway, port);
    for (fields, answer) in [
        ("", "over h2"),
        ("Authorization: Negotiate YIIB\r\n", "GET /a HTTP/1.1"),
        ("Authorization: NTLM TlRM\r\n", "GET /a HTTP/1.1"),
        ("", "over h2"),
    ] {
        assert_eq!(asks(&mut client, port, "GET /a", &format!("{fields}\r\n")), answer);
    }
    drop(gateway);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["h2", "http/1.1", "http/1.1"]);
}

#[test]
fn what_has_no_body_shares_an_http2_connection_and_all_else_keeps_http1() {
    let (origin, told) = both(ok);
    let port = origin.port();
    let gateway = allowing(port);
    let mut one = client(&gateway, port);
    for line in ["GET /a", "DELETE /b", "OPTIONS /c"] {
        assert_eq!(asks(&mut one, port, line, "\r\n"), "over h2");
    }
    // What can't be sent again is not tried over HTTP/2.
    assert_eq!(asks(&mut one, port, "PROPFIND /c", "\r\n"), "PROPFIND /c HTTP/1.1");
    let posted = asks(&mut one, port, "POST /d", "Content-Length: 2\r\n\r\nhi");
    assert_eq!(posted, "POST /d HTTP/1.1");
    let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    assert_eq!(asks(&mut one, port, "PUT /e", chunks), "PUT /e HTTP/1.1");
    assert_eq!(asks(&mut one, port, "GET /f", "\r\n"), "over h2");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["h2", "http/1.1"]);
    // HTTP/1.0 is told the length that the origin did not.
    let mut old = client(&gateway, port);
    write!(old, "GET /g HTTP/1.0\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    let said = common::read_all(&mut old);
    assert!(said.starts_with(b"HTTP/1.0 200") && said.ends_with(b"\r\n\r\nover h2"), "{said:?}");
    assert!(gateway.records(8).iter().all(|r| r["outcome"] == "passed" && r["status"] == 200));
}

#[test]
fn an_origin_of_http1_alone_gets_one_connection_for_what_has_a_body_and_what_has_none() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut io| {
        while !read_request(&mut io).is_empty() {
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut one = client(&gateway, port);
    for _ in 0..2 {
        assert_eq!(asks(&mut one, port, "GET /", "\r\n"), "hi");
        assert_eq!(asks(&mut one, port, "POST /", "Content-Length: 2\r\n\r\nhi"), "hi");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_websocket_goes_up_over_http1() {
    let (origin, told) = both(ok);
    let port = origin.port();
    let entries = format!(
        "  ws:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: websocket, access: full }}"
    );
    let gateway = Setup::policy(&entries).start();
    let mut one = client(&gateway, port);
    write!(
        one,
        "GET /ws HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    assert!(read_head(&mut one).starts_with("HTTP/1.1 200"));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["http/1.1"]);
}

/// An origin that refuses what comes over HTTP/2, and how often it did.
fn requiring() -> (Origin, Receiver<&'static str>, Arc<AtomicUsize>) {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let (origin, told) = both(move |io, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        io.write_all(&frame(frames::RST_STREAM, 0, stream, &HTTP_1_1_REQUIRED)).unwrap();
    });
    (origin, told, refused)
}

#[test]
fn an_origin_that_requires_http1_gets_it() {
    let (origin, told, refused) = requiring();
    let port = origin.port();
    let gateway = allowing(port);
    let mut one = client(&gateway, port);
    for path in ["/a", "/b", "/c"] {
        let line = format!("GET {path}");
        assert_eq!(asks(&mut one, port, &line, "\r\n"), format!("{line} HTTP/1.1"));
    }
    assert_eq!(refused.load(Ordering::SeqCst), 1, "it is remembered");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["h2", "http/1.1"]);
    assert!(gateway.records(3).iter().all(|r| r["outcome"] == "passed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http2_gets_it_over_http1_too_where_the_origin_requires_that() {
    let (origin, _told, refused) = requiring();
    let port = origin.port();
    let gateway = allowing(port);
    let mut one = http_kit::client(&gateway, port).await;
    let asked = http_kit::request("GET", port, "/two").body(()).unwrap();
    let (head, body, _) = http_kit::exchange(&mut one, asked, b"").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"GET /two HTTP/1.1"[..]));
    // It is remembered, also for what can't be sent again, and for connections that were there before.
    let asked = http_kit::request("POST", port, "/two").body(()).unwrap();
    let (head, body, _) = http_kit::exchange(&mut one, asked, b"data").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"POST /two HTTP/1.1"[..]));
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    // gRPC has no other version, and may be another part of the host.
    let asked = http_kit::request("POST", port, "/grpc").header("content-type", "application/grpc");
    let (head, ..) = http_kit::exchange(&mut one, asked.body(()).unwrap(), b"data").await;
    assert_eq!(head.headers()["grpc-status"], "14", "{head:?}");
    assert_eq!(refused.load(Ordering::SeqCst), 2);
}

#[test]
fn an_answer_whose_end_is_said_by_itself_is_whole() {
    let (origin, told) = both(|io, stream| {
        let length: &[(&str, &str)] = &[(":status", "200"), ("content-length", "7")];
        let said = match stream {
            // HEAD, whose length is another's.
            1 => headers(stream, length, false),
            _ => [headers(stream, length, false), data(stream, b"over h2", false)].concat(),
        };
        io.write_all(&said).unwrap();
        if stream == 5 {
            std::thread::sleep(Duration::from_millis(200));
        }
        io.write_all(&data(stream, b"", true)).unwrap();
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut one = client(&gateway, port);
    write!(one, "HEAD / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    let head = read_head(&mut one);
    assert_eq!(common::header(&head, "content-length").as_deref(), Some("7"), "{head}");
    assert_eq!(asks(&mut one, port, "GET /a", "\r\n"), "over h2");
    assert_eq!(asks(&mut one, port, "GET /b", "\r\n"), "over h2");
    let records = gateway.records(3);
    assert!(records.iter().all(|r| r["outcome"] == "passed"), "{records:#?}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["h2"], "nothing is reset");
}

/// Sends for ever, as fast as the windows let it.
async fn endless(mut up: h2::SendStream<bytes::Bytes>) {
    loop {
        up.reserve_capacity(16_384);
        let Some(Ok(room)) = std::future::poll_fn(|cx| up.poll_capacity(cx)).await else { return };
        if up.send_data(vec![b'x'; room].into(), false).is_err() {
            return;
        }
    }
}

#[test]
fn clients_that_read_nothing_hold_up_nobody_elses_request() {
    let origin = H2Origin::tls(async |asked: http::Request<h2::RecvStream>, mut respond| {
        if asked.uri().path() != "/much" {
            return http_kit::reply(respond, 200, b"little");
        }
        let up = respond.send_response(http::Response::new(()), false).unwrap();
        endless(up).await;
    });
    let port = origin.port();
    let gateway = allowing(port);
    // More of them than one connection's window has room for.
    let idle: Vec<Tls> = (0..20)
        .map(|_| {
            let mut idle = client(&gateway, port);
            write!(idle, "GET /much HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
            assert!(read_head(&mut idle).starts_with("HTTP/1.1 200"));
            // Until its windows and buffers are full.
            std::thread::sleep(Duration::from_millis(200));
            idle
        })
        .collect();
    let mut other = client(&gateway, port);
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(asks(&mut other, port, "GET /little", "\r\n"), "little");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(origin.connections() <= 16, "one for each client is too many");
    drop(idle);
}
