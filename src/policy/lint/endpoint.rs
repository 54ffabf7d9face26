//! What one endpoint says without looking like it.

use super::{FindingCode, Found, Says, Spot};
use crate::addr::{Class, classify};
use crate::policy::document::{Access, Endpoint, Enforcement, Protocol, Tls};
use ipnet::IpNet;

/// Ports on which HTTP is what one expects.
const HTTP_PORTS: [u16; 6] = [80, 443, 8000, 8080, 8443, 8888];

/// Looks at one endpoint alone.
pub(super) fn check(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    protocol(spot, all, found);
    tls(spot, found);
    networks(spot, found);
    no_effect(spot, found);
    if spot.endpoint.enforcement == Some(Enforcement::Audit) {
        let what = format!(
            "`enforcement: audit` on {}: what no rule allows passes and is only recorded",
            spot.host()
        );
        let fix = "once the rules are right: enforcement: enforce";
        found.push(FindingCode::AuditLetsThrough, spot.place(), spot.name(), Says::new(what, fix));
    }
}

fn protocol(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    let endpoint: &Endpoint = spot.endpoint;
    if endpoint.protocol_meant() == Some(Protocol::Tcp) {
        return unseen(spot, all, found);
    }
    if endpoint.protocol.is_some() {
        return;
    }
    if endpoint.protocol_meant().is_some() {
        let key = match (&endpoint.rules, &endpoint.deny_rules) {
            (Some(_), _) => "rules",
            (None, Some(_)) => "deny_rules",
            (None, None) => "access",
        };
        let what = format!("`{key}` without `protocol` means `protocol: rest`");
        let fix = "say so: protocol: rest";
        found.push(
            FindingCode::RulesWithoutProtocol,
            spot.place(),
            spot.name(),
            Says::new(what, fix),
        );
        return;
    }
    if let Some(access) = &endpoint.access
        && **access == Access::Full
    {
        let what = "`access: full` without `protocol`: host and port decide alone";
        let fix = "protocol: rest, to have each request judged; or leave `access` out";
        found.push(
            FindingCode::FullWithoutProtocol,
            spot.at(access),
            spot.name(),
            Says::new(what, fix),
        );
    }
    unseen(spot, all, found);
}

/// Host and port decide alone where HTTP is spoken.
fn unseen(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    if super::dead::speaker(spot, all).is_some() {
        return;
    }
    let http = spot.endpoint.ports_meant().iter().find(|port| HTTP_PORTS.contains(port)).copied();
    if let Some(port) = http {
        let what = format!(
            "only host and port of {}:{port} are judged: any method and path passes",
            spot.host()
        );
        let fix = "protocol: rest, with `access: read-only` or `rules`";
        found.push(FindingCode::UnseenHttp, spot.place(), spot.name(), Says::new(what, fix));
    }
}

fn tls(spot: &Spot<'_>, found: &mut Found) {
    let Some(tls) = &spot.endpoint.tls else { return };
    match **tls {
        Tls::Skip => {
            let what = format!(
                "`tls: skip`: the name inside TLS is not seen; where {} is served by a CDN, any other name there is reachable too",
                spot.host()
            );
            let fix = "leave `tls` out where the client can trust the gateway's CA";
            found.push(
                FindingCode::DomainFronting,
                spot.at(tls),
                spot.name(),
                Says::new(what, fix),
            );
        }
        Tls::Terminate | Tls::Passthrough => {
            let what = "this `tls` has no effect: TLS is ended where it must be read";
            found.push(
                FindingCode::NoEffect,
                spot.at(tls),
                spot.name(),
                Says::new(what, "remove the line"),
            );
        }
    }
}

fn networks(spot: &Spot<'_>, found: &mut Found) {
    let Some(ips) = &spot.endpoint.allowed_ips else { return };
    let networks = ips.iter().filter_map(|text| super::super::compile::parse_network(text));
    for network in networks {
        let (wide, most) = match network {
            IpNet::V4(v4) => (v4.prefix_len() < 16, "/16"),
            IpNet::V6(v6) => (v6.prefix_len() < 48, "/48"),
        };
        if wide {
            let what = format!("`allowed_ips` opens {network}, which is wider than a {most}");
            let fix = "name the network or the addresses that the service really has";
            found.push(FindingCode::WideNetwork, spot.at(ips), spot.name(), Says::new(what, fix));
        }
        if matches!(
            classify(network.addr()),
            Class::Loopback | Class::LinkLocal | Class::Unspecified
        ) {
            let what = format!("{network} is never opened by a policy file");
            let fix = "remove it; the operator can open it in the config: upstream.allow_internal";
            found.push(
                FindingCode::NetworkNeverOpened,
                spot.at(ips),
                spot.name(),
                Says::new(what, fix),
            );
        }
    }
}

fn no_effect(spot: &Spot<'_>, found: &mut Found) {
    let endpoint: &Endpoint = spot.endpoint;
    let credentials = [
        ("credential_binding", endpoint.credential_binding.is_some()),
        ("request_body_credential_rewrite", endpoint.request_body_credential_rewrite.is_some()),
        ("websocket_credential_rewrite", endpoint.websocket_credential_rewrite.is_some()),
        ("allow_uninspected_credentials", endpoint.allow_uninspected_credentials.is_some()),
        ("credential_signing", endpoint.credential_signing.is_some()),
        ("signing_service", endpoint.signing_service.is_some()),
        ("signing_region", endpoint.signing_region.is_some()),
    ];
    for (key, _) in credentials.into_iter().filter(|(_, there)| *there) {
        let what = format!("`{key}` has no effect here: credentials stand in the gateway's config");
        let fix = "remove the line";
        found.push(FindingCode::NoEffect, spot.place(), spot.name(), Says::new(what, fix));
    }
    if endpoint.protocol_meant() == Some(Protocol::Sql) {
        let what = "`protocol: sql` is let through and recorded: SQL is not parsed";
        let fix = "protocol: tcp says what happens";
        found.push(FindingCode::NoEffect, spot.place(), spot.name(), Says::new(what, fix));
    }
}
