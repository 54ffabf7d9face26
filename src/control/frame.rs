//! An event as it stands on the wire: `event:` is the tag, `data:` the rest as one line of JSON.
//!
//! Owns both directions, so that they cannot drift apart.

use super::wire::Event;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The tags that this build knows; an event with another is from a newer gateway.
const TAGS: &[&str] = &[
    "hello",
    "request.pending",
    "request.decided",
    "request.expired",
    "request.gone",
    "grants",
    "policy.loaded",
    "policy.rejected",
    "traffic",
    "missed",
    "stopping",
];

/// The two lines, before they are lines.
#[derive(Serialize, Deserialize)]
struct Framed<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The event that the two lines make; `None` where the tag is of a newer gateway.
pub(super) fn read(tag: &str, data: &str) -> serde_json::Result<Option<Event>> {
    if !TAGS.contains(&tag) {
        return Ok(None);
    }
    let framed = Framed { event: tag.into(), data: serde_json::from_str(data)? };
    serde_json::from_str(&serde_json::to_string(&framed)?).map(Some)
}

/// The event as its two lines and the empty line that ends them. JSON has no raw newline.
pub(super) fn write(event: &Event) -> serde_json::Result<String> {
    let whole = serde_json::to_string(event)?;
    let Framed { event, data } = serde_json::from_str(&whole)?;
    Ok(format!("event: {event}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::Batch;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let sandbox = || "a\nb\u{2028}".to_owned();
        let events = [
            Event::Grants { sandbox: sandbox() },
            Event::PolicyLoaded { sandbox: sandbox(), policy: "sha256:00".into() },
            Event::PolicyRejected { sandbox: sandbox(), error: "line 1\nfix: none".into() },
            Event::Traffic(Batch::default()),
            Event::Missed { missed: 7 },
            Event::Stopping {},
        ];
        for event in events {
            let text = write(&event).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            let [tag, data, "", ""] = lines[..] else { panic!("{text:?}") };
            let tag = tag.strip_prefix("event: ").unwrap();
            let data = data.strip_prefix("data: ").unwrap();
            assert_eq!(read(tag, data).unwrap(), Some(event));
        }
    }

    #[test]
    fn every_tag_of_the_schema_is_known() {
        let schema = serde_json::to_value(schemars::schema_for!(Event)).unwrap();
        let tags: Vec<&str> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["properties"]["event"]["const"].as_str().unwrap())
            .collect();
        assert_eq!(tags, TAGS);
    }

    #[test]
    fn an_event_of_a_newer_gateway_is_passed_over_and_a_broken_one_is_not() {
        assert_eq!(read("request.moved", "{}").unwrap(), None);
        assert!(read("missed", "{\"missed\":1},\"x\":{}").is_err());
        assert!(read("missed", "{}").is_err());
    }
}
