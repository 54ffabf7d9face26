//! `:authority` and `host` on every h2 stream are the tunnel's name (security.md 1).

use crate::common::{self, Gateway, Origin, Setup, read_request};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What one stream asks for: its URI, and a `host` field beside it.
struct Asked {
    uri: String,
    host: Option<String>,
}

fn asked(uri: String, host: Option<String>) -> Asked {
    Asked { uri, host }
}

/// Sends these requests on one h2 connection, one after the other; their statuses and codes.
async fn statuses<S>(io: S, requests: Vec<Asked>) -> Vec<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut said = Vec::new();
    for Asked { uri, host } in requests {
        let mut request = http::Request::get(uri).version(http::Version::HTTP_2);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let response = response.await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        let code = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|problem| problem["code"].as_str().map(str::to_owned));
        said.push((status, code.unwrap_or_default()));
    }
    drop(client);
    driver.abort();
    said
}

/// A plain origin that speaks h2 with prior knowledge, as its clients do, and keeps what each
/// stream asked for.
async fn h2_origin() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    all.lock().unwrap().push(request.uri().to_string());
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            });
        }
    });
    (port, seen)
}

async fn over_tls(
    gateway: &Gateway,
    authority: &str,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tunnel = gateway.tunnel(authority);
    tunnel.set_nonblocking(true).unwrap();
    let pem = std::fs::read(gateway.ca()).unwrap();
    let config = common::client_config(&pem, &["h2"]);
    let name = rustls::pki_types::ServerName::try_from("origin.test").unwrap();
    let io = TcpStream::from_std(tunnel).unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, io).await;
    tls.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_inside_tls_is_held_to_the_tunnels_name_and_the_others_live_on() {
    let origin = Origin::tls(&["origin.test", "other.test"], &["http/1.1"], |mut stream| {
        while !read_request(&mut stream).is_empty() {
            if write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = Setup::allow_all(&["origin.test", "other.test"], port).start();
    let io = over_tls(&gateway, &format!("origin.test:{port}")).await;
    let said = statuses(
        io,
        vec![
            asked(format!("https://origin.test:{port}/one"), None),
            asked(format!("https://other.test:{port}/two"), None),
            asked("https://origin.test/three".to_owned(), None),
            asked(format!("https://origin.test:{port}/four"), Some(format!("other.test:{port}"))),
            asked(format!("https://origin.test:{port}/five"), Some(format!("origin.test:{port}"))),
            asked(format!("http://origin.test:{port}/six"), None),
            asked(format!("https://ORIGIN.test.:{port}/seven"), None),
        ],
    )
    .await;
    let statuses: Vec<u16> = said.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 421, 421, 421, 200, 400, 200], "{said:?}");
    assert!(said[1..4].iter().all(|(_, code)| code == "host_mismatch"), "{said:?}");
    let records = gateway.records(7);
    for record in &records {
        let path = record["path"].as_str().unwrap_or("-");
        let passed = matches!(path, "/one" | "/five" | "/seven");
        assert_eq!(record["sent"], passed, "{record:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_of_h2_with_prior_knowledge_is_held_to_the_tunnels_name() {
    let (port, seen) = h2_origin().await;
    let gateway = Setup::allow_all(&["origin.test", "other.test"], port).start();
    let tunnel = gateway.tunnel(&format!("origin.test:{port}"));
    tunnel.set_nonblocking(true).unwrap();
    let said = statuses(
        TcpStream::from_std(tunnel).unwrap(),
        vec![
            asked(format!("http://origin.test:{port}/one"), None),
            asked(format!("http://other.test:{port}/two"), None),
            asked(format!("https://origin.test:{port}/three"), None),
        ],
    )
    .await;
    let statuses: Vec<u16> = said.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 421, 400], "{said:?}");
    assert_eq!(*seen.lock().unwrap(), [format!("http://origin.test:{port}/one")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_on_the_proxy_port_names_its_target_in_each_stream() {
    let (port, seen) = h2_origin().await;
    let gateway = Setup::allow_all(&["origin.test", "other.test"], port).start();
    let socket = gateway.connect();
    socket.set_nonblocking(true).unwrap();
    let said = statuses(
        TcpStream::from_std(socket).unwrap(),
        vec![
            asked(format!("http://origin.test:{port}/one"), None),
            asked(format!("http://other.test:{port}/two"), None),
            asked(format!("http://origin.test:{port}/three"), Some(format!("other.test:{port}"))),
            asked(format!("https://origin.test:{port}/four"), None),
        ],
    )
    .await;
    let statuses: Vec<u16> = said.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 421, 400], "{said:?}");
    let expected =
        [format!("http://origin.test:{port}/one"), format!("http://other.test:{port}/two")];
    assert_eq!(*seen.lock().unwrap(), expected);
}
