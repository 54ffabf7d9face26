//! `portcullis credentials` on a running gateway.

use crate::common::Gateway;
use crate::credentials_kit::{BEARER, Server, TOKEN, ask, setup};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn run(gateway: &Gateway, args: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("credentials")
        .args(args)
        .args(["--config", "config.yaml"])
        .current_dir(gateway.dir.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Commands that read nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let ran = Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!ran.out.contains("S3cret") && !ran.err.contains("S3cret"), "{} {}", ran.out, ran.err);
    ran
}

#[test]
fn what_is_held_is_listed_without_values() {
    let server = Server::ok();
    let port = server.port();
    let gateway = setup(port, &[BEARER, "placeholder: SOME_TOKEN, in: [path]"]).start();
    let before = run(&gateway, &["list", "-o", "json"], "");
    let before: Value = serde_json::from_str(&before.out).unwrap();
    assert_eq!((&before["uses"], before.get("last_used")), (&0.into(), None));
    ask(&gateway, "origin.test", port, "GET /");
    let listed = run(&gateway, &["list", "-o", "json"], "");
    assert_eq!(listed.status, 0, "{}", listed.err);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["credential"], "github");
    assert!(listed["source"].as_str().unwrap().ends_with("/secret"), "{listed}");
    assert_eq!(listed["uses"], 1);
    assert_eq!(listed["fingerprint"].as_str().unwrap().len(), 12);
    let binding = &listed["bindings"][0];
    assert_eq!(
        (&binding["sandbox"], &binding["host"], &binding["place"], &binding["path"]),
        (&"default".into(), &"origin.test".into(), &"header authorization".into(), &"/**".into())
    );
    assert_eq!(listed["bindings"][1]["place"], "placeholder SOME_TOKEN in path");
    let text = run(&gateway, &[], "").out;
    assert!(text.contains("github") && text.contains("origin.test:"), "{text}");
    let none = run(&gateway, &["list", "-s", "nobody"], "");
    assert_eq!(none.status, 2, "{}", none.err);
}

#[test]
fn test_changes_nothing_and_refresh_takes_what_the_source_says() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    setup.more = setup.more.replace("file: secret", "command: [/bin/cat, secret]");
    let gateway = setup.start();
    ask(&gateway, "origin.test", port, "GET /");
    std::fs::write(gateway.dir.path().join("secret"), "another-value").unwrap();
    let tested = run(&gateway, &["test", "github"], "");
    assert_eq!(tested.status, 0, "{}", tested.err);
    assert!(tested.out.contains("another value than the one in use"), "{}", tested.out);
    ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(server.last().all("authorization"), [format!("Bearer {TOKEN}")]);
    let refreshed = run(&gateway, &["refresh", "github"], "");
    assert!(refreshed.out.contains("a new value, in use from now on"), "{}", refreshed.out);
    ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(server.last().all("authorization"), ["Bearer another-value"]);
    assert!(run(&gateway, &["refresh", "github"], "").out.contains("the value in use"));
    std::fs::remove_file(gateway.dir.path().join("secret")).unwrap();
    let failed = run(&gateway, &["test", "github"], "");
    assert_eq!(failed.status, 1);
    assert!(failed.err.contains("ended with status 1"), "{}", failed.err);
    let unknown = run(&gateway, &["test", "nobody"], "");
    assert_eq!(unknown.status, 2);
    assert!(unknown.err.contains("portcullis credentials list"), "{}", unknown.err);
}

#[test]
fn a_value_is_stored_for_the_gateway_alone() {
    let gateway = setup(4443, &[BEARER]).start();
    let stored = run(&gateway, &["set", "github"], "ghp_S3cret/first\n");
    assert_eq!(stored.status, 0, "{}", stored.err);
    let path = gateway.state().join("secrets/github");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "ghp_S3cret/first");
    let (file, dir) =
        (std::fs::metadata(&path).unwrap(), std::fs::metadata(path.parent().unwrap()).unwrap());
    assert_eq!((file.mode() & 0o777, dir.mode() & 0o777), (0o600, 0o700));
    for said in [
        "use it: portcullis gateway --credential github --config ",
        ", or credentials: { github: { file: ",
    ] {
        assert!(stored.out.contains(said), "{}", stored.out);
    }
    // Again, in its place.
    assert_eq!(run(&gateway, &["set", "github"], "ghp_S3cret/second").status, 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "ghp_S3cret/second");
    for (name, value, why) in [
        ("../github", "ghp_S3cret/first", "is not a credential's name"),
        ("github", "S3cret\nS3cret", "holds a control byte"),
        ("github", "", "the value is empty"),
    ] {
        let refused = run(&gateway, &["set", name], value);
        assert_eq!(refused.status, 2, "{name}");
        assert!(refused.err.contains(why), "{}", refused.err);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "ghp_S3cret/second");
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}
