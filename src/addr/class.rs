//! Address classes: what an IP address is, also inside an IPv6 address that carries an IPv4 one.

use std::net::IpAddr;

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
    /// 100.64.0.0/10 (RFC 6598).
    SharedNat,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// Multicast.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 240.0.0.0/4, documentation, benchmarking and other blocks that nothing routes.
    Reserved,
}

/// The class of `ip`, of the embedded IPv4 address where it carries one.
pub fn classify(ip: IpAddr) -> Class {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() => Class::Loopback,
        IpAddr::V4(ip) if ip.is_private() => Class::Private,
        IpAddr::V6(ip) if ip.is_loopback() => Class::Loopback,
        _ => Class::Public,
    }
}
