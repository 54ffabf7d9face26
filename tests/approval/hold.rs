//! What no rule knows is held until an operator answers: nothing of it leaves before, all of it
//! leaves after, and who stops waiting frees the place.

use crate::approval_kit::{Control, HOLD, answer, asking, body, holding, name, record_on, refused};
use crate::approval_kit::{KNOWN, send, send_with, status};
use crate::common::dns::DnsServer;
use crate::common::{Origin, PATIENCE, Setup, header, read_all, read_head, read_response};
use crate::common::{problem, wait_for};
use crate::http_kit;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn what_is_held_leaves_when_it_is_approved_and_nothing_of_it_before() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let rest = body("text/plain", "the whole body");
    let authority = format!("origin.test:{}", origin.port());
    let mut held = send_with(&gateway, "POST", &authority, "/up?q=1", &rest);
    let entry = control.one(1);
    assert_eq!(entry["kind"], "http");
    assert_eq!(entry["method"], "POST");
    assert_eq!((&entry["path"], &entry["query"]), (&json!("/up"), &json!("q=1")));
    assert_eq!(entry["body"]["preview"], "the whole body");
    assert_eq!(entry["body"]["longer"], false);
    assert_eq!(origin.connections(), 0);
    let decided = control.approve(&entry, &json!({ "scope": "once", "via": "term" }));
    assert_eq!(decided["released"], 1);
    assert_eq!(answer(&mut held), (200, b"hi".to_vec()));
    let heard = origin.heard();
    assert!(heard.starts_with("POST /up?q=1 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\nthe whole body"), "{heard}");
    let record = gateway.record(1);
    assert_eq!(record["request"], entry["request"]);
    assert_eq!(record["by"], format!("grant:{}", name(&entry)));
    assert_eq!(record["approval"]["scope"], "once");
    assert_eq!(record["approval"]["via"], "term");
    assert_eq!((&record["verdict"], &record["outcome"]), (&json!("allow"), &json!("passed")));
    assert!(record["ms"]["held"].as_f64().unwrap() > 0.0, "{record}");
}

#[test]
fn nothing_is_resolved_while_it_is_held() {
    let origin = Origin::ok("hi");
    let resolver = DnsServer::start();
    resolver.answer("asked.test", &["127.0.0.1"]);
    let nameservers = format!("  nameservers: [\"{}\"]\n", resolver.address());
    let gateway = holding().upstream(&nameservers).start();
    let control = Control::of(&gateway);
    let authority = format!("asked.test:{}", origin.port());
    let mut held = send_with(&gateway, "GET", &authority, "/", "\r\n");
    let entry = control.one(1);
    assert_eq!((resolver.lookups("asked.test"), origin.connections()), (0, 0));
    control.approve(&entry, &json!({}));
    assert_eq!(answer(&mut held).0, 200);
    assert!(resolver.lookups("asked.test") > 0);
}

#[test]
fn askers_of_the_same_share_an_entry_and_one_answer_releases_all() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut all: Vec<TcpStream> =
        (0..3).map(|_| send(&gateway, "GET", origin.port(), "/same")).collect();
    let entry = control.one(3);
    assert_eq!(entry["count"], 3);
    assert_eq!(control.approve(&entry, &json!({}))["released"], 3);
    assert!(all.iter_mut().all(|held| answer(held).0 == 200));
    for record in gateway.records(3) {
        assert_eq!(record["request"], entry["request"]);
        assert_eq!((&record["by"], &record["rule"]), (&json!("grant:g1"), &json!("grant:g1")));
        assert_eq!(record["approval"]["scope"], "session");
    }
}

