//! `policy check` finds what a reader would miss, and stays silent where there is nothing.

use portcullis::policy::Document;
use portcullis::policy::lint::{Checked, Finding, FindingCode, Severity, WrittenFor, lint};

fn findings_for(text: &str, written_for: WrittenFor) -> Vec<Finding> {
    let document = Document::parse(text, "p.yaml").unwrap_or_else(|error| panic!("{error}"));
    lint(&[Checked { document: &document, file: "p.yaml" }], written_for)
}

/// The findings of one endpoint, written in flow style, whose line is 5.
fn endpoint(flow: &str) -> Vec<Finding> {
    let text = format!(
        "version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - {flow}\n    binaries: [{{ path: /usr/bin/x }}]\n"
    );
    findings_for(&text, WrittenFor::Portcullis)
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn every_finding_has_a_line_a_sentence_and_a_fix() {
    for finding in endpoint("{ host: \"*.github.io\", port: 443, access: full }") {
        assert_eq!(finding.line, 5, "{finding:?}");
        assert!(!finding.what.is_empty() && !finding.fix.is_empty(), "{finding:?}");
        assert!(!finding.what.ends_with('.'), "{finding:?}");
    }
}

#[test]
fn a_narrow_policy_has_no_finding() {
    let flow = "{ host: docs.python.org, port: 443, protocol: rest, enforcement: enforce, rules: [{ allow: { method: GET, path: \"/3/**\" } }] }";
    assert_eq!(codes(&endpoint(flow)), Vec::<&str>::new());
}

#[test]
fn each_trap_is_found_in_its_endpoint() {
    for (flow, code) in [
        (
            "{ host: a.test, port: 443, rules: [{ allow: { method: GET, path: /x } }] }",
            "rules_without_protocol",
        ),
        ("{ host: a.test, port: 443, access: read-only }", "rules_without_protocol"),
        ("{ host: a.test, port: 443, access: full }", "full_without_protocol"),
        ("{ host: a.test, port: 443, access: full }", "unseen_http"),
        ("{ host: a.test, port: 8080 }", "unseen_http"),
        ("{ host: api.github.com, port: 443, protocol: rest, access: full }", "uploads_leak"),
        (
            "{ host: webhook.site, port: 443, protocol: rest, rules: [{ allow: { method: \"*\", path: \"/**\" } }] }",
            "uploads_leak",
        ),
        ("{ host: gist.github.com, port: 443 }", "uploads_leak"),
        (
            "{ host: api.openai.com, port: 443, protocol: rest, access: read-write }",
            "inference_host",
        ),
        (
            "{ host: \"*.anthropic.com\", port: 443, protocol: rest, access: read-only }",
            "inference_host",
        ),
        (
            "{ host: \"*.example.com\", port: 443, protocol: rest, access: read-only }",
            "wildcard_host",
        ),
        (
            "{ host: \"*.github.io\", port: 443, protocol: rest, access: read-only }",
            "shared_domain",
        ),
        (
            "{ host: \"*.s3.amazonaws.com\", port: 443, protocol: rest, access: read-only }",
            "shared_domain",
        ),
        ("{ host: \"**.co.uk\", port: 443, protocol: rest, access: read-only }", "shared_domain"),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, allowed_ips: [10.0.0.0/8] }",
            "wide_network",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, allowed_ips: [127.0.0.1] }",
            "network_never_opened",
        ),
        ("{ host: a.test, port: 443, tls: skip }", "domain_fronting"),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, tls: terminate }",
            "no_effect",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, enforcement: audit }",
            "audit_lets_through",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, path: /a/**, rules: [{ allow: { method: GET, path: /b } }] }",
            "never_matches",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: /a%2fb } }] }",
            "never_matches",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: full, deny_rules: [{ method: \"*\", path: \"/search?q=secret\" }] }",
            "never_matches",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: full, deny_rules: [{ method: \"*\", path: \"/**\", query: { \"utm_*\": \"*\" } }] }",
            "never_matches",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: /a } }, { allow: { method: websocket_text, path: /a } }] }",
            "never_matches",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: \"/**\" } }, { allow: { method: HEAD, path: /x } }] }",
            "shadowed",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: /x } }], deny_rules: [{ method: \"*\", path: \"/**\" }] }",
            "always_denied",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, deny_rules: [{ method: DELETE, path: \"/**\" }] }",
            "deny_overlaps_nothing",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, credential_signing: x, access: read-only }",
            "no_effect",
        ),
    ] {
        let found = endpoint(flow);
        assert!(codes(&found).contains(&code), "{code} is not in {:?} of {flow}", codes(&found));
    }
}

#[test]
fn a_narrower_endpoint_is_not_taken_for_a_trap() {
    for (flow, code) in [
        ("{ host: api.github.com, port: 443, protocol: rest, access: read-only }", "uploads_leak"),
        ("{ host: a.test, port: 6379, protocol: tcp }", "unseen_http"),
        (
            "{ host: \"*.example.com\", port: 443, protocol: rest, access: read-only }",
            "shared_domain",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-only, allowed_ips: [10.0.0.0/16] }",
            "wide_network",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, access: read-write, deny_rules: [{ method: POST, path: /x }] }",
            "deny_overlaps_nothing",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: \"/a/**\" } }], deny_rules: [{ method: GET, path: \"/*/secret\" }] }",
            "deny_overlaps_nothing",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: GET, path: /x, query: { a: b } } }, { allow: { method: GET, path: /x, query: { a: c } } }] }",
            "shadowed",
        ),
        (
            "{ host: a.test, port: 443, protocol: rest, deny_rules: [{ method: \"*\", path: \"/**\" }] }",
            "deny_overlaps_nothing",
        ),
    ] {
        let found = endpoint(flow);
        assert!(!codes(&found).contains(&code), "{code} is in {:?} of {flow}", codes(&found));
    }
}

