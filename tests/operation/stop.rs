//! The way to stop: what is under way ends by itself or at the deadline, and everything has its
//! record; and what a `kill -9` leaves behind (I5, I6).

use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, read_all, read_head, read_request, wait_for,
};
use crate::operation_kit::{
    echo, echoes, entry, events, expect, full, get, open_stream, open_tunnel,
};
use crate::operation_kit::{record_of, status};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The names of the gateway's own events, in order.
fn gateway_events(gateway: &Gateway) -> Vec<String> {
    let name = |event: serde_json::Value| event["event"].as_str().unwrap().to_owned();
    gateway.events("_gateway").into_iter().map(name).collect()
}

/// Whether the gateway still takes connections.
fn refuses(gateway: &Gateway) -> bool {
    match TcpStream::connect(gateway.proxy) {
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(_) => false,
    }
}

#[test]
fn what_is_under_way_finishes_and_what_is_idle_closes_at_once() {
    let ((arrived, arrives), (go, goes)) = (channel(), channel::<()>());
    let goes = Mutex::new(goes);
    let origin = Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            arrived.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
        }
    });
    let port = origin.port();
    let mut gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut kept = gateway.connect();
    go.send(()).unwrap();
    assert_eq!(get(&mut kept, "origin.test", port, "/").0, 200);
    arrives.recv_timeout(PATIENCE).unwrap();
    let mut silent = gateway.connect();
    let mut busy = gateway.connect();
    write!(busy, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    arrives.recv_timeout(PATIENCE).unwrap();
    gateway.signal("TERM");
    // Both end with the drain, which goes on.
    assert_eq!(read_all(&mut kept), b"");
    assert_eq!(read_all(&mut silent), b"");
    wait_for(PATIENCE, || refuses(&gateway).then_some(()));
    let began = Instant::now();
    go.send(()).unwrap();
    let answer = read_all(&mut busy);
    assert!(answer.ends_with(b"done"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    assert!(began.elapsed() < Duration::from_secs(5), "it did not wait for anything else");
    let records = gateway.records_now("default");
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record["outcome"] == "passed"));
    assert_eq!(gateway_events(&gateway), ["gateway.start", "gateway.stop"]);
}

#[test]
fn tunnels_and_streams_are_cut_at_the_deadline_and_have_their_records() {
    let (one, two) = (echo(), events());
    let policy = entry("a", "origin.test", one.port(), "protocol: tcp")
        + &full("b", "other.test", two.port());
    let mut gateway = Setup::policy(&policy).more("timeout: { drain: 1s }\n").start();
    let mut tunnel = open_tunnel(&gateway, &format!("origin.test:{}", one.port()));
    let mut stream = open_stream(&gateway, "other.test", two.port());
    gateway.signal("TERM");
    wait_for(PATIENCE, || refuses(&gateway).then_some(()));
    // Until then they live on.
    echoes(&mut tunnel);
    assert_eq!(read_all(&mut tunnel), b"");
    assert!(!read_all(&mut stream).ends_with(b"0\r\n\r\n"));
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    let records = gateway.records_now("default");
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in records {
        assert_eq!((&record["code"], &record["outcome"]), (&"draining".into(), &"failed".into()));
        let total = record["ms"]["total"].as_f64().unwrap();
        assert!(total >= 900.0, "cut {total} ms after it began");
    }
    assert_eq!(gateway_events(&gateway), ["gateway.start", "gateway.stop"]);
}

#[test]
fn a_second_signal_does_not_wait_for_the_deadline() {
    let origin = echo();
    let port = origin.port();
    let mut gateway = Setup::policy(&entry("a", "origin.test", port, "protocol: tcp"))
        .more("timeout: { drain: 10m }\n")
        .start();
    let mut tunnel = open_tunnel(&gateway, &format!("origin.test:{port}"));
    gateway.signal("INT");
    wait_for(PATIENCE, || refuses(&gateway).then_some(()));
    echoes(&mut tunnel);
    gateway.signal("INT");
    assert_eq!(read_all(&mut tunnel), b"");
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    assert_eq!(record_of(&gateway, "draining")["upload"], 11);
}

#[test]
fn a_tunnel_in_which_nothing_was_said_does_not_hold_a_stop_up() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut tunnel = gateway.tunnel(&format!("origin.test:{port}"));
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(read_all(&mut tunnel), b"");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(gateway.records_now("default")[0]["code"], "draining");
}

#[test]
fn a_unix_socket_is_gone_after_a_stop_and_free_for_the_next_start() {
    let mut gateway = Setup::allow_all(&["origin.test"], 80)
        .listen("  - { address: \"unix:agent.sock\", sandbox: default }\n  - { address: \"127.0.0.1:0\", sandbox: default }\n")
        .start();
    let at = gateway.dir.path().join("agent.sock");
    assert!(at.exists());
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!at.exists());
    gateway.restart(&[]);
    assert!(at.exists());
    // A socket that a killed gateway left behind is in nobody's way either.
    gateway.restart(&[]);
    drop(std::os::unix::net::UnixStream::connect(&at).unwrap());
}

/// A gateway that listens at this path alone and at a port.
fn at_socket(path: &str) -> Setup {
    let listen = format!(
        "  - {{ address: \"unix:{path}\", sandbox: default }}\n  - {{ address: \"127.0.0.1:0\", sandbox: default }}\n"
    );
    Setup::allow_all(&["origin.test"], 80).listen(&listen)
}

