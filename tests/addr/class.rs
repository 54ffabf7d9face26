//! Address classes: every block of security.md 5, plain and inside each IPv6 wrapping (I2).

use portcullis::addr::{Class, classify};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn class(text: &str) -> Class {
    classify(text.parse().expect(text))
}

const V4: &[(&str, Class)] = &[
    ("0.0.0.0", Class::Unspecified),
    ("0.1.2.3", Class::Unspecified),
    ("10.0.0.1", Class::Private),
    ("100.63.255.255", Class::Public),
    ("100.64.0.1", Class::SharedNat),
    ("100.100.100.200", Class::SharedNat),
    ("100.128.0.1", Class::Public),
    ("127.0.0.1", Class::Loopback),
    ("127.255.255.254", Class::Loopback),
    ("169.254.169.254", Class::LinkLocal),
    ("172.15.255.255", Class::Public),
    ("172.16.0.1", Class::Private),
    ("172.31.255.255", Class::Private),
    ("172.32.0.1", Class::Public),
    ("192.0.0.8", Class::Reserved),
    ("192.0.2.1", Class::Reserved),
    ("192.88.99.1", Class::Reserved),
    ("192.168.1.1", Class::Private),
    ("198.17.255.255", Class::Public),
    ("198.18.0.1", Class::Reserved),
    ("198.19.255.255", Class::Reserved),
    ("198.51.100.7", Class::Reserved),
    ("203.0.113.7", Class::Reserved),
    ("224.0.0.1", Class::Multicast),
    ("239.255.255.250", Class::Multicast),
    ("240.0.0.1", Class::Reserved),
    ("255.255.255.255", Class::Broadcast),
    ("1.1.1.1", Class::Public),
    ("8.8.8.8", Class::Public),
    ("223.255.255.255", Class::Public),
];

#[test]
fn every_special_block_of_ipv4_has_its_class() {
    for (text, expected) in V4 {
        assert_eq!(class(text), *expected, "{text}");
    }
}

#[test]
fn every_special_block_of_ipv6_has_its_class() {
    let cases = [
        ("::", Class::Unspecified),
        ("::1", Class::Loopback),
        ("::2", Class::Unspecified),
        ("fe80::1", Class::LinkLocal),
        ("febf::1", Class::LinkLocal),
        ("fec0::1", Class::UniqueLocal),
        ("fc00::1", Class::UniqueLocal),
        ("fd00:ec2::254", Class::UniqueLocal),
        ("ff02::1", Class::Multicast),
        ("2001:db8::1", Class::Reserved),
        ("3fff::1", Class::Reserved),
        ("2001:2::1", Class::Reserved),
        ("2001:10::1", Class::Reserved),
        ("100::1", Class::Reserved),
        ("5f00::1", Class::Reserved),
        ("4000::1", Class::Reserved),
        ("2606:4700:4700::1111", Class::Public),
        ("2a00:1450::1", Class::Public),
        ("2001:4860:4860::8888", Class::Public),
        ("64:ff9b:1::808:808", Class::Reserved),
    ];
    for (text, expected) in cases {
        assert_eq!(class(text), expected, "{text}");
    }
}

/// Each wrapping, and whether nothing routes it even around a public address.
fn wrappings(ip: Ipv4Addr) -> Vec<(&'static str, Ipv6Addr, bool)> {
    let n = u128::from(u32::from(ip));
    let at = |prefix: u128, shift: u32| Ipv6Addr::from(prefix | n << shift);
    let teredo = 0x2001_0000_u128 << 96;
    let outside = u128::from(u32::from(Ipv4Addr::new(8, 8, 8, 8)));
    vec![
        ("mapped", at(0xffff_0000_0000, 0), false),
        ("translated", at(0xffff_0000_0000_0000, 0), true),
        ("nat64", at(0x0064_ff9b << 96, 0), false),
        ("nat64 local /96", at(0x0064_ff9b_0001 << 80, 0), true),
        ("6to4", at(0x2002 << 112, 80), false),
        ("teredo server", Ipv6Addr::from(teredo | n << 64 | (!outside & 0xffff_ffff)), false),
        ("teredo client", Ipv6Addr::from(teredo | outside << 64 | (!n & 0xffff_ffff)), false),
        ("isatap", at(0x2606_4700 << 96 | 0x5efe << 32, 0), false),
        ("isatap with u bit", at(0x2606_4700 << 96 | 0x0200_5efe << 32, 0), false),
        ("isatap in 6to4", at(0x2002_0808_0808 << 80 | 0x5efe << 32, 0), false),
    ]
}

#[test]
fn no_wrapping_hides_what_it_carries() {
    for (text, expected) in V4 {
        let ip: Ipv4Addr = text.parse().expect(text);
        for (name, wrapped, dead) in wrappings(ip) {
            let expected = match (expected, dead) {
                (Class::Public, true) => Class::Reserved,
                (class, _) => *class,
            };
            assert_eq!(classify(IpAddr::V6(wrapped)), expected, "{text} as {name}: {wrapped}");
        }
        if ip.octets()[..2] != [0, 0] {
            let compatible = Ipv6Addr::from(u128::from(u32::from(ip)));
            let expected = if *expected == Class::Public { Class::Reserved } else { *expected };
            assert_eq!(classify(IpAddr::V6(compatible)), expected, "{text} as compatible");
        }
    }
}

#[test]
fn local_nat64_counts_every_place_an_address_may_stand_in() {
    // 127.0.0.1 with the prefix lengths 48, 56 and 64 of RFC 6052 §2.2.
    for text in ["64:ff9b:1:7f00:0:100::", "64:ff9b:1:7f:0:1::", "64:ff9b:1:0:7f:0:100:0"] {
        assert_eq!(class(text), Class::Loopback, "{text}");
    }
    assert_eq!(class("64:ff9b:1:a9fe:a9:fe00::"), Class::LinkLocal);
}

#[test]
fn only_loopback_link_local_and_unspecified_are_left_to_the_operator() {
    let all = [
        (Class::Public, false),
        (Class::Loopback, true),
        (Class::LinkLocal, true),
        (Class::Unspecified, true),
        (Class::Private, false),
        (Class::SharedNat, false),
        (Class::UniqueLocal, false),
        (Class::Multicast, false),
        (Class::Broadcast, false),
        (Class::Reserved, false),
    ];
    for (class, expected) in all {
        assert_eq!(class.operator_only(), expected, "{class:?}");
    }
}

proptest! {
    #[test]
    fn a_wrapped_internal_address_is_never_public(n: u32) {
        let ip = Ipv4Addr::from(n);
        for (name, wrapped, _) in wrappings(ip) {
            let outer = classify(IpAddr::V6(wrapped));
            if classify(IpAddr::V4(ip)) != Class::Public {
                prop_assert_ne!(outer, Class::Public, "{}", name);
            }
        }
    }

    #[test]
    fn the_canonical_form_of_an_address_has_the_same_class(n: u128) {
        let ip = IpAddr::V6(Ipv6Addr::from(n));
        prop_assert_eq!(classify(ip), classify(ip.to_canonical()));
    }
}
