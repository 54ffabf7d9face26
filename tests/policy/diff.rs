//! `policy diff` against the law it stands for: whatever NEW lets through and OLD does not is
//! listed, and what means the same is no change.

use crate::policy_common::{Asked, ask, call, layer, operation, seen, tool};
use portcullis::policy::diff::{Aspect, Change, Diff, Row, diff};
use portcullis::policy::{Body, Client, GraphqlKind, Layer, Policy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn compared(old: &str, new: &str) -> Diff {
    diff(&[layer(old)], &[layer(new)]).unwrap()
}

fn on(rest: &str) -> String {
    format!("e: {{ endpoints: [ {{ host: x.test, port: 443, {rest} }} ] }}")
}

/// One line a row: what changes, where, and what.
fn lines(diff: &Diff) -> Vec<String> {
    diff.rows.iter().map(line).collect()
}

fn line(row: &Row) -> String {
    let change = serde_json::to_string(&row.change).unwrap();
    let methods = row.methods.join(" ");
    let line =
        format!("{} {}:{} {methods} {}", change.trim_matches('"'), row.host, row.port, row.path);
    let denied = row.denied_by.as_ref().map(|rule| format!(" denied by {rule}"));
    line + &denied.unwrap_or_default()
}

#[test]
fn what_means_the_same_is_no_change() {
    let same = [
        (
            "access: read-only, protocol: rest",
            "rules: [ { allow: { method: GET, path: '/**' } }, { allow: { method: HEAD, path: '**' } }, { allow: { method: OPTIONS, path: '/**' } } ]",
        ),
        (
            "rules: [ { allow: { method: GET, path: '/{a,b}' } } ]",
            "rules: [ { allow: { method: GET, path: /b } }, { allow: { method: GET, path: /a } }, { allow: { method: HEAD, path: /a } } ]",
        ),
        (
            "rules: [ { allow: { method: GET, path: '/a/**' } } ]",
            "rules: [ { allow: { method: GET, path: '/a/*' } }, { allow: { method: GET, path: '/a/*/**' } }, { allow: { method: GET, path: '/a/**' } } ]",
        ),
        (
            "rules: [ { allow: { method: GET, path: /a, query: { q: { any: [x, y] } } } } ]",
            "rules: [ { allow: { method: GET, path: /a, query: { q: '{x,y}' } } } ]",
        ),
        (
            "rules: [ { allow: { method: GET, path: /a } } ], deny_rules: [ { method: '*', path: /b } ]",
            "rules: [ { allow: { method: GET, path: /a } } ], deny_rules: [ { method: '*', path: /b, quiet: true } ]",
        ),
    ];
    for (one, other) in same {
        assert_eq!(lines(&compared(&on(one), &on(other))), Vec::<String>::new(), "{one}\n{other}");
        assert_eq!(lines(&compared(&on(other), &on(one))), Vec::<String>::new(), "{other}\n{one}");
    }
    let preset = portcullis::policy::preset::find("pypi").unwrap();
    let layers = preset.layers(portcullis::policy::preset::Access::ReadOnly);
    let mut expanded = layers.clone();
    expanded[0].source = "mine.yaml".into();
    assert_eq!(lines(&diff(&layers, &expanded).unwrap()), Vec::<String>::new());
}

/// To `?` an escape is one character, to the languages that are compared it is three: where that could
/// matter, nothing is said to be the same.
#[test]
fn an_escape_beside_a_pattern_of_one_character_is_not_decided() {
    let free = "rules: [ { allow: { method: GET, path: '/*%20' } } ]";
    let denies = "rules: [ { allow: { method: GET, path: '/*%20' } } ], deny_rules: [ { method: GET, path: '/a?' } ]";
    // `/a%20` is denied by the second alone.
    assert!(compared(&on(denies), &on(free)).gains());
    assert!(!compared(&on(free), &on(free)).gains());
}

#[test]
fn a_gain_names_host_methods_and_path() {
    let old = on("rules: [ { allow: { method: GET, path: '/repos/*/*' } } ]");
    let cases = [
        (
            "rules: [ { allow: { method: GET, path: '/repos/**' } } ]",
            vec!["gained x.test:443 GET HEAD /repos/**"],
        ),
        (
            "rules: [ { allow: { method: POST, path: '/repos/*/*' } } ]",
            vec!["gained x.test:443 POST /repos/*/*", "lost x.test:443 GET HEAD /repos/*/*"],
        ),
        ("access: full, protocol: rest", vec!["gained x.test:443 * /**"]),
        (
            "rules: [ { allow: { method: GET, path: '/repos/a/*' } } ]",
            vec!["lost x.test:443 GET HEAD /repos/*/*"],
        ),
        (
            "enforcement: audit, rules: [ { allow: { method: GET, path: '/repos/*/*' } } ]",
            vec!["gained x.test:443 * /**"],
        ),
    ];
    for (new, expected) in cases {
        let diff = compared(&old, &on(new));
        let requests: Vec<String> =
            diff.rows.iter().filter(|row| row.what == Aspect::Requests).map(line).collect();
        assert_eq!(requests, expected, "{new}");
        assert_eq!(diff.gains(), expected[0].starts_with("gained"));
    }
}

#[test]
fn a_deny_rule_that_goes_is_a_gain_of_what_it_denied() {
    let rules = "rules: [ { allow: { method: '*', path: '/**' } } ]";
    let old = on(&format!("{rules}, deny_rules: [ {{ method: DELETE, path: '/a/*' }} ]"));
    let diff = compared(&old, &on(rules));
    let first = &diff.rows[0];
    assert_eq!(line(first), "gained x.test:443 DELETE /a/* denied by e/endpoints[0]/deny_rules[0]");
    assert!(first.partly);
    assert_eq!(first.example.as_ref().unwrap().url, "https://x.test/a/x");
    let back = compared(&on(rules), &old);
    assert!(!back.gains());
    assert_eq!(back.rows[0].change, Change::Lost);
}

#[test]
fn what_nobody_denies_any_more_is_said_and_is_no_gain() {
    let allow = "rules: [ { allow: { method: GET, path: /a } } ]";
    let old = on(&format!("{allow}, deny_rules: [ {{ method: POST, path: /b }} ]"));
    let diff = compared(&old, &on(allow));
    assert!(!diff.gains());
    assert_eq!(lines(&diff), ["undenied x.test:443 POST /b"]);
}

#[test]
fn the_same_hosts_written_otherwise_are_told_apart_only_where_they_differ() {
    let wild = |host: &str| format!("e: {{ endpoints: [ {{ host: '{host}', port: 443 }} ] }}");
    assert!(compared(&wild("*.x.test"), &wild("**.x.test")).gains());
    assert!(!compared(&wild("**.x.test"), &wild("*.x.test")).gains());
    assert!(!compared(&wild("*.x.test"), &wild("a.x.test")).gains());
    assert!(compared(&wild("a.x.test"), &wild("*.x.test")).gains());
    assert!(compared(&wild("api-*.x.test"), &wild("*-v1.x.test")).gains());
    let both =
        "e: { endpoints: [ { host: '*.x.test', port: 443 }, { host: a.x.test, port: 443 } ] }";
    assert_eq!(lines(&compared(&wild("*.x.test"), both)), Vec::<String>::new());
}

#[test]
fn processes_addresses_tunnels_and_sizes_count() {
    let by = |binary: &str| {
        format!(
            "e: {{ endpoints: [ {{ host: x.test, port: 443 }} ], binaries: [ {{ path: '{binary}' }} ] }}"
        )
    };
    assert!(compared(&by("/usr/bin/gh"), &by("/usr/bin/curl")).gains());
    assert!(compared(&by("/usr/bin/gh"), &by("/usr/bin/*")).gains());
    assert!(!compared(&by("/usr/bin/*"), &by("/usr/bin/gh")).gains());
    assert!(compared(&by("/usr/bin/*"), &on("tls: terminate")).gains());
    let what = |old: &str, new: &str| {
        let rows = compared(&on(old), &on(new)).rows;
        rows.iter()
            .filter(|row| row.change == Change::Gained)
            .map(|row| row.what)
            .collect::<Vec<_>>()
    };
    let narrow = "allowed_ips: [10.0.0.0/24]";
    assert!(what(narrow, "allowed_ips: [10.0.0.0/16]").contains(&Aspect::Addresses));
    assert!(what("allowed_ips: [10.0.0.0/16]", narrow).is_empty());
    assert_eq!(what("tls: terminate", "tls: skip"), [Aspect::Tunnel]);
    assert_eq!(what("tls: skip", "tls: skip, allow_ech: true"), [Aspect::AnyName]);
    assert!(what("tls: skip, allow_ech: true", "tls: skip").is_empty());
    let sized = |bytes: u32| {
        format!("protocol: graphql, access: read-only, graphql_max_body_bytes: {bytes}")
    };
    assert_eq!(what(&sized(1000), &sized(2000)), [Aspect::Sizes]);
    assert!(what(&sized(2000), &sized(1000)).is_empty());
}

#[test]
fn bodies_and_messages_are_compared_by_what_they_say() {
    let graphql = |rules: &str| on(&format!("protocol: graphql, rules: [ {rules} ]"));
    let narrow = graphql("{ allow: { operation_type: query, fields: [viewer, 'repo*'] } }");
    let wide = graphql("{ allow: { operation_type: query, fields: [viewer, 'repo*', user] } }");
    assert!(compared(&narrow, &wide).gains());
    assert!(!compared(&wide, &narrow).gains());
    let mcp = |rules: &str| on(&format!("protocol: mcp, rules: [ {rules} ]"));
    let one = mcp("{ allow: { method: tools/call, tool: get_issue } }");
    let some = mcp("{ allow: { method: tools/call, tool: 'get_*' } }");
    assert!(compared(&one, &some).gains());
    assert!(!compared(&some, &one).gains());
    let handshake = on("protocol: websocket, access: read-only");
    let messages = on("protocol: websocket, access: read-write");
    let gained = compared(&handshake, &messages);
    assert!(gained.rows.iter().any(|row| row.what == Aspect::Messages));
    assert!(!compared(&messages, &handshake).gains());
}

// Generated: small worlds in which patterns collide.

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => "[ab]{1,2}",
        3 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => "[ab]\\*",
        1 => "\\*[ab]",
        1 => "[ab]\\?",
        1 => Just("[!a]".to_owned()),
        1 => Just("{a,b*}".to_owned()),
        1 => Just("a%20b".to_owned()),
        1 => Just("a;v".to_owned()),
    ];
    prop::collection::vec(segment, 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(String::new()),
        1 => Just(", query: { q: a }".to_owned()),
        1 => Just(", query: { q: { any: [a, 'b*'] } }".to_owned()),
        1 => Just(", query: { q: '*', s: b }".to_owned()),
    ]
}

