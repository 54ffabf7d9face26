//! Answers as origins really give them: informational ones, HTTP/1.0, to the close, odd methods,
//! `Expect`, pipelining.

use crate::common::{
    self, Gateway, Origin, Setup, header, problem, read_all, read_head, read_request, read_response,
};
use crate::http_kit::{client, exchange, read_body, read_message, request};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// An origin that answers each request with exactly these bytes, and closes if `close`.
fn says(answer: impl Into<Vec<u8>>, close: bool) -> Origin {
    let answer = answer.into();
    Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if stream.write_all(&answer).is_err() || close {
                return;
            }
        }
    })
}

fn ask(port: u16, method: &str, path: &str, version: &str, more: &str) -> String {
    format!(
        "{method} http://origin.test:{port}{path} HTTP/{version}\r\nHost: origin.test:{port}\r\n{more}\r\n"
    )
}

#[test]
fn the_final_answer_is_not_lost_behind_informational_ones() {
    for before in [
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <b>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let origin =
            says(format!("{before}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal"), false);
        let port = origin.port();
        let gateway = allowing(port);
        let mut stream = gateway.connect();
        for _ in 0..2 {
            stream.write_all(ask(port, "GET", "/", "1.1", "").as_bytes()).unwrap();
            let (mut head, mut body) = read_response(&mut stream);
            while head.starts_with("HTTP/1.1 1") {
                (head, body) = read_response(&mut stream);
            }
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(body, b"final");
        }
        assert_eq!(gateway.record(2)["status"], 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_gets_the_final_answer_behind_early_hints() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal").unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let (head, body, _) =
        exchange(&mut client, request("GET", port, "/").body(()).unwrap(), b"").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"final"[..]));
}

