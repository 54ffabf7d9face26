//! What a record does not say is never guessed: where the dry run gives a verdict, every request
//! that the record may stand for gets that verdict from the gateway's own judge. Where it does
//! not, the missing fact matters.

use portcullis::addr::{Authority, Host, Path, Port};
use portcullis::policy::body::{graphql, rpc};
use portcullis::policy::{
    Ask, Body, BodyProtocol, BodySource, Client, Code, Document, GraphqlKind, Intent, Layer,
    Policy, Process, Scheme, TunnelVerdict, Verdict,
};
use portcullis::record::{
    By, Facts as RecordedFacts, Http, Id, Judged, LineScheme, Outcome, PolicyId, Record, Timings,
};
use portcullis::replay::{Judge, Now};
use portcullis::traffic::read::{Facts, Item, Names, Recorded, Seen};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

const BINARIES: [&str; 3] = ["/usr/bin/a", "/usr/bin/b", "/opt/c"];

fn compile(text: &str) -> Policy {
    let document = Document::parse(text, "test").unwrap_or_else(|e| panic!("{e}\n{text}"));
    let layer = Layer { document, source: "test".into(), deny_only: false };
    Policy::compile(&[layer], 1).unwrap()
}

/// An endpoint of `a.test:443`, in YAML.
fn endpoint() -> impl Strategy<Value = String> {
    let rest = prop_oneof![
        Just("access: read-only"),
        Just("access: full"),
        Just("rules: [{ allow: { method: GET, path: /x, query: { k: \"o*\" } } }]"),
        Just("rules: [{ allow: { method: GET, path: /x, query: { k: \"*\" } } }]"),
        Just("rules: [{ allow: { method: POST, path: \"/**\" } }]"),
    ];
    let denies = prop_oneof![
        3 => Just(""),
        1 => Just(", deny_rules: [{ method: GET, path: /x, query: { k: open } }]"),
        1 => Just(", deny_rules: [{ method: POST, path: \"/**\" }]"),
    ];
    let enforcement = prop_oneof![3 => Just("enforce"), 1 => Just("audit")];
    let ruled = (rest, denies, enforcement.clone()).prop_map(|(rest, denies, enforcement)| {
        format!("{{ host: a.test, port: 443, protocol: rest, enforcement: {enforcement}, {rest}{denies} }}")
    });
    let bodies = prop_oneof![
        Just("protocol: graphql, access: read-only"),
        Just(
            "protocol: graphql, access: full, deny_rules: [{ operation_type: mutation, fields: [remove] }]"
        ),
        Just("protocol: graphql, rules: [{ allow: { operation_type: query, fields: [a] } }]"),
        Just("protocol: mcp, rules: [{ allow: { method: tools/call, tool: search } }]"),
        Just("protocol: mcp, access: full, deny_rules: [{ method: tools/call, tool: remove }]"),
        Just("protocol: json-rpc, rules: [{ allow: { method: ping } }]"),
    ];
    let judged = (bodies, enforcement).prop_map(|(body, enforcement)| {
        format!("{{ host: a.test, port: 443, enforcement: {enforcement}, {body} }}")
    });
    let plain = prop_oneof![
        Just("{ host: a.test, port: 443 }".to_owned()),
        Just("{ host: a.test, port: 443, tls: skip }".to_owned()),
        Just("{ host: a.test, port: 443, protocol: tcp }".to_owned()),
        Just("{ host: b.test, port: 443 }".to_owned()),
    ];
    prop_oneof![4 => ruled, 2 => judged, 1 => plain]
}

fn policy() -> impl Strategy<Value = String> {
    let binaries = prop_oneof![
        2 => Just(""),
        1 => Just("    binaries: [{ path: /usr/bin/a }]\n"),
        1 => Just("    binaries: [{ path: /usr/bin/b }]\n"),
        1 => Just("    binaries: [{ path: \"/usr/**\" }]\n"),
        1 => Just("    binaries: [{ path: \"/**\" }]\n"),
    ];
    prop::collection::vec((endpoint(), binaries), 1..4).prop_map(|entries| {
        let mut text = "version: 1\nnetwork_policies:\n".to_owned();
        for (at, (endpoint, binaries)) in entries.into_iter().enumerate() {
            text += &format!("  e{at}:\n    endpoints:\n      - {endpoint}\n{binaries}");
        }
        text
    })
}