fn http() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "PURGE", "'*'"]);
    (method, path(), query()).prop_map(|(m, p, q)| format!("{{ method: {m}, path: '{p}'{q} }}"))
}

fn rest() -> impl Strategy<Value = String> {
    let allow = prop_oneof![
        4 => prop::collection::vec(http(), 1..4).prop_map(|rules| {
            let rules: Vec<String> = rules.iter().map(|rule| format!("{{ allow: {rule} }}")).collect();
            format!(", rules: [ {} ]", rules.join(", "))
        }),
        1 => prop::sample::select(vec!["read-only", "read-write", "full"])
            .prop_map(|access| format!(", access: {access}")),
    ];
    let deny = prop_oneof![
        2 => Just(String::new()),
        1 => prop::collection::vec(http(), 1..3)
            .prop_map(|rules| format!(", deny_rules: [ {} ]", rules.join(", "))),
    ];
    let flags = prop::sample::select(vec![
        "",
        "",
        "",
        ", enforcement: audit",
        ", allow_encoded_slash: true",
    ]);
    let scope =
        prop_oneof![3 => Just(String::new()), 1 => path().prop_map(|p| format!(", path: '{p}'"))];
    let protocol = prop::sample::select(vec!["rest", "rest", "rest", "websocket"]);
    (allow, deny, flags, scope, protocol).prop_map(|(allow, deny, flags, scope, protocol)| {
        let allow = match protocol {
            // A WebSocket's rules know its methods alone.
            "websocket" => ", rules: [ { allow: { method: GET, path: '/a/**' } }, { allow: { method: WEBSOCKET_TEXT, path: '/a/b' } } ]".to_owned(),
            _ => allow,
        };
        let deny = if protocol == "websocket" { String::new() } else { deny };
        format!("protocol: {protocol}{allow}{deny}{flags}{scope}")
    })
}