#[test]
fn a_star_that_stops_short_is_found_with_the_path_that_was_meant() {
    let flow = "{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: POST, path: \"/repos/*/*/pulls/*/reviews\" } }], deny_rules: [{ method: POST, path: \"/repos/*/pulls/*/reviews\" }] }";
    let found = endpoint(flow);
    let finding = found.iter().find(|f| f.code == FindingCode::DenyOverlapsNothing).unwrap();
    assert!(finding.fix.contains("/repos/*/*/pulls/*/reviews"), "{finding:?}");
    assert_eq!(finding.rule, "e/endpoints[0]/deny_rules[0]");
}

#[test]
fn what_one_entry_says_is_held_against_the_others() {
    let text = "version: 1
network_policies:
  a:
    endpoints:
      - { host: a.test, port: 443, protocol: rest, access: read-only }
  b:
    endpoints:
      - { host: A.test, port: 443 }
    binaries: []
";
    let found = findings_for(text, WrittenFor::Portcullis);
    let at = |code: FindingCode| found.iter().find(|f| f.code == code).map(|f| f.line);
    assert_eq!(at(FindingCode::Shadowed), Some(8), "{found:#?}");
    assert_eq!(at(FindingCode::NeverMatches), Some(7), "{found:#?}");
    assert_eq!(at(FindingCode::AnyProcess), Some(4), "{found:#?}");
}

