//! What an origin says while its answer is under way: values that come to be known meanwhile, and
//! messages that their readers wait for.

use crate::common::{Gateway, Origin, read_head};
use crate::credentials_kit::{self, BEARER, TOKEN, ask, setup};
use crate::http_kit::{self, H2Origin, read_chunk, soon};
use bytes::Bytes;
use http::{HeaderMap, Response};
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;

const NEWER: &str = "a-newer/Value+of=it";

/// Bytes of a chunked answer until they end with `end`.
fn until(stream: &mut impl Read, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let chunk = read_chunk(stream);
        assert!(!chunk.is_empty(), "it ended after {:?}", String::from_utf8_lossy(&seen));
        seen.extend(chunk);
    }
    String::from_utf8(seen).unwrap()
}

/// Another value in the file, put there as an editor does.
fn rotate(gateway: &Gateway) {
    let file = gateway.dir.path().join("secret");
    let beside = gateway.dir.path().join("secret.new");
    std::fs::write(&beside, NEWER).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[test]
fn a_value_that_changes_while_an_answer_is_under_way_is_masked_in_it_as_it_was_and_as_it_is() {
    let (tell, told) = mpsc::channel::<()>();
    let (hear, heard) = mpsc::channel::<String>();
    let told = Mutex::new(told);
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        let Some(request) = credentials_kit::read(&mut stream) else { return };
        hear.send(request.all("authorization").concat()).unwrap();
        if request.target() != "/stream" {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            return stream.flush().unwrap();
        }
        let (first, second) = TOKEN.split_at(7);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        write!(stream, "{head}data: {TOKEN}\n\ndata: {first}").unwrap();
        stream.flush().unwrap();
        told.lock().unwrap().recv().unwrap();
        write!(stream, "{second}, {TOKEN} and {NEWER}\n\n").unwrap();
        stream.flush().unwrap();
    });
    let port = origin.port();
    let gateway = setup(port, &[BEARER]).start();
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(tls, "GET /stream HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    read_head(&mut tls);
    assert_eq!(until(&mut tls, "\n\n"), "data: ***\n\n");
    assert_eq!(heard.recv().unwrap(), format!("Bearer {TOKEN}"));
    rotate(&gateway);
    // The next use of it reads it.
    ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(heard.recv().unwrap(), format!("Bearer {NEWER}"));
    tell.send(()).unwrap();
    assert_eq!(until(&mut tls, "\n\n"), "data: ***, *** and ***\n\n");
}

/// A gRPC message: its prefix and its text.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_message_comes_when_it_is_whole_with_stars_for_each_byte_of_the_value() {
    let (tell, told) = tokio::sync::mpsc::channel::<()>(1);
    let told = std::sync::Arc::new(tokio::sync::Mutex::new(told));
    let said = [format!("one {TOKEN}"), TOKEN.to_owned(), format!("{TOKEN}{TOKEN} three")];
    let says = said.clone();
    let origin = H2Origin::tls(move |_, mut respond: h2::server::SendResponse<Bytes>| {
        let (says, told) = (says.clone(), told.clone());
        async move {
            let response = Response::builder().header("content-type", "application/grpc+proto");
            let mut down = respond.send_response(response.body(()).unwrap(), false).unwrap();
            for text in says {
                let mut wire = Bytes::from(message(&text));
                // The value is cut in two, and the prefix stands with its first part.
                down.send_data(wire.split_to(5 + text.find(TOKEN).unwrap() + 8), false).unwrap();
                down.send_data(wire, false).unwrap();
                // The next is not sent before the client has this one.
                told.lock().await.recv().await.unwrap();
            }
            let status = |name: &str, value: &str| (name.parse().unwrap(), value.parse().unwrap());
            let trailers = [status("grpc-status", "0"), status("grpc-message", TOKEN)];
            down.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
    });
    let port = origin.port();
    let gateway = setup(port, &[BEARER]).start();
    let mut client = http_kit::client(&gateway, port).await;
    let call = http_kit::request("POST", port, "/a.B/Tell")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let (response, mut up) = client.send_request(call.body(()).unwrap(), false).unwrap();
    up.send_data(Bytes::from_static(b"\0\0\0\0\0"), true).unwrap();
    let mut down = soon(response).await.unwrap().into_body();
    for text in said {
        let masked = message(&text.replace(TOKEN, &"*".repeat(TOKEN.len())));
        let mut came = Vec::new();
        while came.len() < masked.len() {
            let data = soon(down.data()).await.unwrap().unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            came.extend_from_slice(&data);
        }
        assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(&masked));
        tell.send(()).await.unwrap();
    }
    let (rest, trailers) = http_kit::collect(down).await;
    assert!(rest.is_empty());
    let trailers = trailers.unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"0".parse().unwrap(), &"***".parse().unwrap())
    );
}
