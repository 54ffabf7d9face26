//! The one host parser (I3): every spelling of security.md 2, and authorities.

use portcullis::addr::{Authority, AuthorityError, Host, HostError, Port};
use proptest::prelude::*;

fn host(text: &str) -> String {
    Host::parse(text).map(|h| h.to_string()).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn refused(text: &str) -> HostError {
    match Host::parse(text) {
        Ok(host) => panic!("{text:?} was read as {host}"),
        Err(error) => error,
    }
}

#[test]
fn names_become_lower_case_without_their_trailing_dot() {
    assert_eq!(host("Example.COM"), "example.com");
    assert_eq!(host("example.com."), "example.com");
    assert_eq!(host("_dmarc.example.com"), "_dmarc.example.com");
    assert_eq!(host("r3---sn-abc.googlevideo.com"), "r3---sn-abc.googlevideo.com");
    assert_eq!(host("localhost"), "localhost");
    assert_eq!(host("1password.com"), "1password.com");
    assert_eq!(host("0x7f.example"), "0x7f.example");
}

#[test]
fn a_second_trailing_dot_is_an_empty_label() {
    assert_eq!(refused("example.com.."), HostError::Label);
    assert_eq!(refused(".."), HostError::Label);
    assert_eq!(refused("."), HostError::Empty);
    assert_eq!(refused(""), HostError::Empty);
    assert_eq!(refused(".example.com"), HostError::Label);
    assert_eq!(refused("a..example.com"), HostError::Label);
}

#[test]
fn a_byte_that_no_name_has_is_refused() {
    let bytes = ["ex\0ample.com", "example.com\0", "exa mple.com", "a/b", "a\\b", "a%2eb", "a,b"];
    for text in bytes {
        assert_eq!(refused(text), HostError::Byte, "{text:?}");
    }
    for text in ["a\tb", "a\r\nb", "*.example.com", "a?b", "a#b", "a;b", "a'b", "a\"b", "a!b"] {
        assert_eq!(refused(text), HostError::Byte, "{text:?}");
    }
    assert_eq!(refused("user@example.com"), HostError::Byte);
    assert_eq!(Host::from_bytes(b"example.com\0.evil.test"), Err(HostError::Byte));
    assert_eq!(Host::from_bytes(b"caf\xe9.test"), Err(HostError::Byte));
    assert_eq!(Host::from_bytes(b"Example.test").map(|h| h.to_string()), Ok("example.test".into()));
}

#[test]
fn lengths_are_those_of_dns() {
    let label = "a".repeat(63);
    assert_eq!(host(&format!("{label}.test")), format!("{label}.test"));
    assert_eq!(refused(&format!("a{label}.test")), HostError::Label);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(longest.len(), 253);
    assert_eq!(host(&longest), longest);
    assert_eq!(host(&format!("{longest}.")), longest);
    assert_eq!(refused(&format!("{longest}a")), HostError::TooLong);
    assert_eq!(refused(&"a.".repeat(5000)), HostError::TooLong);
}

#[test]
fn odd_spellings_of_ipv4_are_refused() {
    let odd = [
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F.0.0.1",
        "127.0.0.0x1",
        "127.0.0.01",
        "127.0.0.1.",
        "127.0.0.256",
        "1.2.3.4.5",
        "example.1",
        "example.0x1f",
        "0x",
        "example.0x",
        "example.08",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
    ];
    for text in odd {
        assert_eq!(refused(text), HostError::OddIpv4, "{text:?}");
    }
    assert_eq!(Host::parse("127.0.0.1").map(|h| h.ip()), Ok(Some([127, 0, 0, 1].into())));
}

#[test]
fn ipv6_literals_have_one_form_and_mapped_ones_are_ipv4() {
    assert_eq!(host("[::1]"), "::1");
    assert_eq!(host("::1"), "::1");
    assert_eq!(host("[2001:0DB8:0:0::0001]"), "2001:db8::1");
    assert_eq!(host("[::ffff:127.0.0.1]"), "127.0.0.1");
    assert_eq!(host("::ffff:7f00:1"), "127.0.0.1");
    for text in ["[::1", "::1]", "[]", "[example.com]", "[127.0.0.1]", "[::1].", "[[::1]]"] {
        let error = refused(text);
        assert_eq!(error, HostError::Ipv6, "{text:?}");
    }
    for text in ["1::2::3", ":::", "::ffff:127.0.0.01", "00001::", "[v1.a]", "::1."] {
        assert_eq!(refused(text), HostError::Ipv6, "{text:?}");
    }
    assert_eq!(refused("fe80::1%eth0"), HostError::Zone);
    assert_eq!(refused("[fe80::1%25eth0]"), HostError::Zone);
}

#[test]
fn international_names_become_a_labels() {
    assert_eq!(host("bücher.test"), "xn--bcher-kva.test");
    assert_eq!(host("BÜCHER.test"), "xn--bcher-kva.test");
    assert_eq!(host("XN--BCHER-KVA.test"), "xn--bcher-kva.test");
    assert_eq!(host("straße.test"), "xn--strae-oqa.test");
    // Fullwidth letters and dots are spellings of ASCII ones: one canonical name comes out.
    assert_eq!(host("ｅｘａｍｐｌｅ．ｃｏｍ"), "example.com");
    assert_eq!(host("example。com"), "example.com");
}

#[test]
fn what_idna_does_not_allow_is_refused() {
    let bad = [
        "a\u{202e}b.test",      // right-to-left override
        "אa.test",              // mixed direction
        "xn--a.test",           // does not decode
        "xn--.test",            // empty
        "xn--example-.test",    // decodes to plain ASCII
        "xn--b-yq0i.test",      // decodes to a fullwidth letter, which encodes otherwise
        "xn--x-jfa.test",       // decodes to a capital
        "xn--ax-uub0.test",     // decodes to nothing that encodes so
        "xn--99999999999.test", // overflow
        "a\u{200d}b.test",      // joiner out of context
        "\u{300}a.test",        // leading mark
        "xn--BCHER-KVA-.test",
    ];
    for text in bad {
        assert_eq!(refused(text), HostError::Idna, "{text:?}");
    }
    // Mapped to a byte that splits a URL: dies at the byte check.
    for text in ["evil.test／.example.com", "a％2e.test", "a＠b.test", "℀.test", "a＃.test"] {
        assert!(matches!(refused(text), HostError::Byte | HostError::Idna), "{text:?}");
    }
    assert_eq!(refused("\u{ad}"), HostError::Empty);
    assert!(matches!(refused("\u{ad}.test"), HostError::Label | HostError::Idna));
}

#[test]
fn an_authority_has_one_spelling_of_its_port() {
    let parse = |text: &str| Authority::parse(text, None).map(|a| a.to_string());
    assert_eq!(parse("Example.com.:443"), Ok("example.com:443".into()));
    assert_eq!(parse("[::1]:8080"), Ok("[::1]:8080".into()));
    assert_eq!(parse("[::ffff:1.2.3.4]:80"), Ok("1.2.3.4:80".into()));
    for text in ["host", "host:", "host:0", "host:0443", "host:+80", "host: 80", "host:80 "] {
        assert_eq!(parse(text), Err(AuthorityError::Port), "{text:?}");
    }
    for text in ["host:-1", "host:65536", "host:99999", "host:123456", "host:８０", "host:0x50"] {
        assert_eq!(parse(text), Err(AuthorityError::Port), "{text:?}");
    }
    for text in ["a@host:80", "a:b@host:80", "@host:80", "host:80@"] {
        assert_eq!(parse(text), Err(AuthorityError::Userinfo), "{text:?}");
    }
    for text in ["::1:80", "[::1", "[::1]80", "[::1]x:80", "a:1:2"] {
        assert_eq!(parse(text), Err(AuthorityError::Host(HostError::Ipv6)), "{text:?}");
    }
    assert_eq!(parse(":80"), Err(AuthorityError::Host(HostError::Empty)));
    assert_eq!(parse("[::1]:"), Err(AuthorityError::Port));
}

#[test]
fn the_default_port_stands_in_for_a_missing_one_only() {
    let parse = |text: &str| Authority::parse(text, Some(Port::HTTPS)).map(|a| a.to_string());
    assert_eq!(parse("host.test"), Ok("host.test:443".into()));
    assert_eq!(parse("[::1]"), Ok("[::1]:443".into()));
    assert_eq!(parse("host.test:"), Err(AuthorityError::Port));
}

#[test]
fn the_registrable_domain_follows_the_public_suffix_list() {
    let cases = [
        ("a.b.example.co.uk", "co.uk", Some("example.co.uk")),
        ("me.github.io", "github.io", Some("me.github.io")),
        ("github.io", "github.io", None),
        ("x.y.internal", "internal", Some("y.internal")),
    ];
    for (text, suffix, registrable) in cases {
        let host = Host::parse(text).expect(text);
        let name = host.name().expect(text);
        assert_eq!(name.public_suffix(), suffix, "{text}");
        assert_eq!(name.registrable(), registrable, "{text}");
    }
}

proptest! {
    #[test]
    fn a_host_that_is_shown_parses_to_itself(text in host_like()) {
        if let Ok(host) = Host::parse(&text) {
            let shown = host.to_string();
            prop_assert!(shown.is_ascii() && shown == shown.to_ascii_lowercase());
            prop_assert_eq!(Host::parse(&shown), Ok(host));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", bytes: Vec<u8>) {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
        if let Ok(host) = Host::from_bytes(&bytes) {
            prop_assert!(host.to_string().is_ascii());
        }
    }

    #[test]
    fn an_authority_that_is_shown_parses_to_itself(text in host_like(), port in 1u16..) {
        let bracketed = if text.contains(':') { format!("[{text}]") } else { text };
        if let Ok(authority) = Authority::parse(&format!("{bracketed}:{port}"), None) {
            prop_assert_eq!(authority.port.get(), port);
            prop_assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority));
        }
    }

    #[test]
    fn a_name_is_what_its_labels_let_it_be(
        labels in prop::collection::vec("[a-zA-Z_-]{0,3}|[a-z]{62,65}|[a-z!/ ]{1,2}", 1..6)
    ) {
        let text = labels.join(".");
        let name = text.strip_suffix('.').unwrap_or(&text);
        let expected = if name.is_empty() {
            Err(HostError::Empty)
        } else if name.len() > 253 {
            Err(HostError::TooLong)
        } else if name.contains(['!', '/', ' ']) {
            Err(HostError::Byte)
        } else if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            Err(HostError::Label)
        } else {
            Ok(name.to_ascii_lowercase())
        };
        prop_assert_eq!(Host::parse(&text).map(|host| host.to_string()), expected);
    }

    #[test]
    fn every_address_is_its_own_host(n: u128, short: u32) {
        let v6 = std::net::IpAddr::from(n.to_be_bytes());
        let v4 = std::net::IpAddr::from(short.to_be_bytes());
        for ip in [v6, v4] {
            prop_assert_eq!(Host::parse(&ip.to_string()), Ok(Host::from(ip)));
        }
    }
}

fn host_like() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.-]{1,30}",
        "([a-z]{1,5}|xn--[a-z0-9-]{1,12}|[0-9]{1,4}|0x[0-9a-f]{0,3}|[à-ÿа-яΑ-Ωא-ת一-丿]{1,4})(\\.([a-z]{1,5}|[0-9]{1,3})){0,4}\\.?",
        "[0-9a-f:]{2,20}",
        "(::ffff:)?[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}",
    ]
}
