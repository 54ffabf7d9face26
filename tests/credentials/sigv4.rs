//! AWS Signature Version 4: what an origin that checks signatures sees.

use crate::common::{self, Gateway, problem};
use crate::credentials_kit::{Heard, Server, ask, ask_bytes, setup};
use std::io::Write;

const KEYS: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn started(port: u16, scope: &str, keys: &str) -> Gateway {
    let mut setup = setup(port, &[&format!("sigv4: {scope}")]);
    setup.files[0].1 = keys.to_owned();
    setup.more += "buffer: { sigv4: 1KiB }\n";
    setup.start()
}

/// The signature over what was heard, made again from its parts.
fn signature(heard: &Heard, (service, region): (&str, &str), payload: &str) -> String {
    use hmac::{Hmac, Mac};
    use sha2::{Digest, Sha256};
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let authorization = heard.all("authorization").pop().unwrap();
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let time = heard.all("x-amz-date").pop().unwrap();
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", heard.all(name).join(","))).collect();
    let (path, query) = heard.target().split_once('?').unwrap_or((heard.target(), ""));
    let method = heard.head.split(' ').next().unwrap();
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{payload}");
    let scope = format!("{}/{region}/{service}/aws4_request", &time[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = KEYS.split(':').nth(1).unwrap();
    let mut key = mac(format!("AWS4{secret}").as_bytes(), &time[..8]);
    for part in [region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={signed}, Signature={}",
        hex(&mac(&key, &to_sign))
    )
}

fn digest(body: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_request_is_signed_again_with_the_keys_of_the_host() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: sqs, region: eu-west-1 }", KEYS);
    let body = b"Action=SendMessage";
    let request = format!(
        "POST /queue?a=1&b=2\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=PLACEHOLDER\r\nX-Amz-Date: 20000101T000000Z\r\nX-Amz-Security-Token: mine\r\n",
        body.len()
    );
    let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, body);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let heard = server.only();
    assert_eq!(heard.body, body);
    assert_eq!(heard.all("x-amz-security-token"), [""; 0]);
    assert_eq!(
        heard.all("authorization"),
        [signature(&heard, ("sqs", "eu-west-1"), &digest(body))]
    );
    assert!(!heard.head.contains("wJalr"), "{}", heard.head);
    assert_eq!(gateway.record(1)["credential"], "github");
}

#[test]
fn s3_signs_no_body_and_ranges_go_through() {
    let server = Server::new(|_| {
        b"HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\netag: \"x\"\r\ncontent-range: bytes 0-1/9\r\n\r\nok".to_vec()
    });
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    let body = vec![b'a'; 100_000];
    let request =
        format!("PUT /bucket/key\r\nContent-Length: {}\r\nRange: bytes=0-1\r\n", body.len());
    let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, &body);
    // The key itself never went up, so there is nothing to scrub and nothing is changed.
    assert_eq!(common::header(&head, "etag").unwrap(), "\"x\"");
    let heard = server.only();
    assert_eq!(heard.body.len(), body.len());
    assert_eq!(heard.all("x-amz-content-sha256"), ["UNSIGNED-PAYLOAD"]);
    assert_eq!(heard.all("range"), ["bytes=0-1"]);
    assert_eq!(
        heard.all("authorization"),
        [signature(&heard, ("s3", "eu-west-1"), "UNSIGNED-PAYLOAD")]
    );
}

#[test]
fn a_stream_with_a_checksum_behind_it_is_signed_as_one() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    let word = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let request = format!(
        "PUT /bucket/key\r\nContent-Encoding: aws-chunked\r\nX-Amz-Content-Sha256: {word}\r\nX-Amz-Decoded-Content-Length: 5\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nContent-Length: {}\r\n",
        body.len()
    );
    ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
    let heard = server.only();
    assert_eq!(heard.body, body.as_bytes());
    assert_eq!(heard.all("x-amz-content-sha256"), [word]);
    assert_eq!(heard.all("authorization"), [signature(&heard, ("s3", "eu-west-1"), word)]);
}

#[test]
fn a_stream_of_signed_chunks_is_sent_on_without_their_signatures() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    for (word, trailer) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", ""),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "x-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:00\r\n",
        ),
    ] {
        let signature_of = "0".repeat(64);
        let body = format!(
            "5;chunk-signature={signature_of}\r\nhello\r\n6;chunk-signature={signature_of}\r\n world\r\n0;chunk-signature={signature_of}\r\n{trailer}\r\n"
        );
        let request = format!(
            "PUT /bucket/key\r\nContent-Encoding: aws-chunked\r\nX-Amz-Content-Sha256: {word}\r\nX-Amz-Decoded-Content-Length: 11\r\nContent-Length: {}\r\n",
            body.len()
        );
        let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let heard = server.last();
        assert_eq!(String::from_utf8_lossy(&heard.body), "hello world");
        assert_eq!(heard.all("content-length"), ["11"]);
        assert_eq!(heard.all("content-encoding"), [""; 0]);
        assert_eq!(heard.all("x-amz-content-sha256"), ["UNSIGNED-PAYLOAD"]);
        assert_eq!(
            heard.all("authorization"),
            [signature(&heard, ("s3", "eu-west-1"), "UNSIGNED-PAYLOAD")]
        );
    }
}

