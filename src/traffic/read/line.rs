//! One line of JSON: ours, or OCSF. The reading that is right; `scan` is the quick one.

use super::{Facts, Item, Names, Recorded, Seen, Stamp, ocsf, scan};
use crate::addr::Shown;
use crate::record::{LineScheme, RecordLine};
use serde_json::Value;
use std::borrow::Cow;

/// What a line without its newline says.
pub fn parse(line: &[u8]) -> Item<'_> {
    if let Some(record) = scan::record(line) {
        return Item::Record(Box::new(record));
    }
    slowly(line)
}

/// As [`parse`], by serde alone.
fn slowly(line: &[u8]) -> Item<'static> {
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if value.get("class_uid").is_some() => ocsf::event(&value),
        Ok(value) if value.get("event").is_some() => Item::Other,
        Ok(value) if value.is_object() => ours(value).unwrap_or_else(Item::Broken),
        Ok(_) => Item::Broken("a line of traffic is a JSON object".to_owned()),
        Err(error) => Item::Broken(format!("not JSON: {}", why(&error))),
    }
}

/// What serde says, without the place: a line is line 1 to it.
pub(super) fn why(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" at line ").next().unwrap_or(&text);
    Shown::new(bare).limit(200).to_string()
}

fn ours(value: Value) -> Result<Item<'static>, String> {
    let looked = value.get("client").is_some();
    let line: RecordLine = serde_json::from_value(value).map_err(|error| why(&error))?;
    line.check().map_err(|incomplete| incomplete.to_string())?;
    let time = match line.time.as_deref() {
        Some(text) => Some(Stamp::parse(text).ok_or("`time` is not RFC 3339")?),
        None => None,
    };
    let port = line.port.map_or(0, std::num::NonZeroU16::get);
    let mut record = Recorded {
        time,
        id: line.id.map(Cow::Owned),
        sandbox: line.sandbox.map(Cow::Owned),
        process: match line.client {
            Some(client) => {
                let ancestors = client.ancestors.into_iter().map(Cow::Owned).collect();
                Seen::Whole(client.binary.into(), Names::List(ancestors))
            }
            None if looked => Seen::Unseen,
            None => Seen::Unsaid,
        },
        host: line.host.map_or(Cow::Borrowed(""), Cow::Owned),
        port,
        method: line.method.map(Cow::Owned),
        path: line.path.map(Cow::Owned),
        query: line.query.map(Cow::Owned),
        websocket: line.websocket == Some(true),
        verdict: line.verdict,
        code: line.code.map(Cow::Owned),
        rule: line.rule.map(Cow::Owned),
        outcome: line.outcome,
        by: line.by.map(Cow::Owned),
        repeat: line.repeat.unwrap_or(1).max(1),
        ..Recorded::new(line.scheme.unwrap_or_else(|| scheme_of(port)))
    };
    if let Some(calls) = line.rpc {
        let call = |call: crate::record::Call| (call.method.into(), call.tool.map(Cow::Owned));
        record.facts = Facts::Rpc(calls.into_iter().map(call).collect());
    } else if let Some(operations) = line.graphql {
        record.facts = Facts::Graphql(operations.into_iter().map(Cow::Owned).collect());
    }
    Ok(Item::Record(Box::new(record)))
}

/// Of a record that does not name its scheme: someone wrote it by hand.
pub(super) fn scheme_of(port: u16) -> LineScheme {
    if port == 80 { LineScheme::Http } else { LineScheme::Https }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = r#"{"v":1,"time":"2026-11-22T15:12:24.123456Z","id":"01JD0000000000000000000000","request":null,"sandbox":"agent","client":{"binary":"/usr/bin/curl","ancestors":["/usr/bin/bash","/sbin/init"],"pid":812},"scheme":"https","http":"2","host":"api.github.com","port":443,"method":"GET","path":"/repos/a/b","query":"state=open","verdict":"allow","code":"allowed","rule":"github/endpoints[0]/rules[0]","outcome":"passed","by":"policy","sent":true,"address":"140.82.112.5","status":200,"upload":0,"download":5120,"ms":{"judge":0.001,"held":0,"connect":21.4,"first_byte":88,"total":90.2},"policy":"sha256:9f2c","rpc":[{"method":"tools/call","tool":"search"},{"method":"ping"}],"websocket":true,"repeat":3}"#;

    fn record(line: &str) -> Recorded<'_> {
        match parse(line.as_bytes()) {
            Item::Record(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_of_a_gateway_is_read_the_quick_way_and_means_the_same() {
        let quick = scan::record(OURS.as_bytes()).expect("the quick way");
        let Item::Record(slow) = slowly(OURS.as_bytes()) else { panic!() };
        assert_eq!(quick, *slow);
        assert_eq!(quick.repeat, 3);
        assert_eq!(quick.grant(), None);
    }

    #[test]
    fn keys_that_a_later_gateway_adds_do_not_slow_a_line_down() {
        let approval = r#","approval":{"decision":"approve","by":"ana","uid":1000,"at":[1,null,{}]},"credential":"github""#;
        let line = OURS.replace(r#","address""#, &format!(r#"{approval},"address""#));
        assert_eq!(scan::record(line.as_bytes()), scan::record(OURS.as_bytes()));
        let granted = OURS.replace(r#""by":"policy""#, r#""by":"grant:g7""#);
        assert_eq!(record(&granted).grant(), Some("g7"));
    }

    #[test]
    fn four_keys_suffice_for_a_record_that_someone_writes() {
        let line = r#"{ "path": "/x", "method": "GET", "port": 443, "host": "a.test" }"#;
        let record = record(line);
        assert_eq!((record.scheme, &record.process), (LineScheme::Https, &Seen::Unsaid));
        assert_eq!(record.verdict, None);
    }

    #[test]
    fn lines_that_are_no_records_are_told_apart() {
        let event =
            r#"{"v":1,"time":"2026-11-22T15:12:24Z","event":"gateway.start","version":"1"}"#;
        assert_eq!(parse(event.as_bytes()), Item::Other);
        for broken in ["", "{", "[]", "7", r#"{"host":"a"}"#, r#"{"verdict":"maybe"}"#, "\u{1b}[2J"]
        {
            let Item::Broken(why) = parse(broken.as_bytes()) else { panic!("{broken}") };
            assert!(why.bytes().all(|b| (b' '..=b'~').contains(&b)), "{why}");
        }
    }

    proptest! {
        #[test]
        fn what_the_quick_way_reads_serde_reads_the_same(
            edits in prop::collection::vec((0..OURS.len(), any::<u8>(), 0..3_u8), 1..3),
            swap in any::<Option<(prop::sample::Index, prop::sample::Index)>>(),
        ) {
            let mut line = OURS.as_bytes().to_vec();
            if let Some((a, b)) = swap {
                let mut parts: Vec<&[u8]> = line[1..line.len() - 1].split(|b| *b == b',').collect();
                let (a, b) = (a.index(parts.len()), b.index(parts.len()));
                parts.swap(a, b);
                let joined = parts.join(&b',');
                line = [b"{", &joined[..], b"}"].concat();
            }
            for (at, byte, how) in edits {
                let at = at.min(line.len() - 1);
                match how {
                    0 => line[at] = byte,
                    1 => drop(line.remove(at)),
                    _ => line.insert(at, byte),
                }
            }
            if let Some(quick) = scan::record(&line) {
                match slowly(&line) {
                    Item::Record(slow) => prop_assert_eq!(quick, *slow),
                    other => prop_assert!(false, "{:?} for {}", other, String::from_utf8_lossy(&line)),
                }
            }
        }
    }
}
