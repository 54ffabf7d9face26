//! Rules that do nothing: shadowed, always denied, out of scope, or a deny that meets no allow.

use super::overlap::{covers, is_everything, overlap};
use super::{FindingCode, Found, Place, Says, Spot};
use crate::policy::document::{Access, Matched, Protocol};
use crate::policy::pattern::{HostPattern, TextPattern};

/// A rule about HTTP, allow or deny.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http<'d> {
    pub(super) method: &'d str,
    pub(super) path: &'d str,
    queries: bool,
    pub(super) matched: Matched<'d>,
}

/// Looks at the rules of one endpoint, beside all others.
pub(super) fn check(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    uninspected(spot, all, found);
    scope(spot, all, found);
    tools(spot, found);
    shadowed(spot, found);
    always_denied(spot, all, found);
    idle_denies(spot, all, found);
    unseen_messages(spot, all, found);
    unseen_bodies(spot, all, found);
    unseen_operations(spot, all, found);
}

/// The HTTP rules of an endpoint that allow, with their index and place.
pub(super) fn allows<'d>(spot: &Spot<'d>) -> Vec<(usize, Place<'d>, Http<'d>)> {
    let rules = spot.endpoint.rules.iter().flat_map(|rules| rules.iter()).enumerate();
    rules.filter_map(|(i, rule)| Some((i, spot.at(rule), http(rule.allow.matched())?))).collect()
}

/// The HTTP rules of an endpoint that deny.
pub(super) fn denies<'d>(spot: &Spot<'d>) -> Vec<(usize, Place<'d>, Http<'d>)> {
    let rules = spot.endpoint.deny_rules.iter().flat_map(|rules| rules.iter()).enumerate();
    rules.filter_map(|(i, rule)| Some((i, spot.at(rule), http(rule.matched())?))).collect()
}

