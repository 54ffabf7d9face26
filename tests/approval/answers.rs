//! What an answer lets through, and for how long: what was shown, as wide as was said, for whom it
//! was said (security.md 20 and 21).

use crate::approval_kit::{Control, HOLD, answer, asking, body, holding, name, record_on, refused};
use crate::approval_kit::{send, send_at, send_with};
use crate::common::{self, Gateway, Origin, PATIENCE, tool, wait_for};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// The answer to a request that nobody needs to be asked about any more.
fn passes(gateway: &Gateway, method: &str, port: u16, path: &str) {
    let mut stream = send(gateway, method, port, path);
    let control = Control::of(gateway);
    wait_for(PATIENCE, || {
        let mut byte = [0];
        let came = stream.peek(&mut byte).is_ok_and(|n| n > 0);
        assert!(came, "{method} {path} is held: {:#?}", control.pending());
        Some(())
    });
    assert_eq!(answer(&mut stream).0, 200, "{method} {path}");
}

/// Asserts that a request is asked about, and answers it with a denial for once.
fn asks(gateway: &Gateway, method: &str, port: u16, path: &str) {
    let control = Control::of(gateway);
    let mut stream = send(gateway, method, port, path);
    let entry = control.about(path.split('?').next().unwrap());
    assert_eq!(entry["method"], method);
    control.deny(&entry, &json!({ "scope": "once" }));
    assert_eq!(answer(&mut stream).0, 403);
}

#[test]
fn once_lets_through_one_request_exactly() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut first = send(&gateway, "GET", origin.port(), "/once");
    control.one(1);
    let mut second = send(&gateway, "GET", origin.port(), "/once");
    let entry = control.one(2);
    assert_eq!(control.approve(&entry, &json!({ "scope": "once" }))["released"], 1);
    assert_eq!(answer(&mut first).0, 200);
    // The key that was pressed twice: the entry is not what was shown any more.
    let (status, problem) = control.decide(&entry, "approve", &json!({ "scope": "once" }));
    assert_eq!((status, &problem["code"]), (409, &json!("changed")));
    let left = control.one(1);
    assert_eq!(origin.connections(), 1);
    control.approve(&left, &json!({ "scope": "once" }));
    assert_eq!(answer(&mut second).0, 200);
    asks(&gateway, "GET", origin.port(), "/once");
    let records = gateway.records(3);
    assert!(records[..2].iter().all(|r| r["by"] == "grant:r1" && r["request"] == "r1"));
}

#[test]
fn once_for_a_client_that_has_left_is_for_the_next_identical_request_alone() {
    let origin = Origin::ok("hi");
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", origin.port(), "/left?q=1")).0, 403);
    let entry = control.one(0);
    assert_eq!(control.approve(&entry, &json!({ "scope": "once" }))["released"], 0);
    let status = |path| answer(&mut send(&gateway, "GET", origin.port(), path)).0;
    assert_eq!(status("/left?q=2"), 403);
    assert_eq!(status("/left"), 403);
    assert_eq!(status("/left?q=1"), 200);
    assert_eq!(status("/left?q=1"), 403);
    assert_eq!(origin.connections(), 1);
    let passed = record_on(&gateway, "/left");
    assert!(passed["request"].is_string());
}

#[test]
fn a_held_client_that_leaves_as_it_is_answered_leaves_its_answer_to_the_next() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let held = send(&gateway, "GET", origin.port(), "/gone");
    let entry = control.one(1);
    drop(held);
    control.holds("default", 0);
    let entry = control.again(&entry);
    control.approve(&entry, &json!({ "scope": "once" }));
    passes(&gateway, "GET", origin.port(), "/gone");
    asks(&gateway, "GET", origin.port(), "/gone");
}

