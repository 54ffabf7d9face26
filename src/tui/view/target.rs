//! Where a request wants to go, as people should see it.
//!
//! Owns the rule that of a host the registrable domain is always whole: what is cut is cut on its
//! left, or is the path.

use crate::addr::{Host, Shown};
use crate::control::wire::{Kind, Request};
use crate::tui::queue::Entry;
use crate::tui::strip::Strip;
use crate::tui::theme::Tone;
use std::net::IpAddr;

/// Most columns of the mark that a cut host carries.
pub(super) const MARK: usize = 14;
/// At least so many columns of a path stand beside a host.
const SOME: usize = 8;
/// Most columns of a target in a list, where it wraps.
pub(super) const LISTED: usize = 480;
/// Most columns of a host whose name can't be read as one.
const ODD: usize = 200;

/// The host in at most about `limit` columns.
pub(super) fn host(host: Option<&Host>, text: &str, limit: usize) -> String {
    match host {
        Some(Host::Ip(IpAddr::V6(ip))) => format!("[{ip}]"),
        Some(host) => Shown::host(host).limit(limit).to_string(),
        None => Shown::new(text).limit(limit.clamp(MARK, ODD)).to_string(),
    }
}

/// `http://` where it is not encrypted, `tcp://` where it is raw; nothing where it is https.
fn before(scheme: &str) -> String {
    if scheme == "https" { String::new() } else { format!("{}://", Shown::new(scheme).limit(8)) }
}

/// `:8443` where it is not the scheme's own port.
fn port(scheme: &str, port: u16) -> String {
    match (scheme, port) {
        ("https", 443) | ("http", 80) => String::new(),
        (_, port) => format!(":{port}"),
    }
}

/// The word for the method: for what has none, what it is.
pub(super) fn method(request: &Request) -> String {
    match (request.kind, &request.method) {
        (Kind::Websocket, _) => "WS".to_owned(),
        (Kind::Grpc, _) => "gRPC".to_owned(),
        (Kind::Tcp, _) => "TCP".to_owned(),
        (Kind::Opaque, _) => "TLS".to_owned(),
        (Kind::Http | Kind::Graphql | Kind::Rpc | Kind::Ahead, Some(method)) => {
            Shown::new(method).limit(20).to_string()
        }
        (Kind::Http | Kind::Graphql | Kind::Rpc | Kind::Ahead, None) => "?".to_owned(),
    }
}

/// Path, query and facts in at most about `limit` columns.
fn path(request: &Request, limit: usize) -> String {
    let mut text = request.path.as_deref().unwrap_or("").to_owned();
    if let Some(query) = &request.query {
        text.push('?');
        text.push_str(query);
    }
    let mut shown = Shown::new(&text).limit(limit).to_string();
    for fact in &request.facts {
        if shown.len() < limit {
            shown.push_str(&format!(" {}", Shown::new(fact).limit(limit)));
        }
    }
    if request.kind == Kind::Ahead {
        shown.push_str(" (asked ahead)");
    }
    shown
}

/// The target in lines of `width` columns: one, unless the host needs more.
pub(super) fn lines(entry: &Entry, width: usize) -> Vec<Strip> {
    let request = &entry.request;
    let (before, port) = (before(&request.scheme), port(&request.scheme, request.port));
    let room = width.saturating_sub(before.len() + port.len());
    let rest = path(request, width * 2);
    let whole = host(entry.host.as_ref(), &request.host, usize::MAX);
    let beside = rest.len().min(SOME);
    // Rather two lines than a host in part.
    let name = if whole.len() <= room + width {
        whole
    } else {
        host(entry.host.as_ref(), &request.host, room.saturating_sub(MARK + beside))
    };
    let mut named = Strip::of(Tone::Doubtful, before).then(Tone::Strong, name);
    named.push(Tone::Plain, port);
    if named.width() + beside <= width {
        return vec![named.then(Tone::Plain, rest).cut(width)];
    }
    let mut lines = named.wrap(width, 0);
    match lines.last_mut() {
        Some(last) if last.width() + beside <= width => {
            *last = std::mem::take(last).then(Tone::Plain, rest).cut(width);
        }
        _ => lines.push(Strip::of(Tone::Plain, rest).cut(width)),
    }
    lines
}

/// Method, host and path as one text that wraps, in at most about `limit` columns: of a longer one
/// the path gives way first, then the host on the left of its registrable domain.
pub(super) fn whole(entry: &Entry, limit: usize) -> Strip {
    let request = &entry.request;
    let name = host(entry.host.as_ref(), &request.host, limit / 2);
    let line = Strip::of(Tone::Strong, method(request))
        .then(Tone::Plain, " ")
        .then(Tone::Doubtful, before(&request.scheme))
        .then(Tone::Strong, name)
        .then(Tone::Plain, port(&request.scheme, request.port));
    let left = limit.saturating_sub(line.width() + MARK + 4);
    line.then(Tone::Plain, path(request, left))
}

/// Scheme, host, port, path and query, whole.
pub(super) fn url(entry: &Entry) -> Strip {
    let request = &entry.request;
    let line = Strip::new().shown(Tone::Faint, &request.scheme).then(Tone::Faint, "://");
    line.then(Tone::Strong, host(entry.host.as_ref(), &request.host, usize::MAX))
        .then(Tone::Plain, port(&request.scheme, request.port))
        .then(Tone::Plain, path(request, usize::MAX))
}

/// The same for a list: one of more than 480 columns says how much of it is left out.
pub(super) fn wrapped(entry: &Entry, width: usize, indent: usize) -> Vec<Strip> {
    let mut out = whole(entry, LISTED).wrap(width.saturating_sub(indent), 0);
    for line in &mut out {
        let mut moved = Strip::of(Tone::Plain, " ".repeat(indent));
        moved.append(std::mem::take(line));
        *line = moved;
    }
    out
}

/// `api.github.com:443`, in at most about `limit` columns.
pub(super) fn authority(entry: &Entry, limit: usize) -> String {
    let request = &entry.request;
    format!("{}:{}", host(entry.host.as_ref(), &request.host, limit), request.port)
}

/// The program's name without its directory, `?` where the process can't be seen.
pub(super) fn program(binary: Option<&str>) -> String {
    let name = binary.map_or("?", |path| path.rsplit('/').next().unwrap_or(path));
    Shown::new(name).limit(40).to_string()
}