#[test]
fn answers_without_a_body_keep_the_connection_and_say_what_they_would_have() {
    let origin = Origin::plain(|mut stream| {
        loop {
            let head = read_request(&mut stream);
            let answer = match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\netag: \"a\"\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n"
                }
                Some("/chunked") => {
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\netag: \"a\"\r\n\r\n"
                }
                Some(_) => "HTTP/1.1 200 OK\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n",
                None => return,
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("77")),
        ("HEAD", "/chunked", 200, None),
        ("GET", "/204", 204, None),
        // A 304 may leave its length away (RFC 9110 §8.6).
        ("GET", "/304", 304, None),
        ("HEAD", "/", 200, Some("77")),
    ] {
        stream.write_all(ask(port, method, path, "1.1", "").as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(header(&head, "content-length").as_deref(), length, "{method} {path}: {head}");
        assert_eq!(header(&head, "etag").as_deref(), Some("\"a\""));
    }
    let records = gateway.records(5);
    assert!(records.iter().all(|r| r["outcome"] == "passed" && r["download"] == 0));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_http10_origin_and_one_that_closes_are_read_to_the_end() {
    for answer in [
        "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nto the end",
        "HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\na;x=y\r\nto the end\r\n0\r\n\r\n",
    ] {
        let origin = says(answer, true);
        let port = origin.port();
        let gateway = allowing(port);
        let mut stream = gateway.connect();
        for _ in 0..2 {
            stream.write_all(ask(port, "GET", "/", "1.1", "").as_bytes()).unwrap();
            let (head, body, _) = read_message(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(String::from_utf8(body).unwrap(), "to the end", "{answer}");
        }
        let records = gateway.records(2);
        assert!(
            records.iter().all(|r| r["outcome"] == "passed" && r["download"] == 10),
            "{answer}"
        );
    }
}

#[test]
fn an_http10_client_gets_what_it_understands() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let known = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    for answer in [chunked, known] {
        let origin = says(answer, false);
        let port = origin.port();
        let gateway = allowing(port);
        let back = gateway.exchange(ask(port, "GET", "/", "1.0", "").as_bytes());
        let text = String::from_utf8(back).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nhi"), "{text}");
        assert!(!text.contains("transfer-encoding"), "{text}");
        assert_eq!(gateway.record(1)["http"], "1.0");
        assert!(origin.heard().starts_with("GET / HTTP/1.1\r\n"), "{}", origin.heard());
    }
    let origin = says(known, false);
    let gateway = allowing(origin.port());
    let mut stream = gateway.connect();
    for _ in 0..2 {
        let keep = ask(origin.port(), "GET", "/", "1.0", "Connection: keep-alive\r\n");
        stream.write_all(keep.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).1, b"hi");
    }
}

#[test]
fn methods_beyond_the_usual_are_carried_as_they_are() {
    let origin = says("HTTP/1.1 207 Multi-Status\r\ncontent-length: 2\r\n\r\nok", false);
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    for method in ["PROPFIND", "REPORT", "QUERY", "M-SEARCH", "X-Custom_1", "purge"] {
        write!(stream, "{}abc", ask(port, method, "/dav", "1.1", "Content-Length: 3\r\n")).unwrap();
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 207 "), "{method}: {head}");
        assert_eq!(body, b"ok");
        assert!(origin.heard().contains(&format!("{method} /dav HTTP/1.1\r\n")));
    }
    let records = gateway.records(6);
    assert_eq!(records[0]["method"], "PROPFIND");
    assert_eq!(records[5]["method"], "purge");
}

#[test]
fn requests_in_one_write_are_answered_in_their_order() {
    let origin = Origin::plain(|mut stream| {
        loop {
            let head = read_head(&mut stream);
            let (body, _) = read_body(&mut stream, &head);
            let Some(path) = head.split(' ').nth(1) else { return };
            let said = format!("{path}{}", String::from_utf8_lossy(&body));
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len())
                .unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  api:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, access: read-write }}"
    ))
    .start();
    let mut stream = gateway.connect();
    let chunked = ask(port, "POST", "/2", "1.1", "Transfer-Encoding: chunked\r\n");
    let all = format!(
        "{}{chunked}3\r\nabc\r\n0\r\n\r\n{}{}xy{}",
        ask(port, "GET", "/1", "1.1", ""),
        ask(port, "DELETE", "/3", "1.1", ""),
        ask(port, "PUT", "/4", "1.1", "Content-Length: 2\r\n"),
        ask(port, "GET", "/5", "1.1", "Connection: close\r\n"),
    );
    stream.write_all(all.as_bytes()).unwrap();
    for expected in ["/1", "/2abc", "", "/4xy", "/5"] {
        let (head, body) = read_response(&mut stream);
        if expected.is_empty() {
            assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        } else {
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
    assert!(read_all(&mut stream).is_empty());
    let records = gateway.records(5);
    let paths: Vec<_> = records.iter().map(|r| r["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/1", "/2", "/3", "/4", "/5"]);
    assert!(!origin.heard().contains("/3"), "the refused one did not leave");
}

#[test]
fn a_client_that_has_said_its_end_still_gets_its_answer() {
    let origin = says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", false);
    let gateway = allowing(origin.port());
    let mut stream = gateway.connect();
    stream.write_all(ask(origin.port(), "GET", "/", "1.1", "").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let text = String::from_utf8(read_all(&mut stream)).unwrap();
    assert!(text.ends_with("\r\n\r\nhi"), "{text}");
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

const EXPECT: &str = "Expect: 100-continue\r\nContent-Length: 4\r\n";

#[test]
fn a_body_that_waits_goes_up_when_the_origin_says_continue() {
    let origin = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        assert_eq!(header(&head, "expect").as_deref(), Some("100-continue"));
        stream.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "the body came before it was asked for");
        stream.stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"data");
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    stream.write_all(ask(port, "PUT", "/", "1.1", EXPECT).as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"data").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 201"));
    assert_eq!(gateway.record(1)["upload"], 4);
}

#[test]
fn a_final_status_instead_of_continue_means_that_no_body_is_sent() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno")
            .unwrap();
        let rest = read_all(&mut stream);
        assert!(rest.is_empty(), "{} bytes of a body that was not wanted", rest.len());
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    stream.write_all(ask(port, "PUT", "/", "1.1", EXPECT).as_bytes()).unwrap();
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 417"), "{head}");
    assert_eq!(body, b"no");
    let record = gateway.record(1);
    assert_eq!((&record["upload"], &record["status"]), (&0.into(), &417.into()));
    assert!(origin.heard().ends_with("\r\n\r\n"), "{}", origin.heard());
}