fn http(matched: Matched<'_>) -> Option<Http<'_>> {
    let (method, path) = (matched.method?, matched.path?);
    Some(Http { method, path, queries: !matched.query.is_empty(), matched })
}

fn speaks_http(spot: &Spot<'_>) -> bool {
    matches!(spot.endpoint.protocol_meant(), Some(Protocol::Rest | Protocol::Websocket))
}

/// The inspected endpoint that covers all that this one does, which then does not count for HTTP.
pub(super) fn speaker<'s, 'd>(spot: &Spot<'d>, all: &'s [Spot<'d>]) -> Option<&'s Spot<'d>> {
    all.iter()
        .find(|other| speaks(other, spot) && same_host(spot, other) && every_port(spot, other))
}

/// Whether an endpoint is inspected, and is for all processes that `spot` is for.
fn speaks(other: &Spot<'_>, spot: &Spot<'_>) -> bool {
    !matches!(other.endpoint.protocol_meant(), None | Some(Protocol::Tcp))
        && (any_process(other) || same_entry(spot, other))
}

/// An endpoint without a protocol does not count where an inspected one covers the same host and port; of
/// one with `tcp` other bytes than TLS and HTTP pass all the same.
fn uninspected(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    if spot.endpoint.protocol_meant().is_some() {
        return;
    }
    if let Some(speaker) = speaker(spot, all) {
        let what = format!(
            "{} inspects the same host and ports and speaks alone: this endpoint never counts",
            speaker.name()
        );
        let fix = "remove this endpoint, or widen that one's rules";
        found.push(FindingCode::Shadowed, spot.place(), spot.name(), Says::new(what, fix));
    } else if let Some(speaker) = hostless_speaker(spot, all) {
        let what = format!(
            "{} names no host, so it inspects every name on its ports and speaks alone: this endpoint does not count there",
            speaker.name()
        );
        let fix = "give this endpoint a `protocol`, or that one its hosts";
        found.push(FindingCode::Shadowed, spot.place(), spot.name(), Says::new(what, fix));
    }
}

/// The inspected endpoint without a host on a port of one that has a host (ADR 0030).
fn hostless_speaker<'s, 'd>(spot: &Spot<'d>, all: &'s [Spot<'d>]) -> Option<&'s Spot<'d>> {
    spot.endpoint.host.as_ref()?;
    all.iter().find(|other| {
        other.endpoint.host.is_none() && speaks(other, spot) && ports_meet(spot, other)
    })
}

/// A rule about tools that names another method than the one that calls them.
fn tools(spot: &Spot<'_>, found: &mut Found) {
    if spot.endpoint.protocol_meant() != Some(Protocol::Mcp) {
        return;
    }
    let rules = spot.endpoint.rules.iter().flat_map(|rules| rules.iter()).enumerate();
    let rules = rules.map(|(i, rule)| ("rules", i, spot.at(rule), rule.allow.matched()));
    let denies = spot.endpoint.deny_rules.iter().flat_map(|rules| rules.iter()).enumerate();
    let denies = denies.map(|(i, rule)| ("deny_rules", i, spot.at(rule), rule.matched()));
    for (list, i, place, matched) in rules.chain(denies) {
        let (Some(method), Some(_)) = (matched.method, matched.tool) else { continue };
        let calls = TextPattern::parse(method).is_ok_and(|method| method.matches("tools/call"));
        if !calls {
            let name = format!("{}/{list}[{i}]", spot.name());
            let what = format!(
                "only `tools/call` calls a tool, and the rule is for {method}: it never matches"
            );
            let fix = "remove `tool` (or `params.name`), or write method: tools/call";
            found.push(FindingCode::NeverMatches, place, name, Says::new(what, fix));
        }
    }
}

fn scope(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    // A deny rule counts whichever endpoint lets the slash come.
    let anywhere = all.iter().any(|other| {
        other.endpoint.allow_encoded_slash == Some(true)
            && hosts_meet(spot, other)
            && ports_meet(spot, other)
    });
    let own = spot.endpoint.allow_encoded_slash == Some(true);
    let both = [("rules", allows(spot)), ("deny_rules", denies(spot))];
    for (list, rules) in both {
        let slash = if list == "rules" { own } else { anywhere };
        for (i, place, rule) in rules {
            let name = format!("{}/{list}[{i}]", spot.name());
            if let Some(scope) = &spot.endpoint.path
                && !overlap(scope, rule.path)
            {
                let what = "the rule's path lies outside the endpoint's `path`: it never matches";
                let fix = "a rule's path is the whole path: repeat the scope in it";
                found.push(FindingCode::NeverMatches, place, name, Says::new(what, fix));
            } else if !slash && rule.path.to_ascii_uppercase().contains("%2F") {
                let what = "`%2F` in the path, which this endpoint refuses: it never matches";
                let fix = "allow_encoded_slash: true";
                found.push(FindingCode::NeverMatches, place, name, Says::new(what, fix));
            }
        }
    }
}

fn shadowed(spot: &Spot<'_>, found: &mut Found) {
    for (list, rules) in [("rules", allows(spot)), ("deny_rules", denies(spot))] {
        for (i, place, rule) in &rules {
            let wider = rules.iter().find(|(j, _, other)| {
                j != i && rule_covers(other, rule) && (j < i || !rule_covers(rule, other))
            });
            if let Some((j, _, _)) = wider {
                let name = format!("{}/{list}[{i}]", spot.name());
                let what = format!("{list}[{j}] matches all that this rule matches");
                found.push(
                    FindingCode::Shadowed,
                    *place,
                    name,
                    Says::new(what, "remove one of the two"),
                );
            }
        }
    }
}

fn always_denied(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    for (i, place, allow) in allows(spot) {
        let denier = all
            .iter()
            .filter(|other| same_host(spot, other) && every_port(spot, other))
            .filter(|other| any_process(other) || same_entry(spot, other))
            .filter(|other| scope_covers(other, allow.path))
            .find_map(|other| {
                let denies = denies(other);
                let (j, ..) = denies.iter().find(|(_, _, deny)| rule_covers(deny, &allow))?;
                Some(format!("{}/deny_rules[{j}]", other.name()))
            });
        if let Some(denier) = denier {
            let name = format!("{}/rules[{i}]", spot.name());
            let what = format!("{denier} denies all that this rule allows");
            let fix = "remove the rule, or narrow the deny rule";
            found.push(FindingCode::AlwaysDenied, place, name, Says::new(what, fix));
        }
    }
}

/// A deny rule that no allow overlaps.
fn idle_denies(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    if !speaks_http(spot) {
        return;
    }
    for (i, place, deny) in denies(spot) {
        // `*` on everything closes the endpoint; that is meant.
        if deny.method == "*" && is_everything(deny.path) {
            continue;
        }
        let met = all.iter().any(|other| {
            hosts_meet(spot, other) && ports_meet(spot, other) && allow_meets(other, &deny)
        });
        if met {
            continue;
        }
        let name = format!("{}/deny_rules[{i}]", spot.name());
        let near = all.iter().filter(|other| hosts_meet(spot, other)).flat_map(allows).find(
            |(_, _, allow)| {
                methods_meet(allow.method, deny.method) && overlap(&loose(deny.path), allow.path)
            },
        );
        let (what, fix) = match near {
            Some((_, _, allow)) => (
                format!(
                    "no allow rule overlaps this deny rule, but `{}` comes near: `*` stays in one segment",
                    crate::addr::Shown::new(allow.path)
                ),
                format!("did you mean {}?", crate::addr::Shown::new(&wider(deny.path, allow.path))),
            ),
            None => (
                "no allow rule overlaps this deny rule: it forbids what nothing allows".to_owned(),
                "remove it, or keep it so that nobody is asked about it".to_owned(),
            ),
        };
        found.push(FindingCode::DenyOverlapsNothing, place, name, Says::new(what, fix));
    }
}

/// The fix where a `rest` endpoint lets through what another one restricts.
const LEAVE_OUT: &str =
    "give that endpoint a `path`, or rules, that leave this path out; or use deny_rules";

/// The `rest` endpoints that speak for requests of this one too.
fn rest_beside<'s, 'd>(
    spot: &'s Spot<'d>,
    all: &'s [Spot<'d>],
) -> impl Iterator<Item = &'s Spot<'d>> {
    all.iter().filter(move |other| {
        other.endpoint.protocol_meant() == Some(Protocol::Rest)
            && (same_host(spot, other) || (is_exact(spot) && hosts_meet(spot, other)))
            && ports_meet(spot, other)
            && (any_process(other) || same_entry(spot, other))
    })
}

/// A `rest` endpoint that allows the GET of a handshake allows what comes after it: messages are
/// held against the deny rules of a `websocket` endpoint beside it, but not against its rules.
fn unseen_messages(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    let endpoint = &spot.endpoint;
    let restricts = match &endpoint.access {
        Some(access) => **access == Access::ReadOnly,
        None => endpoint.rules.is_some(),
    };
    if endpoint.protocol_meant() != Some(Protocol::Websocket) || !restricts {
        return;
    }
    let beside = rest_beside(spot, all)
        .find(|other| handshakes(spot).iter().any(|path| takes(other, "GET", path)));
    if let Some(beside) = beside {
        let what = format!(
            "{} allows GET on the same path, and so the handshake and all messages after it: what is said of messages here does not hold",
            beside.name()
        );
        found.push(
            FindingCode::UnseenMessages,
            spot.place(),
            spot.name(),
            Says::new(what, LEAVE_OUT),
        );
    }
}

/// A `rest` endpoint that allows the POST allows it whatever its body says: bodies are held against the deny
/// rules of an endpoint beside it that reads them, but not against its rules. (OpenShell has a GraphQL endpoint speak
/// alone for its path.)
fn unseen_bodies(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    let endpoint = &spot.endpoint;
    let reads = matches!(
        endpoint.protocol_meant(),
        Some(Protocol::Graphql | Protocol::JsonRpc | Protocol::Mcp)
    );
    let restricts = match &endpoint.access {
        Some(access) => **access != Access::Full,
        None => endpoint.rules.is_some(),
    };
    if !reads || !restricts {
        return;
    }
    let path = endpoint.path.as_deref().map_or("/**", String::as_str);
    let beside = rest_beside(spot, all).find(|other| takes(other, "POST", path));
    if let Some(beside) = beside {
        let what = format!(
            "{} allows POST on the same path, whatever the body says: the rules of this endpoint do not hold",
            beside.name()
        );
        found.push(
            FindingCode::UnseenBodies,
            spot.place(),
            spot.name(),
            Says::new(what, LEAVE_OUT),
        );
    }
}

/// What a `websocket` endpoint forbids of GraphQL it forbids in messages alone: the same operation goes through
/// in the body of a POST that a `rest` endpoint allows.
fn unseen_operations(spot: &Spot<'_>, all: &[Spot<'_>], found: &mut Found) {
    if spot.endpoint.protocol_meant() != Some(Protocol::Websocket) {
        return;
    }
    let rules = spot.endpoint.deny_rules.iter().flat_map(|rules| rules.iter());
    let Some(denies) = rules.into_iter().find(|rule| {
        let rule = rule.matched();
        rule.operation_type.is_some() || rule.operation_name.is_some() || rule.fields.is_some()
    }) else {
        return;
    };
    let reads = |other: &Spot<'_>| {
        other.endpoint.protocol_meant() == Some(Protocol::Graphql)
            && other.endpoint.deny_rules.is_some()
            && (same_host(spot, other) || hosts_meet(spot, other))
    };
    let paths = handshakes(spot);
    let takes_post = |other: &&Spot<'_>| paths.iter().any(|path| takes(other, "POST", path));
    if let Some(beside) = rest_beside(spot, all).find(takes_post)
        && !all.iter().any(reads)
    {
        let what = format!(
            "{} allows POST on the same path, whose bodies nobody reads: this rule is about messages alone",
            beside.name()
        );
        let fix = "add an endpoint with `protocol: graphql` for the path, with the same deny rules";
        found.push(FindingCode::UnseenBodies, spot.at(denies), spot.name(), Says::new(what, fix));
    }
}