#[test]
fn signed_chunks_that_are_not_what_their_head_says_are_never_a_whole_request() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    let chunk = format!("5;chunk-signature={}\r\nhello\r\n", "0".repeat(64));
    let whole = format!("{chunk}0;chunk-signature={}\r\n\r\n", "0".repeat(64));
    for (body, said) in [(&whole, 3), (&whole, 6), (&chunk, 5)] {
        let request = format!(
            "PUT /bucket/key\r\nContent-Encoding: aws-chunked\r\nX-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Decoded-Content-Length: {said}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let (head, _) = ask_bytes(&gateway, "origin.test", port, &request, body.as_bytes());
        assert!(head.starts_with("HTTP/1.1 400"), "{said}: {head}");
    }
    assert_eq!(server.count(), 0, "none was heard to its end");
    let records = gateway.records(3);
    assert!(records.iter().all(|record| record["code"] == "bad_framing"), "{records:#?}");
}

/// The same where its beginning was read to be shown, and trailers end it.
#[test]
fn signed_chunks_that_trailers_cut_off_are_never_a_whole_request() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &["sigv4: { service: s3, region: eu-west-1 }"]);
    setup.files[0].1 = KEYS.to_owned();
    setup.policy = "version: 1\nnetwork_policies: {}\n".to_owned();
    setup.sandbox += "    approval: { mode: hold, timeout: 20s, unattended: 20s }\n";
    let gateway = setup.start();
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    let chunk = format!("5;chunk-signature={}\r\nhello\r\n", "0".repeat(64));
    write!(
        tls,
        "PUT /bucket/key HTTP/1.1\r\nHost: origin.test:{port}\r\nX-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Decoded-Content-Length: 5\r\nTrailer: x-a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\nx-a: b\r\n\r\n",
        chunk.len()
    )
    .unwrap();
    tls.flush().unwrap();
    let approve = || {
        assert_cmd::Command::cargo_bin("portcullis")
            .unwrap()
            .args(["requests", "approve", "r1", "--scope", "once", "--yes", "--socket"])
            .arg(gateway.state().join("control.sock"))
            .output()
            .unwrap()
            .status
            .success()
    };
    common::wait_for(common::PATIENCE, || approve().then_some(()));
    let (head, _) = common::read_response(&mut tls);
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_connection_is_kept_behind_signed_chunks() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    let none = "0".repeat(64);
    let body = format!("5;chunk-signature={none}\r\nhello\r\n0;chunk-signature={none}\r\n\r\n");
    for _ in 0..3 {
        write!(
            tls,
            "PUT /bucket/key HTTP/1.1\r\nHost: origin.test:{port}\r\nX-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Decoded-Content-Length: 5\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        assert!(common::read_response(&mut tls).0.starts_with("HTTP/1.1 200"));
    }
    assert_eq!((server.count(), server.origin.connections()), (3, 1));
}

/// The room is the sandbox's: bodies that are never sent hold up its own others alone, and end.
#[test]
fn bodies_that_are_read_to_be_signed_have_a_bounded_room_together() {
    let server = Server::ok();
    let port = server.port();
    let mut setup = setup(port, &["sigv4: { service: sqs, region: eu-west-1 }"]);
    setup.files[0].1 = KEYS.to_owned();
    setup.more += "buffer: { sigv4: 64MiB }\ntimeout: { header: 2s }\n";
    let gateway = setup.start();
    let authority = format!("origin.test:{port}");
    let hold = || {
        let mut tls = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        let length = 64 << 20;
        write!(tls, "POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\na")
            .unwrap();
        tls.flush().unwrap();
        tls
    };
    let started = std::time::Instant::now();
    let mut held = [hold(), hold()];
    // Both are read by now: each has answered nothing, and its byte has come.
    common::wait_for(common::PATIENCE, || (started.elapsed().as_millis() > 500).then_some(()));
    let (head, _) =
        ask_bytes(&gateway, "origin.test", port, "POST /small\r\nContent-Length: 1\r\n", b"b");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(started.elapsed() >= std::time::Duration::from_secs(2), "it waited for room");
    for tls in &mut held {
        let (head, body) = common::read_response(tls);
        assert!(head.starts_with("HTTP/1.1 408"), "{head}");
        assert_eq!(problem(&body)["code"], "body_timeout");
    }
}

#[test]
fn a_body_that_must_be_signed_and_is_too_long_is_a_413() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: sqs, region: eu-west-1 }", KEYS);
    let body = vec![b'a'; 2000];
    let request = format!("POST /\r\nContent-Length: {}\r\n", body.len());
    let (head, answer) = ask_bytes(&gateway, "origin.test", port, &request, &body);
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert_eq!(problem(&answer)["code"], "rewritten_body_too_large");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_presigned_request_is_left_alone() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", KEYS);
    let target = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00";
    ask(&gateway, "origin.test", port, &format!("GET {target}"));
    let heard = server.only();
    assert_eq!((heard.target(), heard.all("authorization")), (target, vec![]));
}

#[test]
fn keys_of_another_form_are_said_and_nothing_goes_up() {
    let server = Server::ok();
    let port = server.port();
    let gateway = started(port, "{ service: s3, region: eu-west-1 }", "only-one-part");
    let (head, body) = ask(&gateway, "origin.test", port, "GET /");
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(
        problem(&body)["detail"],
        "the value of the credential `github` does not fit its place"
    );
    assert_eq!(server.count(), 0);
}

#[test]
fn a_session_token_goes_along_and_is_signed() {
    let server = Server::ok();
    let port = server.port();
    let gateway =
        started(port, "{ service: sqs, region: eu-west-1 }", &format!("{KEYS}:SESSION//TOKEN"));
    ask(&gateway, "origin.test", port, "GET /");
    let heard = server.only();
    assert_eq!(heard.all("x-amz-security-token"), ["SESSION//TOKEN"]);
    assert_eq!(heard.all("authorization"), [signature(&heard, ("sqs", "eu-west-1"), &digest(b""))]);
}