#[test]
fn an_origin_that_says_nothing_gets_the_body_after_a_second() {
    let origin = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false);
    let port = origin.port();
    let gateway = allowing(port);
    let mut stream = gateway.connect();
    let started = Instant::now();
    stream.write_all(ask(port, "PUT", "/", "1.1", EXPECT).as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    stream.write_all(b"data").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_refused_request_that_waits_gets_its_refusal_at_once() {
    let origin = Origin::ok("never");
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  api:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, access: read-only }}"
    ))
    .start();
    let mut stream = gateway.connect();
    stream.write_all(ask(port, "PUT", "/", "1.1", EXPECT).as_bytes()).unwrap();
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 403"), "no 100 before it: {head}");
    assert_eq!(problem(&body)["code"], "method_not_allowed");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_connection_that_an_origin_authenticates_itself_is_never_another_requests() {
    for (challenge, connections) in [
        ("Basic realm=\"a\"", 1),
        ("Negotiate", 2),
        ("Basic realm=\"a, b\", NTLM", 2),
        ("nEGOTIATE oYG1MIG", 2),
        ("NTLM\tTlRMTVNT", 2),
        ("NTLM TlRMTVNT, Basic realm=\"caf\u{e9}\"", 2),
    ] {
        let origin = says(
            format!(
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}\r\n\
                 content-length: 2\r\n\r\nno"
            ),
            false,
        );
        let port = origin.port();
        let gateway = allowing(port);
        let mut stream = gateway.connect();
        for _ in 0..2 {
            stream.write_all(ask(port, "GET", "/", "1.1", "").as_bytes()).unwrap();
            let (head, body) = read_response(&mut stream);
            assert_eq!(header(&head, "www-authenticate").as_deref(), Some(challenge));
            assert_eq!(body, b"no");
        }
        assert_eq!(origin.connections(), connections, "{challenge}");
    }
}

/// RFC 4559 §6: what authenticates itself unasked is answered without a challenge.
#[test]
fn a_connection_that_a_client_authenticates_is_never_another_requests() {
    for (authorization, connections) in [
        ("Basic YTpi", 1),
        ("Bearer ntlm", 1),
        ("Negotiate YIIB", 2),
        ("ntlm TlRMTVNT", 2),
        ("Negotiate\tYIIB", 2),
    ] {
        let origin = Origin::ok("yours");
        let port = origin.port();
        let gateway = allowing(port);
        let mut stream = gateway.connect();
        for fields in [format!("Authorization: {authorization}\r\n"), String::new()] {
            stream.write_all(ask(port, "GET", "/", "1.1", &fields).as_bytes()).unwrap();
            let (head, _) = read_response(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        }
        assert_eq!(origin.connections(), connections, "{authorization}");
    }
}

/// RFC 9110 §8.6: equal lengths are one, others are no answer; what has no content has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_one_length_or_none() {
    const TWO: &str = "Content-Length: 5\r\nContent-Length: 5";
    for (method, line, fields, body, status, length) in [
        ("GET", "200 OK", "Content-Length: 5, 5", "hello", 200, Some("5")),
        ("GET", "200 OK", TWO, "hello", 200, Some("5")),
        ("GET", "200 OK", "Content-Length: 0005", "hello", 200, Some("5")),
        ("HEAD", "200 OK", TWO, "", 200, Some("5")),
        ("HEAD", "200 OK", "Content-Length: 7, 7", "", 200, Some("7")),
        ("HEAD", "200 OK", "Content-Length: 7, 8", "", 502, None),
        ("HEAD", "200 OK", "Content-Length: x", "", 502, None),
        ("HEAD", "200 OK", "Content-Length: 7\r\nContent-Length: 8", "", 502, None),
        ("HEAD", "204 No Content", "Content-Length: 5", "", 204, None),
        ("GET", "204 No Content", "Content-Length: 5", "", 204, None),
        ("GET", "304 Not Modified", "Content-Length: 5\r\nContent-Length: 6", "", 304, None),
        ("GET", "304 Not Modified", "Content-Length: x", "", 304, None),
    ] {
        let says = format!("HTTP/1.1 {line}\r\n{fields}\r\n\r\n{body}");
        let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
            read_request(&mut stream);
            stream.write_all(says.as_bytes()).unwrap();
            stream.conn.send_close_notify();
            drop(stream.flush());
        });
        let port = origin.port();
        let gateway = allowing(port);
        let what = format!("{method} {line} {fields}");

        let mut h2 = client(&gateway, port).await;
        let asked = request(method, port, "/").body(()).unwrap();
        let (answer, said, _) = exchange(&mut h2, asked, b"").await;
        assert_eq!(answer.status().as_u16(), status, "{what}");
        if status == 502 {
            let record = gateway.record(1);
            assert_eq!(record["code"], "upstream_protocol", "{what}: {record}");
        } else {
            let lengths: Vec<_> = answer.headers().get_all("content-length").iter().collect();
            assert_eq!(lengths, length.iter().collect::<Vec<_>>(), "{what}");
            assert_eq!(said, body.as_bytes(), "{what}");
        }

        let authority = format!("origin.test:{port}");
        let mut stream = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(stream, "{method} / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        if status != 502 {
            let bare = status == 304;
            let found = header(&head, "content-length");
            assert!(found.as_deref() == length || (bare && found.is_none()), "{what}: {head}");
            assert_eq!(
                head.to_ascii_lowercase().matches("content-length").count(),
                usize::from(found.is_some())
            );
        }
    }
}
