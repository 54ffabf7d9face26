//! What was answered outlives the gateway, ends at its time, and is taken back whole: grants,
//! files of answers, versions of policies (security.md 21 to 23).

use crate::approval_kit::{Control, KNOWN, answer, asking, holding, name, refused, send};
use crate::common::{self, Gateway, Origin, PATIENCE, read_all, wait_for};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Whether a request passes without being asked about; one that is asked about is dropped.
fn passes(gateway: &Gateway, port: u16, path: &str) -> bool {
    let control = Control::of(gateway);
    let mut stream = send(gateway, "GET", port, path);
    stream.set_nonblocking(true).unwrap();
    let passed = wait_for(PATIENCE, || {
        if stream.peek(&mut [0]).is_ok_and(|n| n > 0) {
            return Some(true);
        }
        let held = |entry: &&Value| entry["path"] == path && entry["held"] != 0;
        control.pending().iter().find(held).map(|_| false)
    });
    stream.set_nonblocking(false).unwrap();
    if !passed {
        drop(stream);
        control.holds("default", 0);
        return false;
    }
    match answer(&mut stream) {
        (200, _) => true,
        (403, _) => false,
        other => panic!("{other:?}"),
    }
}

/// Holds a GET and gives its entry and its client.
pub(crate) fn held(gateway: &Gateway, port: u16, path: &str) -> (Value, TcpStream) {
    let stream = send(gateway, "GET", port, path);
    let control = Control::of(gateway);
    let entry = wait_for(PATIENCE, || {
        let here = |entry: &Value| entry["path"] == path && entry["held"] == 1;
        control.pending().into_iter().find(here)
    });
    (entry, stream)
}

fn number(text: &str) -> u64 {
    text[1..].parse().unwrap()
}

#[test]
fn grants_survive_a_stop_and_a_kill_and_no_number_is_given_twice() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let (mut last_request, mut last_grant) = (0, 0);
    for (at, signal) in ["TERM", "KILL", "KILL"].into_iter().enumerate() {
        let control = Control::of(&gateway);
        let path = format!("/kept{at}");
        let (entry, mut client) = held(&gateway, port, &path);
        let decided = control.approve(&entry, &json!({}));
        assert_eq!(answer(&mut client).0, 200);
        let (request, grant) = (number(name(&entry)), number(decided["grant"].as_str().unwrap()));
        assert!(request > last_request && grant > last_grant, "{entry} {decided}");
        (last_request, last_grant) = (request, grant);
        // A denial is one, too, and an entry that waits is not.
        let (entry, mut client) = held(&gateway, port, &format!("/denied{at}"));
        control.deny(&entry, &json!({ "reason": "kept" }));
        assert_eq!(answer(&mut client).0, 403);
        gateway.signal(signal);
        gateway.wait();
        gateway.restart(&[]);
        for before in 0..=at {
            assert!(passes(&gateway, port, &format!("/kept{before}")), "{signal} {before}");
            let (code, text) =
                answer(&mut send(&gateway, "GET", port, &format!("/denied{before}")));
            assert_eq!((code, refused(&text).0.as_str()), (403, "approval_denied"));
        }
        assert!(!passes(&gateway, port, "/never"));
    }
    let grants = Control::of(&gateway).get("/v1/grants");
    assert_eq!(grants.as_array().unwrap().len(), 6);
    assert_eq!(grants[0]["request"], "r1");
}

#[test]
fn an_answer_for_one_request_does_not_outlive_the_gateway() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    assert!(!passes(&gateway, port, "/once"));
    control.approve(&control.one(0), &json!({ "scope": "once" }));
    gateway.signal("TERM");
    gateway.wait();
    gateway.restart(&[]);
    assert!(!passes(&gateway, port, "/once"));
}

