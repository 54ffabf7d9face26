//! Limits: what is over one is refused with its reason, and no sandbox starves another.

use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, problem, read_all, read_head, read_request,
};
use crate::common::{read_response, wait_for};
use crate::http_kit;
use crate::operation_kit::{self, full, get, record_of, status};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

fn limited(origin: &Origin, limits: &str) -> Gateway {
    Setup::policy(&full("a", "origin.test", origin.port()))
        .sandbox(&format!("    limits: {{ {limits} }}\n"))
        .start()
}

/// The code of a refusal with this status.
fn refused(stream: &mut TcpStream, wanted: u16) -> String {
    let (head, body) = read_response(stream);
    assert_eq!(status(&head), wanted, "{head}");
    let problem = problem(&body);
    assert_eq!(problem["error"], "limit_exceeded");
    problem["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_connection_over_the_limit_is_told_why_and_a_freed_place_is_given() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = limited(&origin, "connections: 2");
    let mut one = gateway.connect();
    let mut two = gateway.connect();
    assert_eq!(get(&mut one, "origin.test", port, "/").0, 200);
    assert_eq!(get(&mut two, "origin.test", port, "/").0, 200);
    let mut three = gateway.connect();
    write!(three, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert_eq!(refused(&mut three, 429), "too_many_connections");
    assert_eq!(read_all(&mut three), b"");
    let mut four = gateway.connect();
    write!(four, "CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert_eq!(refused(&mut four, 429), "too_many_connections");
    let record = record_of(&gateway, "too_many_connections");
    assert_eq!((&record["by"], &record["outcome"]), (&"limit".into(), &"refused".into()));
    drop((one, four));
    wait_for(PATIENCE, || {
        let mut next = gateway.connect();
        (get(&mut next, "origin.test", port, "/").0 == 200).then_some(())
    });
    assert_eq!(get(&mut two, "origin.test", port, "/").0, 200);
}

#[test]
fn a_body_over_the_limit_never_reaches_the_origin_whole() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = limited(&origin, "request_body: 1KiB");
    let head = |framing: &str| {
        format!(
            "POST http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n{framing}\r\n\r\n"
        )
    };
    let mut known = gateway.connect();
    write!(known, "{}{}", head("Content-Length: 1025"), "x".repeat(1025)).unwrap();
    assert_eq!(refused(&mut known, 413), "body_too_large");
    assert_eq!(origin.connections(), 0, "its length says it: nothing is dialled");
    // The connection was not lost.
    write!(known, "{}{}", head("Content-Length: 1024"), "x".repeat(1024)).unwrap();
    assert_eq!(status(&read_response(&mut known).0), 200);
    // A chunked body says it only when it is there: the request ends without its end.
    let mut chunked = gateway.connect();
    let chunk = format!("200\r\n{}\r\n", "y".repeat(512));
    write!(chunked, "{}{chunk}{chunk}{chunk}0\r\n\r\n", head("Transfer-Encoding: chunked"))
        .unwrap();
    assert_eq!(refused(&mut chunked, 413), "body_too_large");
    let heard = origin.heard();
    let second = heard.rsplit("POST ").next().unwrap();
    assert!(!second.ends_with("0\r\n\r\n"), "{second}");
    assert!(second.matches('y').count() <= 1024, "{second}");
    let records = gateway.records(3);
    assert_eq!(records[2]["code"], "body_too_large");
}

#[test]
fn requests_over_the_rate_are_refused_and_the_rate_comes_back() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = limited(&origin, "requests_per_second: 5");
    let mut client = gateway.connect();
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(get(&mut client, "origin.test", port, "/").0);
    }
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!((5..20).contains(&passed), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(record_of(&gateway, "too_many_requests")["by"], "limit");
    wait_for(PATIENCE, || (get(&mut client, "origin.test", port, "/").0 == 200).then_some(()));
}

/// Whatever has a line in the record counts, so that no flood of anything washes earlier lines away.
#[test]
fn tunnels_and_what_is_refused_at_once_count_as_requests() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    for ask in [
        "CONNECT h{n}.evil.test:443 HTTP/1.1\r\nHost: h{n}.evil.test:443\r\n\r\n",
        "CONNECT tunnel.test:{port} HTTP/1.1\r\nHost: tunnel.test:{port}\r\n\r\n",
        "TRACE http://origin.test:{port}/{n} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n",
        "GET http://origin.test:{port}/{n} HTTP/1.1\r\nHost: other.test\r\n\r\n",
        // Bytes in a tunnel that is looked into.
        "CONNECT origin.test:{port} HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n\0x",
    ] {
        let entries = format!(
            "{}\n  t:\n    endpoints:\n      - {{ host: tunnel.test, port: {port}, protocol: tcp }}",
            full("a", "origin.test", port)
        );
        let gateway = Setup::policy(&entries)
            .sandbox("    limits: { requests_per_second: 5 }\n    approval: { mode: deny }\n")
            .start();
        for n in 0..60 {
            let ask = ask.replace("{n}", &n.to_string()).replace("{port}", &port.to_string());
            let mut client = gateway.connect();
            client.write_all(ask.as_bytes()).unwrap();
            drop(client.shutdown(Shutdown::Write));
            read_all(&mut client);
        }
        wait_for(PATIENCE, || {
            let records = gateway.records_now("default");
            let limited = records.iter().any(|record| record["code"] == "too_many_requests");
            limited.then_some(())
        });
        let others = gateway.records_now("default");
        let others = others.iter().filter(|record| record["code"] != "too_many_requests").count();
        assert!(others < 40, "{ask:?}: {others}");
    }
}

