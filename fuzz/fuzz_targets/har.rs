//! HAR files, and lines of a recording: any bytes, no panic; what is said about them is safe for a
//! terminal, and a record reads the same when it is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::traffic::read::{Har, Item, parse};

fn check(item: &Item<'_>) {
    match item {
        Item::Record(record) => assert!(record.repeat > 0),
        Item::Broken(why) => assert!(why.bytes().all(|b| (b' '..=b'~').contains(&b)), "{why}"),
        Item::Other => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut count = 0;
    let read = Har::read(bytes, &mut |item| {
        check(&item);
        count += 1;
        count < 1000
    });
    if let Err(why) = read {
        check(&Item::Broken(why));
    }
    for line in bytes.split(|b| *b == b'\n') {
        let item = parse(line);
        check(&item);
        if let Item::Record(record) = item {
            assert_eq!(record.clone().into_owned(), *record);
        }
    }
});
