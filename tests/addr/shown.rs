//! Untrusted text is shown harmlessly, and the registrable domain whole (security.md 19).

use portcullis::addr::{Host, Shown};
use proptest::prelude::*;

#[test]
fn what_is_not_printable_ascii_is_escaped_and_nothing_is_dropped() {
    let cases = [
        ("plain text", "plain text"),
        ("\x1b[31mred", "\\u{1b}[31mred"),
        ("a\u{202e}b", "a\\u{202e}b"),
        ("a\u{200b}b", "a\\u{200b}b"),
        ("раypal", "\\u{440}\\u{430}ypal"),
        ("a\nb", "a\\nb"),
        ("\\u{41}", "\\\\u{41}"),
    ];
    for (text, shown) in cases {
        assert_eq!(Shown::new(text).to_string(), shown);
    }
}

#[test]
fn what_is_cut_says_so() {
    let long = "a".repeat(8192);
    assert_eq!(Shown::new(&long).limit(4).to_string(), "aaaa...[+8188 bytes]");
    assert_eq!(Shown::new("abcd").limit(4).to_string(), "abcd");
    assert_eq!(Shown::new("ab\u{202e}").limit(4).to_string(), "ab...[+3 bytes]");
}

#[test]
fn the_u_label_stands_beside_the_a_label() {
    let host = Host::parse("bücher.de").expect("a name");
    assert_eq!(Shown::host(&host).to_string(), "xn--bcher-kva.de (b\\u{fc}cher.de)");
    let host = Host::parse("[::1]").expect("an address");
    assert_eq!(Shown::host(&host).limit(1).to_string(), "::1");
}

#[test]
fn the_registrable_domain_is_never_cut() {
    let name = format!("{}.github.com.evil.co.uk", "login.".repeat(30).trim_end_matches('.'));
    let host = Host::parse(&name).expect("a name");
    let shown = Shown::host(&host).limit(20).to_string();
    assert_eq!(shown, "login.log[+181 bytes].evil.co.uk");
    assert_eq!(Shown::host(&host).limit(0).to_string(), "[+190 bytes].evil.co.uk");
    assert_eq!(Shown::host(&host).to_string(), name);
    let host = Host::parse(&format!("{}.bücher.de", "a".repeat(60))).expect("a name");
    let shown = Shown::host(&host).limit(20).to_string();
    assert_eq!(shown, "aaa[+57 bytes].xn--bcher-kva.de (b\\u{fc}cher.de)");
}

proptest! {
    #[test]
    fn only_printable_ascii_comes_out(text: String, limit in 0usize..50) {
        for shown in [Shown::new(&text).to_string(), Shown::new(&text).limit(limit).to_string()] {
            prop_assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
    }

    #[test]
    fn different_texts_never_look_alike(a in "[\\\\u{}0-9a-c\n\u{1}é]{0,8}", b in "[\\\\u{}0-9a-c\n\u{1}é]{0,8}") {
        prop_assert_eq!(a == b, Shown::new(&a).to_string() == Shown::new(&b).to_string());
    }

    #[test]
    fn every_limit_keeps_the_registrable_domain(labels in prop::collection::vec("[a-z]{1,9}", 1..9), limit in 0usize..80) {
        let host = Host::parse(&format!("{}.com", labels.join("."))).expect("a name");
        // `cn.com` is a public suffix itself.
        let kept = host.name().and_then(|n| n.registrable());
        prop_assume!(kept.is_some());
        let kept = kept.unwrap_or_default();
        prop_assert!(Shown::host(&host).limit(limit).to_string().ends_with(kept));
    }
}
