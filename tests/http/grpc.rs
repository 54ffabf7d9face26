//! gRPC: HTTP/2 on both sides, trailers, both directions at once, refusals that its clients read.

use crate::common::{Gateway, Origin, Setup, read_request};
use crate::http_kit::{self, H2Origin, client, collect, exchange, request, soon};
use bytes::Bytes;
use http::{HeaderMap, Response};
use std::io::Write;
use std::sync::Arc;

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

fn call(port: u16, path: &str) -> http::Request<()> {
    request("POST", port, path)
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Gives every message back as it comes, then status 0.
fn echo() -> H2Origin {
    H2Origin::tls(async |request, mut respond: h2::server::SendResponse<Bytes>| {
        assert_eq!(request.headers()["te"], "trailers");
        let response =
            Response::builder().header("content-type", "application/grpc+proto").body(()).unwrap();
        let mut down = respond.send_response(response, false).unwrap();
        let mut up = request.into_body();
        while let Some(data) = up.data().await {
            let data = data.unwrap();
            up.flow_control().release_capacity(data.len()).unwrap();
            down.send_data(data, false).unwrap();
        }
        down.send_trailers(status("0")).unwrap();
    })
}

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_of_a_call_stream_at_once() {
    let origin = echo();
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let (response, mut up) = client.send_request(call(port, "/chat.Chat/Talk"), false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc+proto");
    let mut down = response.into_body();
    // Each message comes back before the next is sent.
    for n in 0..20u8 {
        let message = vec![n; 5 + usize::from(n) * 100];
        up.send_data(Bytes::from(message.clone()), false).unwrap();
        let mut back = Vec::new();
        while back.len() < message.len() {
            let data = soon(down.data()).await.unwrap().unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            back.extend_from_slice(&data);
        }
        assert_eq!(back, message);
    }
    up.send_data(Bytes::new(), true).unwrap();
    let (rest, trailers) = collect(down).await;
    assert!(rest.is_empty());
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    let record = gateway.record(1);
    assert_eq!(record["outcome"], "passed");
    assert_eq!(record["upload"], record["download"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_says_who_makes_it_by_kerberos_passes() {
    let origin = echo();
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let mut call = call(port, "/a.B/C");
    call.headers_mut().insert("authorization", "Negotiate YIIB".parse().unwrap());
    let (head, body, _) = exchange(&mut client, call, b"\0\0\0\0\0").await;
    assert_eq!(head.status(), 200);
    assert_eq!(&body[..], b"\0\0\0\0\0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_trailers_alone_keeps_its_status() {
    let origin = H2Origin::tls(async |_, mut respond: h2::server::SendResponse<Bytes>| {
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .header("grpc-message", "not here");
        respond.send_response(response.body(()).unwrap(), true).unwrap();
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let (head, body, _) = exchange(&mut client, call(port, "/a.B/C"), b"\0\0\0\0\0").await;
    assert_eq!(head.headers()["grpc-status"], "5");
    assert_eq!(head.headers()["grpc-message"], "not here");
    assert!(body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_is_told_in_grpc() {
    let origin = echo();
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  api:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        rules:\n          - allow: {{ method: POST, path: /a.B/Get }}"
    ))
    .start();
    let mut client = client(&gateway, port).await;
    let (head, body, _) = exchange(&mut client, call(port, "/a.B/Delete"), b"\0\0\0\0\0").await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-type"], "application/grpc");
    assert_eq!(head.headers()["grpc-status"], "7");
    let message = head.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("/a.B/Delete"), "{message}");
    assert!(body.is_empty());
    let (head, ..) = exchange(&mut client, call(port, "/a.B/%25"), b"\0\0\0\0\0").await;
    let message = head.headers()["grpc-message"].to_str().unwrap();
    // Escaped once more (gRPC over HTTP/2, "Status-Message"): who reads it undoes that.
    assert!(message.contains("/a.B/%2525"), "{message}");
    assert_eq!(origin.connections(), 0);
    let (head, body, trailers) = exchange(&mut client, call(port, "/a.B/Get"), b"\0\0\0\0\0").await;
    assert_eq!(head.status(), 200);
    assert_eq!(body, b"\0\0\0\0\0");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    let records = gateway.records(3);
    assert_eq!(records[0]["outcome"], "refused");
    assert_eq!(records[0]["code"], "path_not_allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_speaks_http1_gets_no_call() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        assert_eq!(read_request(&mut stream), "", "a request came");
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let (head, ..) = exchange(&mut client, call(port, "/a.B/C"), b"\0\0\0\0\0").await;
    assert_eq!(head.headers()["grpc-status"], "14");
    let record = gateway.record(1);
    assert_eq!(record["code"], "grpc_needs_h2");
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["sent"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_a_call_cancels_it_at_the_origin() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let origin = H2Origin::tls(move |_, mut respond: h2::server::SendResponse<Bytes>| {
        let ended = ended.clone();
        async move {
            let mut down = respond.send_response(Response::new(()), false).unwrap();
            down.send_data(Bytes::from_static(b"first"), false).unwrap();
            let reason = std::future::poll_fn(|cx| down.poll_reset(cx)).await.unwrap();
            ended.send(reason).await.unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let (response, mut up) = client.send_request(call(port, "/a.B/Watch"), false).unwrap();
    let mut down = soon(response).await.unwrap().into_body();
    assert_eq!(soon(down.data()).await.unwrap().unwrap(), "first");
    up.send_reset(h2::Reason::CANCEL);
    drop(down);
    assert_eq!(soon(end.recv()).await, Some(h2::Reason::CANCEL));
    let record = gateway.record(1);
    assert_eq!(record["code"], "client_gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_resets_a_stream_costs_that_stream_only() {
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL] {
        resets(reason).await;
    }
}

async fn resets(reason: h2::Reason) {
    let arrived = Arc::new(tokio::sync::Notify::new());
    let wait = arrived.clone();
    let origin = H2Origin::tls(move |request, mut respond: h2::server::SendResponse<Bytes>| {
        let wait = wait.clone();
        async move {
            match request.uri().path() {
                "/early" => respond.send_reset(reason),
                "/late" => {
                    let mut down = respond.send_response(Response::new(()), false).unwrap();
                    down.send_data(Bytes::from_static(b"part"), false).unwrap();
                    wait.notified().await;
                    down.send_reset(reason);
                }
                _ => http_kit::reply(respond, 200, b"ok"),
            }
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let get = |path| request("GET", port, path).body(()).unwrap();
    let (head, ..) = exchange(&mut client, get("/early"), b"").await;
    assert_eq!(head.status(), 502);
    let (response, _) = client.send_request(get("/late"), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "part");
    arrived.notify_one();
    assert!(matches!(soon(body.data()).await, Some(Err(_))), "a cut is not an end ({reason})");
    let (head, body, _) = exchange(&mut client, get("/"), b"").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"ok"[..]));
    assert_eq!(origin.connections(), 1);
    let codes: Vec<_> = gateway.records(3).iter().map(|r| r["code"].clone()).collect();
    assert_eq!(codes, ["upstream_closed", "upstream_closed", "allowed"]);
}
