//! HTTP/2 as an attacker writes it: frames by hand, fields as HPACK literals that are never
//! indexed (RFC 9113, RFC 7541 §6.2.2). Nothing here checks anything.

use std::io::{Read, Write};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and empty settings.
pub fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Fields as literals without indexing, names too.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let raw: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            length(&mut bytes, raw.len());
            bytes.extend(raw);
        }
    }
    bytes
}

/// A length with a 7-bit prefix (RFC 7541 §5.1).
fn length(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return bytes.push(u8::try_from(value).unwrap());
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// HEADERS with END_HEADERS, and END_STREAM where nothing follows.
pub fn headers(stream: u32, fields: &[(&str, &str)], last: bool) -> Vec<u8> {
    let flags = END_HEADERS | if last { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(fields))
}

pub fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    frame(DATA, if last { END_STREAM } else { 0 }, stream, bytes)
}

/// A frame that was read.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends stream `stream` or the connection.
    pub fn ends(&self, stream: u32) -> bool {
        match self.kind {
            GOAWAY => true,
            RST_STREAM => self.stream == stream,
            HEADERS | DATA => self.stream == stream && self.flags & END_STREAM != 0,
            _ => false,
        }
    }
}

/// Reads one frame; `None` at the end of the connection.
pub fn read(stream: &mut impl Read) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream: id, payload })
}

/// Reads frames, answering SETTINGS and PING, until `stream` or the connection ends. `None`:
/// the connection ended without a word.
pub fn outcome<S: Read + Write>(io: &mut S, stream: u32) -> Option<Frame> {
    loop {
        let frame = read(io)?;
        if frame.ends(stream) {
            return Some(frame);
        }
        if [SETTINGS, PING].contains(&frame.kind) && frame.flags & ACK == 0 {
            let payload = if frame.kind == PING { &frame.payload[..] } else { &[] };
            drop(io.write_all(&self::frame(frame.kind, ACK, 0, payload)));
            drop(io.flush());
        }
    }
}
