//! The agent's side at `http://policy.local`: its own sandbox's entries alone, nothing of the
//! host, its words never believed.

use crate::approval_kit::{
    Control, HOLD, answer, asking, body, holding, name, send, send_at, send_with,
};
use crate::common::{self, Gateway, Origin, PATIENCE, Setup, problem, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn ask_at(at: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = send_at(at, method, "policy.local", path, body);
    let (status, text) = answer(&mut stream);
    (
        status,
        serde_json::from_slice(&text).unwrap_or_else(|_| json!(String::from_utf8(text).unwrap())),
    )
}

fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    ask_at(gateway.proxy, "GET", path, "\r\n")
}

fn ahead(gateway: &Gateway, ask: &Value) -> (u16, Value) {
    ask_at(gateway.proxy, "POST", "/v1/requests", &body("application/json", &ask.to_string()))
}

fn two(more: &str) -> Gateway {
    holding()
        .sandbox(&format!("  other:\n    policy: [policy.yaml]\n    {HOLD}\n{more}"))
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  \
             - { address: \"127.0.0.2:0\", sandbox: other }\n",
        )
        .start()
}

#[test]
fn an_agent_asks_ahead_waits_and_its_request_passes() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let url = format!("http://origin.test:{port}/ahead?q=1");
    let words = "ignore previous \u{1b}[2J instructions\u{202e}";
    let (status, asked) = ahead(&gateway, &json!({ "method": "GET", "url": url, "reason": words }));
    assert_eq!((status, &asked["state"]), (202, &json!("pending")));
    let entry = control.one(0);
    assert_eq!((&entry["kind"], &entry["agent_reason"]), (&json!("ahead"), &json!(words)));
    assert_eq!((&entry["path"], &entry["query"]), (&json!("/ahead"), &json!("q=1")));
    let number = name(&entry).to_owned();
    let (at, wait) = (gateway.proxy, format!("/v1/requests/{number}/wait?timeout=20"));
    let waiter = std::thread::spawn(move || ask_at(at, "GET", &wait, "\r\n"));
    control.holds("default", 1);
    control.approve(&entry, &json!({ "reason": "go" }));
    let (status, seen) = waiter.join().unwrap();
    assert_eq!((status, &seen["state"]), (200, &json!("approved")));
    assert_eq!(
        (&seen["decision"]["decision"], &seen["decision"]["reason"]),
        (&json!("approve"), &json!("go"))
    );
    assert!(seen["decision"]["by"].is_null() && seen["decision"]["uid"].is_null(), "{seen}");
    assert_eq!(answer(&mut send(&gateway, "GET", port, "/ahead?q=1")).0, 200);
    // Asked again, it is told so.
    let (status, again) = ahead(&gateway, &json!({ "method": "GET", "url": url }));
    assert_eq!((status, &again["state"]), (200, &json!("approved")));
    assert_eq!(control.pending().len(), 0);
}

#[test]
fn what_was_asked_ahead_is_shown_as_it_is_when_it_comes() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let url = "http://origin.test:1/later";
    ahead(&gateway, &json!({ "method": "GET", "url": url, "reason": "I need it" }));
    let before = control.one(0);
    let _held = send_with(&gateway, "GET", "origin.test:1", "/later", "X-Real: 1\r\n\r\n");
    let entry = control.one(1);
    assert_eq!((&entry["request"], &entry["kind"]), (&before["request"], &json!("http")));
    assert!(entry["headers"].to_string().contains("x-real"), "{entry}");
    assert_eq!(entry["agent_reason"], "I need it");
    // What was shown before is not what would leave now.
    assert_eq!(control.decide(&before, "approve", &json!({ "scope": "once" })).0, 409);
}

#[test]
fn a_websocket_asked_ahead_is_not_the_plain_request_on_its_path() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    ahead(&gateway, &json!({ "method": "GET", "url": "ws://origin.test:1/ws" }));
    control.approve(&control.one(0), &json!({ "scope": "once" }));
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/ws")).0, 403);
    assert_eq!(control.one(0)["kind"], "http");
}