#[test]
fn a_decision_without_the_digest_of_what_was_shown_is_refused() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a")).0, 403);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/b")).0, 403);
    let (one, two) = (control.about("/a"), control.about("/b"));
    let mut forged = one.clone();
    forged["digest"] = two["digest"].clone();
    assert_eq!(control.decide(&forged, "approve", &json!({})).0, 409);
    forged["digest"] = json!("");
    assert_eq!(control.decide(&forged, "approve", &json!({})).0, 409);
    let path = format!("/v1/requests/{}/decision", name(&one));
    assert_eq!(control.call("POST", &path, Some(&json!({ "decision": "approve" }))).0, 400);
    assert_eq!(control.pending().len(), 2);
    // An entry that was answered is not answered again.
    control.deny(&one, &json!({}));
    assert_eq!(control.decide(&one, "approve", &json!({})).0, 409);
}

#[test]
fn a_path_is_covered_with_its_methods_and_nothing_beside_it() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", port, "/repos/7/issues?state=open");
    let mut other = send(&gateway, "GET", port, "/repos/8/issues");
    control.waits(2);
    let entry = control.about("/repos/7/issues");
    assert_eq!(entry["proposal"]["path"], "/repos/*/issues");
    assert_eq!(
        (&entry["proposal"]["also"], &entry["proposal"]["also_host"]),
        (&json!(1), &json!(1))
    );
    let decided = control.approve(&entry, &json!({ "breadth": "path" }));
    assert_eq!(decided["grant"], "g1");
    assert_eq!((answer(&mut held).0, answer(&mut other).0), (200, 200));
    passes(&gateway, "GET", port, "/repos/9/issues?any=query");
    asks(&gateway, "POST", port, "/repos/9/issues");
    asks(&gateway, "GET", port, "/repos/9/issues/1");
    asks(&gateway, "GET", port, "/repos/9/x/issues");
    let entry = {
        let _held = send(&gateway, "GET", port, "/other/1");
        control.about("/other/1")
    };
    let both = json!({ "path": "/other/**", "methods": ["GET", "PUT"], "scope": "session" });
    control.approve(&entry, &both);
    passes(&gateway, "PUT", port, "/other/a/b");
    asks(&gateway, "DELETE", port, "/other/a/b");
}

#[test]
fn a_host_is_covered_on_its_port_and_no_other_host_or_port() {
    let (origin, other) = (Origin::ok("hi"), Origin::ok("hi"));
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", origin.port(), "/a");
    control.approve(&control.one(1), &json!({ "breadth": "host" }));
    assert_eq!(answer(&mut held).0, 200);
    passes(&gateway, "DELETE", origin.port(), "/anything?at=all");
    asks(&gateway, "GET", other.port(), "/a");
    let authority = format!("other.test:{}", origin.port());
    let _held = send_with(&gateway, "GET", &authority, "/a", "\r\n");
    assert_eq!(control.about("/a")["host"], "other.test");
}

#[test]
fn an_answer_that_would_not_cover_its_own_entry_is_refused_and_makes_nothing() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a/1")).0, 403);
    let entry = control.one(0);
    for more in [
        json!({ "breadth": "path", "path": "/b/*" }),
        json!({ "breadth": "path", "methods": ["PUT"] }),
        json!({ "breadth": "path", "path": "/b/*", "scope": "always" }),
        json!({ "breadth": "path", "path": "no slash" }),
        json!({ "breadth": "path", "methods": [] }),
        json!({ "breadth": "path", "methods": ["a b"] }),
        json!({ "breadth": "host", "path": "/a/*" }),
        json!({ "scope": "once", "for": "1h" }),
        json!({ "for": "0s" }),
        json!({ "for": "366d" }),
        json!({ "reason": "x".repeat(501) }),
        json!({ "unknown": true }),
    ] {
        let (status, problem) = control.decide(&entry, "approve", &more);
        assert_eq!(status, 400, "{more}: {problem}");
    }
    assert_eq!(control.get("/v1/grants"), json!([]));
    assert_eq!(control.one(0)["digest"], entry["digest"]);
    assert!(!gateway.state().join("approved/default.yaml").exists());
}

