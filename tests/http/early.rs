//! An origin that answers whole before it has the whole request, and reads on: what the client still sends
//! goes up, in any pairing of versions, and the record is of both.

use crate::common::{Gateway, Origin, PATIENCE, Setup, Tls, limits, read_head, wait_for};
use crate::http_kit::{self, H2Origin, client, collect, request, soon};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// An origin over HTTP/2 that answers `early` and tells what it then reads: all, or that it broke off.
fn h2_origin(status: u16) -> (H2Origin, Receiver<Option<Vec<u8>>>) {
    let (tell, told) = channel();
    let origin = H2Origin::tls(move |asked, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body: RecvStream = asked.into_body();
            let mut read = soon(body.data()).await.unwrap().unwrap().to_vec();
            let response = Response::builder().status(status).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data("early".into(), true).unwrap();
            loop {
                match body.data().await {
                    Some(Ok(data)) => {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        read.extend(data);
                    }
                    Some(Err(_)) => return tell.send(None).unwrap(),
                    None => return tell.send(Some(read)).unwrap(),
                }
            }
        }
    });
    (origin, told)
}

/// The same over HTTP/1.1. Bodies come in chunks.
fn h1_origin(status: u16) -> (Origin, Receiver<Option<Vec<u8>>>) {
    let (tell, told): (Sender<Option<Vec<u8>>>, _) = channel();
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut io| {
        if read_head(&mut io).is_empty() {
            return;
        }
        let Some(mut read) = chunk(&mut io) else { return };
        write!(io, "HTTP/1.1 {status} Early\r\ncontent-length: 5\r\n\r\nearly").unwrap();
        io.flush().unwrap();
        let whole = loop {
            match chunk(&mut io) {
                None => break None,
                Some(more) if more.is_empty() => break Some(std::mem::take(&mut read)),
                Some(more) => read.extend(more),
            }
        };
        tell.send(whole).unwrap();
    });
    (origin, told)
}

/// The next chunk; `None` where it broke off.
fn chunk(io: &mut impl Read) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        io.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut data = vec![0; length + 2];
    io.read_exact(&mut data).ok()?;
    data.truncate(length);
    Some(data)
}

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// A client over HTTP/2 that has sent `one` and got the whole answer.
async fn h2_client(
    gateway: &Gateway,
    port: u16,
    status: u16,
) -> (SendRequest<Bytes>, SendStream<Bytes>) {
    let mut client = client(gateway, port).await;
    let asked = request("POST", port, "/").body(()).unwrap();
    let (response, mut stream) = client.send_request(asked, false).unwrap();
    stream.send_data("one ".into(), false).unwrap();
    let (head, body) = soon(response).await.unwrap().into_parts();
    assert_eq!(head.status, status);
    assert_eq!(collect(body).await.0, b"early");
    (client, stream)
}

/// The same over HTTP/1.1, in chunks.
fn h1_client(gateway: &Gateway, port: u16, status: u16) -> Tls {
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    limits(&client.sock);
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: {authority}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n"
    )
    .unwrap();
    client.flush().unwrap();
    let (head, body, _) = http_kit::read_message(&mut client);
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert_eq!(body, b"early");
    client
}

/// Nothing is recorded while it goes on; then one record has all.
fn unrecorded(gateway: &Gateway) {
    std::thread::sleep(Duration::from_millis(300));
    assert!(gateway.records_now("default").is_empty(), "recorded before it was over");
}