const BODIES: [&str; 9] = [
    "",
    "not json",
    r#"{"query":"{ a }"}"#,
    r#"{"query":"mutation { remove }"}"#,
    r#"{"query":"subscription { a }"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"remove"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
];

/// One request, all of it known.
#[derive(Clone, Copy)]
struct Real<'a> {
    method: &'a str,
    query: Option<&'a str>,
    client: &'a Client,
    body: &'a str,
}

/// As the gateway judges it: the body is read where the policy needs it.
fn real(policy: &Policy, asked: Real<'_>) -> Now {
    let target = Authority::parse("a.test:443", None).unwrap();
    let path = Path::parse("/x").unwrap();
    let intent = |body| Intent {
        client: asked.client,
        scheme: Scheme::Https,
        target: &target,
        ask: Ask::Request {
            method: asked.method,
            path: &path,
            query: asked.query,
            websocket: false,
            body,
        },
    };
    let json = Some("application/json");
    let (operations, calls);
    let need = policy.body_need(&intent(Body::Unread));
    let body = match need.filter(|need| need.source != BodySource::Nowhere).map(|n| n.protocol) {
        None => Body::Unread,
        Some(BodyProtocol::Graphql) => {
            operations = graphql::from_post(json, asked.body.as_bytes(), asked.query);
            operations.as_ref().map_or_else(|why| Body::Invalid(why), |all| Body::Graphql(all))
        }
        Some(BodyProtocol::Rpc { .. }) => {
            calls = rpc::calls(asked.body.as_bytes());
            calls.as_ref().map_or_else(|why| Body::Invalid(why), |all| Body::Rpc(all))
        }
    };
    // HTTPS comes in a tunnel.
    if let TunnelVerdict::Relay(_) = policy.judge_tunnel(asked.client, &target) {
        return Now::Allow;
    }
    match policy.judge(&intent(body)) {
        Verdict::Allow(_) => Now::Allow,
        Verdict::Audit(_) => Now::Audit,
        Verdict::Deny(_) => Now::Deny,
        Verdict::Unknown(_) => Now::Unknown,
    }
}

/// Every process that a record may hide: each set of the binaries, and one that can't be seen.
fn clients() -> Vec<Client> {
    let mut all = vec![Client::Unseen];
    for set in 0_u8..8 {
        let ancestors = (0..3).filter(|bit| set & (1 << bit) != 0).map(|bit| BINARIES[bit].into());
        all.push(Client::Seen(Arc::new(Process {
            pid: 1,
            binary: "/elsewhere/x".into(),
            ancestors: ancestors.collect(),
        })));
    }
    all
}

