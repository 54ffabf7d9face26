//! What an HTTP/2 origin says that it did nothing with goes up once more, with its body as far as that is
//! there, whatever its method (RFC 9113 §8.7); nothing else of what it may have begun does.

use crate::attack::by_hand::{self, Io, asked, echo, goaway, next, reset, say, whole};
use crate::attack::frames::{self, data, frame, headers};
use crate::common::{Gateway, Origin, Setup};
use crate::http_kit::{client, collect, exchange, request, soon};
use bytes::Bytes;
use http::HeaderMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const OK: &[(&str, &str)] = &[(":status", "200")];
const NO_ERROR: [u8; 4] = [0; 4];
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// An origin that does this with the first request of its first connection, and how often it was asked; to
/// later requests it echoes.
fn first(act: impl Fn(&mut Io) + Send + Sync + 'static) -> Origin {
    by_hand::origin(move |io, connection| {
        if connection == 0 {
            act(io);
        }
        echo(io);
    })
}

/// Posts `body` in two pieces with a pause between; the status and the body of the answer.
async fn post(gateway: &Gateway, port: u16, body: &[u8]) -> (u16, Vec<u8>) {
    post_with(gateway, port, (body, None)).await
}

async fn post_with(
    gateway: &Gateway,
    port: u16,
    (body, trailers): (&[u8], Option<HeaderMap>),
) -> (u16, Vec<u8>) {
    let mut client = client(gateway, port).await;
    let asked = request("POST", port, "/").body(()).unwrap();
    let (response, mut stream) = client.send_request(asked, false).unwrap();
    let (one, two) = body.split_at(body.len() / 2);
    stream.send_data(Bytes::copy_from_slice(one), false).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Who was refused meanwhile is reset.
    let _ = stream.send_data(Bytes::copy_from_slice(two), trailers.is_none());
    if let Some(trailers) = trailers {
        let _ = stream.send_trailers(trailers);
    }
    let (head, body) = soon(response).await.unwrap().into_parts();
    (head.status.as_u16(), collect(body).await.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_behind_the_last_stream_goes_up_on_another_connection() {
    let origin = by_hand::origin(|io, connection| {
        if connection == 0 {
            let all = [whole(io).unwrap(), whole(io).unwrap(), whole(io).unwrap()];
            let (taken, body) = all.iter().min().unwrap();
            say(io, &goaway(*taken, NO_ERROR));
            say(io, &[headers(*taken, OK, false), data(*taken, body, true)].concat());
        } else {
            echo(io);
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let all: Vec<_> = (0..3)
        .map(|n| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let asked = request("POST", port, "/").body(()).unwrap();
                exchange(&mut client, asked, format!("body {n}").as_bytes()).await
            })
        })
        .collect();
    for (n, one) in all.into_iter().enumerate() {
        let (head, body, _) = soon(one).await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(body, format!("body {n}").as_bytes());
    }
    assert_eq!(origin.connections(), 2);
    assert!(gateway.records(3).iter().all(|r| r["upload"] == 6 && r["status"] == 200));
}

/// As nginx does with `keepalive_requests`: some twenty on each connection, then GOAWAY, and what is on
/// its way by then is not looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_so_many_costs_nobody_a_request() {
    let done: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let taken = done.clone();
    let origin = by_hand::origin(move |io, _| {
        let (mut count, mut last) = (0, 0);
        while let Some((stream, body)) = whole(io) {
            if count >= 20 && stream > last {
                continue;
            }
            let answer = [headers(stream, OK, false), data(stream, &body, true)].concat();
            taken.lock().unwrap().push(body);
            (count, last) = (count + 1, last.max(stream));
            // Of two streams the later one may be whole first: the other is still answered.
            say(io, &if count == 20 { [goaway(last, NO_ERROR), answer].concat() } else { answer });
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let all: Vec<_> = (0..16)
        .map(|lane| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for n in 0..12 {
                    let body = format!("{lane} {n}");
                    let asked = request("POST", port, "/").body(()).unwrap();
                    let (head, echoed, _) = exchange(&mut client, asked, body.as_bytes()).await;
                    assert_eq!((head.status().as_u16(), &echoed[..]), (200, body.as_bytes()));
                }
            })
        })
        .collect();
    for one in all {
        soon(one).await.unwrap();
    }
    let mut done = done.lock().unwrap().clone();
    let all = done.len();
    done.sort();
    done.dedup();
    assert_eq!((all, done.len()), (192, 192), "each was done, and once");
    // Those of a connection that goes away share the next.
    assert!(origin.connections() <= 30, "{}", origin.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_when_half_has_come_goes_up_whole() {
    let origin = first(|io| {
        let head = next(io).unwrap();
        assert_eq!(next(io).unwrap().payload, b"one ");
        say(io, &reset(head.stream, REFUSED_STREAM));
    });
    let gateway = allowing(origin.port());
    let (status, body) = post(&gateway, origin.port(), b"one two ").await;
    assert_eq!((status, &body[..]), (200, &b"one two "[..]));
    assert_eq!(gateway.record(1)["upload"], 8);
}

/// Bodies that were read before they were judged, and that wait for `100 Continue`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_read_or_waits_goes_up_again() {
    let origin = first(|io| {
        let stream = whole(io).unwrap().0;
        say(io, &reset(stream, REFUSED_STREAM));
        let head = next(io).unwrap();
        say(io, &reset(head.stream, REFUSED_STREAM));
        let head = next(io).unwrap();
        say(io, &headers(head.stream, &[(":status", "100")], false));
        let body = next(io).unwrap().payload;
        say(io, &[headers(head.stream, OK, false), data(head.stream, &body, true)].concat());
    });
    let port = origin.port();
    let entry = format!(
        "  all:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        path: /graphql\n        protocol: graphql\n        allowed_ips: [\"127.0.0.0/8\"]\n        rules:\n          - allow: {{ operation_type: query }}\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        access: full\n        allowed_ips: [\"127.0.0.0/8\"]\n"
    );
    let gateway = Setup::policy(&entry).start();
    let mut client = client(&gateway, port).await;
    let query = br#"{"query":"query { viewer }"}"#;
    let asked = request("POST", port, "/graphql").header("content-type", "application/json");
    let (head, body, _) = exchange(&mut client, asked.body(()).unwrap(), query).await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &query[..]));

    let asked = request("POST", port, "/").header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut stream) = client.send_request(asked, false).unwrap();
    let said = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert_eq!(said.unwrap().unwrap().status(), 100);
    stream.send_data("waited".into(), true).unwrap();
    let body = soon(response).await.unwrap().into_body();
    assert_eq!(collect(body).await.0, b"waited");
}

