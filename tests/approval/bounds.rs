//! A flood of questions fills the queue of who floods, in bounded memory, and says what it
//! dropped; who else asks is seen and answered meanwhile (security.md 20).

use crate::approval_kit::{
    self, Control, HOLD, answer, asking, body, name, refused, send, send_at, send_with,
};
use crate::common::{self, Gateway, Origin, PATIENCE, limits, read_response, wait_for};
use serde_json::json;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Resident memory in MiB.
fn memory(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Two sandboxes; the first queues and floods.
fn two(queue: &str) -> Gateway {
    asking(queue)
        .sandbox(&format!("  other:\n    policy: [policy.yaml]\n    {HOLD}\n"))
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  \
             - { address: \"127.0.0.2:0\", sandbox: other }\n",
        )
        .start()
}

/// Sends `count` requests, each another, on one connection, many at a time; counts the statuses.
fn flood(at: SocketAddr, thread: usize, count: usize, tally: &[AtomicUsize; 2]) {
    let mut stream = TcpStream::connect(at).unwrap();
    limits(&stream);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for batch in 0..count / 100 {
        let mut bytes = Vec::new();
        for n in 0..100 {
            let path = format!("/{thread}/{batch}/{n}?{n}");
            write!(bytes, "GET http://flood{n}.test{path} HTTP/1.1\r\nHost: flood{n}.test\r\n\r\n")
                .unwrap();
        }
        stream.write_all(&bytes).unwrap();
        for _ in 0..100 {
            let (head, _) = read_response(&mut reader);
            match approval_kit::status(&head) {
                403 => tally[0].fetch_add(1, Ordering::Relaxed),
                429 => tally[1].fetch_add(1, Ordering::Relaxed),
                other => panic!("{other}: {head}"),
            };
        }
    }
}

/// The question of the sandbox that does not flood, as it is shown.
fn calm(control: &Control, path: &str, held: &mut TcpStream) -> serde_json::Value {
    let asked = Instant::now();
    wait_for(PATIENCE, || {
        let listed = control.get("/v1/requests?state=pending&sandbox=other");
        let shown = listed.as_array().unwrap().iter().find(|e| e["path"] == path).cloned();
        // What was answered without being asked about is worth reading.
        let late = shown.is_none() && asked.elapsed() > PATIENCE / 2;
        assert!(!late, "not asked: {:?}", answer(held));
        shown
    })
}

#[test]
fn a_flood_of_100_000_questions_is_bounded_says_what_it_dropped_and_hides_nobody_else() {
    const THREADS: usize = 4;
    const EACH: usize = 25_000;
    let origin = Origin::ok("hi");
    let gateway = two("approval: { mode: queue }");
    let control = Control::of(&gateway);
    // A pane that stopped reading.
    let _pane = control.attend();
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/first")).0, 403);
    let (before, began) = (memory(&gateway), Instant::now());
    let tally = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let authority = format!("origin.test:{}", origin.port());
    let mut slowest = Duration::ZERO;
    let mut answered = 0;
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn({
                    let (tally, proxy) = (&tally, gateway.proxy);
                    move || flood(proxy, n, EACH, tally)
                })
            })
            .collect();
        while !floods.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let asked = Instant::now();
            let path = format!("/calm/{answered}");
            let mut held = send_at(gateway.listeners[1], "GET", &authority, &path, "\r\n");
            let entry = calm(&control, &path, &mut held);
            control.approve(&entry, &json!({ "scope": "once" }));
            assert_eq!(answer(&mut held).0, 200);
            slowest = slowest.max(asked.elapsed());
            answered += 1;
        }
    });
    let took = began.elapsed();
    let [queued, dropped] = tally.map(AtomicUsize::into_inner);
    let after = memory(&gateway);
    let rate = (THREADS * EACH) as f64 / took.as_secs_f64();
    println!(
        "{} questions in {took:.1?} ({rate:.0} a second): {queued} queued, {dropped} dropped; \
         memory {before} MiB before, {after} MiB after; {answered} questions of another sandbox \
         shown, answered and served meanwhile, the slowest in {slowest:.1?}",
        THREADS * EACH
    );
    assert_eq!((queued, queued + dropped), (999, THREADS * EACH));
    let status = control.sandbox("default");
    assert_eq!((&status["pending"], &status["dropped"]), (&json!(1000), &json!(dropped)));
    let warnings = control.get("/v1/status")["warnings"].to_string();
    assert!(warnings.contains(&format!("{dropped} questions were dropped")), "{warnings}");
    assert!(after < before + 128, "{before} MiB grew to {after} MiB");
    assert!(answered > 0 && slowest < Duration::from_secs(10), "{answered}, {slowest:?}");
    // The first question is where it was, and an answer makes room.
    let first = control.about("/first");
    assert_eq!(name(&first), "r1");
    control.deny(&first, &json!({ "scope": "once" }));
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/last")).0, 403);
}