/// The paths on which a `websocket` endpoint allows the handshake.
fn handshakes<'d>(spot: &Spot<'d>) -> Vec<&'d str> {
    let ruled = allows(spot).into_iter().filter(|(_, _, rule)| methods_meet(rule.method, "GET"));
    match (&spot.endpoint.access, spot.endpoint.value.path.as_deref()) {
        (Some(_), Some(scope)) => vec![scope],
        (Some(_), None) => vec!["/**"],
        (None, _) => ruled.map(|(_, _, rule)| rule.path).collect(),
    }
}

/// Whether a `rest` endpoint allows `method` on some path that matches `path`.
fn takes(spot: &Spot<'_>, method: &str, path: &str) -> bool {
    let endpoint = &spot.endpoint;
    if endpoint.path.as_ref().is_some_and(|scope| !overlap(scope, path)) {
        return false;
    }
    let by_access = match endpoint.access.as_deref() {
        Some(Access::ReadOnly) => method == "GET",
        Some(_) => true,
        None => false,
    };
    by_access
        || allows(spot)
            .iter()
            .any(|(_, _, rule)| methods_meet(rule.method, method) && overlap(rule.path, path))
}

fn is_exact(spot: &Spot<'_>) -> bool {
    matches!(host(spot), Some(HostPattern::Exact(_)))
}

