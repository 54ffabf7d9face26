//! An HTTP/2 origin that says each frame by hand.

use super::frames::{self, Frame, data, frame, headers};
use crate::common::Origin;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The origin's end of a connection.
pub type Io = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// An origin over TLS that offers HTTP/2 alone; `serve` has the frames of each connection, and its number.
pub fn origin(serve: impl Fn(&mut Io, usize) + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::tls(&["origin.test"], &["h2"], move |mut io| {
        // Who offers HTTP/1.1 alone has left.
        if io.read_exact(&mut [0; frames::PREFACE.len()]).is_ok() {
            say(&mut io, &frame(frames::SETTINGS, 0, 0, &[]));
            serve(&mut io, count.fetch_add(1, Ordering::SeqCst));
        }
    })
}

pub fn say(io: &mut Io, bytes: &[u8]) {
    // The gateway may have closed already.
    drop(io.write_all(bytes).and_then(|()| io.flush()));
}

/// The next frame of a request; `None` at the end of the connection.
pub fn next(io: &mut Io) -> Option<Frame> {
    loop {
        let frame = frames::read(io)?;
        match frame.kind {
            frames::HEADERS | frames::DATA | frames::RST_STREAM => return Some(frame),
            frames::SETTINGS | frames::PING if frame.flags & frames::ACK == 0 => {
                let payload = if frame.kind == frames::PING { &frame.payload[..] } else { &[] };
                say(io, &frames::frame(frame.kind, frames::ACK, 0, payload));
            }
            _ => {}
        }
    }
}

/// The stream of the next request.
pub fn asked(io: &mut Io) -> Option<u32> {
    loop {
        let frame = next(io)?;
        if frame.kind == frames::HEADERS {
            return Some(frame.stream);
        }
    }
}

pub fn reset(stream: u32, reason: [u8; 4]) -> Vec<u8> {
    frame(frames::RST_STREAM, 0, stream, &reason)
}

/// GOAWAY: `last` is the last stream that anything was done with.
pub fn goaway(last: u32, reason: [u8; 4]) -> Vec<u8> {
    frame(frames::GOAWAY, 0, 0, &[last.to_be_bytes(), reason].concat())
}

/// The next request that is whole, and its body.
pub fn whole(io: &mut Io) -> Option<(u32, Vec<u8>)> {
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let frame = next(io)?;
        let body = bodies.entry(frame.stream).or_default();
        if frame.kind == frames::DATA {
            body.extend(&frame.payload);
        }
        if frame.flags & frames::END_STREAM != 0 {
            return bodies.remove_entry(&frame.stream);
        }
    }
}

/// Answers every request with its body.
pub fn echo(io: &mut Io) {
    while let Some((stream, body)) = whole(io) {
        say(
            io,
            &[headers(stream, &[(":status", "200")], false), data(stream, &body, true)].concat(),
        );
    }
}
