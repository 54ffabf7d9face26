//! Interim responses (1xx, RFC 9110 §15.2) reach an HTTP/2 client on the stream of its request, each
//! before the answer, from an origin of either version.

use crate::attack::resident;
use crate::common::{self, Gateway, Origin, Setup, read_head, read_request};
use crate::http_kit::{self, H2Origin, client, collect, exchange, request, soon};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal";

fn allowing(port: u16) -> Gateway {
    Setup::allow_all(&["origin.test"], port).start()
}

/// The next interim response; `None` when the answer is there.
async fn interim(response: &mut ResponseFuture) -> Option<Response<()>> {
    let next = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    next.map(Result::unwrap)
}

async fn get(client: &mut SendRequest<Bytes>, port: u16, path: &str) -> ResponseFuture {
    let mut ready = soon(client.clone().ready()).await.unwrap();
    ready.send_request(request("GET", port, path).body(()).unwrap(), true).unwrap().0
}

async fn is_final(response: ResponseFuture) {
    let (head, body) = soon(response).await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), &collect(body).await.0[..]), (200, &b"final"[..]));
}

/// Sends hints, and its answer when the client has seen them.
fn http2_origin(seen: &Arc<Semaphore>) -> H2Origin {
    let seen = seen.clone();
    H2Origin::tls(
        move |_: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let seen = seen.clone();
            async move {
                let hints = Response::builder().status(103).header("link", "</a.css>; rel=preload");
                respond.send_informational(hints.body(()).unwrap()).unwrap();
                seen.acquire().await.unwrap().forget();
                http_kit::reply(respond, 200, b"final");
            }
        },
    )
}

