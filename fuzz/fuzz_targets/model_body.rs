//! A model call's body: no bytes make the reader panic, and a model that is put in is the one that
//! is read again, with nothing else changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::inference::{Body, Shape};

fuzz_target!(|bytes: &[u8]| {
    for shape in [Shape::OpenAi, Shape::Ollama] {
        let Ok(body) = Body::read(bytes.to_vec().into(), shape) else { continue };
        let changed = Body::read(body.with_model("other"), shape).expect("it was a body before");
        assert_eq!(changed.model(), Some("other"));
        if let Some(model) = body.model() {
            let back = changed.with_model(model);
            let again = Body::read(back, shape).expect("it was a body before");
            assert_eq!(again.model(), Some(model));
        }
    }
});