#[test]
fn messages_that_an_endpoint_beside_lets_through_are_found() {
    let found = |beside: &str, socket: &str| {
        let text = format!(
            "version: 1\nnetwork_policies:\n  a:\n    endpoints:\n      - {{ host: a.test, port: 443, {beside} }}\n      - {{ host: a.test, port: 443, protocol: websocket, {socket} }}\n"
        );
        let found = findings_for(&text, WrittenFor::Portcullis);
        let line = found.iter().find(|f| f.code == FindingCode::UnseenMessages).map(|f| f.line);
        assert!(line.is_none_or(|line| line == 6), "{found:#?}");
        line.is_some()
    };
    let rules =
        "rules: [{ allow: { method: GET, path: /ws } }, { allow: { operation_type: query } }]";
    for beside in [
        "protocol: rest, access: read-only",
        "protocol: rest, access: full, path: \"/w*\"",
        "protocol: rest, rules: [{ allow: { method: GET, path: \"/**\" } }]",
        "protocol: rest, rules: [{ allow: { method: \"*\", path: /ws } }]",
    ] {
        assert!(found(beside, rules), "{beside}");
        assert!(!found(beside, "access: read-write"), "it restricts no messages: {beside}");
    }
    let every = "protocol: rest, access: read-only";
    assert!(found(every, "path: \"/ws/**\", access: read-only"));
    for beside in [
        "protocol: rest, access: read-only, path: \"/api/**\"",
        "protocol: rest, rules: [{ allow: { method: POST, path: \"/**\" } }]",
        "protocol: rest, rules: [{ allow: { method: GET, path: /other } }]",
        "protocol: rest, deny_rules: [{ method: POST, path: /ws }]",
        "protocol: graphql, access: read-only",
    ] {
        assert!(!found(beside, rules), "{beside}");
    }
}

#[test]
fn a_deny_in_one_file_meets_the_allow_of_another() {
    let allow = "version: 1\nnetwork_policies:\n  a: { endpoints: [{ host: a.test, port: 443, protocol: rest, rules: [{ allow: { method: POST, path: /x } }] }] }\n";
    let deny = "version: 1\nnetwork_policies:\n  a: { endpoints: [{ host: \"*.test\", port: 443, protocol: rest, deny_rules: [{ method: POST, path: /x }] }] }\n";
    let deny = deny.replace("*.test", "a.test");
    let (allow, deny) = (
        Document::parse(allow, "allow.yaml").unwrap(),
        Document::parse(&deny, "deny.yaml").unwrap(),
    );
    let both = [
        Checked { document: &allow, file: "allow.yaml" },
        Checked { document: &deny, file: "deny.yaml" },
    ];
    let found = lint(&both, WrittenFor::Portcullis);
    assert!(!codes(&found).contains(&"deny_overlaps_nothing"), "{found:#?}");
    assert!(codes(&found).contains(&"always_denied"), "{found:#?}");
    assert!(codes(&found).contains(&"same_key"), "{found:#?}");
    let alone = lint(&both[1..], WrittenFor::Portcullis);
    assert!(codes(&alone).contains(&"deny_overlaps_nothing"), "{alone:#?}");
}

#[test]
fn a_file_for_openshell_says_what_it_means_otherwise_here() {
    let text = "version: 1
network_policies:
  a:
    endpoints:
      - { host: a.test, port: 443, protocol: rest, access: read-only }
      - { host: b.test, port: 443, access: read-only }
      - { host: db.internal, port: 443, protocol: rest, enforcement: enforce, access: full }
      - { host: host.openshell.internal, port: 8080, protocol: rest, enforcement: enforce, access: full }
      - { host: c.test, port: 443, protocol: rest, enforcement: enforce, access: full, request_body_credential_rewrite: true }
    binaries: [{ path: /usr/bin/x }]
";
    let found = findings_for(text, WrittenFor::Openshell);
    for (code, line) in [
        ("openshell_enforcement", 5),
        ("openshell_ignored_rules", 6),
        ("openshell_private_address", 7),
        ("openshell_host", 8),
        ("openshell_credentials", 9),
    ] {
        let here = found.iter().find(|f| f.code.as_str() == code);
        assert_eq!(here.map(|f| f.line), Some(line), "{code}: {found:#?}");
    }
    let plain = findings_for(text, WrittenFor::Portcullis);
    assert!(plain.iter().all(|f| !f.code.as_str().starts_with("openshell")), "{plain:#?}");
}

