//! An origin that keeps what it hears and answers what a test wants, and a gateway that holds a
//! credential for it.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of the kit")]

use crate::common::{Gateway, Origin, Setup, header, read_all, read_head};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// The value: it has letters that base64, percent escapes and JSON write differently.
pub(crate) const TOKEN: &str = "ghp_S3cret/Value+0=";

/// A request as an origin heard it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A TLS origin for `origin.test` and `other.test`, and all that it heard.
pub(crate) struct Server {
    pub(crate) origin: Origin,
    pub(crate) heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// Answers each request with the bytes that `answer` makes of it.
    pub(crate) fn new(answer: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let all = heard.clone();
        let origin =
            Origin::tls(&["origin.test", "other.test"], &["http/1.1"], move |mut stream| {
                while let Some(request) = read(&mut stream) {
                    all.lock().unwrap().push(request.clone());
                    let sent = stream.write_all(&answer(&request)).and_then(|()| stream.flush());
                    if sent.is_err() {
                        return;
                    }
                }
            });
        Self { origin, heard }
    }

    /// Answers each request with 200 and `ok`.
    pub(crate) fn ok() -> Self {
        Self::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    }

    pub(crate) fn port(&self) -> u16 {
        self.origin.port()
    }

    /// The one request that it heard.
    pub(crate) fn only(&self) -> Heard {
        let heard = self.heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard[0].clone()
    }

    pub(crate) fn last(&self) -> Heard {
        self.heard.lock().unwrap().last().expect("a request").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

impl Heard {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
            .collect()
    }

    /// The request target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

/// One request with its body, trailers included in the body where it is chunked.
pub(crate) fn read(stream: &mut impl Read) -> Option<Heard> {
    let head = read_head(stream);
    if head.is_empty() {
        return None;
    }
    let mut body = Vec::new();
    if let Some(length) = header(&head, "content-length") {
        body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
    } else if header(&head, "transfer-encoding").is_some() {
        let mut byte = [0];
        let ended = |body: &[u8]| {
            let text = String::from_utf8_lossy(body);
            body.ends_with(b"\r\n\r\n") && (text.starts_with("0\r\n") || text.contains("\r\n0\r\n"))
        };
        while !ended(&body) {
            stream.read_exact(&mut byte).ok()?;
            body.push(byte[0]);
        }
    }
    Some(Heard { head, body })
}

/// A gateway for `port` of `origin.test` and `other.test`, whose sandbox has the credential
/// `github` attached, with these lines of `inject:`.
pub(crate) fn setup(port: u16, inject: &[&str]) -> Setup {
    let lines: String = inject
        .iter()
        .map(|line| {
            format!("  - {{ credential: github, host: origin.test, port: {port}, addresses: [127.0.0.1], {line} }}\n")
        })
        .collect();
    Setup::allow_all(&["origin.test", "other.test"], port)
        .sandbox("    credentials: [github]\n")
        .file("secret", TOKEN)
        .more(&format!("credentials:\n  github: {{ file: secret }}\ninject:\n{lines}"))
}

/// The usual binding.
pub(crate) const BEARER: &str = "header: Authorization, format: \"Bearer {}\"";

/// Sends one request to `host` over TLS in a tunnel, and reads the answer to the end.
pub(crate) fn ask(gateway: &Gateway, host: &str, port: u16, request: &str) -> (String, Vec<u8>) {
    ask_bytes(gateway, host, port, request, b"")
}

/// The same with a body.
pub(crate) fn ask_bytes(
    gateway: &Gateway,
    host: &str,
    port: u16,
    request: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    let mut tls = gateway.tls(&format!("{host}:{port}"), host, &["http/1.1"]);
    let (line, fields) = request.split_once("\r\n").unwrap_or((request, ""));
    let fields = if fields.is_empty() || fields.ends_with("\r\n") {
        fields.to_owned()
    } else {
        format!("{fields}\r\n")
    };
    let head =
        format!("{line} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{fields}\r\n");
    tls.write_all(head.as_bytes()).unwrap();
    tls.write_all(body).unwrap();
    let all = read_all(&mut tls);
    let at = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&all[..at]).into_owned();
    let body = match header(&head, "transfer-encoding") {
        Some(_) => dechunked(&all[at..]),
        None => all[at..].to_vec(),
    };
    (head, body)
}

/// The data of a chunked body; trailers are left out.
pub(crate) fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if size == 0 {
            break;
        }
        out.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
    out
}

/// The same bytes in gzip.
pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}
