//! Rules that look as if they meant something else, and so match nothing of it.

use super::dead::{Http, allows, denies};
use super::{FindingCode, Found, Says, Spot};
use crate::addr::Shown;
use crate::policy::document::Protocol;

/// Looks at the HTTP rules of one endpoint.
pub(super) fn check(spot: &Spot<'_>, found: &mut Found) {
    for (list, rules) in [("rules", allows(spot)), ("deny_rules", denies(spot))] {
        for (i, place, rule) in rules {
            let name = || format!("{}/{list}[{i}]", spot.name());
            let mut never = |what: String, fix: String| {
                found.push(FindingCode::NeverMatches, place, name(), Says::new(what, fix));
            };
            query_in_path(&rule, &mut never);
            glob_in_key(&rule, &mut never);
            message_without_websocket(spot, &rule, &mut never);
        }
    }
}

/// `/search?q=secret`: the `?` is one character of the path.
fn query_in_path(rule: &Http<'_>, never: &mut impl FnMut(String, String)) {
    let Some((path, query)) = rule.path.split_once('?') else { return };
    let Some((key, value)) = query.split_once('=') else { return };
    let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if key.is_empty() || !key.bytes().all(is_key) {
        return;
    }
    let value = value.split('&').next().unwrap_or_default();
    let (path, value) = (Shown::new(path).to_string(), Shown::new(value).to_string());
    never(
        format!(
            "a path has no query, and `?` in it is any one character: this never matches `{path}` with `{key}={value}`"
        ),
        format!("path: \"{path}\", query: {{ {key}: \"{value}\" }}"),
    );
}

/// `query: { "utm_*": … }`: a key is matched as it is written.
fn glob_in_key(rule: &Http<'_>, never: &mut impl FnMut(String, String)) {
    let globbed = rule.matched.query.keys().find(|key| key.contains(['*', '?', '{']));
    if let Some(key) = globbed {
        let key = Shown::new(key);
        never(
            format!("the key `{key}` of a query is no glob: it matches that very key alone"),
            "write each key out: query: { a: \"*\", b: \"*\" } wants both; for either, two rules"
                .to_owned(),
        );
    }
}

/// `WEBSOCKET_TEXT` is what `websocket` calls a message: no request has it.
fn message_without_websocket(
    spot: &Spot<'_>,
    rule: &Http<'_>,
    never: &mut impl FnMut(String, String),
) {
    let rest = spot.endpoint.protocol_meant() == Some(Protocol::Rest);
    if rest && rule.method.eq_ignore_ascii_case("WEBSOCKET_TEXT") {
        never(
            "messages of WebSockets are not looked at under `protocol: rest`: it never matches"
                .to_owned(),
            "an endpoint with protocol: websocket for the path".to_owned(),
        );
    }
}
