//! Text that looks like encoded bytes: base64, base32, long hex.
//!
//! Owns the guess, which errs to silence: digests and UUIDs as services use them in paths are
//! ordinary, and so are slugs, file names and CamelCase. What is noted is a run that is too long
//! and too mixed to be any of these.

use percent_encoding::percent_decode_str;

/// The shortest run that is looked at.
const RUN: usize = 24;
/// Hex digits that a path or query may hold in all: two SHA-256, or one SHA-512.
const HEX: usize = 128;

/// Whether a segment of the path looks like encoded bytes, or its hex digits add up to more than
/// digests would.
pub(super) fn in_path(path: &str) -> bool {
    any(path.split('/'))
}

/// As [`in_path`], of the values of a query (and its keys).
pub(super) fn in_query(query: &str) -> bool {
    any(query.split(['&', ';', '=']))
}

/// As [`in_path`], of the labels of a host name.
pub(super) fn in_name(name: &str) -> bool {
    // The A-label of a name in another script is no data.
    any(name.split('.').filter(|label| !label.starts_with("xn--")))
}

fn any<'a>(pieces: impl Iterator<Item = &'a str>) -> bool {
    let mut hex = 0;
    for piece in pieces {
        let piece = percent_decode_str(piece).decode_utf8_lossy();
        for run in piece.split(|c: char| !c.is_ascii_alphanumeric() && c != '+') {
            if run.len() < RUN {
                continue;
            }
            if run.bytes().all(|b| b.is_ascii_hexdigit()) {
                hex += if run.bytes().any(|b| b.is_ascii_alphabetic()) { run.len() } else { 0 };
            } else if mixed(run.as_bytes()) {
                return true;
            }
        }
    }
    hex > HEX
}

/// Whether a run is as mixed as encoded random bytes are: many different characters, and letters
/// in both cases and digits taking turns.
fn mixed(run: &[u8]) -> bool {
    let digits = run.iter().filter(|b| b.is_ascii_digit()).count();
    let upper = run.iter().any(u8::is_ascii_uppercase);
    let lower = run.iter().any(u8::is_ascii_lowercase);
    let turns = run.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    let turning = turns as f64 / (run.len() - 1) as f64;
    match (upper, lower) {
        // Base64: of two neighbours 62% differ in kind.
        (true, true) => digits >= 1 && turning >= 0.40 && bits(run) >= 3.7,
        // Base32 and base36: 30%.
        _ => digits >= 3 && turning >= 0.18 && bits(run) >= 3.5,
    }
}

fn kind(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    }
}

/// Shannon entropy in bits a character.
fn bits(run: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in run {
        counts[usize::from(*byte)] += 1;
    }
    let all = run.len() as f64;
    counts
        .into_iter()
        .filter(|count| *count > 0)
        .map(|count| {
            let share = f64::from(count) / all;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_bytes_are_seen() {
        for path in [
            "/x/c2VjcmV0IGRhdGEgdGhhdCBsZWF2ZXM",
            "/x/kJ8vQ2mZpL0sR7tYwXcB4nH1fG6dA9eU",
            "/x/mzxw6ytboi2gk3tdmfwgy5dfon2gc3lq",
            "/c2VjcmV0IGRhdGE%3D/dGhpcyBpcyBhIHNlY3JldCBtZXNzYWdl",
        ] {
            assert!(in_path(path), "{path}");
        }
        let digests = "/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".repeat(3);
        assert!(in_path(&digests));
        assert!(in_query("q=1&d=kJ8vQ2mZpL0sR7tYwXcB4nH1fG6dA9eU"));
        assert!(in_name("mzxw6ytboi2gk3tdmfwgy5dfon2gc3lq.t.evil.io"));
    }

    #[test]
    fn what_services_write_every_day_is_not() {
        for path in [
            "",
            "/",
            "/simple/six/",
            "/repos/acme/widgets/pulls/1234/files",
            "/packages/b7/ce/149a00dd41f10bc29e5921b496af8b574d8413afcd5e30dfa0ed46c2cc5e/\
             six-1.17.0-py2.py3-none-any.whl",
            "/v2/library/alpine/blobs/\
             sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "/commit/8f5c2b3f0b1a9d4e7c6b5a4f3e2d1c0b9a8f7e6d",
            "/users/550e8400-e29b-41d4-a716-446655440000/orders/20260101",
            "/blog/2026/how-to-write-a-very-long-article-title-about-nothing-in-particular",
            "/org/apache/commons/AbstractSingletonProxyFactoryBeanRegistryTest.java",
            "/numpy-2.1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "/debian/pool/main/libg/libgoogle-glog/libgoogle-glog0v6t64_0.6.0-2.1_amd64.deb",
            "/orders/123456789012345678901234567890",
        ] {
            assert!(!in_path(path), "{path}");
        }
        assert!(!in_query("state=open&per_page=100&sort=created&direction=desc"));
        assert!(!in_name("raw.githubusercontent.com"));
        assert!(!in_name("xn--80ak6aa92e8a7c4d5f6g1h2j3k.com"));
    }
}
