//! Many requests at once to an origin to which there is no connection yet: one dials, the others share
//! what comes of it, and nobody waits long for what comes to nothing.

use crate::attack::by_hand::{echo, say};
use crate::attack::frames;
use crate::common::{Gateway, Origin, Setup, read_request};
use crate::http_kit::{self, H2Origin, client, exchange, request, soon};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

async fn one(mut client: SendRequest<Bytes>, port: u16) -> u16 {
    let asked = request("GET", port, "/").body(()).unwrap();
    exchange(&mut client, asked, b"").await.0.status().as_u16()
}

/// So many requests at once on one connection of a client; their statuses.
async fn at_once(client: &SendRequest<Bytes>, port: u16, count: usize) -> Vec<u16> {
    let all: Vec<_> = (0..count).map(|_| tokio::spawn(one(client.clone(), port))).collect();
    let mut statuses = Vec::new();
    for one in all {
        statuses.push(soon(one).await.unwrap());
    }
    statuses
}

/// Posts, and gets its body back.
async fn post(mut client: SendRequest<Bytes>, port: u16) {
    let asked = request("POST", port, "/").body(()).unwrap();
    let (head, body, _) = exchange(&mut client, asked, b"body").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"body"[..]));
}

fn slow() -> H2Origin {
    H2Origin::tls(async |_: Request<h2::RecvStream>, respond| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        http_kit::reply(respond, 200, b"ok");
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_opened_for_all() {
    let origin = slow();
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    assert_eq!(at_once(&client, port, 90).await, [200; 90]);
    assert_eq!(origin.connections(), 1);
    assert_eq!(gateway.records(90).len(), 90);
}

/// Two clients' connections, which may be on the same worker, with more streams than a connection takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_as_have_room_for_all() {
    let origin = slow();
    let port = origin.port();
    let gateway = allowing(port);
    let (one, two) = (client(&gateway, port).await, client(&gateway, port).await);
    let (first, second) = tokio::join!(at_once(&one, port, 120), at_once(&two, port, 120));
    assert_eq!([first, second].concat(), [200; 240]);
    let opened = origin.connections();
    assert!((3..=4).contains(&opened), "{opened} connections");
}

/// It takes one request a connection: that nobody knew before does not put them in a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_of_http1_is_dialled_by_all_when_that_is_known() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let began = Instant::now();
    assert_eq!(at_once(&client, port, 30).await, [200; 30]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}: one after the other", began.elapsed());
    assert_eq!(origin.connections(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_not_there_is_nobodys_to_wait_for() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let began = Instant::now();
    assert_eq!(at_once(&client, port, 50).await, [502; 50]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// It says so in its SETTINGS, a round trip after its handshake: nobody is refused for having come before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_takes_few_streams_is_not_sent_more() {
    let mut few = h2::server::Builder::new();
    few.max_concurrent_streams(5);
    let origin = H2Origin::built(&few, async |asked: Request<_>, respond| {
        let (body, _) = http_kit::collect(asked.into_body()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        http_kit::reply(respond, 200, &body);
    });
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let all: Vec<_> = (0..40).map(|_| tokio::spawn(post(client.clone(), port))).collect();
    for one in all {
        soon(one).await.unwrap();
    }
    assert!((8..=40).contains(&origin.connections()), "{}", origin.connections());
}

/// Requests that come while an origin has not yet said how many it takes: they wait for that, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_first_goes_up_before_the_origin_has_said_how_many_it_takes() {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::tls(&["origin.test"], &["h2"], move |mut io| {
        if io.read_exact(&mut [0; frames::PREFACE.len()]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
        // SETTINGS_MAX_CONCURRENT_STREAMS: 5 (RFC 9113 §6.5.2).
        say(&mut io, &frames::frame(frames::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 5]));
        let (mut early, mut answers) = (0, Vec::new());
        while let Some(frame) = frames::read(&mut io) {
            match frame.kind {
                frames::HEADERS => early += 1,
                frames::DATA if frame.flags & frames::END_STREAM != 0 => {
                    answers.extend(frames::headers(frame.stream, &[(":status", "200")], false));
                    answers.extend(frames::data(frame.stream, &frame.payload, true));
                }
                frames::SETTINGS if frame.flags & frames::ACK != 0 => break,
                frames::SETTINGS => {
                    say(&mut io, &frames::frame(frames::SETTINGS, frames::ACK, 0, &[]))
                }
                _ => {}
            }
        }
        tell.send(early).unwrap();
        say(&mut io, &answers);
        echo(&mut io);
    });
    let port = origin.port();
    let gateway = allowing(port);
    let client = client(&gateway, port).await;
    let mut all = vec![tokio::spawn(post(client.clone(), port))];
    while origin.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The connection is there, its SETTINGS are not.
    tokio::time::sleep(Duration::from_millis(250)).await;
    all.extend((0..20).map(|_| tokio::spawn(post(client.clone(), port))));
    for one in all {
        soon(one).await.unwrap();
    }
    let early: Vec<usize> = told.try_iter().collect();
    assert!(!early.is_empty() && early.iter().all(|early| *early <= 1), "{early:?}");
}

/// One of the ends behind a name takes a connection and says nothing: who waits for it goes elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_takes_long_is_not_waited_for() {
    let origin = slow();
    let port = origin.port();
    let mixed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = mixed.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let _mute = mixed.accept().unwrap();
        mixed.incoming().for_each(|near| relayed(near.unwrap(), port));
    });
    let gateway = Setup::allow_all(&["origin.test"], at).more("timeout: { connect: 4s }\n").start();
    let client = client(&gateway, at).await;
    let first = tokio::spawn(one(client.clone(), at));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    assert_eq!(at_once(&client, at, 30).await, [200; 30]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(soon(first).await.unwrap(), 504);
    assert!(origin.connections() <= 2, "{}", origin.connections());
}

/// Passes bytes on to `port`.
fn relayed(mut near: std::net::TcpStream, port: u16) {
    std::thread::spawn(move || {
        let mut far = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut up, mut down) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || drop(std::io::copy(&mut up, &mut down)));
        drop(std::io::copy(&mut far, &mut near));
    });
}

/// It takes connections and says nothing: all give up when the first does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_says_nothing_keeps_nobody_longer_than_one() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let gateway =
        Setup::allow_all(&["origin.test"], port).more("timeout: { connect: 1s }\n").start();
    let client = client(&gateway, port).await;
    let began = Instant::now();
    assert_eq!(at_once(&client, port, 50).await, [504; 50]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(gateway.records(50).iter().all(|record| record["code"] == "connect_timeout"));
    drop(mute);
}

/// Who dials goes away: the next one does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dials_and_leaves_takes_nobody_along() {
    let origin = slow();
    let port = origin.port();
    // Its handshakes take a while.
    let late = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = late.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in late.incoming() {
            let near = stream.unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(400));
                relayed(near, port);
            });
        }
    });
    let gateway = allowing(at);
    let client = client(&gateway, at).await;
    let mut first = client.clone();
    let asked = request("GET", at, "/first").body(()).unwrap();
    let (response, mut up) = first.send_request(asked, false).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let others = tokio::spawn({
        let client = client.clone();
        async move { at_once(&client, at, 20).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    up.send_reset(h2::Reason::CANCEL);
    drop(response);
    assert_eq!(soon(others).await.unwrap(), [200; 20]);
    assert!(origin.connections() <= 2, "{}", origin.connections());
}
