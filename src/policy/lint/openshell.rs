//! `--from openshell`: each way in which the file means something else here.

use super::{FindingCode, Found, Says, Spot};
use crate::addr::{Class, Host, classify};
use crate::policy::document::{Endpoint, Protocol};

/// OpenShell's name for the host that the sandbox runs on.
const HOST: &str = "host.openshell.internal";

/// Suffixes that name machines of one's own network.
const INTERNAL: [&str; 8] =
    [".internal", ".local", ".lan", ".corp", ".home.arpa", ".intranet", ".cluster.local", ".svc"];

/// Looks at one endpoint.
pub(super) fn endpoint(spot: &Spot<'_>, found: &mut Found) {
    let endpoint: &Endpoint = spot.endpoint;
    let inspected = endpoint.protocol.as_ref().is_some_and(|p| **p != Protocol::Tcp);
    if inspected && endpoint.enforcement.is_none() {
        let what = "`enforcement` is left out: OpenShell lets everything through and records it, here it is enforced";
        let fix = "to keep what it did: enforcement: audit";
        found.push(
            FindingCode::OpenshellEnforcement,
            spot.place(),
            spot.name(),
            Says::new(what, fix),
        );
    }
    if endpoint.protocol.is_none() {
        if endpoint.protocol_meant().is_some() {
            let what = "without `protocol` OpenShell ignores rules and access and lets everything through; here they hold";
            let fix = "to keep what it did: remove them; to mean it: protocol: rest";
            found.push(
                FindingCode::OpenshellIgnoredRules,
                spot.place(),
                spot.name(),
                Says::new(what, fix),
            );
        } else if endpoint.access.is_some() {
            let what =
                "`access: full` without `protocol` lets everything through, as it does there";
            let fix = "to have requests judged: protocol: rest";
            found.push(
                FindingCode::OpenshellIgnoredRules,
                spot.place(),
                spot.name(),
                Says::new(what, fix),
            );
        }
    }
    host(spot, found);
    let rewrites = endpoint.credential_binding.is_some()
        || endpoint.request_body_credential_rewrite.is_some()
        || endpoint.websocket_credential_rewrite.is_some()
        || endpoint.credential_signing.is_some();
    if rewrites {
        let what =
            "OpenShell puts a credential in here; this gateway does it by its own config alone";
        let fix = "keep the real value out of the sandbox, and expect requests without it";
        found.push(
            FindingCode::OpenshellCredentials,
            spot.place(),
            spot.name(),
            Says::new(what, fix),
        );
    }
}

fn host(spot: &Spot<'_>, found: &mut Found) {
    let Some(host) = &spot.endpoint.host else { return };
    if host.trim_end_matches('.').eq_ignore_ascii_case(HOST) {
        let what =
            format!("`{HOST}` is OpenShell's name for its host, and resolves to nothing here");
        let fix = "in the gateway's config: upstream: { hosts: { host.openshell.internal: [127.0.0.1] }, allow_internal: [127.0.0.1/32] }";
        found.push(FindingCode::OpenshellHost, spot.at(host), spot.name(), Says::new(what, fix));
        return;
    }
    let private = match Host::parse(host) {
        Ok(Host::Ip(ip)) => classify(ip) != Class::Public,
        Ok(Host::Name(name)) => {
            let name = name.as_str();
            !name.contains('.') || INTERNAL.iter().any(|suffix| name.ends_with(suffix))
        }
        Err(_) => false,
    };
    if private && spot.endpoint.allowed_ips.is_none() {
        let what = format!(
            "{} looks internal: OpenShell reaches a private address behind an exact host, here it is refused",
            spot.host()
        );
        let fix = "add the network that it resolves into: allowed_ips: [10.0.5.0/24]";
        found.push(
            FindingCode::OpenshellPrivateAddress,
            spot.at(host),
            spot.name(),
            Says::new(what, fix),
        );
    }
}
