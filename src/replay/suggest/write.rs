//! The suggestion as a policy file, with what a reader wants to know in comments.

use super::Wider;
use super::gather::{Gathered, Site, Taken, binary};
use super::paths::{literal, patterns};
use crate::addr::{Class, Host, Path, Shown, classify};
use crate::approval::risk::{Asked, Known, notes};
use crate::policy::Scheme;
use crate::record::LineScheme;
use crate::traffic::read::Stamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Paths by method, with how often each was asked for; `None`: raw bytes.
type Asks = BTreeMap<Option<String>, BTreeMap<String, u64>>;

/// The file, and which of its patterns are wider than what was seen.
pub(super) fn written(
    gathered: &Gathered,
    sites: &[&Site],
    presets: &[&str],
) -> (String, Vec<Wider>) {
    let mut out = String::from("# Suggested from recorded traffic: read it before you use it.\n");
    let records = if gathered.records == 1 { "record" } else { "records" };
    let hosts = if gathered.sites.len() == 1 { "host and port" } else { "hosts and ports" };
    let (many, sites_seen) = (gathered.records, gathered.sites.len());
    let _ = writeln!(out, "# {many} {records} of {sites_seen} {hosts}");
    if !presets.is_empty() {
        let _ = writeln!(
            out,
            "# It stands beside these presets, which cover whole hosts: {}",
            presets.join(", ")
        );
    }
    out.push_str("version: 1\n");
    if sites.is_empty() {
        return (out, Vec::new());
    }
    out.push_str("network_policies:\n");
    let mut wider = Vec::new();
    let mut names = BTreeSet::new();
    for site in sites {
        remarks(&mut out, site);
        for (binaries, asks) in entries(site, gathered.options.processes) {
            let name = name(site, &mut names);
            let _ = writeln!(out, "  {name}:\n    endpoints:");
            endpoints(&mut out, (site, &asks), gathered.options.merge, &mut wider);
            if !binaries.is_empty() {
                out.push_str("    binaries:\n");
                for binary in binaries {
                    let _ = writeln!(out, "      - {{ path: {} }}", quoted(&literal(&binary)));
                }
            }
        }
    }
    (out, wider)
}

/// What was asked, by whom: processes that asked for the same stand together; an empty list is
/// any process.
fn entries(site: &Site, processes: bool) -> Vec<(Vec<String>, Asks)> {
    let mut by_process: BTreeMap<Option<String>, Asks> = BTreeMap::new();
    let only_raw = raw(site);
    for taken in site.taken.values().filter(|taken| taken.record.method.is_some() || only_raw) {
        let process = binary(&taken.record).filter(|_| processes).map(str::to_owned);
        let asks = by_process.entry(process).or_default();
        let Some(method) = &taken.record.method else {
            *asks.entry(None).or_default().entry(String::new()).or_default() += taken.count;
            continue;
        };
        let raw = taken.record.path.as_deref().unwrap_or_default();
        let Ok(path) = Path::parse(raw) else { continue };
        // A handshake is a GET, however it was sent.
        let method = if taken.record.websocket { "GET" } else { method };
        let paths = asks.entry(Some(method.to_ascii_uppercase())).or_default();
        for reading in path.readings().iter() {
            *paths.entry(reading.to_owned()).or_default() += taken.count;
        }
    }
    let mut entries: Vec<(Vec<String>, Asks)> = Vec::new();
    for (process, asks) in by_process {
        let same = |paths: &Asks, others: &Asks| {
            let keys = |asks: &Asks| -> Vec<(Option<String>, Vec<String>)> {
                asks.iter().map(|(m, p)| (m.clone(), p.keys().cloned().collect())).collect()
            };
            keys(paths) == keys(others)
        };
        let Some(process) = process else {
            entries.push((Vec::new(), asks));
            continue;
        };
        match entries.iter_mut().find(|(b, other)| !b.is_empty() && same(other, &asks)) {
            Some((binaries, _)) => binaries.push(process),
            None => entries.push((vec![process], asks)),
        }
    }
    entries
}

/// Whether nothing but raw bytes went there.
fn raw(site: &Site) -> bool {
    site.taken.values().all(|taken| taken.record.method.is_none())
}