#[test]
fn a_grant_that_ended_while_the_gateway_was_down_is_over() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let (entry, mut client) = held(&gateway, port, "/brief");
    control.approve(&entry, &json!({ "for": "2s" }));
    let until = Instant::now() + Duration::from_secs(2);
    assert_eq!(answer(&mut client).0, 200);
    gateway.signal("KILL");
    gateway.wait();
    wait_for(PATIENCE, || (Instant::now() > until).then_some(()));
    gateway.restart(&[]);
    assert!(!passes(&gateway, port, "/brief"));
    assert_eq!(Control::of(&gateway).get("/v1/grants"), json!([]));
}

#[test]
fn every_answer_is_taken_back() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let file = gateway.state().join("approved/default.yaml");
    for (at, (word, more)) in [
        ("approve", json!({ "scope": "once" })),
        ("approve", json!({ "scope": "session" })),
        ("approve", json!({ "scope": "session", "breadth": "host" })),
        ("approve", json!({ "scope": "always" })),
        ("approve", json!({ "scope": "always", "breadth": "path" })),
        ("deny", json!({ "scope": "once" })),
        ("deny", json!({ "scope": "session" })),
        ("deny", json!({ "scope": "always" })),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/undo/{at}");
        // Its client has left: an answer for one request waits for the next.
        assert!(!passes(&gateway, port, &path), "{word} {more}");
        let (status, problem) = control.decide(&control.about(&path), word, &more);
        assert_eq!(status, 200, "{problem}");
        let entry = control.get("/v1/requests").as_array().unwrap().last().unwrap().clone();
        let again = control.undo(&entry);
        assert_eq!((&again["state"], &again["decision"]), (&json!("pending"), &json!(null)));
        assert!(!passes(&gateway, port, &path), "{word} {more} was not undone");
        let (status, _) =
            control.call("DELETE", &format!("/v1/requests/{}/decision", name(&entry)), None);
        assert_eq!(status, 409, "there is nothing to undo");
        control.deny(&control.about(&path), &json!({ "scope": "once" }));
    }
    assert_eq!(control.get("/v1/grants"), json!([]));
    let text = common::text(&file);
    assert!(text.contains("network_policies: {}"), "{text}");
    let undo = |event: &Value| event["decision"] == "undo";
    let events = wait_for(PATIENCE, || {
        let events = gateway.events("default");
        (events.iter().filter(|event| undo(event)).count() == 8).then_some(events)
    });
    let of = |undo: bool| -> Vec<&Value> {
        let told = |e: &&Value| e["event"] == "decision" && (e["decision"] == "undo") == undo;
        events.iter().filter(told).map(|e| &e["covers"]).collect()
    };
    assert_eq!(of(true).len(), 8);
    assert!(of(true).iter().any(|covers| covers.as_str().unwrap().contains('*')));
    assert!(of(true).iter().all(|covers| of(false).contains(covers)), "{events:?}");
}

#[test]
fn an_undone_grant_stays_undone_over_a_restart() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let (entry, mut client) = held(&gateway, port, "/a");
    control.approve(&entry, &json!({}));
    assert_eq!(answer(&mut client).0, 200);
    let at = format!("/v1/requests/{}/decision", name(&entry));
    assert_eq!(control.call("DELETE", &format!("{at}?via=term&by=me"), None).0, 400);
    assert_eq!(control.call("DELETE", &format!("{at}?via=term"), None).0, 200);
    let undone = wait_for(PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["decision"] == "undo")
    });
    assert_eq!(undone["via"], "term", "{undone}");
    let (entry, mut client) = held(&gateway, port, "/b");
    control.approve(&entry, &json!({}));
    assert_eq!(answer(&mut client).0, 200);
    control.revoke("g2");
    gateway.signal("KILL");
    gateway.wait();
    gateway.restart(&[]);
    assert!(!passes(&gateway, port, "/a") && !passes(&gateway, port, "/b"));
}

