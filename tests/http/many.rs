//! What honest HTTP/2 clients do in great numbers: small frames, downloads that they stop, uploads that are
//! answered early. No limit that is there against floods may end their connections.

use crate::common::{Gateway, Setup};
use crate::http_kit::{self, H2Origin, client, collect, exchange, reply, request, soon};
use bytes::Bytes;
use h2::client::SendRequest;
use std::time::Duration;

fn allowing(origin: &H2Origin) -> Gateway {
    Setup::allow_all(&["origin.test"], origin.port()).start()
}

/// Sends as fast as the windows let it, `size` bytes or for ever.
async fn send(mut up: h2::SendStream<Bytes>, size: usize) {
    let mut left = size;
    while left > 0 {
        up.reserve_capacity(left.min(16_384));
        let Some(Ok(room)) = std::future::poll_fn(|cx| up.poll_capacity(cx)).await else { return };
        let piece = room.min(left);
        left -= piece;
        if up.send_data(vec![b'x'; piece].into(), left == 0).is_err() {
            return;
        }
    }
}

/// An origin of endless downloads, and of what is small.
fn endless() -> H2Origin {
    H2Origin::tls(async |asked: http::Request<h2::RecvStream>, mut respond| {
        if asked.uri().path() == "/little" {
            return reply(respond, 200, b"little");
        }
        let up = respond.send_response(http::Response::new(()), false).unwrap();
        send(up, usize::MAX).await;
    })
}

/// What the test's own ends allow of small frames.
const PLENTY: usize = 1 << 30;

/// A client, and an origin, that small frames do not frighten.
async fn patient(gateway: &Gateway, port: u16) -> SendRequest<Bytes> {
    let stream = http_kit::tls(gateway, port, &["h2"]).await;
    let mut settings = h2::client::Builder::new();
    let (client, connection) = settings.data_frame_budget(PLENTY).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    soon(client.ready()).await.unwrap()
}

fn patient_origin<F, R>(serve: F) -> H2Origin
where
    F: Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> R
        + Clone
        + Send
        + 'static,
    R: Future<Output = ()> + 'static,
{
    H2Origin::built(h2::server::Builder::new().data_frame_budget(PLENTY), serve)
}

async fn is_served(client: &mut SendRequest<Bytes>, port: u16) {
    let asked = request("GET", port, "/little").body(()).unwrap();
    let (head, body, _) = exchange(client, asked, b"").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"little"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_that_are_stopped_end_no_connection_that_others_share() {
    let origin = endless();
    let port = origin.port();
    let gateway = allowing(&origin);
    let (mut stopping, mut other) = (client(&gateway, port).await, client(&gateway, port).await);
    for round in 0..60 {
        let begun: Vec<_> = (0..40)
            .map(|_| {
                let asked = request("GET", port, "/much").body(()).unwrap();
                stopping.send_request(asked, true).unwrap().0
            })
            .collect();
        // All at once: what one has not read fills the window of the others.
        let stops = begun.into_iter().map(|response| {
            tokio::spawn(async move {
                let mut body = soon(response).await.unwrap().into_body();
                assert!(soon(body.data()).await.unwrap().is_ok(), "round {round}");
            })
        });
        for stopped in stops.collect::<Vec<_>>() {
            stopped.await.unwrap();
        }
        is_served(&mut other, port).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_that_are_stopped_at_once_end_no_connection() {
    let origin = endless();
    let port = origin.port();
    let gateway = allowing(&origin);
    let mut one = client(&gateway, port).await;
    for _ in 0..20 {
        for _ in 0..100 {
            let asked = request("GET", port, "/much").body(()).unwrap();
            drop(one.send_request(asked, true).unwrap());
        }
        is_served(&mut one, port).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_are_answered_early_end_no_connection() {
    let origin = H2Origin::tls(async |asked: http::Request<h2::RecvStream>, respond| {
        let little = asked.uri().path() == "/little";
        reply(respond, if little { 200 } else { 413 }, b"little");
        // What comes is read, as much as the window takes.
        drop(asked);
    });
    let port = origin.port();
    let gateway = allowing(&origin);
    let mut one = client(&gateway, port).await;
    for _ in 0..500 {
        let asked = request("POST", port, "/early").body(()).unwrap();
        let (response, up) = one.send_request(asked, false).unwrap();
        let sending = tokio::spawn(send(up, 2 << 20));
        let (head, body) = soon(response).await.unwrap().into_parts();
        assert_eq!(head.status, 413);
        drop(body);
        soon(sending).await.unwrap();
    }
    is_served(&mut one, port).await;
}

/// As a client of gRPC that streams messages does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_wait_for_an_origin_that_is_slow_to_read_them() {
    let origin = patient_origin(async |asked: http::Request<h2::RecvStream>, respond| {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (body, _) = collect(asked.into_body()).await;
        reply(respond, 200, body.len().to_string().as_bytes());
    });
    let port = origin.port();
    let gateway = allowing(&origin);
    // The second fill all windows on the way.
    for (frames, size) in [(20_000, 10), (100_000, 4)] {
        let mut one = patient(&gateway, port).await;
        let asked = request("POST", port, "/small").body(()).unwrap();
        let (response, mut up) = one.send_request(asked, false).unwrap();
        for n in 1..=frames {
            up.reserve_capacity(size);
            while up.capacity() < size {
                soon(std::future::poll_fn(|cx| up.poll_capacity(cx))).await.unwrap().unwrap();
            }
            up.send_data(Bytes::from_static(b"0123456789").slice(..size), n == frames).unwrap();
        }
        let (head, body) = soon(response).await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(collect(body).await.0, (frames * size).to_string().as_bytes());
    }
}

/// As a client of server-sent events that is busy with something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_wait_for_a_client_that_is_slow_to_read_them() {
    const FRAMES: usize = 60_000;
    let origin = patient_origin(async |_: http::Request<h2::RecvStream>, mut respond| {
        let mut up = respond.send_response(http::Response::new(()), false).unwrap();
        for n in 1..=FRAMES {
            up.reserve_capacity(14);
            while up.capacity() < 14 {
                let Some(Ok(_)) = std::future::poll_fn(|cx| up.poll_capacity(cx)).await else {
                    return;
                };
            }
            up.send_data(Bytes::from_static(b"data: event\n\n\n"), n == FRAMES).unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(&origin);
    let mut one = patient(&gateway, port).await;
    let asked = request("GET", port, "/events").body(()).unwrap();
    let (response, _) = one.send_request(asked, true).unwrap();
    let body = soon(response).await.unwrap().into_body();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(collect(body).await.0.len(), FRAMES * 14);
}
