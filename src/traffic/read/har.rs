//! HAR files (1.2): what browsers, mitmproxy and Playwright save.
//!
//! Read as a stream: one entry is in memory at a time, and of its response nothing. An entry that
//! is odd in shape is broken alone; text that is not JSON ends the file there. Of what others
//! added to the format only `_resourceType: websocket` is looked at.

use super::{Facts, Item, Recorded, Stamp, line};
use crate::addr::{Authority, Port, Shown};
use crate::record::LineScheme;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;

/// A body that is longer is not kept, so that it is one that the record does not say.
const MAX_BODY: usize = 1 << 20;

/// The HAR format.
#[derive(Clone, Copy, Debug)]
pub struct Har;

impl Har {
    /// Calls `each` with every entry, in order. `Err` says why the text ends early; what came
    /// before stands. `each` says whether to go on.
    pub fn read(
        text: impl Read,
        each: &mut dyn FnMut(Item<'static>) -> bool,
    ) -> Result<(), String> {
        let mut stopped = false;
        let mut from = serde_json::Deserializer::from_reader(text);
        let mut each = |item| {
            stopped = stopped || !each(item);
            !stopped
        };
        let read = Object(&mut Top(&mut each)).deserialize(&mut from).and_then(|()| from.end());
        match read {
            Err(error) if !stopped => Err(format!("not HAR: {}", line::why(&error))),
            Err(_) | Ok(()) => Ok(()),
        }
    }
}

/// An object whose members are taken one by one. Any other value is passed over: what is odd in
/// one entry must not end the file.
struct Object<'m, M>(&'m mut M);

trait Members {
    /// Takes the value of `key`, whatever it is.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, M: Members> DeserializeSeed<'de> for Object<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(Anything { map: Some(self.0), ..Anything::default() }).map(drop)
    }
}

/// A text; any other value is none.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        let kept = from.deserialize_any(Anything::<Entry> { text: true, ..Anything::default() })?;
        Ok(kept.text)
    }
}

/// A number; any other value is none.
struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        Ok(from.deserialize_any(Anything::<Entry>::default())?.number)
    }
}

/// The entries; any other value is none.
struct Entries<'e>(&'e mut dyn FnMut(Item<'static>) -> bool);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(Anything::<Entry> { each: Some(self.0), ..Anything::default() })
            .map(drop)
    }
}

/// Takes any value, and keeps what its maker wants.
struct Anything<'a, M> {
    map: Option<&'a mut M>,
    each: Option<&'a mut dyn FnMut(Item<'static>) -> bool>,
    text: bool,
}

#[derive(Default)]
struct Kept {
    text: Option<String>,
    number: Option<i64>,
}

impl<M> Default for Anything<'_, M> {
    fn default() -> Self {
        Self { map: None, each: None, text: false }
    }
}

