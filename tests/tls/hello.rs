//! The ClientHello reader: the same answer however the bytes come, and no two readings.

use std::sync::Arc;

use crate::tls_kit::{client, gateway, host};
use portcullis::addr::HostError;
use portcullis::tls::AlpnSet;
use portcullis::tls::hello::{ClientHello, Hello, HelloError, LIMIT, parse};
use proptest::prelude::*;
use rustls::ClientConnection;

/// What a rustls client sends first.
fn sent(name: &str, alpn: &[&str]) -> Vec<u8> {
    let mut config = client(gateway().ca.certificate());
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn host_name(name: &[u8]) -> Vec<u8> {
    [&[0], &vector16(name)[..]].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&host_name(name)))
}

fn body(extensions: &[u8]) -> Vec<u8> {
    let head = [&[3, 3][..], &[7; 32], &vector8(&[]), &vector16(&[0x13, 1]), &vector8(&[0])];
    [&head.concat()[..], &vector16(extensions)].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &vector16(part)].concat();
    message.chunks(fragment).flat_map(record).collect()
}

fn hello(extensions: &[u8]) -> Hello {
    parse(&records(&message(&body(extensions)), 1 << 14))
}

fn expected(sni: &str, alpn: AlpnSet) -> Hello {
    let sni = Some(host(sni));
    Hello::Client(ClientHello { sni, alpn, other_alpn: false, ech: false })
}

#[test]
fn a_real_hello_is_read_and_every_part_of_it_asks_for_more() {
    let bytes = sent("Example.COM", &["h2", "http/1.1"]);
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Hello::NeedMore, "{end}");
    }
    let whole = expected("example.com", AlpnSet::Http2AndHttp1);
    assert_eq!(parse(&bytes), whole);
    assert_eq!(parse(&[&bytes[..], b"early data"].concat()), whole);
}

#[test]
fn a_hello_in_many_records_is_read_alike_byte_by_byte() {
    let message = message(&body(&server_name(b"example.com")));
    for fragment in [2, 3, 5, 40, 41] {
        let bytes = records(&message, fragment);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Hello::NeedMore, "{fragment} {end}");
        }
        assert_eq!(parse(&bytes), expected("example.com", AlpnSet::None));
    }
    assert_eq!(parse(&records(&message, 1)), Hello::Bad(HelloError::TooManyRecords));
}

#[test]
fn what_is_not_tls_is_said_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0",
        b"SSH-2.0-x",
        b"\0",
        // MongoDB: lengths of 0x116, 0x115 and 0x180, the request's number, OP_MSG.
        b"\x16\x01\0\0\x07\0",
        b"\x15\x01\0\0\x07\0",
        b"\x80\x01\0",
        // msgpack.
        b"\x82\xa1a",
        b"\x17\x02\x01\0\x05",
        b"\x14\x01\0\0\x01\0",
        b"\x15\x01\0\0\x02\0",
        b"\x16\x01\0\0\0\0",
        // Telnet's WILL, and Thrift.
        b"\xff\xfd\x01",
        b"\x82\x21\x01\x03get",
    ] {
        assert_eq!(parse(bytes), Hello::NotTls, "{bytes:?}");
    }
    assert_eq!(parse(b""), Hello::NeedMore);
    assert_eq!(parse(b"\x16"), Hello::NeedMore);
}

/// What RFC 8446 §5.1 has a server ignore, and what servers are known to forgive.
#[test]
fn what_only_a_forgiving_server_takes_for_tls_is_refused() {
    let bytes = records(&message(&body(&server_name(b"example.com"))), 1 << 14);
    let versioned = |major, minor| [&[22, major, minor][..], &bytes[3..]].concat();
    let before = |record: &[u8]| [record, &bytes[..]].concat();
    let ssl2 = |version: [u8; 2]| [&[0x80, 46, 1][..], &version, &[0, 3, 0, 0, 0, 16]].concat();
    for odd in [
        versioned(2, 1),
        versioned(4, 0),
        versioned(0, 0),
        versioned(0x7f, 0xff),
        before(&[21, 3, 1, 0, 2, 1, 90]),
        before(&[21, 0, 0, 0, 2, 1, 0]),
        before(&[20, 3, 3, 0, 1, 1]),
        before(&[24, 3, 3, 0, 3, 1, 0, 0]),
        before(&[23, 3, 3, 0, 1, 0]),
        before(&[22, 3, 1, 0, 0]),
        before(&[22, 2, 1, 0, 0]),
        before(&[22, 2, 1, 0, 0, 21, 2, 1, 0, 2, 1, 90]),
        before(&[21, 3, 1, 0, 0]),
        before(&[21, 3, 1, 0, 1, 1, 21, 3, 1, 0, 1, 90]),
        // Java takes records of 33 KiB.
        [&[22, 2, 0, 0x50, 0][..], &bytes[5..]].concat(),
        ssl2([3, 1]),
        ssl2([0, 2]),
    ] {
        assert_eq!(parse(&odd), Hello::Bad(HelloError::Record), "{odd:?}");
        let answers = (1..odd.len()).map(|end| parse(&odd[..end]));
        assert!(answers.clone().all(|a| a != Hello::NotTls), "{odd:?}");
        assert!(answers.take(2).all(|a| a == Hello::NeedMore), "{odd:?}");
    }
}

