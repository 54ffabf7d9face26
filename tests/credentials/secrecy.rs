//! A value appears in nothing that the gateway writes or says (security.md 15).

use crate::credentials_kit::{BEARER, Heard, Server, TOKEN, ask, setup};
use base64::Engine;
use std::path::Path;

/// Every file below `dir` but the one that holds the value, as name and bytes.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() && path.file_name().is_some_and(|name| name != "secret") {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn the_value_is_in_no_record_log_event_or_file_of_the_state() {
    let server = Server::new(|heard: &Heard| {
        let status = if heard.target().starts_with("/401") { "401 No" } else { "200 OK" };
        let body = format!("{TOKEN} {}", heard.head);
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-e: {TOKEN}\r\n\r\n{body}", body.len())
            .into_bytes()
    });
    let port = server.port();
    let mut setup = setup(port, &[BEARER, "query: key", "placeholder: SOME_TOKEN_WORD"]);
    setup.env.push(("RUST_LOG".into(), "trace".into()));
    let gateway = setup.start();
    for request in [
        "GET /",
        "GET /401",
        "GET /SOME_TOKEN_WORD?x=SOME_TOKEN_WORD",
        "GET /openshell:resolve:env:NOBODY",
    ] {
        let (head, body) = ask(&gateway, "origin.test", port, request);
        let text = head + &String::from_utf8_lossy(&body);
        assert!(!text.contains("S3cret"), "{request}: {text}");
    }
    // A client that knows the value (it was leaked before) does not get it recorded either.
    let known = TOKEN.replace('/', "%2F").replace('+', "%2B");
    ask(&gateway, "other.test", port, &format!("GET /x/{known}?q={known}"));
    let records = gateway.records(5);
    assert_eq!(records[4]["path"], "/x/***");
    assert_eq!(records[4]["query"], "q=***");
    assert!(gateway.log().contains("TRACE"), "the log was looked at in full");
    let mut all = Vec::new();
    files(gateway.dir.path(), &mut all);
    assert!(all.iter().any(|(name, _)| name.ends_with(".jsonl")));
    let spellings = [
        TOKEN.to_owned(),
        "S3cret".to_owned(),
        base64::engine::general_purpose::STANDARD.encode(TOKEN)[..20].to_owned(),
    ];
    for (name, bytes) in all {
        let text = String::from_utf8_lossy(&bytes);
        for spelling in &spellings {
            let lines: Vec<&str> =
                text.lines().filter(|line| line.contains(spelling)).take(2).collect();
            assert!(lines.is_empty(), "{spelling} in {name}: {lines:#?}");
        }
    }
}

#[test]
fn a_value_that_is_no_value_is_an_error_at_the_start_that_does_not_show_it() {
    let setup = setup(4443, &[BEARER]);
    for (value, why) in [
        ("S3cret\nValue", "the value holds a control byte; it must be one line of text"),
        ("S3\x07cretValue", "the value holds a control byte; it must be one line of text"),
        ("S3cret", "the value has fewer than 8 bytes"),
        ("", "the value is empty"),
    ] {
        let dir = setup.write();
        std::fs::write(dir.path().join("secret"), value).unwrap();
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["gateway", "--config", "config.yaml"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success());
        assert!(said.contains("credential `github`") && said.contains(why), "{said}");
        assert!(!said.contains("S3"), "{said}");
    }
}

#[test]
fn what_a_command_says_goes_to_the_log_without_the_value() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    let command = "command: [/bin/sh, -c, \"echo token is $(cat secret) >&2; cat secret\"]";
    setup.more = setup.more.replace("{ file: secret }", &format!("{{ {command} }}"));
    let gateway = setup.start();
    ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(server.only().all("authorization"), [format!("Bearer {TOKEN}")]);
    let log = gateway.log();
    assert!(log.contains("its command says: token is ***"), "{log}");
    assert!(!log.contains("S3cret"), "{log}");
}

#[test]
fn the_memory_of_the_gateway_is_nobody_elses_to_read() {
    use std::os::unix::fs::MetadataExt;
    let gateway = setup(4443, &[BEARER]).start();
    // Of a process that may not be dumped, the files in /proc belong to root.
    let maps = std::fs::metadata(format!("/proc/{}/mem", gateway.pid())).unwrap();
    assert_eq!(maps.uid(), 0);
    let key = std::fs::metadata(gateway.state().join("fingerprint-key")).unwrap();
    assert_eq!(key.mode() & 0o777, 0o600);
}
