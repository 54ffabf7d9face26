//! What `/metrics` and `/healthz` answer, and to whom.

use crate::approval_kit::{Control, HOLD, answer, send_with};
use crate::common::{Origin, PATIENCE, Setup, read_request, read_response, wait_for};
use crate::operation_kit::{full, metric};
use portcullis::addr::{Host, Port};
use portcullis::metrics::{Gauges, Health, Registry, serve};
use portcullis::policy::{Client, Code, Scheme};
use portcullis::record::{By, Id, Judged, Outcome, PolicyId, Record, Sink, Timings};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn record(sandbox: &str) -> Record {
    Record {
        time: SystemTime::now(),
        id: Id::new(SystemTime::now()),
        sandbox: sandbox.into(),
        client: Client::Unseen,
        scheme: Scheme::Https,
        http: None,
        host: Some(Host::parse("very-secret-host.test").unwrap()),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some("/very/secret/path".parse().unwrap()),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: None,
        outcome: Outcome::Passed,
        by: By::Policy,
        request: None,
        approval: None,
        credential: None,
        sent: true,
        address: None,
        status: Some(200),
        upload: 10,
        download: 200,
        ms: Timings {
            judge: Duration::from_micros(2),
            held: Duration::ZERO,
            connect: Duration::from_millis(3),
            first_byte: Some(Duration::from_millis(20)),
            total: Duration::from_millis(40),
        },
        policy: PolicyId::default(),
        facts: None,
        call: None,
        websocket: false,
    }
}

#[test]
fn the_page_counts_by_closed_label_sets_and_names_no_host_and_no_path() {
    let gauges = Arc::new(Gauges::default());
    gauges.tunnels.fetch_add(3, Ordering::Relaxed);
    let (registry, mut counts) = Registry::new(gauges);
    counts.record(&record("agent"));
    counts.record(&record("agent"));
    counts.record(&Record {
        verdict: Judged::Unknown,
        code: Code::HostUnknown,
        outcome: Outcome::Refused,
        ..record("ci")
    });
    let page = registry.render();
    for line in [
        r#"portcullis_requests_total{sandbox="agent",scheme="https",verdict="allow",outcome="passed",code="allowed"} 2"#,
        r#"portcullis_requests_total{sandbox="ci",scheme="https",verdict="unknown",outcome="refused",code="host_unknown"} 1"#,
        r#"portcullis_upload_bytes_total{sandbox="agent",scheme="https"} 20"#,
        r#"portcullis_download_bytes_total{sandbox="agent",scheme="https"} 400"#,
        r#"portcullis_request_seconds_bucket{sandbox="agent",scheme="https",le="0.025"} 0"#,
        r#"portcullis_request_seconds_bucket{sandbox="agent",scheme="https",le="0.05"} 2"#,
        r#"portcullis_request_seconds_bucket{sandbox="agent",scheme="https",le="+Inf"} 2"#,
        r#"portcullis_request_seconds_sum{sandbox="agent",scheme="https"} 0.08"#,
        r#"portcullis_judge_seconds_bucket{sandbox="agent",scheme="https",le="0.000002"} 2"#,
        "# TYPE portcullis_connect_seconds histogram",
        "portcullis_tunnels 3",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
    }
    assert!(!page.contains("secret"));
    assert!(!page.contains(r#"portcullis_request_seconds_count{sandbox="ci""#), "refused: no time");
}

#[test]
fn the_number_of_series_is_bounded_and_labels_are_escaped() {
    let (registry, mut counts) = Registry::new(Arc::default());
    counts.record(&record("a\"b\\c\nd"));
    for i in 0..2000 {
        counts.record(&record(&format!("run-{i}")));
    }
    let page = registry.render();
    assert!(page.contains(r#"sandbox="a\"b\\c\nd""#));
    assert!(page.contains(r#"sandbox="other""#));
    let series = page.lines().filter(|l| l.starts_with("portcullis_requests_total{")).count();
    assert!(series <= 257, "{series}");
}

async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn it_serves_metrics_and_health_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (registry, mut counts) = Registry::new(Arc::default());
    counts.record(&record("agent"));
    let state = Arc::new(AtomicU8::new(0));
    let seen = state.clone();
    let health = move || match seen.load(Ordering::Relaxed) {
        0 => Health::Ok,
        1 => Health::NotRecording,
        _ => Health::NoPolicy,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, registry, health, async {
        let _ = stopped.await;
    }));

    let metrics = ask(address, &get("/metrics")).await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(metrics.contains("portcullis_requests_total{sandbox=\"agent\""));
    let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");

    let body = |answer: String| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let ok = ask(address, &get("/healthz")).await;
    assert!(ok.starts_with("HTTP/1.1 200"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body(ok)).unwrap()["status"], "ok");
    for failing in [1, 2] {
        state.store(failing, Ordering::Relaxed);
        let answer = ask(address, &get("/healthz")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let said: serde_json::Value = serde_json::from_str(&body(answer)).unwrap();
        assert_eq!(said["status"], "failing");
        assert!(said["reason"].is_string());
    }

    assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404"));
    assert!(ask(address, &get("/metrics/x")).await.starts_with("HTTP/1.1 404"));
    let post = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"), "{post}");
    assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));

    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_others_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (registry, _counts) = Registry::new(Arc::default());
    let server =
        tokio::spawn(serve(listener, registry, || Health::Ok, std::future::pending::<()>()));
    let silent = Mutex::new(Vec::new());
    for _ in 0..300 {
        let stream = TcpStream::connect(address).await.unwrap();
        silent.lock().unwrap().push(stream);
    }
    let began = std::time::Instant::now();
    assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    server.abort();
}

#[test]
fn a_gateway_tells_how_many_it_holds_and_for_how_many_names_it_has_certificates() {
    let origin = Origin::tls(&["origin.test", "other.test"], &["http/1.1"], |mut stream| {
        drop(read_request(&mut stream));
        let sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        drop(sent.and_then(|()| stream.flush()));
    });
    let port = origin.port();
    let policy = full("a", "origin.test", port) + &full("b", "other.test", port);
    let gateway = Setup::policy(&policy)
        .sandbox(&format!("    {HOLD}\n"))
        .more("metrics: { address: \"127.0.0.1:0\" }\n")
        .start();
    let becomes = |name: &str, value: i64| {
        wait_for(PATIENCE, || (metric(&gateway, name) == value).then_some(()));
    };
    assert_eq!(metric(&gateway, "portcullis_leaf_certificates"), 0);
    for host in ["origin.test", "origin.test", "other.test"] {
        let mut tls = gateway.tls(&format!("{host}:{port}"), host, &["http/1.1"]);
        write!(tls, "GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut tls);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    becomes("portcullis_leaf_certificates", 2);
    assert_eq!(metric(&gateway, "portcullis_held_requests"), 0);
    let mut held = send_with(&gateway, "GET", "nowhere.test:80", "/", "\r\n");
    becomes("portcullis_held_requests", 1);
    let control = Control::of(&gateway);
    control.deny(&control.one(1), &serde_json::json!({}));
    assert_eq!(answer(&mut held).0, 403);
    becomes("portcullis_held_requests", 0);
}
