//! The law of judging, beyond what OpenShell's decisions know: unknown against deny, what speaks
//! for a request, what is near.

use crate::policy_common::{ask, endpoint, layer, policy, seen, target};
use portcullis::addr::{Path, PathError};
use portcullis::policy::{Client, Layer, Policy, TunnelVerdict, Verdict};

const GITHUB: &str = r#"
github:
  endpoints:
    - host: api.github.com
      port: 443
      access: read-only
      deny_rules:
        - { method: GET, path: "/repos/secret/**" }
        - { method: POST, path: "/telemetry", quiet: true }
  binaries:
    - { path: /usr/bin/gh }
"#;

#[test]
fn what_nothing_names_is_unknown_and_not_denied() {
    let policy = policy(GITHUB);
    let gh = seen("/usr/bin/gh", &[]);
    let on = |target| ask("GET", "/").on(target).by(gh.clone()).says(&policy);
    assert_eq!(on("other.test:443"), "unknown host_unknown -");
    assert_eq!(on("api.github.com:8443"), "unknown port_not_allowed github/endpoints[0]");
    assert_eq!(on("api.github.com:443"), "allow github/endpoints[0]/access");
    assert_eq!(on("1.2.3.4:443"), "unknown host_unknown -");
}

#[test]
fn a_verdict_says_what_came_nearest() {
    let policy = policy(GITHUB);
    let gh = seen("/usr/bin/gh", &[]);
    let issue = ask("POST", "/repos/a/b/issues").on("api.github.com:443").by(gh.clone());
    assert_eq!(
        issue.detail(&policy),
        "POST /repos/a/b/issues is not allowed on api.github.com:443 (GET, HEAD and OPTIONS are)"
    );
    assert_eq!(issue.says(&policy), "unknown method_not_allowed github/endpoints[0]");
    assert_eq!(
        issue.clone().on("api.github.com:8443").detail(&policy),
        "api.github.com is allowed on port 443, not 8443"
    );
    assert_eq!(
        issue.clone().by(seen("/usr/bin/curl", &[])).detail(&policy),
        "api.github.com:443 is allowed for /usr/bin/gh, this is /usr/bin/curl"
    );
    assert_eq!(issue.on("evil.test:443").detail(&policy), "no rule names evil.test");
}

#[test]
fn a_path_and_a_query_miss_are_told_apart() {
    let policy = endpoint(
        r#"rules: [ { allow: { method: GET, path: "/a/*", query: { state: "open*" } } }, { allow: { method: POST, path: /b } } ]"#,
    );
    assert_eq!(ask("GET", "/a/1?state=open").says(&policy), "allow e/endpoints[0]/rules[0]");
    assert_eq!(ask("HEAD", "/a/1?state=open").says(&policy), "allow e/endpoints[0]/rules[0]");
    assert_eq!(ask("post", "/b").says(&policy), "allow e/endpoints[0]/rules[1]");
    let says = |method, path| ask(method, path).says(&policy);
    assert_eq!(says("GET", "/a/1?state=closed"), "unknown query_not_allowed e/endpoints[0]");
    assert_eq!(says("GET", "/a/1"), "unknown query_not_allowed e/endpoints[0]");
    assert_eq!(
        says("GET", "/a/1?state=open&state=all"),
        "unknown query_not_allowed e/endpoints[0]"
    );
    assert_eq!(says("GET", "/c"), "unknown path_not_allowed e/endpoints[0]");
    assert_eq!(says("GET", "/b"), "unknown method_not_allowed e/endpoints[0]");
    assert_eq!(
        ask("GET", "/c").detail(&policy),
        "GET /c is not allowed on x.test:443 (/a/* and /b are)"
    );
}

#[test]
fn untrusted_text_in_a_sentence_is_escaped_and_cut() {
    let policy = endpoint("access: read-only");
    let method = format!("X\u{1b}[31m{}", "y".repeat(5000));
    let detail = ask(&method, "/").detail(&policy);
    assert!(detail.starts_with("X\\u{1b}[31m") && detail.len() < 1000, "{detail}");
}

#[test]
fn a_deny_rule_wins_from_whatever_entry_it_stands_in() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, access: full, protocol: rest } ] }
b: { endpoints: [ { host: "*.x.test", port: 443, access: full }, { host: x.test, port: 443, deny_rules: [ { method: DELETE, path: "/**" } ] } ] }
"#,
    );
    assert_eq!(ask("GET", "/").says(&policy), "allow a/endpoints[0]/access");
    assert_eq!(
        ask("DELETE", "/1").says(&policy),
        "deny denied_by_rule b/endpoints[1]/deny_rules[0]"
    );
}