#[test]
fn what_is_no_socket_is_not_taken_away_at_a_start_or_a_stop() {
    let dir = at_socket("agent.sock").write();
    let at = dir.path().join("agent.sock");
    std::fs::write(&at, "mine\n").unwrap();
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["gateway", "--config", "config.yaml"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("said")).unwrap())
        .spawn()
        .unwrap();
    let ended = wait_for(PATIENCE, || {
        assert_eq!(common::text(&at), "mine\n", "it was replaced");
        refused.try_wait().unwrap()
    });
    let said = common::text(&dir.path().join("said"));
    assert_eq!(ended.code(), Some(2), "{said}");
    assert!(said.contains("agent.sock") && said.contains("not a socket"), "{said}");
    std::fs::remove_file(&at).unwrap();
    let mut gateway = Gateway::spawn(dir, &["--config", "config.yaml"], &[]);
    std::fs::remove_file(&at).unwrap();
    std::fs::write(&at, "mine again\n").unwrap();
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(common::text(&at), "mine again\n");
}

#[test]
fn a_socket_may_have_the_longest_path_that_the_system_takes() {
    let dir = at_socket("LONG").write();
    let room = 107 - dir.path().join("x").as_os_str().len();
    let name = "s".repeat(room + 1);
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, common::text(&config).replace("LONG", &name)).unwrap();
    let gateway = Gateway::spawn(dir, &["--config", "config.yaml"], &[]);
    let at = gateway.dir.path().join(&name);
    assert_eq!(at.as_os_str().len(), 107);
    drop(std::os::unix::net::UnixStream::connect(&at).unwrap());
    let beside = std::fs::read_dir(gateway.dir.path()).unwrap();
    let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange: Vec<String> =
        names.filter(|other| other.starts_with('.') || other.contains("sock")).collect();
    assert_eq!(strange, Vec::<String>::new());
}

#[test]
fn a_notify_command_that_runs_does_not_hold_the_stop_up() {
    let mut gateway = Setup::allow_all(&["origin.test"], 80)
        .sandbox("    approval: { mode: queue, notify: [sh, -c, \"touch told; exec sleep 9\"] }\n")
        .start();
    assert_eq!(get(&mut gateway.connect(), "nowhere.test", 80, "/").0, 403);
    let told = gateway.dir.path().join("told");
    wait_for(PATIENCE, || told.exists().then_some(()));
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn what_was_open_for_long_when_the_gateway_was_killed_is_recorded_at_the_next_start() {
    let ((one, two), waits) = (
        (echo(), events()),
        Origin::plain(|mut stream| {
            read_head(&mut stream);
            drop(stream.read(&mut [0]));
        }),
    );
    let policy = entry("a", "origin.test", one.port(), "protocol: tcp")
        + &full("b", "other.test", two.port())
        + &full("c", "a.many.test", waits.port());
    let mut gateway = Setup::policy(&policy).start();
    let mut tunnel = open_tunnel(&gateway, &format!("origin.test:{}", one.port()));
    echoes(&mut tunnel);
    let _stream = open_stream(&gateway, "other.test", two.port());
    let port = waits.port();
    let mut asks = gateway.connect();
    write!(asks, "GET http://a.many.test:{port}/slow HTTP/1.1\r\nHost: a.many.test:{port}\r\n\r\n")
        .unwrap();
    let journal = gateway.state().join("open.json");
    wait_for(Duration::from_secs(30), || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        (text.matches("\"id\"").count() == 3).then_some(())
    });
    // One of them ends before the crash, and is not told of twice.
    let mut short = open_tunnel(&gateway, &format!("origin.test:{}", one.port()));
    short.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut short), b"");
    gateway.records(1);
    gateway.restart(&[]);
    let records = gateway.records(4);
    assert_eq!(records.len(), 4, "{records:#?}");
    let of = |code: &str, host: &str| {
        let one = |record: &&serde_json::Value| record["code"] == code && record["host"] == host;
        records.iter().find(one).unwrap_or_else(|| panic!("no {code} of {host}: {records:#?}"))
    };
    let tunnel = of("interrupted", "origin.test");
    assert_eq!((&tunnel["upload"], &tunnel["download"]), (&11.into(), &16.into()));
    assert_eq!((&tunnel["outcome"], &tunnel["sent"]), (&"failed".into(), &true.into()));
    assert!(tunnel["ms"]["total"].as_f64().unwrap() >= 10_000.0);
    let stream = of("interrupted", "other.test");
    assert_eq!((&stream["status"], &stream["path"]), (&200.into(), &"/events".into()));
    assert_eq!(of("interrupted", "a.many.test")["path"], "/slow");
    // Said once.
    gateway.restart(&[]);
    assert_eq!(gateway.records(4).len(), 4);
}

/// Its client does not notice that it was closed, as pools of connections do not.
#[test]
fn a_connection_that_idles_behind_an_upload_does_not_hold_the_stop_up() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let mut gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut kept = gateway.connect();
    write!(
        kept,
        "POST http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nContent-Length: 4\r\n\r\nbody"
    )
    .unwrap();
    assert!(common::read_response(&mut kept).0.starts_with("HTTP/1.1 200"));
    gateway.records(1);
    let began = Instant::now();
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn a_response_that_ends_within_the_drain_is_whole() {
    let (go, goes) = channel::<()>();
    let goes = Mutex::new(goes);
    let origin = Origin::plain(move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
                .unwrap();
            goes.lock().unwrap().recv().unwrap();
            stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
        }
    });
    let port = origin.port();
    let mut gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    assert_eq!(status(&read_head(&mut client)), 200);
    expect(&mut client, b"3\r\none\r\n");
    gateway.signal("TERM");
    wait_for(PATIENCE, || refuses(&gateway).then_some(()));
    go.send(()).unwrap();
    assert_eq!(read_all(&mut client), b"3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.records_now("default")[0]["outcome"], "passed");
}