fn bodied() -> impl Strategy<Value = String> {
    let graphql = prop::sample::select(vec![
        "access: read-only",
        "access: read-write",
        "rules: [ { allow: { operation_type: query, fields: [a, 'b*'] } } ]",
        "rules: [ { allow: { operation_type: '*', operation_name: 'a*' } } ]",
        "access: full, deny_rules: [ { operation_type: mutation, fields: ['*b'] } ]",
    ])
    .prop_map(|rest| format!("protocol: graphql, {rest}"));
    let mcp = prop::sample::select(vec![
        "rules: [ { allow: { method: initialize } }, { allow: { method: tools/call, tool: a } } ]",
        "rules: [ { allow: { method: tools/call, tool: 'a*' } } ]",
        "rules: [ { allow: { method: '*' } } ], deny_rules: [ { method: tools/call, tool: ab } ]",
        "access: full",
    ])
    .prop_map(|rest| format!("protocol: mcp, {rest}"));
    prop_oneof![graphql, mcp]
}

fn endpoint() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "x.test",
        "x.test",
        "x.test",
        "*.x.test",
        "**.x.test",
        "a.x.test",
        "a*.x.test",
    ]);
    let body = prop_oneof![
        6 => rest(),
        2 => bodied(),
        1 => prop::sample::select(vec!["tls: skip", "protocol: tcp", "tls: terminate", "enforcement: audit"])
            .prop_map(str::to_owned),
    ];
    let port = prop::sample::select(vec!["port: 443", "port: 443", "ports: [443, 80]"]);
    (host, port, body)
        .prop_map(|(host, port, body)| format!("{{ host: '{host}', {port}, {body} }}"))
}

