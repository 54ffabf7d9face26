//! JSON read one level deep: each member or element as it stands there, however often.
//!
//! Nothing is collected: a body may have millions of them, and its bytes are all that it takes.

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Reads the object `text` member by member; whether it is one, and nothing follows it.
pub(super) fn each_member<'de>(text: &'de str, note: impl FnMut(&str, &'de RawValue)) -> bool {
    let mut reader = serde_json::Deserializer::from_str(text);
    Members(note).deserialize(&mut reader).is_ok() && reader.end().is_ok()
}

/// Reads the list `value` element by element; whether it is one.
pub(super) fn each_element<'de>(value: &'de RawValue, note: impl FnMut(&'de RawValue)) -> bool {
    Elements(note).deserialize(&mut serde_json::Deserializer::from_str(value.get())).is_ok()
}

struct Members<F>(F);

struct Elements<F>(F);

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, F: FnMut(&str, &'de RawValue)> DeserializeSeed<'de> for Members<F> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            (self.0)(&name, map.next_value()?);
        }
        Ok(())
    }
}

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_stands_there() {
        let mut seen = Vec::new();
        let text = r#" {"a":1,"a":[ 2 ],"\u0061":{"a":3}} "#;
        assert!(each_member(text, |name, value| seen.push(format!("{name}={}", value.get()))));
        assert_eq!(seen, ["a=1", "a=[ 2 ]", "a={\"a\":3}"]);
        for text in ["", "[]", "7", "{", "{} {}", "{\"a\":}"] {
            assert!(!each_member(text, |_, _| {}), "{text}");
        }
        let list: Box<RawValue> = serde_json::from_str(r#"[1,"a",[]]"#).unwrap();
        let mut count = 0;
        assert!(each_element(&list, |_| count += 1));
        assert_eq!(count, 3);
        let text: Box<RawValue> = serde_json::from_str("\"a\"").unwrap();
        assert!(!each_element(&text, |_| {}));
    }
}
