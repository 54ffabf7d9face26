//! JSON-RPC bodies: any bytes, no panic, and a batch says what its parts say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::policy::body::rpc;

fuzz_target!(|body: &[u8]| {
    let Ok(calls) = rpc::calls(body) else { return };
    assert!(!calls.is_empty());
    for call in &calls {
        assert_eq!(call.tool.is_some(), call.method.as_deref() == Some("tools/call"));
        assert!(call.method.is_some() || call.id.is_some(), "an answer has an id");
    }
    if body.trim_ascii_start().starts_with(b"{") {
        let batch = [b"[", body, b",", body, b"]"].concat();
        assert_eq!(rpc::calls(&batch), Ok([calls.clone(), calls].concat()));
    }
});