#[test]
fn the_upload_of_a_day_has_an_end() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = limited(&origin, "upload_per_day: 1000");
    let mut client = gateway.connect();
    let mut post = |bytes: usize| {
        let body = "x".repeat(bytes);
        write!(client, "POST http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nContent-Length: {bytes}\r\n\r\n{body}").unwrap();
        let (head, body) = read_response(&mut client);
        (status(&head), body)
    };
    assert_eq!(post(600).0, 200);
    let (status, body) = post(600);
    assert_eq!(status, 429, "{}", String::from_utf8_lossy(&body));
    assert_eq!(problem(&body)["code"], "upload_limit");
    // What asks without sending goes on.
    assert_eq!(operation_kit::once(&gateway, "origin.test", port, "/").0, 200);
}

#[test]
fn distinct_names_under_a_wildcard_are_counted() {
    let dns = common::dns::DnsServer::start();
    let gateway = Setup::policy(&full("a", "*.many.test", 9))
        .upstream(&format!("  nameservers: [\"{}\"]\n", dns.address()))
        .start();
    let mut client = gateway.connect();
    let mut code = |n: usize| {
        let (_, body) = get(&mut client, &format!("n{n}.many.test"), 9, "/");
        problem(&body)["code"].as_str().unwrap().to_owned()
    };
    let allowed = (0..1000).take_while(|n| code(*n) == "name_not_found").count();
    assert!((50..1000).contains(&allowed), "{allowed} names a minute");
    assert_eq!(code(5000), "too_many_names");
    assert_eq!(dns.lookups("n5000.many.test"), 0, "each label would be a message");
    // A name that was counted is not counted again.
    assert_eq!(code(0), "name_not_found");
    assert_eq!(record_of(&gateway, "too_many_names")["by"], "limit");
}

#[test]
fn a_whole_request_has_a_deadline_however_busy_it_is() {
    let dripping = Origin::plain(|mut stream| {
        if read_request(&mut stream).is_empty() {
            return;
        }
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(b"1\r\nx\r\n");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let silent = Origin::plain(|mut stream| {
        read_head(&mut stream);
        drop(stream.read(&mut [0]));
    });
    let policy =
        full("a", "origin.test", dripping.port()) + &full("b", "other.test", silent.port());
    let gateway = Setup::policy(&policy).more("timeout: { total: 1s }\n").start();
    let mut busy = gateway.connect();
    let port = dripping.port();
    write!(busy, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert_eq!(status(&read_head(&mut busy)), 200);
    assert!(!read_all(&mut busy).ends_with(b"0\r\n\r\n"));
    let record = record_of(&gateway, "total_timeout");
    assert_eq!(record["outcome"], "failed");
    let total = record["ms"]["total"].as_f64().unwrap();
    assert!((1000.0..2000.0).contains(&total), "{total}");
    let (status, body) = operation_kit::once(&gateway, "other.test", silent.port(), "/");
    assert_eq!((status, &problem(&body)["code"]), (504, &"total_timeout".into()));
}

fn two_sandboxes(port: u16) -> Setup {
    let text = format!("version: 1\nnetwork_policies:\n{}", full("b", "origin.test", port));
    Setup::policy(&full("a", "origin.test", port))
        .sandbox("  ci:\n    policy: [ci.yaml]\n")
        .file("ci.yaml", &text)
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  - { address: \"127.0.0.2:0\", sandbox: ci }\n",
        )
}

fn other(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.listeners[1]).unwrap();
    common::limits(&stream);
    stream
}

#[test]
fn a_flood_of_connections_in_one_sandbox_leaves_room_for_another() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = two_sandboxes(port).start();
    let flood: Vec<TcpStream> = (0..600).map(|_| gateway.connect()).collect();
    let mut latencies = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(get(&mut other(&gateway), "origin.test", port, "/").0, 200);
        latencies.push(began.elapsed());
    }
    latencies.sort();
    assert!(latencies[25] < Duration::from_millis(200), "{latencies:?}");
    drop(flood);
}

