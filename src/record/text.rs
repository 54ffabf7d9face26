//! The primitives of a written line: strings, numbers and times into a byte buffer.
//!
//! Every byte written is printable ASCII: whatever else stands in a string is escaped as `\u`, so
//! that a line that someone prints cannot move the cursor, hide a letter or turn the text around.

use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

const TIMES: jiff::fmt::temporal::DateTimePrinter =
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));

/// A JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    // Without an early end, so that it is done many bytes at a time.
    let plain = |b: u8| matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\');
    if text.bytes().fold(true, |all, b| all & plain(b)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        json(text, out);
    }
}

/// Anything that serde can write.
pub(super) fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    value
        .serialize(&mut serde_json::Serializer::with_formatter(out, Ascii))
        .expect("a Vec takes every byte, and the keys of a line are strings");
}

/// A decimal number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// An address as the standard library spells it, without quotes.
pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, byte) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(byte.into(), out);
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a Vec takes every byte"),
    }
}

/// Milliseconds with up to three decimals, rounded to the microsecond.
pub(super) fn millis(time: Duration, out: &mut Vec<u8>) {
    let micros = micros(time);
    if micros < 1000 {
        out.push(b'0');
    } else {
        number(micros / 1000, out);
    }
    // Below 1000: three digits.
    let rest = (micros % 1000) as u16;
    if rest > 0 {
        let digit = |of: u16| b'0' + (of % 10) as u8;
        let point = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
        let kept = match rest {
            _ if rest.is_multiple_of(100) => 2,
            _ if rest.is_multiple_of(10) => 3,
            _ => 4,
        };
        out.extend_from_slice(&point[..kept]);
    }
}

/// Rounded to the microsecond; at most what a `u64` holds.
fn micros(time: Duration) -> u64 {
    let rest = u64::from(time.subsec_nanos() + 500) / 1000;
    time.as_secs().saturating_mul(1_000_000).saturating_add(rest)
}

/// An RFC 3339 time in UTC with microseconds, without quotes. A time that RFC 3339 has no
/// spelling for (a clock gone mad) is written as the epoch.
pub(super) fn time(time: SystemTime, out: &mut Vec<u8>) {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    TIMES.print_timestamp(&time, out).expect("a Vec takes every byte");
}

/// A time as records spell it: RFC 3339 in UTC with microseconds.
pub fn rfc3339(at: SystemTime) -> String {
    let mut out = Vec::with_capacity(27);
    time(at, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Escapes what serde_json would write as it is and a terminal would not show.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !matches!(c, ' '..='~')) {
            out.write_all(&rest.as_bytes()[..at])?;
            let odd = rest[at..].chars().next().expect("find points at a char");
            for unit in odd.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + odd.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn milliseconds_have_at_most_three_decimals_and_no_trailing_zero() {
        let of = |nanos| written(|out| millis(Duration::from_nanos(nanos), out));
        assert_eq!(of(0), "0");
        assert_eq!(of(1_000), "0.001");
        assert_eq!(of(499), "0");
        assert_eq!(of(500), "0.001");
        assert_eq!(of(21_400_000), "21.4");
        assert_eq!(of(88_000_000), "88");
        assert_eq!(of(90_050_000), "90.05");
        assert_eq!(written(|out| millis(Duration::MAX, out)), "18446744073709551.615");
    }

    #[test]
    fn times_are_utc_with_six_digits() {
        let at = |since| written(|out| time(UNIX_EPOCH + since, out));
        assert_eq!(at(Duration::from_micros(1_795_360_344_123_456)), "2026-11-22T15:12:24.123456Z");
        assert_eq!(at(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn any_string_is_written_in_printable_ascii_and_read_back_whole(text in ".*|\\PC*|[\\x00-\\x7f]*") {
            let line = written(|out| string(&text, out));
            prop_assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }

        #[test]
        fn any_address_is_written_as_the_standard_library_would(address: IpAddr) {
            prop_assert_eq!(written(|out| ip(address, out)), address.to_string());
        }

        #[test]
        fn any_number_is_written_as_the_standard_library_would(value: u64) {
            prop_assert_eq!(written(|out| number(value, out)), value.to_string());
        }
    }
}
