//! Laws over many policies and patterns: globset is the oracle of the dialect, and no deny rule
//! widens.

use crate::policy_common::{ask, policy, target};
use portcullis::policy::pattern::{HostPattern, PathPattern, TextPattern};
use proptest::prelude::*;

fn oracle(pattern: &str, separator: bool) -> globset::GlobMatcher {
    globset::GlobBuilder::new(pattern)
        .literal_separator(separator)
        .backslash_escape(true)
        .build()
        .unwrap()
        .compile_matcher()
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab]{1,2}",
        2 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => "[ab]\\*[ab]?",
        1 => "\\*[ab]\\*",
        1 => "[ab]\\?",
        1 => Just("[ab]b".to_owned()),
        1 => Just("[!a]".to_owned()),
        1 => Just("{a,b*}".to_owned()),
        1 => Just("{a,ab/b}".to_owned()),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 1..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{0,3}", 1..6).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn paths_match_as_globset_matches_them(pattern in pattern(), path in path()) {
        let ours = PathPattern::parse(&pattern).unwrap().matches(&path);
        // A class that crosses a separator is the one thing that is refused here and not there.
        let crosses = pattern.contains("[!a]");
        let theirs = oracle(&pattern, true).is_match(&path);
        prop_assert!(ours == theirs || (crosses && !ours), "{pattern} on {path}: {ours}");
    }

    #[test]
    fn values_match_as_globset_matches_them(
        pattern in "([ab/.]|\\*|\\?|\\[a-b\\]|\\[!a\\]|\\{a,b\\*\\}){0,6}",
        value in "[ab/.]{0,8}",
    ) {
        // `**` between slashes means segments to globset; values have none.
        prop_assume!(!pattern.contains("**"));
        let ours = TextPattern::parse(&pattern).unwrap().matches(&value);
        prop_assert_eq!(ours, oracle(&pattern, false).is_match(&value), "{} on {}", pattern, value);
    }

    #[test]
    fn hosts_match_as_globset_matches_labels(
        first in "(\\*|\\*\\*|a\\*|\\*b|a\\*b|a)",
        middle in prop::collection::vec("(\\*|a|b)", 0..3),
        host in prop::collection::vec("[ab]{1,2}", 1..5),
    ) {
        let mut labels = vec![first];
        labels.extend(middle);
        labels.extend(["x".to_owned(), "test".to_owned()]);
        let name = target(&format!("{}.x.test:443", host.join("."))).host;
        let ours = HostPattern::parse(&labels.join(".")).unwrap().matches(&name);
        let theirs = oracle(&format!("/{}", labels.join("/")), true)
            .is_match(format!("/{}/x/test", host.join("/")));
        // `**` is one label or more; globset's leading `**` is none or more.
        let none = labels[0] == "**" && host.len() + 3 == labels.len();
        prop_assert!(ours == theirs || (none && !ours), "{labels:?} on {name}: {ours}");
    }

    #[test]
    fn adding_a_deny_rule_never_widens(
        rules in prop::collection::vec((method(), pattern()), 1..4),
        audit in any::<bool>(),
        denied in (method(), pattern()),
        elsewhere in any::<bool>(),
        asked in (prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE"]), path()),
    ) {
        let allow: Vec<String> = rules
            .iter()
            .map(|(method, path)| format!("{{ allow: {{ method: {method:?}, path: {path:?} }} }}"))
            .collect();
        let enforcement = if audit { "audit" } else { "enforce" };
        let base = format!("host: x.test, port: 443, enforcement: {enforcement}, rules: [ {} ]", allow.join(", "));
        let deny = format!("deny_rules: [ {{ method: {:?}, path: {:?} }} ]", denied.0, denied.1);
        let before = policy(&format!("e: {{ endpoints: [ {{ {base} }}, {{ host: '*.x.test', port: 443 }} ] }}"));
        let after = if elsewhere {
            policy(&format!("e: {{ endpoints: [ {{ {base} }} ] }}\nd: {{ endpoints: [ {{ host: x.test, port: 443, {deny} }} ] }}"))
        } else {
            policy(&format!("e: {{ endpoints: [ {{ {base}, {deny} }} ] }}"))
        };
        let asked = ask(asked.0, &asked.1);
        prop_assert!(!asked.passes(&after) || asked.passes(&before));
        for raw in [ask("BYTES", "/"), ask("GET", "/a").handshake()] {
            prop_assert!(!raw.passes(&after) || raw.passes(&before));
        }
    }

    #[test]
    fn no_text_breaks_the_parsers(text in "\\PC{0,40}", flow in "[\\[\\]{}*?!a,\\\\/.-]{0,20}") {
        for text in [&text, &flow] {
            let _ = PathPattern::parse(text);
            let _ = PathPattern::parse_file(text);
            let _ = TextPattern::parse(text);
            let _ = HostPattern::parse(text);
            let _ = portcullis::policy::Document::parse(text, "any");
        }
    }
}

fn method() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "*"]).prop_map(str::to_owned)
}

#[test]
fn many_stars_do_not_take_long() {
    let pattern = PathPattern::parse(&format!("/{}x", "**/a*a*a*/".repeat(12))).unwrap();
    let path = format!("/{}", "aaaaaaaa/".repeat(200));
    let start = std::time::Instant::now();
    assert!(!pattern.matches(&path));
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
}

#[test]
fn alternates_are_bounded() {
    assert!(PathPattern::parse(&format!("/{}", "{a,b}".repeat(9))).is_err());
    assert!(TextPattern::parse(&"{a,{b,c}}".repeat(30)).is_err());
    assert!(PathPattern::parse(&format!("/{}", "{a,b}".repeat(8))).is_ok());
}
