//! HTTP/2 clients that take a request back, or are gone, at any point of it: the origin hears of it, and
//! the record says whose doing it was.

use crate::common::{Gateway, Origin, PATIENCE, Setup, header, read_head, wait_for};
use crate::http_kit::{self, H2Origin, client, collect, request, soon};
use bytes::Bytes;
use http::Request;
use portcullis::proxy::websocket::accept_for;
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a client goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goes {
    Resets,
    Closes,
}

const BOTH: [Goes; 2] = [Goes::Resets, Goes::Closes];

/// Sends half of a body and goes.
async fn half(gateway: &Gateway, port: u16, path: &str, goes: Goes) {
    let stream = http_kit::tls(gateway, port, &["h2"]).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = soon(client.ready()).await.unwrap();
    let asked = request("POST", port, path).header("content-type", "application/json");
    let asked = asked.header("content-length", 1000).body(()).unwrap();
    let (response, mut up) = client.send_request(asked, false).unwrap();
    up.send_data(Bytes::from_static(br#"{"query":"{ "#), false).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    match goes {
        Goes::Resets => up.send_reset(h2::Reason::CANCEL),
        Goes::Closes => connection.abort(),
    }
    assert!(soon(response).await.is_err());
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Whole, and what the gateway is to say of it.
fn is_gone(record: &serde_json::Value, sent: bool) {
    assert_eq!(record["code"], "client_gone", "{record:#}");
    assert_eq!((&record["status"], &record["sent"]), (&serde_json::Value::Null, &sent.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_body_that_is_read_to_judge_it_goes_nowhere() {
    let origin = H2Origin::tls(async |_, respond| http_kit::reply(respond, 200, b"whole"));
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  graphql:\n    endpoints:\n      - {{ host: origin.test, port: {port}, path: /graphql, \
         protocol: graphql, enforcement: enforce, rules: [ {{ allow: {{ operation_type: query }} }} ] }}\n"
    ))
    .start();
    for (n, goes) in BOTH.into_iter().enumerate() {
        half(&gateway, port, "/graphql", goes).await;
        is_gone(&gateway.record(n + 1), false);
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_body_is_no_whole_one_for_an_http2_origin() {
    let (told, heard) = channel();
    let origin = H2Origin::tls(move |asked: Request<h2::RecvStream>, respond| {
        let told = told.clone();
        async move {
            let mut body = asked.into_body();
            let last = loop {
                match body.data().await {
                    Some(Ok(data)) => drop(body.flow_control().release_capacity(data.len())),
                    Some(Err(error)) => break Some(error.reason()),
                    None => break None,
                }
            };
            told.send(last).unwrap();
            drop(respond);
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for (n, goes) in BOTH.into_iter().enumerate() {
        half(&gateway, port, "/", goes).await;
        is_gone(&gateway.record(n + 1), true);
        let last = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(last, Some(Some(h2::Reason::CANCEL)), "{goes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_body_is_no_whole_one_for_an_http1_origin() {
    let (told, heard) = channel();
    let told = Mutex::new(told);
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        let head = read_head(&mut stream);
        if head.is_empty() {
            return;
        }
        let mut body = Vec::new();
        drop(stream.read_to_end(&mut body));
        told.lock().unwrap().send((head, body)).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for (n, goes) in BOTH.into_iter().enumerate() {
        half(&gateway, port, "/", goes).await;
        is_gone(&gateway.record(n + 1), true);
        let (head, body) = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(header(&head, "content-length").as_deref(), Some("1000"));
        assert!(body.len() < 1000, "{goes:?}");
    }
}

/// A WebSocket (RFC 8441) whose client goes without a word: its origin is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_ends_with_its_stream() {
    let (told, heard) = channel();
    let told = Mutex::new(told);
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        let head = read_head(&mut stream);
        let accept = accept_for(&header(&head, "sec-websocket-key").unwrap());
        // It says how long a body is that it cannot have.
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 0\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .unwrap();
        stream.flush().unwrap();
        // A message without end: nothing that comes up behind it would be answered.
        let mut buffer = [0; 1024];
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
        drop(stream.write_all(b"late"));
        drop(stream.flush());
        told.lock().unwrap().send(matches!(stream.read(&mut buffer), Ok(0) | Err(_))).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for (n, goes) in BOTH.into_iter().enumerate() {
        let stream = http_kit::tls(&gateway, port, &["h2"]).await;
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = soon(client.ready()).await.unwrap();
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut asked = request("CONNECT", port, "/ws").body(()).unwrap();
        asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut up) = client.send_request(asked, false).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().get("content-length").is_none());
        up.send_data(Bytes::from_static(b"\x81\x85\0\0\0\0hello"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        match goes {
            Goes::Resets => up.send_reset(h2::Reason::CANCEL),
            Goes::Closes => connection.abort(),
        }
        let record = gateway.record(n + 1);
        assert_eq!(
            (&record["code"], &record["outcome"]),
            (&"client_gone".into(), &"failed".into())
        );
        assert!(heard.recv_timeout(PATIENCE).unwrap(), "{goes:?}");
    }
}

/// HEAD, and what has no body by its status: an answer ends with its head (RFC 9110 §6.4.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_has_no_body_ends_with_its_head() {
    // It ends each stream by itself.
    let origin = H2Origin::tls(async |asked: Request<h2::RecvStream>, mut respond| {
        let status = asked.uri().path()[1..].parse().unwrap();
        let head = http::Response::builder().status::<u16>(status).body(()).unwrap();
        let mut down = respond.send_response(head, false).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        down.send_data(Bytes::new(), true).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    for (method, path, length) in
        [("HEAD", "/200", None), ("GET", "/204", None), ("GET", "/304", None)]
    {
        let asked = request(method, port, path).body(()).unwrap();
        let response = soon(client.send_request(asked, true).unwrap().0).await.unwrap();
        assert_eq!(response.headers().get("content-length"), length, "{method} {path}");
        assert!(response.body().is_end_stream(), "{method} {path}");
    }
    // One of the gateway's own says how long it would be.
    let lengths: Arc<Mutex<Vec<_>>> = Arc::default();
    for method in ["GET", "HEAD"] {
        let asked = Request::builder().method(method).uri("https://other.test/").body(()).unwrap();
        let response = soon(client.send_request(asked, true).unwrap().0).await.unwrap();
        assert_eq!(response.status(), 421);
        lengths.lock().unwrap().push(response.headers()["content-length"].clone());
        assert_eq!(response.body().is_end_stream(), method == "HEAD");
        let (body, _) = collect(response.into_body()).await;
        assert_eq!(body.is_empty(), method == "HEAD");
    }
    wait_for(PATIENCE, || (gateway.records_now("default").len() == 5).then_some(()));
    assert!(gateway.records_now("default")[..3].iter().all(|r| r["outcome"] == "passed"));
}

/// The last of an answer waits for a client that takes nothing no longer than any other part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_an_answer_has_a_deadline_too() {
    let origin = H2Origin::tls(async |_, respond| http_kit::reply(respond, 200, b"short"));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).more("timeout: { idle: 1s }\n").start();
    let stream = http_kit::tls(&gateway, port, &["h2"]).await;
    let mut settings = h2::client::Builder::new();
    let shut = settings.initial_window_size(0);
    let (client, connection) = shut.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon(client.ready()).await.unwrap();
    let asked = request("GET", port, "/").body(()).unwrap();
    let response = soon(client.send_request(asked, true).unwrap().0).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let error = soon(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
}

/// Its answer can't leave, because it takes none of it, and then it takes its request back: more often
/// than a connection has streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_answer_and_goes_leaves_room_for_the_next() {
    let gateway = Setup::allow_all(&["origin.test"], 1).start();
    let port = 2;
    let stream = http_kit::tls(&gateway, 1, &["h2"]).await;
    let mut settings = h2::client::Builder::new();
    // Answers of ten bytes that nobody reads.
    let shut = settings.initial_window_size(10).data_frame_budget(1 << 30);
    let (client, connection) = shut.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon(client.ready()).await.unwrap();
    for _ in 0..300 {
        // Refused: the name is another's.
        let asked = request("POST", port, "/").body(()).unwrap();
        client = soon(client.ready()).await.unwrap();
        let (response, mut up) = client.send_request(asked, false).unwrap();
        up.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(soon(response).await.unwrap().status(), 421);
        up.send_reset(h2::Reason::CANCEL);
    }
    let asked = request("HEAD", port, "/").body(()).unwrap();
    client = soon(client.ready()).await.unwrap();
    assert_eq!(soon(client.send_request(asked, true).unwrap().0).await.unwrap().status(), 421);
}

/// There are clients that look at no answer before they have sent all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_is_read_to_its_end_by_and_by() {
    const ALL: usize = 5 << 20;
    let gateway = Setup::allow_all(&["origin.test"], 1).start();
    let stream = http_kit::tls(&gateway, 1, &["h2"]).await;
    let mut client = http_kit::drive(stream).await;
    let (response, mut up) =
        client.send_request(request("POST", 2, "/").body(()).unwrap(), false).unwrap();
    let mut left = ALL;
    while left > 0 {
        up.reserve_capacity(left.min(64 * 1024));
        let room = soon(std::future::poll_fn(|cx| up.poll_capacity(cx))).await.unwrap().unwrap();
        let piece = room.min(left);
        left -= piece;
        up.send_data(vec![b'x'; piece].into(), left == 0).unwrap();
    }
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), 421);
    assert!(!collect(response.into_body()).await.0.is_empty());
    assert_eq!(gateway.record(1)["code"], "host_mismatch");
}

/// One that never ends is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_that_does_not_come_is_not_waited_for() {
    let gateway = Setup::allow_all(&["origin.test"], 1).start();
    let stream = http_kit::tls(&gateway, 1, &["h2"]).await;
    let mut client = http_kit::drive(stream).await;
    let (response, mut up) =
        client.send_request(request("POST", 2, "/").body(()).unwrap(), false).unwrap();
    up.send_data(Bytes::from_static(b"half"), false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), 421);
    assert!(!collect(response.into_body()).await.0.is_empty());
    let reason = soon(std::future::poll_fn(|cx| up.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
}
