//! Uploads against their answers: what has not gone up when the answer is whole never does, and a
//! body that waits for `100 Continue` waits no longer because its connection was stale.

use crate::common::{self, Origin, PATIENCE, Setup, problem, read_all, read_head, read_response};
use crate::http_kit::{self, H2Origin, client, collect, reply, request, soon};
use bytes::Bytes;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

fn put(port: u16, fields: &str) -> String {
    format!("PUT http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n{fields}\r\n")
}

/// An origin that answers when it has the head and the first 1000 bytes of the body, and tells how
/// many came in all once it is left.
fn hasty() -> (Origin, std::sync::mpsc::Receiver<usize>) {
    let (tell, told) = channel();
    let origin = Origin::plain(move |mut stream| {
        read_head(&mut stream);
        stream.read_exact(&mut [0; 1000]).unwrap();
        stream.write_all(b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\nok").unwrap();
        tell.send(1000 + read_all(&mut stream).len()).unwrap();
    });
    (origin, told)
}

#[test]
fn an_upload_ends_with_its_record() {
    let (origin, told) = hasty();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    client.write_all(put(port, "Content-Length: 100000000\r\n").as_bytes()).unwrap();
    client.write_all(&[b'x'; 1000]).unwrap();
    assert_eq!(read_response(&mut client).1, b"ok");
    // The client waits, and so would the origin: both are left by the gateway.
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 1000);
    assert!(read_all(&mut client).is_empty());
    let record = gateway.record(1);
    assert_eq!((&record["outcome"], &record["status"]), (&"passed".into(), &400.into()));
    assert_eq!(record["upload"], 1000);
}

#[test]
fn nothing_that_is_still_sent_goes_up_behind_a_record() {
    let (origin, told) = hasty();
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    client.write_all(put(port, "Content-Length: 100000000\r\n").as_bytes()).unwrap();
    let mut writer = client.try_clone().unwrap();
    let sends = std::thread::spawn(move || while writer.write_all(&[b'x'; 100_000]).is_ok() {});
    read_all(&mut client);
    let came = told.recv_timeout(PATIENCE).unwrap();
    sends.join().unwrap();
    assert!(came < 100_000_000, "the upload was ended");
    let upload = gateway.record(1)["upload"].as_u64().unwrap();
    assert!(came as u64 <= upload, "{came} bytes came, the record tells of {upload}");
}

/// Such a client sends all of its body before it reads: what it is told must not be lost in a reset.
#[test]
fn a_client_that_sends_all_of_a_refused_upload_first_reads_why() {
    let origin = Origin::ok("ok");
    let port = origin.port();
    let gateway = Setup::policy(&format!(
        "  a:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: rest, access: read-only }}\n"
    ))
    .start();
    let body = vec![b'x'; 4 * 1024 * 1024];
    for _ in 0..10 {
        let mut plain = gateway.connect();
        plain.write_all(put(port, "Content-Length: 4194304\r\n").as_bytes()).unwrap();
        plain.write_all(&body).unwrap();
        let (head, told) = read_response(&mut plain);
        assert!(head.starts_with("HTTP/1.1 403"), "{head:?}");
        assert_eq!(problem(&told)["code"], "method_not_allowed");
    }
    for _ in 0..10 {
        let authority = format!("origin.test:{port}");
        let mut tls = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(tls, "PUT / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4194304\r\n\r\n")
            .unwrap();
        tls.write_all(&body).unwrap();
        let (head, _) = read_response(&mut tls);
        assert!(head.starts_with("HTTP/1.1 403"), "{head:?}");
    }
    assert_eq!(gateway.records(20).len(), 20);
}

/// It does so however slowly it sends.
#[test]
fn a_client_that_sends_a_refused_upload_slowly_reads_why() {
    let gateway = Setup::allow_all(&["other.test"], 1).start();
    let mut client = gateway.connect();
    client.write_all(put(1, "Content-Length: 4000000\r\n").as_bytes()).unwrap();
    for _ in 0..40 {
        client.write_all(&[b'x'; 100_000]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (head, _) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 403"), "{head:?}");
}

/// An origin that answers what it has not read to its end, and closes: its socket resets. What it said
/// is there to be read, whatever became of the rest of the upload.
#[test]
fn an_early_answer_of_an_origin_that_closes_is_the_answer() {
    const EARLY: &[u8] =
        b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge";
    let body = vec![b'x'; 4 * 1024 * 1024];
    let plain = Origin::plain(|mut stream| {
        read_head(&mut stream);
        drop(stream.write_all(EARLY));
    });
    let port = plain.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    for _ in 0..20 {
        let mut client = gateway.connect();
        client.write_all(put(port, "Content-Length: 4194304\r\n").as_bytes()).unwrap();
        drop(client.write_all(&body));
        let (head, told) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 413"), "{head:?}");
        assert_eq!(told, b"large");
    }
    let secure = Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        read_head(&mut stream);
        drop(stream.write_all(EARLY).and_then(|()| stream.flush()));
    });
    let authority = format!("origin.test:{}", secure.port());
    let gateway = Setup::allow_all(&["origin.test"], secure.port()).start();
    for _ in 0..20 {
        let mut client = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(client, "PUT / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4194304\r\n\r\n")
            .unwrap();
        drop(client.write_all(&body));
        let (head, _) = read_response(&mut client);
        assert!(head.starts_with("HTTP/1.1 413"), "{head:?}");
    }
}

