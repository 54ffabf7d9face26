//! The law of bodies and messages: GraphQL, JSON-RPC, MCP, WebSocket.

use crate::policy_common::{self, ask, call, endpoint, operation, persisted, policy, tool};
use portcullis::policy::GraphqlKind::{Mutation, Query, Subscription};
use portcullis::policy::{
    Body, BodyLimits, BodyNeed, BodyProtocol, BodySource, GraphqlOperation, Policy, RpcCall,
};

fn graphql(policy: &Policy, operations: &[GraphqlOperation]) -> String {
    ask("POST", "/graphql").body(Body::Graphql(operations)).says(policy)
}

fn rpc(policy: &Policy, calls: &[RpcCall]) -> String {
    ask("POST", "/").body(Body::Rpc(calls)).says(policy)
}

const ISSUES: &str = r#"protocol: graphql, rules: [ { allow: { operation_type: query, fields: [viewer, "repo*"] } }, { allow: { operation_type: mutation, operation_name: "Create*" } } ], deny_rules: [ { operation_type: mutation, fields: ["delete*"] } ]"#;

#[test]
fn every_root_field_must_be_allowed_and_one_denied_field_denies() {
    let policy = endpoint(ISSUES);
    assert_eq!(graphql(&policy, &[operation(Query, &["viewer"])]), "allow e/endpoints[0]/rules[0]");
    let mixed = operation(Query, &["viewer", "secrets"]);
    assert_eq!(graphql(&policy, &[mixed]), "unknown operation_not_allowed e/endpoints[0]");
    let named = GraphqlOperation {
        name: Some("CreateIssue".to_owned()),
        ..operation(Mutation, &["createIssue"])
    };
    assert_eq!(graphql(&policy, std::slice::from_ref(&named)), "allow e/endpoints[0]/rules[1]");
    let worse = GraphqlOperation {
        fields: vec!["createIssue".to_owned(), "deleteRepo".to_owned()],
        ..named
    };
    assert_eq!(graphql(&policy, &[worse]), "deny denied_by_rule e/endpoints[0]/deny_rules[0]");
    let none = operation(Query, &[]);
    assert_eq!(graphql(&policy, &[none]), "unknown operation_not_allowed e/endpoints[0]");
}

#[test]
fn a_batch_passes_whole_or_not_at_all_and_an_empty_one_grants_nothing() {
    let policy = endpoint(ISSUES);
    let good = operation(Query, &["repository"]);
    assert!(graphql(&policy, &[good.clone(), good.clone()]).starts_with("allow"));
    let bad = operation(Subscription, &["viewer"]);
    assert!(graphql(&policy, &[good.clone(), bad]).starts_with("unknown operation_not_allowed"));
    let denied = operation(Mutation, &["deleteAll"]);
    assert!(graphql(&policy, &[good, denied]).starts_with("deny"));
    let without_denials = endpoint("protocol: graphql, access: full");
    assert_eq!(graphql(&without_denials, &[]), "unknown body_not_understood e/endpoints[0]");
}

#[test]
fn graphql_access_is_by_kind() {
    let kinds = [Query, Mutation, Subscription];
    for (access, allowed) in [("read-only", 1), ("read-write", 2), ("full", 3)] {
        let policy = endpoint(&format!("protocol: graphql, access: {access}"));
        for (i, kind) in kinds.into_iter().enumerate() {
            let says = graphql(&policy, &[operation(kind, &["x"])]);
            assert_eq!(says.starts_with("allow"), i < allowed, "{access} {kind:?}");
        }
    }
}

#[test]
fn a_persisted_query_is_what_it_is_registered_as_or_nothing() {
    let registry = r#"persisted_queries: allow_registered, graphql_persisted_queries: { abc: { operation_type: query, fields: [viewer] }, bad: { operation_type: mutation, fields: [deleteAll] } }"#;
    let policy = endpoint(&format!("{ISSUES}, {registry}"));
    assert!(graphql(&policy, &[persisted("abc")]).starts_with("allow"));
    assert!(graphql(&policy, &[persisted("bad")]).starts_with("deny denied_by_rule"));
    // Deny rules can't be held against what is not known.
    assert!(graphql(&policy, &[persisted("zzz")]).starts_with("deny persisted_query_unknown"));
    let open = endpoint("protocol: graphql, access: full");
    assert_eq!(
        graphql(&open, &[persisted("abc")]),
        "unknown persisted_query_unknown e/endpoints[0]"
    );
}