fn recorded(gateway: &Gateway, upload: u64) {
    let record = gateway.record(1);
    assert_eq!((&record["outcome"], &record["upload"]), (&"passed".into(), &upload.into()));
    assert_eq!((&record["status"], &record["download"]), (&200.into(), &5.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_the_rest_of_a_body_goes_up_behind_its_answer() {
    let (to_h2, heard_h2) = h2_origin(200);
    let (to_h1, heard_h1) = h1_origin(200);
    for (port, heard) in [(to_h2.port(), heard_h2), (to_h1.port(), heard_h1)] {
        let gateway = allowing(port);
        let (_client, mut stream) = h2_client(&gateway, port, 200).await;
        unrecorded(&gateway);
        stream.send_data("two ".into(), false).unwrap();
        stream.send_data("three".into(), true).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap().unwrap(), b"one two three");
        recorded(&gateway, 13);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_the_rest_of_a_body_goes_up_behind_its_answer() {
    let (to_h2, heard_h2) = h2_origin(200);
    let (to_h1, heard_h1) = h1_origin(200);
    for (port, heard) in [(to_h2.port(), heard_h2), (to_h1.port(), heard_h1)] {
        let gateway = allowing(port);
        let mut client = h1_client(&gateway, port, 200);
        unrecorded(&gateway);
        write!(client, "4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n").unwrap();
        client.flush().unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap().unwrap(), b"one two three");
        recorded(&gateway, 13);
    }
}

/// Who leaves within its body has its answer; the origin hears that the body broke off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_behind_its_answer_is_done() {
    let (origin, heard) = h2_origin(200);
    let gateway = allowing(origin.port());
    let (client, mut stream) = h2_client(&gateway, origin.port(), 200).await;
    unrecorded(&gateway);
    stream.send_reset(Reason::CANCEL);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    recorded(&gateway, 4);
    drop((client, stream));

    let (origin, heard) = h1_origin(200);
    let gateway = allowing(origin.port());
    drop(h1_client(&gateway, origin.port(), 200));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    recorded(&gateway, 4);
}

/// What came of a body is not lost with a client that has sent all and leaves; where the origin takes none
/// of it, it is not kept for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sent_before_it_left_goes_up() {
    let (go, goes) = tokio::sync::watch::channel(false);
    let (tell, told) = channel();
    let origin = H2Origin::tls(move |asked, mut respond| {
        let (mut goes, tell) = (goes.clone(), tell.clone());
        async move {
            let mut body: RecvStream = asked.into_body();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data("early".into(), true).unwrap();
            // Takes nothing beyond its window until it is told to.
            goes.wait_for(|go| *go).await.unwrap();
            let mut read = 0;
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                read += data.len();
            }
            tell.send((read, body.is_end_stream())).unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let leaves = async || {
        let mut client = client(&gateway, port).await;
        let asked = request("POST", port, "/").body(()).unwrap();
        let (response, mut stream) = client.send_request(asked, false).unwrap();
        // More than a stream's window, the last of it in a piece that the window takes in part.
        stream.send_data(vec![7; 60_000].into(), false).unwrap();
        stream.send_data(vec![7; 10_000].into(), true).unwrap();
        assert_eq!(collect(soon(response).await.unwrap().into_body()).await.0, b"early");
        // All of it has come to the gateway.
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    leaves().await;
    go.send(true).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (70_000, true));
    assert_eq!(gateway.record(1)["upload"], 70_000);

    go.send(false).unwrap();
    leaves().await;
    let began = Instant::now();
    assert_eq!(gateway.records(2)[1]["outcome"], "passed");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    go.send(true).unwrap();
    assert!(!told.recv_timeout(PATIENCE).unwrap().1, "it broke off");
}

/// A limit ends it as it ends any body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_behind_an_answer_too() {
    let (origin, heard) = h2_origin(200);
    let port = origin.port();
    let limits = "    limits: { request_body: 6 }\n";
    let gateway = Setup::allow_all(&["origin.test"], port).sandbox(limits).start();
    let (_client, mut stream) = h2_client(&gateway, port, 200).await;
    stream.send_data("two".into(), false).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    let record = gateway.record(1);
    assert_eq!((&record["outcome"], &record["code"]), (&"failed".into(), &"body_too_large".into()));
}

/// And beside one that is still under way: it is the limit that ended it, not the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_ends_an_answer_is_told() {
    let origin = H2Origin::tls(async |asked: http::Request<RecvStream>, mut respond| {
        let mut body = asked.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("begun".into(), false).unwrap();
        while let Some(Ok(_)) = body.data().await {}
    });
    let port = origin.port();
    let limits = "    limits: { request_body: 6 }\n";
    let gateway = Setup::allow_all(&["origin.test"], port).sandbox(limits).start();
    let mut client = client(&gateway, port).await;
    let asked = request("POST", port, "/").body(()).unwrap();
    let (response, mut stream) = client.send_request(asked, false).unwrap();
    stream.send_data("one".into(), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "begun");
    stream.send_data("more than six".into(), false).unwrap();
    assert!(soon(body.data()).await.unwrap().is_err());
    assert_eq!(gateway.record(1)["code"], "body_too_large");
}

/// The origin says 100, answers and is gone, all at once: a body that waited is let go with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_waited_does_not_wait_on() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut io| {
        if !read_head(&mut io).is_empty() {
            io.write_all(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly",
            )
            .unwrap();
            io.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    limits(&client.sock);
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: {authority}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    .unwrap();
    client.flush().unwrap();
    let mut head = read_head(&mut client);
    if head.starts_with("HTTP/1.1 100") {
        head = read_head(&mut client);
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

/// It answers in place of 100, and reads on: the client has nothing to send, and nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_never_asked_for_is_not_waited_for() {
    let to_h2 = H2Origin::tls(async |asked: http::Request<RecvStream>, respond| {
        http_kit::reply(respond, 200, b"early");
        drop(asked.into_body().data().await);
    });
    let to_h1 = Origin::tls(&["origin.test"], &["http/1.1"], |mut io| {
        if !read_head(&mut io).is_empty() {
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").unwrap();
            io.flush().unwrap();
            drop(io.read(&mut [0]));
        }
    });
    for port in [to_h1.port(), to_h2.port()] {
        let gateway = allowing(port);
        let mut client = client(&gateway, port).await;
        let asked = request("POST", port, "/").header("expect", "100-continue").body(()).unwrap();
        let (response, _stream) = client.send_request(asked, false).unwrap();
        assert_eq!(collect(soon(response).await.unwrap().into_body()).await.0, b"early");
        assert_eq!(gateway.record(1)["outcome"], "passed");
    }
}

/// An origin that answers with an error wants no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_an_error_nothing_goes_up() {
    let (origin, heard) = h2_origin(400);
    let gateway = allowing(origin.port());
    let (_client, mut stream) = h2_client(&gateway, origin.port(), 400).await;
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    // It is read, and goes nowhere.
    stream.send_data("two".into(), true).unwrap();
    assert_eq!(gateway.record(1)["upload"], 4);
}

/// Silence is bounded, and a policy that forbids it ends it: on both sides, with a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_outlives_its_answer_is_ended_like_any() {
    let (origin, heard) = h2_origin(200);
    let port = origin.port();
    let idle = "timeout: { first_byte: 1s, idle: 1s }\n";
    let gateway = Setup::allow_all(&["origin.test"], port).more(idle).start();
    let (_client, mut stream) = h2_client(&gateway, port, 200).await;
    let began = Instant::now();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(gateway.record(1)["outcome"], "failed");
    soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await.unwrap();

    let (origin, heard) = h2_origin(200);
    let port = origin.port();
    let gateway = allowing(port);
    let (_client, mut stream) = h2_client(&gateway, port, 200).await;
    unrecorded(&gateway);
    gateway.write_policy("  other:\n    endpoints:\n      - { host: other.test, port: 443 }\n");
    gateway.signal("HUP");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), None);
    assert_eq!(gateway.record(1)["code"], "policy_changed");
    soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await.unwrap();
}