fn seen(client: &Client) -> Seen<'static> {
    match client {
        Client::Seen(process) => {
            let names = process.ancestors.iter().map(|name| name.to_string().into()).collect();
            Seen::Whole(process.binary.to_string().into(), Names::List(names))
        }
        Client::Unseen | Client::Ignored => Seen::Unseen,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_verdict_on_a_record_is_the_verdict_on_all_that_it_may_stand_for(
        text in policy(),
        post in any::<bool>(),
        hides_process in any::<bool>(),
        hides_body in any::<bool>(),
        query in prop_oneof![Just(None), Just(Some("k=***")), Just(Some("k=open")), Just(Some("k=***&k=open"))],
        which in 0..9_usize,
        body in 0..BODIES.len(),
    ) {
        let judge = Judge::new(compile(&text), false);
        let policy = compile(&text);
        let all = clients();
        let method = if post { "POST" } else { "GET" };
        // A GET has no body here.
        let (body, hides_body) = if post { (BODIES[body], hides_body) } else { ("", false) };
        let record = Recorded {
            process: if hides_process { Seen::Unsaid } else { seen(&all[which]) },
            host: "a.test".into(),
            port: 443,
            method: Some(method.into()),
            path: Some("/x".into()),
            query: query.map(Into::into),
            facts: match body {
                _ if hides_body => Facts::Unsaid,
                "" => Facts::Empty,
                text => Facts::Whole { kind: Some("application/json".into()), text: text.into() },
            },
            ..Recorded::new(LineScheme::Https)
        };
        let outcome = judge.judge(&record);
        let hidden = query.is_some_and(|query| query.contains("***"));
        let values: &[&str] = if hidden { &["open", "other", "closed", "o"] } else { &[""] };
        let clients = if hides_process { &all[..] } else { &all[which..=which] };
        let bodies = if hides_body { &BODIES[..] } else { &[body][..] };
        let mut may = BTreeSet::new();
        for client in clients {
            for value in values {
                let query = query.map(|query| query.replace("***", value));
                for body in bodies {
                    let asked = Real { method, query: query.as_deref(), client, body };
                    may.insert(real(&policy, asked));
                }
            }
        }
        if outcome.now == Now::Undecidable {
            let missing = hides_process || hides_body || hidden;
            prop_assert!(missing, "nothing is missing, and {:?}\n{text}", outcome);
        } else {
            prop_assert_eq!(&may, &BTreeSet::from([outcome.now]), "{}\n{:?}", text, outcome);
        }
        // What is missing is named, and is missing.
        match outcome.code {
            "process" => prop_assert!(hides_process),
            "body" => prop_assert!(hides_body),
            "query" => prop_assert!(hidden),
            _ => {}
        }
    }
}

/// What the gateway keeps of a body that it read to judge.
fn kept(policy: &Policy, asked: Real<'_>) -> (Option<RecordedFacts>, bool) {
    let target = Authority::parse("a.test:443", None).unwrap();
    let path = Path::parse("/x").unwrap();
    let ask = Ask::Request {
        method: asked.method,
        path: &path,
        query: asked.query,
        websocket: false,
        body: Body::Unread,
    };
    let intent = Intent { client: asked.client, scheme: Scheme::Https, target: &target, ask };
    let need = policy.body_need(&intent).filter(|need| need.source != BodySource::Nowhere);
    let Some(need) = need else { return (None, false) };
    match need.protocol {
        BodyProtocol::Graphql => {
            let json = Some("application/json");
            let Ok(all) = graphql::from_post(json, asked.body.as_bytes(), asked.query) else {
                return (None, true);
            };
            let line = |o: &portcullis::policy::GraphqlOperation| {
                let kind = match o.kind {
                    None => "persisted",
                    Some(GraphqlKind::Query) => "query",
                    Some(GraphqlKind::Mutation) => "mutation",
                    Some(GraphqlKind::Subscription) => "subscription",
                };
                let name = o.name.as_deref().or(o.persisted.as_deref()).unwrap_or("");
                format!("{kind} {name}{{{}}}", o.fields.join(","))
            };
            (Some(RecordedFacts::Graphql(all.iter().map(line).collect())), false)
        }
        BodyProtocol::Rpc { .. } => {
            let Ok(all) = rpc::calls(asked.body.as_bytes()) else { return (None, true) };
            let line = |c: &portcullis::policy::RpcCall| {
                (c.method.clone().unwrap_or_default(), c.tool.clone())
            };
            (Some(RecordedFacts::Rpc(all.iter().map(line).collect())), false)
        }
    }
}

