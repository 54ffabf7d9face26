//! A written line is the contract that the schema states and the reader reads.

use portcullis::addr::{Host, Port};
use portcullis::policy::{Client, Code, Process, Scheme};
use portcullis::record::{
    By, Event, Facts, Http, Id, Judged, Line, LineScheme, Outcome, PolicyId, Record, Timings,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::to_value(schemars::schema_for!(Line)).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

/// The record of the documentation's example, as far as this build has its keys.
fn example() -> Record {
    let mut digest = [0; 32];
    digest[..2].copy_from_slice(&[0x9f, 0x2c]);
    Record {
        time: UNIX_EPOCH + Duration::from_micros(1_795_360_344_123_456),
        id: Id(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B),
        sandbox: "agent".into(),
        client: Client::Seen(Arc::new(Process {
            pid: 812,
            binary: "/usr/bin/curl".into(),
            ancestors: ["/usr/bin/bash".into()].into(),
        })),
        scheme: Scheme::Https,
        http: Some(Http::V2),
        host: Some(Host::parse("api.github.com").unwrap()),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some("/repos/a/b?state=open".parse().unwrap()),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: Some("github/endpoints[0]/rules[0]".into()),
        outcome: Outcome::Passed,
        by: By::Policy,
        request: None,
        approval: None,
        credential: Some("github".into()),
        sent: true,
        address: Some("140.82.112.5".parse().unwrap()),
        status: Some(200),
        upload: 0,
        download: 5120,
        ms: Timings {
            judge: Duration::from_micros(1),
            held: Duration::ZERO,
            connect: Duration::from_micros(21_400),
            first_byte: Some(Duration::from_millis(88)),
            total: Duration::from_micros(90_200),
        },
        policy: PolicyId(digest),
        facts: None,
        call: None,
        websocket: false,
    }
}

/// A head that never named anything.
fn bare() -> Record {
    Record {
        client: Client::Unseen,
        scheme: Scheme::Http,
        http: None,
        host: None,
        port: None,
        method: None,
        target: None,
        verdict: Judged::None,
        code: Code::MalformedHead,
        rule: None,
        outcome: Outcome::Refused,
        by: By::Limit,
        request: None,
        approval: None,
        credential: None,
        sent: false,
        address: None,
        status: None,
        ms: Timings::default(),
        ..example()
    }
}

fn written(record: &Record, repeat: u64) -> String {
    let mut line = Vec::new();
    record.write_line(repeat, &mut line);
    String::from_utf8(line).unwrap()
}

/// The line is valid, and reading it and writing it again changes nothing.
fn assert_contract(line: &str) -> Value {
    assert!(line.ends_with('\n') && line.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n')));
    assert_eq!(line.matches('\n').count(), 1);
    let value: Value = serde_json::from_str(line).unwrap();
    if let Err(error) = SCHEMA.validate(&value) {
        panic!("{error}: {line}");
    }
    let read: Line = serde_json::from_str(line).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value, "{line}");
    value
}

#[test]
fn the_line_is_that_of_the_documentation_key_by_key() {
    let line = written(&example(), 1);
    let expected = concat!(
        r#"{"v":1,"time":"2026-11-22T15:12:24.123456Z","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","request":null,"sandbox":"agent","#,
        r#""client":{"binary":"/usr/bin/curl","ancestors":["/usr/bin/bash"],"pid":812},"#,
        r#""scheme":"https","http":"2","host":"api.github.com","port":443,"method":"GET","path":"/repos/a/b","query":"state=open","#,
        r#""verdict":"allow","code":"allowed","rule":"github/endpoints[0]/rules[0]","outcome":"passed","by":"policy","sent":true,"credential":"github","#,
        r#""address":"140.82.112.5","status":200,"upload":0,"download":5120,"#,
        r#""ms":{"judge":0.001,"held":0,"connect":21.4,"first_byte":88,"total":90.2},"#,
        r#""policy":"sha256:9f2c000000000000000000000000000000000000000000000000000000000000"}"#,
        "\n"
    );
    assert_eq!(line, expected);
    assert_contract(&line);
    let read: Line = serde_json::from_str(&line).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), line.trim_end(), "the same order too");
}

