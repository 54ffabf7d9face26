//! JSON objects whose members are all kept, so that a member given twice is seen.
//!
//! Owns what makes a JSON text ambiguous between parsers: members given twice (the first or the
//! last may count), members spelled so that a lenient decoder takes them for the real one (Go's
//! `encoding/json` ignores case), a byte order mark. Values that nobody judges are skipped over
//! without recursion and not decoded.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON object: every member in order, values as raw text.
pub(super) struct Object<'a>(Vec<(String, &'a RawValue)>);

/// A body that should be one object, or a batch of them.
pub(super) fn objects(body: &[u8]) -> Result<Vec<Object<'_>>, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    if text.starts_with('\u{feff}') {
        return Err("the body begins with a byte order mark");
    }
    if text.trim_start().starts_with('[') {
        let batch: Vec<Object<'_>> =
            serde_json::from_str(text).map_err(|_| "the body is not a JSON array of objects")?;
        return if batch.is_empty() { Err("the batch is empty") } else { Ok(batch) };
    }
    Object::parse(text).map(|object| vec![object])
}

impl<'a> Object<'a> {
    /// Reads `text` as one object with nothing after it.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        serde_json::from_str(text).map_err(|_| "the body is not a JSON object")
    }

    /// The member `name`, if it is there and not `null`. An error where it is given twice, or
    /// where another member could be taken for it.
    pub(super) fn member(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        Ok(self.given(name)?.filter(|value| value.get() != "null"))
    }

    /// As [`Self::member`], where `null` counts as given.
    pub(super) fn given(&self, name: &str) -> Result<Option<&'a RawValue>, &'static str> {
        let mut found = None;
        for (key, value) in &self.0 {
            if key == name {
                if found.replace(*value).is_some() {
                    return Err("a member that decides is given twice");
                }
            } else if resembles(key, name) {
                return Err("a member is spelled so that it could be taken for another");
            }
        }
        Ok(found)
    }

    /// The member `name` as a string. An error where it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, &'static str> {
        self.member(name)?.map(string).transpose()
    }

    /// The member `name` as an object. An error where it is something else.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, &'static str> {
        self.member(name)?.map(|value| Self::parse(value.get())).transpose()
    }
}

/// A raw value as a string.
pub(super) fn string(value: &RawValue) -> Result<String, &'static str> {
    serde_json::from_str(value.get()).map_err(|_| "a member that decides is not a string")
}

/// Whether a lenient decoder could take `key` for `name`: without regard to case (also that of
/// the two letters outside ASCII that fold into it, as Go's `encoding/json` does), or to the
/// separators, blanks and control bytes that some normalise away.
pub(super) fn resembles(key: &str, name: &str) -> bool {
    key.chars().filter_map(fold).eq(name.chars().filter_map(fold))
}

/// Whether some server could take a parameter of a query, `name`, for `key`: as [`resembles`], and
/// as frameworks read `key[]`, `key[a]`, `[key]` and `ke[y`, and PHP `key[a]b` and a name with a NUL in it.
pub(in crate::policy) fn parameter_resembles(name: &str, key: &str) -> bool {
    // What is taken off: nothing, then one `[…]` after the other, what is behind one, what is behind a NUL.
    let ends = name.match_indices(['[', '\0']).map(|(at, _)| at).filter(|at| *at > 0);
    let behind = name.match_indices(']').map(|(at, _)| at + 1);
    ends.chain(behind).chain([name.len()]).any(|end| flat(&name[..end]).eq(flat(key)))
}

/// The letters of a parameter's name.
fn flat(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !matches!(c, '[' | ']')).filter_map(fold)
}

fn fold(letter: char) -> Option<char> {
    match letter {
        '_' | '-' | '.' => None,
        letter if letter.is_control() || letter.is_whitespace() => None,
        '\u{17f}' => Some('s'),
        '\u{212a}' => Some('k'),
        letter => Some(letter.to_ascii_lowercase()),
    }
}

/// Whether `content_type` says JSON in UTF-8 and nothing else: `application/json`, with at most
/// `charset=utf-8` as to its charset (RFC 8259 §11).
pub fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|value| is_media_type(value, "application/json"))
}

