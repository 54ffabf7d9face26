//! OpenShell's OCSF events, one JSON object a line: HTTP Activity (4002) is a request, Network
//! Activity (4001) a tunnel. Other classes are passed over, and so is an event that decided
//! nothing (`action_id` is neither 1, allowed, nor 2, denied).
//!
//! What no policy matched is denied there, too: where the event names no rule, it was unknown in
//! our words. A CONNECT that is let
//! through says nothing of what was inside. The process is the executable where its name is a
//! path; its ancestors are not all there.

use super::{Facts, Item, Names, Recorded, Seen, Stamp};
use crate::record::{Judged, LineScheme};
use serde_json::Value;
use std::borrow::Cow;

/// What an event came to.
pub(super) fn event(event: &Value) -> Item<'static> {
    let verdict = match event["action_id"].as_u64() {
        Some(1) if audited(event) => Judged::Audit,
        Some(1) => Judged::Allow,
        Some(2) if unmatched(event) => Judged::Unknown,
        Some(2) => Judged::Deny,
        _ => return Item::Other,
    };
    let read = match event["class_uid"].as_u64() {
        Some(4002) => request(event),
        Some(4001) => tunnel(event),
        _ => return Item::Other,
    };
    let Some(read) = read else { return Item::Other };
    let (host, port) = match target(event) {
        Ok(target) => target,
        Err(problem) => return Item::Broken(problem.to_owned()),
    };
    let rule = rule(event);
    Item::Record(Box::new(Recorded {
        time: event["time"].as_i64().map(|ms| Stamp(ms.saturating_mul(1000))),
        id: text(&event["metadata"]["uid"]),
        sandbox: text(&event["container"]["name"]),
        process: process(&event["actor"]["process"]),
        host,
        port,
        verdict: Some(verdict),
        rule: rule.map(|rule| Cow::Owned(rule.to_owned())),
        code: text(&event["status_detail"]),
        ..read
    }))
}

/// The rule that decided; `-` stands for none.
fn rule(event: &Value) -> Option<&str> {
    event["firewall_rule"]["name"].as_str().filter(|name| *name != "-" && !name.is_empty())
}

fn unmatched(event: &Value) -> bool {
    rule(event).is_none()
}

/// OpenShell lets a request through under `enforcement: audit` and says so beside the action.
fn audited(event: &Value) -> bool {
    event["unmapped"]["l7_decision"].as_str() == Some("audit")
}

/// `None` where the event names no URL: it is about something that happened to a request.
fn request(event: &Value) -> Option<Recorded<'static>> {
    let asked = &event["http_request"];
    let (method, url) = (text(&asked["http_method"])?, &asked["url"]);
    if *method == *"-" {
        return None;
    }
    let target = url["path"].as_str()?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, url["query_string"].as_str()),
    };
    let scheme = match url["scheme"].as_str() {
        Some("https" | "wss") => LineScheme::Https,
        _ => LineScheme::Http,
    };
    Some(Recorded {
        method: Some(method),
        path: Some(Cow::Owned(if path.is_empty() { "/" } else { path }.to_owned())),
        query: query.map(|query| Cow::Owned(query.to_owned())),
        websocket: matches!(url["scheme"].as_str(), Some("ws" | "wss")),
        facts: Facts::Unsaid,
        ..Recorded::new(scheme)
    })
}

/// A connection over TCP.
fn tunnel(event: &Value) -> Option<Recorded<'static>> {
    let protocol = event["connection_info"]["protocol_name"].as_str();
    let tcp = protocol.is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
    tcp.then(|| Recorded::new(LineScheme::Tcp))
}

/// Where it went: the destination, else the URL.
fn target(event: &Value) -> Result<(Cow<'static, str>, u16), &'static str> {
    let (endpoint, url) = (&event["dst_endpoint"], &event["http_request"]["url"]);
    let host = [&endpoint["domain"], &url["hostname"], &endpoint["ip"]];
    let host = host.into_iter().find_map(text).ok_or("the event names no destination")?;
    let port = [&endpoint["port"], &url["port"]].into_iter().find_map(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    Ok((host, port.ok_or("the event names no port")?))
}

fn process(process: &Value) -> Seen<'static> {
    let name = |process: &Value| text(&process["name"]).filter(|name| name.starts_with('/'));
    let Some(binary) = name(process) else { return Seen::Unsaid };
    let mut ancestors = Vec::new();
    let mut at = &process["parent_process"];
    while at.is_object() && ancestors.len() < 64 {
        ancestors.extend(name(at));
        at = &at["parent_process"];
    }
    Seen::Partly(binary, Names::List(ancestors))
}

fn text(value: &Value) -> Option<Cow<'static, str>> {
    value.as_str().filter(|text| !text.is_empty()).map(|text| Cow::Owned(text.to_owned()))
}