fn endpoints(
    out: &mut String,
    (site, asks): (&Site, &Asks),
    merge: Option<usize>,
    wider: &mut Vec<Wider>,
) {
    // A tunnel to a host that speaks HTTP was looked into, or should be: what was in it is not
    // known, and raw bytes for it would let anything through.
    if asks.keys().all(Option::is_none) && raw(site) {
        head(out, site, "tcp");
        return;
    }
    head(out, site, "rest");
    if asks
        .values()
        .flat_map(BTreeMap::keys)
        .any(|path| path.contains("%2F") || path.contains("%25"))
    {
        out.push_str("        allow_encoded_slash: true\n");
    }
    out.push_str("        rules:\n");
    let get = asks.get(&Some("GET".to_owned()));
    for (method, counts) in asks {
        let Some(method) = method else { continue };
        let mut paths: BTreeSet<String> = counts.keys().cloned().collect();
        if method == "HEAD" {
            // GET covers it.
            paths.retain(|path| !get.is_some_and(|get| get.contains_key(path)));
        }
        for pattern in patterns(&paths, merge) {
            let count: u64 = pattern.paths.iter().filter_map(|path| counts.get(path)).sum();
            let method_text = quoted(method);
            let text = quoted(&pattern.text);
            let _ = write!(out, "          - allow: {{ method: {method_text}, path: {text} }}");
            let seen = pattern.paths.len();
            let wide = pattern.text.split('/').any(|segment| segment == "*" || segment == "**");
            let _ = match wide {
                true => writeln!(out, "  # {} for {seen} paths", many(count)),
                false => writeln!(out, "  # {}", many(count)),
            };
            if wide {
                wider.push(Wider {
                    target: site.target(),
                    method: Shown::new(method).to_string(),
                    pattern: pattern.text,
                    seen,
                });
            }
        }
    }
}

fn head(out: &mut String, site: &Site, protocol: &str) {
    let host = quoted(&site.host.to_string());
    let _ = writeln!(out, "      - host: {host}\n        port: {}", site.port.get());
    let _ = writeln!(out, "        protocol: {protocol}\n        enforcement: enforce");
    if let Host::Ip(ip) = &site.host {
        let class = classify(*ip);
        if class != Class::Public && !class.operator_only() {
            let _ = writeln!(out, "        allowed_ips: [{}]", quoted(&ip.to_string()));
        }
    }
}

/// How often, when, and what an operator would want pointed out.
fn remarks(out: &mut String, site: &Site) {
    let taken = || site.taken.values();
    let count: u64 = taken().map(|taken| taken.count).sum();
    let first = taken().filter_map(|taken| taken.first).min();
    let last = taken().filter_map(|taken| taken.last).max();
    let day = |stamp: Stamp| stamp.to_string().split('T').next().unwrap_or_default().to_owned();
    let when = match (first, last) {
        (Some(first), Some(last)) => format!(", {} to {}", day(first), day(last)),
        _ => String::new(),
    };
    let _ = writeln!(out, "  # {}: {}{when}", Shown::host(&site.host), many(count));
    let mut said = BTreeMap::new();
    for note in taken().flat_map(|taken| risks(site, taken)) {
        said.entry(note.code).or_insert(note.text);
    }
    for text in said.into_values() {
        let _ = writeln!(out, "  # risk: {text}");
    }
    if raw(site) {
        out.push_str("  # raw bytes: nothing of what is sent is seen\n");
    }
}

fn risks(site: &Site, taken: &Taken) -> Vec<crate::approval::risk::Note> {
    let record = &taken.record;
    let asked = Asked {
        scheme: match record.scheme {
            LineScheme::Http => Scheme::Http,
            LineScheme::Https => Scheme::Https,
            LineScheme::Tcp => Scheme::Tcp,
        },
        host: &site.host,
        port: site.port,
        method: record.method.as_deref().unwrap_or_default(),
        path: record.path.as_deref().unwrap_or_default(),
        query: record.query.as_deref(),
        upload: None,
        headers: &[],
        body: b"",
        longer: false,
        opaque: false,
    };
    notes(&asked, &Known { allowed: &[], first_seen_today: false, secret: &|_| None })
}

fn many(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// A key that no other entry has, made of the host.
fn name(site: &Site, names: &mut BTreeSet<String>) -> String {
    let host = site.host.to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let mut base: String = host.chars().map(plain).collect();
    if !base.starts_with(|c: char| c.is_ascii_alphabetic()) {
        base.insert_str(0, "host-");
    }
    if site.port.get() != 443 {
        let _ = write!(base, "-{}", site.port.get());
    }
    let mut name = base.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// In double quotes, as YAML and JSON both read it; ASCII, so that a terminal can show it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            c if u32::from(c) <= 0xffff => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out + "\""
}