#[test]
fn a_body_that_is_not_understood_allows_nothing() {
    for protocol in ["graphql", "json-rpc", "mcp"] {
        for enforcement in ["enforce", "audit"] {
            let policy = endpoint(&format!(
                "protocol: {protocol}, access: full, enforcement: {enforcement}"
            ));
            let invalid = ask("POST", "/").body(Body::Invalid("not JSON"));
            assert_eq!(invalid.says(&policy), "unknown body_not_understood e/endpoints[0]");
            assert!(invalid.detail(&policy).ends_with("(not JSON)"));
        }
        let policy = endpoint(&format!("protocol: {protocol}, access: full"));
        assert!(!ask("POST", "/").passes(&policy), "{protocol}: a body that was not read");
    }
}

#[test]
fn a_body_that_hides_from_a_deny_rule_is_denied_even_where_another_endpoint_allows() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, protocol: rest, access: full } ] }
b: { endpoints: [ { host: x.test, port: 443, path: /rpc, protocol: json-rpc, deny_rules: [ { method: wipe } ] } ] }
"#,
    );
    let with = |body| ask("POST", "/rpc").body(body).says(&policy);
    let (read, wipe) = ([call("read")], [call("wipe")]);
    assert!(with(Body::Rpc(&read)).starts_with("allow a/"));
    assert!(with(Body::Rpc(&wipe)).starts_with("deny denied_by_rule b/"));
    assert!(with(Body::Invalid("not JSON")).starts_with("deny body_not_understood b/"));
    assert!(with(Body::Unread).starts_with("deny body_not_understood b/"));
    assert!(ask("POST", "/else").passes(&policy));
}

