//! Durations, sizes and networks as people write them: `90s`, `15m`, `64MiB`, `5GB`, `10.0.0.0/8`.
//!
//! Owns the spelling, both ways, and the schema of it. A number without a unit is a size in
//! bytes and never a duration: nobody can tell whether `timeout: 30` meant seconds.

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// A duration as written: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size as written: a whole number of bytes, or one with `B`, `KiB`, `MiB`, `GiB`, `TiB`
/// (powers of 1024), `KB`, `MB`, `GB`, `TB` (powers of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A network as written: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net(pub IpNet);

/// Why a duration, size or network was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("not a duration; write a whole number and a unit, like 500ms, 90s, 15m, 12h or 30d")]
    Duration,
    /// Not a size.
    #[error("not a size; write bytes, or a whole number and a unit, like 64KiB, 64MiB or 5GB")]
    Size,
    /// Not a network.
    #[error("not a network; write an address, or one with a prefix, like 172.18.0.0/16")]
    Net,
    /// More than fits.
    #[error("too large")]
    TooLarge,
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(UnitError::Duration)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(UnitError::Duration),
        };
        let millis = number.checked_mul(millis).ok_or(UnitError::TooLarge)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(UnitError::Size)?;
        let bytes: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "KB" | "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(UnitError::Size),
        };
        number.checked_mul(bytes).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl FromStr for Net {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(ip.to_canonical())));
        }
        text.parse::<IpNet>().map(|net| Self(net.trunc())).map_err(|_| UnitError::Net)
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim_start_matches(' ')))
}

/// The shortest spelling that loses nothing.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (number, unit) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(each, _)| millis > 0 && millis.is_multiple_of(*each))
            .map_or((millis, "ms"), |(each, unit)| (millis / each, unit));
        write!(f, "{number}{unit}")
    }
}

/// The shortest binary spelling that loses nothing.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or((0, ""));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

/// Visits text (and for sizes a plain number) through `FromStr`.
struct Spelled<T>(&'static str, Option<fn(u64) -> T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Spelled<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let shown = crate::addr::Shown::new(text);
        text.parse().map_err(|e| E::custom(format_args!("`{shown}` is {e}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        match self.1 {
            Some(make) => Ok(make(number)),
            None => self.visit_str(&number.to_string()),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Spelled("a duration like 90s", None))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Spelled("a size like 64MiB", Some(Size)))
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Spelled("a network like 172.18.0.0/16", None))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number and a unit: 500ms, 90s, 15m, 12h, 30d.",
            "type": "string",
            "pattern": "^[0-9]+ ?(ms|s|m|h|d)$"
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes, or a whole number and a unit: 64KiB, 64MiB, 5GB.",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+ ?(B|[KMGT]iB|[kKMGT]B)?$"
        })
    }
}

impl JsonSchema for Net {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address, or one with a prefix: 172.18.0.0/16.",
            "type": "string"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!("90s".parse(), Ok(Span(Duration::from_secs(90))));
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("30d".parse(), Ok(Span(Duration::from_secs(30 * 86_400))));
        for wrong in ["30", "", "s", "-1s", "1.5h", "1 hour", "1S", "1h30m"] {
            assert_eq!(wrong.parse::<Span>(), Err(UnitError::Duration), "{wrong}");
        }
        assert_eq!("99999999999999999d".parse::<Span>(), Err(UnitError::TooLarge));
    }

    #[test]
    fn ki_is_1024_and_k_is_1000() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("5GB".parse(), Ok(Size(5_000_000_000)));
        assert_eq!("123".parse(), Ok(Size(123)));
        for wrong in ["", "KiB", "64K", "64kib", "1.5MiB", "-1"] {
            assert_eq!(wrong.parse::<Size>(), Err(UnitError::Size), "{wrong}");
        }
        assert_eq!("99999999TiB".parse::<Size>(), Err(UnitError::TooLarge));
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        for text in ["500ms", "90s", "15m", "12h", "30d", "0ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["64KiB", "1GiB", "10MiB", "123", "0"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_network_may_be_one_address_and_loses_its_host_bits() {
        assert_eq!("10.1.2.3/8".parse::<Net>().unwrap().0.to_string(), "10.0.0.0/8");
        assert_eq!("127.0.0.1".parse::<Net>().unwrap().0.to_string(), "127.0.0.1/32");
        assert_eq!("::ffff:10.0.0.1".parse::<Net>().unwrap().0.to_string(), "10.0.0.1/32");
        assert_eq!("10.0/8".parse::<Net>(), Err(UnitError::Net));
    }
}