/// The path with every `*` segment standing for any number of segments.
fn loose(path: &str) -> String {
    path.split('/').map(|s| if s == "*" { "**" } else { s }).collect::<Vec<_>>().join("/")
}

/// The deny's path with its first `*` doubled until it overlaps the allow's; `loose` otherwise.
fn wider(deny: &str, allow: &str) -> String {
    for times in 2..=4 {
        let doubled = deny.replacen("/*/", &format!("{}/", "/*".repeat(times)), 1);
        if overlap(&doubled, allow) {
            return doubled;
        }
    }
    loose(deny)
}

fn allow_meets(spot: &Spot<'_>, deny: &Http<'_>) -> bool {
    let endpoint = &spot.endpoint;
    if endpoint.path.as_ref().is_some_and(|scope| !overlap(scope, deny.path)) {
        return false;
    }
    match (&endpoint.access, endpoint.protocol_meant()) {
        (_, None | Some(Protocol::Tcp)) => true,
        (Some(access), Some(_)) => access_meets(**access, deny.method),
        (None, Some(Protocol::Graphql | Protocol::JsonRpc | Protocol::Mcp | Protocol::Sql)) => true,
        (None, Some(Protocol::Rest | Protocol::Websocket)) => {
            allows(spot).iter().any(|(_, _, allow)| {
                methods_meet(allow.method, deny.method) && overlap(allow.path, deny.path)
            })
        }
    }
}

