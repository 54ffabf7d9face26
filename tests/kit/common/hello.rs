//! ClientHellos that no library would send, made byte by byte (RFC 8446 §4.1.2).
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the harness")]

/// What the gateway says before it closes: fatal `unrecognized_name`.
pub const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 0x70];
/// Fatal `decode_error`.
pub const DECODE_ERROR: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 0x32];
/// Fatal `access_denied`.
pub const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 0x31];

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An extension of this type.
pub fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

/// A server_name extension with this name, whatever it holds.
pub fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0], &vector16(name)[..]].concat()))
}

/// An encrypted_client_hello extension.
pub fn ech() -> Vec<u8> {
    extension(0xfe0d, &[0; 32])
}

/// A whole ClientHello with these extensions, in records of `fragment` bytes.
pub fn fragmented(extensions: &[u8], fragment: usize) -> Vec<u8> {
    let suites = vector16(&[0x13, 1]);
    let head = [&[3, 3][..], &[7; 32], &vector8(&[]), &suites, &vector8(&[0])].concat();
    let body = [&head[..], &vector16(extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body[..]].concat();
    let record = |part: &[u8]| [&[22, 3, 1][..], &vector16(part)].concat();
    message.chunks(fragment).flat_map(record).collect()
}

/// A whole ClientHello with these extensions, in one record.
pub fn hello(extensions: &[u8]) -> Vec<u8> {
    fragmented(extensions, 1 << 14)
}

/// A whole ClientHello that asks for `name`.
pub fn named(name: &str) -> Vec<u8> {
    hello(&server_name(name.as_bytes()))
}