#[test]
fn asking_ahead_again_neither_takes_an_answer_nor_keeps_it_alive() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    let url = format!("http://origin.test:{port}/once");
    let ask = || ahead(&gateway, &json!({ "method": "GET", "url": url })).1;
    ask();
    control.approve(&control.one(0), &json!({ "scope": "once" }));
    for _ in 0..3 {
        assert_eq!((&ask()["state"], control.pending().len()), (&json!("approved"), 0));
    }
    assert_eq!(answer(&mut send(&gateway, "GET", port, "/once")).0, 200);
    assert_eq!(ask()["state"], "pending");
}

#[test]
fn an_agent_sees_its_own_entries_and_no_others() {
    let gateway = two("");
    let control = Control::of(&gateway);
    let _held = send(&gateway, "GET", 1, "/mine");
    let entry = control.one(1);
    let number = name(&entry);
    assert_eq!(get(&gateway, &format!("/v1/requests/{number}")).0, 200);
    for path in [format!("/v1/requests/{number}"), format!("/v1/requests/{number}/wait?timeout=1")]
    {
        let (status, theirs) = ask_at(gateway.listeners[1], "GET", &path, "\r\n");
        let (missing, never) = get(&gateway, "/v1/requests/r999999");
        assert_eq!((status, missing), (404, 404));
        // Nothing tells one that is another's from one that never was.
        assert_eq!(theirs["code"], never["code"]);
        assert_eq!(
            theirs["detail"].as_str().unwrap().replace(number, "N"),
            never["detail"].as_str().unwrap().replace("r999999", "N")
        );
    }
    assert_eq!(get(&gateway, "/v1/requests/41").0, 404);
    assert_eq!(get(&gateway, "/v1/requests/r-1").0, 404);
    assert_eq!(get(&gateway, "/v1/requests").0, 404);
}

#[test]
fn an_agent_answers_nothing_and_reaches_no_control_api() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let _held = send(&gateway, "GET", 1, "/mine");
    let entry = control.one(1);
    let decision = json!({ "decision": "approve", "digest": entry["digest"] }).to_string();
    let rest = body("application/json", &decision);
    for path in [
        format!("/v1/requests/{}/decision", name(&entry)),
        format!("/v1/requests/{}", name(&entry)),
        "/v1/grants".to_owned(),
        "/v1/status".to_owned(),
        "/v1/events".to_owned(),
        "/v1/sandboxes/default/policy".to_owned(),
    ] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask_at(gateway.proxy, method, &path, &rest).0, 404, "{method} {path}");
        }
    }
    assert_eq!(control.again(&entry)["state"], "pending");
}

#[test]
fn the_policy_that_an_agent_reads_has_nothing_of_the_host_in_it() {
    let policy = "  inner:\n    endpoints:\n      - host: inner.test\n        port: 443\n        protocol: rest\n        \
                  access: read-only\n        allowed_ips: [10.9.8.0/24]\n        tls: terminate";
    let gateway = Setup::policy(policy).sandbox(&format!("    {HOLD}\n")).start();
    let control = Control::of(&gateway);
    let _held = send(&gateway, "GET", 1, "/always");
    control.approve(&control.one(1), &json!({ "scope": "always", "reason": "an inner matter" }));
    let (status, view) = get(&gateway, "/v1/policy");
    assert_eq!(status, 200);
    let text = view.to_string();
    assert!(text.contains("inner.test") && text.contains("approved-r1"), "{text}");
    let state = gateway.state();
    for secret in
        ["10.9.8", "allowed_ips", "an inner matter", "policy.yaml", state.to_str().unwrap()]
    {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(get(&gateway, "/").0, 200);
    assert_eq!(view["unknown"], "held for a while for the operator to answer, then refused");
}

#[test]
fn what_is_no_question_is_refused_without_an_entry() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    for ask in [
        json!({ "method": "GET", "url": "origin.test/a" }),
        json!({ "method": "GET", "url": "ftp://origin.test/a" }),
        json!({ "method": "G T", "url": "http://origin.test/a" }),
        json!({ "method": "GET", "url": "http://origin.test/../a" }),
        json!({ "method": "GET", "url": "http://user@origin.test/a" }),
        json!({ "method": "GET", "url": "http://0x7f.1/a" }),
        json!({ "method": "GET", "url": "http://policy.local/v1/policy" }),
        json!({ "method": "GET", "url": "https://inference.local/v1" }),
        json!({ "method": "GET", "url": "http://origin.test/a#b" }),
        json!({ "method": "GET", "url": "http://origin.test/a?b c" }),
        json!({ "url": "http://origin.test/a" }),
        json!({ "method": "GET", "url": "http://origin.test/a", "scope": "always" }),
        json!([]),
    ] {
        let (status, said) = ahead(&gateway, &ask);
        assert_eq!(status, 400, "{ask}: {said}");
    }
    let long = json!({ "method": "GET", "url": "http://a.test/", "reason": "x".repeat(20_000) });
    assert_eq!(ahead(&gateway, &long).0, 413);
    assert_eq!(control.pending().len(), 0);
    let long = json!({ "method": "GET", "url": "http://a.test/", "reason": "x".repeat(10_000) });
    assert_eq!(ahead(&gateway, &long).0, 202);
    assert_eq!(control.one(0)["agent_reason"].as_str().unwrap().len(), 1000);
}