/// The line that the gateway writes of a request on `/x`.
fn line(asked: Real<'_>, facts: Option<RecordedFacts>, verdict: Judged) -> Vec<u8> {
    let target = asked.query.map_or("/x".to_owned(), |query| format!("/x?{query}"));
    let now = SystemTime::now();
    let record = Record {
        time: now,
        id: Id::new(now),
        sandbox: "agent".into(),
        client: asked.client.clone(),
        scheme: Scheme::Https,
        http: Some(Http::V2),
        host: Host::parse("a.test").ok(),
        port: Some(Port::HTTPS),
        method: asked.method.parse().ok(),
        target: target.parse().ok(),
        verdict,
        code: Code::Allowed,
        rule: None,
        outcome: Outcome::Passed,
        by: By::Policy,
        request: None,
        approval: None,
        credential: None,
        call: None,
        sent: true,
        address: None,
        status: Some(200),
        upload: 0,
        download: 0,
        ms: Timings::default(),
        policy: PolicyId::default(),
        facts: facts.map(Box::new),
        websocket: false,
    };
    let mut line = Vec::new();
    record.write_line(1, &mut line);
    line.pop();
    line
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_over_its_own_recording_changes_nothing(
        text in policy(),
        post in any::<bool>(),
        query in prop_oneof![Just(None), Just(Some("k=open")), Just(Some("token=s3cret&k=x"))],
        which in 0..9_usize,
        body in 0..BODIES.len(),
    ) {
        let policy = compile(&text);
        let client = &clients()[which];
        let (method, body) = if post { ("POST", BODIES[body]) } else { ("GET", "") };
        let asked = Real { method, query, client, body };
        let now = real(&policy, asked);
        let verdict = match now {
            Now::Allow => Judged::Allow,
            Now::Audit => Judged::Audit,
            Now::Deny => Judged::Deny,
            Now::Unknown | Now::Undecidable => Judged::Unknown,
        };
        let (facts, invalid) = kept(&policy, asked);
        let line = line(asked, facts, verdict);
        let Item::Record(record) = portcullis::traffic::read::parse(&line) else { panic!() };
        prop_assert_eq!(record.verdict, Some(verdict));
        let outcome = Judge::new(policy, false).judge(&record);
        if outcome.now == Now::Undecidable {
            // Of a body that could not be read nothing is kept.
            prop_assert!(invalid, "{}\n{:?}", text, outcome);
        } else {
            prop_assert_eq!(outcome.now, now, "{}\n{:?}", text, outcome);
        }
    }
}

fn judged(policy: &str, line: &str) -> (Now, &'static str) {
    let judge = Judge::new(compile(policy), false);
    let Item::Record(record) = portcullis::traffic::read::parse(line.as_bytes()) else {
        panic!("{line}")
    };
    let outcome = judge.judge(&record);
    (outcome.now, outcome.code)
}

const RULED: &str = "version: 1
network_policies:
  a:
    endpoints:
      - { host: a.test, port: 443, protocol: rest, enforcement: enforce, rules: [{ allow: { method: GET, path: /x } }] }
    binaries: [{ path: /usr/bin/a }]
  b:
    endpoints:
      - { host: b.test, port: 443, protocol: rest, enforcement: enforce, access: read-only }
      - { host: l4.test, port: 443 }
      - { host: raw.test, port: 443, tls: skip }
";

