//! Hosts and authorities: whatever is read is canonical and reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::addr::{Authority, Host, Port, Shown, classify};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(host) = Host::from_bytes(bytes) {
        let text = host.to_string();
        assert!(text.is_ascii());
        assert_eq!(Host::parse(&text).as_ref(), Ok(&host));
        assert!(Shown::host(&host).limit(40).to_string().is_ascii());
        host.ip().map(classify);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(authority) = Authority::parse(text, Some(Port::HTTPS)) {
        assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority));
    }
    assert!(Shown::new(text).limit(100).to_string().is_ascii());
});
