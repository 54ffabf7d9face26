//! The stream of events: it begins with how things stand, says what was missed, and no reader
//! holds anything up.

use crate::control_kit::{Fake, PATIENCE, Served, request, until};
use portcullis::addr::{Host, Port};
use portcullis::control::client::Events;
use portcullis::control::wire::{Event, Listen, Traffic};
use portcullis::policy::{Client, Code, Scheme};
use portcullis::record::{By, Id, Judged, Outcome, PolicyId, Record, Sink, Timings};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};
use tokio::time::timeout;

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap()
}

fn listen(traffic: Traffic) -> Listen {
    Listen { traffic, ..Listen::default() }
}

fn record(sandbox: &str, target: &'static str) -> Record {
    Record {
        time: SystemTime::UNIX_EPOCH,
        id: Id(7),
        request: Some(41),
        approval: None,
        credential: None,
        sandbox: sandbox.into(),
        client: Client::Unseen,
        scheme: Scheme::Https,
        http: None,
        host: Some(Host::parse("api.github.com").unwrap()),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some(http::uri::PathAndQuery::from_static(target)),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: None,
        outcome: Outcome::Passed,
        by: By::Policy,
        sent: true,
        address: None,
        status: Some(200),
        upload: 0,
        download: 5,
        ms: Timings::default(),
        policy: PolicyId::default(),
        facts: None,
        call: None,
        websocket: false,
    }
}