impl<'de, M: Members> Visitor<'de> for Anything<'_, M> {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kept, E> {
        Ok(Kept::default())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Kept, E> {
        Ok(Kept { number: Some(number), ..Kept::default() })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Kept, E> {
        Ok(Kept { number: i64::try_from(number).ok(), ..Kept::default() })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kept, E> {
        Ok(Kept::default())
    }

    fn visit_unit<E>(self) -> Result<Kept, E> {
        Ok(Kept::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Kept, E> {
        Ok(Kept { text: self.text.then(|| text.to_owned()), ..Kept::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kept, A::Error> {
        let Some(each) = self.each else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Kept::default());
        };
        let mut entry = Entry::default();
        while seq.next_element_seed(Object(&mut entry))?.is_some() {
            if !each(std::mem::take(&mut entry).item()) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(Kept::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kept, A::Error> {
        let Some(members) = self.map else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Kept::default());
        };
        while let Some(key) = map.next_key::<String>()? {
            members.member(&key, &mut map)?;
        }
        Ok(Kept::default())
    }
}

/// `{"log": {"entries": […]}}`, both levels.
struct Top<'e>(&'e mut dyn FnMut(Item<'static>) -> bool);

impl Members for Top<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "log" => map.next_value_seed(Object(&mut Log(&mut *self.0))),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

struct Log<'e>(&'e mut dyn FnMut(Item<'static>) -> bool);

impl Members for Log<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "entries" => map.next_value_seed(Entries(&mut *self.0)),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

/// What of an entry is of use.
#[derive(Default)]
struct Entry {
    started: Option<String>,
    resource: Option<String>,
    request: Request,
}

#[derive(Default)]
struct Request {
    method: Option<String>,
    url: Option<String>,
    size: Option<i64>,
    /// The body was packed: what a gateway would not look into.
    packed: bool,
    /// There is a `postData`.
    posted: bool,
    post: Post,
}

#[derive(Default)]
struct Post {
    kind: Option<String>,
    text: Option<String>,
    encoding: Option<String>,
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "startedDateTime" => self.started = map.next_value_seed(Text)?,
            "_resourceType" => self.resource = map.next_value_seed(Text)?,
            "request" => map.next_value_seed(Object(&mut self.request))?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Members for Request {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "method" => self.method = map.next_value_seed(Text)?,
            "url" => self.url = map.next_value_seed(Text)?,
            "headers" => self.packed = is_packed(&map.next_value()?),
            "bodySize" => self.size = map.next_value_seed(Number)?,
            "postData" => {
                self.posted = true;
                map.next_value_seed(Object(&mut self.post))?;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Members for Post {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "mimeType" => self.kind = map.next_value_seed(Text)?,
            "text" => self.text = map.next_value_seed(Text)?,
            "encoding" | "_encoding" => self.encoding = map.next_value_seed(Text)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Entry {
    fn item(self) -> Item<'static> {
        let (Some(method), Some(url)) = (&self.request.method, &self.request.url) else {
            return Item::Broken("the entry has no request with a method and a URL".to_owned());
        };
        let Some((scheme, rest)) = url.split_once("://") else { return Item::Other };
        let (scheme, socket) = match scheme {
            "http" => (LineScheme::Http, false),
            "https" => (LineScheme::Https, false),
            "ws" => (LineScheme::Http, true),
            "wss" => (LineScheme::Https, true),
            _ => return Item::Other,
        };
        let time = match self.started.as_deref() {
            None => None,
            Some(text) => match Stamp::parse(text) {
                None => return Item::Broken("`startedDateTime` is not RFC 3339".to_owned()),
                time => time,
            },
        };
        let record = Recorded {
            time,
            method: Some(Cow::Owned(method.clone())),
            websocket: socket || self.resource.as_deref() == Some("websocket"),
            facts: self.request.facts(),
            ..Recorded::new(scheme)
        };
        match aim(record, rest) {
            Ok(record) => Item::Record(Box::new(record)),
            Err(problem) => Item::Broken(problem),
        }
    }
}

/// Fills in what stands behind `://`. A fragment and userinfo were never sent.
fn aim(record: Recorded<'static>, rest: &str) -> Result<Recorded<'static>, String> {
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let default = if record.scheme == LineScheme::Http { Port::HTTP } else { Port::HTTPS };
    let parsed = Authority::parse(authority, Some(default))
        .map_err(|error| format!("`{}`: {error}", Shown::new(authority).limit(100)))?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ok(Recorded {
        host: Cow::Owned(parsed.host.to_string()),
        port: parsed.port.get(),
        path: Some(Cow::Owned(if path.is_empty() { "/" } else { path }.to_owned())),
        query: query.map(|query| Cow::Owned(query.to_owned())),
        ..record
    })
}

/// Whether the header fields have a content coding.
fn is_packed(headers: &Value) -> bool {
    headers.as_array().into_iter().flatten().any(|header| {
        let is = |key: &str, what: &str| {
            header[key].as_str().is_some_and(|text| text.eq_ignore_ascii_case(what))
        };
        is("name", "content-encoding") && !is("value", "identity")
    })
}

impl Request {
    fn facts(&self) -> Facts<'static> {
        match (&self.post.text, &self.post.encoding) {
            _ if self.packed => Facts::Unsaid,
            (Some(text), None) if text.len() <= MAX_BODY && !text.is_empty() => Facts::Whole {
                kind: self.post.kind.clone().map(Cow::Owned),
                text: Cow::Owned(text.clone()),
            },
            _ if self.size == Some(0) && !self.posted => Facts::Empty,
            _ => Facts::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(entries: &str) -> Vec<Item<'static>> {
        let mut found = Vec::new();
        let text = format!(r#"{{"log":{{"version":"1.2","entries":[{entries}],"pages":[]}}}}"#);
        let keep = &mut |item| {
            found.push(item);
            true
        };
        Har::read(text.as_bytes(), keep).unwrap();
        found
    }

    fn one(entry: &str) -> Recorded<'static> {
        match items(entry).remove(0) {
            Item::Record(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entry_is_a_record_of_nobody_knows_which_process() {
        let record = one(
            r#"{"startedDateTime":"2026-11-22T16:12:24.5+01:00","time":1,"request":{"method":"POST","url":"https://u:p@API.test:8443/a/b?x=1#frag","postData":{"mimeType":"text/plain","text":"hi"}},"response":{"content":{"text":"x"}}}"#,
        );
        assert_eq!((&*record.host, record.port), ("api.test", 8443));
        assert_eq!(record.path.as_deref(), Some("/a/b"));
        assert_eq!(record.query.as_deref(), Some("x=1"));
        assert_eq!(record.time.unwrap().to_string(), "2026-11-22T15:12:24Z");
        assert_eq!((record.verdict, record.process), (None, crate::traffic::read::Seen::Unsaid));
        assert!(matches!(record.facts, Facts::Whole { .. }));
    }

    #[test]
    fn a_body_is_empty_only_where_the_entry_says_so() {
        let facts = |rest: &str| {
            one(&format!(r#"{{"request":{{"method":"POST","url":"http://a.test/"{rest}}}}}"#)).facts
        };
        assert_eq!(facts(r#","bodySize":0"#), Facts::Empty);
        for rest in [
            "",
            r#","bodySize":-1"#,
            r#","bodySize":40,"postData":{"mimeType":"application/json","text":""}"#,
            r#","bodySize":0,"postData":null"#,
            r#","postData":{"text":"eA==","encoding":"base64"}"#,
            r#","postData":{"text":"x"},"headers":[{"name":"Content-Encoding","value":"gzip"}]"#,
        ] {
            assert_eq!(facts(rest), Facts::Unsaid, "{rest}");
        }
    }

    #[test]
    fn an_odd_entry_is_broken_alone() {
        let found = items(
            r#"7,null,{"request":[]},{"request":{"method":1,"url":"http://a.test/"}},{"request":{"method":"GET","url":"http://exa mple/"}},{"startedDateTime":"now","request":{"method":"GET","url":"http://a.test/"}},{"request":{"method":"GET","url":"data:text/plain,x"}},{"request":{"method":"GET","url":"wss://a.test"}}"#,
        );
        let broken = found.iter().filter(|item| matches!(item, Item::Broken(_))).count();
        assert_eq!((found.len(), broken), (8, 6));
        assert_eq!(found[6], Item::Other);
        let Item::Record(socket) = &found[7] else { panic!() };
        assert!(socket.websocket && socket.path.as_deref() == Some("/"));
    }

    #[test]
    fn text_that_ends_early_says_so() {
        let mut count = 0;
        let text = br#"{"log":{"entries":[{"request":{"method":"GET","url":"http://a.test/"}},{"#;
        let read = Har::read(&text[..], &mut |_| {
            count += 1;
            true
        });
        assert_eq!((count, read.is_err()), (1, true));
    }
}