#[test]
fn large_heads_and_bodies_and_a_pane_that_does_not_read_fill_no_memory() {
    const MOST: usize = 300;
    let gateway = asking("approval: { mode: queue, max_pending: 300 }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/first")).0, 403);
    let _pane = control.attend();
    let before = memory(&gateway);
    let rest =
        format!("X-Pad: {}\r\n{}", "h".repeat(60_000), body("text/plain", &"b".repeat(60_000)));
    // What is asked again is told again.
    for n in (0..MOST + 50).chain((0..4).flat_map(|_| 0..MOST - 1)) {
        let mut stream = send_with(&gateway, "POST", "big.test", &format!("/{n}"), &rest);
        let (status, _) = answer(&mut stream);
        assert!(status == 403 || status == 429, "{status}");
    }
    let after = memory(&gateway);
    println!("1550 questions of 120 KB, 300 distinct: {before} MiB before, {after} MiB after");
    assert_eq!(control.sandbox("default")["pending"], MOST);
    assert!(after < before + 256, "{before} MiB grew to {after} MiB");
    // Less of a body is shown than was read where others have taken the room, and it is said.
    let list = control.pending();
    let shown: usize =
        list.iter().map(|e| e["body"]["preview"].as_str().unwrap_or_default().len()).sum();
    assert!(shown <= (16 << 20) + MOST * 4096, "{shown}");
    let last = list.last().unwrap();
    let (seen, unseen) = (&last["body"]["seen"], &last["body"]["unseen"]);
    assert_eq!((seen, unseen), (&json!(4096), &json!(60_000 - 4096)));
}

#[test]
fn no_more_are_held_than_may_be_and_each_sandbox_has_places_of_its_own() {
    let gateway = two("approval: { mode: hold, timeout: 20s, unattended: 20s, max_held: 2 }");
    let control = Control::of(&gateway);
    let held: Vec<TcpStream> = (0..2).map(|n| send(&gateway, "GET", 1, &format!("/{n}"))).collect();
    control.holds("default", 2);
    let (status, text) = answer(&mut send(&gateway, "GET", 1, "/over"));
    assert_eq!((status, refused(&text)), (429, ("queue_full".to_owned(), "r3".to_owned())));
    let _theirs = send_at(gateway.listeners[1], "GET", "origin.test:1", "/theirs", "\r\n");
    control.holds("other", 1);
    drop(held);
    control.holds("default", 0);
    let _next = send(&gateway, "GET", 1, "/next");
    control.holds("default", 1);
}

#[test]
fn a_question_whose_time_is_over_goes_and_makes_room() {
    let gateway = asking("approval: { mode: queue, keep: 1s, max_pending: 1 }").start();
    let control = Control::of(&gateway);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/a")).0, 403);
    let entry = control.one(0);
    let (status, text) = answer(&mut send(&gateway, "GET", 1, "/b"));
    assert_eq!((status, refused(&text).0.as_str()), (429, "queue_full"));
    control.waits(0);
    assert_eq!(control.again(&entry)["state"], "expired");
    assert_eq!(control.decide(&entry, "approve", &json!({})).0, 409);
    assert_eq!(answer(&mut send(&gateway, "GET", 1, "/b")).0, 403);
    assert_eq!(control.one(0)["path"], "/b");
}