/// Starts it with a hard limit of open files.
fn with_files(setup: &Setup, files: u32) -> Gateway {
    let dir = setup.write();
    let shell = dir.path().join("limited");
    let binary = env!("CARGO_BIN_EXE_portcullis");
    std::fs::write(&shell, format!("#!/bin/sh\nulimit -n {files}\nexec {binary} \"$@\"\n"))
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shell, mode).unwrap();
    Gateway::spawn_as(&shell, dir, &["--config", "config.yaml"], &[])
}

#[test]
fn a_sandbox_that_takes_every_slot_it_can_get_leaves_some_to_another() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    // 400 files are 100 connections.
    let gateway = with_files(&two_sandboxes(port), 400);
    let flood: Vec<TcpStream> = (0..200).map(|_| gateway.connect()).collect();
    for _ in 0..20 {
        assert_eq!(get(&mut other(&gateway), "origin.test", port, "/").0, 200);
    }
    assert!(!gateway.log().contains("could not be accepted"), "{}", gateway.log());
    drop(flood);
    assert_eq!(operation_kit::once(&gateway, "origin.test", port, "/").0, 200);
}

/// How many files the gateway has open; `None` where that can't be seen.
fn files(gateway: &Gateway) -> Option<usize> {
    let listed = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid()));
    if listed.is_err() {
        eprintln!("skipped: the gateway's files can be seen by root alone");
    }
    Some(listed.ok()?.count())
}

/// Leaves the running gateway so many more files, or any number.
fn leave(gateway: &Gateway, files: Option<usize>) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let current = files.map_or(4096, |files| u64::try_from(files).unwrap());
    let limit = Rlimit { current: Some(current), maximum: Some(4096) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[test]
fn what_can_not_be_accepted_waits_and_the_gateway_lives() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = two_sandboxes(port).start();
    let mut kept = gateway.connect();
    assert_eq!(get(&mut kept, "origin.test", port, "/").0, 200);
    let Some(open) = files(&gateway) else { return };
    leave(&gateway, Some(open + 20));
    let flood: Vec<TcpStream> = (0..60).map(|_| gateway.connect()).collect();
    let mut waits = gateway.connect();
    write!(waits, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    wait_for(PATIENCE, || gateway.log().contains("could not be accepted").then_some(()));
    // What waited is served as soon as there is room.
    drop(flood);
    assert_eq!(status(&read_response(&mut waits).0), 200);
    // A listener of each worker may say it.
    let lines = gateway.log().matches("could not be accepted").count();
    assert!(lines <= 8, "{lines} lines for one trouble:\n{}", gateway.log());
    assert_eq!(get(&mut other(&gateway), "origin.test", port, "/").0, 200);
    drop(kept);
}

/// Answers of `count` streams of one client, each to its own connection of an origin that never
/// answers: the code of the first that is refused.
async fn crowd(gateway: &Gateway, port: u16, count: usize) -> String {
    let mut client = http_kit::client(gateway, port).await;
    let mut answers = futures_util::stream::FuturesUnordered::new();
    for _ in 0..count {
        client = client.ready().await.unwrap();
        let request = http_kit::request("GET", port, "/").body(()).unwrap();
        answers.push(client.send_request(request, true).unwrap().0);
    }
    let first = futures_util::StreamExt::next(&mut answers);
    let (head, body) = http_kit::soon(first).await.unwrap().unwrap().into_parts();
    assert_eq!(head.status, 429);
    let (body, _) = http_kit::collect(body).await;
    problem(&body)["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_origins_have_an_end_and_no_sandbox_takes_all() {
    let silent = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        read_head(&mut stream);
        drop(stream.read(&mut [0]));
    });
    let quick = Origin::ok("hi");
    let (port, open) = (silent.port(), full("b", "other.test", quick.port()));
    let setup =
        two_sandboxes(port).file("ci.yaml", &format!("version: 1\nnetwork_policies:\n{open}"));
    // 400 files are 100 connections, of which one sandbox alone has half.
    let gateway = with_files(&setup, 400);
    assert_eq!(crowd(&gateway, port, 90).await, "too_many_connections");
    assert!(silent.connections() <= 50, "{}", silent.connections());
    assert_eq!(record_of(&gateway, "too_many_connections")["by"], "limit");
    assert_eq!(get(&mut other(&gateway), "other.test", quick.port(), "/").0, 200);
    // What the client leaves is given back.
    wait_for(PATIENCE, || {
        let mut next = gateway.connect();
        (get(&mut next, "origin.test", port, "/").0 != 429).then_some(())
    });
}
