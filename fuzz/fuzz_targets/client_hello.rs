//! The ClientHello reader: no bytes make it panic, and an answer once given stays the same when
//! more bytes come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::hello::{Hello, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let half = parse(&bytes[..bytes.len() / 2]);
    assert!(half == Hello::NeedMore || half == whole);
});