#[test]
fn a_deny_rule_of_another_process_does_not_cover() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, access: full, protocol: rest } ] }
b:
  endpoints: [ { host: x.test, port: 443, deny_rules: [ { method: "*", path: "/**" } ] } ]
  binaries: [ { path: /usr/bin/curl } ]
"#,
    );
    assert!(ask("GET", "/").by(seen("/usr/bin/git", &[])).passes(&policy));
    assert!(!ask("GET", "/").by(seen("/usr/bin/curl", &[])).passes(&policy));
    assert!(!ask("GET", "/").by(seen("/x", &["/y", "/usr/bin/curl"])).passes(&policy));
}

#[test]
fn quiet_travels_with_the_denial() {
    let policy = policy(GITHUB);
    let gh = seen("/usr/bin/gh", &[]);
    let quiet = |method, path| match ask(method, path)
        .on("api.github.com:443")
        .by(gh.clone())
        .judged(&policy)
    {
        Verdict::Deny(denial) => denial.quiet,
        other => panic!("{other:?}"),
    };
    assert!(quiet("POST", "/telemetry"));
    assert!(!quiet("GET", "/repos/secret/x"));
}

#[test]
fn an_uninspected_endpoint_counts_only_where_no_inspected_one_covers() {
    let policy = policy(
        r#"
l4: { endpoints: [ { host: x.test, ports: [443, 8443] } ] }
rest: { endpoints: [ { host: x.test, port: 443, path: "/api/**", access: read-only } ] }
"#,
    );
    assert_eq!(ask("GET", "/api/1").says(&policy), "allow rest/endpoints[0]/access");
    // Whatever its path: the inspected endpoint speaks for the host.
    assert_eq!(ask("GET", "/other").says(&policy), "unknown path_not_allowed rest/endpoints[0]");
    assert_eq!(ask("BYTES", "/").says(&policy), "unknown protocol_not_allowed l4/endpoints[0]");
    assert_eq!(ask("PUT", "/other").on("x.test:8443").says(&policy), "allow l4/endpoints[0]");
    assert_eq!(ask("BYTES", "/").on("x.test:8443").says(&policy), "allow l4/endpoints[0]");
}

