//! Origins that speak HTTP/2 alone, most of them frame by frame: what they say before an answer is
//! heard, an end that is none is not taken for one, and a connection is shared as far as it goes.

use crate::attack::by_hand::{self, asked, next, reset, say};
use crate::attack::frames::{self, data, frame, headers};
use crate::common::{Gateway, PATIENCE, Setup, Tls, header, problem, read_all, read_head};
use crate::http_kit::{
    self, H2Origin, client, collect, exchange, read_message, reply, request, soon,
};
use crate::operation_kit;
use bytes::Bytes;
use http::Response;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const OK: &[(&str, &str)] = &[(":status", "200")];
const NO_ERROR: [u8; 4] = [0; 4];
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// A client of HTTP/1.1 in a tunnel that has sent this much.
fn asks(gateway: &Gateway, port: u16, line: &str, fields: &str) -> Tls {
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(client, "{line} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n").unwrap();
    client.flush().unwrap();
    client
}

#[test]
fn a_body_that_waits_goes_up_when_the_origin_says_continue() {
    let (tell, told) = channel();
    let origin = by_hand::origin(move |io, _| {
        while let Some(stream) = asked(io) {
            let began = Instant::now();
            say(io, &headers(stream, &[(":status", "100")], false));
            let body = next(io).unwrap();
            tell.send((began.elapsed(), body.payload)).unwrap();
            say(io, &headers(stream, &[(":status", "201")], true));
        }
    });
    let gateway = allowing(origin.port());
    let fields = "Expect: 100-continue\r\nContent-Length: 4\r\n";
    let mut client = asks(&gateway, origin.port(), "PUT /", fields);
    assert_eq!(read_head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"data").unwrap();
    client.flush().unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 201"));
    let (took, body) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body, b"data");
    // Without the 100 it would have come after a second.
    assert!(took < Duration::from_millis(800), "{took:?}");
    assert_eq!(gateway.record(1)["upload"], 4);
}

#[test]
fn hints_are_there_before_the_answer_is_begun() {
    let (seen, told) = channel::<()>();
    let told = Mutex::new(told);
    let origin = by_hand::origin(move |io, _| {
        while let Some(stream) = asked(io) {
            let hints = [(":status", "103"), ("link", "</a.css>; rel=preload")];
            say(io, &headers(stream, &hints, false));
            told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            say(io, &[headers(stream, OK, false), data(stream, b"final", true)].concat());
        }
    });
    let authority = format!("origin.test:{}", origin.port());
    let gateway = allowing(origin.port());
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    for _ in 0..2 {
        write!(client, "GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        client.flush().unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{head}");
        assert_eq!(header(&head, "link").as_deref(), Some("</a.css>; rel=preload"));
        seen.send(()).unwrap();
        let (head, body, _) = read_message(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"final");
    }
}