#[test]
fn json_rpc_methods_are_exact_and_responses_are_not_calls() {
    let policy = endpoint("protocol: json-rpc, rules: [ { allow: { method: reports.search } } ]");
    assert_eq!(rpc(&policy, &[call("reports.search")]), "allow e/endpoints[0]/rules[0]");
    assert_eq!(
        rpc(&policy, &[call("reports.delete")]),
        "unknown rpc_method_not_allowed e/endpoints[0]"
    );
    assert!(!rpc(&policy, &[call("reports.search"), call("x")]).starts_with("allow"));
    let response = RpcCall { method: None, tool: None, id: Some("1".to_owned()) };
    assert!(!rpc(&policy, &[response]).starts_with("allow"));
    assert!(!rpc(&policy, &[]).starts_with("allow"));
    assert!(!ask("GET", "/").passes(&policy));
    let all = endpoint(r#"protocol: json-rpc, rules: [ { allow: { method: "*" } } ]"#);
    assert!(rpc(&all, &[call("anything")]).starts_with("allow"));
}

const TOOLS: &str = r#"protocol: mcp, rules: [ { allow: { method: initialize } }, { allow: { method: tools/call, tool: { any: [search, "list_*"] } } } ], deny_rules: [ { method: tools/call, params: { name: list_secrets } } ]"#;

#[test]
fn mcp_tools_are_judged_by_name() {
    let policy = endpoint(TOOLS);
    assert_eq!(rpc(&policy, &[tool("search")]), "allow e/endpoints[0]/rules[1]");
    assert_eq!(rpc(&policy, &[tool("list_issues")]), "allow e/endpoints[0]/rules[1]");
    assert_eq!(rpc(&policy, &[tool("send")]), "unknown tool_not_allowed e/endpoints[0]");
    assert!(rpc(&policy, &[tool("list_secrets")]).starts_with("deny denied_by_rule"));
    assert_eq!(
        rpc(&policy, &[call("tools/list")]),
        "unknown rpc_method_not_allowed e/endpoints[0]"
    );
    assert!(!rpc(&policy, &[call("tools/call")]).starts_with("allow"), "no tool is named");
    assert!(rpc(&policy, &[call("initialize"), tool("send")]).starts_with("unknown"));
}

#[test]
fn mcp_responses_and_the_receiving_stream_pass_where_any_call_is_allowed() {
    let policy = endpoint(TOOLS);
    let response = RpcCall { method: None, tool: None, id: Some("1".to_owned()) };
    assert!(rpc(&policy, std::slice::from_ref(&response)).starts_with("allow"));
    assert!(ask("GET", "/").passes(&policy) && ask("DELETE", "/").passes(&policy));
    assert!(!ask("PUT", "/").passes(&policy));
    let nothing = endpoint("protocol: mcp");
    assert!(!rpc(&nothing, &[response]).starts_with("allow") && !ask("GET", "/").passes(&nothing));
}

#[test]
fn a_get_or_delete_of_mcp_with_a_body_is_not_without_a_call() {
    let policy = endpoint(TOOLS);
    for method in ["GET", "DELETE", "get"] {
        let asked = ask(method, "/");
        let need = asked.with(|intent| policy.body_need(intent)).map(|need| need.source);
        assert_eq!(need, Some(BodySource::Nowhere), "{method}");
        assert!(asked.passes(&policy), "{method}");
        let says = asked.body(Body::Invalid("there is a body")).says(&policy);
        assert_eq!(says, "deny body_not_understood e/endpoints[0]", "{method}");
        // Without a deny rule nothing is denied, and nothing allows it.
        let plain = endpoint("protocol: mcp, rules: [ { allow: { method: initialize } } ]");
        let says = ask(method, "/").body(Body::Invalid("there is a body")).says(&plain);
        assert_eq!(says, "unknown body_not_understood e/endpoints[0]", "{method}");
    }
}

#[test]
fn known_mcp_methods_do_not_widen_the_tools() {
    let known = "protocol: mcp, mcp: { allow_all_known_mcp_methods: true }";
    let policy = endpoint(known);
    assert!(rpc(&policy, &[call("resources/list")]).starts_with("allow"));
    assert!(rpc(&policy, &[tool("any")]).starts_with("allow"));
    assert!(!rpc(&policy, &[call("vendor/extension")]).starts_with("allow"));
    let narrowed = endpoint(&format!("{known}, rules: [ {{ allow: {{ tool: search }} }} ]"));
    assert!(rpc(&narrowed, &[tool("search")]).starts_with("allow"));
    assert!(!rpc(&narrowed, &[tool("any")]).starts_with("allow"));
    assert!(rpc(&narrowed, &[call("ping")]).starts_with("allow"));
}

#[test]
fn strict_tool_names_are_the_default() {
    let strict = endpoint(r#"protocol: mcp, rules: [ { allow: { method: tools/call } } ]"#);
    assert!(rpc(&strict, &[tool("a.b-c_1")]).starts_with("allow"));
    for odd in ["", "a b", "säge", &"x".repeat(129)] {
        assert!(!rpc(&strict, &[tool(odd)]).starts_with("allow"), "{odd:?}");
    }
    let loose = endpoint(
        r#"protocol: mcp, mcp: { strict_tool_names: false }, rules: [ { allow: { method: tools/call } } ]"#,
    );
    assert!(rpc(&loose, &[tool("a b")]).starts_with("allow"));
}

#[test]
fn a_websocket_endpoint_allows_the_handshake_and_judges_its_messages() {
    let policy = endpoint(
        r#"protocol: websocket, rules: [ { allow: { method: GET, path: "/ws/*" } }, { allow: { method: WEBSOCKET_TEXT, path: /ws/a } } ]"#,
    );
    let permit = ask("GET", "/ws/a").handshake().permit(&policy);
    assert!(permit.judges_messages());
    assert!(!ask("GET", "/ws/a").passes(&policy), "a plain GET is no handshake");
    assert!(!ask("GET", "/other").handshake().passes(&policy));
    let text = |path| ask("MESSAGE", path).body(Body::Opaque).says(&policy);
    assert_eq!(text("/ws/a"), "allow e/endpoints[0]/rules[1]");
    assert_eq!(text("/ws/b"), "unknown message_not_allowed e/endpoints[0]");
}

#[test]
fn websocket_access_reads_by_the_handshake_and_writes_by_messages() {
    for (access, writes) in [("read-only", false), ("read-write", true), ("full", true)] {
        let policy = endpoint(&format!("protocol: websocket, access: {access}"));
        let permit = ask("GET", "/").handshake().permit(&policy);
        assert_eq!(permit.judges_messages(), !writes);
        assert_eq!(ask("MESSAGE", "/").body(Body::Opaque).passes(&policy), writes);
    }
}

#[test]
fn a_denied_message_is_looked_for_whoever_allowed_the_handshake() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, access: read-only } ] }
b: { endpoints: [ { host: x.test, port: 443, protocol: websocket, deny_rules: [ { method: WEBSOCKET_TEXT, path: "/admin/**" } ] } ] }
"#,
    );
    assert!(ask("GET", "/admin/x").handshake().permit(&policy).judges_messages());
    assert!(ask("MESSAGE", "/admin/x").body(Body::Opaque).says(&policy).starts_with("deny"));
    assert!(ask("MESSAGE", "/x").body(Body::Opaque).passes(&policy));
}