#[test]
fn a_missing_fact_that_changes_nothing_is_not_missed() {
    let hand = |host: &str, method: &str| {
        judged(RULED, &format!(r#"{{"host":"{host}","port":443,"method":"{method}","path":"/x"}}"#))
    };
    // No process may DELETE there, and any may GET here.
    assert_eq!(hand("a.test", "DELETE").0, Now::Unknown);
    assert_eq!(hand("a.test", "GET"), (Now::Undecidable, "process"));
    assert_eq!(hand("b.test", "GET").0, Now::Allow);
    assert_eq!(hand("c.test", "GET").0, Now::Unknown);
    // A value that no rule looks at.
    let masked = r#"{"host":"b.test","port":443,"method":"GET","path":"/x","query":"token=***"}"#;
    assert_eq!(judged(RULED, masked).0, Now::Allow);
    // A gateway that could not see the process would not see it again.
    let unseen = r#"{"verdict":"unknown","client":null,"host":"a.test","port":443,"method":"GET","path":"/x"}"#;
    assert_eq!(judged(RULED, unseen), (Now::Unknown, "process_unknown"));
}

#[test]
fn of_a_tunnel_only_what_holds_for_everything_inside_is_said() {
    let tunnel = |host: &str, more: &str| {
        judged(RULED, &format!(r#"{{"scheme":"tcp","host":"{host}","port":443{more}}}"#))
    };
    assert_eq!(tunnel("raw.test", ""), (Now::Allow, "allowed"));
    assert_eq!(tunnel("l4.test", ""), (Now::Allow, "allowed"));
    assert_eq!(tunnel("b.test", ""), (Now::Undecidable, "inside"));
    assert_eq!(tunnel("c.test", ""), (Now::Unknown, "host_unknown"));
    // It was looked into, and was neither TLS nor HTTP.
    let looked = r#","verdict":"unknown","code":"protocol_not_allowed""#;
    assert_eq!(tunnel("b.test", looked), (Now::Unknown, "protocol_not_allowed"));
}

#[test]
fn https_in_a_tunnel_that_is_relayed_passes_and_plain_http_may() {
    let policy = "version: 1
network_policies:
  a: { endpoints: [{ host: a.test, ports: [80, 443], protocol: tcp }] }
";
    let request = |scheme: &str, port: u16| {
        let line = r#","host":"a.test","method":"GET","path":"/x"}"#;
        judged(policy, &format!(r#"{{"scheme":"{scheme}","port":{port}{line}"#))
    };
    assert_eq!(request("https", 443), (Now::Allow, "allowed"));
    assert_eq!(request("http", 80), (Now::Undecidable, "entrance"));
}

#[test]
fn a_websocket_whose_messages_are_judged_is_undecidable() {
    let policy = "version: 1
network_policies:
  a:
    endpoints:
      - { host: a.test, port: 443, protocol: websocket, enforcement: enforce, rules: [{ allow: { method: GET, path: /ws } }, { allow: { method: WEBSOCKET_TEXT, path: /ws } }] }
      - { host: b.test, port: 443, protocol: websocket, enforcement: enforce, access: full }
";
    let socket = |host: &str, path: &str| {
        judged(
            policy,
            &format!(
                r#"{{"host":"{host}","port":443,"method":"GET","path":"{path}","websocket":true}}"#
            ),
        )
    };
    assert_eq!(socket("a.test", "/ws"), (Now::Undecidable, "messages"));
    assert_eq!(socket("a.test", "/other").0, Now::Unknown);
    assert_eq!(socket("b.test", "/ws").0, Now::Allow);
}

#[test]
fn identity_ignore_lets_an_unsaid_process_count_as_any() {
    let judge = Judge::new(compile(RULED), true);
    let record = Recorded {
        host: "a.test".into(),
        port: 443,
        method: Some("GET".into()),
        path: Some("/x".into()),
        ..Recorded::new(LineScheme::Https)
    };
    assert_eq!(judge.judge(&record).now, Now::Allow);
}

#[test]
fn a_path_that_no_gateway_takes_is_denied_with_its_code() {
    let odd = r#"{"host":"b.test","port":443,"method":"GET","path":"/a/../b"}"#;
    assert_eq!(judged(RULED, odd), (Now::Deny, "dot_segment"));
    let host = r#"{"host":"0x7f.1","port":443,"method":"GET","path":"/"}"#;
    assert_eq!(judged(RULED, host), (Now::Deny, "bad_host"));
}

#[test]
fn a_method_that_carries_no_call_is_judged_by_whether_it_has_a_body() {
    let text = "version: 1\nnetwork_policies:\n  e: { endpoints: [ { host: a.test, port: 443, protocol: mcp, access: full } ] }";
    let judge = Judge::new(compile(text), false);
    let now = |method: &str, facts| {
        let (method, path) = (Some(method.to_owned().into()), Some("/x".into()));
        let (host, new) = ("a.test".into(), Recorded::new(LineScheme::Https));
        judge.judge(&Recorded { host, port: 443, method, path, facts, ..new }).now
    };
    let whole = |kind: Option<&'static str>, text: &'static str| Facts::Whole {
        kind: kind.map(Into::into),
        text: text.into(),
    };
    for method in ["GET", "DELETE"] {
        assert_eq!(now(method, Facts::Unsaid), Now::Allow, "{method}: nothing is said of one");
        assert_eq!(now(method, Facts::Empty), Now::Allow, "{method}");
        assert_eq!(now(method, whole(None, "{}")), Now::Unknown, "{method}");
    }
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(now("POST", whole(None, call)), Now::Allow);
    let odd = whole(Some("application/json; charset=utf-7"), call);
    assert_eq!(now("POST", odd), Now::Unknown);
}