/// How often the origin got the head of a request.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<usize>>);

impl Asked {
    fn head(&self, io: &mut Io) -> Option<u32> {
        let stream = asked(io)?;
        *self.0.lock().unwrap() += 1;
        Some(stream)
    }

    fn times(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

/// An origin that does the same with every request, and how often it was asked.
fn always(act: impl Fn(&mut Io, u32) + Send + Sync + 'static) -> (Origin, Asked) {
    let asked = Asked::default();
    let count = asked.clone();
    let origin = by_hand::origin(move |io, _| {
        while let Some(stream) = count.head(io) {
            act(io, stream);
        }
    });
    (origin, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_refuses_all_is_asked_three_times() {
    let (origin, asked) = always(|io, stream| say(io, &reset(stream, REFUSED_STREAM)));
    let gateway = allowing(origin.port());
    assert_eq!(post(&gateway, origin.port(), b"some body").await.0, 502);
    assert_eq!(asked.times(), 3);
    assert_eq!(gateway.record(1)["code"], "upstream_closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_origin_may_have_begun_is_not_sent_again() {
    let (cancels, asked) = always(|io, stream| say(io, &reset(stream, CANCEL)));
    let gateway = allowing(cancels.port());
    assert_eq!(post(&gateway, cancels.port(), b"some body").await.0, 502);
    assert_eq!(asked.times(), 1, "CANCEL says nothing about what was done");

    let (leaves, asked) = always(|io, stream| {
        say(io, &goaway(stream, NO_ERROR));
        io.sock.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let gateway = allowing(leaves.port());
    assert_eq!(post(&gateway, leaves.port(), b"some body").await.0, 502);
    assert_eq!(asked.times(), 1, "the last stream is among those that something was done with");

    let (hints, asked) = always(|io, stream| {
        say(io, &headers(stream, &[(":status", "103")], false));
        std::thread::sleep(Duration::from_millis(50));
        say(io, &reset(stream, REFUSED_STREAM));
    });
    let gateway = allowing(hints.port());
    assert_eq!(post(&gateway, hints.port(), b"some body").await.0, 502);
    assert_eq!(asked.times(), 1, "it said something about it before");

    let (begins, asked) = always(|io, stream| {
        say(io, &[headers(stream, OK, false), data(stream, b"a", false)].concat());
        std::thread::sleep(Duration::from_millis(50));
        say(io, &reset(stream, REFUSED_STREAM));
    });
    let gateway = allowing(begins.port());
    let mut client = client(&gateway, begins.port()).await;
    let get = request("GET", begins.port(), "/").body(()).unwrap();
    let (response, _) = client.send_request(get, true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    while let Some(Ok(_)) = soon(body.data()).await {}
    assert_eq!(asked.times(), 1, "its answer had begun");
}

/// What is not kept: bodies of which more than 128 KiB went up, and those with trailers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_any_more_is_not_sent_again() {
    let (origin, asked) = always(|io, stream| {
        let mut came = 0;
        while came <= 40 * 1024 {
            came += next(io).unwrap().payload.len();
        }
        say(io, &frame(frames::WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes()));
        say(io, &frame(frames::WINDOW_UPDATE, 0, stream, &100_000_u32.to_be_bytes()));
        while came <= 130 * 1024 {
            came += next(io).unwrap().payload.len();
        }
        say(io, &reset(stream, REFUSED_STREAM));
    });
    let gateway = allowing(origin.port());
    assert_eq!(post(&gateway, origin.port(), &[7; 250 * 1024]).await.0, 502);
    assert_eq!(asked.times(), 1);

    let (origin, asked) = always(|io, stream| {
        while next(io).unwrap().flags & frames::END_STREAM == 0 {}
        say(io, &reset(stream, REFUSED_STREAM));
    });
    let gateway = allowing(origin.port());
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    let sent = (&b"some body"[..], Some(trailers));
    assert_eq!(post_with(&gateway, origin.port(), sent).await.0, 502);
    assert_eq!(asked.times(), 1);
}

/// An origin whose HTTP/2 connection sends everybody to HTTP/1.1: what needs HTTP/2 does not go there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_is_not_sent_again_over_http1() {
    const HTTP_1_1_REQUIRED: [u8; 4] = [0, 0, 0, 13];
    let requests = Asked::default();
    let over_http1 = requests.clone();
    let origin = Origin::tls(&["origin.test"], &["h2", "http/1.1"], move |mut io| {
        if io.read_exact(&mut [0; 1]).is_err() {
            return;
        }
        if io.conn.alpn_protocol() != Some(b"h2") {
            *over_http1.0.lock().unwrap() += 1;
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            return io.write_all(answer).unwrap();
        }
        io.read_exact(&mut [0; frames::PREFACE.len() - 1]).unwrap();
        say(&mut io, &frame(frames::SETTINGS, 0, 0, &[]));
        if asked(&mut io).is_some() {
            say(&mut io, &goaway(0, HTTP_1_1_REQUIRED));
            while next(&mut io).is_some() {}
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    for (kind, status, code) in
        [("text/plain", 200, "allowed"), ("application/grpc", 200, "grpc_needs_h2")]
    {
        let before = requests.times();
        let asked = request("POST", port, "/").header("content-type", kind).body(()).unwrap();
        let (head, _, _) = exchange(&mut client, asked, b"body").await;
        assert_eq!(head.status(), status, "{kind}");
        assert_eq!(gateway.records(before + 1).last().unwrap()["code"], code, "{kind}");
        assert_eq!(requests.times(), 1, "{kind}");
    }
}
