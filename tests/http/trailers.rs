//! Trailers: carried where both sides know them, cleaned both ways, never made up.

use crate::common::{Origin, Setup, header, read_head, read_request};
use crate::http_kit::{self, H2Origin, client, collect, read_line, read_message, request, soon};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use std::io::Write;

fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap())).collect()
}

/// Answers with a body, and with the request's trailers, some added.
async fn mirror(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (body, trailers) = collect(request.into_body()).await;
    let mut trailers = trailers.unwrap_or_default();
    trailers.extend(fields(&[
        ("x-sum", "abc"),
        ("set-cookie", "a=b"),
        ("x-portcullis-id", "forged"),
        ("content-length", "7"),
    ]));
    let response = Response::builder().header("trailer", "x-sum, x-up").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(body.into(), false).unwrap();
    stream.send_trailers(trailers).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_go_both_ways_between_http2_and_http2_and_are_cleaned() {
    let origin = H2Origin::tls(mirror);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let (response, mut up) =
        client.send_request(request("POST", port, "/t").body(()).unwrap(), false).unwrap();
    up.send_data(Bytes::from_static(b"body"), false).unwrap();
    up.send_trailers(fields(&[("x-up", "1"), ("authorization", "forged"), ("host", "other")]))
        .unwrap();
    let (body, trailers) = collect(soon(response).await.unwrap().into_body()).await;
    assert_eq!(body, b"body");
    let mut trailers: Vec<_> =
        trailers.unwrap().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    trailers.sort();
    assert_eq!(trailers, ["x-sum: abc", "x-up: 1"]);
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

#[test]
fn an_http1_client_that_takes_trailers_gets_those_of_an_http2_origin() {
    let origin = H2Origin::tls(mirror);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    for (te, expected) in [("TE: trailers\r\nConnection: TE\r\n", "x-sum: abc\n"), ("", "")] {
        write!(client, "POST /t HTTP/1.1\r\nHost: {authority}\r\n{te}Content-Length: 2\r\n\r\nhi")
            .unwrap();
        let (head, body, trailers) = read_message(&mut client);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"hi");
        assert_eq!(trailers.to_ascii_lowercase(), expected, "{head}");
    }
}

/// An HTTP/1 origin that answers in chunks with trailers, and gives back those it got.
fn chunking() -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        loop {
            let head = read_head(&mut stream);
            if head.is_empty() {
                return;
            }
            let mut got = String::new();
            if header(&head, "transfer-encoding").is_some() {
                while !http_kit::read_chunk(&mut stream).is_empty() {}
                loop {
                    let line = read_line(&mut stream);
                    if line.is_empty() {
                        break;
                    }
                    got += &line;
                    got += ";";
                }
            }
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ntrailer: x-sum, x-got\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nx-sum: abc\r\nx-got: {got}\r\ntransfer-encoding: forged\r\n\r\n"
            )
            .unwrap();
            stream.flush().unwrap();
        }
    })
}

#[test]
fn declared_trailers_of_chunked_bodies_go_both_ways_in_http1() {
    let origin = chunking();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let authority = format!("origin.test:{port}");
    let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    for _ in 0..2 {
        write!(
            client,
            "POST /t HTTP/1.1\r\nHost: {authority}\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-up\r\n\
             Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Up: 1\r\nContent-Length: 9\r\n\r\n"
        )
        .unwrap();
        let (_, body, trailers) = read_message(&mut client);
        assert_eq!(body, b"hi");
        assert_eq!(trailers.to_ascii_lowercase(), "x-sum: abc\nx-got: x-up: 1;\n");
    }
    assert_eq!(origin.connections(), 1, "trailers do not cost the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_gets_the_trailers_of_an_http1_origin() {
    let origin = chunking();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let request = request("POST", port, "/t").header("trailer", "x-up").body(()).unwrap();
    let (response, mut up) = client.send_request(request, false).unwrap();
    up.send_data(Bytes::from_static(b"body"), false).unwrap();
    up.send_trailers(fields(&[("x-up", "1")])).unwrap();
    let (body, trailers) = collect(soon(response).await.unwrap().into_body()).await;
    assert_eq!(body, b"hi");
    let trailers = trailers.unwrap();
    assert_eq!(trailers["x-sum"], "abc");
    assert_eq!(trailers["x-got"].to_str().unwrap().to_ascii_lowercase(), "x-up: 1;");
    assert_eq!(trailers.len(), 2);
}

#[test]
fn trailers_that_nobody_takes_end_nothing() {
    let origin = Origin::plain(|mut stream| {
        while !read_request(&mut stream).is_empty() {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: abc\r\n\r\n"
            )
            .unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    for _ in 0..3 {
        write!(
            client,
            "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        )
        .unwrap();
        let (_, body, trailers) = read_message(&mut client);
        assert_eq!((&body[..], &trailers[..]), (&b"hi"[..], ""));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_http1_origin_hears_of_trailers_from_a_client_that_takes_them_alone() {
    let origin = Origin::ok("hello");
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    for te in ["TE: trailers\r\nConnection: TE\r\n", "TE: gzip\r\nConnection: TE\r\n", ""] {
        write!(
            client,
            "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n{te}\r\n"
        )
        .unwrap();
        assert_eq!(read_message(&mut client).1, b"hello");
        let heard = origin.heard();
        let last = heard.trim_end().rsplit("\r\n\r\n").next().unwrap();
        let fields = ["te", "connection"].map(|name| header(last, name));
        let said = te.contains("trailers").then(|| ["trailers".to_owned(), "TE".to_owned()]);
        assert_eq!(fields, said.map_or([None, None], |said| said.map(Some)), "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_origin_hears_of_trailers_from_a_client_that_takes_them_alone() {
    let origin = H2Origin::tls(|request, mut respond| async move {
        let te = request.headers().get("te").cloned();
        let mut response = Response::builder();
        if let Some(te) = te {
            response = response.header("x-te", te);
        }
        respond.send_response(response.body(()).unwrap(), true).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    for te in [Some("trailers"), None] {
        let mut asked = request("GET", port, "/t");
        if let Some(te) = te {
            asked = asked.header("te", te);
        }
        let (response, _) = client.send_request(asked.body(()).unwrap(), true).unwrap();
        let response = soon(response).await.unwrap();
        let heard = response.headers().get("x-te").map(|value| value.to_str().unwrap());
        assert_eq!(heard, te);
    }
}
