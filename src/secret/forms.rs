//! The spellings in which a value may turn up in an answer.
//!
//! Plain, and base64 in both alphabets. Escapes are not listed: they are undone while looking
//! (`readings`), because any byte may be escaped, in many ways.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A spelling, wiped like the value.
pub(super) type Form = Zeroizing<Vec<u8>>;

/// Every spelling of `value`, each once, the plain one first.
pub(super) fn of(value: &str) -> Vec<Form> {
    let mut forms = vec![Zeroizing::new(value.as_bytes().to_vec())];
    let mut add = |form: Form| {
        if !forms.contains(&form) {
            forms.push(form);
        }
    };
    if value.contains(' ') {
        // As forms write it.
        add(Zeroizing::new(value.replace(' ', "+").into_bytes()));
    }
    for before in 0..3 {
        add(base64(value.as_bytes(), before, &STANDARD_NO_PAD));
        add(base64(value.as_bytes(), before, &URL_SAFE_NO_PAD));
    }
    forms
}

/// The base64 letters that are the same whatever stands around the value, where `before` bytes
/// (modulo 3) stand before it: those whose six bits are all its own.
fn base64(value: &[u8], before: usize, alphabet: &impl Engine) -> Form {
    let mut padded = Zeroizing::new(vec![0; before]);
    padded.reserve_exact(value.len());
    padded.extend_from_slice(value);
    let mut text = Zeroizing::new(alphabet.encode(&*padded).into_bytes());
    let own = (before * 8).div_ceil(6)..(padded.len() * 8) / 6;
    text.truncate(own.end);
    text.drain(..own.start);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(text: &[u8], form: &Form) -> bool {
        text.windows(form.len()).any(|window| window == form.as_slice())
    }

    proptest! {
        #[test]
        fn base64_of_anything_around_the_value_holds_one_of_its_forms(
            before in proptest::collection::vec(any::<u8>(), 0..20),
            value in "[ -~]{8,40}",
            after in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let forms = of(&value);
            let whole = [&before[..], value.as_bytes(), &after[..]].concat();
            for text in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                prop_assert!(forms.iter().any(|form| has(text.as_bytes(), form)));
            }
        }
    }
}