/// A reset without an error is no end either (RFC 9113 §8.1), where none was said before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_length_that_is_reset_has_no_end() {
    let origin = by_hand::origin(|io, _| {
        while let Some(stream) = asked(io) {
            let half = [headers(stream, OK, false), data(stream, b"half", false)].concat();
            say(io, &[half, reset(stream, NO_ERROR)].concat());
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let back = read_all(&mut asks(&gateway, port, "GET /", ""));
    assert!(back.starts_with(b"HTTP/1.1 200"), "{}", back.escape_ascii());
    assert!(!back.ends_with(b"0\r\n\r\n"), "{}", back.escape_ascii());
    let mut client = client(&gateway, port).await;
    let asked = request("GET", port, "/").body(()).unwrap();
    let mut body = soon(client.send_request(asked, true).unwrap().0).await.unwrap().into_body();
    let ended = loop {
        match soon(body.data()).await {
            Some(Ok(data)) => assert_eq!(data, "half"),
            ended => break ended,
        }
    };
    assert!(ended.is_some(), "what was cut looks whole");
    for record in gateway.records(2) {
        assert_eq!((&record["outcome"], &record["status"]), (&"failed".into(), &200.into()));
        assert_eq!(record["code"], "upstream_closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_whole_stays_so_when_the_rest_of_the_upload_is_not_wanted() {
    let origin = by_hand::origin(|io, _| {
        while let Some(stream) = asked(io) {
            // Some of the upload is there, and it goes on.
            next(io);
            let whole = [headers(stream, OK, false), data(stream, b"whole", true)].concat();
            say(io, &[whole, reset(stream, NO_ERROR)].concat());
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut two = client(&gateway, port).await;
    for _ in 0..10 {
        let asked = request("POST", port, "/").body(()).unwrap();
        let (response, mut up) = two.send_request(asked, false).unwrap();
        up.send_data(Bytes::from_static(b"some"), false).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(collect(response.into_body()).await.0, b"whole");
        let mut one = asks(&gateway, port, "POST /", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome");
        let (head, body, _) = read_message(&mut one);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"whole");
    }
    for record in gateway.records(20) {
        assert_eq!((&record["outcome"], &record["code"]), (&"passed".into(), &"allowed".into()));
        assert_eq!(record["download"], 5);
    }
}

#[test]
fn an_answer_of_two_lengths_is_a_502() {
    for other in ["3", "02"] {
        let origin = by_hand::origin(move |io, _| {
            while let Some(stream) = asked(io) {
                let two = [(":status", "200"), ("content-length", "2"), ("content-length", other)];
                say(io, &[headers(stream, &two, false), data(stream, b"ok", true)].concat());
            }
        });
        let gateway = allowing(origin.port());
        let (head, body, _) = read_message(&mut asks(&gateway, origin.port(), "GET /", ""));
        assert!(head.starts_with("HTTP/1.1 502"), "{other}: {head}");
        assert_eq!(problem(&body)["code"], "upstream_protocol", "{other}");
        let record = gateway.record(1);
        assert_eq!(
            (&record["code"], &record["status"]),
            (&"upstream_protocol".into(), &502.into())
        );
    }
}

/// None is answered before all five are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_origin_has_no_streams_for_goes_over_another_connection() {
    let all = Arc::new(tokio::sync::Barrier::new(5));
    let two = h2::server::Builder::new().max_concurrent_streams(2).clone();
    let origin = H2Origin::built(&two, move |request, respond| {
        let all = all.clone();
        async move {
            if request.uri().path() == "/all" {
                all.wait().await;
            }
            reply(respond, 200, b"ok");
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let ask = |path| request("GET", port, path).body(()).unwrap();
    // From here on the gateway knows how many streams the connection takes.
    exchange(&mut client, ask("/first"), b"").await;
    let mut responses = Vec::new();
    for _ in 0..5 {
        client = soon(client.ready()).await.unwrap();
        responses.push(client.send_request(ask("/all"), true).unwrap().0);
    }
    for response in responses {
        assert_eq!(soon(response).await.unwrap().status(), 200);
    }
    assert!(origin.connections() >= 3, "{}", origin.connections());
    assert!(gateway.records(6).iter().all(|record| record["outcome"] == "passed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_going_away_gets_no_further_request() {
    let connections = Arc::new(AtomicUsize::new(0));
    let late = Arc::new(AtomicUsize::new(0));
    let (count, came) = (connections.clone(), late.clone());
    let origin = by_hand::origin(move |io, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let Some(stream) = asked(io) else { return };
        let goaway = [stream.to_be_bytes(), NO_ERROR].concat();
        let goaway = frame(frames::GOAWAY, 0, 0, &goaway);
        let answer = [headers(stream, OK, false), data(stream, b"ok", true)].concat();
        say(io, &[answer, goaway].concat());
        while asked(io).is_some() {
            came.fetch_add(1, Ordering::SeqCst);
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    for _ in 0..5 {
        let ask = request("POST", port, "/").body(()).unwrap();
        let (head, body, _) = exchange(&mut client, ask, b"never sent twice").await;
        assert_eq!((head.status().as_u16(), &body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
    assert_eq!(late.load(Ordering::SeqCst), 0);
}

/// What goes up in the next test: no two pieces of it are alike.
fn eight_mebibytes() -> Bytes {
    (0..2 * 1024 * 1024_u32).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_goes_up_whole_through_small_windows_also_while_it_comes_back() {
    let mut small = h2::server::Builder::new();
    small.initial_window_size(10_000).initial_connection_window_size(70_000);
    let origin = H2Origin::built(
        &small,
        async |request: http::Request<h2::RecvStream>,
               mut respond: h2::server::SendResponse<Bytes>| {
            if request.uri().path() == "/whole" {
                let (body, _) = collect(request.into_body()).await;
                let whole = body == eight_mebibytes();
                return reply(respond, if whole { 200 } else { 500 }, b"");
            }
            let mut down = respond.send_response(Response::new(()), false).unwrap();
            let mut up = request.into_body();
            while let Some(data) = up.data().await {
                let data = data.unwrap();
                up.flow_control().release_capacity(data.len()).unwrap();
                down.send_data(data, false).unwrap();
            }
            down.send_data(Bytes::new(), true).unwrap();
        },
    );
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let ask = |path| request("POST", port, path).body(()).unwrap();
    let (head, ..) = exchange(&mut client, ask("/whole"), &eight_mebibytes()).await;
    assert_eq!(head.status(), 200);
    let (response, mut up) = client.send_request(ask("/echo"), false).unwrap();
    // The answer begins before anything has gone up.
    let down = soon(response).await.unwrap().into_body();
    up.send_data(eight_mebibytes(), true).unwrap();
    assert!(collect(down).await.0 == eight_mebibytes());
    for record in gateway.records(2) {
        assert_eq!((&record["outcome"], &record["upload"]), (&"passed".into(), &8_388_608.into()));
    }
}

#[test]
fn a_client_that_leaves_in_an_answer_cancels_it_at_the_origin() {
    let (tell, told) = channel();
    let origin = by_hand::origin(move |io, _| {
        let stream = asked(io).unwrap();
        say(io, &headers(stream, OK, false));
        // A client that has said its end may still read: it is gone when it can't be written to.
        io.sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let end = (0..500).find_map(|_| {
            say(io, &data(stream, b"more", false));
            frames::read(io).filter(|frame| frame.kind == frames::RST_STREAM)
        });
        tell.send(end.map(|end| (end.stream == stream, end.payload))).unwrap();
    });
    let gateway = allowing(origin.port());
    let mut client = asks(&gateway, origin.port(), "GET /", "");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200"));
    assert_eq!(http_kit::read_chunk(&mut client), b"more");
    drop(client);
    let end = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end, Some((true, CANCEL.to_vec())));
    let record = gateway.record(1);
    assert_eq!((&record["outcome"], &record["code"]), (&"failed".into(), &"client_gone".into()));
}

/// The origin answers at once and takes no more than its first window; the client goes, having said all
/// of its body or not.
async fn left_with_an_upload_under_way(whole: bool) {
    let (tell, told) = channel();
    let origin = by_hand::origin(move |io, _| {
        let stream = asked(io).unwrap();
        say(io, &headers(stream, OK, false));
        let end = std::iter::from_fn(|| next(io)).find(|frame| frame.kind == frames::RST_STREAM);
        tell.send(end.map(|end| (end.stream == stream, end.payload))).unwrap();
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let ask = request("POST", port, "/").body(()).unwrap();
    let (response, mut up) = client.send_request(ask, false).unwrap();
    up.send_data(vec![0x5a; 100 * 1024].into(), whole).unwrap();
    let down = soon(response).await.unwrap().into_body();
    // Until the gateway has all of it, and the origin's window is used up.
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop((down, up));
    let end = tokio::task::spawn_blocking(move || told.recv_timeout(PATIENCE).unwrap());
    assert_eq!(end.await.unwrap(), Some((true, CANCEL.to_vec())), "{whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_upload_waits_for_a_window_cancels_it() {
    left_with_an_upload_under_way(false).await;
    left_with_an_upload_under_way(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_connection_to_an_address_that_is_closed_now_is_not_used() {
    let origin =
        H2Origin::tls(async |_: http::Request<h2::RecvStream>, respond| reply(respond, 200, b""));
    let port = origin.port();
    let opens = |net: &str| {
        format!(
            "  all:\n    endpoints:\n      - {{ port: {port}, protocol: rest, access: full, allowed_ips: [\"{net}\"] }}\n"
        )
    };
    let gateway = Setup::policy(&opens("127.0.0.0/8")).start();
    let mut client = client(&gateway, port).await;
    let mut status = async || {
        let asked = request("GET", port, "/").body(()).unwrap();
        let (response, _) = client.send_request(asked, true).unwrap();
        soon(response).await.unwrap().status()
    };
    assert_eq!(status().await, 200);
    operation_kit::reload(&gateway, &opens("192.0.2.0/24"), 2);
    assert_eq!(status().await, 403);
    operation_kit::reload(&gateway, &opens("127.0.0.0/8"), 3);
    assert_eq!(status().await, 200);
}

/// What has no content may end in a frame of its own, and may say how long what it stands for is
/// (RFC 9113 §8.1.1, RFC 9110 §8.6).
#[test]
fn an_answer_without_content_that_ends_behind_its_head_is_one() {
    let ends: [fn(u32) -> Vec<u8>; 3] = [
        |stream| data(stream, b"", true),
        |stream| headers(stream, &[("x-trailer", "1")], true),
        |stream| by_hand::reset(stream, [0; 4]),
    ];
    for end in ends {
        for (method, status) in [("GET", "304"), ("HEAD", "200"), ("GET", "204")] {
            let origin = by_hand::origin(move |io, _| {
                while let Some(stream) = by_hand::asked(io) {
                    let mut fields = vec![(":status", status), ("etag", "\"a\"")];
                    if status != "204" {
                        fields.push(("content-length", "5"));
                    }
                    by_hand::say(io, &headers(stream, &fields, false));
                    std::thread::sleep(Duration::from_millis(50));
                    by_hand::say(io, &end(stream));
                }
            });
            let port = origin.port();
            let gateway = Setup::allow_all(&["origin.test"], port).start();
            let authority = format!("origin.test:{port}");
            let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
            for _ in 0..2 {
                write!(client, "{method} / HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
                client.flush().unwrap();
                let head = read_head(&mut client);
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{method} {status}: {head}"
                );
                assert_eq!(header(&head, "etag").as_deref(), Some("\"a\""));
            }
            let records = gateway.records(2);
            assert!(records.iter().all(|r| r["outcome"] == "passed"), "{records:#?}");
        }
    }
}