fn entry() -> impl Strategy<Value = String> {
    let binaries = prop::sample::select(vec![
        "",
        "",
        "",
        ", binaries: [ { path: /a } ]",
        ", binaries: [ { path: '/*' } ]",
        ", binaries: [ { path: /a }, { path: '/b/**' } ]",
    ]);
    (prop::collection::vec(endpoint(), 1..3), binaries).prop_map(|(endpoints, binaries)| {
        format!("{{ endpoints: [ {} ]{binaries} }}", endpoints.join(", "))
    })
}

/// Two policies that have something in common, or not.
fn policies() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let entries = || prop::collection::vec(entry(), 0..3);
    (entries(), entries(), entries()).prop_map(|(common, old, new)| {
        let with = |own: Vec<String>| common.iter().cloned().chain(own).collect();
        (with(old), with(new))
    })
}

fn layers(entries: &[String]) -> Vec<Layer> {
    if entries.is_empty() {
        return Vec::new();
    }
    let text: Vec<String> =
        entries.iter().enumerate().map(|(i, entry)| format!("e{i}: {entry}")).collect();
    vec![layer(&text.join("\n"))]
}

#[derive(Clone, Debug)]
struct Request {
    client: u8,
    target: &'static str,
    method: &'static str,
    path: String,
    body: u8,
}

fn request() -> impl Strategy<Value = Request> {
    let target = prop::sample::select(vec![
        "x.test:443",
        "x.test:443",
        "x.test:443",
        "x.test:80",
        "a.x.test:443",
        "ab.x.test:443",
        "b.a.x.test:443",
        "y.test:443",
    ]);
    let method = prop::sample::select(vec![
        "GET",
        "GET",
        "HEAD",
        "POST",
        "POST",
        "DELETE",
        "PURGE",
        "OPTIONS",
        "REPORT",
        "BYTES",
        "MESSAGE",
        "WEBSOCKET",
    ]);
    let segment = prop_oneof![
        6 => "[ab]{0,2}", 1 => Just("a%20b".to_owned()), 1 => Just("a;v".to_owned()), 1 => Just("a%2Fb".to_owned()),
    ];
    let path = prop::collection::vec(segment, 1..4);
    let query = prop::sample::select(vec![
        "",
        "",
        "",
        "?q=a",
        "?q=b",
        "?q=a&q=bc",
        "?q=x&s=b",
        "?query=%7Ba%7D",
    ]);
    (0..6_u8, target, method, path, query, 0..10_u8).prop_map(
        |(client, target, method, path, query, body)| Request {
            client,
            target,
            method,
            path: format!("/{}{query}", path.join("/")),
            body,
        },
    )
}

