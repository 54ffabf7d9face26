//! Placeholders and needles: whatever is sent, what is found stands where it is said to, and no
//! stream comes out of the scrubber with a value in it, however it was cut.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::secret::{Needles, Placeholders, Scrubber, Secret};
use std::sync::Arc;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (text, cuts) = input;
    let placeholders = Placeholders::new(["TELEGRAM_TOKEN", "TELEGRAM_TOKEN_2"]);
    let mut end = 0;
    for found in placeholders.find(&text) {
        assert!(found.range.start >= end && found.range.end <= text.len());
        assert!(found.range.end > found.range.start);
        end = found.range.end;
    }
    let secret = Secret::read(b"a%b/c+d=".to_vec()).expect("eight bytes of text");
    let needles = Arc::new(Needles::new([&secret]));
    let whole = needles.mask(&text).into_owned();
    let mut scrubber = Scrubber::new(needles.clone());
    let (mut out, mut rest) = (Vec::new(), &text[..]);
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(cut)));
        out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(piece)));
        rest = after;
    }
    out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(rest)));
    out.extend_from_slice(&scrubber.finish());
    assert_eq!(out, whole);
});