/// Whether `value` is the media type `essence`, with no charset or UTF-8 (RFC 9110 §8.3.1), and
/// nothing beside it that could be taken for a charset: parameters of RFC 2231 (`charset*=`) are
/// not, nor what a search for `charset=` would find.
pub(super) fn is_media_type(value: &str, essence: &str) -> bool {
    let mut parts = value.split(';');
    let first = parts.next().unwrap_or(value);
    let mut charsets = 0;
    first.trim().eq_ignore_ascii_case(essence)
        && parts.all(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else {
                return parameter.trim().is_empty();
            };
            let (name, value) = (name.trim(), value.trim());
            if !name.eq_ignore_ascii_case("charset") {
                return is_token(name) && !speaks_of_charset(parameter);
            }
            charsets += 1;
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            charsets == 1 && quoted.unwrap_or(value).eq_ignore_ascii_case("utf-8")
        })
}

/// Whether `name` is a token (RFC 9110 §5.6.2), and none that some decode.
fn is_token(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(plain)
}

/// Whether some spelling of `charset` stands in `parameter`.
fn speaks_of_charset(parameter: &str) -> bool {
    let folded: String = parameter.chars().filter_map(fold).collect();
    folded.contains("charset")
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_given_twice_is_refused() {
        let object = Object::parse(r#"{"a":1,"a":1}"#).unwrap();
        assert!(object.member("a").is_err());
        let escaped = Object::parse(r#"{"a":1,"\u0061":1}"#).unwrap();
        assert!(escaped.member("a").is_err());
    }

    #[test]
    fn a_member_that_a_lenient_decoder_takes_for_another_is_refused() {
        for key in ["Query", "QUERY", "query ", "que\\u0000ry", "que_ry"] {
            let text = format!(r#"{{"{key}":1}}"#);
            assert!(Object::parse(&text).unwrap().member("query").is_err(), "{key}");
        }
        assert!(resembles("extenſions", "extensions"));
        assert!(resembles("toKen", "token"));
        assert!(resembles("operation_name", "operationName"));
        assert!(!resembles("queries", "query"));
        assert!(!resembles("quer", "query"));
        assert!(!resembles("", "query"));
    }

    #[test]
    fn a_parameter_resembles_what_some_framework_makes_of_its_name() {
        for (name, key) in [
            ("admin", "admin"),
            ("Admin", "admin"),
            ("ad-min\0", "admin"),
            ("admin[]", "admin"),
            ("admin[a][b]", "admin"),
            (" [admin]", "admin"),
            ("user.id", "user_id"),
            ("userid", "user_id"),
            ("ids[3]", "ids[]"),
            ("filter[State]", "filter[state]"),
            ("filter[state][]", "filter[state]"),
            ("filter[state][0]", "filter[state]"),
            ("[filter][state]", "filter[state]"),
            ("user[id", "user_id"),
            ("admin\0x", "admin"),
            ("admin\0[x", "admin"),
            ("filter[state]zz", "filter[state]"),
        ] {
            assert!(parameter_resembles(name, key), "{name} for {key}");
        }
        for (name, key) in [
            ("", "admin"),
            ("[]", "admin"),
            ("administrator", "admin"),
            ("x[admin]", "admin"),
            ("filter[size]", "filter[state]"),
            ("filter", "filter[state]"),
            ("\0admin", "adminx"),
        ] {
            assert!(!parameter_resembles(name, key), "{name} for {key}");
        }
    }

    #[test]
    fn null_counts_as_absent_where_it_does() {
        let object = Object::parse(r#"{"a":null}"#).unwrap();
        assert!(object.member("a").unwrap().is_none());
        assert!(object.given("a").unwrap().is_some());
    }

    #[test]
    fn only_json_in_utf8_is_json() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json; Charset=\"UTF-8\"",
            "application/json;version=1; odata.metadata=minimal",
            "application/json;",
        ] {
            assert!(is_json(Some(good)), "{good}");
        }
        for bad in [
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset*=us-ascii''utf-7",
            "application/json; charset*0=utf-7",
            "application/json; charset*0*=utf-7",
            "application/json; \"charset\"=utf-7",
            "application/json; 'charset'=utf-7",
            "application/json; ch%61rset=utf-7",
            "application/json; char-set=utf-7",
            "application/json; x=\"charset=utf-7\"",
            "application/json; x=\"; charset=utf-7\"",
            "application/json; x charset=utf-7",
            "application/json; x*=a",
            "application/json; charset='utf-8'",
            "application/json; charset=\"utf-8",
            "application/json; charset",
            "application/json, text/plain",
            "text/json",
            "application/jsonp",
            "application/json; =x",
            "",
        ] {
            assert!(!is_json(Some(bad)), "{bad}");
        }
        assert!(!is_json(None));
    }

    #[test]
    fn values_nested_without_end_are_skipped_without_recursion() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Object::parse(&deep).unwrap().member("a").unwrap().is_some());
        assert!(objects("[".repeat(100_000).as_bytes()).is_err());
    }
}