#[tokio::test]
async fn a_stream_begins_with_hello_and_ends_with_stopping() {
    let mut served = Served::start(Fake::new(&["agent", "ci"]));
    let mut events = served.client().events(&Listen::default()).await.unwrap();
    let Event::Hello(status) = next(&mut events).await else { panic!("no hello") };
    assert_eq!(status.pid, 812);
    let asked = Event::Pending(Box::new(request("r1", "agent")));
    served.fake.events.send(Arc::new(asked.clone())).unwrap();
    assert_eq!(next(&mut events).await, asked);
    served.stop().await;
    assert_eq!(next(&mut events).await, Event::Stopping {});
    assert!(timeout(PATIENCE, events.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_of_one_sandbox_has_no_other() {
    let served = Served::start(Fake::new(&["agent", "ci"]));
    let ci = Listen { sandbox: Some("ci".into()), traffic: Traffic::All, attend: false };
    let mut events = served.client().events(&ci).await.unwrap();
    next(&mut events).await;
    let mut feed = served.feed.clone();
    feed.record(&record("agent", "/a"));
    for sandbox in ["agent", "ci"] {
        let event = Event::Pending(Box::new(request("r1", sandbox)));
        served.fake.events.send(Arc::new(event)).unwrap();
    }
    let Event::Pending(asked) = next(&mut events).await else { panic!("no request") };
    assert_eq!(asked.sandbox, "ci");
    feed.record(&record("ci", "/c?token=secret"));
    let Event::Traffic(batch) = next(&mut events).await else { panic!("no traffic") };
    assert_eq!((batch.counts.passed, batch.rows.len(), batch.missed), (1, 1, 0));
    assert_eq!(batch.rows[0].path.as_deref(), Some("/c"));
    assert_eq!(batch.rows[0].request.as_deref(), Some("r41"));
    assert!(!serde_json::to_string(&batch).unwrap().contains("secret"));
    let error = served.client().events(&Listen { sandbox: Some("x".into()), ..ci }).await;
    assert_eq!(error.err().unwrap().problem().unwrap().status, 404);
}

#[tokio::test]
async fn who_attends_is_counted_for_as_long_as_the_stream_is_open() {
    let served = Served::start(Fake::new(&["agent"]));
    let attended = || served.fake.attended.load(Ordering::SeqCst);
    let plain = served.client().events(&Listen::default()).await.unwrap();
    let attend = Listen { attend: true, ..Listen::default() };
    let mut events = served.client().events(&attend).await.unwrap();
    let Event::Hello(status) = next(&mut events).await else { panic!("no hello") };
    assert_eq!((status.attended, attended()), (1, 1), "it counts itself");
    drop(events);
    until("it left", || attended() == 0).await;
    drop(plain);
}

#[tokio::test]
async fn a_sample_has_two_hundred_rows_a_second_and_all_the_counts() {
    let served = Served::start(Fake::new(&["agent"]));
    let mut events = served.client().events(&listen(Traffic::Sampled)).await.unwrap();
    next(&mut events).await;
    let mut feed = served.feed.clone();
    let began = Instant::now();
    for _ in 0..1000 {
        feed.record(&record("agent", "/"));
    }
    assert!(began.elapsed().as_millis() < 900, "the machine is too slow to say");
    let (mut counted, mut rows, mut missed) = (0, 0, 0);
    while counted < 1000 {
        let Event::Traffic(batch) = next(&mut events).await else { panic!("no traffic") };
        counted += batch.counts.passed;
        rows += batch.rows.len();
        missed += batch.missed;
    }
    assert_eq!((counted, rows, missed), (1000, 200, 800));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_nothing_up_and_is_told_what_it_missed() {
    let served = Served::start(Fake::new(&["agent"]));
    // A reader that asks for all and reads nothing.
    let mut stalled = UnixStream::connect(&served.socket).unwrap();
    stalled.write_all(b"GET /v1/events?traffic=all HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut events = served.client().events(&listen(Traffic::All)).await.unwrap();
    next(&mut events).await;
    until("both listen", || served.fake.events.receiver_count() == 2).await;
    let mut feed = served.feed.clone();
    let worst = tokio::task::spawn_blocking(move || {
        let record = record("agent", "/repos/a/b/a-path-of-some-length/that/is/not/short");
        let mut worst = std::time::Duration::ZERO;
        for _ in 0..100_000 {
            let began = Instant::now();
            feed.record(&record);
            worst = worst.max(began.elapsed());
        }
        worst
    });
    let mut heard = 0;
    while heard < 100_000 {
        if let Event::Traffic(batch) = next(&mut events).await {
            assert_eq!(batch.counts.passed, batch.rows.len() as u64 + batch.missed);
            heard += batch.counts.passed;
        }
    }
    let worst = worst.await.unwrap();
    assert!(worst.as_millis() < 1000, "a record waited {worst:?}");
    // The other one gets every count, and what did not fit as a number.
    let (counted, missed) = tokio::task::spawn_blocking(move || counted(stalled)).await.unwrap();
    assert_eq!(counted, 100_000);
    assert!(missed > 0);
}

/// Reads a stream until it has told of 100,000 requests: counts, and how many have no row.
fn counted(stream: UnixStream) -> (u64, u64) {
    use std::io::BufRead;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut counted, mut missed) = (0, 0);
    for line in std::io::BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: {\"counts\"") else { continue };
        let batch: serde_json::Value =
            serde_json::from_str(&format!("{{\"counts\"{data}")).unwrap();
        counted += batch["counts"]["passed"].as_u64().unwrap();
        missed += batch["missed"].as_u64().unwrap();
        if counted >= 100_000 {
            break;
        }
    }
    (counted, missed)
}

#[tokio::test]
async fn events_that_a_reader_was_too_slow_for_are_counted() {
    let served = Served::start(Fake::new(&["agent"]));
    let mut events = served.client().events(&Listen::default()).await.unwrap();
    next(&mut events).await;
    // The channel holds 64, and the runtime runs nothing else meanwhile.
    for _ in 0..164 {
        let event = Event::Grants { sandbox: "agent".into() };
        served.fake.events.send(Arc::new(event)).unwrap();
    }
    let (mut heard, mut missed) = (0, 0);
    while heard + missed < 164 {
        match next(&mut events).await {
            Event::Missed { missed: more } => missed += more,
            _ => heard += 1,
        }
    }
    assert_eq!((heard, missed), (64, 100));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_a_heartbeat_and_a_silent_gateway_is_given_up() {
    let served = Served::start(Fake::new(&["agent"]));
    let mut events = served.client().events(&Listen::default()).await.unwrap();
    next(&mut events).await;
    // Time runs by itself while nothing else does: minutes pass without an event or an end.
    let quiet = timeout(std::time::Duration::from_secs(300), events.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let mute = tokio::net::UnixListener::bind(&socket).unwrap();
    let client = portcullis::control::client::Client::new(&socket);
    let listen = Listen::default();
    let (open, accepted) = tokio::join!(client.events(&listen), async {
        let (stream, _) = mute.accept().await.unwrap();
        stream.writable().await.unwrap();
        stream.try_write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        stream
    });
    let error = open.unwrap().next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("silent for 50 s"), "{error}");
    drop(accepted);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_for_a_minute_attends_no_more() {
    let served = Served::start(Fake::new(&["agent"]));
    let mut stalled = UnixStream::connect(&served.socket).unwrap();
    let ask = b"GET /v1/events?traffic=all&attend=true HTTP/1.1\r\nhost: x\r\n\r\n";
    stalled.write_all(ask).unwrap();
    let attended = || served.fake.attended.load(Ordering::SeqCst);
    until("it attends", || attended() == 1).await;
    let began = tokio::time::Instant::now();
    let mut feed = served.feed.clone();
    while attended() == 1 {
        assert!(began.elapsed().as_secs() < 300, "it attends for ever");
        // More than the socket takes, so that something waits for the reader.
        (0..1000).for_each(|_| feed.record(&record("agent", "/a-path-of-some-length")));
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert!(began.elapsed().as_secs() >= 60, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    use std::io::Read;
    let served = Served::start(Fake::new(&["agent"]));
    let mut slow = UnixStream::connect(&served.socket).unwrap();
    slow.set_nonblocking(true).unwrap();
    slow.write_all(b"GET /v1/status HTT").unwrap();
    let began = tokio::time::Instant::now();
    let closed = loop {
        match slow.read(&mut [0; 512]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => break other,
        }
        assert!(began.elapsed().as_secs() < 60, "it is kept for ever");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!(began.elapsed().as_secs() >= 9, "{closed:?} after {:?}", began.elapsed());
}
