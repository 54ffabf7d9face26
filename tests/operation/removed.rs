//! A sandbox that the config no longer has, one that is pinned, and a state that is locked: what
//! is taken away is gone at once, whatever else stands.

use crate::approval_kit::{Control, answer, send_at};
use crate::common::{self, Gateway, Origin, PATIENCE, Setup, wait_for};
use crate::operation_kit::{event, full, get};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const TWO: &str = "  - { address: \"127.0.0.1:0\", sandbox: default }\n  - { address: \"127.0.0.2:0\", sandbox: ci }\n";
const CI: &str = "  ci:\n    policy: [ci.yaml]\n    approval: { mode: queue }\n";
const QUEUE: &str = "approval: { mode: queue }";
const DEFAULTS: &str = "  defaults:\n    deny_rules: [{ host: other.test, ports: [PORT] }]\n";

fn policy(entries: &str) -> String {
    format!("version: 1\nnetwork_policies:\n{entries}")
}

/// A gateway with a second sandbox, `ci`, and a deny rule for all.
fn two(port: u16) -> Gateway {
    Setup::policy(&full("a", "origin.test", port))
        .sandbox("    approval: { mode: queue }\n")
        .sandbox(CI)
        .sandbox(&DEFAULTS.replace("PORT", &port.to_string()))
        .file("ci.yaml", &policy(&full("b", "origin.test", port)))
        .listen(TWO)
        .start()
}

/// One request of the sandbox `ci`.
fn asked(gateway: &Gateway, host: &str, port: u16, path: &str) -> u16 {
    let authority = format!("{host}:{port}");
    answer(&mut send_at(gateway.listeners[1], "GET", &authority, path, "\r\n")).0
}

fn last(gateway: &Gateway, path: &str) -> Value {
    wait_for(PATIENCE, || {
        gateway.records_now("ci").into_iter().find(|record| record["path"] == path)
    })
}

/// Takes the sandbox `ci` out of the config, and gives what the config was.
fn take_out(gateway: &Gateway) -> String {
    let config = gateway.dir.path().join("config.yaml");
    let text = common::text(&config);
    let without = text.replace(CI, "").replace(TWO.split_inclusive('\n').nth(1).unwrap(), "");
    fs::write(&config, without).unwrap();
    text
}

fn rollback(gateway: &Gateway, sandbox: &str, version: u64) -> (u16, Value) {
    let path = format!("/v1/sandboxes/{sandbox}/policy/rollback");
    Control::of(gateway).call("POST", &path, Some(&json!({ "version": version })))
}

#[test]
fn a_sandbox_that_was_taken_out_keeps_what_is_denied_to_all_and_nothing_of_its_grants() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = two(port);
    let control = Control::of(&gateway);
    let url = |host: &str| format!("http://{host}:{port}/**");
    let ahead = json!({ "sandbox": "ci", "method": "GET", "url": url("a.many.test"), "for": "1h" });
    control.grant(&ahead);
    assert_eq!(asked(&gateway, "a.many.test", port, "/granted"), 200);
    assert_eq!(asked(&gateway, "other.test", port, "/denied"), 403);
    assert_eq!(asked(&gateway, "b.many.test", port, "/asked"), 403);
    assert_eq!(control.pending().len(), 1);
    let rule = last(&gateway, "/denied")["rule"].clone();
    assert!(rule.as_str().unwrap().starts_with("defaults/"), "{rule}");
    let config = take_out(&gateway);
    event(&gateway, "ci", "policy.loaded", 2);
    for (host, path) in [
        ("origin.test", "/out/allowed"),
        ("a.many.test", "/out/granted"),
        ("b.many.test", "/out/asked"),
        ("other.test", "/out/denied"),
    ] {
        assert_eq!(asked(&gateway, host, port, path), 403, "{host}");
    }
    let record = last(&gateway, "/out/denied");
    assert_eq!((&record["rule"], &record["verdict"]), (&rule, &"deny".into()));
    // Nobody is asked, and no answer of before can let it through.
    assert_eq!(control.pending(), Vec::<Value>::new());
    assert_eq!(rollback(&gateway, "ci", 1).0, 409);
    assert_eq!(asked(&gateway, "origin.test", port, "/out/rolled"), 403);
    // What comes back is what it was.
    fs::write(gateway.dir.path().join("config.yaml"), config).unwrap();
    event(&gateway, "ci", "policy.loaded", 3);
    assert_eq!(asked(&gateway, "origin.test", port, "/back/allowed"), 200);
    assert_eq!(asked(&gateway, "a.many.test", port, "/back/granted"), 200);
}

