//! What becomes of one stream of an HTTP/2 client is no matter of the others on its connection.

use crate::common::{self, Gateway, Setup};
use crate::http_kit::{self, H2Origin, request, soon};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{Request, Response};
use std::time::{Duration, Instant};

const PIECE: usize = 16 * 1024;

/// `/much` gushes, `/events` says something each 50 ms.
fn origin() -> H2Origin {
    H2Origin::tls(async |asked: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        let mut down = respond.send_response(Response::new(()), false).unwrap();
        let events = asked.uri().path() == "/events";
        loop {
            if events {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if down.send_data(Bytes::from_static(b"event\n"), false).is_err() {
                    return;
                }
                continue;
            }
            down.reserve_capacity(PIECE);
            match std::future::poll_fn(|cx| down.poll_capacity(cx)).await {
                Some(Ok(room)) if down.send_data(vec![b'x'; room].into(), false).is_ok() => {}
                _ => return,
            }
        }
    })
}

fn policy(port: u16, paths: &[&str]) -> String {
    let mut entries = String::from("  test:\n    endpoints:\n");
    for path in paths {
        entries += &format!(
            "      - {{ host: origin.test, port: {port}, path: {path}, protocol: rest, \
             enforcement: enforce, access: full }}\n"
        );
    }
    entries
}

/// A client whose streams have windows of 64 KiB, and its connection one for many of them.
async fn roomy(gateway: &Gateway, port: u16) -> SendRequest<Bytes> {
    let stream = http_kit::tls(gateway, port, &["h2"]).await;
    let mut settings = h2::client::Builder::new();
    let shared = settings.initial_connection_window_size(1024 * 1024);
    let (client, connection) = shared.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    soon(client.ready()).await.unwrap()
}

async fn begin(client: &SendRequest<Bytes>, port: u16, path: &str) -> h2::RecvStream {
    let mut ready = soon(client.clone().ready()).await.unwrap();
    let asked = request("GET", port, path).body(()).unwrap();
    soon(ready.send_request(asked, true).unwrap().0).await.unwrap().into_body()
}

async fn goes_on(events: &mut h2::RecvStream) {
    for _ in 0..10 {
        let event = soon(events.data()).await.unwrap().unwrap();
        events.flow_control().release_capacity(event.len()).unwrap();
    }
}

/// Reads what had come, up to the reset.
async fn is_reset(body: &mut h2::RecvStream) -> h2::Reason {
    loop {
        match soon(body.data()).await {
            Some(Ok(data)) => drop(body.flow_control().release_capacity(data.len())),
            Some(Err(error)) => return error.reason().unwrap(),
            None => panic!("it ended as if it were whole"),
        }
    }
}

fn record_of(gateway: &Gateway, path: &str) -> serde_json::Value {
    let find = || gateway.records_now("default").into_iter().find(|r| r["path"] == path);
    common::wait_for(common::PATIENCE, find)
}

/// Nobody reads the answer, whose window is shut: it ends for itself alone when the policy forbids it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_is_ended_by_a_new_policy_and_its_siblings_go_on() {
    let origin = origin();
    let port = origin.port();
    let gateway = Setup::policy(&policy(port, &["/much", "/events"])).start();
    let client = roomy(&gateway, port).await;
    let mut events = begin(&client, port, "/events").await;
    let mut much = begin(&client, port, "/much").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.write_policy(&policy(port, &["/events"]));
    let record = record_of(&gateway, "/much");
    assert_eq!((&record["code"], &record["outcome"]), (&"policy_changed".into(), &"failed".into()));
    is_reset(&mut much).await;
    goes_on(&mut events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_is_ended_by_its_deadline_and_its_siblings_go_on() {
    let origin = origin();
    let port = origin.port();
    let setup = Setup::policy(&policy(port, &["/much", "/events"]));
    let gateway = setup.more("timeout: { idle: 1s }\n").start();
    let client = roomy(&gateway, port).await;
    let mut events = begin(&client, port, "/events").await;
    let mut much = begin(&client, port, "/much").await;
    let began = Instant::now();
    // Its windows are not the connection's: what comes of the other is read meanwhile.
    let code = loop {
        goes_on(&mut events).await;
        let records = gateway.records_now("default");
        if let Some(record) = records.iter().find(|r| r["path"] == "/much") {
            break record["code"].clone();
        }
        assert!(began.elapsed() < common::PATIENCE);
    };
    assert_eq!(code, "idle_timeout");
    is_reset(&mut much).await;
    goes_on(&mut events).await;
}