#[test]
fn another_query_or_body_is_a_variant_that_is_shown_and_never_carried_along() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let variants = [
        ("/v?q=1", body("text/plain", "one")),
        ("/v?q=2", body("text/plain", "one")),
        ("/v", body("text/plain", "one")),
        ("/v?q=1", body("text/plain", "two")),
        ("/v?q=1", body("text/html", "one")),
        ("/v?q=1", "\r\n".to_owned()),
    ];
    let mut held: Vec<TcpStream> = variants
        .iter()
        .enumerate()
        .map(|(at, (path, rest))| {
            let held = send_with(&gateway, "POST", &authority, path, rest);
            control.waits(at + 1);
            held
        })
        .collect();
    let entries = control.pending();
    assert_eq!(entries[0]["variants"].as_array().unwrap().len(), 5);
    control.approve(&entries[0], &json!({}));
    assert_eq!(answer(&mut held[0]).0, 200);
    assert_eq!(control.waits(5).iter().filter(|entry| entry["held"] == 1).count(), 5);
    // The same again needs no answer; a body that only begins like it does.
    let mut again = send_with(&gateway, "POST", &authority, "/v?q=1", &variants[0].1);
    assert_eq!(answer(&mut again).0, 200);
    let longer = body("text/plain", "one and more");
    let _more = send_with(&gateway, "POST", &authority, "/v?q=1", &longer);
    control.waits(6);
    assert_eq!(origin.heard().matches("POST /v").count(), 2);
}

#[test]
fn a_hold_ends_at_its_time_the_entry_waits_on_and_a_later_answer_lets_the_retry_pass() {
    let origin = Origin::ok("hi");
    let gateway = asking("approval: { mode: hold, timeout: 1s, unattended: 1s }").start();
    let control = Control::of(&gateway);
    let began = Instant::now();
    let mut held = send(&gateway, "GET", origin.port(), "/late");
    let (head, text) = read_response(&mut held);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(status(&head), 403, "{head}");
    assert!(header(&head, "retry-after").is_some(), "{head}");
    let entry = control.one(0);
    assert_eq!(header(&head, "x-portcullis-request").unwrap(), name(&entry));
    assert!(head.starts_with(&format!("HTTP/1.1 403 Forbidden by policy {}", name(&entry))));
    assert_eq!(refused(&text), ("approval_timeout".to_owned(), name(&entry).to_owned()));
    let record = gateway.record(1);
    assert_eq!(record["request"], entry["request"]);
    assert_eq!((&record["verdict"], &record["outcome"]), (&json!("unknown"), &json!("refused")));
    assert!(record["ms"]["held"].as_f64().unwrap() >= 1000.0, "{record}");
    control.approve(&entry, &json!({}));
    assert_eq!(answer(&mut send(&gateway, "GET", origin.port(), "/late")).0, 200);
}

#[test]
fn a_hold_is_short_while_nobody_listens_and_long_while_somebody_does() {
    let gateway = asking("approval: { mode: hold, timeout: 20s, unattended: 1s }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/nobody")).0, 403);
    let pane = control.attend();
    let began = Instant::now();
    let mut held = send(&gateway, "GET", 1, "/somebody");
    let entry = control.about("/somebody");
    wait_for(PATIENCE, || (began.elapsed() > Duration::from_millis(1500)).then_some(()));
    assert_eq!(control.again(&entry)["held"], 1);
    // Who waits when the last listener leaves has had its time.
    drop(pane);
    let (code, text) = answer(&mut held);
    assert_eq!((code, refused(&text).0.as_str()), (403, "approval_timeout"));
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn queue_answers_at_once_and_asks_and_deny_never_asks() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    let (code, text) = answer(&mut send(&gateway, "GET", 1, "/queued"));
    let entry = control.one(0);
    assert_eq!((code, refused(&text)), (403, ("approval_required".into(), name(&entry).into())));
    let problem = problem(&text);
    assert_eq!(problem["next_steps"][0]["action"], "wait", "{problem}");
    let gateway = asking("approval: { mode: deny }").start();
    let (code, text) = answer(&mut send(&gateway, "GET", 1, "/denied"));
    assert_eq!((code, refused(&text)), (403, ("policy_denied".into(), String::new())));
    assert_eq!(Control::of(&gateway).pending().len(), 0);
    assert!(gateway.record(1)["request"].is_null());
}

