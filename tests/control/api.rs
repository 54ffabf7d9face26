//! The control API over a real socket: every route, every refusal, and what becomes of a change
//! whose client leaves.

use crate::control_kit::{DIGEST, Fake, PATIENCE, Served, request, until};
use portcullis::control::client::ClientError;
use portcullis::control::server::{BindError, bind};
use portcullis::control::wire::{Apply, Decision, Filter, GrantRequest, State, Verdict};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use tokio::sync::Notify;

fn approve() -> Decision {
    serde_json::from_value(serde_json::json!({ "decision": "approve", "digest": DIGEST })).unwrap()
}

fn ahead(sandbox: Option<&str>) -> GrantRequest {
    let url = "https://api.github.com/repos/*/issues";
    let mut ask: GrantRequest =
        serde_json::from_value(serde_json::json!({ "method": "GET", "url": url })).unwrap();
    ask.sandbox = sandbox.map(str::to_owned);
    ask
}

/// Sends raw bytes and reads to the end.
async fn raw(served: &Served, bytes: Vec<u8>) -> String {
    let socket = served.socket.clone();
    let talk = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that answers early may close before all is written.
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    talk.await.unwrap()
}

async fn ask(served: &Served, head: &str) -> String {
    raw(served, format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").into()).await
}

#[tokio::test]
async fn every_route_answers_as_its_type() {
    let served = Served::start(Fake::new(&["agent", "ci"]));
    let (client, fake) = (served.client(), &served.fake);
    fake.requests.lock().unwrap().extend([request("r1", "agent"), request("r2", "ci")]);
    assert_eq!(client.status().await.unwrap().pid, 812);
    assert_eq!(client.sandboxes().await.unwrap().len(), 2);
    assert_eq!(client.sandbox("ci").await.unwrap().name, "ci");
    let filter = Filter { state: Some(State::Pending), sandbox: Some("ci".into()) };
    assert_eq!(client.requests(&filter).await.unwrap(), [request("r2", "ci")]);
    let approved = Filter { state: Some(State::Approved), sandbox: None };
    assert_eq!(client.requests(&approved).await.unwrap(), []);
    assert_eq!(client.request("r1").await.unwrap(), request("r1", "agent"));
    let decided = client.decide("r1", &approve()).await.unwrap();
    assert_eq!((decided.decision, decided.released), (Verdict::Approve, 1));
    assert_eq!(client.undo("r1", "cli").await.unwrap().request, "r1");
    assert_eq!(client.grants(Some("agent")).await.unwrap().len(), 1);
    assert_eq!(client.grants(Some("ci")).await.unwrap().len(), 0);
    assert_eq!(client.grant(&ahead(Some("ci"))).await.unwrap().sandbox, "ci");
    assert_eq!(client.revoke("g1").await.unwrap().grant, "g1");
    assert_eq!(client.policy("ci").await.unwrap().version, 3);
    let apply = Apply { policy: "version: 1\n".into(), file: None };
    assert_eq!(client.apply("ci", &apply).await.unwrap().versions["ci"], 4);
    client.rollback("ci", 2).await.unwrap();
    client.unpin("ci").await.unwrap();
    assert_eq!(client.reload().await.unwrap().versions.len(), 2);
    assert_eq!(client.history(Some("ci")).await.unwrap()[0].sandbox, "ci");
    assert_eq!(client.credentials(None).await.unwrap()[0].bindings.len(), 2);
    assert_eq!(client.credentials(Some("ci")).await.unwrap()[0].bindings.len(), 1);
    assert!(!client.check_credential("github", false).await.unwrap().in_use);
    assert!(client.check_credential("github", true).await.unwrap().in_use);
    let told = fake.told.lock().unwrap().clone();
    let euid = rustix::process::geteuid().as_raw();
    assert!(told.iter().all(|(who, _)| who.uid == euid && !who.name.is_empty()), "{told:?}");
    let said: Vec<&str> =
        told.iter().map(|(_, what)| what.split([' ', '{']).next().unwrap()).collect();
    assert!(told.iter().any(|(_, what)| what == "undo r1 via cli"), "{told:?}");
    assert_eq!(said, ["decide", "undo", "grant", "revoke", "Apply", "Rollback", "Unpin", "Reload"]);
}

#[tokio::test]
async fn a_decision_on_something_else_than_was_shown_is_refused() {
    let served = Served::start(Fake::new(&["agent"]));
    served.fake.requests.lock().unwrap().push(request("r1", "agent"));
    let other = Decision { digest: "sha256:00".into(), ..approve() };
    let error = served.client().decide("r1", &other).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, "changed");
    assert!(served.fake.said().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let served = Served::start(Fake::new(&["agent", "ci"]));
    let client = served.client();
    let detail = |error: ClientError| error.problem().unwrap().clone();
    let problem = detail(client.policy("web/../ci").await.unwrap_err());
    assert_eq!((problem.status, problem.code.as_str()), (404, "not_found"));
    assert_eq!(problem.detail, "there is no sandbox `web/../ci`; there is agent, ci");
    assert_eq!(detail(client.grants(Some("web")).await.unwrap_err()).status, 404);
    assert_eq!(detail(client.request("r9").await.unwrap_err()).status, 404);
    let problem = detail(client.grant(&ahead(None)).await.unwrap_err());
    assert_eq!(problem.detail, "which sandbox? agent, ci: add -s NAME");
    assert_eq!(problem.code, "which_sandbox");
    assert!(served.fake.said().is_empty());
    let alone = Served::start(Fake::new(&["agent"]));
    assert_eq!(alone.client().grant(&ahead(None)).await.unwrap().sandbox, "agent");
}

#[tokio::test]
async fn unknown_routes_methods_and_keys_are_refused() {
    let served = Served::start(Fake::new(&["agent"]));
    let answer = ask(&served, "GET /v2/status HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("POST /v1/requests/{request}/decision"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    let answer = ask(&served, "DELETE /v1/sandboxes/agent/policy HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET, PUT\r\n"), "{answer}");
    for target in [
        "/v1/requests?sandbx=agent",
        "/v1/requests?state=pending&state=denied",
        "/v1/requests?state=open",
        "/v1/events?attend=yes",
        "/v1/events?traffic=some",
        "/v1/status?x=1",
    ] {
        let answer = ask(&served, &format!("GET {target} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    let answer = ask(&served, "POST /v1/reload?sandbox=agent HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(served.fake.said().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_what_is_asked_for_decides_nothing() {
    let served = Served::start(Fake::new(&["agent"]));
    served.fake.requests.lock().unwrap().push(request("r1", "agent"));
    let send = |body: String| {
        let head = "POST /v1/requests/r1/decision HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let bodies = [
        String::new(),
        "{\"decision\":\"approve\"}".into(),
        format!("{{\"decision\":\"approve\",\"digest\":\"{DIGEST}\",\"scop\":\"once\"}}"),
        format!("{{\"decision\":\"approve\",\"digest\":\"{DIGEST}\",\"decision\":\"deny\"}}"),
        format!("{{\"decision\":\"maybe\",\"digest\":\"{DIGEST}\"}}"),
    ];
    for body in bodies {
        let answer = raw(&served, send(body.clone())).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body}: {answer}");
    }
    let answer = raw(&served, send(" ".repeat((1 << 20) + 1))).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") || answer.is_empty(), "{answer}");
    assert!(served.fake.said().is_empty());
}

#[tokio::test]
async fn a_change_runs_to_its_end_when_its_client_leaves() {
    let served = Served::start(Fake::new(&["agent"]));
    let gate = Arc::new(Notify::new());
    *served.fake.slow.lock().unwrap() = Some(gate.clone());
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // The change is under way as soon as an answer to a later question came.
    served.client().status().await.unwrap();
    drop(stream);
    served.client().status().await.unwrap();
    gate.notify_one();
    until("the change is made", || served.fake.said() == ["Reload"]).await;
}

#[tokio::test]
async fn no_gateway_is_said_with_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let ask = || async {
        let error = portcullis::control::client::Client::new(&socket).status().await.unwrap_err();
        assert!(error.no_gateway(), "{error}");
        let text = error.to_string();
        assert!(text.contains("start one with `portcullis gateway`\n  fix: "), "{text}");
        assert!(text.contains("--socket"), "{text}");
    };
    ask().await;
    // A socket that a dead gateway left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    ask().await;
}

#[tokio::test]
async fn what_does_not_answer_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = portcullis::control::client::Client::new(&socket)
        .answer_within(std::time::Duration::from_millis(50));
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Late { .. }), "{error}");
}

#[tokio::test]
async fn the_socket_is_the_operators_and_a_living_one_is_never_taken() {
    let mut served = Served::start(Fake::new(&["agent"]));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&served.socket), 0o600);
    let error = bind(&served.socket).unwrap_err();
    assert!(matches!(error, BindError::Taken { .. }), "{error}");
    served.client().status().await.unwrap();
    served.stop().await;
    assert!(served.client().status().await.unwrap_err().no_gateway());
    let (_again, placed) = bind(&served.socket).unwrap();
    assert_eq!(placed.path(), served.socket);
    let below = served.dir.path().join("run/portcullis/control.sock");
    let (_listener, placed) = bind(&below).unwrap();
    assert_eq!(mode(below.parent().unwrap()), 0o700);
    drop(placed);
    assert!(!below.exists(), "it takes its socket away");
}