#[test]
fn the_file_of_answers_is_the_operators_to_edit_and_a_broken_one_changes_nothing() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let (entry, mut client) = held(&gateway, port, "/one");
    control.approve(&entry, &json!({ "scope": "always" }));
    assert_eq!(answer(&mut client).0, 200);
    let file = gateway.state().join("approved/default.yaml");
    let text = common::text(&file);
    let put = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    put(&text.replace("/one", "/two"));
    wait_for(PATIENCE, || passes(&gateway, port, "/two").then_some(()));
    assert!(!passes(&gateway, port, "/one"));
    put("version: 1\nnetwork_policies: [broken");
    wait_for(PATIENCE, || control.sandbox("default")["rejected"].is_string().then_some(()));
    assert!(passes(&gateway, port, "/two"));
    let warnings = control.get("/v1/status")["warnings"].to_string();
    assert!(warnings.contains("not in force"), "{warnings}");
    // What can't be read is not written over.
    let (entry, client) = held(&gateway, port, "/three");
    let (status, problem) = control.decide(&entry, "approve", &json!({ "scope": "always" }));
    assert_eq!(status, 400, "{problem}");
    assert_eq!(common::text(&file), "version: 1\nnetwork_policies: [broken");
    assert_eq!(control.again(&entry)["state"], "pending");
    // Whoever looks whether something passes waits until nobody is held.
    drop(client);
    // Mended, it is in force, and another answer goes beside it.
    put(&text);
    wait_for(PATIENCE, || passes(&gateway, port, "/one").then_some(()));
    let entry = control.about("/three");
    control.approve(&entry, &json!({ "scope": "always" }));
    assert!(passes(&gateway, port, "/one") && passes(&gateway, port, "/three"));
    gateway.signal("KILL");
    gateway.wait();
    gateway.restart(&[]);
    assert!(passes(&gateway, port, "/one") && passes(&gateway, port, "/three"));
    // Removed, nothing of it is left.
    std::fs::remove_file(&file).unwrap();
    wait_for(PATIENCE, || (!passes(&gateway, port, "/one")).then_some(()));
}

#[test]
fn a_baseline_that_is_broken_refuses_an_answer_for_good_and_leaves_no_file_behind() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a")).0, 403);
    std::fs::write(gateway.dir.path().join("policy.yaml"), "version: 1\nnonsense: [").unwrap();
    wait_for(PATIENCE, || control.sandbox("default")["rejected"].is_string().then_some(()));
    let (status, problem) =
        control.decide(&control.one(0), "approve", &json!({ "scope": "always" }));
    assert_eq!(status, 400, "{problem}");
    assert!(!gateway.state().join("approved/default.yaml").exists());
    assert_eq!(control.one(0)["state"], "pending");
}

#[test]
fn a_file_that_changes_while_an_answer_is_written_is_read_all_the_same() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding()
        .sandbox("  other:\n    policy: [other.yaml]\n    approval: { mode: queue }\n")
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  \
             - { address: \"127.0.0.2:0\", sandbox: other }\n",
        )
        .file("other.yaml", &format!("version: 1\nnetwork_policies:\n{KNOWN}\n"))
        .start();
    let control = Control::of(&gateway);
    let other = gateway.dir.path().join("other.yaml");
    for round in 0..5 {
        let before = control.sandbox("other")["policy"].clone();
        let (entry, mut client) = held(&gateway, port, &format!("/{round}a"));
        let rule = KNOWN.replace("known.test", &format!("round{round}.test"));
        std::fs::write(&other, format!("version: 1\nnetwork_policies:\n{rule}\n")).unwrap();
        control.approve(&entry, &json!({ "scope": "always" }));
        assert_eq!(answer(&mut client).0, 200);
        wait_for(PATIENCE, || (control.sandbox("other")["policy"] != before).then_some(()));
    }
}