#[test]
fn an_address_in_the_server_name_is_given_as_one_to_be_compared() {
    assert_eq!(hello(&server_name(b"192.0.2.1")), expected("192.0.2.1", AlpnSet::None));
    // rustls sends no server_name for an address.
    let Hello::Client(found) = parse(&sent("192.0.2.1", &[])) else { panic!() };
    assert_eq!(found.sni, None);
}

#[test]
fn server_names_that_two_readers_could_take_differently_are_refused() {
    let two = [host_name(b"a.test"), host_name(b"b.test")].concat();
    let typed = [&[1], &vector16(b"a.test")[..]].concat();
    let cases: [(Vec<u8>, HelloError); 12] = [
        (extension(0, &vector16(&two)), HelloError::ServerNames),
        (extension(0, &vector16(&typed)), HelloError::ServerNames),
        (extension(0, &vector16(&[])), HelloError::ServerNames),
        ([server_name(b"a.test"), server_name(b"a.test")].concat(), HelloError::Repeated),
        (extension(0, &[vector16(&host_name(b"a.test")), vec![0]].concat()), HelloError::Malformed),
        (server_name(b""), HelloError::Name(HostError::Empty)),
        (server_name(b"a\0.test"), HelloError::Name(HostError::Byte)),
        (server_name(b"a.test\nb"), HelloError::Name(HostError::Byte)),
        (server_name(b"a..test"), HelloError::Name(HostError::Label)),
        (server_name(b"0x7f.1"), HelloError::Name(HostError::OddIpv4)),
        (server_name("b\u{fc}cher.test".as_bytes()), HelloError::NonAscii),
        (server_name(b"a.test:443"), HelloError::Name(HostError::Ipv6)),
    ];
    for (extensions, why) in cases {
        assert_eq!(hello(&extensions), Hello::Bad(why), "{extensions:?}");
    }
}

#[test]
fn alpn_is_read_into_what_we_speak_and_the_rest() {
    let offer = |protocols: &[&[u8]]| {
        let list: Vec<u8> = protocols.iter().flat_map(|p| vector8(p)).collect();
        match hello(&extension(16, &vector16(&list))) {
            Hello::Client(hello) => Ok((hello.alpn, hello.other_alpn)),
            other => Err(other),
        }
    };
    assert_eq!(offer(&[b"http/1.1", b"h2"]), Ok((AlpnSet::Http2AndHttp1, false)));
    assert_eq!(offer(&[b"h2", b"h2"]), Ok((AlpnSet::Http2, false)));
    assert_eq!(offer(&[b"h3", b"http/1.1"]), Ok((AlpnSet::Http1, true)));
    assert_eq!(offer(&[b"\x1a\x1a"]), Ok((AlpnSet::None, true)));
    for bad in [&[][..], &[&b""[..]]] {
        assert_eq!(offer(bad), Err(Hello::Bad(HelloError::Malformed)));
    }
}

#[test]
fn an_encrypted_hello_is_noticed_and_a_hello_without_extensions_is_read() {
    let Hello::Client(found) = hello(&extension(0xfe0d, &[0; 9])) else { panic!() };
    assert!(found.ech && found.sni.is_none());
    let mut bare = body(&[]);
    bare.truncate(bare.len() - 2);
    let Hello::Client(found) = parse(&records(&message(&bare), 1 << 14)) else { panic!() };
    assert!(!found.ech && found.sni.is_none());
}

#[test]
fn records_and_lengths_that_do_not_fit_are_refused() {
    let good = message(&body(&server_name(b"a.test")));
    let with = |at: usize, value: u8| {
        let mut bytes = records(&good, 1 << 14);
        bytes[at] = value;
        parse(&bytes)
    };
    assert_eq!(with(5, 2), Hello::Bad(HelloError::NotClientHello));
    assert_eq!(with(3, 0xff), Hello::Bad(HelloError::Record));
    assert_eq!(with(6, 2), Hello::Bad(HelloError::TooLong));
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Hello::Bad(HelloError::Record));
    let trailing = [&good[..], &[0]].concat();
    assert_eq!(parse(&records(&trailing, 1 << 14)), Hello::Bad(HelloError::Malformed));
    let mut mixed = records(&good, 20);
    mixed[25] = 23;
    assert_eq!(parse(&mixed), Hello::Bad(HelloError::Record));
    let long = records(&message(&[0; LIMIT]), 1 << 14);
    assert_eq!(parse(&long[..LIMIT - 1]), Hello::NeedMore);
    assert_eq!(parse(&long[..LIMIT]), Hello::Bad(HelloError::TooLong));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_an_answer_stays_when_more_comes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in any::<bool>(),
    ) {
        if start {
            bytes.splice(..bytes.len().min(2), [22, 3]);
        }
        let mut last = Hello::NeedMore;
        for end in 0..=bytes.len() {
            let now = parse(&bytes[..end]);
            prop_assert!(last == Hello::NeedMore || now == last, "{last:?} then {now:?}");
            last = now;
        }
    }

    #[test]
    fn a_flipped_byte_never_gives_another_name_by_the_way_the_bytes_come(
        at in 0_usize..80, value in any::<u8>(), fragment in 2_usize..200,
    ) {
        let mut message = message(&body(&server_name(b"example.com")));
        let at = at.min(message.len() - 1);
        message[at] = value;
        let (whole, split) = (parse(&records(&message, 1 << 14)), parse(&records(&message, fragment)));
        // A shorter length leaves bytes over; split at that very place the rest is not read.
        if let (Hello::Client(whole), Hello::Client(split)) = (&whole, &split) {
            prop_assert_eq!(whole, split);
        }
    }
}
