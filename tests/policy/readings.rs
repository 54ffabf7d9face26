//! What an origin may read otherwise than it was sent, escapes in paths and names in queries,
//! hides nothing from a deny rule and lets nothing through an allow rule.

use crate::policy_common::{ask, call, endpoint, policy};
use portcullis::policy::Body;

const DENIED: &str = r#"protocol: rest, access: full, deny_rules: [ { method: "*", path: "/any/projects/*:setIamPolicy" }, { method: "*", path: "/any/@secret/**" }, { method: "*", path: "/any/admin" }, { method: "*", path: "/any/admin/**" } ]"#;

#[test]
fn an_escape_hides_no_path_from_a_deny_rule() {
    let policy = endpoint(DENIED);
    for path in [
        "/any/projects/p:setIamPolicy",
        "/any/projects/p%3AsetIamPolicy",
        "/any/projects/p%3asetIamPolicy",
        "/any/projects/p%253AsetIamPolicy",
        "/any/projects/p%25253asetIamPolicy",
        "/any/projects/p%25%33%41setIamPolicy",
        "/any/projects/p%20q%3AsetIamPolicy",
        "/any//projects/p%3AsetIamPolicy",
        "/any;a/projects/p%3AsetIamPolicy",
        "/any/%40secret/x",
        "/any/%2540secret/x",
        "/any/%40secret//x",
        "/any/admin;x",
        "/any/admin%3Bx",
        "/any/admin%253Bx",
        "/any/admin%3Bx/users",
        "/any%3Ba/admin/users",
        "/any/admin%3Fx",
        "/any/admin%23x",
    ] {
        let says = ask("GET", path).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{path}: {says}");
        let says = ask("GET", path).handshake().says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{path}, a handshake: {says}");
    }
    for path in ["/any/projects/p%3Aget", "/any/%40public/x", "/any/admins%3Bx", "/a%20b", "/a%25"]
    {
        assert_eq!(ask("GET", path).says(&policy), "allow e/endpoints[0]/access", "{path}");
    }
}

#[test]
fn an_escaped_slash_is_one_and_is_none() {
    let policy = endpoint(&format!("allow_encoded_slash: true, {DENIED}"));
    for path in [
        // `*` stays in one segment, which this is to an origin that splits first.
        "/any/projects/a%2Fb%3AsetIamPolicy",
        "/any/projects/a%252Fb%253AsetIamPolicy",
        "/any%2Fprojects%2Fp%3AsetIamPolicy",
        "/any%252fprojects%252fp%253asetIamPolicy",
        "/any%2Fadmin%3Bx%2Fusers",
        "/any%2F%2Fadmin",
    ] {
        let says = ask("GET", path).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{path}: {says}");
    }
    assert!(ask("GET", "/any/projects/a%2Fb%3Aget").passes(&policy));
}

#[test]
fn an_escape_that_a_deny_rule_names_is_held_as_it_is_written() {
    let policy = endpoint(
        r#"protocol: rest, access: full, deny_rules: [ { method: "*", path: "/a/b%3Ac" }, { method: "*", path: "/ü:x" } ]"#,
    );
    assert!(ask("GET", "/a/b%3ac").says(&policy).starts_with("deny"));
    assert!(ask("GET", "/%C3%BC%3Ax").says(&policy).starts_with("deny"));
    assert!(ask("GET", "/%25c3%25bc%3Ax").says(&policy).starts_with("deny"), "decoded twice");
}