/// What `policy explain` says of a request to the origin.
fn explained(gateway: &Gateway, args: &[&str], (port, path): (u16, &str)) -> Value {
    let ran = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env("PORTCULLIS_STATE_DIR", gateway.state())
        .args(["policy", "explain", "-o", "json"])
        .args(args)
        .args(["GET", &format!("http://origin.test:{port}{path}")])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn history(control: &Control) -> Vec<Value> {
    control.get("/v1/policy/history?sandbox=default").as_array().unwrap().clone()
}

#[test]
fn a_runtime_layer_is_in_force_at_once_and_after_a_restart_until_it_is_taken_away() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let layer = format!(
        "version: 1\nnetwork_policies:\n  r:\n    endpoints:\n      - {{ host: origin.test, port: {port}, \
         protocol: rest, access: read-only }}\n"
    );
    let apply = |control: &Control, text: &str| {
        let body = json!({ "policy": text, "file": "layer.yaml" });
        control.call("PUT", "/v1/sandboxes/default/policy", Some(&body))
    };
    let control = Control::of(&gateway);
    let mut waiting = send(&gateway, "GET", port, "/waits");
    control.one(1);
    assert_eq!(apply(&control, &layer).0, 200);
    assert_eq!(answer(&mut waiting).0, 200);
    let (status, problem) = apply(&control, "version: 1\nnetwork_policies: [");
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("layer.yaml"), "{problem}");
    assert_eq!(control.sandbox("default")["runtime"], 1);
    gateway.signal("KILL");
    gateway.wait();
    gateway.restart(&[]);
    let control = Control::of(&gateway);
    assert!(passes(&gateway, port, "/after"));
    let policy = control.get("/v1/sandboxes/default/policy");
    let entries = policy["entries"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["source"] == "runtime"), "{policy}");
    let said = explained(&gateway, &["-s", "default"], (port, "/after"));
    assert_eq!(
        (&said["verdict"], &said["rule"]),
        (&json!("allow"), &json!("r/endpoints[0]/access"))
    );
    assert_eq!(said["considered"][0]["source"], "runtime");
    assert_eq!(apply(&control, "").0, 200);
    assert!(!passes(&gateway, port, "/after"));
    assert_eq!(explained(&gateway, &[], (port, "/after"))["verdict"], "unknown");
    assert_eq!(history(&control)[0]["why"], "apply");
}

#[test]
fn the_end_of_a_grant_that_ended_while_no_gateway_ran_is_recorded() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let url = format!("http://origin.test:{port}/ahead");
    let grant = Control::of(&gateway).grant(&json!({ "method": "GET", "url": url, "for": "1s" }));
    gateway.signal("KILL");
    gateway.wait();
    let until: jiff::Timestamp = grant["expires"].as_str().unwrap().parse().unwrap();
    wait_for(PATIENCE, || (jiff::Timestamp::now() > until).then_some(()));
    gateway.restart(&[]);
    assert!(!passes(&gateway, port, "/ahead"));
    let ended = wait_for(PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["event"] == "grant.expired")
    });
    assert_eq!(ended["grant"], grant["grant"]);
    assert_eq!(Control::of(&gateway).get("/v1/grants"), json!([]));
    gateway.restart(&[]);
    let ended = gateway.events("default").into_iter().filter(|e| e["event"] == "grant.expired");
    assert_eq!(ended.count(), 1, "once");
}

/// Another file that can't be read at the moment neither keeps a rule in force nor one out of it.
#[test]
fn an_answer_for_good_is_taken_back_whatever_has_become_of_the_other_files() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let (entry, mut client) = held(&gateway, port, "/one");
    control.approve(&entry, &json!({ "scope": "always" }));
    assert_eq!(answer(&mut client).0, 200);
    gateway.write_policy("version: 1\nnetwork_policies: [broken");
    gateway.signal("HUP");
    wait_for(PATIENCE, || control.sandbox("default")["rejected"].is_string().then_some(()));
    assert!(passes(&gateway, port, "/one"));
    let again = control.undo(&entry);
    assert_eq!(again["state"], "pending");
    assert!(!passes(&gateway, port, "/one"), "its rule is out of force");
    assert!(control.sandbox("default")["rejected"].is_string(), "the other file is no better");
    gateway.write_policy(KNOWN);
    gateway.signal("HUP");
    wait_for(PATIENCE, || control.sandbox("default")["rejected"].is_null().then_some(()));
    assert!(!passes(&gateway, port, "/one"));
}

