//! The address guard: which addresses may be dialled at all.
//!
//! A pure function over an answer and what is opened; it never sees a name. Invariant: an answer
//! passes only if every one of its addresses passes.

use super::own::Own;
use crate::addr::{Class, classify};
use crate::policy::Permit;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What opens internal addresses for one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened<'a> {
    /// The endpoint's `allowed_ips`: never opens loopback, link-local and unspecified addresses.
    pub(super) policy: &'a [IpNet],
    /// The endpoint has no host: every address must be inside `policy`, public ones too.
    pub(super) only: bool,
    /// `upstream.allow_internal`: the operator's own exception, for any class.
    pub(super) operator: &'a [IpNet],
    /// The operator's own exception for this target alone (a route of `inference.local`).
    pub(super) route: &'a [IpNet],
}

/// Why an answer is refused: the first of its addresses that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Internal, and nothing opens it.
    Class { address: IpAddr, class: Class },
    /// Outside the `allowed_ips` of an endpoint without a host.
    Outside { address: IpAddr },
    /// One of the gateway's own listeners; no exception opens it.
    Own { address: SocketAddr },
    /// The answer is empty: all of none must never pass.
    Nothing,
}

impl<'a> Opened<'a> {
    /// What a permit opens, before the operator's exceptions.
    pub(super) fn by(permit: &'a Permit) -> Self {
        Self {
            policy: permit.allowed_ips(),
            only: permit.only_allowed_ips(),
            operator: &[],
            route: permit.operator_ips(),
        }
    }

    /// With the operator's exceptions.
    pub(super) fn also(self, operator: &'a [IpNet]) -> Self {
        Self { operator, ..self }
    }
}

/// Checks every address of an answer.
pub(super) fn check(
    addresses: &[IpAddr],
    port: u16,
    opened: Opened<'_>,
    own: &Own,
) -> Result<(), Refusal> {
    if addresses.is_empty() {
        return Err(Refusal::Nothing);
    }
    addresses.iter().try_for_each(|ip| check_one(ip.to_canonical(), port, opened, own))
}

/// Whether a policy file can open addresses of this class with `allowed_ips`.
pub(super) fn policy_may_open(class: Class) -> bool {
    match class {
        Class::Loopback | Class::LinkLocal | Class::Unspecified => false,
        Class::Public
        | Class::Private
        | Class::SharedNat
        | Class::UniqueLocal
        | Class::Multicast
        | Class::Broadcast
        | Class::Reserved => true,
    }
}

fn check_one(address: IpAddr, port: u16, opened: Opened<'_>, own: &Own) -> Result<(), Refusal> {
    if own.covers(address, port) {
        return Err(Refusal::Own { address: SocketAddr::new(address, port) });
    }
    let by_policy = inside(address, opened.policy);
    if opened.only && !by_policy {
        return Err(Refusal::Outside { address });
    }
    let class = classify(address);
    let passes = class == Class::Public
        || (by_policy && policy_may_open(class))
        || inside(address, opened.operator)
        || inside(address, opened.route);
    if passes { Ok(()) } else { Err(Refusal::Class { address, class }) }
}