impl Request {
    fn passes(&self, policy: &Policy) -> bool {
        let client = match self.client {
            0 | 1 => Client::Unseen,
            2 => Client::Ignored,
            3 => seen("/a", &[]),
            4 => seen("/b/c", &["/a"]),
            _ => seen("/d/e", &[]),
        };
        let graphql = match self.body {
            1 => vec![operation(GraphqlKind::Query, &["a"])],
            2 => vec![
                operation(GraphqlKind::Query, &["a", "bc"]),
                operation(GraphqlKind::Mutation, &["ab"]),
            ],
            3 => vec![operation(GraphqlKind::Mutation, &["c"])],
            _ => vec![operation(GraphqlKind::Subscription, &[])],
        };
        let rpc = match self.body {
            5 => vec![call("initialize")],
            6 => vec![tool("a")],
            7 => vec![tool("ab"), call("x")],
            _ => vec![tool("a b")],
        };
        let body = match self.body {
            0 => Body::Unread,
            // Nobody reads the body of any other.
            _ if !matches!(self.method, "GET" | "POST" | "MESSAGE") => Body::Unread,
            1..=4 => Body::Graphql(&graphql),
            5..=8 => Body::Rpc(&rpc),
            _ => Body::Opaque,
        };
        let method = if self.method == "WEBSOCKET" { "GET" } else { self.method };
        let asked =
            Asked { method, ..ask("GET", &self.path) }.on(self.target).by(client).body(body);
        if self.method == "WEBSOCKET" {
            asked.handshake().passes(policy)
        } else {
            asked.passes(policy)
        }
    }
}

/// What half of the test saw.
#[derive(Default)]
struct Told {
    wider: usize,
    narrower: usize,
    doubtful: usize,
}

/// Fifty pairs of policies, each before 1,000 requests.
fn fifty_pairs(seed: u8) -> Told {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (policies, request) = (policies(), request());
    let mut told = Told::default();
    for _ in 0..50 {
        let (old, new) = policies.new_tree(&mut runner).unwrap().current();
        let (old_layers, new_layers) = (layers(&old), layers(&new));
        let found = diff(&old_layers, &new_layers).unwrap();
        let same = diff(&new_layers, &new_layers).unwrap();
        assert!(same.rows.is_empty(), "{new:?}");
        told.doubtful += usize::from(found.rows.iter().any(|row| row.change == Change::MayGain));
        let (policy_old, policy_new) =
            (Policy::compile(&old_layers, 0).unwrap(), Policy::compile(&new_layers, 0).unwrap());
        for _ in 0..1000 {
            let request = request.new_tree(&mut runner).unwrap().current();
            let (before, after) = (request.passes(&policy_old), request.passes(&policy_new));
            if after && !before {
                told.wider += 1;
                assert!(found.gains(), "{request:?}\nold {old:#?}\nnew {new:#?}");
            }
            if before && !after {
                told.narrower += 1;
                let lost = found.rows.iter().any(|row| row.change == Change::Lost);
                assert!(lost || found.gains(), "{request:?}\nold {old:#?}\nnew {new:#?}");
            }
        }
    }
    told
}

#[test]
fn whatever_only_the_new_policy_lets_through_is_a_gain() {
    let halves = std::thread::scope(|scope| {
        [1, 2].map(|seed| scope.spawn(move || fifty_pairs(seed))).map(|half| half.join().unwrap())
    });
    let sum = |of: fn(&Told) -> usize| halves.iter().map(of).sum::<usize>();
    // The test tells something: requests did differ, and doubt is the exception.
    let (wider, narrower) = (sum(|told| told.wider), sum(|told| told.narrower));
    assert!(wider > 2_000 && narrower > 2_000, "{wider} {narrower}");
    let doubtful = sum(|told| told.doubtful);
    // Most of these spell an escape beside a `?` or a class, as few policies do.
    assert!(doubtful < 50, "{doubtful} of 100 pairs were not decided");
}
