//! WebSockets carried as bytes: RFC 6455 from an HTTP/1 client, RFC 8441 from an HTTP/2 one.

use crate::common::{Gateway, Origin, Setup, header, problem, read_all, read_head, read_response};
use crate::http_kit::{self, client, soon};
use bytes::Bytes;
use portcullis::proxy::websocket::{Opcode, accept_for, encode, encode_close};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn handshake(port: u16) -> String {
    format!(
        "GET http://origin.test:{port}/ws HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
}

fn agree(stream: &mut impl Write, head: &str) {
    let accept = accept_for(&header(head, "sec-websocket-key").unwrap());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .unwrap();
    stream.flush().unwrap();
}

/// Agrees to the handshake, says what head it got, then gives every byte back until the end.
fn mirror() -> Origin {
    Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        agree(&mut stream, &head);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match stream.stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => stream.write_all(&buffer[..n]).unwrap(),
            }
        }
        drop(stream.stream.shutdown(Shutdown::Write));
    })
}

fn opened(gateway: &Gateway, port: u16) -> TcpStream {
    let mut client = gateway.connect();
    client.write_all(handshake(port).as_bytes()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept"), Some(accept_for(KEY).to_string()));
    assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
    client
}

fn echoes(client: &mut TcpStream, bytes: &[u8]) {
    let mut writer = client.try_clone().unwrap();
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(bytes).unwrap());
        client.read_exact(&mut back).unwrap();
    });
    assert!(back == bytes, "{} bytes came back changed", bytes.len());
}

#[test]
fn messages_fragments_and_the_close_handshake_pass_unchanged() {
    let origin = mirror();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = opened(&gateway, port);
    echoes(&mut client, &encode(Opcode::Text, b"hello", MASK));
    let mut parts = encode(Opcode::Text, b"in ", MASK).to_vec();
    parts[0] &= 0x7f;
    parts.extend_from_slice(&encode(Opcode::Ping, b"?", MASK));
    parts.extend_from_slice(&encode(Opcode::Continuation, b"two", MASK));
    for byte in &parts {
        echoes(&mut client, std::slice::from_ref(byte));
    }
    let large = encode(Opcode::Binary, &vec![0xa5; 1024 * 1024], MASK);
    echoes(&mut client, &large);
    let close = encode_close(1000, "done", MASK);
    echoes(&mut client, &close);
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client).is_empty());
    assert!(origin.heard().to_ascii_lowercase().contains("permessage-deflate"));
    let record = gateway.record(1);
    assert_eq!(record["websocket"], true);
    assert_eq!(record["outcome"], "passed");
    assert_eq!(record["status"], 101);
    assert_eq!(record["upload"], record["download"]);
    assert!(record["upload"].as_u64().unwrap() > 1024 * 1024);
}

#[test]
fn a_client_that_ends_its_half_still_hears_the_origin() {
    let origin = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        agree(&mut stream, &head);
        let heard = read_all(&mut stream);
        stream.write_all(&encode(Opcode::Text, heard.len().to_string().as_bytes(), None)).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = opened(&gateway, port);
    client.write_all(&[7; 1000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), encode(Opcode::Text, b"1000", None));
    assert_eq!(gateway.record(1)["outcome"], "passed");
}

