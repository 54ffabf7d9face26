//! Paths: whatever is read is canonical, and none of its readings climbs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::addr::{Path, check_query};

fuzz_target!(|raw: &str| {
    let _ = check_query(raw);
    let Ok(path) = Path::parse(raw) else { return };
    let again = Path::parse(path.as_str()).expect("canonical");
    assert!(again == path && !again.changed());
    assert_eq!(again.has_encoded_slash(), path.has_encoded_slash());
    for reading in path.readings().iter() {
        let mut segments = reading.split('/').map(|s| s.split(';').next().unwrap_or(s));
        assert!(segments.all(|s| s != "." && s != ".."), "{reading}");
    }
});