#[test]
fn other_programs_parts_are_noted_and_nothing_more() {
    let text = "version: 1\nfilesystem_policy: { read_only: [/usr] }\nlandlock: { compatibility: best_effort }\nprocess: { run_as_user: x }\nnetwork_policies: {}\n";
    let found = findings_for(text, WrittenFor::Portcullis);
    assert_eq!(codes(&found), ["says_nothing", "no_effect", "no_effect", "no_effect"]);
    assert!(found.iter().all(|f| f.severity == Severity::Note));
}

#[test]
fn every_real_policy_can_be_checked() {
    let corpus =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/openshell-policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            for finding in findings_for(&text, WrittenFor::Openshell) {
                assert!(finding.line > 0, "{finding:?}");
                assert_ne!(finding.severity, Severity::Error, "{finding:?}");
            }
            seen += 1;
        }
    }
    assert!(seen > 5);
}

#[test]
fn what_the_file_says_is_escaped() {
    let text = "version: 1\nnetwork_policies:\n  \"e\\e[2J\\u202e\": { endpoints: [{ host: a.test, port: 443 }] }\n";
    for finding in findings_for(text, WrittenFor::Portcullis) {
        let shown = format!("{}{}{}", finding.rule, finding.what, finding.fix);
        assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{shown:?}");
    }
}

/// The codes of what is found in the endpoints of one entry with `binaries`.
fn beside(endpoints: &[&str]) -> Vec<String> {
    let text = format!(
        "version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - {}\n    binaries: [{{ path: /usr/bin/x }}]\n",
        endpoints.join("\n      - ")
    );
    let found = findings_for(&text, WrittenFor::Portcullis);
    found.iter().map(|finding| format!("{} {}", finding.code.as_str(), finding.rule)).collect()
}

#[test]
fn rules_over_bodies_beside_a_post_that_passes_anyway() {
    let rest = |more: &str| {
        format!("{{ host: a.test, port: 443, protocol: rest, enforcement: enforce{more} }}")
    };
    let reads = ["access: read-only", "rules: [ { allow: { operation_type: query } } ]"];
    for access in reads {
        let graphql = format!(
            "{{ host: a.test, port: 443, path: /g, protocol: graphql, enforcement: enforce, {access} }}"
        );
        let found = |other: &str| beside(&[&graphql, &rest(other)]);
        let said = ["unseen_bodies e/endpoints[0]"];
        assert_eq!(found(", access: read-write"), said);
        assert_eq!(found(", rules: [ { allow: { method: POST, path: \"/**\" } } ]"), said);
        assert_eq!(found(", access: read-only"), Vec::<String>::new());
        assert_eq!(found(", path: /other, access: read-write"), Vec::<String>::new());
        assert_eq!(
            found(", rules: [ { allow: { method: POST, path: /x } } ]"),
            Vec::<String>::new()
        );
    }
    let mcp = "{ host: a.test, port: 443, path: /mcp, protocol: mcp, enforcement: enforce, rules: [ { allow: { tool: a } } ] }";
    assert_eq!(beside(&[mcp, &rest(", access: read-write")]), ["unseen_bodies e/endpoints[0]"]);
    let full = "{ host: a.test, port: 443, path: /mcp, protocol: mcp, enforcement: enforce, access: full }";
    assert_eq!(beside(&[full, &rest(", access: read-write")]), Vec::<String>::new());
    // Deny rules hold whoever allows.
    let denies = "{ host: a.test, port: 443, protocol: graphql, enforcement: enforce, deny_rules: [ { operation_type: mutation } ] }";
    assert_eq!(beside(&[denies, &rest(", access: full")]), Vec::<String>::new());
    // But those of a WebSocket's messages are about messages.
    let messages = "{ host: a.test, port: 443, path: /g, protocol: websocket, enforcement: enforce, access: read-write, deny_rules: [ { operation_type: mutation } ] }";
    let said = ["unseen_bodies e/endpoints[0]"];
    assert_eq!(beside(&[messages, &rest(", access: read-write")]), said);
    assert_eq!(beside(&[messages, &rest(", access: read-only")]), Vec::<String>::new());
    assert_eq!(beside(&[messages, &rest(", path: /other, access: full")]), Vec::<String>::new());
    assert_eq!(beside(&[messages, denies, &rest(", access: full")]), Vec::<String>::new());
}