#[test]
fn bytes_behind_the_101_are_not_lost() {
    let origin = Origin::plain(|mut stream| {
        let head = read_head(&mut stream);
        let accept = accept_for(&header(&head, "sec-websocket-key").unwrap());
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(&encode(Opcode::Text, b"first", None));
        stream.write_all(&answer).unwrap();
        let mut got = [0; 3];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    // The client does not wait for the 101 either.
    client.write_all(format!("{}abc", handshake(port)).as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101"));
    let mut expected = encode(Opcode::Text, b"first", None).to_vec();
    expected.extend_from_slice(b"abc");
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
}

#[test]
fn a_handshake_that_is_declined_is_an_ordinary_answer() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno")
            .unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    client.write_all(handshake(port).as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!(body, b"no");
    let record = gateway.record(1);
    assert_eq!(record["status"], 401);
    assert_eq!(record["outcome"], "passed");
}

#[test]
fn a_declined_handshake_whose_body_never_ends_has_a_deadline() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 5\r\n\r\nno").unwrap();
        read_all(&mut stream);
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port)
        .more("timeout: { idle: 1s, first_byte: 2s }\n")
        .start();
    let mut client = gateway.connect();
    client.write_all(handshake(port).as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 401"));
    assert_eq!(read_all(&mut client), b"no", "and it is cut there");
    let record = gateway.record(1);
    assert_eq!((&record["verdict"], &record["outcome"]), (&json!("allow"), &json!("failed")));
    assert_eq!(record["code"], "idle_timeout");
}

#[test]
fn a_101_that_does_not_answer_the_handshake_opens_nothing() {
    for answer in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    ] {
        let origin = Origin::plain(move |mut stream| {
            read_head(&mut stream);
            drop(write!(stream, "HTTP/1.1 101 Switching Protocols\r\n{answer}\r\nraw"));
        });
        let port = origin.port();
        let gateway = Setup::allow_all(&["origin.test"], port).start();
        let mut client = gateway.connect();
        client.write_all(handshake(port).as_bytes()).unwrap();
        let (head, body) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 502"), "{answer}: {head}");
        assert_eq!(problem(&body)["code"], "bad_upgrade");
        let record = gateway.record(1);
        assert_eq!(
            (&record["code"], &record["outcome"]),
            (&"bad_upgrade".into(), &"failed".into())
        );
    }
}

#[test]
fn a_101_that_was_not_asked_for_is_a_failure() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        drop(stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw"));
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(problem(&body)["error"], "upstream_protocol");
}

#[test]
fn an_origin_that_speaks_http2_alone_gets_no_handshake() {
    let origin =
        http_kit::H2Origin::tls(async |_, respond| http_kit::reply(respond, 200, b"a page"));
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    let request = handshake(port).replace(&format!("http://origin.test:{port}"), "");
    client.write_all(request.as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(problem(&body)["error"], "upstream_protocol");
    assert_eq!(gateway.record(1)["sent"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_opens_one_with_an_extended_connect() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        let head = read_head(&mut stream);
        assert!(head.starts_with("GET /ws?a=1 HTTP/1.1"), "{head}");
        assert_eq!(header(&head, "sec-websocket-protocol").as_deref(), Some("chat"));
        agree(&mut stream, &head);
        let mut buffer = [0; 4096];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 {
                break;
            }
            stream.write_all(&buffer[..n]).unwrap();
            stream.flush().unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    // The server's SETTINGS must say that it knows extended CONNECT.
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http_kit::request("CONNECT", port, "/ws?a=1")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut up) = client.send_request(request, false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("sec-websocket-accept").is_none());
    let mut down = response.into_body();
    for n in 0..3u8 {
        let message = encode(Opcode::Text, &[b'a' + n; 100], MASK);
        up.send_data(Bytes::copy_from_slice(&message), false).unwrap();
        let mut back = Vec::new();
        while back.len() < message.len() {
            let data = soon(down.data()).await.unwrap().unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            back.extend_from_slice(&data);
        }
        assert_eq!(back, &message[..]);
    }
    up.send_data(Bytes::new(), true).unwrap();
    let (rest, _) = http_kit::collect(down).await;
    assert!(rest.is_empty());
    let record = gateway.record(1);
    assert_eq!(record["method"], "GET");
    assert_eq!(record["websocket"], true);
    assert_eq!(record["outcome"], "passed");
    assert_eq!(record["http"], "2");
}

/// Any 2xx would say that the WebSocket is open (RFC 8441 §5), and the page be taken for messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_ignores_the_handshake_opens_nothing_for_an_http2_client() {
    let origin = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        let status = if read_head(&mut stream).contains("/page") { "200 OK" } else { "403 No" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\npage").unwrap();
        stream.flush().unwrap();
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    for (path, status, code) in [("/page", 502, "bad_upgrade"), ("/no", 403, "allowed")] {
        let mut request = http_kit::request("CONNECT", port, path)
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, _up) = client.send_request(request, false).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let (body, _) = http_kit::collect(response.into_body()).await;
        assert_eq!(body == b"page"[..], status == 403, "{path}");
        let records = gateway.records(1 + usize::from(status == 403));
        assert_eq!(records.last().unwrap()["code"], code, "{path}");
    }
}
