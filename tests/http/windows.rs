//! How much an HTTP/2 origin may send ahead of a client that does not read: enough for a fast
//! stream over a long way, and bounded, also where a sandbox opens many connections.

use crate::common::{Gateway, Setup};
use crate::http_kit::{H2Origin, client, request, soon};
use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
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

/// Passes bytes on, each 60 ms late: an origin so far away that also a slow machine is held up by it.
fn far(port: u16) -> u16 {
    use std::io::{Read, Write};
    fn late(mut from: std::net::TcpStream, mut to: std::net::TcpStream) {
        let (bytes, come) = std::sync::mpsc::channel::<(std::time::Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, bytes) in come {
                std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let due = std::time::Instant::now() + Duration::from_millis(60);
                if bytes.send((due, buffer[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), std::net::TcpStream::connect(("127.0.0.1", port)));
            let far = far.unwrap();
            late(near.try_clone().unwrap(), far.try_clone().unwrap());
            late(far, near);
        }
    });
    at
}

/// Reads on until the origin may send `ahead` bytes; how many it may in the end.
async fn grown(body: &mut h2::RecvStream, sent: &AtomicUsize, enough: usize) -> usize {
    let mut read = 0;
    for _ in 0..40 {
        let until = read + 3 * MIB;
        while read < until {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
        }
        if settled(sent).await - read >= enough {
            break;
        }
    }
    settled(sent).await - read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_far_away_is_let_send_more_once_that_holds_it_up() {
    let (origin, sent) = gusher(usize::MAX);
    let port = far(origin.port());
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let (_open, mut body) = unread(&gateway, port).await;
    let ahead = settled(&sent).await;
    assert!(ahead <= 2 * MIB + ON_THE_WAY, "{ahead}: nobody has read anything yet");
    // Of a window up to half is not yet offered again (h2), so more than 4 MiB is the next one, of 8.
    let reading = grown(&mut body, &sent, 4 * MIB + ON_THE_WAY + 1);
    let ahead = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
    assert!(ahead > 4 * MIB + ON_THE_WAY, "{ahead} bytes a round trip hold it up");
    assert!(ahead <= 8 * MIB + ON_THE_WAY, "{ahead} bytes wait for a client that does not read");
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