fn http1_origin(seen: &Arc<Semaphore>) -> Origin {
    let seen = seen.clone();
    Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        while !read_request(&mut stream).is_empty() {
            stream.write_all(HINTS.as_bytes()).unwrap();
            stream.flush().unwrap();
            common::wait_for(common::PATIENCE, || seen.try_acquire().ok()).forget();
            stream.write_all(FINAL.as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_are_there_before_the_answer_is_begun() {
    let seen = Arc::new(Semaphore::new(0));
    let (one, two) = (http1_origin(&seen), http2_origin(&seen));
    for port in [one.port(), two.port()] {
        let gateway = allowing(port);
        let mut client = client(&gateway, port).await;
        for _ in 0..2 {
            let mut response = get(&mut client, port, "/").await;
            let said = interim(&mut response).await.expect("the hints are said first");
            assert_eq!(said.status(), StatusCode::EARLY_HINTS);
            assert_eq!(said.headers()["link"], "</a.css>; rel=preload");
            seen.add_permits(1);
            is_final(response).await;
        }
        assert_eq!(gateway.record(2)["outcome"], "passed");
    }
}

/// `101` is for upgrades that were asked for, and HTTP/2 has none (RFC 9113 §8.6); a `100` is heard however
/// much was said before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_101_is_nothing_to_tell_and_a_100_is_never_too_much() {
    let origin = H2Origin::tls(async |asked: Request<h2::RecvStream>, mut respond| {
        let large = "a".repeat(10_000);
        for (status, link) in [(101, "<a>"), (103, &large), (103, &large), (103, "<b>"), (100, "")]
        {
            let hints = Response::builder().status(status).header("link", link);
            respond.send_informational(hints.body(()).unwrap()).unwrap();
        }
        collect(asked.into_body()).await;
        http_kit::reply(respond, 200, b"final");
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let asked = request("POST", port, "/").header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut up) = client.send_request(asked, false).unwrap();
    let mut heard = Vec::new();
    while let Some(said) = interim(&mut response).await {
        let status = said.status().as_u16();
        heard.push((status, said.headers().get("link").map_or(0, http::HeaderValue::len)));
        if status == 100 {
            up.send_data(Bytes::from_static(b"body"), true).unwrap();
        }
    }
    assert_eq!(heard, [(103, 10_000), (103, 3), (100, 0)]);
    is_final(response).await;
}

/// Of several requests at once each gets its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_gets_its_own() {
    let origin = H2Origin::tls(async |asked: Request<h2::RecvStream>, mut respond| {
        for n in 0..3 {
            let hints = Response::builder().status(103).header("link", asked.uri().path());
            respond.send_informational(hints.header("x-n", n).body(()).unwrap()).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        http_kit::reply(respond, 200, b"final");
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let mut all = Vec::new();
    for n in 0..20 {
        all.push((n, get(&mut client, port, &format!("/{n}")).await));
    }
    for (n, mut response) in all {
        let mut heard = Vec::new();
        while let Some(said) = interim(&mut response).await {
            assert_eq!(said.headers()["link"], format!("/{n}"));
            heard.push(said.headers()["x-n"].to_str().unwrap().to_owned());
        }
        assert_eq!(heard, ["0", "1", "2"]);
        is_final(response).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_the_connection_and_of_the_gateway_do_not_go_on() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            let odd = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nconnection: x-mine\r\nx-mine: 1\r\n\
                       keep-alive: timeout=5\r\nx-portcullis-id: forged\r\ncontent-length: 5\r\n\
                       transfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{odd}{FINAL}").as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    let mut response = get(&mut client, port, "/").await;
    let said = interim(&mut response).await.unwrap();
    let expected: HeaderMap = [(http::header::LINK, "<a>".parse().unwrap())].into_iter().collect();
    assert_eq!(said.headers(), &expected);
    is_final(response).await;
}

/// `Expect: 100-continue` (RFC 9110 §10.1.1): the client hears when its body is wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_hears_when_its_body_is_wanted() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        while read_head(&mut stream).to_lowercase().contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            stream.flush().unwrap();
            let mut body = [0; 4];
            std::io::Read::read_exact(&mut stream, &mut body).unwrap();
            assert_eq!(&body, b"body");
            stream.write_all(FINAL.as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = allowing(port);
    let mut client = client(&gateway, port).await;
    for _ in 0..2 {
        let asked = request("POST", port, "/").header("expect", "100-continue");
        let asked = asked.header("content-length", 4).body(()).unwrap();
        let (mut response, mut up) = client.send_request(asked, false).unwrap();
        let said = interim(&mut response).await.expect("to go on");
        assert_eq!(said.status(), StatusCode::CONTINUE);
        up.send_data(Bytes::from_static(b"body"), true).unwrap();
        is_final(response).await;
    }
    assert_eq!(gateway.record(2)["upload"], 4);
}

/// A body that must be read to judge is asked for by the gateway; one that is refused never is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_judged_is_asked_for_and_a_refused_one_is_not() {
    let origin = H2Origin::tls(async |asked: Request<h2::RecvStream>, respond| {
        let (body, _) = collect(asked.into_body()).await;
        http_kit::reply(respond, 200, &body);
    });
    let port = origin.port();
    let entry = format!(
        "  graphql:\n    endpoints:\n      - {{ host: origin.test, port: {port}, \
         path: /graphql, protocol: graphql, enforcement: enforce, \
         rules: [ {{ allow: {{ operation_type: query }} }} ] }}\n"
    );
    let gateway = Setup::policy(&entry).start();
    let mut client = client(&gateway, port).await;
    for (path, wanted) in [("/graphql", true), ("/other", false)] {
        let asked = request("POST", port, path).header("expect", "100-continue");
        let asked = asked.header("content-type", "application/json").body(()).unwrap();
        let (mut response, mut up) = client.send_request(asked, false).unwrap();
        let said = interim(&mut response).await.map(|said| said.status());
        assert_eq!(said, wanted.then_some(StatusCode::CONTINUE), "{path}");
        if wanted {
            up.send_data(Bytes::from_static(br#"{"query":"{ a }"}"#), true).unwrap();
        }
        let status = soon(response).await.unwrap().status().as_u16();
        assert_eq!(status, if wanted { 200 } else { 403 }, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_without_end_cost_bounded_memory_and_an_end() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        let asked = read_request(&mut stream);
        if asked.starts_with("GET /plain") {
            return stream.write_all(FINAL.as_bytes()).unwrap();
        }
        let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "a".repeat(1000));
        // Until the gateway gives up.
        while stream.write_all(hint.as_bytes()).is_ok() {}
    });
    let port = origin.port();
    let setup = Setup::allow_all(&["origin.test"], port);
    let gateway = setup.more("timeout: { first_byte: 1s }\n").start();
    let before = resident(gateway.pid());
    let mut client = client(&gateway, port).await;
    let mut response = get(&mut client, port, "/").await;
    let mut heard = 0;
    while interim(&mut response).await.is_some() {
        heard += 1;
    }
    assert!((1..=16).contains(&heard), "{heard}: 16 KiB of them");
    assert_eq!(soon(response).await.unwrap().status(), 504);
    let after = resident(gateway.pid());
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
    assert_eq!(gateway.record(1)["code"], "first_byte_timeout");
    let asked = request("GET", port, "/plain").body(()).unwrap();
    let (head, body, _) = exchange(&mut client, asked, b"").await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, &b"final"[..]));
}