#[test]
fn a_place_that_is_not_fit_for_the_socket_is_refused_with_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120)).join("control.sock");
    let error = bind(&long).unwrap_err().to_string();
    assert!(error.contains("the system takes 107") && error.contains("--socket"), "{error}");
    let file = dir.path().join("file.sock");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(bind(&file).unwrap_err(), BindError::NotASocket { .. }));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let error = bind(&open.join("control.sock")).unwrap_err().to_string();
    assert!(error.contains("mode 0777") && error.contains("fix: chmod 700"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_uid_is_not_heard() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root to become another uid");
    }
    if std::process::Command::new("setpriv").arg("--version").output().is_err() {
        return println!("skipped: setpriv is not installed");
    }
    let served = Served::start(Fake::new(&["agent"]));
    // Past the file modes, so that the check of the peer alone stands between.
    std::fs::set_permissions(served.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&served.socket, PermissionsExt::from_mode(0o666)).unwrap();
    let status = |uid: &str, socket: &std::path::Path| {
        let (uid, socket) = (uid.to_owned(), socket.to_owned());
        tokio::task::spawn_blocking(move || {
            std::process::Command::new("setpriv")
                .args(["--reuid", &uid, "--clear-groups", "curl", "-sS", "--max-time", "10"])
                .arg("--unix-socket")
                .arg(socket)
                .arg("http://portcullis/v1/status")
                .output()
                .unwrap()
        })
    };
    // Beside it, one that hears everybody: the other uid gets as far as that.
    let beside = served.dir.path().join("beside.sock");
    let open = std::os::unix::net::UnixListener::bind(&beside).unwrap();
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o666)).unwrap();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = open.accept().unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        // Closed with bytes unread, a reset would overtake the answer.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let reached = status("65534", &beside).await.unwrap();
    if !reached.status.success() {
        return println!("skipped: another uid can't run curl on a socket here: {reached:?}");
    }
    heard.join().unwrap();
    let own = status("0", &served.socket).await.unwrap();
    assert!(String::from_utf8_lossy(&own.stdout).contains("\"pid\":812"), "{own:?}");
    let other = status("65534", &served.socket).await.unwrap();
    assert!(!other.status.success() && other.stdout.is_empty(), "{other:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let served = Served::start(Fake::new(&["agent"]));
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(served.client().events(&Default::default()).await.unwrap());
    }
    let error = served.client().status().await.unwrap_err();
    assert_eq!(error.problem().map(|problem| problem.status), Some(503), "{error}");
    drop(open.pop());
    let client = served.client();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client.status().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the place is not given back");
        tokio::task::yield_now().await;
    }
}
