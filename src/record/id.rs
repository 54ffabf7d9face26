//! Ids: a record's ULID and a policy's digest, as text.
//!
//! An id is unique, not secret: who has seen one may guess the next of the same thread.

use super::{Id, PolicyId};
use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

thread_local! {
    /// The state of this thread's generator. `RandomState` takes its keys from the system.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0x0070_6f72_7463_756c_u64));
}

/// SplitMix64 (Steele, Lea, Flood 2014): every state is met once in 2^64 draws.
fn draw() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let z = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Id {
    /// A new ULID: the milliseconds of `now`, then 80 random bits. Ids of one millisecond are in
    /// no order.
    pub fn new(now: SystemTime) -> Self {
        let ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let random = u128::from(draw()) << 16 | u128::from(draw() >> 48);
        Self((ms & 0xffff_ffff_ffff) << 80 | random)
    }

    /// The 26 characters, most significant first; 128 bits leave the first at most `7`.
    pub(super) fn encode(self) -> [u8; 26] {
        const HALF: u128 = (1 << 60) - 1;
        let mut out = [b'0'; 26];
        let parts = [self.0 >> 120, self.0 >> 60 & HALF, self.0 & HALF];
        let (first, rest) = out.split_at_mut(2);
        let (middle, last) = rest.split_at_mut(12);
        for (slots, part) in [first, middle, last].into_iter().zip(parts) {
            let mut left = u64::try_from(part).expect("a part has 60 bits at most");
            for slot in slots.iter_mut().rev() {
                *slot = ALPHABET[(left & 31) as usize];
                left >>= 5;
            }
        }
        out
    }
}

impl PolicyId {
    /// The 64 hex digits.
    pub(super) fn encode(&self) -> [u8; 64] {
        let mut out = [b'0'; 64];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        out
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// 26 characters of Crockford's base 32.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.encode()).expect("the alphabet is ASCII"))
    }
}

/// `sha256:` and 64 hex digits.
impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(str::from_utf8(&self.encode()).expect("hex digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn an_id_is_written_as_the_ulid_specification_says() {
        // github.com/ulid/spec: 01ARZ3NDEKTSV4RRFFQ69G5FAV
        let id = Id(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B);
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(Id(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(Id(0).to_string(), "0".repeat(26));
    }

    #[test]
    fn ids_sort_by_the_millisecond_and_never_repeat() {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_360_344_123);
        let earlier = Id::new(now);
        let later = Id::new(now + Duration::from_millis(1));
        assert!(earlier < later && earlier.to_string() < later.to_string());
        let many: HashSet<Id> = (0..100_000).map(|_| Id::new(now)).collect();
        assert_eq!(many.len(), 100_000);
        let elsewhere = std::thread::spawn(move || Id::new(now)).join().unwrap();
        assert!(!many.contains(&elsewhere));
    }

    #[test]
    fn a_policy_id_is_its_digest_in_hex() {
        let mut digest = [0; 32];
        (digest[0], digest[31]) = (0x9f, 0x2c);
        let text = PolicyId(digest).to_string();
        assert_eq!(text.len(), 7 + 64);
        assert!(text.starts_with("sha256:9f00") && text.ends_with("002c"));
    }
}
