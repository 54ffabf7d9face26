//! A WebSocket client in Python: messages pass both ways, a text that no rule allows ends it.

use crate::clients_kit::{Ran, program, scratch};
use crate::common::{Gateway, Origin, Setup, header, read_head};
use base64::Engine;
use sha1::{Digest, Sha1};
use std::io::{Read, Write};

/// Opens a WebSocket through the proxy of the environment, sends its further arguments as texts,
/// and prints what comes back.
const CLIENT: &str = r#"
import base64, os, socket, ssl, struct, sys, urllib.parse as u
proxy, site = u.urlsplit(os.environ['https_proxy']), u.urlsplit(sys.argv[1])
s = socket.create_connection((proxy.hostname, proxy.port), 20)
def head(s):
    h = b''
    while not h.endswith(b'\r\n\r\n'):
        b = s.recv(1)
        if not b: break
        h += b
    return h.decode()
s.sendall(f'CONNECT {site.netloc} HTTP/1.1\r\nHost: {site.netloc}\r\n\r\n'.encode())
assert ' 200 ' in head(s)
s = ssl.create_default_context().wrap_socket(s, server_hostname=site.hostname)
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(f'GET {site.path} HTTP/1.1\r\nHost: {site.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n'.encode())
h = head(s)
if ' 101 ' not in h:
    length = int([l for l in h.split('\r\n') if l.lower().startswith('content-length')][0].split(':')[1])
    print(h.split('\r\n')[0], s.recv(length).decode())
    sys.exit(1)
def exactly(n):
    b = b''
    while len(b) < n:
        more = s.recv(n - len(b))
        if not more: raise EOFError
        b += more
    return b
for text in sys.argv[2:]:
    text, mask = text.encode(), os.urandom(4)
    s.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text)))
    kind, length = exactly(2)
    body = exactly(length)
    if kind & 15 == 8:
        print('closed', struct.unpack('>H', body[:2])[0], body[2:].decode())
        sys.exit(1)
    print(body.decode())
"#;

/// An origin that answers each text with the same text.
fn echo() -> Origin {
    Origin::tls(&["origin.test"], &["http/1.1"], |mut stream| {
        let head = read_head(&mut stream);
        let Some(key) = header(&head, "sec-websocket-key") else { return };
        let mut hash = Sha1::new();
        hash.update(key);
        hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .unwrap();
        while let Some(text) = text_frame(&mut stream) {
            let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
            frame.extend_from_slice(&text);
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    })
}

/// The next short masked text; `None` at the end or for any other frame.
fn text_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).ok()?;
    if head[0] != 0x81 {
        return None;
    }
    let mut text = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut text).ok()?;
    for (at, byte) in text.iter_mut().enumerate() {
        *byte ^= head[2 + at % 4];
    }
    Some(text)
}

fn gateway(origin: &Origin, protocol: &str, rules: &str) -> Gateway {
    Setup::policy(&format!(
        "  ws:\n    endpoints:\n      - host: origin.test\n        port: {}\n        protocol: {protocol}\n        \
         enforcement: enforce\n        rules:\n{rules}",
        origin.port()
    ))
    .start()
}

fn client(gateway: &Gateway, origin: &Origin, path: &str, texts: &[&str]) -> Option<Ran> {
    let dir = scratch();
    let python = program(gateway, "python3", dir.path())?;
    let url = format!("wss://origin.test:{}{path}", origin.port());
    Some(python.args(["-c", CLIENT, &url]).args(texts).run())
}

const HANDSHAKE: &str = "          - allow: { method: GET, path: /socket }\n";

#[test]
fn a_websocket_carries_texts_both_ways() {
    let origin = echo();
    let texts = "          - allow: { method: WEBSOCKET_TEXT, path: /socket }\n";
    for (protocol, rules) in
        [("rest", HANDSHAKE.to_owned()), ("websocket", format!("{HANDSHAKE}{texts}"))]
    {
        let gateway = gateway(&origin, protocol, &rules);
        let Some(ran) = client(&gateway, &origin, "/socket", &["one", "two"]) else { return };
        assert_eq!(ran.passed(), "one\ntwo\n", "{protocol}");
    }
}

#[test]
fn a_handshake_that_no_rule_allows_is_refused_with_its_reason() {
    let origin = echo();
    let gateway = gateway(&origin, "rest", HANDSHAKE);
    let Some(ran) = client(&gateway, &origin, "/other", &["one"]) else { return };
    let said = ran.refused("HTTP/1.1 403 Forbidden by policy");
    assert!(said.contains("\"code\":\"path_not_allowed\""), "{said}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_text_that_no_rule_allows_closes_the_websocket_with_1008() {
    let origin = echo();
    let gateway = gateway(&origin, "websocket", HANDSHAKE);
    let Some(ran) = client(&gateway, &origin, "/socket", &["one"]) else { return };
    ran.refused("closed 1008 ");
}