#[test]
fn a_pinned_version_stays_whatever_is_answered_edited_or_undone() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let first = history(&control)[0]["version"].clone();
    let (entry, mut client) = held(&gateway, port, "/always");
    control.approve(&entry, &json!({ "scope": "always" }));
    assert_eq!(answer(&mut client).0, 200);
    let second = history(&control)[0]["version"].clone();
    let rollback = |control: &Control, version: &Value| {
        let body = json!({ "version": version });
        control.call("POST", "/v1/sandboxes/default/policy/rollback", Some(&body))
    };
    assert_eq!(rollback(&control, &json!(99)).0, 400);
    assert_eq!(rollback(&control, &first).0, 200);
    assert!(!passes(&gateway, port, "/always"));
    assert_eq!(explained(&gateway, &[], (port, "/always"))["verdict"], "unknown");
    // An answer for good, or one taken back, would put the files in force.
    let waits = control.about("/always");
    let (status, problem) = control.decide(&waits, "approve", &json!({ "scope": "always" }));
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{problem}");
    let undo = format!("/v1/requests/{}/decision", name(&entry));
    let (status, problem) = control.call("DELETE", &undo, None);
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{problem}");
    assert!(!passes(&gateway, port, "/always"));
    gateway.write_policy(&KNOWN.replace("known.test", "edited.test"));
    gateway.signal("HUP");
    let (status, problem) = control.call("POST", "/v1/reload", None);
    assert_eq!(status, 200, "{problem}");
    assert!(!passes(&gateway, port, "/always"));
    assert_eq!(control.sandbox("default")["pinned"], first);
    gateway.signal("KILL");
    gateway.wait();
    gateway.restart(&[]);
    let control = Control::of(&gateway);
    assert_eq!(control.sandbox("default")["pinned"], first);
    assert!(!passes(&gateway, port, "/always"));
    assert_eq!(rollback(&control, &second).0, 200);
    assert!(passes(&gateway, port, "/always"));
    assert_eq!(control.call("POST", "/v1/sandboxes/default/policy/unpin", None).0, 200);
    let policy = control.get("/v1/sandboxes/default/policy").to_string();
    assert!(policy.contains("edited.test") && policy.contains("approved-r1"), "{policy}");
    assert!(passes(&gateway, port, "/always"));
}

#[test]
fn the_socket_the_answers_and_the_state_are_the_operators_alone() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a")).0, 403);
    control.approve(&control.one(0), &json!({ "scope": "always" }));
    let mode = |file: &str| {
        let meta = std::fs::symlink_metadata(gateway.state().join(file)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("control.sock"), 0o600);
    assert_eq!(mode("state.db"), 0o600);
    assert_eq!(mode("approved"), 0o700);
    assert_eq!(mode("approved/default.yaml"), 0o600);
}

#[test]
fn another_user_of_the_host_reaches_neither_the_queue_nor_the_state() {
    if !common::host::root() {
        return;
    }
    let gateway = asking("approval: { mode: queue }").start();
    let socket = gateway.state().join("control.sock");
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    // Even where every permission on the way is given away, its peer is not the operator.
    open(gateway.dir.path());
    open(&gateway.state());
    open(&socket);
    let (socket, database) = (socket.clone(), gateway.state().join("state.db"));
    let (heard, read) = common::host::as_uid(common::host::NOBODY, move || {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = b"GET /v1/requests HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";
        // It may be closed before it has said a word.
        drop(stream.write_all(ask));
        (read_all(&mut stream), std::fs::read(database).is_ok())
    });
    assert_eq!((heard, read), (Vec::new(), false));
}