fn access_meets(access: Access, method: &str) -> bool {
    let reading = ["GET", "HEAD", "OPTIONS"];
    let writing = ["POST", "PUT", "PATCH", "WEBSOCKET_TEXT"];
    let among =
        |list: &[&str]| method == "*" || list.iter().any(|m| m.eq_ignore_ascii_case(method));
    match access {
        Access::ReadOnly => among(&reading),
        Access::ReadWrite => among(&reading) || among(&writing),
        Access::Full => true,
    }
}

/// Surely every request that `narrow` matches is matched by `wide`.
fn rule_covers(wide: &Http<'_>, narrow: &Http<'_>) -> bool {
    let methods = wide.method == "*"
        || wide.method.eq_ignore_ascii_case(narrow.method)
        || (wide.method.eq_ignore_ascii_case("GET") && narrow.method.eq_ignore_ascii_case("HEAD"));
    let queries = !wide.queries || wide.matched.query == narrow.matched.query;
    methods && queries && covers(wide.path, narrow.path)
}

fn methods_meet(a: &str, b: &str) -> bool {
    let head = |a: &str, b: &str| a.eq_ignore_ascii_case("GET") && b.eq_ignore_ascii_case("HEAD");
    a == "*" || b == "*" || a.eq_ignore_ascii_case(b) || head(a, b) || head(b, a)
}

fn scope_covers(spot: &Spot<'_>, path: &str) -> bool {
    spot.endpoint.path.as_ref().is_none_or(|scope| covers(scope, path))
}

fn same_host(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    matches!((host(a), host(b)), (Some(a), Some(b)) if a == b)
}

/// Whether some host is named by both.
fn hosts_meet(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    match (host(a), host(b)) {
        (Some(HostPattern::Exact(a)), Some(b)) | (Some(b), Some(HostPattern::Exact(a))) => {
            b.matches(&a)
        }
        // Two patterns, or no host: taken as meeting.
        _ => true,
    }
}

fn host(spot: &Spot<'_>) -> Option<HostPattern> {
    HostPattern::parse(spot.endpoint.host.as_ref()?).ok()
}

fn every_port(narrow: &Spot<'_>, wide: &Spot<'_>) -> bool {
    let (narrow, wide) = (narrow.endpoint.ports_meant(), wide.endpoint.ports_meant());
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|port| wide.contains(port)))
}

fn ports_meet(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    let (a, b) = (a.endpoint.ports_meant(), b.endpoint.ports_meant());
    a.is_empty() || b.is_empty() || a.iter().any(|port| b.contains(port))
}

fn any_process(spot: &Spot<'_>) -> bool {
    spot.entry.binaries.is_none()
}

fn same_entry(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    a.file == b.file && a.key == b.key
}
