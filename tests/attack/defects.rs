//! Defects found in others (security.md, last paragraph): each line is a law here.

use crate::attack::{self, statuses};
use crate::common::{
    Gateway, Origin, Setup, header, problem, read_all, read_head, read_request, read_response,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

/// What a client gets where the origin answers a request with `bytes` and closes.
fn answered(bytes: &'static [u8]) -> String {
    let origin = Origin::plain(move |mut stream| {
        if !read_request(&mut stream).is_empty() {
            drop(stream.write_all(bytes));
        }
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let answer = get(&gateway, origin.port());
    let records = gateway.records(1);
    let status = records[0]["status"].as_u64().unwrap();
    assert_eq!(statuses(&answer), [u16::try_from(status).unwrap()], "{answer}\n{records:#?}");
    answer
}

fn get(gateway: &Gateway, port: u16) -> String {
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    String::from_utf8_lossy(&read_all(&mut client)).into_owned()
}

#[test]
fn the_final_answer_follows_100_and_103() {
    let answer = answered(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[test]
fn bodies_without_a_length_arrive_whole() {
    for head in
        ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n"]
    {
        let bytes = format!("{head}\r\nno length").leak().as_bytes();
        let answer = answered(bytes);
        assert!(answer.contains("no length"), "{answer}");
        assert!(answer.ends_with("0\r\n\r\n"), "its end is said: {answer}");
    }
}

#[test]
fn a_transfer_coding_that_is_not_undone_is_not_passed_on_as_if_it_were() {
    let answer = answered(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\n\x1f\x8b\x08\x00\r\n0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let answer = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[test]
fn an_origins_answer_in_two_readings_is_a_502() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
        b"HTTP/9 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"220 smtp.test ESMTP\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let answer = answered(bytes);
        let text = String::from_utf8_lossy(bytes);
        assert!(answer.starts_with("HTTP/1.1 502"), "{text:?}: {answer}");
    }
}

#[test]
fn a_body_that_was_cut_is_not_passed_on_as_whole() {
    for (bytes, end) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd"[..], "abcd"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", "abcd\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nzz\r\n", "abcd\r\n"),
    ] {
        let answer = answered(bytes);
        assert!(answer.ends_with(end) && !answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

#[test]
fn the_gateways_own_answers_are_as_long_as_they_say() {
    let origin = Origin::ok("ok");
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let port = origin.port();
    for said in [
        "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: other.test\r\n\r\n".to_owned(),
        format!("GET http://origin.test:{port}/../ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"),
        format!("GET http://origin.test:{port}/a HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        format!("TRACE http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"),
        "CONNECT 127.1:443 HTTP/1.1\r\nHost: 127.1:443\r\n\r\n".to_owned(),
    ] {
        let mut client = gateway.connect();
        client.write_all(said.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let head = read_head(&mut client);
        let body = read_all(&mut client);
        assert_eq!(header(&head, "content-length"), Some(body.len().to_string()), "{head}");
        assert!(body.len() <= 4096);
        assert_eq!(problem(&body)["status"].to_string(), head[9..12]);
    }
}

#[test]
fn what_fails_inside_a_tunnel_is_answered_there() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = Setup::allow_all(&["origin.test"], closed).start();
    let authority = format!("origin.test:{closed}");
    let mut tls = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    for _ in 0..2 {
        write!(tls, "GET /a HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let (head, body) = read_response(&mut tls);
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        assert_eq!(problem(&body)["code"], "connect_failed");
    }
    write!(tls, "GET /a\0 HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    let head = read_head(&mut tls);
    assert!(head.starts_with("HTTP/1.1 400"), "{head:?}");
}

#[test]
fn one_byte_at_a_time_is_the_same_request() {
    let bench = attack::Bench::new();
    for place in attack::PLACES {
        let mut client = bench.open(place);
        let said = "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
        for byte in bench.bytes(place, said) {
            client.write_all(&[byte]).unwrap();
            client.flush().unwrap();
        }
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{place:?}: {head}");
        let heard = bench.take();
        let [attack::strict::Heard::Whole(request)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(request.body, b"abcd", "{place:?}");
    }
}

#[test]
fn bytes_sent_with_the_connect_are_the_tunnels_first() {
    let origin = Origin::plain(|mut stream| {
        let text = read_all(&mut stream);
        stream.write_all(&text).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  raw:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: tcp }}"
    ))
    .start();
    let mut client = gateway.connect();
    write!(client, "CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\nfirst")
        .unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
    client.write_all(b"second").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"firstsecond");
}

#[test]
fn an_authority_of_ipv6_is_one_host_and_one_port() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("skipped: there is no IPv6 loopback");
    };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while !read_request(&mut stream).is_empty() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    let gateway = Setup::policy(&format!(
        "  six:\n    endpoints:\n      - {{ host: \"::1\", port: {port}, protocol: rest, enforcement: enforce, access: full, allowed_ips: [\"::1\"] }}"
    ))
    .start();
    let get = format!("GET http://[::1]:{port}/a HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n");
    let mut client = gateway.connect();
    client.write_all(get.as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {}", String::from_utf8_lossy(&body));
    let mut tunnel = gateway.tunnel(&format!("[::1]:{port}"));
    write!(tunnel, "GET /a HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n").unwrap();
    assert!(read_response(&mut tunnel).0.starts_with("HTTP/1.1 200"));
    let record = gateway.record(2);
    assert_eq!((&record["host"], &record["port"]), (&"::1".into(), &port.into()), "{record}");
}

#[test]
fn a_body_over_the_limit_is_not_cut_and_sent_as_whole() {
    let bench = attack::Bench::with(|s| s.sandbox("    limits: { request_body: 1KiB }\n"));
    for place in attack::PLACES {
        let chunk = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
        for framed in [
            format!("Content-Length: 2048\r\n\r\n{}", "x".repeat(2048)),
            format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"),
        ] {
            let said = format!("POST {{T}}/a HTTP/1.1\r\nHost: {{H}}\r\n{framed}");
            let answer = bench.say(place, &said, true);
            assert_eq!(statuses(&answer), [413], "{place:?}: {answer}");
        }
    }
    let whole = bench.take().into_iter().filter(|h| matches!(h, attack::strict::Heard::Whole(_)));
    assert_eq!(whole.count(), 0);
    let records = bench.gateway.records(6);
    assert!(records.iter().all(|r| r["code"] == "body_too_large"), "{records:#?}");
}

#[test]
fn small_writes_do_not_wait_for_each_other() {
    let origin = Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").unwrap();
            stream.write_all(b"o").unwrap();
            stream.write_all(b"k").unwrap();
        }
    });
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let port = origin.port();
    let mut client = gateway.connect();
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        write!(client, "POST http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\nContent-Length: 2\r\n\r\n").unwrap();
        client.write_all(b"h").unwrap();
        client.write_all(b"i").unwrap();
        assert_eq!(read_response(&mut client).1, b"ok");
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(35), "Nagle and delayed ACK meet: {times:?}");
}

#[test]
fn each_line_of_a_stream_arrives_when_it_is_written() {
    for kind in ["application/x-ndjson", "text/event-stream", "application/octet-stream"] {
        let (next, told) = std::sync::mpsc::channel::<()>();
        let told = std::sync::Mutex::new(told);
        let origin = Origin::plain(move |mut stream| {
            read_request(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n").unwrap();
            for n in 0..3 {
                stream.write_all(format!("line {n}\n").as_bytes()).unwrap();
                told.lock().unwrap().recv().unwrap();
            }
        });
        let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
        let port = origin.port();
        let mut client = gateway.connect();
        write!(
            client,
            "GET http://origin.test:{port}/a HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        )
        .unwrap();
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
        for n in 0..3 {
            let mut chunk = [0; 12];
            client.read_exact(&mut chunk).unwrap();
            assert_eq!(chunk, *format!("7\r\nline {n}\n\r\n").as_bytes(), "{kind}");
            next.send(()).unwrap();
        }
    }
}

#[test]
fn an_empty_allow_list_allows_nothing() {
    let origin = Origin::ok("no");
    let port = origin.port();
    for rules in ["rules: []", "allowed_ips: []"] {
        let entry = format!(
            "  none:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, enforcement: enforce, {rules} }}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        std::fs::write(&file, format!("version: 1\nnetwork_policies:\n{entry}\n")).unwrap();
        let checked = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["policy", "check"])
            .arg(&file)
            .output()
            .unwrap();
        if checked.status.code() != Some(0) {
            // It is an error to write one: it can't be read as "no restriction" either.
            continue;
        }
        let gateway = Setup::policy(&entry).start();
        let answer = get(&gateway, port);
        assert!(answer.starts_with("HTTP/1.1 403"), "{rules}: {answer}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_denial_costs_no_connection_whatever_its_framing() {
    let bench = attack::Bench::new();
    for place in attack::PLACES {
        let mut client = bench.open(place);
        for framed in [
            "\r\n",
            "Content-Length: 4\r\n\r\nabcd",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        ] {
            let said = format!("POST {{T}}/evil HTTP/1.1\r\nHost: {{H}}\r\n{framed}");
            client.write_all(&bench.bytes(place, &said)).unwrap();
            let (head, _) = read_response(&mut client);
            assert!(head.starts_with("HTTP/1.1 403"), "{place:?} {framed:?}: {head}");
        }
        client.write_all(&bench.bytes(place, "GET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n")).unwrap();
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{place:?}: {head}");
    }
}