/// The gateway stops when it is over, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_it() {
    let (origin, heard) = h2_origin(200);
    let port = origin.port();
    let mut gateway = allowing(port);
    let (client, mut stream) = h2_client(&gateway, port, 200).await;
    gateway.signal("TERM");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.send_data("two".into(), true).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap().unwrap(), b"one two");
    recorded(&gateway, 7);
    let began = Instant::now();
    assert!(gateway.wait().success());
    assert!(began.elapsed() < Duration::from_secs(3));
    drop((client, stream));
}

/// The same over HTTP/1.1, where the connection ends with its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_where_the_connection_closes() {
    let (origin, heard) = h1_origin(200);
    let port = origin.port();
    let mut gateway = allowing(port);
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    limits(&client.sock);
    write!(client, "POST / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n")
        .unwrap();
    client.flush().unwrap();
    assert_eq!(http_kit::read_message(&mut client).1, b"early");
    gateway.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    write!(client, "3\r\ntwo\r\n0\r\n\r\n").unwrap();
    client.flush().unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap().unwrap(), b"one two");
    assert!(gateway.wait().success());
}

/// A connection whose first request goes on so is not taken for idle, and serves others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_connection_is_not_idle() {
    let (origin, heard) = h1_origin(200);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port)
        .more("timeout: { first_byte: 5s, header: 1s, idle: 1s }\n")
        .start();
    let mut client = h1_client(&gateway, port, 200);
    // The origin has five seconds for each piece; a connection one when it is idle, or its next head has begun.
    for pause in [500, 2500] {
        std::thread::sleep(Duration::from_millis(pause));
        write!(client, "4\r\nmore\r\n").unwrap();
        client.flush().unwrap();
    }
    write!(client, "0\r\n\r\n").unwrap();
    client.flush().unwrap();
    let body = heard.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(body, b"one moremore");
    wait_for(PATIENCE, || (!gateway.records_now("default").is_empty()).then_some(()));
    recorded(&gateway, 12);
}