#[test]
fn a_pinned_sandbox_that_was_taken_out_allows_nothing_and_comes_back_pinned() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = two(port);
    fs::write(gateway.dir.path().join("ci.yaml"), policy(&full("b", "b.many.test", port))).unwrap();
    event(&gateway, "ci", "policy.loaded", 2);
    assert_eq!(rollback(&gateway, "ci", 1).0, 200);
    event(&gateway, "ci", "policy.loaded", 3);
    assert_eq!(asked(&gateway, "origin.test", port, "/"), 200);
    let config = take_out(&gateway);
    event(&gateway, "ci", "policy.loaded", 4);
    assert_eq!(asked(&gateway, "origin.test", port, "/"), 403);
    assert_eq!(asked(&gateway, "b.many.test", port, "/"), 403);
    fs::write(gateway.dir.path().join("config.yaml"), config).unwrap();
    event(&gateway, "ci", "policy.loaded", 5);
    assert_eq!(asked(&gateway, "origin.test", port, "/"), 200);
    assert_eq!(asked(&gateway, "b.many.test", port, "/"), 403);
}

#[test]
fn an_observed_sandbox_that_was_taken_out_lets_nothing_through() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let dir = Setup::policy(&full("a", "origin.test", port))
        .sandbox(CI)
        .file("ci.yaml", &policy(&full("b", "origin.test", port)))
        .listen(TWO)
        .write();
    let gateway = Gateway::spawn(dir, &["--config", "config.yaml", "--observe"], &[]);
    assert_eq!(asked(&gateway, "other.test", port, "/seen"), 200);
    take_out(&gateway);
    event(&gateway, "ci", "policy.loaded", 2);
    assert_eq!(asked(&gateway, "other.test", port, "/unseen"), 403);
}

#[test]
fn what_was_rejected_is_forgotten_when_the_files_are_good_again_for_a_pinned_sandbox_too() {
    let gateway = Setup::policy(&full("a", "origin.test", 80)).start();
    let file = gateway.dir.path().join("policy.yaml");
    let good = common::text(&file);
    assert_eq!(rollback(&gateway, "default", 1).0, 200);
    fs::write(&file, "version: nine\n").unwrap();
    let rejected = || Control::of(&gateway).sandbox("default")["rejected"].clone();
    wait_for(PATIENCE, || rejected().is_string().then_some(()));
    fs::write(&file, good).unwrap();
    wait_for(PATIENCE, || rejected().is_null().then_some(()));
}

#[test]
fn a_state_that_is_locked_keeps_no_sandbox_under_its_old_policy() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
    let mut setup = Setup::policy(&full("a", "origin.test", port));
    let mut listen = String::new();
    for (n, name) in names.iter().enumerate() {
        setup = setup
            .sandbox(&format!("  {name}:\n    policy: [{name}.yaml]\n    {QUEUE}\n"))
            .file(&format!("{name}.yaml"), &policy(&full("b", "origin.test", port)));
        let at = format!("127.0.0.{}:0", n + 1);
        listen += &format!("  - {{ address: \"{at}\", sandbox: {name} }}\n");
    }
    let gateway = setup.listen(&listen).start();
    let lock = rusqlite::Connection::open(gateway.state().join("state.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    // What comes next does not wait for each of them either.
    for (host, within) in [("other.test", 4), ("another.test", 14)] {
        for name in &names {
            let file = gateway.dir.path().join(format!("{name}.yaml"));
            let fresh = file.with_extension("fresh");
            fs::write(&fresh, policy(&full("b", host, port))).unwrap();
            fs::rename(&fresh, &file).unwrap();
        }
        let gone = if host == "other.test" { "origin.test" } else { "other.test" };
        for at in &gateway.listeners {
            wait_for(PATIENCE, || {
                let mut client = std::net::TcpStream::connect(at).unwrap();
                common::limits(&client);
                (get(&mut client, gone, port, "/").0 == 403).then_some(())
            });
        }
        assert!(began.elapsed() < Duration::from_secs(within), "{:?}", began.elapsed());
    }
}