/// What the log said of numbers that could not be reserved.
fn failures(gateway: &Gateway) -> usize {
    gateway.log().matches("no more requests can be numbered").count()
}

#[test]
fn numbers_that_could_not_be_reserved_are_reserved_later_without_being_asked_for() {
    let gateway = asking("approval: { mode: queue }").start();
    let db = rusqlite::Connection::open(gateway.state().join("state.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let reserved = || -> i64 {
        let next = "SELECT next FROM counters WHERE name = 'request'";
        db.query_row(next, [], |row| row.get(0)).unwrap()
    };
    let before = reserved();
    db.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON counters
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .unwrap();
    // More are wanted when half of the 100 are left.
    for n in 0..60 {
        assert_eq!(answer(&mut send(&gateway, "GET", 1, &format!("/{n}"))).0, 403);
    }
    // What was asked for while numbers were wanted may be tried for twice more; then nobody asks.
    let known = failures(&gateway);
    wait_for(PATIENCE, || (failures(&gateway) > known + 2).then_some(()));
    assert_eq!(reserved(), before);
    db.execute_batch("DROP TRIGGER full").unwrap();
    wait_for(PATIENCE, || (reserved() > before).then_some(()));
}

#[test]
fn terminal_escapes_bidi_marks_and_long_names_come_as_plain_text() {
    let gateway = asking("approval: { mode: queue }").start();
    let control = Control::of(&gateway);
    let path = format!("/%1B[2J/{}", "%E2%80%AE".repeat(800));
    let (status, _) = answer(&mut send_with(&gateway, "GET", "origin.test:1", &path, "\r\n"));
    assert_eq!(status, 400, "an escaped control byte is no path");
    let path = format!("/{}", "%E2%80%AE".repeat(800));
    let rest = "X-Evil: \u{202e}\u{200b}\r\nX-Tab: a\tb\r\n\r\n";
    let host = format!("xn--pple-43d.{}.test", "a".repeat(60));
    assert_eq!(answer(&mut send_with(&gateway, "GET", &host, &path, rest)).0, 403);
    let entry = control.one(0);
    assert_eq!(entry["host"], host);
    assert!(entry["unicode"].as_str().unwrap().starts_with('\u{430}'), "{entry}");
    assert!(entry["path"].as_str().unwrap().is_ascii());
    // The socket carries JSON: a control byte in a value is escaped there.
    let mut socket =
        std::os::unix::net::UnixStream::connect(gateway.state().join("control.sock")).unwrap();
    socket.write_all(b"GET /v1/requests HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n").unwrap();
    let raw = common::read_all(&mut socket);
    assert!(!raw.contains(&0x1b) && !raw.contains(&b'\t'), "a raw control byte");
    let risks = entry["risk"].to_string();
    assert!(risks.contains("idn") || risks.contains("look"), "{risks}");
}

/// Whoever reads the queue reads all of it: what is as long as its client likes is bounded together.
#[test]
fn a_flood_of_long_paths_leaves_the_queue_readable() {
    let gateway = two("approval: { mode: queue }");
    let control = Control::of(&gateway);
    let mut stream = gateway.connect();
    limits(&stream);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut full = 0;
    for n in 0..300 {
        let path = format!("/{n}/{}", "*".repeat(60_000));
        write!(stream, "GET http://long.test{path} HTTP/1.1\r\nHost: long.test\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut reader);
        full += usize::from(approval_kit::status(&head) == 429);
    }
    assert!(full > 200, "{full}");
    let began = Instant::now();
    let listed = control.get("/v1/requests?sandbox=default");
    let listed = listed.as_array().unwrap();
    assert!((20..100).contains(&listed.len()), "{}", listed.len());
    assert!(listed.iter().map(|entry| entry.to_string().len()).sum::<usize>() < 64 << 20);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}
