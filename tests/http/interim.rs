//! Interim responses (1xx) reach an HTTP/1.1 client as the origin says them, each before the answer
//! and never inside another one.

use crate::attack::resident;
use crate::common::{self, Gateway, Origin, Setup, header, read_head, read_request, read_response};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal";

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

fn get(port: u16, path: &str, version: &str) -> String {
    format!("GET {path} HTTP/{version}\r\nHost: origin.test:{port}\r\n\r\n")
}

fn tunnel(gateway: &Gateway, port: u16) -> TcpStream {
    gateway.tunnel(&format!("origin.test:{port}"))
}

/// An origin that answers each request with exactly these bytes.
fn says(answer: String) -> Origin {
    Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn hints_are_there_before_the_answer_is_begun() {
    for tls in [false, true] {
        let (seen, told) = channel::<()>();
        let told = Mutex::new(told);
        let serve = move |stream: &mut dyn ReadWrite| {
            while read_head(&mut &mut *stream).starts_with("GET") {
                stream.write_all(HINTS.as_bytes()).unwrap();
                stream.flush().unwrap();
                told.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
                stream.write_all(FINAL.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        };
        let origin = match tls {
            false => Origin::plain(move |mut stream| serve(&mut stream)),
            true => {
                Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| serve(&mut stream))
            }
        };
        let port = origin.port();
        let gateway = allowing(port);
        let authority = format!("origin.test:{port}");
        let mut client: Box<dyn ReadWrite> = match tls {
            false => Box::new(tunnel(&gateway, port)),
            true => Box::new(gateway.tls(&authority, "origin.test", &["http/1.1"])),
        };
        for _ in 0..2 {
            client.write_all(get(port, "/", "1.1").as_bytes()).unwrap();
            client.flush().unwrap();
            let head = read_head(&mut client);
            assert!(head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{head}");
            assert_eq!(header(&head, "link").as_deref(), Some("</a.css>; rel=preload"));
            seen.send(()).unwrap();
            let (head, body) = read_response(&mut client);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(body, b"final");
        }
    }
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

#[test]
fn what_comes_with_the_answer_in_one_piece_comes_before_it() {
    let other = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 Odd\r\nx: y\r\n\r\n";
    let origin = says(format!("{other}HTTP/1.1 100 Continue\r\n\r\n{HINTS}{FINAL}"));
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = tunnel(&gateway, port);
    for _ in 0..3 {
        client.write_all(get(port, "/", "1.1").as_bytes()).unwrap();
        let heads: Vec<String> = (0..4).map(|_| read_head(&mut client)).collect();
        let statuses: Vec<&str> =
            heads.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
        assert_eq!(statuses, ["102", "199", "103", "200"], "100 is the gateway's to send");
        let mut body = [0; 5];
        client.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"final");
    }
}

/// A client that takes a 103 for the final answer would take the 200 behind it for the answer of its
/// next request, which may be another origin's.
#[test]
fn a_connection_of_many_origins_gets_none() {
    let origin = says(format!("{HINTS}{FINAL}"));
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = gateway.connect();
    for _ in 0..2 {
        let authority = format!("origin.test:{port}");
        write!(client, "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"final");
    }
}

#[test]
fn a_client_that_knows_none_gets_none() {
    let origin = says(format!("{HINTS}{FINAL}"));
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = tunnel(&gateway, port);
    client.write_all(get(port, "/", "1.0").as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.split(' ').nth(1) == Some("200"), "{head}");
    assert_eq!(body, b"final");
}

#[test]
fn fields_of_the_connection_and_of_the_gateway_do_not_go_on() {
    let origin = says(format!(
        "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nconnection: x-mine\r\nx-mine: 1\r\n\
         keep-alive: timeout=5\r\nx-portcullis-id: forged\r\ncontent-length: 5\r\n\
         transfer-encoding: chunked\r\n\r\n{FINAL}"
    ));
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = tunnel(&gateway, port);
    client.write_all(get(port, "/", "1.1").as_bytes()).unwrap();
    assert_eq!(read_head(&mut client), "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n");
    assert_eq!(read_response(&mut client).1, b"final");
}

/// Two requests at once, a large answer to the first: hints of the second stand between the two.
#[test]
fn hints_of_a_pipelined_request_stand_behind_the_answer_before_it() {
    const LARGE: usize = 4 * 1024 * 1024;
    let origin = Origin::plain(|mut stream| {
        loop {
            let head = read_request(&mut stream);
            match head.split(' ').nth(1) {
                Some("/large") => {
                    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").unwrap();
                    drop(stream.write_all(&vec![b'x'; LARGE]));
                }
                Some(_) => stream.write_all(format!("{HINTS}{FINAL}").as_bytes()).unwrap(),
                None => return,
            }
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    for _ in 0..5 {
        let mut client = tunnel(&gateway, port);
        let both = get(port, "/large", "1.1") + &get(port, "/", "1.1");
        client.write_all(both.as_bytes()).unwrap();
        // The first answer waits in the gateway for a while.
        std::thread::sleep(Duration::from_millis(50));
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(body.len() == LARGE && body.iter().all(|b| *b == b'x'));
        let (mut head, mut body) = read_response(&mut client);
        if head.starts_with("HTTP/1.1 103") {
            (head, body) = read_response(&mut client);
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"final");
    }
}

#[test]
fn hints_without_end_cost_bounded_memory_and_an_end() {
    let origin = Origin::plain(|mut stream| {
        read_request(&mut stream);
        let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "a".repeat(8000));
        // The gateway gives up before this does.
        for _ in 0..200_000 {
            if stream.write_all(hint.as_bytes()).is_err() {
                return;
            }
        }
    });
    let port = origin.port();
    let setup = Setup::allow_all(&["origin.test"], port);
    // A Unix socket takes some 200 KiB that its other end does not read.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let setup = setup.listen(&format!("  - {{ address: \"unix:{}\" }}\n", path.display()));
    let gateway = setup.more("timeout: { first_byte: 1s }\n").start();
    let before = resident(gateway.pid());
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    write!(client, "CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
    client.write_all(get(port, "/", "1.1").as_bytes()).unwrap();
    // It reads nothing for a while, longer than an idle connection takes to come to rest: what waits
    // for it, the answer among it, is not lost.
    std::thread::sleep(Duration::from_secs(4));
    let after = resident(gateway.pid());
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
    let mut head = read_head(&mut client);
    while head.starts_with("HTTP/1.1 103") {
        head = read_head(&mut client);
    }
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert_eq!(gateway.record(1)["code"], "first_byte_timeout");
}

#[test]
fn hints_that_come_after_the_gateways_own_answer_are_nobodys() {
    let origin = Origin::plain(|mut stream| {
        loop {
            let head = read_request(&mut stream);
            match head.split(' ').nth(1) {
                Some("/late") => {
                    std::thread::sleep(Duration::from_millis(2500));
                    drop(stream.write_all(format!("{HINTS}{FINAL}").as_bytes()));
                }
                Some(_) => drop(stream.write_all(FINAL.as_bytes())),
                None => return,
            }
        }
    });
    let port = origin.port();
    let setup = Setup::allow_all(&["origin.test"], port);
    let gateway = setup.more("timeout: { first_byte: 1s }\n").start();
    let mut client = tunnel(&gateway, port);
    client.write_all(get(port, "/late", "1.1").as_bytes()).unwrap();
    let (head, _) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    std::thread::sleep(Duration::from_millis(2000));
    client.write_all(get(port, "/", "1.1").as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"final");
}