fn inside(address: IpAddr, nets: &[IpNet]) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn guard(answer: &[&str], policy: &[&str], operator: &[&str]) -> Result<(), Refusal> {
        let answer: Vec<IpAddr> = answer.iter().map(|t| ip(t)).collect();
        let (policy, operator) = (nets(policy), nets(operator));
        let opened = Opened { policy: &policy, only: false, operator: &operator, route: &[] };
        check(&answer, 443, opened, &Own::new(Vec::new()))
    }

    const INTERNAL: &[(&str, Class)] = &[
        ("127.0.0.1", Class::Loopback),
        ("127.255.0.9", Class::Loopback),
        ("::1", Class::Loopback),
        ("169.254.169.254", Class::LinkLocal),
        ("fe80::1", Class::LinkLocal),
        ("0.0.0.0", Class::Unspecified),
        ("0.1.2.3", Class::Unspecified),
        ("::", Class::Unspecified),
        ("10.0.5.3", Class::Private),
        ("172.31.255.255", Class::Private),
        ("192.168.1.1", Class::Private),
        ("100.64.0.1", Class::SharedNat),
        ("100.100.100.200", Class::SharedNat),
        ("fd00:ec2::254", Class::UniqueLocal),
        ("fc00::1", Class::UniqueLocal),
        ("224.0.0.1", Class::Multicast),
        ("ff02::1", Class::Multicast),
        ("255.255.255.255", Class::Broadcast),
        ("240.0.0.1", Class::Reserved),
        ("192.0.0.192", Class::Reserved),
        // The same inside IPv6: mapped, compatible, NAT64, 6to4, Teredo (inverted), ISATAP.
        ("::ffff:127.0.0.1", Class::Loopback),
        ("::127.0.0.1", Class::Loopback),
        ("::10.0.0.1", Class::Private),
        ("64:ff9b::7f00:1", Class::Loopback),
        ("64:ff9b::a9fe:a9fe", Class::LinkLocal),
        ("64:ff9b::a00:1", Class::Private),
        ("2002:7f00:1::1", Class::Loopback),
        ("2002:a00:1::1", Class::Private),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", Class::Loopback),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", Class::Private),
        ("2001:db8:1:2:0:5efe:a00:1", Class::Private),
        ("2600:1:2:3:200:5efe:7f00:1", Class::Loopback),
    ];

    #[test]
    fn every_internal_class_is_refused_bare_or_embedded() {
        for (text, _) in INTERNAL {
            let refusal = guard(&[text], &[], &[]).expect_err(text);
            assert!(matches!(refusal, Refusal::Class { .. }), "{text}: {refusal:?}");
        }
        assert_eq!(guard(&["93.184.216.34"], &[], &[]), Ok(()));
        assert_eq!(guard(&["2606:2800:220:1::1"], &[], &[]), Ok(()));
    }

    #[test]
    fn nat64_with_a_local_prefix_is_refused() {
        assert!(guard(&["64:ff9b:1::a00:1"], &[], &[]).is_err());
    }

    #[test]
    fn a_mixed_answer_is_refused_whole() {
        let refusal = guard(&["93.184.216.34", "10.0.5.3"], &[], &[]).unwrap_err();
        assert_eq!(refusal, Refusal::Class { address: ip("10.0.5.3"), class: Class::Private });
        assert!(guard(&["10.0.5.3", "93.184.216.34"], &[], &[]).is_err());
        assert_eq!(guard(&["10.0.5.3", "93.184.216.34"], &["10.0.5.0/24"], &[]), Ok(()));
        assert!(guard(&["10.0.5.3", "10.0.6.3"], &["10.0.5.0/24"], &[]).is_err());
    }

    #[test]
    fn an_empty_answer_never_passes() {
        assert_eq!(guard(&[], &["0.0.0.0/0"], &["0.0.0.0/0"]), Err(Refusal::Nothing));
    }

    #[test]
    fn a_policy_never_opens_loopback_link_local_or_unspecified() {
        let all = ["0.0.0.0/0", "::/0"];
        for text in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::"] {
            assert!(guard(&[text], &all, &[]).is_err(), "{text}");
            assert_eq!(guard(&[text], &[], &all), Ok(()), "{text}");
        }
        for (text, class) in INTERNAL {
            assert_eq!(guard(&[text], &all, &[]).is_ok(), policy_may_open(*class), "{text}");
        }
        assert_eq!(guard(&["10.0.5.3"], &all, &[]), Ok(()));
    }

    #[test]
    fn the_operator_opens_what_they_name_and_nothing_beside_it() {
        assert_eq!(guard(&["127.0.0.1"], &[], &["127.0.0.1/32"]), Ok(()));
        assert_eq!(guard(&["::ffff:127.0.0.1"], &[], &["127.0.0.1/32"]), Ok(()));
        assert!(guard(&["127.0.0.2"], &[], &["127.0.0.1/32"]).is_err());
        assert!(guard(&["127.0.0.1", "127.0.0.2"], &[], &["127.0.0.1/32"]).is_err());
    }

    #[test]
    fn an_endpoint_without_a_host_stays_inside_its_allowed_ips() {
        let own = Own::new(Vec::new());
        let policy = nets(&["10.0.5.0/24", "127.0.0.0/8"]);
        let opened = Opened { policy: &policy, only: true, operator: &[], route: &[] };
        let check = |text: &str| check(&[ip(text)], 5432, opened, &own);
        assert_eq!(check("10.0.5.3"), Ok(()));
        assert_eq!(check("93.184.216.34"), Err(Refusal::Outside { address: ip("93.184.216.34") }));
        assert_eq!(check("10.0.6.3"), Err(Refusal::Outside { address: ip("10.0.6.3") }));
        assert!(matches!(check("127.0.0.1"), Err(Refusal::Class { .. })));

        let operator = nets(&["10.0.0.0/8"]);
        let none = Opened { policy: &[], only: true, operator: &operator, route: &[] };
        let refusal = super::check(&[ip("10.0.5.3")], 5432, none, &own);
        assert_eq!(refusal, Err(Refusal::Outside { address: ip("10.0.5.3") }));
    }

    #[test]
    fn no_exception_opens_an_own_listener() {
        let own = Own::new(vec!["127.0.0.1:3128".parse().unwrap()]);
        let all = nets(&["0.0.0.0/0", "::/0"]);
        let opened = Opened { policy: &all, only: false, operator: &all, route: &[] };
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"] {
            let refusal = check(&[ip(text)], 3128, opened, &own).unwrap_err();
            assert!(matches!(refusal, Refusal::Own { .. }), "{text}");
        }
        assert_eq!(check(&[ip("127.0.0.1")], 3129, opened, &own), Ok(()));
    }
}