#[test]
fn a_final_answer_in_place_of_100_ends_the_connection() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno").unwrap();
        read_all(&mut stream);
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = gateway.connect();
    let head = put(port, "Expect: 100-continue\r\nContent-Length: 5\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let (head, body) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!(body, b"no");
    assert!(read_all(&mut client).is_empty(), "the body that was not sent would be the next head");
    assert_eq!(gateway.record(1)["upload"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_upload_ends_with_its_record_and_its_connection_lives() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = H2Origin::tls(move |request, respond| {
        let tell = tell.clone();
        async move {
            let status = if request.method() == http::Method::POST { 400 } else { 200 };
            let mut body = request.into_body();
            reply(respond, status, b"ok");
            let mut came = 0;
            while let Some(Ok(data)) = body.data().await {
                came += data.len();
            }
            tell.send((came, body.is_end_stream())).unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port).start();
    let mut client = client(&gateway, port).await;
    let asked = request("POST", port, "/").body(()).unwrap();
    let (response, mut up) = client.send_request(asked, false).unwrap();
    up.send_data(Bytes::from_static(&[b'x'; 1000]), false).unwrap();
    let (body, _) = collect(soon(response).await.unwrap().into_body()).await;
    assert_eq!(body, b"ok");
    let (came, whole) = soon(told.recv()).await.unwrap();
    assert!(came <= 1000 && !whole, "{came} bytes, whole: {whole}");
    assert_eq!(gateway.record(1)["outcome"], "passed");
    let (response, body, _) =
        http_kit::exchange(&mut client, request("GET", port, "/").body(()).unwrap(), b"").await;
    assert_eq!((response.status().as_u16(), &body[..]), (200, &b"ok"[..]));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_that_waits_is_let_go_on_a_second_connection_too() {
    let (go, goes) = channel::<()>();
    let (gone, was_gone) = channel();
    let (goes, count) = (Mutex::new(goes), AtomicUsize::new(0));
    let origin = Origin::plain(move |mut stream| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            goes.lock().unwrap().recv().unwrap();
            drop(stream);
            return gone.send(()).unwrap();
        }
        // It never says 100.
        read_head(&mut stream);
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
    });
    let port = origin.port();
    let mut setup = Setup::allow_all(&["origin.test"], port);
    setup.env.push(("PORTCULLIS_WORKERS".to_owned(), "1".to_owned()));
    let gateway = setup.start();
    let mut client = gateway.connect();
    client.write_all(put(port, "Content-Length: 0\r\n").as_bytes()).unwrap();
    assert_eq!(read_response(&mut client).1, b"ok");
    // The request and the end of the kept connection are there at once, in this order.
    gateway.signal("STOP");
    let head = put(port, "Expect: 100-continue\r\nContent-Length: 5\r\n");
    client.write_all(head.as_bytes()).unwrap();
    go.send(()).unwrap();
    was_gone.recv_timeout(PATIENCE).unwrap();
    gateway.signal("CONT");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 100"), "{head}");
    client.write_all(b"hello").unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
}

/// Its system answers every probe of its closed window: TCP would keep the connection for ever.
#[test]
fn a_connection_to_an_origin_that_takes_nothing_ends() {
    let origin = Origin::plain(|mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test"], port)
        .more("timeout: { first_byte: 1s, idle: 1s }\n")
        .start();
    let sockets = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    // Sees to the sockets that the gateway opens once.
    gateway.exchange(
        b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n",
    );
    let before = common::wait_for(PATIENCE, || {
        let count = sockets();
        std::thread::sleep(Duration::from_millis(200));
        (sockets() == count).then_some(count)
    });
    let mut client = gateway.connect();
    client.write_all(put(port, "Content-Length: 100000000\r\n").as_bytes()).unwrap();
    let mut writer = client.try_clone().unwrap();
    let sends = std::thread::spawn(move || while writer.write_all(&[b'x'; 100_000]).is_ok() {});
    let (head, _) = read_response(&mut client);
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    client.shutdown(std::net::Shutdown::Both).unwrap();
    sends.join().unwrap();
    drop(client);
    common::wait_for(PATIENCE, || (sockets() == before).then_some(()));
}