#[test]
fn a_denial_reaches_the_agent_with_its_reason_and_for_the_session_stops_the_asking() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", 1, "/no");
    control.deny(&control.one(1), &json!({ "scope": "once", "reason": "use the mirror" }));
    let (status, text) = answer(&mut held);
    assert_eq!((status, refused(&text).0.as_str()), (403, "approval_denied"));
    assert!(String::from_utf8(text).unwrap().contains("use the mirror"));
    let mut held = send(&gateway, "GET", 1, "/no");
    let entry = control.one(1);
    control.deny(&entry, &json!({ "reason": "not today" }));
    assert_eq!(answer(&mut held).0, 403);
    let (status, text) = answer(&mut send(&gateway, "GET", 1, "/no"));
    assert_eq!((status, refused(&text).0.as_str()), (403, "approval_denied"));
    assert!(String::from_utf8(text).unwrap().contains("not today"));
    assert_eq!(control.pending().len(), 0);
    let records = gateway.records(3);
    let last = &records[2];
    assert_eq!((&last["by"], &last["outcome"]), (&json!("grant:g1"), &json!("refused")));
    assert_eq!(last["approval"]["decision"], "deny");
    assert_eq!(last["approval"]["reason"], "not today");
    assert_eq!(records[0]["by"], "grant:r1");
}

#[test]
fn of_two_answers_the_denial_wins_even_where_only_the_body_tells_them_apart() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let post =
        |text: &str| send_with(&gateway, "POST", &authority, "/api", &body("text/plain", text));
    let mut held = post("secret");
    control.deny(&control.one(1), &json!({}));
    assert_eq!(answer(&mut held).0, 403);
    let mut held = post("fine");
    control.approve(&control.one(1), &json!({ "breadth": "host" }));
    assert_eq!(answer(&mut held).0, 200);
    assert_eq!(answer(&mut post("also fine")).0, 200);
    let (status, text) = answer(&mut post("secret"));
    assert_eq!((status, refused(&text).0.as_str()), (403, "approval_denied"));
    assert!(!origin.heard().contains("secret"));
    assert!(origin.heard().contains("also fine"));
}

#[test]
fn an_answer_never_opens_what_a_rule_denies() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", port, "/a");
    control.approve(&control.one(1), &json!({ "breadth": "host" }));
    assert_eq!(answer(&mut held).0, 200);
    gateway.write_policy(&format!(
        "  d:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        \
         deny_rules: [ {{ method: \"*\", path: /secret }} ]\n        access: read-only"
    ));
    wait_for(PATIENCE, || {
        let (status, text) = answer(&mut send(&gateway, "GET", port, "/secret"));
        (status == 403 && refused(&text).0 == "policy_denied").then_some(())
    });
    passes(&gateway, "POST", port, "/b");
}

