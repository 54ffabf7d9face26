//! What an answer would cover: a pattern for a path, and the rule as YAML.

use crate::addr::{Path, Shown};
use crate::policy::{
    Answer, Approval, Cover, GraphqlOperation, OwnedBody, RpcCall, What, query_values,
};
use crate::record::rfc3339;
use serde_json::json;
use std::fmt::Write;

/// A token of at least this many characters that mixes letters and digits is one of many.
const LONG: usize = 20;
/// Hexadecimal digits that are a hash or part of one.
const HASH: usize = 7;

/// The pattern that is proposed for a path: numbers, UUIDs, hashes and long tokens become `*`,
/// what would be read as a pattern is taken literally.
pub fn generalise(path: &str) -> String {
    in_every_reading(path, |reading| {
        let segments = reading.split('/').map(|segment| match varies(segment) {
            true => "*".to_owned(),
            false => matching_exactly(segment),
        });
        segments.collect::<Vec<_>>().join("/")
    })
}

/// The pattern that matches a path alone, in all the readings that must pass.
fn exactly(path: &str) -> String {
    in_every_reading(path, matching_exactly)
}

/// `//` and `;` are read in more than one way, and all of them are judged: alternates, after the
/// `/` that all begin with.
fn in_every_reading(path: &str, pattern: impl Fn(&str) -> String) -> String {
    let Ok(path) = Path::parse(path) else { return pattern(path) };
    let mut patterns: Vec<String> = path.readings().iter().map(pattern).collect();
    patterns.dedup();
    if let [one] = &patterns[..] {
        return one.clone();
    }
    let rest = |pattern: &String| pattern.strip_prefix('/').unwrap_or(pattern).replace(',', "[,]");
    format!("/{{{}}}", patterns.iter().map(rest).collect::<Vec<_>>().join(","))
}

/// Whether a segment is likely one of many: a number, a UUID, a hash, a long token.
fn varies(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if bytes.is_empty() {
        return false;
    }
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    if digits == bytes.len() || is_uuid(segment) {
        return true;
    }
    let hex = bytes.iter().all(u8::is_ascii_hexdigit);
    if hex && digits > 0 && letters > 0 && bytes.len() >= HASH {
        return true;
    }
    let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'~');
    bytes.len() >= LONG && digits > 1 && letters > 1 && bytes.iter().all(token) && mixed(segment)
}

fn is_uuid(segment: &str) -> bool {
    segment.len() == 36
        && segment.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Letters and digits take turns, as in a token and not as in `release-notes-for-version-12`.
fn mixed(segment: &str) -> bool {
    let turns = segment
        .as_bytes()
        .windows(2)
        .filter(|pair| {
            pair[0].is_ascii_alphanumeric()
                && pair[1].is_ascii_alphanumeric()
                && (pair[0].is_ascii_digit() != pair[1].is_ascii_digit()
                    || (pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()))
        })
        .count();
    turns >= 4
}

/// The pattern that matches `text` alone.
pub(super) fn matching_exactly(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => pattern.push_str("\\\\"),
            '*' | '?' | '[' | ']' | '{' | '}' => {
                pattern.push('[');
                pattern.push(c);
                pattern.push(']');
            }
            c => pattern.push(c),
        }
    }
    pattern
}

/// The entry of a policy file that says what the answer says, with who, when and why as comments.
/// A rule can't name a body, nor forbid further query keys, nor leave out the programs that a
/// program starts: where it is wider than the answer it says so itself.
/// Where rules are about what the `body` says, this one is too.
pub fn rule(
    number: u64,
    (cover, body): (&Cover, Option<&OwnedBody>),
    approval: &Approval,
) -> String {
    let spoken = match (&cover.what, approval.decision) {
        (What::Exact { websocket: false, .. }, Answer::Approve) => body.and_then(spoken),
        _ => None,
    };
    let mut text = String::new();
    let word = match approval.decision {
        Answer::Approve => "approved",
        Answer::Deny => "denied",
    };
    let by = Shown::new(&approval.by);
    let at = rfc3339(approval.at);
    let _ = writeln!(
        text,
        "  # r{number} {word} by {by} (uid {}) via {} at {at}",
        approval.uid, approval.via
    );
    if let Some(reason) = &approval.reason {
        let _ = writeln!(text, "  # why: {}", Shown::new(reason));
    }
    let _ = writeln!(text, "  {word}-r{number}:");
    if let Some(wider) = wider(cover, spoken.is_some(), approval.decision) {
        let _ = writeln!(text, "    # {wider}");
    }
    let _ = writeln!(text, "    endpoints:");
    let _ = writeln!(text, "      - host: {}", quoted(&cover.host));
    let _ = writeln!(text, "        port: {}", cover.port);
    match (&cover.what, spoken) {
        (What::Exact { path, .. }, Some(Spoken { protocol, rules })) => {
            let _ = writeln!(text, "        path: {}", quoted(&exactly(path)));
            let _ = writeln!(text, "        protocol: {protocol}\n        enforcement: enforce");
            let _ = writeln!(text, "        rules:");
            for rule in rules {
                let _ = writeln!(text, "          - allow: {{ {rule} }}");
            }
        }
        _ => what(cover, approval.decision, &mut text),
    }
    if let Some(binary) = &cover.binary {
        let _ = writeln!(text, "    binaries:");
        let _ = writeln!(text, "      - {{ path: {} }}", quoted(&matching_exactly(binary)));
    }
    text
}