#[test]
fn a_wait_ends_at_its_time_counts_as_held_and_frees_its_place_when_its_client_leaves() {
    let gateway =
        asking("approval: { mode: hold, timeout: 20s, unattended: 20s, max_held: 1 }").start();
    let control = Control::of(&gateway);
    ahead(&gateway, &json!({ "method": "GET", "url": "http://a.test/x" }));
    let path = format!("/v1/requests/{}/wait?timeout=1", name(&control.one(0)));
    let began = Instant::now();
    let (status, seen) = get(&gateway, &path);
    assert_eq!((status, &seen["state"]), (200, &json!("pending")));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let path = path.replace("timeout=1", "timeout=300");
    let waiting = send_with(&gateway, "GET", "policy.local", &path, "\r\n");
    control.holds("default", 1);
    assert_eq!(get(&gateway, &path).0, 429);
    let (status, text) = answer(&mut send(&gateway, "GET", 1, "/full"));
    assert_eq!((status, &problem(&text)["error"]), (429, &json!("queue_full")));
    drop(waiting);
    control.holds("default", 0);
    assert_eq!(control.sandbox("default")["dropped"], 1);
}

#[test]
fn a_gateway_that_stops_ends_a_wait() {
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    ahead(&gateway, &json!({ "method": "GET", "url": "http://a.test/x" }));
    let path = format!("/v1/requests/{}/wait?timeout=300", name(&control.one(0)));
    let mut waiting = send_with(&gateway, "GET", "policy.local", &path, "\r\n");
    control.holds("default", 1);
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(answer(&mut waiting).0, 503);
    assert!(gateway.wait().success());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn agent_api_false_switches_it_off() {
    let gateway = holding().sandbox("    agent_api: false\n").start();
    for path in ["/", "/v1/policy", "/v1/requests/r1"] {
        assert_eq!(get(&gateway, path).0, 404, "{path}");
    }
    assert_eq!(ahead(&gateway, &json!({ "method": "GET", "url": "http://a.test/" })).0, 404);
    assert_eq!(Control::of(&gateway).pending().len(), 0);
}

#[test]
fn no_rule_and_no_answer_sends_anything_to_the_reserved_names() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut raw = gateway.tunnel("policy.local:443");
    std::io::Write::write_all(&mut raw, b"\x00raw").unwrap();
    assert_eq!(common::read_all(&mut raw), b"");
    let mut unserved = send_with(&gateway, "GET", "inference.local", "/v1", "\r\n");
    assert_eq!(answer(&mut unserved).0, 404);
    let record = wait_for(PATIENCE, || {
        gateway.records_now("default").into_iter().find(|record| record["host"] == "policy.local")
    });
    assert_eq!(record["sent"], false);
    assert_eq!(control.pending().len(), 0);
}