#[test]
fn full_access_without_a_protocol_is_l4_and_partial_access_is_rest() {
    assert!(ask("BYTES", "/").passes(&endpoint("access: full")));
    assert!(ask("BREW", "/x").passes(&endpoint("access: full")));
    assert!(!ask("BYTES", "/").passes(&endpoint("access: full, protocol: rest")));
    assert!(ask("BREW", "/x").passes(&endpoint("access: full, protocol: rest")));
    assert!(!ask("BYTES", "/").passes(&endpoint("access: read-write")));
    assert!(ask("PATCH", "/").passes(&endpoint("access: read-write")));
    assert!(!ask("DELETE", "/").passes(&endpoint("access: read-write")));
    // Deny rules need eyes: `access: full` beside them is rest too.
    let denying = endpoint(r#"access: full, deny_rules: [ { method: PUT, path: "/**" } ]"#);
    assert!(!ask("BYTES", "/").passes(&denying));
    assert!(ask("GET", "/").passes(&denying) && !ask("PUT", "/").passes(&denying));
}

#[test]
fn audit_lets_through_what_no_rule_allows_but_nothing_that_is_denied() {
    let policy = endpoint(
        r#"enforcement: audit, rules: [ { allow: { method: GET, path: /a } } ], deny_rules: [ { method: DELETE, path: "/**" } ]"#,
    );
    assert_eq!(ask("GET", "/a").says(&policy), "allow e/endpoints[0]/rules[0]");
    assert_eq!(ask("PUT", "/b").says(&policy), "audit e/endpoints[0]");
    assert_eq!(ask("PUT", "/b").code(&policy).as_str(), "audited");
    assert!(ask("DELETE", "/b").says(&policy).starts_with("deny denied_by_rule"));
}

#[test]
fn a_process_that_cannot_be_seen_matches_no_binaries_unless_ignored() {
    let policy = policy(GITHUB);
    let on = |client| ask("GET", "/").on("api.github.com:443").by(client).says(&policy);
    assert_eq!(on(Client::Unseen), "unknown process_unknown github/endpoints[0]");
    assert_eq!(on(Client::Ignored), "allow github/endpoints[0]/access");
    assert_eq!(on(seen("/bin/sh", &["/usr/bin/gh"])), "allow github/endpoints[0]/access");
    assert_eq!(on(seen("/bin/sh", &[])), "unknown process_not_allowed github/endpoints[0]");
}

#[test]
fn an_empty_list_of_binaries_admits_no_process() {
    let policy = policy("e: { endpoints: [ { host: x.test, port: 443 } ], binaries: [] }");
    assert!(!ask("GET", "/").by(seen("/usr/bin/gh", &[])).passes(&policy));
}

#[test]
fn an_encoded_slash_passes_only_where_the_endpoint_keeps_it() {
    let strict = endpoint("access: read-only");
    assert_eq!(ask("GET", "/@a%2Fb").says(&strict), "deny encoded_slash -");
    let keeps = endpoint("access: read-only, allow_encoded_slash: true");
    assert_eq!(ask("GET", "/@a%2fb").says(&keeps), "allow e/endpoints[0]/access");
    assert_eq!(ask("PUT", "/@a%2fb").says(&keeps), "unknown method_not_allowed e/endpoints[0]");
}

#[test]
fn an_encoded_slash_hides_nothing_from_a_deny_rule() {
    let policy = endpoint(
        r#"access: full, allow_encoded_slash: true, deny_rules: [ { method: "*", path: "/admin/**" } ]"#,
    );
    assert!(ask("GET", "/x%2Fy").passes(&policy));
    assert!(ask("GET", "/admin%2Fusers").says(&policy).starts_with("deny denied_by_rule"));
    let dots = Path::parse("/x%2F..%2Fadmin");
    assert_eq!(dots.unwrap_err(), PathError::DotSegment, "no such path comes to be judged");
}

#[test]
fn every_reading_of_a_path_must_pass() {
    let policy = endpoint(
        r#"rules: [ { allow: { method: GET, path: "/a/**" } } ], deny_rules: [ { method: "*", path: "/a/secret" } ]"#,
    );
    assert!(ask("GET", "/a/b").passes(&policy));
    assert!(ask("GET", "/a//b").passes(&policy), "both readings are under /a");
    for path in ["/a//secret", "/a/secret;x=1", "//a/secret"] {
        assert!(ask("GET", path).says(&policy).starts_with("deny"), "{path}");
    }
    // As it came, it is not under /a.
    assert!(!ask("GET", "//a/b").passes(&policy));
    // Stripped, it is /a, which the rule does not allow.
    let one = endpoint(r#"rules: [ { allow: { method: GET, path: "/a;*" } } ]"#);
    assert!(!ask("GET", "/a;x").passes(&one));
}

#[test]
fn a_websocket_handshake_on_a_rest_endpoint_is_its_get() {
    let policy = endpoint("access: read-only");
    assert!(ask("GET", "/ws").handshake().passes(&policy));
    assert!(ask("CONNECT", "/ws").handshake().passes(&policy), "RFC 8441 spells it CONNECT");
    assert!(!ask("GET", "/ws").handshake().permit(&policy).judges_messages());
    let post = endpoint(r#"rules: [ { allow: { method: POST, path: "/**" } } ]"#);
    assert!(!ask("POST", "/ws").handshake().passes(&post));
}

#[test]
fn tcp_allows_bytes_and_nothing_else() {
    let policy = endpoint("protocol: tcp");
    assert_eq!(ask("BYTES", "/").says(&policy), "allow e/endpoints[0]");
    assert_eq!(ask("GET", "/").says(&policy), "unknown protocol_not_allowed e/endpoints[0]");
    assert!(policy.covers_tcp(&Client::Unseen, &target("x.test:443")));
    assert!(!policy.covers_tcp(&Client::Unseen, &target("x.test:444")));
    assert!(!endpoint("access: full").covers_tcp(&Client::Unseen, &target("x.test:443")));
}

#[test]
fn sql_is_audited_and_never_allowed() {
    let policy = endpoint("protocol: sql, enforcement: audit");
    assert_eq!(ask("BYTES", "/").says(&policy), "audit e/endpoints[0]");
}

#[test]
fn an_endpoint_without_a_host_takes_any_name_and_binds_its_addresses() {
    let policy = policy("e: { endpoints: [ { port: 8443, allowed_ips: [10.0.5.0/24] } ] }");
    let permit = ask("GET", "/").on("any.name.test:8443").permit(&policy);
    assert!(permit.only_allowed_ips());
    assert_eq!(permit.allowed_ips(), ["10.0.5.0/24".parse().unwrap()]);
    assert_eq!(ask("GET", "/").on("any.name.test:443").says(&policy), "unknown host_unknown -");
    assert!(policy.covered_by_wildcard(&target("any.name.test:8443")));
}

#[test]
fn an_endpoint_without_a_host_speaks_for_every_name_on_its_port() {
    let policy = policy(
        "inside: { endpoints: [ { port: 443, allowed_ips: [10.0.5.0/24], protocol: rest, access: read-only } ] }
l4: { endpoints: [ { host: l4.test, port: 443 } ] }
skip: { endpoints: [ { host: skip.test, port: 443, tls: skip } ] }",
    );
    let says = |method, host: &str| ask(method, "/").on(&format!("{host}:443")).says(&policy);
    assert_eq!(says("POST", "l4.test"), "unknown method_not_allowed inside/endpoints[0]");
    // The permit is of the endpoint that speaks: it leads into its addresses, and nowhere else.
    let permit = ask("GET", "/").on("l4.test:443").permit(&policy);
    assert_eq!(permit.rule().as_ref(), "inside/endpoints[0]/access");
    assert!(permit.only_allowed_ips());
    assert_eq!(tunnel(&policy, "skip.test:443"), "inspect");
}

#[test]
fn a_permit_carries_target_addresses_and_epoch() {
    let policy = endpoint("allowed_ips: [10.1.2.3, 10.2.0.0/16]");
    let permit = ask("GET", "/").permit(&policy);
    assert_eq!(permit.target(), &target("x.test:443"));
    assert_eq!(permit.allowed_ips().len(), 2);
    assert!(!permit.only_allowed_ips());
    assert_eq!(permit.epoch(), 7);
}

#[test]
fn an_exact_name_is_not_covered_by_a_wildcard_alone() {
    let policy = policy(
        r#"e: { endpoints: [ { host: "*.x.test", port: 443 }, { host: api.x.test, port: 443 }, { host: "**.y.test", port: 443 } ] }"#,
    );
    let wild = |text| policy.covered_by_wildcard(&target(text));
    assert!(wild("a.x.test:443") && wild("a.b.y.test:443"));
    assert!(!wild("api.x.test:443") && !wild("a.x.test:80") && !wild("z.test:443"));
    let names = |text| policy.names_host(&target(text).host);
    assert!(names("a.x.test:1") && names("api.x.test:1"));
    assert!(!names("a.b.x.test:443") && !names("x.test:443") && !names("y.test:443"));
}

fn tunnel(policy: &Policy, to: &str) -> String {
    match policy.judge_tunnel(&Client::Unseen, &target(to)) {
        TunnelVerdict::Relay(permit) => {
            format!("relay {} sni={}", permit.permit().rule(), permit.checks_sni())
        }
        TunnelVerdict::Inspect => "inspect".to_owned(),
        TunnelVerdict::Deny(denial) => format!("deny {}", denial.rule.unwrap()),
        TunnelVerdict::Unknown(question) => format!("unknown {}", question.code.as_str()),
    }
}

#[test]
fn a_tunnel_is_relayed_only_where_nothing_covering_is_inspected() {
    let on = |policy: &Policy| tunnel(policy, "x.test:443");
    assert_eq!(on(&endpoint("tls: skip")), "relay e/endpoints[0] sni=true");
    assert_eq!(on(&endpoint("protocol: tcp")), "relay e/endpoints[0] sni=false");
    assert_eq!(on(&endpoint("access: full")), "inspect");
    assert_eq!(on(&endpoint("access: read-only")), "inspect");
    let mixed = policy(
        "e: { endpoints: [ { host: x.test, port: 443, tls: skip }, { host: x.test, port: 443, access: read-only } ] }",
    );
    assert_eq!(on(&mixed), "inspect");
    assert_eq!(tunnel(&mixed, "y.test:443"), "unknown host_unknown");
    assert_eq!(tunnel(&mixed, "x.test:444"), "unknown port_not_allowed");
}

#[test]
fn a_tunnel_in_which_everything_is_denied_is_denied() {
    let all = r#"access: full, deny_rules: [ { method: "*", path: "/**" } ]"#;
    assert_eq!(tunnel(&endpoint(all), "x.test:443"), "deny e/endpoints[0]/deny_rules[0]");
    let some = r#"access: full, deny_rules: [ { method: "*", path: "/a/**" } ]"#;
    assert_eq!(tunnel(&endpoint(some), "x.test:443"), "inspect");
    let scoped = r#"path: "/a/**", access: full, deny_rules: [ { method: "*", path: "/**" } ]"#;
    assert_eq!(tunnel(&endpoint(scoped), "x.test:443"), "inspect");
    // Raw bytes are part of everything.
    assert!(ask("BYTES", "/").says(&endpoint(all)).starts_with("deny denied_by_rule"));
}

#[test]
fn a_layer_of_denials_denies_and_speaks_for_nothing() {
    let allow = layer("a: { endpoints: [ { host: x.test, port: 443, tls: skip } ] }");
    let mut deny = layer(
        r#"d: { endpoints: [ { host: x.test, port: 443, access: full, deny_rules: [ { method: POST, path: "/**" } ] } ] }"#,
    );
    deny.deny_only = true;
    let policy = Policy::compile(&[allow, deny.clone()], 1).unwrap();
    assert_eq!(ask("GET", "/").says(&policy), "allow a/endpoints[0]");
    assert_eq!(ask("POST", "/").says(&policy), "deny denied_by_rule d/endpoints[0]/deny_rules[0]");
    // A raw tunnel would hide the POST from the rule that denies it.
    assert_eq!(tunnel(&policy, "x.test:443"), "inspect");
    let alone = Policy::compile(&[deny], 1).unwrap();
    assert_eq!(ask("GET", "/").says(&alone), "unknown host_unknown -");
    assert_eq!(tunnel(&alone, "x.test:443"), "unknown host_unknown");
}

/// What is denied to all is denied on every port that some other layer may open.
#[test]
fn a_layer_of_denials_may_leave_its_ports_out_and_no_other_may() {
    let allow = layer("a: { endpoints: [ { host: x.test, ports: [443, 8443], access: full } ] }");
    let mut deny = layer(
        r#"d: { endpoints: [ { host: x.test, port: 1, deny_rules: [ { method: "*", path: "/no/**" } ] } ] }"#,
    );
    let endpoint = &mut deny.document.network_policies.get_mut("d").unwrap().value.endpoints[0];
    endpoint.value.port = None;
    assert!(Policy::compile(&[allow.clone(), deny.clone()], 1).is_err());
    deny.deny_only = true;
    let policy = Policy::compile(&[allow, deny], 1).unwrap();
    for at in ["x.test:443", "x.test:8443"] {
        assert_eq!(
            ask("GET", "/no/a").on(at).says(&policy),
            "deny denied_by_rule d/endpoints[0]/deny_rules[0]"
        );
        assert!(ask("GET", "/").on(at).says(&policy).starts_with("allow "));
    }
    assert!(ask("GET", "/no/a").on("x.test:9").says(&policy).starts_with("deny "));
    assert!(ask("GET", "/").on("x.test:9").says(&policy).starts_with("unknown port_not_allowed"));
}

#[test]
fn equal_keys_in_two_layers_are_both_kept_and_told_apart() {
    let one = layer("e: { endpoints: [ { host: x.test, port: 443 } ] }");
    let mut two = layer("e: { endpoints: [ { host: y.test, port: 443 } ] }");
    two.source = "preset:pypi".into();
    let layers = [one, two];
    let policy = Policy::compile(&layers, 1).unwrap();
    assert_eq!(ask("GET", "/").says(&policy), "allow test.yaml:e/endpoints[0]");
    assert_eq!(ask("GET", "/").on("y.test:443").says(&policy), "allow preset:pypi:e/endpoints[0]");
    let again = Policy::compile(&layers, 2).unwrap();
    assert_eq!((policy.id(), again.epoch()), (again.id(), 2));
    let less: &[Layer] = &layers[..1];
    assert_ne!(Policy::compile(less, 1).unwrap().id(), policy.id());
    assert_eq!(ask("GET", "/").says(&Policy::empty(1)), "unknown host_unknown -");
}

#[test]
fn more_covering_endpoints_than_fit_inline_are_all_judged() {
    let many: String = (0..100)
        .map(|i| format!("e{i:03}: {{ endpoints: [ {{ host: x.test, port: 443, rules: [ {{ allow: {{ method: GET, path: /p{i} }} }} ] }} ] }}\n"))
        .collect();
    let policy = policy(&many);
    for i in 0..100 {
        assert!(ask("GET", &format!("/p{i}")).passes(&policy));
    }
    assert!(!ask("GET", "/p100").passes(&policy));
}