/// What a rule covers beyond the answer that it stands for.
fn wider(cover: &Cover, spoken: bool, answer: Answer) -> Option<String> {
    let denies = answer == Answer::Deny;
    let started = cover.binary.is_some().then_some("the programs that it starts");
    let body = match &cover.what {
        What::Bytes | What::Opaque if denies => Some("every request to this host and port"),
        What::Bytes | What::Opaque => Some("nothing in it is seen, whatever it is"),
        What::Exact { websocket: true, .. } => Some("any message"),
        What::Exact { .. } if spoken => Some("any arguments"),
        What::Exact { .. } => Some("any body"),
        What::Paths { .. } | What::Host => None,
    };
    let query = match &cover.what {
        What::Exact { .. } if spoken => Some("any query"),
        What::Exact { query: None, .. } => Some("any query"),
        What::Exact { query: Some(_), .. } => Some("further keys in the query"),
        What::Bytes | What::Opaque | What::Paths { .. } | What::Host => None,
    };
    let all: Vec<&str> = [body, query, started].into_iter().flatten().collect();
    (!all.is_empty()).then(|| format!("wider than the answer: {}", all.join("; ")))
}

/// What a rule says of a body.
struct Spoken {
    protocol: &'static str,
    rules: Vec<String>,
}

/// The same calls or operations, where rules can name them.
fn spoken(body: &OwnedBody) -> Option<Spoken> {
    let exactly = |text: &str| quoted(&matching_exactly(text));
    let (protocol, rules) = match body {
        OwnedBody::Invalid(_) => return None,
        OwnedBody::Rpc(calls) => {
            let rule = |call: &RpcCall| match (call.method.as_deref()?, &call.tool) {
                // A rule without a tool would be about every tool.
                ("tools/call", None) => None,
                (method, None) => Some(format!("method: {}", exactly(method))),
                (method, Some(tool)) => {
                    Some(format!("method: {}, tool: {}", exactly(method), exactly(tool)))
                }
            };
            ("mcp", calls.iter().map(rule).collect::<Option<Vec<_>>>()?)
        }
        OwnedBody::Graphql(operations) => {
            let rule = |operation: &GraphqlOperation| {
                let kind = operation.kind.filter(|_| !operation.fields.is_empty())?;
                let name = operation.name.as_deref().map(exactly);
                let name = name.map(|name| format!(", operation_name: {name}"));
                let fields: Vec<String> =
                    operation.fields.iter().map(|field| exactly(field)).collect();
                let fields = fields.join(", ");
                let (kind, name) = (json!(kind), name.unwrap_or_default());
                Some(format!("operation_type: {kind}{name}, fields: [{fields}]"))
            };
            ("graphql", operations.iter().map(rule).collect::<Option<Vec<_>>>()?)
        }
    };
    (!rules.is_empty()).then_some(Spoken { protocol, rules })
}

/// JSON strings are YAML strings.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn what(cover: &Cover, answer: Answer, text: &mut String) {
    let deny = answer == Answer::Deny;
    let protocol = match &cover.what {
        What::Bytes => "tcp",
        What::Exact { websocket: true, .. } | What::Paths { websocket: true, .. } => "websocket",
        What::Opaque | What::Exact { .. } | What::Paths { .. } | What::Host => "rest",
    };
    let everything = [rule_line("*", "/**", None)];
    let lines: Vec<String> = match &cover.what {
        What::Bytes | What::Host | What::Opaque if deny => everything.into(),
        What::Bytes => {
            let _ = writeln!(text, "        protocol: tcp");
            return;
        }
        What::Opaque => {
            let _ = writeln!(text, "        tls: skip");
            return;
        }
        What::Host => {
            let _ = writeln!(text, "        protocol: rest\n        enforcement: enforce");
            let _ = writeln!(text, "        access: full");
            return;
        }
        What::Exact { websocket, method, path, query, .. } => {
            if Path::parse(path).is_ok_and(|path| path.has_encoded_slash()) {
                let _ = writeln!(text, "        allow_encoded_slash: true");
            }
            let path = exactly(path);
            let mut lines = vec![rule_line(method, &path, query.as_deref())];
            if *websocket {
                lines.push(rule_line("WEBSOCKET_TEXT", &path, None));
            }
            lines
        }
        What::Paths { websocket, methods, path } => {
            let all = ["*".to_owned()];
            let methods = if methods.is_empty() { &all[..] } else { methods };
            let mut lines: Vec<String> =
                methods.iter().map(|method| rule_line(method, path, None)).collect();
            if *websocket && !methods.iter().any(|method| method == "*") {
                lines.push(rule_line("WEBSOCKET_TEXT", path, None));
            }
            lines
        }
    };
    let protocol = if deny && protocol == "tcp" { "rest" } else { protocol };
    let _ = writeln!(text, "        protocol: {protocol}\n        enforcement: enforce");
    let _ = writeln!(text, "        {}:", if deny { "deny_rules" } else { "rules" });
    for line in lines {
        match deny {
            true => {
                let quiet = line.strip_suffix(" }").unwrap_or(&line);
                let _ = writeln!(text, "          - {quiet}, quiet: true }}");
            }
            false => {
                let _ = writeln!(text, "          - allow: {line}");
            }
        }
    }
}

fn rule_line(method: &str, path: &str, query: Option<&str>) -> String {
    let mut line = format!("{{ method: {}, path: {}", quoted(method), quoted(path));
    let mut keys: Vec<(String, Vec<String>)> = Vec::new();
    for (key, _) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if keys.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let mut values: Vec<String> = Vec::new();
        for value in query_values(query, &key) {
            let value = matching_exactly(&value);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        keys.push((key.into_owned(), values));
    }
    if !keys.is_empty() {
        let keys = keys.iter().map(|(key, values)| match &values[..] {
            [one] => format!("{}: {}", quoted(key), quoted(one)),
            several => format!("{}: {{ any: {} }}", quoted(key), json!(several)),
        });
        let _ = write!(line, ", query: {{ {} }}", keys.collect::<Vec<_>>().join(", "));
    }
    line.push_str(" }");
    line
}
