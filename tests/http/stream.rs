//! Answers that come bit by bit reach the client bit by bit: the origin sends the next only after
//! the client has said that the last is there.

use crate::common::{self, Origin, Setup, header, read_head, read_request, read_response};
use crate::http_kit::{H2Origin, client, read_chunk, request, soon};
use bytes::Bytes;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// An origin that answers with `head` and then each text that the test sends; it ends with the
/// channel.
fn told(head: &'static str, chunked: bool) -> (Origin, Sender<String>) {
    let (tell, told) = channel();
    let told: Mutex<Receiver<String>> = Mutex::new(told);
    let origin = Origin::plain(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(head.as_bytes()).unwrap();
        for text in told.lock().unwrap().iter() {
            let piece = if chunked { format!("{:x}\r\n{text}\r\n", text.len()) } else { text };
            if stream.write_all(piece.as_bytes()).is_err() {
                return;
            }
        }
        if chunked {
            drop(stream.write_all(b"0\r\n\r\n"));
        }
    });
    (origin, tell)
}

/// Fewer bytes than it announced, and its end: the client is told, and so is the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_an_http2_origin_that_is_cut_short_has_failed() {
    let origin = H2Origin::tls(async |asked, mut respond| {
        let head = http::Response::builder().header("content-length", "1000000").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        drop(stream.send_data(Bytes::from(vec![b'x'; 30_000]), false));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        match asked.uri().path() {
            "/reset" => stream.send_reset(h2::Reason::INTERNAL_ERROR),
            "/no-error" => stream.send_reset(h2::Reason::NO_ERROR),
            _ => drop(stream.send_data(Bytes::new(), true)),
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    for path in ["/reset", "/no-error", "/end"].repeat(7) {
        let asked = request("GET", port, path).body(()).unwrap();
        let (response, _) = client.send_request(asked, true).unwrap();
        let Ok(response) = soon(response).await else { continue };
        let mut body = response.into_body();
        let mut came = 0;
        while let Some(Ok(data)) = soon(body.data()).await {
            came += data.len();
            drop(body.flow_control().release_capacity(data.len()));
        }
        assert!(came <= 30_000 && !body.is_end_stream(), "it broke off");
    }
    let records = gateway.records(21);
    assert!(records.iter().all(|r| r["outcome"] == "failed"), "{records:#?}");
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    for kind in ["text/event-stream", "application/x-ndjson", "application/json", "text/plain"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let (origin, tell) = told(head.leak(), true);
        let port = origin.port();
        let gateway = Setup::allow_all(&["origin.test"], port).start();
        let mut client = gateway.connect();
        write!(
            client,
            "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n"
        )
        .unwrap();
        assert!(
            read_head(&mut client).starts_with("HTTP/1.1 200"),
            "the head is there before any body"
        );
        for n in 0..5 {
            let event = format!("data: {n}\n\n");
            tell.send(event.clone()).unwrap();
            assert_eq!(read_chunk(&mut client), event.as_bytes(), "{kind}");
        }
        drop(tell);
        assert!(read_chunk(&mut client).is_empty());
        assert_eq!(gateway.record(1)["outcome"], "passed");
    }
}

#[test]
fn a_close_delimited_stream_is_passed_on_as_it_comes() {
    let (origin, tell) = told("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", false);
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.0\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    let head = read_head(&mut client);
    assert!(header(&head, "transfer-encoding").is_none(), "HTTP/1.0 knows no chunks: {head}");
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        tell.send(event.clone()).unwrap();
        let mut got = vec![0; event.len()];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, event.as_bytes());
    }
    drop(tell);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_frame_of_an_http2_origin_arrives_before_the_next_is_sent() {
    let (tell, told) = tokio::sync::mpsc::channel::<&'static str>(1);
    let told = std::sync::Arc::new(tokio::sync::Mutex::new(told));
    let origin = H2Origin::tls(move |_, mut respond: h2::server::SendResponse<Bytes>| {
        let told = told.clone();
        async move {
            let mut down = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(text) = told.lock().await.recv().await {
                down.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
            }
            down.send_data(Bytes::new(), true).unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let (response, _) =
        client.send_request(request("GET", port, "/").body(()).unwrap(), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    for event in ["{\"a\":1}\n", "{\"a\":2}\n", "{\"a\":3}\n"] {
        tell.send(event).await.unwrap();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), event);
    }
    drop(tell);
    assert!(soon(body.data()).await.is_none_or(|d| d.unwrap().is_empty()));
}

#[test]
fn an_upload_is_passed_on_as_it_comes() {
    let (seen, sees) = channel();
    let seen = Mutex::new(seen);
    let origin = Origin::plain(move |mut stream| {
        read_head(&mut stream);
        loop {
            let chunk = read_chunk(&mut stream);
            seen.lock().unwrap().send(chunk.clone()).unwrap();
            if chunk.is_empty() {
                break;
            }
        }
        let mut end = [0; 2];
        stream.read_exact(&mut end).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    write!(
        client,
        "POST http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for piece in ["one", "two", "three", ""] {
        write!(client, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
        assert_eq!(sees.recv_timeout(common::PATIENCE).unwrap(), piece.as_bytes());
    }
    assert!(read_response(&mut client).0.starts_with("HTTP/1.1 200"));
    assert_eq!(gateway.record(1)["upload"], 11);
}
