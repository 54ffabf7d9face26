//! A log that can't be written, or that nobody reads, is nobody's loss but its own: everything else goes on.

use crate::common::{Gateway, Origin, PATIENCE, Setup, read_request, read_response, wait_for};
use crate::operation_kit::{full, get};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// A gateway whose stderr is a pipe, and the end that is read from.
fn piped(setup: &Setup, env: &[(String, String)]) -> (Gateway, File) {
    let dir = setup.write();
    let (pipe, program) = (dir.path().join("log"), dir.path().join("start.sh"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let binary = env!("CARGO_BIN_EXE_portcullis");
    let script = format!("#!/bin/sh\nexec '{binary}' \"$@\" 2>'{}'\n", pipe.display());
    File::create(&program).unwrap().write_all(script.as_bytes()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    (Gateway::spawn_as(&program, dir, &["--config", "config.yaml"], env), reader)
}

#[test]
fn who_reads_the_log_may_leave() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let (mut gateway, reader) = piped(&Setup::policy(&full("a", "origin.test", port)), &[]);
    drop(reader);
    for _ in 0..3 {
        // Each is said.
        gateway.signal("HUP");
        assert_eq!(get(&mut gateway.connect(), "origin.test", port, "/").0, 200);
    }
    gateway.write_policy(&full("a", "other.test", port));
    gateway.signal("HUP");
    wait_for(PATIENCE, || {
        (get(&mut gateway.connect(), "origin.test", port, "/").0 == 403).then_some(())
    });
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    let stopped = |event: &serde_json::Value| event["event"] == "gateway.stop";
    assert!(gateway.events("_gateway").iter().any(stopped));
}

#[test]
fn who_reads_the_log_may_stop_reading() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let setup = Setup::policy(&full("a", "origin.test", port));
    let env = [("RUST_LOG".to_owned(), "trace".to_owned())];
    let (mut gateway, reader) = piped(&setup, &env);
    // Each handshake is some thousand bytes of log: together far more than a pipe holds.
    for _ in 0..100 {
        let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
        write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
        assert!(read_response(&mut tls).0.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(gateway.records(100).len(), 100);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    drop(reader);
}
