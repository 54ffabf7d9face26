//! security.md 8, HTTP/1: refused, or the origin hears one well-formed request that means what was
//! judged; each variant on plain forward, inside a plain tunnel and inside intercepted TLS.

use crate::attack::strict::Heard;
use crate::attack::{Bench, PLACES, Place, statuses};

/// What must come of an attack.
#[derive(Clone, Copy, Debug)]
enum Law {
    /// An answer of this status, the connection closed by the gateway, nothing whole heard.
    Refused(u16),
    /// The origin hears `/a` once, with this body; nothing else is let through.
    One(&'static str),
    /// Nothing whole is heard, and nothing is let through.
    Never,
    /// Any of these.
    Either,
}

/// A name, the bytes, what must come of them. `{EVIL}` is a request that is denied.
struct Case(&'static str, &'static str, Law);

const EVIL: &str = "GET {T}/evil HTTP/1.1\r\nHost: {H}\r\n\r\n";

/// Says the case in one place; returns how many records there must be of it.
fn judge(bench: &Bench, place: Place, Case(name, attack, law): &Case) -> usize {
    let attack = attack.replace("{EVIL}", EVIL);
    let answer = bench.say(place, &attack, !matches!(law, Law::Refused(_)));
    let statuses = statuses(&answer);
    let mut whole = Vec::new();
    for heard in bench.take() {
        match heard {
            Heard::Whole(request) => whole.push(request),
            // Its connection ended without its end: the origin can't take it for a request.
            Heard::Cut(_) => {}
            Heard::Garbage(bytes, why) => panic!("{name}, {place:?}: {why} in {bytes:?}"),
        }
    }
    let what = format!("{name}, {place:?}: {statuses:?} {whole:?}");
    for request in &whole {
        assert_eq!(request.path, "/a", "{what}");
        assert_eq!(request.field("host"), Some(&*bench.authority(place)), "{what}");
    }
    let passed = statuses.iter().filter(|s| **s == 200).count();
    assert_eq!(passed, whole.len(), "{what}");
    assert!(passed <= 1, "{what}");
    match law {
        Law::Refused(status) => assert_eq!(statuses, [*status], "{what}"),
        Law::One(body) => {
            assert_eq!(passed, 1, "{what}");
            assert_eq!(whole[0].body, body.as_bytes(), "{what}");
        }
        Law::Never => assert_eq!(passed, 0, "{what}"),
        Law::Either => {}
    }
    statuses.len().max(1)
}

fn judge_all(place: Place) {
    let bench = Bench::new();
    let records = CASES.iter().map(|case| judge(&bench, place, case)).sum();
    for record in bench.exactly(records) {
        let sent = record["sent"] == true;
        assert!(!sent || record["path"] == "/a", "{record}");
    }
}

#[test]
fn a_request_in_two_readings_is_refused_or_heard_once_on_plain_forward() {
    judge_all(Place::Forward);
}

#[test]
fn a_request_in_two_readings_is_refused_or_heard_once_inside_a_plain_tunnel() {
    judge_all(Place::Tunnel);
}

#[test]
fn a_request_in_two_readings_is_refused_or_heard_once_inside_intercepted_tls() {
    judge_all(Place::Inside);
}

#[test]
fn trailers_never_name_framing_routing_or_credentials() {
    let bench = Bench::new();
    for place in PLACES {
        let attack = "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTE: trailers\r\n\
            Trailer: content-length, transfer-encoding, host, authorization, x-ok\r\n\
            Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nContent-Length: 50\r\n\
            Transfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: x\r\nX-Ok: 1\r\n\r\n";
        bench.say(place, attack, true);
        let heard = bench.take();
        let [Heard::Whole(request)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(request.trailers, [("x-ok".to_owned(), "1".to_owned())]);
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("cl beside te", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::One("")),
    Case("te beside cl", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n0\r\n\r\n{EVIL}", Law::One("")),
    Case("cl differ", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl equal", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd{EVIL}", Law::One("abcd")),
    Case("cl list equal", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4, 4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl +4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: +4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl -4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: -4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl hex", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 0x4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl 004", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 004\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl empty", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: \r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("cl huge", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 18446744073709551617\r\n\r\na{EVIL}", Law::Refused(400)),
    Case("cl 4 space 4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4 4\r\n\r\na{EVIL}", Law::Refused(400)),
    Case("get with cl", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\n\r\nabcd", Law::One("abcd")),
    Case("te xchunked", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te list", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te chunked, identity", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te twice", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te identity then chunked", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te CHUNKED", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: CHUNKED\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", Law::One("abcd")),
    Case("te empty", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te vt", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te quoted", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("te params", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("1.0 te", "POST {T}/a HTTP/1.0\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("get chunked", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", Law::One("abcd")),
    Case("obs-fold", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nX: a\r\n b\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("obs-fold te", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("first fold", "GET {T}/a HTTP/1.1\r\n Host: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("nul value", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nX: a\0b\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("nul name", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nX\0: ab\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("nul line", "GET {T}/a\0 HTTP/1.1\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("space colon", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length : 4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("space colon te", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("tab colon", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length\t: 4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("empty name", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\n: x\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("no colon", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nGET /evil HTTP/1.1\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("bare lf", "GET {T}/a HTTP/1.1\nHost: {H}\nX: y\n\n", Law::One("")),
    Case("bare lf te hidden", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", Law::One("")),
    Case("bare cr value", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("cr cr lf", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nX: a\r\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("bare cr line", "GET {T}/a HTTP/1.1\rHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("leading crlf", "\r\nGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::One("")),
    Case("leading 2 crlf", "\r\n\r\nGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Either),
    Case("two spaces", "GET  {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Never),
    Case("tab in line", "GET\t{T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Never),
    Case("HTTP/1.2", "GET {T}/a HTTP/1.2\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("HTTP/2.0", "GET {T}/a HTTP/2.0\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("http/0.9", "GET {T}/a\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("http/1.1 lower", "GET {T}/a http/1.1\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("extra word", "GET {T}/a HTTP/1.1 x\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("splitting path", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nX: y HTTP/1.1\r\n\r\n", Law::One("")),
    Case("chunk junk", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk 0x4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk -4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk +4", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n+4\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk 04", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n0004\r\nabcd\r\n000\r\n\r\n", Law::One("abcd")),
    Case("chunk space", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4 \r\nabcd\r\n0\r\n\r\n", Law::One("abcd")),
    Case("chunk ext", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nabcd\r\n0;x\r\n\r\n", Law::One("abcd")),
    Case("chunk ext lf", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4;a\nb\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk size lf", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\n{EVIL}", Law::Refused(400)),
    Case("chunk no crlf", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdXX0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk huge", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("chunk empty size", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("trailer framing", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTrailer: content-length, transfer-encoding, host, x-ok, authorization\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: x\r\nX-Ok: 1\r\n\r\n", Law::One("abcd")),
    Case("trailer lf", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX: y\n\n{EVIL}", Law::Either),
    Case("trailer space colon", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX : y\r\n\r\n", Law::Refused(400)),
    Case("no host", "GET {T}/a HTTP/1.1\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("two hosts", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("second host", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nHost: evil.test\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("host list", "GET {T}/a HTTP/1.1\r\nHost: {H}, evil.test\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("host empty", "GET {T}/a HTTP/1.1\r\nHost:\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("host other", "GET {T}/a HTTP/1.1\r\nHost: other.test:{P}\r\n\r\n{EVIL}", Law::Refused(421)),
    Case("host port other", "GET {T}/a HTTP/1.1\r\nHost: origin.test:1\r\n\r\n{EVIL}", Law::Refused(421)),
    Case("host no port", "GET {T}/a HTTP/1.1\r\nHost: origin.test\r\n\r\n{EVIL}", Law::Refused(421)),
    Case("host port 0pad", "GET {T}/a HTTP/1.1\r\nHost: origin.test:0{P}\r\n\r\n", Law::Refused(400)),
    Case("host port plus", "GET {T}/a HTTP/1.1\r\nHost: origin.test:+{P}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("host port empty", "GET {T}/a HTTP/1.1\r\nHost: origin.test:\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("host upper", "GET {T}/a HTTP/1.1\r\nHost: ORIGIN.test:{P}\r\n\r\n", Law::One("")),
    Case("host dot", "GET {T}/a HTTP/1.1\r\nHost: origin.test.:{P}\r\n\r\n", Law::One("")),
    Case("host userinfo", "GET {T}/a HTTP/1.1\r\nHost: x@{H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("absolute other", "GET http://other.test:{P}/a HTTP/1.1\r\nHost: {H}\r\n\r\n{EVIL}", Law::Never),
    Case("absolute userinfo", "GET http://origin.test@other.test:{P}/a HTTP/1.1\r\nHost: {H}\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("absolute https", "GET https://{H}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Either),
    Case("absolute ftp", "GET ftp://{H}/a HTTP/1.1\r\nHost: {H}\r\n\r\n{EVIL}", Law::Never),
    Case("pipelined behind chunked", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::One("abcd")),
    Case("after close", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n{EVIL}", Law::One("")),
    Case("1.0", "GET {T}/a HTTP/1.0\r\nHost: {H}\r\n\r\n{EVIL}", Law::One("")),
    Case("1.0 ka", "GET {T}/a HTTP/1.0\r\nHost: {H}\r\nConnection: keep-alive\r\n\r\n{EVIL}", Law::One("")),
    Case("1.0 nohost", "GET {T}/a HTTP/1.0\r\n\r\n", Law::One("")),
    Case("expect refused", "POST {T}/evil HTTP/1.1\r\nHost: {H}\r\nExpect: 100-continue\r\nContent-Length: 200\r\n\r\nGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Never),
    Case("expect ok", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd{EVIL}", Law::One("abcd")),
    Case("h2c", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n{EVIL}", Law::One("")),
    Case("ws with cl", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 4\r\n\r\nabcd{EVIL}", Law::Refused(400)),
    Case("ws with te", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n{EVIL}", Law::Refused(400)),
    Case("ws", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{EVIL}", Law::One("")),
    Case("cut cl", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 400\r\n\r\nabcd", Law::Never),
    Case("cut chunk", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", Law::Never),
    Case("cut head", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTrans", Law::Never),
    Case("raw utf8", "GET {T}/\u{c3}\u{a4} HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Refused(400)),
    Case("connection host", "GET {T}/a HTTP/1.1\r\nHost: {H}\r\nConnection: host, content-length, transfer-encoding\r\nContent-Length: 4\r\n\r\nabcd", Law::One("abcd")),
    Case("underscore te", "POST {T}/a HTTP/1.1\r\nHost: {H}\r\nTransfer_Encoding: chunked\r\nContent_Length: 0\r\nContent-Length: 4\r\n\r\nabcd", Law::One("abcd")),
    Case("refused chunks hold a request", "POST {T}/evil HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::Never),
    Case("refused, then one", "POST {T}/evil HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\n\r\nabcdGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::One("")),
    Case("refused chunked, then one", "POST {T}/evil HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX: y\r\n\r\nGET {T}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", Law::One("")),
];
