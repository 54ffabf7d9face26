//! HTTP/1 and HTTP/2 on both sides, in every pairing: the same request, the same answer.

use crate::common::{self, Gateway, Origin, Setup, header, read_head, read_request};
use crate::http_kit::{
    H2Origin, client, collect, drive, exchange, read_body, read_message, reply, request, tls,
    tunnel,
};
use std::io::Write;

/// An origin over TLS that says in its answer what it was asked.
fn echo_h1() -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        loop {
            let head = read_head(&mut stream);
            if head.is_empty() {
                return;
            }
            let (body, _) = read_body(&mut stream, &head);
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            let host = header(&head, "host").unwrap();
            let x = header(&head, "x-asked").unwrap_or_default();
            let said = format!("{line} {host} {x} {}", String::from_utf8_lossy(&body));
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nx-said: yes\r\ncontent-length: {}\r\n\r\n",
                said.len()
            )
            .unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    })
}

async fn echo(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
) {
    let (head, body) = request.into_parts();
    assert!(head.headers.get("host").is_none(), "a second name beside :authority");
    let (body, _) = collect(body).await;
    let x = head.headers.get("x-asked").map_or("", |v| v.to_str().unwrap());
    let said = format!(
        "{} {} {} {x} {}",
        head.method,
        head.uri.path_and_query().unwrap(),
        head.uri.authority().unwrap(),
        String::from_utf8_lossy(&body)
    );
    let response = http::Response::builder().header("x-said", "yes").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(said.into(), true).unwrap();
}

fn asks_h1(gateway: &Gateway, port: u16) -> String {
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(
        client,
        "POST /p/a?q=1 HTTP/1.1\r\nHost: {authority}\r\nX-Asked: this\r\nContent-Length: 4\r\n\r\nping"
    )
    .unwrap();
    let (head, body, _) = read_message(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(header(&head, "x-said").as_deref(), Some("yes"));
    String::from_utf8(body).unwrap()
}

async fn asks_h2(gateway: &Gateway, port: u16) -> String {
    let mut client = client(gateway, port).await;
    let request = request("POST", port, "/p/a?q=1").header("x-asked", "this").body(()).unwrap();
    let (head, body, _) = exchange(&mut client, request, b"ping").await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["x-said"], "yes");
    String::from_utf8(body).unwrap()
}

