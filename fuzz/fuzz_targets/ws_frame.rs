//! WebSocket frames: any bytes, however they are cut into reads, no panic, and nothing comes out
//! that did not go in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::proxy::websocket::{Decoder, Event, FrameError, Side};

const LIMIT: usize = 512;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (client, size, bytes) = input;
    let side = if client { Side::Client } else { Side::Server };
    let whole = run(side, bytes, bytes.len().max(1));
    let cut = run(side, bytes, usize::from(size).max(1));
    assert_eq!(whole, cut);
    assert!(whole.1.len() <= bytes.len());
});

/// What came out: the texts, all forwarded bytes in an order that does not depend on how binary
/// messages were cut, and how it ended.
fn run(side: Side, bytes: &[u8], size: usize) -> (Vec<String>, Vec<u8>, Option<FrameError>) {
    let mut decoder = Decoder::new(side, LIMIT);
    let (mut texts, mut out) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(size) {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Err(error) => return (texts, out, Some(error)),
                Ok(Some(Event::Text { text, wire })) => {
                    assert!(text.len() <= LIMIT);
                    texts.push(text);
                    out.extend_from_slice(&wire);
                }
                Ok(Some(
                    Event::Binary { wire, .. } | Event::Beat { wire } | Event::Close { wire, .. },
                )) => out.extend_from_slice(&wire),
            }
        }
    }
    (texts, out, None)
}
