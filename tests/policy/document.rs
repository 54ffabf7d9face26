//! The file: what loads, what is refused, and where the mistake is shown.

use portcullis::policy::{Document, LoadError, LoadOptions};

fn refused(text: &str) -> LoadError {
    match Document::parse(text, "p.yaml") {
        Err(error) => error,
        Ok(_) => panic!("it loads:\n{text}"),
    }
}

/// One endpoint, its keys in flow style.
fn file(endpoint: &str) -> String {
    format!("version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - {{ {endpoint} }}\n")
}

#[test]
fn a_mistake_is_shown_where_it_stands() {
    let text = "version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - host: \"*\"\n        port: 443\n";
    let shown = refused(text).to_string();
    let expected = "p.yaml:5:15: the host \"*\": a bare wildcard allows every host; name the hosts, or use one like \"*.example.com\"
     3 |   e:
     4 |     endpoints:
>    5 |       - host: \"*\"
       |               ^
     6 |         port: 443
  fix: \"*.example.com\" (one label), \"**.example.com\" (one or more), \"api-*.example.com\"";
    assert_eq!(shown, expected);
}

#[test]
fn what_serde_refuses_is_shown_where_it_stands_too() {
    for (text, line, word) in [
        ("version: 1\nnetwork_policy: {}\n", 2, "network_policy"),
        ("version: 1\nnetwork_policies:\n  a: {}\n  a: {}\n", 4, "duplicate"),
        (
            "version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - host: x.test\n        port: https\n",
            6,
            "https",
        ),
        ("version: 1\nnetwork_policies: [\n", 2, "keys with values"),
    ] {
        let error = refused(text);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.mistakes[0].line, line, "{error}");
        assert!(error.to_string().starts_with("p.yaml:"), "{error}");
    }
}

#[test]
fn every_mistake_is_listed_in_the_order_of_the_file() {
    let error = refused(
        "version: 2\nnetwork_policies:\n  e:\n    endpoints:\n      - { host: \"*.com\", port: 443 }\n      - { host: x.test, port: 443, rules: [] }\n",
    );
    let lines: Vec<u32> = error.mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [1, 5, 6]);
}