#[test]
fn an_answer_is_for_the_program_that_asked_unless_it_is_for_any() {
    if !tool("curl") {
        return;
    }
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let curl = || {
        Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30"])
            .arg("--proxy")
            .arg(format!("http://{}", gateway.proxy))
            .arg(format!("http://origin.test:{port}/a"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let code = |child: std::process::Child| {
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let child = curl();
    let entry = control.one(1);
    assert!(entry["client"]["binary"].as_str().unwrap().ends_with("curl"), "{entry}");
    control.approve(&entry, &json!({}));
    assert_eq!(code(child), "200");
    let mut held = send(&gateway, "GET", port, "/a");
    control.approve(&control.one(1), &json!({ "any_process": true, "breadth": "path" }));
    assert_eq!(answer(&mut held).0, 200);
    assert_eq!(code(curl()), "200");
    let grants = control.get("/v1/grants");
    assert_eq!(grants[0]["binary"], entry["client"]["binary"]);
    assert!(grants[1]["binary"].is_null());
    let first = name(&entry);
    assert_eq!(grants[0]["request"], first);
}

#[test]
fn a_grant_ahead_lets_through_and_releases_those_who_wait_and_ends_at_its_time() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", port, "/ahead/1");
    control.one(1);
    let url = format!("http://origin.test:{port}/ahead/*");
    let grant =
        control.grant(&json!({ "method": "GET", "url": url, "for": "2s", "reason": "trip" }));
    assert_eq!(answer(&mut held).0, 200);
    passes(&gateway, "GET", port, "/ahead/2");
    asks(&gateway, "GET", port, "/behind");
    wait_for(PATIENCE, || (control.get("/v1/grants") == json!([])).then_some(()));
    asks(&gateway, "GET", port, "/ahead/2");
    let ended = wait_for(PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["event"] == "grant.expired")
    });
    assert_eq!(ended["grant"], grant["grant"]);
    for (method, url) in [
        ("GET", "origin.test/a"),
        ("GET", "ftp://origin.test/a"),
        ("GET", "https://*/a"),
        ("GET", "https://policy.local/a"),
        ("GET", "https://origin.test/a?q=1"),
        ("GET", "https://origin.test/../a"),
        ("G T", "https://origin.test/a"),
        ("GET", "https://origin.test:http/a"),
        ("POST", "wss://origin.test/a"),
    ] {
        let (status, problem) =
            control.call("POST", "/v1/grants", Some(&json!({ "method": method, "url": url })));
        assert_eq!(status, 400, "{method} {url}: {problem}");
    }
    for method in ["GET", "get", "*"] {
        control.grant(&json!({ "method": method, "url": "wss://origin.test/a" }));
    }
}

#[test]
fn one_sandbox_sees_nothing_of_the_answers_to_another() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding()
        .sandbox(&format!("  other:\n    policy: [policy.yaml]\n    {HOLD}\n"))
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  \
             - { address: \"127.0.0.2:0\", sandbox: other }\n",
        )
        .start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", port, "/a");
    let entry = control.one(1);
    assert_eq!(entry["sandbox"], "default");
    control.approve(&entry, &json!({ "breadth": "host", "any_process": true }));
    assert_eq!(answer(&mut held).0, 200);
    let authority = format!("origin.test:{port}");
    let _other = send_at(gateway.listeners[1], "GET", &authority, "/a", "\r\n");
    let entry = control.one(1);
    assert_eq!(entry["sandbox"], "other");
    let once = control.approve(&entry, &json!({ "scope": "once" }));
    assert_eq!(once["released"], 1);
    let which = json!({ "method": "GET", "url": "https://a.test/" });
    let (status, problem) = control.call("POST", "/v1/grants", Some(&which));
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("add -s NAME"), "{problem}");
    let only = control.get("/v1/grants?sandbox=other");
    assert_eq!(only, json!([]));
    assert_eq!(control.get("/v1/requests?sandbox=other").as_array().unwrap().len(), 1);
}

fn approved(gateway: &Gateway) -> String {
    common::text(&gateway.state().join("approved/default.yaml"))
}

