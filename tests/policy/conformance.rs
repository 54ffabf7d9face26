//! 8,000 decisions that OpenShell's own engine made: all of them come out the same.

use portcullis::addr::{Authority, Host, HostError, Path, Port};
use portcullis::policy::{
    Ask, Body, Client, Document, Intent, Layer, Policy, Process, Scheme, Verdict,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Case {
    policy: Box<serde_json::value::RawValue>,
    requests: Vec<Asked>,
}

#[derive(serde::Deserialize, Debug)]
struct Asked {
    binary: Box<str>,
    ancestors: Box<[Box<str>]>,
    host: String,
    port: u16,
    method: String,
    path: String,
    query: BTreeMap<String, Vec<String>>,
    expect: String,
}

fn query(values: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let pairs = values.iter().flat_map(|(key, values)| values.iter().map(move |v| (key, v)));
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    (!text.is_empty()).then_some(text)
}

fn judge(policy: &Policy, asked: &Asked) -> &'static str {
    let process =
        Process { pid: 1, binary: asked.binary.clone(), ancestors: asked.ancestors.clone() };
    let client = Client::Seen(Arc::new(process));
    // Eight of the decisions are about names with an empty label, which no entrance lets in.
    let host = Host::recorded(&asked.host).unwrap();
    let target = Authority { host, port: Port::new(asked.port).unwrap() };
    let path = Path::parse(&asked.path).unwrap();
    let query = query(&asked.query);
    let ask = Ask::Request {
        method: &asked.method,
        path: &path,
        query: query.as_deref(),
        websocket: false,
        body: Body::Unread,
    };
    let intent = Intent { client: &client, scheme: Scheme::Https, target: &target, ask };
    match policy.judge(&intent) {
        Verdict::Allow(_) => "allow",
        Verdict::Audit(_) => "audit",
        Verdict::Deny(_) | Verdict::Unknown(_) => "deny",
    }
}

#[test]
fn every_decision_of_openshell_comes_out_the_same() {
    let text = include_str!("../conformance/policy-decisions.jsonl");
    let (mut judged, mut wrong) = (0, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let case: Case = serde_json::from_str(line).unwrap();
        let name = format!("line {}", number + 1);
        let document = Document::parse(case.policy.get(), &name)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let layer = Layer { document, source: name.as_str().into(), deny_only: false };
        let policy = Policy::compile(&[layer], 1).unwrap();
        for asked in &case.requests {
            judged += 1;
            if judge(&policy, asked) != asked.expect {
                wrong.push(format!("{name}: {asked:?}"));
            }
        }
    }
    assert_eq!(judged, 8_000);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_name_with_an_empty_label_is_judged_from_a_record_and_refused_at_an_entrance() {
    assert!(Host::recorded("a..example.com").is_ok());
    assert_eq!(Host::parse("a..example.com"), Err(HostError::Label));
}
