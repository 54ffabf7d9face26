//! The reader of models' answers (server-sent events, lines, JSON): no bytes make it panic, and
//! what it counts does not depend on where the chunks break.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::inference::{Meter, Work};

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (kind, at, bytes) = input;
    let kind = ["text/event-stream", "application/x-ndjson", "application/json"][usize::from(kind % 3)];
    let mut whole = Meter::new(Some(kind), (Work::Response, 1));
    whole.feed(bytes);
    let (one, two) = bytes.split_at(usize::from(at) % (bytes.len() + 1));
    let mut broken = Meter::new(Some(kind), (Work::Response, 1));
    broken.feed(one);
    broken.feed(two);
    assert_eq!(whole.tokens(), broken.tokens());
    assert_eq!(whole.response_id(), broken.response_id());
});
