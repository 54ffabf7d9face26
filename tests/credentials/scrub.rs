//! What a hostile origin echoes does not reach the client (security.md 16).

use crate::common::{self, Gateway, header, problem, read_head};
use crate::credentials_kit::{self, BEARER, Heard, Server, TOKEN, ask, setup};
use crate::http_kit;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::io::{Read, Write};

fn started(port: u16) -> Gateway {
    setup(port, &[BEARER]).start()
}

/// A response with these fields and this body.
fn response(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// `body` in chunks of `size`.
fn chunked(fields: &str, body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut out =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{fields}\r\n").into_bytes();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

/// `body` in the coding `name`.
fn coded(name: &str, body: &[u8]) -> Vec<u8> {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    match name {
        "gzip" => {
            let mut to = GzEncoder::new(Vec::new(), Compression::best());
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "deflate" => {
            let mut to = ZlibEncoder::new(Vec::new(), Compression::best());
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "raw deflate" => {
            let mut to = DeflateEncoder::new(Vec::new(), Compression::best());
            to.write_all(body).unwrap();
            to.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            let mut to = brotli::CompressorWriter::new(&mut out, 4096, 5, 20);
            to.write_all(body).unwrap();
            drop(to);
            out
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

/// What an echo says of the value in every spelling, between other text.
fn echo() -> String {
    let escaped: String = TOKEN.bytes().map(|b| format!("%{b:02x}")).collect();
    format!(
        "plain {TOKEN} json {} url {} all {escaped} b64 {} b64u {} mixed {} end",
        TOKEN.replace('/', "\\/"),
        TOKEN.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D"),
        STANDARD.encode(format!("x:{TOKEN}")),
        URL_SAFE.encode(TOKEN),
        TOKEN.replace('S', "%53"),
    )
}

/// Nothing of the value is in `text`, in any spelling, but its first and last bits in base64.
fn assert_scrubbed(text: &str, what: &str) {
    assert!(text.contains("***"), "{what}: {text}");
    for part in [TOKEN, "S3cret", "53cret", "%53%33", &STANDARD.encode(TOKEN)[4..16], "UzNjcmV0"] {
        assert!(!text.contains(part), "{what}: {part} in {text}");
    }
}

#[test]
fn a_host_that_got_another_sandboxs_credential_does_not_tell_it() {
    let server = Server::new(|_| response("", echo().as_bytes()));
    let port = server.port();
    let gateway = setup(port, &[BEARER])
        .sandbox("  other:\n    policy: [policy.yaml]\n    approval: { mode: deny }\n")
        .listen("  - { address: \"127.0.0.1:0\", sandbox: other }\n")
        .start();
    let (head, body) = ask(&gateway, "origin.test", port, "GET /\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_scrubbed(&String::from_utf8(body).unwrap(), "echoed to another sandbox");
    assert_eq!(server.last().all("authorization"), [""; 0]);
    // A host that got none is left alone.
    let (_, body) = ask(&gateway, "other.test", port, "GET /\r\n");
    assert_eq!(String::from_utf8(body).unwrap(), echo());
}

#[test]
fn an_echo_in_the_body_is_masked_however_it_is_coded_and_cut() {
    let server = Server::new(|heard: &Heard| {
        let query = heard.target().split_once('?').unwrap().1.replace("%20", " ");
        let (coding, size) = query.split_once('&').unwrap();
        let body = coded(coding, echo().as_bytes());
        let name = coding.trim_start_matches("raw ");
        let fields = if name == "identity" {
            String::new()
        } else {
            format!("content-encoding: {name}\r\n")
        };
        match size.parse().unwrap() {
            0 => response(&fields, &body),
            size => chunked(&fields, &body, size, ""),
        }
    });
    let port = server.port();
    let gateway = started(port);
    for coding in ["identity", "gzip", "deflate", "raw%20deflate", "br", "zstd"] {
        for size in [0, 1, 7, 4096] {
            let what = format!("{coding} in chunks of {size}");
            let request =
                format!("GET /?{coding}&{size}\r\nAccept-Encoding: gzip, br, deflate, zstd\r\n");
            let (head, body) = ask(&gateway, "origin.test", port, &request);
            assert!(head.starts_with("HTTP/1.1 200"), "{what}: {head}");
            assert_eq!(header(&head, "content-encoding"), None, "{what}");
            let text = String::from_utf8(body).unwrap();
            assert_scrubbed(&text, &what);
            assert!(text.starts_with("plain *** json *** url *** all *** b64 "), "{what}: {text}");
            assert!(text.ends_with(" mixed *** end"), "{what}: {text}");
        }
    }
}

#[test]
fn an_echo_is_masked_in_the_escapes_of_html_and_of_javascript_and_mixed() {
    let html = |f: fn(u8) -> String| -> String {
        TOKEN
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { f(b) })
            .collect()
    };
    let spellings = [
        html(|b| format!("&#{b};")),
        html(|b| format!("&#{b:04};")),
        html(|b| format!("&#x{b:X};")),
        html(|b| format!("&#x{b:02x};")),
        html(|b| format!("\\x{b:02x}")),
        html(|b| format!("\\u{{{b:x}}}")),
        html(|b| format!("\\{}", char::from(b))),
        TOKEN.replace('/', "\\/").replace('+', "\\u002b").replace('=', "\\u003D"),
        TOKEN.replace('/', "&#x2F;").replace('+', "%2B").replace('=', "\\x3d"),
        STANDARD.encode(format!("{TOKEN}???")).replace('/', "\\/"),
    ];
    let count = spellings.len();
    let all = spellings.join(" | ");
    let server = Server::new(move |heard| match heard.target() {
        "/whole" => response("", all.as_bytes()),
        _ => chunked("", all.as_bytes(), 1, ""),
    });
    let port = server.port();
    let gateway = started(port);
    for target in ["/whole", "/cut"] {
        let (_, body) = ask(&gateway, "origin.test", port, &format!("GET {target}\r\n"));
        let text = String::from_utf8(body).unwrap();
        let masked = vec!["***"; count - 1].join(" | ");
        assert!(text.starts_with(&masked), "{target}: {text}");
        assert!(!text.contains("S3cret") && !text.contains("UzNjcmV0"), "{target}: {text}");
    }
}

#[test]
fn no_answer_is_asked_for_in_another_charset() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port);
    let request = "GET /\r\nAccept: text/plain;charset=utf-16, */*\r\nAccept-Charset: utf-16\r\nRequest-Range: bytes=0-3\r\n";
    ask(&gateway, "origin.test", port, request);
    let heard = server.only();
    assert_eq!(heard.all("accept"), ["text/plain, */*"]);
    for gone in ["accept-charset", "request-range"] {
        assert_eq!(heard.all(gone), [""; 0], "{gone}");
    }
}

#[test]
fn head_and_trailers_and_the_status_text_are_masked() {
    let server = Server::new(|_| {
        let fields = format!(
            "x-plain: a {TOKEN} b\r\nx-basic: Basic {}\r\nlocation: /?t={}\r\nset-cookie: t={TOKEN}\r\ntrailer: x-end\r\n",
            STANDARD.encode(format!("user:{TOKEN}")),
            TOKEN.replace('/', "%2f").replace('+', "%2B"),
        );
        let answer = chunked(&fields, b"body", 4, &format!("x-end: {TOKEN}\r\n"));
        String::from_utf8(answer)
            .unwrap()
            .replacen("200 OK", &format!("200 {TOKEN}"), 1)
            .into_bytes()
    });
    let port = server.port();
    let gateway = started(port);
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(
        tls,
        "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nTE: trailers\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let all = String::from_utf8(common::read_all(&mut tls)).unwrap();
    assert_scrubbed(&all, "all");
    assert!(all.starts_with("HTTP/1.1 200 ***\r\n"), "{all}");
    assert_eq!(header(&all, "x-plain").unwrap(), "a *** b");
    assert_eq!(header(&all, "location").unwrap(), "/?t=***");
    assert_eq!(header(&all, "set-cookie").unwrap(), "t=***");
    assert_eq!(header(&all, "x-end").unwrap(), "***");
}

#[test]
fn what_is_said_before_the_answer_is_masked() {
    let server = Server::new(|_| {
        let hints = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: </{TOKEN}>\r\nx-basic: Basic {}\r\nx-ok: 1\r\n\r\n",
            STANDARD.encode(format!("user:{TOKEN}"))
        );
        [hints.into_bytes(), response("", b"ok")].concat()
    });
    let port = server.port();
    let gateway = started(port);
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").unwrap();
    let all = String::from_utf8(common::read_all(&mut tls)).unwrap();
    assert!(all.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{all}");
    assert_scrubbed(&all, "all");
    assert_eq!(header(&all, "link").unwrap(), "</***>");
    assert_eq!(header(&all, "x-ok").unwrap(), "1");
    assert!(all.contains("HTTP/1.1 200") && all.contains("\r\nok\r\n"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_before_the_answer_is_masked_for_an_http2_client_too() {
    let server = Server::new(|_| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: </{TOKEN}>\r\nx-ok: 1\r\n\r\n");
        [hints.into_bytes(), response("", b"ok")].concat()
    });
    let port = server.port();
    let gateway = started(port);
    let mut client = http_kit::client(&gateway, port).await;
    let asked = http_kit::request("GET", port, "/").body(()).unwrap();
    let mut response = client.send_request(asked, true).unwrap().0;
    let said = http_kit::soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    let said = said.unwrap().unwrap();
    assert_scrubbed(&format!("{:?}", said.headers()), "hints");
    assert_eq!(
        (&said.headers()["link"], &said.headers()["x-ok"]),
        (&"</***>".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(http_kit::soon(response).await.unwrap().status(), 200);
}

#[test]
fn the_name_of_a_header_tells_nothing() {
    let server = Server::new(|_| response("x-letters-only-value: 1\r\nx-ok: 1\r\n", b"ok"));
    let port = server.port();
    let mut setup = setup(port, &[BEARER]);
    setup.files[0].1 = "Letters-Only-Value".to_owned();
    let gateway = setup.start();
    let (head, _) = ask(&gateway, "origin.test", port, "GET /");
    assert!(!head.to_ascii_lowercase().contains("letters"), "{head}");
    assert_eq!(header(&head, "x-ok").unwrap(), "1");
}

#[test]
fn a_range_can_not_cut_the_value_in_two() {
    let server = Server::new(|_| response("accept-ranges: bytes\r\n", echo().as_bytes()));
    let port = server.port();
    let gateway = started(port);
    let request = "GET /\r\nRange: bytes=0-9\r\nIf-Range: \"x\"\r\nA-IM: vcdiff\r\n";
    let (head, _) = ask(&gateway, "origin.test", port, request);
    let heard = server.only();
    for name in ["range", "if-range", "a-im"] {
        assert_eq!(heard.all(name), [""; 0], "{name}");
    }
    assert_eq!(heard.all("accept-encoding"), ["identity"]);
    assert_eq!(header(&head, "accept-ranges"), None);
}

#[test]
fn what_holds_no_longer_is_not_said() {
    let server = Server::new(|_| {
        let fields = "etag: \"abc\"\r\ncontent-md5: x\r\ndigest: sha-256=x\r\nrepr-digest: x\r\nlast-modified: x\r\n";
        response(fields, b"a body without it")
    });
    let port = server.port();
    let gateway = started(port);
    let (head, body) = ask(&gateway, "origin.test", port, "GET /");
    assert_eq!(body, b"a body without it");
    for name in ["etag", "content-md5", "digest", "repr-digest", "content-length"] {
        assert_eq!(header(&head, name), None, "{name}");
    }
    assert_eq!(header(&head, "last-modified").unwrap(), "x");
}

#[test]
fn an_answer_without_a_body_keeps_what_still_holds() {
    let server = Server::new(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"part-1\"\r\n\r\n".to_vec()
    });
    let port = server.port();
    let gateway = started(port);
    let (head, _) = ask(&gateway, "origin.test", port, "PUT /\r\nContent-Length: 0\r\n");
    assert_eq!(header(&head, "etag").unwrap(), "\"part-1\"");
}

#[test]
fn a_coding_that_was_not_asked_for_is_an_error() {
    let server = Server::new(|heard: &Heard| {
        let coding = heard.target().trim_start_matches('/').replace('-', ", ");
        response(&format!("content-encoding: {coding}\r\n"), &coded("gzip", echo().as_bytes()))
    });
    let port = server.port();
    let gateway = started(port);
    for coding in ["compress", "gzip-gzip", "dcb", "gzip-br"] {
        let (head, body) = ask(&gateway, "origin.test", port, &format!("GET /{coding}"));
        assert!(head.starts_with("HTTP/1.1 502"), "{coding}: {head}");
        assert_eq!(problem(&body)["code"], "upstream_protocol");
    }
}

#[test]
fn a_coding_that_lies_or_breaks_off_is_cut_and_never_passed_on_unread() {
    let server = Server::new(|heard: &Heard| {
        let whole = coded("gzip", &echo().repeat(50).into_bytes());
        match heard.target() {
            "/lies" => response("content-encoding: gzip\r\n", echo().as_bytes()),
            "/short" => chunked("content-encoding: gzip\r\n", &whole[..whole.len() - 12], 50, ""),
            "/more" => {
                response("content-encoding: gzip\r\n", &[&whole[..], echo().as_bytes()].concat())
            }
            "/name" => {
                // A header whose file name does not end, in a body that does not.
                let name = [b"\x1f\x8b\x08\x08\0\0\0\0\0\xff", &*b"n".repeat(100_000)].concat();
                let mut wire = chunked("content-encoding: gzip\r\n", &name, 1000, "");
                wire.truncate(wire.len() - b"0\r\n\r\n".len());
                wire
            }
            _ => response("content-encoding: zstd\r\n", &whole),
        }
    });
    let port = server.port();
    let gateway = started(port);
    for (number, path) in ["/lies", "/short", "/more", "/name", "/other"].into_iter().enumerate() {
        let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
        write!(tls, "GET {path} HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut all = Vec::new();
        let _ = tls.read_to_end(&mut all);
        let all = String::from_utf8_lossy(&all).into_owned();
        assert!(!all.contains("S3cret"), "{path}: {all}");
        assert!(!all.ends_with("0\r\n\r\n"), "{path} ended as if it were whole: {all}");
        let record = gateway.record(number + 1);
        assert_eq!(record["outcome"], "failed", "{path}: {record}");
        assert_eq!(record["code"], "upstream_protocol", "{path}: {record}");
    }
}

#[test]
fn an_answer_that_only_grows_is_cut() {
    // 60 MB of zeros are 100 bytes of brotli.
    let bomb = coded("br", &vec![0; 60_000_000]);
    let server = Server::new(move |_| response("content-encoding: br\r\n", &bomb));
    let port = server.port();
    let gateway = started(port);
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nAccept-Encoding: br\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let _ = tls.read_to_end(&mut all);
    assert!(all.len() < 8_000_000, "{}", all.len());
    assert_eq!(gateway.record(1)["code"], "upstream_protocol");
}

/// The data of the next chunk.
fn chunk(stream: &mut impl Read) -> Vec<u8> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut data = vec![0; size + 2];
    stream.read_exact(&mut data).unwrap();
    data.truncate(size);
    data
}

#[test]
fn an_event_is_there_when_it_came() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let origin = common::Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        if credentials_kit::read(&mut stream).is_none() {
            return;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for number in 0..3 {
            write!(stream, "data: {number} {TOKEN}\n\n").unwrap();
            stream.flush().unwrap();
            // The next comes only once the client has this one.
            if told.lock().unwrap().recv().is_err() {
                return;
            }
        }
    });
    let port = origin.port();
    let gateway = started(port);
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n").unwrap();
    read_head(&mut tls);
    for number in 0..3 {
        // An event may come in several chunks, as the origin's writes did.
        let mut seen = Vec::new();
        while !seen.ends_with(b"\n\n") {
            seen.extend(chunk(&mut tls));
        }
        assert_eq!(String::from_utf8(seen).unwrap(), format!("data: {number} ***\n\n"));
        tell.send(()).unwrap();
    }
}

#[test]
fn a_value_that_was_left_there_before_is_masked_too() {
    let kept: std::sync::Mutex<Option<String>> = std::sync::Mutex::default();
    let server = Server::new(move |heard: &Heard| {
        let mut kept = kept.lock().unwrap();
        if let Some(value) = heard.all("authorization").pop() {
            *kept = Some(value);
        }
        response("", kept.clone().unwrap_or_default().as_bytes())
    });
    let port = server.port();
    let gateway = setup(port, &[&format!("{BEARER}, path: \"/bound\"")]).start();
    ask(&gateway, "origin.test", port, "GET /bound");
    // Another path, which gets none, on the same origin; also after the value changed.
    let (_, body) = ask(&gateway, "origin.test", port, "GET /other");
    assert_eq!(body, b"Bearer ***");
    std::fs::write(gateway.dir.path().join("secret"), "a-newer-value").unwrap();
    let (_, body) = ask(&gateway, "origin.test", port, "GET /bound");
    assert_eq!(body, b"Bearer ***");
}

#[test]
fn another_port_of_the_host_can_not_say_it_either() {
    let server = Server::new(|_| response("", b"ok"));
    let plain = common::Origin::ok(TOKEN);
    let (port, other) = (server.port(), plain.port());
    let mut setup = setup(port, &[BEARER]);
    setup.policy = format!(
        "version: 1\nnetwork_policies:\n  t: {{ endpoints: [{{ host: origin.test, ports: [{port}, {other}], protocol: rest, enforcement: enforce, access: full }}] }}\n"
    );
    let gateway = setup.start();
    ask(&gateway, "origin.test", port, "GET /");
    let answer = gateway.exchange(
        format!("GET http://origin.test:{other}/ HTTP/1.1\r\nHost: origin.test:{other}\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    );
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("***"), "{answer}");
    assert!(!answer.contains(TOKEN), "{answer}");
}

#[test]
fn a_host_that_gets_none_is_passed_on_as_it_is() {
    let server = Server::new(|_| {
        response("etag: \"x\"\r\ncontent-encoding: gzip\r\n", &coded("gzip", b"hello"))
    });
    let port = server.port();
    let gateway = started(port);
    let request = "GET /\r\nRange: bytes=0-9\r\nAccept-Encoding: sdch\r\n";
    let (head, body) = ask(&gateway, "other.test", port, request);
    assert_eq!(body, coded("gzip", b"hello"));
    assert_eq!(header(&head, "etag").unwrap(), "\"x\"");
    let heard = server.only();
    assert_eq!(
        (heard.all("range"), heard.all("accept-encoding")),
        (vec!["bytes=0-9".into()], vec!["sdch".into()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_gets_masked_trailers() {
    let server = Server::new(|_| {
        chunked("trailer: x-end\r\n", TOKEN.as_bytes(), 3, &format!("x-end: {TOKEN}\r\n"))
    });
    let port = server.port();
    let gateway = started(port);
    let mut client = http_kit::client(&gateway, port).await;
    let request = http_kit::request("GET", port, "/").header("te", "trailers").body(()).unwrap();
    let (_, body, trailers) = http_kit::exchange(&mut client, request, b"").await;
    assert_eq!(&body[..], b"***");
    assert_eq!(trailers.unwrap()["x-end"], "***");
}

/// Whoever stores a text at an origin and has it told back must not learn from the sizes of what
/// comes whether it begins a value.
#[test]
fn the_sizes_of_what_comes_say_nothing_of_the_value() {
    let server = Server::new(|heard: &Heard| {
        let text = heard.target().split_once('?').unwrap().1.to_owned();
        response("", format!("stored: {text}").as_bytes())
    });
    let port = server.port();
    let gateway = started(port);
    let raw = |text: &str| {
        let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
        write!(
            tls,
            "GET /?{text} HTTP/1.1\r\nHost: origin.test:{port}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let all = String::from_utf8(common::read_all(&mut tls)).unwrap();
        let (_, body) = all.split_once("\r\n\r\n").unwrap();
        body.replace(text, "TEXT")
    };
    let value = TOKEN.replace('+', "%2B");
    for length in 1..8 {
        let right = &value[..length];
        let wrong = format!("{}~", &right[..length - 1]);
        assert_eq!(raw(right), raw(&wrong), "{length} letters of it");
    }
}