#[test]
fn a_rule_about_a_tool_of_a_method_that_calls_none() {
    let mcp = |rules: &str| {
        beside(&[&format!(
            "{{ host: a.test, port: 443, protocol: mcp, enforcement: enforce, {rules} }}"
        )])
    };
    let deny = "rules: [ { allow: { method: \"*\" } } ], deny_rules: [ { method: prompts/get, params: { name: secret } } ]";
    assert_eq!(mcp(deny), ["never_matches e/endpoints[0]/deny_rules[0]"]);
    let allow = "rules: [ { allow: { method: prompts/get, tool: p } } ]";
    assert_eq!(mcp(allow), ["never_matches e/endpoints[0]/rules[0]"]);
    for method in ["tools/call", "tools/*", "\"*\""] {
        let allow = format!("rules: [ {{ allow: {{ method: {method}, tool: p }} }} ]");
        assert_eq!(mcp(&allow), Vec::<String>::new(), "{method}");
    }
}

#[test]
fn a_rule_that_only_looks_as_if_it_matched_says_what_would() {
    let says = |rule: &str| {
        let found = endpoint(&format!(
            "{{ host: a.test, port: 443, protocol: rest, access: full, deny_rules: [ {rule} ] }}"
        ));
        let never = found.iter().filter(|f| f.code.as_str() == "never_matches");
        never.map(|f| f.fix.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        says("{ method: GET, path: \"/search?q=a*&page=1\" }"),
        ["path: \"/search\", query: { q: \"a*\" }"]
    );
    // A `?` that is one, and keys that are meant as they stand.
    for rule in [
        "{ method: GET, path: \"/v?/items\" }",
        "{ method: GET, path: \"/a?/b=c\" }",
        "{ method: GET, path: \"/**\", query: { \"tags[]\": \"*\", q: \"a*\" } }",
    ] {
        assert_eq!(says(rule), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn what_is_not_inspected_beside_what_is() {
    let rest =
        "{ host: a.test, port: 443, protocol: rest, enforcement: enforce, access: read-only }";
    let tcp = "{ host: a.test, port: 443, protocol: tcp }";
    assert_eq!(beside(&[tcp]), ["unseen_http e/endpoints[0]"]);
    // What is neither TLS nor HTTP passes all the same: it is not for nothing.
    assert_eq!(beside(&[rest, tcp]), Vec::<String>::new());
    assert_eq!(beside(&[rest, "{ host: a.test, port: 443 }"]), ["shadowed e/endpoints[1]"]);
    // One without a host speaks for every name on its port (ADR 0030).
    let inside = "{ port: 443, allowed_ips: [10.0.5.0/24], protocol: rest, enforcement: enforce, access: read-only }";
    let skip = "{ host: a.test, port: 443, tls: skip }";
    assert!(beside(&[inside, skip]).contains(&"shadowed e/endpoints[1]".to_owned()));
    assert!(
        !beside(&[inside, "{ host: a.test, port: 8443, tls: skip }"])
            .iter()
            .any(|f| f.starts_with("shadowed"))
    );
    assert!(!beside(&[inside, rest]).iter().any(|f| f.starts_with("shadowed")));
}

#[test]
fn a_deny_rule_for_a_slash_that_another_endpoint_lets_come() {
    let allows = "{ host: a.test, port: 443, protocol: rest, enforcement: enforce, path: \"/npm/**\", access: full, allow_encoded_slash: true }";
    let denies = "{ host: a.test, port: 443, protocol: rest, enforcement: enforce, access: read-only, deny_rules: [ { method: \"*\", path: \"/npm/a%2Fb\" } ] }";
    assert_eq!(beside(&[allows, denies]), Vec::<String>::new());
    assert_eq!(beside(&[denies]), ["never_matches e/endpoints[0]/deny_rules[0]"]);
}