#[test]
fn what_a_file_says_cannot_paint_the_terminal() {
    let error = refused("version: 1\nnetwork_policies:\n  \"\\e[31m\": { colour: \"\u{202e}\" }\n");
    assert!(error.to_string().chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{error}");
}

#[test]
fn endpoints_that_mean_nothing_or_too_much_are_refused() {
    for endpoint in [
        r#"host: "*", port: 443"#,
        r#"host: "**", port: 443"#,
        r#"host: "*.com", port: 443"#,
        r#"host: "**.com", port: 443"#,
        r#"host: "api-*.com", port: 443"#,
        r#"host: "*.*.com", port: 443"#,
        r#"host: "**.*.com", port: 443"#,
        r#"host: "api.*.com", port: 443"#,
        r#"host: "api.v*.x.test", port: 443"#,
        r#"host: "api.**.x.test", port: 443"#,
        r#"host: "a.b.*", port: 443"#,
        r#"host: "a?.x.test", port: 443"#,
        r#"host: "http://x.test", port: 443"#,
        r#"host: "x.test:443", port: 443"#,
        r#"host: "127.1", port: 443"#,
        r#"host: "", port: 443"#,
        r#"host: policy.local, port: 80"#,
        r#"host: INFERENCE.local, port: 80"#,
        r#"port: 443"#,
        r#"port: 443, allowed_ips: []"#,
        r#"host: x.test"#,
        r#"host: x.test, port: 0"#,
        r#"host: x.test, port: 70000"#,
        r#"host: x.test, port: 443, ports: [443]"#,
        r#"host: x.test, ports: []"#,
        r#"host: x.test, port: 443, allowed_ips: [10.0.0.0/33]"#,
        r#"host: x.test, port: 443, path: api"#,
        r#"host: x.test, port: 443, path: "/a/../b""#,
        r#"host: x.test, port: 443, protocol: smtp"#,
        r#"host: x.test, port: 443, access: write"#,
        r#"host: x.test, port: 443, access: full, rules: [ { allow: { method: GET, path: /a } } ]"#,
        r#"host: x.test, port: 443, tls: skip, access: read-only"#,
        r#"host: x.test, port: 443, tls: skip, protocol: rest, access: full"#,
        r#"host: x.test, port: 443, protocol: tcp, path: /a"#,
        r#"host: x.test, port: 443, protocol: tcp, access: full"#,
        r#"host: x.test, port: 443, protocol: sql"#,
        r#"host: x.test, port: 443, protocol: mcp, access: read-only"#,
        r#"host: x.test, port: 443, surprise: true"#,
    ] {
        refused(&file(endpoint));
    }
}

#[test]
fn a_key_without_a_value_is_not_no_rules() {
    for endpoint in [
        "rules: ",
        "rules: null",
        "deny_rules: null",
        "access: null",
        "protocol: null",
        "host: null",
        "path: null",
        "tls: null",
        "enforcement: null",
        "allowed_ips: null",
    ] {
        refused(&file(
            &format!("host: x.test, port: 443, {endpoint}")
                .replace("host: x.test, port: 443, host", "port: 443, host"),
        ));
    }
    refused("version: 1\nnetwork_policies:\n  e:\n    endpoints: []\n    binaries:\n");
}

#[test]
fn rules_that_are_not_whole_are_refused() {
    let rest =
        |rule: &str| file(&format!("host: x.test, port: 443, rules: [ {{ allow: {rule} }} ]"));
    for rule in [
        "{ path: /a }",
        "{ method: GET }",
        "{}",
        "{ method: GET, path: a }",
        r#"{ method: GET, path: "/[a" }"#,
        r#"{ method: GET, path: "/{a" }"#,
        "{ method: GET, path: /a, query: { a: 1 } }",
        "{ method: GET, path: /a, query: { a: [x] } }",
        "{ method: GET, path: /a, query: { a: { any: [] } } }",
        "{ method: GET, path: /a, query: null }",
        "{ method: GET, path: /a, tool: x }",
        "{ operation_type: query }",
        "{ method: GET, path: /a, quiet: true }",
        "{ method: GET PUT, path: /a }",
        r#"{ method: "", path: /a }"#,
        r#"{ method: "GET,PUT", path: /a }"#,
        r#"{ method: "{GET,PUT}", path: /a }"#,
        r#"{ method: "P*", path: /a }"#,
        r#"{ method: "**", path: /a }"#,
        r#"{ method: "!GET", path: /a }"#,
        r#"{ method: "GET|PUT", path: /a }"#,
    ] {
        refused(&rest(rule));
    }
    // A deny rule that never matches denies nothing.
    let error = refused(&file(
        r#"host: x.test, port: 443, access: full, deny_rules: [ { method: "POST,DELETE", path: "/**" } ]"#,
    ));
    let mistake = &error.mistakes[0];
    assert!(
        mistake.problem.contains("POST,DELETE") && mistake.right.contains("its own"),
        "{error}"
    );
    for (protocol, rule) in [
        ("graphql", "{ method: GET, path: /a }"),
        ("graphql", "{ fields: [a] }"),
        ("graphql", "{ operation_type: query, fields: [] }"),
        ("graphql", "{ operation_type: all }"),
        ("json-rpc", r#"{ method: "a.*" }"#),
        ("json-rpc", r"{ method: 'Admin\delete' }"),
        ("json-rpc", "{ method: a, tool: b }"),
        ("mcp", "{ method: a, path: /b }"),
        ("mcp", "{}"),
        ("mcp", "{ tool: a, params: { name: b } }"),
        ("websocket", "{ method: GET }"),
        ("websocket", "{ method: GET, path: /a, operation_type: query }"),
    ] {
        refused(&file(&format!(
            "host: x.test, port: 443, protocol: {protocol}, rules: [ {{ allow: {rule} }} ]"
        )));
    }
}

#[test]
fn all_that_openshell_knows_is_understood() {
    let text = r#"
version: 1
filesystem_policy: { include_workdir: true, read_only: [/usr], read_write: [/tmp] }
landlock: { compatibility: best_effort }
process: { run_as_user: sandbox, run_as_group: "1500" }
network_middlewares:
  redact: { middleware: regex, order: 10, on_error: fail_open, config: { mode: [redact] }, endpoints: { include: ["*.x.test"], exclude: [y.x.test] } }
network_policies:
  e:
    name: everything
    endpoints:
      - host: "api-*.x.test"
        ports: [443, 8443]
        path: "/**"
        protocol: graphql
        tls: passthrough
        enforcement: audit
        allowed_ips: [10.0.0.1, "fd00::/8"]
        persisted_queries: allow_registered
        graphql_persisted_queries: { abc: { operation_type: query, operation_name: A, fields: [a] } }
        graphql_max_body_bytes: 1000
        rules: [ { allow: { operation_type: "*", operation_name: "A*" } } ]
        deny_rules: [ { operation_type: mutation, fields: ["delete*"], quiet: true }, { method: POST, path: /admin } ]
        credential_binding: { provider: gcp }
        request_body_credential_rewrite: true
        websocket_credential_rewrite: true
        allow_uninspected_credentials: true
        credential_signing: sigv4
        signing_service: s3
        signing_region: eu-west-1
      - { host: m.x.test, port: 443, protocol: mcp, mcp: { max_body_bytes: 1, strict_tool_names: false, allow_all_known_mcp_methods: true, versions: ["2025-11-25"] }, rules: [ { allow: { params.name: a } } ] }
      - { host: r.x.test, port: 443, protocol: json-rpc, json_rpc: { max_body_bytes: 1 }, rules: [ { allow: { method: "*" } } ], allow_encoded_slash: true }
      - { host: s.x.test, port: 3306, protocol: sql, enforcement: audit, rules: [ { allow: { command: SELECT } } ] }
      - { host: t.x.test, port: 443, tls: skip, allow_ech: true }
    binaries: [ { path: "/usr/bin/*", harness: true } ]
"#;
    let document = Document::parse(text, "p.yaml").unwrap_or_else(|error| panic!("{error}"));
    let again = serde_json::to_string(&document).unwrap();
    let reread = Document::parse(&again, "again").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(serde_json::to_string(&reread).unwrap(), again, "what is written reads the same");
}

#[test]
fn a_middleware_that_fails_closed_is_an_error_unless_ignored() {
    let text = "version: 1\nnetwork_middlewares:\n  redact: { middleware: regex }\n";
    assert_eq!(refused(text).mistakes[0].line, 3);
    let options = LoadOptions { ignore_middlewares: true };
    assert!(Document::parse_with(text, "p.yaml", options).is_ok());
}

#[test]
fn a_preset_needs_no_version() {
    assert!(Document::parse("preset: { name: a }\nnetwork_policies: {}\n", "p.yaml").is_ok());
    refused("network_policies: {}\n");
    refused("");
}

#[test]
fn the_schema_knows_the_document() {
    let schema = schemars::schema_for!(Document);
    let validator = jsonschema::validator_for(schema.as_value()).unwrap();
    let good = serde_json::json!({"version": 1, "network_policies": {"e": {"endpoints": [
        {"host": "x.test", "port": 443, "rules": [{"allow": {"method": "GET", "path": "/a", "query": {"q": {"any": ["a"]}}}}]}]}}});
    assert!(validator.is_valid(&good));
    let bad = serde_json::json!({"version": 1, "network_policies": {"e": {"endpoint": []}}});
    assert!(!validator.is_valid(&bad));
}