#[test]
fn an_escape_does_not_make_a_path_one_that_is_allowed() {
    let policy = endpoint(r#"rules: [ { allow: { method: GET, path: "/v1/*:read" } } ]"#);
    assert!(ask("GET", "/v1/a:read").passes(&policy));
    assert_eq!(ask("GET", "/v1/a%3Aread").says(&policy), "unknown path_not_allowed e/endpoints[0]");
    let escaped = endpoint(r#"rules: [ { allow: { method: GET, path: "/v1/*%3Aread" } } ]"#);
    assert!(ask("GET", "/v1/a%3Aread").passes(&escaped));
}

#[test]
fn an_escape_leads_no_body_around_the_endpoint_that_denies_it() {
    let policy = policy(
        r#"
a: { endpoints: [ { host: x.test, port: 443, protocol: rest, access: full } ] }
b: { endpoints: [ { host: x.test, port: 443, path: "/v1/tools:call", protocol: json-rpc, deny_rules: [ { method: wipe } ] } ] }
c: { endpoints: [ { host: x.test, port: 443, path: "/feed:all", protocol: websocket, deny_rules: [ { method: WEBSOCKET_TEXT, path: "/**" } ] } ] }
"#,
    );
    let read = [call("read")];
    assert!(ask("POST", "/v1/tools:call").body(Body::Rpc(&read)).passes(&policy));
    for path in ["/v1/tools%3Acall", "/v1/tools%253Acall", "/v1/tools%3Acall;x"] {
        let says = ask("POST", path).says(&policy);
        assert_eq!(says, "deny body_not_understood b/endpoints[0]", "{path}");
    }
    // It is read, and held against the rule.
    let escaped = ask("POST", "/v1/tools%3Acall");
    assert!(escaped.with(|intent| policy.body_need(intent)).is_some());
    assert!(escaped.clone().body(Body::Rpc(&read)).passes(&policy));
    let says = escaped.body(Body::Rpc(&[call("wipe")])).says(&policy);
    assert_eq!(says, "deny denied_by_rule b/endpoints[0]/deny_rules[0]");
    let get = ask("GET", "/v1/tools%3Acall");
    assert!(get.with(|intent| policy.body_need(intent)).is_some());
    assert!(ask("POST", "/v1/tools%3Alist").passes(&policy));
    assert!(ask("GET", "/feed%3Aall").handshake().permit(&policy).judges_messages());
    assert!(ask("MESSAGE", "/feed%3Aall").body(Body::Opaque).says(&policy).starts_with("deny"));
}

#[test]
fn a_pair_hides_from_no_deny_rule() {
    let policy = endpoint(
        r#"protocol: rest, access: full, deny_rules: [ { method: "*", path: "/**", query: { admin: "true" } }, { method: "*", path: "/**", query: { user_id: "1", "ids[]": "2" } } ]"#,
    );
    for query in [
        "admin=true",
        "x=1&admin=true",
        "x=1;admin=true",
        "x=1;y;admin=true;z&a",
        "admin=no;admin=true",
        "admin[]=true",
        "admin[0]=true",
        "admin%5B%5D=true",
        "[admin]=true",
        "admin%00=true",
        "%20admin=true",
        "+admin=true",
        "admin+=true",
        "Admin=true",
        "AD_MIN=true",
        "%61dmin=true",
        "admin=false&Admin=true",
        "user.id=1&ids[0]=2",
        "userId=1;ids=2",
        "user[id=1&ids[]=2",
    ] {
        let says = ask("GET", &format!("/a?{query}")).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{query}: {says}");
    }
    for query in ["", "admin", "admin=false", "administrator=true", "x=admin=true", "x[admin]=true"]
    {
        let says = ask("GET", &format!("/a?{query}")).says(&policy);
        assert_eq!(says, "allow e/endpoints[0]/access", "{query}");
    }
}

#[test]
fn every_value_in_every_reading_must_be_allowed_and_one_must_be_plain() {
    let policy =
        endpoint(r#"rules: [ { allow: { method: GET, path: "/a", query: { state: "open*" } } } ]"#);
    for query in
        ["state=open", "state=open&x=state", "x=1;y&state=open", "state=open;x", "s%74ate=open"]
    {
        assert!(ask("GET", &format!("/a?{query}")).passes(&policy), "{query}");
    }
    assert!(ask("GET", "/a?state=open&State=opened").passes(&policy));
    for query in [
        "state=open&state=all",
        "state=open&State=all",
        "state=open&state[]=all",
        "state=open&%20state=all",
        "state=open&state%00=all",
        "state=open;state=all",
        "state=open&x=1;state=all",
        // In no plain reading is there one.
        "State=open",
        "state[]=open",
        "x=1;state=open",
    ] {
        let says = ask("GET", &format!("/a?{query}")).says(&policy);
        assert_eq!(says, "unknown query_not_allowed e/endpoints[0]", "{query}");
    }
}

#[test]
fn a_query_that_begins_at_an_escaped_mark_is_held_against_deny_rules() {
    let policy = endpoint(
        r#"protocol: rest, access: full, deny_rules: [ { method: "*", path: /a, query: { admin: "true", b: "1" } } ]"#,
    );
    for path in [
        "/a?b=1&admin=true",
        "/a%3Fb=1&admin=true",
        "/a%3fb=1?admin=true",
        "/a%253Fb=1%26admin=true%23x",
    ] {
        let says = ask("GET", path).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{path}: {says}");
    }
    for path in ["/a?b=1", "/a%3Fb=1", "/a%3Fadmin=false?b=1", "/b%3Fb=1&admin=true"] {
        assert!(ask("GET", path).passes(&policy), "{path}");
    }
}

/// In a path that is forwarded an escape is a character, and `?` and classes are about characters.
#[test]
fn one_character_is_one_however_it_is_written() {
    let policy = endpoint(
        r#"protocol: rest, access: full, deny_rules: [ { method: "*", path: "/files/?" }, { method: "*", path: "/t/[!0-9]" }, { method: "*", path: "/u/a?c" } ]"#,
    );
    for path in [
        "/files/a",
        "/files/%20",
        "/files/%C3%A9",
        "/files/%e2%82%ac",
        "/files/%F0%9F%90%9F",
        "/files/%2520",
        "/files/%3A",
        "/files/%253A",
        "/t/a",
        "/t/%20",
        "/t/%C3%A9",
        "/u/a%20c",
        "/u/a%E2%82%ACc",
    ] {
        let says = ask("GET", path).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{path}: {says}");
    }
    for path in
        ["/files/ab", "/files/%20%20", "/files/a%20", "/t/0", "/t/%20a", "/u/ac", "/u/a%20%20c"]
    {
        assert_eq!(ask("GET", path).says(&policy), "allow e/endpoints[0]/access", "{path}");
    }
    let policy = endpoint(
        r#"protocol: rest, allow_encoded_slash: true, rules: [ { allow: { method: GET, path: "/q/?" } }, { allow: { method: GET, path: "/c/[a-z]" } }, { allow: { method: GET, path: "/s/*[0-9]" } } ]"#,
    );
    for (path, passes) in [
        ("/q/a", true),
        ("/q/%C3%A9", true),
        ("/q/%20", true),
        ("/q/%2F", false),
        ("/q/%20a", false),
        ("/c/a", true),
        ("/c/%20", false),
        ("/c/%C3%A9", false),
        // A star ends where a character does.
        ("/s/x%20", false),
        ("/s/x1", true),
    ] {
        assert_eq!(ask("GET", path).passes(&policy), passes, "{path}");
    }
}

#[test]
fn a_class_holds_what_a_path_holds() {
    use portcullis::policy::pattern::{PathPattern, PathPatternError};
    for pattern in [
        "/[é]x",
        "/u/[ a]",
        "/d/[!é]",
        "/e/[à-ÿ]",
        "/[]é]",
        "/[!]é]",
        "/a/[b]/[ ]",
        "/[%20]",
        "/[a%C3%A9]",
    ] {
        assert_eq!(PathPattern::parse(pattern), Err(PathPatternError::Class), "{pattern}");
    }
    for pattern in ["/é[a]", "/[a] b", "/[]]é", "/{é,[a]}"] {
        assert!(PathPattern::parse(pattern).is_ok(), "{pattern}");
    }
}

/// Some frameworks take a POST for the method that its query names, as they do a header's.
#[test]
fn a_method_in_the_query_hides_no_method_from_a_deny_rule() {
    let policy = endpoint(
        r#"protocol: rest, access: full, deny_rules: [ { method: DELETE, path: "/web/**" } ]"#,
    );
    for query in
        ["_method=DELETE", "a=1&_METHOD=delete", "_method%5B%5D=DELETE", "_method=%44ELETE"]
    {
        let says = ask("POST", &format!("/web/users/1?{query}")).says(&policy);
        assert!(says.starts_with("deny denied_by_rule"), "{query}: {says}");
    }
    for (method, path, query) in [
        ("POST", "/web/users/1", "_method=PUT"),
        ("POST", "/web/users/1", "a=DELETE"),
        ("POST", "/api/users/1", "_method=DELETE"),
        ("GET", "/web/users/1", "_method=DELETE"),
    ] {
        let says = ask(method, &format!("{path}?{query}")).says(&policy);
        assert_eq!(says, "allow e/endpoints[0]/access", "{method} {path} {query}");
    }
}
