//! Address classes: what an IP address is, also inside an IPv6 address that carries an IPv4 one.
//!
//! Owns the tables of special-purpose blocks (IANA's registries for IPv4 and IPv6, RFC 6890), not
//! what is done about them: the guard in `upstream` decides that. Invariant: an address that
//! carries another is at least as grave as what it carries, and an IPv6 block that nobody was
//! given is `Reserved`, never `Public`.
//!
//! NAT64 with a prefix of the operator's own network (RFC 6052 §2.2) cannot be told from any
//! other global address; such a network needs its prefix refused by the operator's config.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of an address, for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Anything that the public internet routes.
    Public,
    /// 127.0.0.0/8, `::1`. Opened by the operator's config alone.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`. Opened by the operator's config alone.
    LinkLocal,
    /// `0.0.0.0/8`, `::`. Opened by the operator's config alone.
    Unspecified,
    /// RFC 1918.
    Private,
    /// 100.64.0.0/10 (RFC 6598), which holds the metadata service at 100.100.100.200.
    SharedNat,
    /// `fc00::/7` (RFC 4193), which holds the metadata service at `fd00:ec2::254`, and the old
    /// site-local `fec0::/10` (RFC 3879).
    UniqueLocal,
    /// Multicast.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 240.0.0.0/4, documentation, benchmarking and other blocks that nothing routes.
    Reserved,
}

impl Class {
    /// Whether only the operator's config may open it, never a policy file.
    pub const fn operator_only(self) -> bool {
        matches!(self, Self::Loopback | Self::LinkLocal | Self::Unspecified)
    }

    /// The class of an address that carries or names two others: neither can hide the other.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, _) if a.operator_only() => a,
            (_, b) if b.operator_only() => b,
            (Self::Public, b) => b,
            (a, _) => a,
        }
    }
}

/// The class of `ip`, of the embedded IPv4 address where it carries one.
pub fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    }
}

fn v4(ip: Ipv4Addr) -> Class {
    match ip.octets() {
        [0, ..] => Class::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::SharedNat,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        // IETF protocol assignments; TEST-NET-1; the old 6to4 relay anycast (RFC 7526).
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => Class::Reserved,
        // Public by its number, and on every host of Azure the platform's own (WireServer).
        [168, 63, 129, 16] => Class::Reserved,
        // Benchmarking (RFC 2544); TEST-NET-2 and -3 (RFC 5737).
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Reserved,
        [224..=239, ..] => Class::Multicast,
        [255, 255, 255, 255] => Class::Broadcast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn v6(ip: Ipv6Addr) -> Class {
    let segments = ip.segments();
    let last = || v4(pair(segments[6], segments[7]));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // IPv4-mapped (RFC 4291 §2.5.5.2) is IPv4 to the kernel.
        [0, 0, 0, 0, 0, 0xffff, ..] => last(),
        // IPv4-compatible (§2.5.5.1) and IPv4-translated (RFC 2765 §2.1): nothing routes them.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => last().or(Class::Reserved),
        // The well-known NAT64 prefix (RFC 6052 §2.1).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => last(),
        [0x64, 0xff9b, 1, ..] => local_nat64(ip.octets()),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        _ => unicast(segments).or(isatap(segments)),
    }
}

/// Global unicast (2000::/3) with the blocks inside it that are not; whatever lies outside it was
/// given to nobody, or to something that is not a destination (100::/64, 5f00::/16).
fn unicast(segments: [u16; 8]) -> Class {
    match segments {
        // Teredo (RFC 4380 §4): the server in clear, the client with every bit turned over.
        [0x2001, 0, ..] => {
            let server = v4(pair(segments[2], segments[3]));
            server.or(v4(pair(!segments[6], !segments[7])))
        }
        // The other IETF protocol assignments (2001::/23), documentation (RFC 3849, RFC 9637).
        [0x2001, 0x0001..=0x01ff | 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => Class::Reserved,
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => v4(pair(high, low)),
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// ISATAP (RFC 5214 §6.1): an interface identifier `[02]00:5efe` before the IPv4 address, under
/// any prefix.
fn isatap(segments: [u16; 8]) -> Class {
    match segments {
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, high, low] => v4(pair(high, low)),
        _ => Class::Public,
    }
}

/// `64:ff9b:1::/48` (RFC 8215): which of the lengths of RFC 6052 §2.2 the network uses is not in
/// the address, so every place where an IPv4 address may stand counts. Never `Public`.
fn local_nat64(octets: [u8; 16]) -> Class {
    let at = |places: [usize; 4]| v4(Ipv4Addr::from(places.map(|place| octets[place])));
    let places = [[12, 13, 14, 15], [9, 10, 11, 12], [7, 9, 10, 11], [6, 7, 9, 10]];
    let shorter = places[1..].iter().fold(Class::Public, |class, place| match at(*place) {
        // Zeros there are the prefix of another length, not 0.0.0.0.
        Class::Unspecified => class,
        other => class.or(other),
    });
    shorter.or(at(places[0])).or(Class::Reserved)
}

fn pair(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}