#[test]
fn graphql_over_a_websocket_is_judged_by_operation() {
    let policy = endpoint(
        r#"protocol: websocket, rules: [ { allow: { method: "*", path: "/**" } }, { allow: { operation_type: subscription, fields: [ticks] } } ], deny_rules: [ { operation_type: mutation } ]"#,
    );
    let message = |body| ask("MESSAGE", "/").body(body).says(&policy);
    let ticks = [operation(Subscription, &["ticks"])];
    assert_eq!(message(Body::Graphql(&ticks)), "allow e/endpoints[0]/rules[1]");
    // A rule for any text does not allow an operation.
    let query = [operation(Query, &["x"])];
    assert_eq!(message(Body::Graphql(&query)), "unknown operation_not_allowed e/endpoints[0]");
    let mutation = [operation(Mutation, &["x"])];
    assert!(message(Body::Graphql(&mutation)).starts_with("deny"));
    assert!(message(Body::Opaque).starts_with("allow"), "connection_init and its kin");
    assert!(message(Body::Invalid("not JSON")).starts_with("deny body_not_understood"));
    assert!(message(Body::Unread).starts_with("deny body_not_understood"));
}

#[test]
fn frames_around_operations_pass_where_only_operations_are_ruled() {
    let policy = endpoint(
        r#"protocol: websocket, rules: [ { allow: { method: GET, path: "/**" } }, { allow: { operation_type: query } } ]"#,
    );
    assert!(ask("MESSAGE", "/").body(Body::Opaque).passes(&policy));
    assert!(!ask("MESSAGE", "/").body(Body::Unread).passes(&policy));
    assert!(!ask("MESSAGE", "/").body(Body::Invalid("x")).passes(&policy));
}

#[test]
fn only_what_an_endpoint_would_look_into_is_read() {
    let need = |policy: &Policy, asked: policy_common::Asked<'_>| {
        asked.with(|intent| policy.body_need(intent))
    };
    let graphql = endpoint("protocol: graphql, access: full, path: /graphql");
    let expected =
        BodyNeed { protocol: BodyProtocol::Graphql, source: BodySource::Body, limit: 64 * 1024 };
    assert_eq!(need(&graphql, ask("POST", "/graphql")), Some(expected));
    assert_eq!(need(&graphql, ask("POST", "/other")), None);
    assert_eq!(need(&graphql, ask("GET", "/graphql")), None);
    assert_eq!(need(&graphql, ask("POST", "/graphql").on("y.test:443")), None);
    let in_query = BodyNeed { source: BodySource::Query, ..expected };
    assert_eq!(need(&graphql, ask("GET", "/graphql?query=%7Bviewer%7D")), Some(in_query));
    let sized = endpoint("protocol: graphql, access: full, graphql_max_body_bytes: 1000");
    assert_eq!(need(&sized, ask("POST", "/")), Some(BodyNeed { limit: 1000, ..expected }));
    let limits = BodyLimits { graphql: 1, rpc: 2 };
    let mcp = endpoint("protocol: mcp").with_body_limits(limits);
    let protocol = BodyProtocol::Rpc { mcp: true, strict_tool_names: true };
    assert_eq!(
        need(&mcp, ask("POST", "/")),
        Some(BodyNeed { protocol, source: BodySource::Body, limit: 2 })
    );
    assert_eq!(need(&mcp, ask("POST", "/").handshake()), None);
    assert_eq!(need(&mcp, ask("GET", "/").handshake()), None);
    assert_eq!(need(&mcp, ask("HEAD", "/")), None);
    assert_eq!(need(&endpoint("access: full"), ask("POST", "/")), None);
    let socket = endpoint("protocol: websocket, rules: [ { allow: { operation_type: query } } ]");
    assert_eq!(need(&socket, ask("MESSAGE", "/")).map(|n| n.protocol), Some(expected.protocol));
    assert_eq!(need(&endpoint("protocol: websocket, access: full"), ask("MESSAGE", "/")), None);
}