#[test]
fn new_hosts_asks_only_about_hosts_that_no_rule_covers_and_quiet_denials_never_ask() {
    let entry = "  known:\n    endpoints:\n      - host: known.test\n        port: 80\n        \
                 protocol: rest\n        access: read-only\n        deny_rules:\n          \
                 - { method: POST, path: /telemetry, quiet: true }";
    let gateway =
        Setup::policy(entry).sandbox("    approval: { mode: queue, ask: new-hosts }\n").start();
    let control = Control::of(&gateway);
    let ask = |method: &str, host: &str, path: &str| {
        let (code, text) = answer(&mut send_with(&gateway, method, host, path, "\r\n"));
        assert_eq!(code, 403);
        refused(&text).0
    };
    assert_eq!(ask("POST", "known.test:80", "/x"), "policy_denied");
    assert_eq!(ask("POST", "known.test:80", "/telemetry"), "policy_denied");
    assert_eq!(control.pending().len(), 0);
    assert_eq!(ask("POST", "new.test:80", "/x"), "approval_required");
    assert_eq!(control.one(0)["host"], "new.test");
}

#[test]
fn a_held_client_that_leaves_frees_its_place_however_it_came() {
    let gateway =
        asking("approval: { mode: hold, timeout: 20s, unattended: 20s, max_held: 1 }").start();
    let control = Control::of(&gateway);
    let frees = |held: Box<dyn std::any::Any>| {
        control.holds("default", 1);
        drop(held);
        control.holds("default", 0);
    };
    frees(Box::new(send(&gateway, "GET", 1, "/plain")));
    let rest = body("text/plain", "half");
    frees(Box::new(send_with(&gateway, "POST", "origin.test:1", "/body", &rest)));
    let mut tls = gateway.tls("origin.test:1", "origin.test", &["http/1.1"]);
    write!(tls, "GET /tls HTTP/1.1\r\nHost: origin.test:1\r\n\r\n").unwrap();
    tls.flush().unwrap();
    frees(Box::new(tls));
    let mut raw = gateway.tunnel("origin.test:1");
    raw.write_all(b"\x00raw bytes").unwrap();
    frees(Box::new(raw));
    // Half closed before its answer is gone, too; should it still read, it is not told a success.
    let mut half = send(&gateway, "GET", 1, "/half");
    control.holds("default", 1);
    half.shutdown(std::net::Shutdown::Write).unwrap();
    control.holds("default", 0);
    let (code, text) = answer(&mut half);
    let told = problem(&text);
    assert_eq!((code, &told["status"]), (400, &json!(400)));
    assert_eq!(
        (&told["error"], &told["code"]),
        (&json!("malformed_request"), &json!("client_gone"))
    );
    for record in gateway.records(5) {
        assert_eq!(record["code"], "client_gone", "{record}");
        assert!(record["request"].is_string(), "{record}");
        assert_eq!(record["sent"], false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_http_2_that_is_reset_frees_its_place_and_its_sibling_is_answered() {
    let origin = http_kit::H2Origin::tls(async |_, respond| http_kit::reply(respond, 200, b"hi"));
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut client = http_kit::client(&gateway, port).await;
    let request = |path| http_kit::request("GET", port, path).body(()).unwrap();
    let (response, mut stream) = client.send_request(request("/reset"), true).unwrap();
    tokio::task::block_in_place(|| control.holds("default", 1));
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    tokio::task::block_in_place(|| control.holds("default", 0));
    let (response, _) = client.send_request(request("/kept"), true).unwrap();
    tokio::task::block_in_place(|| {
        let entry = control.about("/kept");
        assert_eq!(entry["scheme"], "https");
        control.approve(&entry, &json!({}));
    });
    assert_eq!(http_kit::soon(response).await.unwrap().status(), 200);
}

#[test]
fn a_policy_that_changes_while_it_is_held_decides() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let mut allowed = send(&gateway, "GET", port, "/allowed");
    let mut denied = send(&gateway, "DELETE", port, "/denied");
    let mut unknown = send(&gateway, "PUT", port, "/unknown");
    let before = control.waits(3);
    gateway.write_policy(&format!(
        "{KNOWN}\n  new:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        \
         protocol: rest\n        access: read-only\n        deny_rules: [ {{ method: DELETE, path: \"/**\" }} ]"
    ));
    assert_eq!(answer(&mut allowed).0, 200);
    let (code, text) = answer(&mut denied);
    assert_eq!((code, refused(&text).0.as_str()), (403, "policy_denied"));
    let left = control.one(1);
    assert_eq!(left["method"], "PUT");
    // It is asked under the new policy: an answer to what was shown before is refused.
    let shown = before.iter().find(|entry| entry["request"] == left["request"]).unwrap();
    assert_ne!(left["digest"], shown["digest"]);
    assert_eq!(left["code"], "method_not_allowed");
    let (code, problem) = control.decide(shown, "approve", &json!({}));
    assert_eq!((code, &problem["code"]), (409, &json!("changed")));
    control.approve(&left, &json!({}));
    assert_eq!(answer(&mut unknown).0, 200);
}

#[test]
fn the_first_64_kib_of_a_body_are_shown_and_all_of_it_goes_up_unchanged() {
    let (sender, received) = std::sync::mpsc::channel();
    let origin = Origin::plain(move |mut stream| {
        let head = read_head(&mut stream);
        let mut body = Vec::new();
        if let Some(length) = header(&head, "content-length") {
            body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
        } else {
            let (read, _) = http_kit::read_body(&mut stream, &head);
            body.extend(read);
        }
        sender.send(body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let text: Vec<u8> = (0..300_000_u32).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
    let head = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    let chunked = "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (at, head) in [head.as_str(), chunked].into_iter().enumerate() {
        let path = format!("/big{at}");
        let mut held = send_with(&gateway, "POST", &authority, &path, head);
        let mut write = held.try_clone().unwrap();
        let (sent, whole) = (text.clone(), head != chunked);
        let writer = std::thread::spawn(move || {
            if whole {
                return write.write_all(&sent).unwrap();
            }
            for part in sent.chunks(10_000) {
                write!(write, "{:x}\r\n", part.len()).unwrap();
                write.write_all(part).unwrap();
                write.write_all(b"\r\n").unwrap();
            }
            write.write_all(b"0\r\n\r\n").unwrap();
        });
        let entry = control.about(&path);
        let shown = &entry["body"];
        assert_eq!((&shown["seen"], &shown["longer"]), (&json!(65536), &json!(true)));
        assert_eq!(shown["preview"].as_str().unwrap().as_bytes(), &text[..65536]);
        let unseen = if head == chunked { json!(null) } else { json!(text.len() - 65536) };
        assert_eq!(shown["unseen"], unseen);
        assert_eq!(origin.connections(), at);
        control.approve(&entry, &json!({ "scope": "once" }));
        assert_eq!(answer(&mut held).0, 200);
        writer.join().unwrap();
        assert!(received.recv_timeout(PATIENCE).unwrap() == text, "other bytes went up");
        assert_eq!(record_on(&gateway, &path)["upload"], 300_000);
    }
}

#[test]
fn a_body_that_trickles_is_asked_about_without_waiting_for_it() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let head = "Content-Type: text/plain\r\nContent-Length: 10\r\n\r\nfirst";
    let mut held = send_with(&gateway, "POST", &authority, "/slow", head);
    let entry = control.one(1);
    assert_eq!(entry["body"]["preview"], "first");
    assert_eq!((&entry["body"]["unseen"], &entry["body"]["longer"]), (&json!(5), &json!(true)));
    held.write_all(b" last").unwrap();
    control.approve(&entry, &json!({ "scope": "once" }));
    assert_eq!(answer(&mut held).0, 200);
    assert!(origin.heard().ends_with("first last"), "{}", origin.heard());
}

/// What nobody saw is not what was shown: another body with the same beginning is another request.
#[test]
fn no_answer_holds_for_a_body_that_was_not_seen_whole() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let chunked = "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let long =
        format!("Content-Type: text/plain\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(65_536));
    let waits =
        "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    for (at, head) in [chunked, &long, waits].into_iter().enumerate() {
        let path = format!("/unseen{at}");
        let held = send_with(&gateway, "POST", &authority, &path, head);
        let entry = control.about(&path);
        assert_eq!(entry["body"]["longer"], true);
        let codes = entry["risk"].as_array().unwrap();
        assert!(codes.iter().any(|note| note["code"] == "body_unseen"), "{codes:?}");
        let (status, problem) = control.decide(&entry, "approve", &json!({}));
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("approve it once"), "{problem}");
        assert_eq!(control.again(&entry)["state"], "pending");
        // Any body may be let through by who says so, and one that begins so forbidden.
        control.deny(&entry, &json!({}));
        drop(held);
        let mut again = send_with(&gateway, "POST", &authority, &path, head);
        assert_eq!(answer(&mut again).0, 403, "{path}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_client_that_waits_for_100_continue_has_no_preview_and_says_so() {
    let origin = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        assert!(header(&head, "expect").is_some(), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let head = "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut held = send_with(&gateway, "PUT", &authority, "/expects", head);
    let entry = control.one(1);
    assert_eq!((&entry["body"]["waits"], &entry["body"]["seen"]), (&json!(true), &json!(0)));
    assert_eq!(entry["body"]["unseen"], 4);
    control.approve(&entry, &json!({ "scope": "once" }));
    assert!(read_head(&mut held).starts_with("HTTP/1.1 100"));
    held.write_all(b"body").unwrap();
    assert_eq!(answer(&mut held).0, 200);
}

#[test]
fn a_gateway_that_stops_refuses_whom_it_holds() {
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", 1, "/held");
    control.one(1);
    gateway.signal("TERM");
    let (code, text) = answer(&mut held);
    assert_eq!((code, refused(&text).0.as_str()), (503, "draining"));
    assert!(gateway.wait().success());
    assert_eq!(gateway.records(1)[0]["code"], "draining");
}

#[test]
fn a_held_request_that_dies_with_the_gateway_has_a_record() {
    let mut gateway = holding().start();
    let control = Control::of(&gateway);
    let held = send(&gateway, "GET", 1, "/dies");
    let entry = control.one(1);
    // The writer's thread is at most 50 ms behind.
    let journal = gateway.state().join("open.json");
    wait_for(PATIENCE, || std::fs::read_to_string(&journal).ok()?.contains("/dies").then_some(()));
    gateway.signal("KILL");
    gateway.wait();
    drop(held);
    gateway.restart(&[]);
    let record = record_on(&gateway, "/dies");
    assert_eq!(record["request"], entry["request"]);
    assert_eq!((&record["verdict"], &record["sent"]), (&json!("unknown"), &json!(false)));
}

#[test]
fn a_connection_is_good_for_the_next_request_after_a_hold() {
    let origin = Origin::ok("hi");
    let gateway = asking(HOLD).start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", origin.port(), "/first");
    control.deny(&control.one(1), &json!({ "reason": "no\u{1b}[2J\nline" }));
    let (code, text) = answer(&mut held);
    assert_eq!((code, refused(&text).0.as_str()), (403, "approval_denied"));
    let detail = problem(&text)["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with(": no\\u{1b}[2J\\nline"), "{detail}");
    let authority = format!("origin.test:{}", origin.port());
    write!(held, "GET http://{authority}/second HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    control.approve(&control.about("/second"), &json!({ "scope": "once" }));
    assert_eq!(answer(&mut held), (200, b"hi".to_vec()));
    held.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut held), b"");
}