fn record_is(gateway: &Gateway, http: &str) {
    let record = gateway.record(1);
    assert_eq!(record["http"], http);
    assert_eq!(record["scheme"], "https");
    assert_eq!(record["method"], "POST");
    assert_eq!(record["upload"], 4);
    assert_eq!(record["status"], 200);
    assert_eq!(record["outcome"], "passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pairing_of_versions_carries_the_same_request() {
    let (h1, h2) = (echo_h1(), H2Origin::tls(echo));
    for (http2_client, port) in
        [(false, h1.port()), (false, h2.port()), (true, h1.port()), (true, h2.port())]
    {
        let gateway = Setup::allow_all(&["origin.test"], port).start();
        let said =
            if http2_client { asks_h2(&gateway, port).await } else { asks_h1(&gateway, port) };
        assert_eq!(said, format!("POST /p/a?q=1 origin.test:{port} this ping"));
        record_is(&gateway, if http2_client { "2" } else { "1.1" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_with_prior_knowledge_goes_both_ways_without_tls() {
    let origin = H2Origin::plain(echo);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = drive(tunnel(&gateway, &format!("origin.test:{port}")).await).await;
    let uri = format!("http://origin.test:{port}/plain");
    let request = http::Request::builder().method("PUT").uri(uri).body(()).unwrap();
    let (head, body, _) = exchange(&mut client, request, b"x").await;
    assert_eq!(head.status(), 200);
    assert_eq!(body, format!("PUT /plain origin.test:{port}  x").as_bytes());
    assert_eq!(gateway.record(1)["scheme"], "http");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_connection_are_judged_one_by_one() {
    let origin = H2Origin::tls(echo);
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  api:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, access: read-only }}"
    ))
    .start();
    let mut client = client(&gateway, port).await;
    for n in 0..6 {
        let method = if n % 2 == 0 { "GET" } else { "DELETE" };
        let request = request(method, port, "/x").body(()).unwrap();
        let (head, ..) = exchange(&mut client, request, b"").await;
        assert_eq!(head.status(), if n % 2 == 0 { 200 } else { 403 });
    }
    assert_eq!(origin.connections(), 1, "streams share a connection");
    let refused = gateway.records(6).iter().filter(|r| r["sent"] == false).count();
    assert_eq!(refused, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_origin_was_seen_to_speak_http1_only_that_is_offered() {
    let origin = echo_h1();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    asks_h2(&gateway, port).await;
    let stream = tls(&gateway, port, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_split_in_http2_are_one_field_in_http1() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        let head = read_request(&mut stream);
        let cookies: Vec<_> =
            head.lines().filter(|l| l.to_ascii_lowercase().starts_with("cookie:")).collect();
        let said = cookies.join("|");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let request =
        request("GET", port, "/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    let (_, body, _) = exchange(&mut client, request, b"").await;
    assert_eq!(String::from_utf8(body).unwrap().to_ascii_lowercase(), "cookie: a=1; b=2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_body_has_none_in_any_pairing() {
    let h1 = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        loop {
            let head = read_request(&mut stream);
            let answer = match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: \"e\"\r\n\r\n"
                }
                Some("/head") => "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
                _ => return,
            };
            stream.write_all(answer.as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    let h2 = H2Origin::tls(async |request, mut respond: h2::server::SendResponse<_>| {
        let path = request.uri().path();
        let response = http::Response::builder();
        let response = match path {
            "/204" => response.status(204),
            "/304" => response.status(304).header("content-length", 99).header("etag", "\"e\""),
            _ => response.header("content-length", 99),
        };
        respond.send_response(response.body(()).unwrap(), true).unwrap();
    });
    for port in [h1.port(), h2.port()] {
        let gateway = Setup::allow_all(&["origin.test"], port).start();
        let authority = format!("origin.test:{port}");
        let mut one = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        let mut two = client(&gateway, port).await;
        for (method, path, status) in
            [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/head", 200)]
        {
            write!(one, "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
            let head = read_head(&mut one);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert!(header(&head, "transfer-encoding").is_none(), "{head}");
            let request = request(method, port, path).body(()).unwrap();
            let (head, body, _) = exchange(&mut two, request, b"").await;
            assert_eq!(head.status(), status);
            assert!(body.is_empty());
        }
        let records = gateway.records(6);
        assert!(
            records.iter().all(|r| r["outcome"] == "passed" && r["download"] == 0),
            "{records:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_origin_that_goes_away_does_not_cost_the_next_request() {
    let origin = H2Origin::going_away(2, async |_, respond| reply(respond, 200, b"ok"));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    for _ in 0..6 {
        let (head, body, _) =
            exchange(&mut client, request("GET", port, "/").body(()).unwrap(), b"").await;
        assert_eq!((head.status().as_u16(), &body[..]), (200, &b"ok"[..]));
    }
    assert!(origin.connections() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http2_alone_is_served_where_the_origin_is_known_to_speak_http1_alone() {
    let origin = echo_h1();
    let gateway = Setup::allow_all(&["origin.test"], origin.port()).start();
    for _ in 0..2 {
        let said = asks_h2(&gateway, origin.port()).await;
        assert_eq!(said, format!("POST /p/a?q=1 origin.test:{} this ping", origin.port()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_head_that_is_too_large_costs_its_stream_alone() {
    let origin = H2Origin::tls(echo);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let large = request("GET", port, "/large").header("x", "y".repeat(40 * 1024)).body(()).unwrap();
    let (head, body, _) = exchange(&mut client, large, b"").await;
    let record = gateway.record(1);
    assert_eq!((head.status().as_u16(), &record["status"]), (431, &431.into()));
    assert_eq!((&record["code"], &record["sent"]), (&"head_too_large".into(), &false.into()));
    let problem = common::problem(&body);
    assert_eq!((&problem["code"], &problem["id"]), (&record["code"], &record["id"]));
    assert_eq!(origin.connections(), 0);
    // As large as may be, on the same connection.
    let fits = request("GET", port, "/fits").header("x", "y".repeat(30 * 1024)).body(()).unwrap();
    assert_eq!(exchange(&mut client, fits, b"").await.0.status(), 200);
}

/// The end of a stream says over HTTP/2 that there is no body, and nothing but its length does over HTTP/1
/// (RFC 9110 §8.6).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_without_a_body_says_so_to_an_http1_origin() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        loop {
            let head = common::read_request(&mut stream);
            if head.is_empty() {
                return;
            }
            let length = common::header(&head, "content-length").unwrap_or("none".to_owned());
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{length}", length.len());
            stream.write_all(answer.as_bytes()).unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    for (method, said) in [("POST", "0"), ("PUT", "0"), ("GET", "none"), ("DELETE", "none")] {
        let asked = request(method, port, "/").body(()).unwrap();
        let (_, body, _) = exchange(&mut client, asked, b"").await;
        assert_eq!(String::from_utf8(body).unwrap(), said, "{method}");
    }
}