#[test]
fn graphql_in_the_query_of_a_get_is_judged_like_a_body() {
    let policy = endpoint("protocol: graphql, access: read-only");
    let get = ask("GET", "/graphql?query=x");
    assert!(get.clone().body(Body::Graphql(&[operation(Query, &["x"])])).passes(&policy));
    assert!(!get.clone().body(Body::Graphql(&[operation(Mutation, &["x"])])).passes(&policy));
    assert!(!get.passes(&policy));
    assert!(!ask("GET", "/graphql").passes(&policy), "a GET without an operation");
}

#[test]
fn no_method_carries_a_denied_operation_past_the_rule_that_denies_it() {
    let beside = |denying: &str, access: &str| {
        policy(&format!(
            r#"
a: {{ endpoints: [ {{ host: x.test, port: 443, {access} }} ] }}
b: {{ endpoints: [ {{ host: x.test, port: 443, path: /api, {denying} }} ] }}
"#
        ))
    };
    let all = "protocol: rest, access: full";
    let rest = r#"protocol: rest, rules: [ { allow: { method: "*", path: "/**" } } ]"#;
    for (denying, ends_session) in [
        ("protocol: graphql, deny_rules: [ { operation_type: mutation } ]", false),
        ("protocol: json-rpc, deny_rules: [ { method: send } ]", false),
        ("protocol: mcp, deny_rules: [ { method: tools/call, params: { name: send } } ]", true),
    ] {
        for access in [all, rest] {
            let policy = beside(denying, access);
            for method in ["PUT", "PATCH", "QUERY", "put", "DELETE", "X"] {
                let says = ask(method, "/api").says(&policy);
                match ends_session && method == "DELETE" {
                    true => assert!(says.starts_with("allow"), "{denying}: {says}"),
                    false => {
                        assert_eq!(says, "deny body_not_understood b/endpoints[0]", "{method}");
                    }
                }
                assert!(ask(method, "/other").passes(&policy), "{method}: out of its scope");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(ask(method, "/api").passes(&policy), "{denying}: {method}");
            }
        }
    }
    for denying in [
        "protocol: graphql, deny_rules: [ { operation_type: mutation } ]",
        "protocol: json-rpc, deny_rules: [ { method: send } ]",
    ] {
        let policy = beside(denying, all);
        for method in ["GET", "HEAD", "OPTIONS"] {
            let asked = ask(method, "/api");
            let need = asked.with(|intent| policy.body_need(intent)).map(|need| need.source);
            assert_eq!(need, Some(BodySource::Nowhere), "{method}");
            let says = asked.body(Body::Invalid("there is a body")).says(&policy);
            assert_eq!(says, "deny body_not_understood b/endpoints[0]", "{method}");
        }
    }
    // Without a deny rule there is nothing to hide.
    assert!(ask("PUT", "/api").passes(&beside("protocol: graphql, access: read-only", all)));
}

#[test]
fn a_query_string_speaks_graphql_however_its_names_are_spelled() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, protocol: rest, access: full } ] }
b: { endpoints: [ { host: x.test, port: 443, protocol: graphql, deny_rules: [ { operation_type: mutation } ] } ] }
"#,
    );
    for query in [
        "query=x",
        "Query=x",
        "QUERY=x",
        "q%75ery=x",
        "+query=x",
        "query[]=x",
        "[query]=x",
        "a=1;query=x",
        "queryId=1",
        "query_id=1",
        "variables={}",
        "doc_id=1",
        "documentId=1",
        "Extensions={}",
        "operation-name=x",
        "sha256Hash=1",
        "a&id=7",
    ] {
        let path = format!("/graphql?{query}");
        let need = ask("GET", &path).with(|intent| policy.body_need(intent)).map(|n| n.source);
        assert_eq!(need, Some(BodySource::Query), "{query}");
        for method in ["GET", "HEAD", "OPTIONS"] {
            let says = ask(method, &path).says(&policy);
            assert_eq!(says, "deny body_not_understood b/endpoints[0]", "{method} {query}");
        }
    }
    for query in ["", "page=2", "queries=1", "q=query", "a=id"] {
        assert!(ask("GET", &format!("/graphql?{query}")).passes(&policy), "{query}");
    }
}