#[test]
fn keys_that_do_not_apply_are_left_out() {
    let value = assert_contract(&written(&bare(), 1));
    for absent in ["http", "host", "port", "method", "path", "query", "rule", "address", "status"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    for absent in ["credential", "graphql", "rpc", "websocket", "repeat"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    assert_eq!(value["client"], Value::Null);
    assert_eq!(value["request"], Value::Null);
    assert!(value["ms"].get("first_byte").is_none());
}

#[test]
fn a_tunnel_has_neither_method_nor_path() {
    let tunnel = Record {
        scheme: Scheme::Tcp,
        http: None,
        method: None,
        target: None,
        host: Some(Host::parse("[2001:db8::1]").unwrap()),
        ..example()
    };
    let value = assert_contract(&written(&tunnel, 1));
    assert_eq!(value["scheme"], "tcp");
    assert_eq!(value["host"], "2001:db8::1");
    assert!(value.get("method").is_none() && value.get("path").is_none());
}

#[test]
fn values_of_secret_looking_query_keys_are_never_written() {
    let target = "/x?state=open&access_token=hunter2&X-Amz-Signature=hunter2&q=a".parse().unwrap();
    let line = written(&Record { target: Some(target), ..example() }, 1);
    let value = assert_contract(&line);
    assert_eq!(value["query"], "state=open&access_token=***&X-Amz-Signature=***&q=a");
    assert!(!line.contains("hunter2"));
}

#[test]
fn facts_websockets_and_repeats_have_their_keys() {
    let calls =
        vec![("tools/call".to_owned(), Some("search".to_owned())), ("initialize".to_owned(), None)];
    let rpc = Record { facts: Some(Box::new(Facts::Rpc(calls))), websocket: true, ..example() };
    let value = assert_contract(&written(&rpc, 7));
    assert_eq!(
        value["rpc"],
        json!([{"method":"tools/call","tool":"search"},{"method":"initialize"}])
    );
    assert_eq!((&value["websocket"], &value["repeat"]), (&json!(true), &json!(7)));
    let operations = vec!["query viewer{login,\u{202e}name}".to_owned()];
    let graphql = Record { facts: Some(Box::new(Facts::Graphql(operations))), ..example() };
    let line = written(&graphql, 1);
    assert_eq!(assert_contract(&line)["graphql"][0], "query viewer{login,\u{202e}name}");
    assert!(line.contains("\\u202e"), "a bidi mark is shown, not obeyed");
}

#[test]
fn a_hand_written_record_needs_only_host_port_method_and_path() {
    let line = r#"{"host":"api.github.com","port":443,"method":"GET","path":"/repos"}"#;
    assert!(SCHEMA.is_valid(&serde_json::from_str(line).unwrap()));
    let Line::Record(read) = serde_json::from_str(line).unwrap() else { panic!("an event") };
    assert_eq!(
        (read.host.as_deref(), read.path.as_deref()),
        (Some("api.github.com"), Some("/repos"))
    );
    let tunnel =
        r#"{"scheme":"tcp","host":"db.test","port":5432,"later":"unknown keys are passed over"}"#;
    assert!(SCHEMA.is_valid(&serde_json::from_str(tunnel).unwrap()));
    let Line::Record(read) = serde_json::from_str(tunnel).unwrap() else { panic!("an event") };
    assert_eq!(read.scheme, Some(LineScheme::Tcp));
}

#[test]
fn a_line_that_says_too_little_or_nonsense_is_an_error() {
    for line in [
        r#"{}"#,
        r#"{"host":"a.test"}"#,
        r#"{"host":"a.test","port":443,"method":"GET"}"#,
        r#"{"host":"a.test","port":0,"method":"GET","path":"/"}"#,
        r#"{"host":"a.test","port":443,"method":"GET","path":"/","verdict":"maybe"}"#,
    ] {
        assert!(serde_json::from_str::<Line>(line).is_err(), "{line}");
        assert!(!SCHEMA.is_valid(&serde_json::from_str(line).unwrap()), "{line}");
    }
}

#[test]
fn events_carry_event_instead_of_verdict() {
    let time = UNIX_EPOCH + Duration::from_micros(1_795_360_344_123_456);
    let agent: Arc<str> = "agent".into();
    let events = [
        Event::GatewayStart { version: "0.1.0".into() },
        Event::GatewayStop,
        Event::PolicyLoaded {
            sandbox: agent.clone(),
            policy: PolicyId([1; 32]),
            files: vec!["policy.yaml".into()],
        },
        Event::PolicyRejected {
            sandbox: agent.clone(),
            files: vec![],
            error: "l\u{1b}ine 3".into(),
        },
        Event::Listener { sandbox: agent, address: "127.0.0.1:3128".into(), error: None },
    ];
    let names: Vec<Value> = events
        .iter()
        .map(|event| {
            let mut line = Vec::new();
            event.write_line(time, &mut line);
            let value = assert_contract(str::from_utf8(&line).unwrap());
            assert!(value.get("verdict").is_none());
            assert_eq!(value["time"], "2026-11-22T15:12:24.123456Z");
            value["event"].clone()
        })
        .collect();
    assert_eq!(
        names,
        ["gateway.start", "gateway.stop", "policy.loaded", "policy.rejected", "listener"]
    );
}

proptest! {
    #[test]
    fn whatever_a_client_names_is_one_valid_line(
        sandbox in ".{0,20}",
        binary in ".{0,30}",
        ancestors in proptest::collection::vec(".{0,10}", 0..3),
        method in "[A-Z!#$%&'*+.^_`|~-]{1,9}",
        path in "/[!$-~]{0,60}",
        nanos in proptest::collection::vec(0u64..10_000_000_000_000, 5),
        numbers: (u64, u64, u16, u64),
    ) {
        let record = Record {
            sandbox: sandbox.into(),
            client: Client::Seen(Arc::new(Process {
                pid: 1,
                binary: binary.into(),
                ancestors: ancestors.into_iter().map(Into::into).collect(),
            })),
            method: Some(method.parse().unwrap()),
            target: path.parse().ok(),
            upload: numbers.0,
            download: numbers.1,
            status: Some(numbers.2),
            ms: Timings {
                judge: Duration::from_nanos(nanos[0]),
                held: Duration::from_nanos(nanos[1]),
                connect: Duration::from_nanos(nanos[2]),
                first_byte: Some(Duration::from_nanos(nanos[3])),
                total: Duration::from_nanos(nanos[4]),
            },
            ..example()
        };
        assert_contract(&written(&record, numbers.3));
    }
}
