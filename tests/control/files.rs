//! `logs` and `audit` read the traffic files of the state directory: no gateway need run.

use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

struct State(tempfile::TempDir);

struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, folder: &str, name: &str, lines: &[Value]) {
        let dir = self.0.path().join("traffic").join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        let text = lines.iter().fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        });
        std::fs::write(dir.join(name), text).unwrap();
    }

    fn run(&self, args: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PORTCULLIS_STATE_DIR", self.0.path())
            .current_dir(Path::new("/"))
            .output()
            .unwrap();
        Ran {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn record(second: u32, sandbox: &str, more: &Value) -> Value {
    let mut line = json!({
        "v": 1, "time": format!("2026-11-24T10:{:02}:{:02}.000000Z", second / 60, second % 60),
        "id": "01JDAAAAAAAAAAAAAAAAAAAAAA", "request": null, "sandbox": sandbox, "client": null,
        "scheme": "https", "host": "api.github.com", "port": 443, "method": "GET", "path": "/repos",
        "verdict": "allow", "code": "allowed", "rule": "github/endpoints[0]", "outcome": "passed",
        "by": "policy", "sent": true, "status": 200, "upload": 10, "download": 2000,
        "ms": { "judge": 0.001, "held": 0, "connect": 1, "total": 9.5 }, "policy": "sha256:00",
    });
    for (key, value) in more.as_object().unwrap() {
        line[key] = value.clone();
    }
    line
}

fn state() -> State {
    let state = State::new();
    let none = json!({});
    let early: Vec<Value> = (0..1000).map(|at| record(at, "agent", &none)).collect();
    state.file("agent", "2026-11-24T100000.000-0000.jsonl", &early);
    let refused = json!({
        "verdict": "unknown", "outcome": "refused", "by": "grant:g9", "sent": false, "upload": 0,
        "code": "approval_denied", "method": "POST", "path": "/\u{202e}a b\n", "request": "r41",
        "approval": { "decision": "deny", "scope": "session", "by": "ana", "uid": 1000,
            "via": "term", "at": "2026-11-24T10:20:00Z" },
    });
    state.file(
        "agent",
        "2026-11-24T102000.000-0000.jsonl",
        &[record(1200, "agent", &none), record(1201, "agent", &refused)],
    );
    state.file("ci", "2026-11-24T102000.000-0000.jsonl", &[record(1190, "ci", &none)]);
    let decision = json!({
        "v": 1, "time": "2026-11-24T10:20:00.500000Z", "event": "decision", "sandbox": "agent",
        "request": "r41", "decision": "deny", "scope": "session", "covers": "POST https://x/",
        "grant": "g9", "by": "ana", "uid": 1000, "via": "term", "reason": "no",
    });
    state.file(
        "_gateway",
        "2026-11-24T100000.000-0000.jsonl",
        &[json!({ "v": 1, "time": "2026-11-24T10:00:00.000000Z", "event": "gateway.start" })],
    );
    state.file("agent", "2026-11-24T102100.000-0000.jsonl", &[decision]);
    state
}

#[test]
fn the_last_lines_come_from_all_files_in_the_order_of_time() {
    let state = state();
    let ran = state.run(&["logs", "-n", "4"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let expected = "\
2026-11-24T10:19:50.000Z ci allow passed allowed GET https://api.github.com/repos 200 10B 2000B 9.5ms policy github/endpoints[0]
2026-11-24T10:20:00.000Z agent allow passed allowed GET https://api.github.com/repos 200 10B 2000B 9.5ms policy github/endpoints[0]
2026-11-24T10:20:00.500Z agent decision request=r41 decision=deny scope=session covers=POST https://x/ grant=g9 by=ana uid=1000 via=term reason=no
2026-11-24T10:20:01.000Z agent unknown refused approval_denied POST https://api.github.com/\\u{202e}a%20b\\n 200 0B 2000B 9.5ms grant:g9 github/endpoints[0] r41
";
    assert_eq!(ran.out, expected);
    for command in ["logs", "audit"] {
        let typo = state.run(&[command, "-s", "c1"]);
        assert_eq!(typo.status, Some(2), "{}", typo.out);
        assert!(typo.err.contains("no sandbox is named `c1`"), "{}", typo.err);
    }
    let ci = state.run(&["logs", "-s", "ci"]);
    assert_eq!(ci.out.lines().count(), 2, "its own and the gateway's: {}", ci.out);
    let many = state.run(&["logs", "-n", "5000", "-o", "json"]);
    assert_eq!(many.out.lines().count(), 1005);
    assert!(many.out.is_ascii());
    many.out.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    assert_eq!(state.run(&["logs"]).out.lines().count(), 20);
}

#[test]
fn an_audit_says_what_left_and_who_decided() {
    let state = state();
    let ran = state.run(&["audit", "--since", "2026-11-24T10:10:00Z", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let entries: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 4, "{}", ran.out);
    assert_eq!((&entries[0]["event"], &entries[0]["by"]), (&json!("decision"), &json!("ana")));
    let allowed = &entries[1];
    assert_eq!((&allowed["by"], &allowed["requests"]), (&json!("policy"), &json!(401)));
    assert_eq!((&allowed["sent"], &allowed["upload"]), (&json!(401), &json!(4010)));
    assert_eq!(allowed["first"], "2026-11-24T10:10:00.000000Z");
    let denied = &entries[2];
    assert_eq!((&denied["approved"], &denied["outcome"]), (&json!("ana"), &json!("refused")));
    assert_eq!(entries[3]["sandbox"], "ci");
    let sent = state.run(&["audit", "--since", "2026-11-24", "--sent", "-s", "agent"]);
    assert!(sent.out.contains("1001") && !sent.out.contains("POST  "), "{}", sent.out);
    let ana = state.run(&["audit", "--since", "2026-11-24", "--by", "ana", "-o", "json"]);
    assert_eq!(ana.out.lines().count(), 2, "{}", ana.out);
    let grant = state.run(&["audit", "--since", "2026-11-24", "--by", "grant:g9", "-o", "json"]);
    assert_eq!(grant.out.lines().count(), 2, "{}", grant.out);
    let nobody = state.run(&["audit", "--since", "2026-11-24", "--by", "bob"]);
    assert_eq!(nobody.out, "nothing since 2026-11-24T00:00:00Z\n");
}

#[test]
fn a_directory_without_traffic_is_said_with_the_fix() {
    let empty = State::new();
    for args in [&["logs"][..], &["audit"]] {
        let ran = empty.run(args);
        assert_eq!(ran.status, Some(2));
        assert!(ran.err.contains("fix: name the gateway's own with --state-dir"), "{}", ran.err);
    }
    assert_eq!(empty.run(&["audit", "--since", "noon"]).status, Some(2));
}
