//! A request's JSON body: its model found and replaced in place.
//!
//! Only the bytes of the model's value change: unknown members, number formats, order and
//! whitespace stay. What two JSON readers could take for two models, or for two earlier responses to go on
//! from, is refused, because one would be checked and the other used: a member twice, or a second spelling of its name that a reader
//! without regard to case takes for it.

use super::call::{LONGEST_MODEL, Work};
use super::made::Made;
use super::members::each_member;
use super::shape::Shape;
use super::terms::{Terms, same_name};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// The member that names the response that a call goes on from.
const FOLLOWS: &str = "previous_response_id";

/// A body that was read, and where in it the model stands.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
    model: Option<Found>,
    /// Ollama's older name for the member `model`.
    name: Option<Found>,
    streams: Option<bool>,
    /// The response that it goes on from.
    follows: Option<Box<str>>,
    terms: Terms,
}

#[derive(Clone, Debug)]
struct Found {
    span: Range<usize>,
    text: String,
}

/// Why a body can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// The model is not a string.
    #[error("`{0}` must be a string")]
    NotText(&'static str),
    /// The model's name is longer than any model has.
    #[error("`{0}` is longer than 256 bytes")]
    TooLong(&'static str),
    /// A member that counts stands there twice, in one spelling or two.
    #[error("`{0}` stands twice in the body: it must be there once, in lower case")]
    Twice(&'static str),
}

impl Body {
    /// Reads `bytes`, which came in `shape`.
    pub fn read(bytes: Bytes, shape: Shape) -> Result<Self, BodyError> {
        let text = std::str::from_utf8(&bytes).map_err(|_| BodyError::NotAnObject)?;
        let mut members = Members::default();
        if !each_member(text, |name, value| members.note(shape, name, value)) {
            return Err(BodyError::NotAnObject);
        }
        let start = text.as_ptr() as usize;
        let found = |member: Member<'_>, key| member.found(start, key);
        let model = found(members.model, "model")?;
        if model.as_ref().is_some_and(|model| model.text.len() > LONGEST_MODEL) {
            return Err(BodyError::TooLong("model"));
        }
        let name = match shape {
            Shape::Ollama => found(members.name, "name")?,
            Shape::OpenAi | Shape::Anthropic | Shape::Gemini => None,
        };
        if name.as_ref().is_some_and(|name| name.text.len() > LONGEST_MODEL) {
            return Err(BodyError::TooLong("name"));
        }
        let streams = members.stream.value.and_then(|raw| raw.get().parse().ok());
        if members.stream.count > 1 {
            return Err(BodyError::Twice("stream"));
        }
        let follows = members.follows.once(FOLLOWS)?.filter(|raw| raw.get() != "null");
        let follows = follows.map(|raw| {
            // What is no id is never known.
            let id: Cow<'_, str> = serde_json::from_str(raw.get()).unwrap_or_default();
            if Made::is_id(&id) { id.into() } else { Box::default() }
        });
        let terms = members.terms;
        Ok(Self { bytes, model, name, streams, follows, terms })
    }

    /// The model it names.
    pub fn model(&self) -> Option<&str> {
        self.model.as_ref().or(self.name.as_ref()).map(|found| found.text.as_str())
    }

    /// Whether it asks for a stream, where it says so.
    pub fn streams(&self) -> Option<bool> {
        self.streams
    }

    /// The most that a model may write for it, in tokens: what it states, or what is usual.
    pub fn output(&self, work: Work) -> u64 {
        self.terms.output(work)
    }

    /// Whether it is worked on whoever waits for it.
    pub fn in_background(&self) -> bool {
        self.terms.background
    }

    /// The id of the response that it goes on from.
    pub fn follows(&self) -> Option<&str> {
        self.follows.as_deref()
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes: never, an object has two at least.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes with `model` as the model and nothing else changed. A body that names none gets
    /// it as its first member.
    pub fn with_model(&self, model: &str) -> Bytes {
        let mut spans: Vec<&Range<usize>> = Vec::with_capacity(2);
        for found in [&self.model, &self.name].into_iter().flatten() {
            if found.text != model {
                spans.push(&found.span);
            }
        }
        if self.model.is_some() || self.name.is_some() {
            spans.sort_by_key(|span| span.start);
            return self.replaced(&spans, model);
        }
        let open = self.bytes.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
        let empty = self.bytes[open..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
        let text = quoted(model);
        let mut out = BytesMut::with_capacity(self.bytes.len() + text.len() + 10);
        out.put_slice(&self.bytes[..open]);
        out.put_slice(b"\"model\":");
        out.put_slice(text.as_bytes());
        if !empty {
            out.put_u8(b',');
        }
        out.put_slice(&self.bytes[open..]);
        out.freeze()
    }

    /// The bytes with a `model` that stands there set to `model`; unchanged where none does.
    pub fn with_model_if_named(&self, model: &str) -> Bytes {
        match &self.model {
            Some(found) if found.text != model => self.replaced(&[&found.span], model),
            _ => self.bytes.clone(),
        }
    }

    fn replaced(&self, spans: &[&Range<usize>], model: &str) -> Bytes {
        if spans.is_empty() {
            return self.bytes.clone();
        }
        let text = quoted(model);
        let mut out = BytesMut::with_capacity(self.bytes.len() + spans.len() * text.len());
        let mut at = 0;
        for span in spans {
            out.put_slice(&self.bytes[at..span.start]);
            out.put_slice(text.as_bytes());
            at = span.end;
        }
        out.put_slice(&self.bytes[at..]);
        out.freeze()
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members that count, by reference into the body.
#[derive(Default)]
struct Members<'a> {
    model: Member<'a>,
    name: Member<'a>,
    stream: Member<'a>,
    follows: Member<'a>,
    terms: Terms,
}

impl<'a> Members<'a> {
    fn note(&mut self, shape: Shape, name: &str, value: &'a RawValue) {
        if same_name(name, "model") {
            self.model.note(name == "model", value);
        } else if same_name(name, "name") {
            self.name.note(name == "name", value);
        } else if same_name(name, "stream") {
            self.stream.note(name == "stream", value);
        } else if shape == Shape::OpenAi && same_name(name, FOLLOWS) {
            self.follows.note(name == FOLLOWS, value);
        } else {
            self.terms.note(shape, name, value);
        }
    }
}

/// A member, and how often a spelling of its name stands there.
#[derive(Default)]
struct Member<'a> {
    value: Option<&'a RawValue>,
    count: u32,
}

impl<'a> Member<'a> {
    /// Its value, where it stands there once and as it is written.
    fn once(self, key: &'static str) -> Result<Option<&'a RawValue>, BodyError> {
        if self.count > 1 || (self.count == 1 && self.value.is_none()) {
            return Err(BodyError::Twice(key));
        }
        Ok(self.value)
    }

    fn found(self, start: usize, key: &'static str) -> Result<Option<Found>, BodyError> {
        let Some(raw) = self.once(key)? else { return Ok(None) };
        let raw = raw.get();
        let text = serde_json::from_str::<String>(raw).map_err(|_| BodyError::NotText(key))?;
        let at = raw.as_ptr() as usize - start;
        Ok(Some(Found { span: at..at + raw.len(), text }))
    }

    fn note(&mut self, exact: bool, value: &'a RawValue) {
        self.count += 1;
        if exact {
            self.value = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Body, BodyError> {
        Body::read(Bytes::copy_from_slice(text.as_bytes()), Shape::OpenAi)
    }

    fn changed(text: &str, model: &str) -> String {
        String::from_utf8(read(text).unwrap().with_model(model).to_vec()).unwrap()
    }

    #[test]
    fn only_the_models_value_changes() {
        let body = "{ \"temperature\" : 1.0e+00,\n\t\"model\": \"fast\" ,\"x\":[{\"model\":\"in\"}],\
                    \"seed\":12345678901234567890123 }\r\n";
        assert_eq!(changed(body, "gpt-5.4-mini"), body.replace("\"fast\"", "\"gpt-5.4-mini\""));
        assert_eq!(changed(body, "fast"), body);
        assert_eq!(changed("{\"model\":\"a\"}", "q\"\n\u{e9}"), "{\"model\":\"q\\\"\\n\u{e9}\"}");
        assert_eq!(changed("{\"mod\\u0065l\":\"a\"}", "b"), "{\"mod\\u0065l\":\"b\"}");
    }

    #[test]
    fn a_body_without_a_model_gets_it_first() {
        assert_eq!(changed(" {}", "m"), " {\"model\":\"m\"}");
        assert_eq!(changed("{ \"a\":1}", "m"), "{\"model\":\"m\", \"a\":1}");
        let body = read("{\"contents\":[]}").unwrap();
        assert_eq!(body.with_model_if_named("m"), "{\"contents\":[]}");
    }

    #[test]
    fn ollamas_two_names_of_the_member_are_both_set() {
        for (text, expected) in [
            ("{\"name\":\"a\"}", "{\"name\":\"b\"}"),
            ("{\"name\":\"x\",\"model\":\"a\"}", "{\"name\":\"b\",\"model\":\"b\"}"),
        ] {
            let body = Body::read(Bytes::from_static(text.as_bytes()), Shape::Ollama).unwrap();
            assert_eq!(body.with_model("b"), expected);
        }
        // In other shapes `name` is something else.
        let other = "{\"name\":\"x\",\"model\":\"a\"}";
        assert_eq!(changed(other, "b"), "{\"name\":\"x\",\"model\":\"b\"}");
    }

    #[test]
    fn what_two_readers_could_take_for_two_models_is_refused() {
        for text in [
            "{\"model\":\"a\",\"model\":\"b\"}",
            "{\"model\":\"a\",\"Model\":\"b\"}",
            "{\"MODEL\":\"b\"}",
            "{\"model\":\"a\",\"\\u006dodel\":\"b\"}",
        ] {
            assert_eq!(read(text).unwrap_err(), BodyError::Twice("model"), "{text}");
        }
        for text in ["", "[]", "null", "{\"model\":\"a\"", "{\"model\":\"a\"} {}", "{'model':1}"] {
            assert_eq!(read(text).unwrap_err(), BodyError::NotAnObject, "{text}");
        }
        assert_eq!(read("{\"model\":1}").unwrap_err(), BodyError::NotText("model"));
    }

    #[test]
    fn a_deep_body_is_no_trouble() {
        let deep =
            format!("{{\"a\":{}{},\"model\":\"m\"}}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(changed(&deep, "n"), deep.replace("\"m\"", "\"n\""));
    }

    /// JSON as people write it: odd numbers, escapes, whitespace, any order.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-0.10e+05".to_owned()),
            Just("123456789012345678901234567890".to_owned()),
            "[ -~&&[^\"\\\\]]{0,12}".prop_map(|t| format!("\"{t}\"")),
            Just("\"\\u0041\\ud83d\\ude00\\n\"".to_owned()),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[ {}]", items.join(" ,"))),
                prop::collection::vec(("[a-z]{1,6}", inner), 0..4).prop_map(|members| {
                    let members: Vec<_> =
                        members.iter().map(|(k, v)| format!("\"{k}\" :{v}")).collect();
                    format!("{{{}\n}}", members.join(",\t"))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_rewrite_leaves_every_other_byte_as_it_was(
            before in prop::collection::vec(("x[a-z]{1,6}", json()), 0..4),
            after in prop::collection::vec(("y[a-z]{1,6}", json()), 0..4),
            (old, new) in ("[ -~]{0,20}", "\\PC{0,20}"),
            space in "[ \\t\\r\\n]{0,3}",
        ) {
            let member = |(key, value): &(String, String)| format!("{space}\"{key}\":{value}{space}");
            let at = before.len();
            let mut members: Vec<String> = before.iter().chain(&after).map(member).collect();
            members.insert(at, format!("\"model\"{space}:{space}{}", quoted(&old)));
            let text = |members: &[String]| format!("{space}{{{}}}{space}", members.join(","));
            let body = text(&members);
            members[at] = format!("\"model\"{space}:{space}{}", quoted(&new));
            let expected = if old == new { body.clone() } else { text(&members) };
            let found = read(&body).unwrap();
            prop_assert_eq!(found.model(), Some(&*old));
            prop_assert_eq!(changed(&body, &new), expected);
        }
    }
}
