//! How much an HTTP/2 origin may send ahead of a client that does not read: enough for a fast
//! stream over a long way, and bounded, also where a sandbox opens many connections.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod http_kit;

use bytes::Bytes;
use common::{Gateway, Setup};
use h2::server::SendResponse;
use http::{Request, Response};
use http_kit::{H2Origin, client, request, soon};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// What the gateway reads on meanwhile: the client's own window, and buffers on the way.
const ON_THE_WAY: usize = MIB;

/// Sends as much as it may, and counts it.
async fn gush(respond: SendResponse<Bytes>, sent: Arc<AtomicUsize>) {
    let mut respond = respond;
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    loop {
        stream.reserve_capacity(64 * 1024);
        while stream.capacity() == 0 {
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                _ => return,
            }
        }
        let n = stream.capacity();
        if stream.send_data(vec![0x5a; n].into(), false).is_err() {
            return;
        }
        sent.fetch_add(n, Ordering::SeqCst);
    }
}

/// An origin that gushes on at most so many streams of a connection, and how much it was let.
fn gusher(streams: usize) -> (H2Origin, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let origin = H2Origin::going_away(streams, move |_: Request<h2::RecvStream>, respond| {
        let count = count.clone();
        async move { gush(respond, count).await }
    });
    (origin, sent)
}

/// What was sent once no more is.
async fn settled(sent: &AtomicUsize) -> usize {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = sent.load(Ordering::SeqCst);
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

/// A response of which nothing is read, and what keeps it open.
async fn unread(gateway: &Gateway, port: u16) -> (impl Sized, h2::RecvStream) {
    let mut client = client(gateway, port).await;
    let asked = request("GET", port, "/").body(()).unwrap();
    let (response, stream) = client.send_request(asked, true).unwrap();
    let body = soon(response).await.unwrap().into_body();
    ((client, stream), body)
}

fn policy(ports: &[u16]) -> Setup {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let entry = format!(
        "  all:\n    endpoints:\n      - {{ host: origin.test, ports: [{}], protocol: rest, access: full, allowed_ips: [\"127.0.0.0/8\"] }}\n",
        ports.join(", ")
    );
    Setup::policy(&entry)
}

#[tokio::test]
async fn an_origin_may_send_two_mebibytes_ahead_and_no_more() {
    let (origin, sent) = gusher(usize::MAX);
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    let _unread = unread(&gateway, origin.port()).await;
    let ahead = soon(settled(&sent)).await;
    assert!(ahead >= 2 * MIB, "{ahead} bytes a round trip are little");
    assert!(ahead <= 2 * MIB + ON_THE_WAY, "{ahead} bytes wait for a client that does not read");
}

#[tokio::test]
async fn a_sandbox_with_many_connections_has_narrow_ones() {
    let origins: Vec<_> = (0..10).map(|_| gusher(usize::MAX)).collect();
    let ports: Vec<u16> = origins.iter().map(|(origin, _)| origin.port()).collect();
    let gateway = policy(&ports).start();
    let mut open = Vec::new();
    for port in &ports {
        open.push(unread(&gateway, *port).await);
    }
    let mut ahead = Vec::new();
    for (_, sent) in &origins {
        ahead.push(soon(settled(sent)).await);
    }
    let wide = ahead.iter().filter(|ahead| **ahead >= 2 * MIB).count();
    assert_eq!(wide, 8, "{ahead:?}");
}

/// Each of these origins ends its connection with its first stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_of_wide_connections_is_given_back_with_them() {
    let origins: Vec<_> = (0..10).map(|_| gusher(1)).collect();
    let ports: Vec<u16> = origins.iter().map(|(origin, _)| origin.port()).collect();
    let gateway = policy(&ports).start();
    let mut open = Vec::new();
    for ((_, sent), port) in origins.iter().zip(&ports).take(9) {
        open.push(unread(&gateway, *port).await);
        soon(settled(sent)).await;
    }
    let ahead = |at: usize| origins[at].1.load(Ordering::SeqCst);
    assert!(ahead(7) >= 2 * MIB && ahead(8) < 2 * MIB, "{} {}", ahead(7), ahead(8));
    drop(open);
    gateway.records(9);
    let _unread = unread(&gateway, ports[9]).await;
    let last = soon(settled(&origins[9].1)).await;
    assert!(last >= 2 * MIB, "{last}");
}