#[test]
fn always_writes_a_file_of_the_operators_own_and_says_there_who_when_why() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let baseline = common::text(&gateway.dir.path().join("policy.yaml"));
    let authority = format!("origin.test:{port}");
    let mut held = send_with(&gateway, "POST", &authority, "/items?a=1", &body("text/plain", "x"));
    let entry = control.one(1);
    assert!(
        entry["proposal"]["yaml"].as_str().unwrap().contains("wider than the answer: any body")
    );
    let why = "why: \"x\"\n  injected: { endpoints: [] }";
    let decided =
        control.approve(&entry, &json!({ "scope": "always", "reason": why, "via": "cli" }));
    let path = gateway.state().join("approved/default.yaml");
    assert_eq!(decided["file"], path.display().to_string());
    assert_eq!(answer(&mut held).0, 200);
    let text = approved(&gateway);
    assert!(text.contains(&format!("# {} approved by ", name(&entry))), "{text}");
    assert!(text.contains("via cli at 2"), "{text}");
    assert!(text.contains("# why: why: \"x\"\\n  injected"), "{text}");
    assert!(text.contains("method: \"POST\", path: \"/items\", query: { \"a\": \"1\" }"), "{text}");
    assert_eq!(common::text(&gateway.dir.path().join("policy.yaml")), baseline);
    let policy = control.get("/v1/sandboxes/default/policy");
    let ours: Vec<&Value> = policy["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["name"] == "approved-r1")
        .collect();
    assert_eq!(ours.len(), 1, "{policy}");
    let record = record_on(&gateway, "/items");
    assert_eq!((&record["by"], &record["approval"]["scope"]), (&json!("policy"), &json!("always")));
    assert_eq!(record["request"], "r1");
    // What was asked is allowed by a rule; what was not is asked.
    let mut again = send_with(&gateway, "POST", &authority, "/items?a=1", &body("text/plain", "x"));
    assert_eq!(answer(&mut again).0, 200);
    asks(&gateway, "POST", port, "/items?a=2");
    asks(&gateway, "GET", port, "/items");
    let decision = wait_for(PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["event"] == "decision")
    });
    assert_eq!((&decision["scope"], &decision["via"]), (&json!("always"), &json!("cli")));
}

#[test]
fn an_answer_for_good_is_recorded_as_wide_as_it_is() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a/1")).0, 403);
    control.approve(&control.one(0), &json!({ "scope": "always", "breadth": "host" }));
    let decision = wait_for(PATIENCE, || {
        gateway.events("default").into_iter().find(|event| event["event"] == "decision")
    });
    assert_eq!(decision["covers"], "* http://origin.test:1/**");
}

#[test]
fn a_denial_for_good_reaches_who_waits_with_its_reason_and_is_a_quiet_rule() {
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", 1, "/no?a=1");
    let entry = control.one(1);
    control.deny(&entry, &json!({ "scope": "always", "reason": "never" }));
    let (status, text) = answer(&mut held);
    assert_eq!((status, refused(&text).0.as_str()), (403, "approval_denied"));
    assert!(String::from_utf8(text).unwrap().contains("never"));
    assert!(approved(&gateway).contains("quiet: true"));
    let (status, text) = answer(&mut send(&gateway, "GET", 1, "/no?a=1"));
    assert_eq!((status, refused(&text).0.as_str()), (403, "policy_denied"));
    asks(&gateway, "GET", 1, "/no");
}

#[test]
fn a_hostile_path_query_or_method_widens_no_rule() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let hostile =
        ["/a/*", "/[a-z]", "/{a,b}", "/**", "/a//b;c=1", "/a'%22:%20x", "/q?k=a%5C*b&k=*"];
    for path in hostile {
        let mut held = send(&gateway, "GET", port, path);
        let asked = wait_for(PATIENCE, || control.pending().pop().ok_or(path).ok());
        let (status, problem) = control.decide(&asked, "approve", &json!({ "scope": "always" }));
        assert_eq!(status, 200, "{path}: {problem}");
        assert_eq!(answer(&mut held).0, 200, "{path}");
    }
    for path in ["/a/x", "/q", "/b", "/c/d", "/q?k=a%5Cxb&k=*", "/q?k=axb", "/a//x;c=1"] {
        asks(&gateway, "GET", port, path);
    }
    // A method that a rule would read as all of them, asked about ahead.
    let ahead = json!({ "method": "*", "url": format!("http://origin.test:{port}/star") });
    let rest = body("application/json", &ahead.to_string());
    let mut asked = send_with(&gateway, "POST", "policy.local", "/v1/requests", &rest);
    assert_eq!(answer(&mut asked).0, 202);
    let entry = control.one(0);
    assert_eq!(control.decide(&entry, "approve", &json!({ "scope": "always" })).0, 400);
    assert_eq!(control.decide(&entry, "approve", &json!({ "breadth": "path" })).0, 400);
    control.approve(&entry, &json!({}));
    asks(&gateway, "GET", port, "/star");
}
