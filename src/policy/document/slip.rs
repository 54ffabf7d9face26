//! What a slip in YAML means to whoever wrote it: the deserializer speaks of its own types.
//!
//! Owns the words and an example for each key. It looks at the text around the place and never quotes a
//! value: where a list of values was meant to be, a secret may stand.

/// A slip, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slip {
    /// What is wrong, one sentence without the period.
    pub(crate) what: String,
    /// What would be right, where that can be said.
    pub(crate) fix: Option<String>,
    /// Whether the lines around may hold a secret.
    pub(crate) secret: bool,
}

/// Keys that hold a list, and one.
const LISTS: &[(&str, &str)] = &[
    ("listen", "[{ address: \"127.0.0.1:3128\" }]"),
    ("policy", "[policy.yaml]"),
    ("presets", "[pypi, { name: github, access: read-only }]"),
    ("credentials", "[github]"),
    ("deny_rules", "[{ host: api.github.com, method: DELETE }]"),
    ("notify", "[notify-send, Portcullis]"),
    ("allow_uids", "[1000]"),
    ("allow_from", "[172.18.0.0/16]"),
    ("command", "[gcloud, auth, print-access-token]"),
    ("inject", "[{ credential: github, host: api.github.com, header: Authorization }]"),
    ("methods", "[GET, HEAD]"),
    ("in", "[header]"),
    ("addresses", "[10.0.5.0/24]"),
    ("ca_files", "[corp-root.pem]"),
    ("crl_files", "[revoked.pem]"),
    ("nameservers", "[10.0.0.53]"),
    ("allow_internal", "[10.0.5.0/24]"),
    ("no_proxy", "[.corp, 10.0.0.0/8]"),
    ("routes", "[{ provider: anthropic, credential: anthropic }]"),
    ("models", "[gpt-5.4-mini]"),
    ("fallback", "[local]"),
    ("endpoints", "[{ host: api.github.com, port: 443 }]"),
    ("binaries", "[{ path: /usr/bin/curl }]"),
    ("rules", "[{ allow: { method: GET, path: \"/repos/**\" } }]"),
    ("allowed_ips", "[10.0.5.0/24]"),
    ("ports", "[443]"),
];

/// Keys that hold keys, and some.
const MAPS: &[(&str, &str)] = &[
    ("approval", "{ mode: hold }"),
    ("limits", "{ connections: 4096 }"),
    ("metrics", "{ address: \"127.0.0.1:9464\" }"),
    ("timeout", "{ connect: 10s }"),
    ("buffer", "{ graphql: 64KiB }"),
    ("traffic", "{ keep_for: 30d }"),
    ("upstream", "{ ca_files: [corp-root.pem] }"),
    ("proxy", "{ url: \"http://proxy.corp:3128\" }"),
    ("basic", "{ user: bot@acme.com }"),
    ("sigv4", "{ service: s3, region: eu-west-1 }"),
    ("budget", "{ tokens_per_day: 2000000 }"),
    ("aliases", "{ fast: gpt-5.4-mini }"),
    ("hosts", "{ origin.test: [192.0.2.1] }"),
    ("sandboxes", "{ agent: { policy: [policy.yaml] } }"),
    ("credentials", "{ github: { file: ~/secrets/github } }"),
    ("inference", "{ main: { provider: anthropic, credential: anthropic } }"),
    ("network_policies", "{ github: { endpoints: [{ host: api.github.com, port: 443 }] } }"),
    ("allow", "{ method: GET, path: \"/repos/**\" }"),
    ("query", "{ state: open }"),
];

/// Keys that hold a number, and one.
const NUMBERS: &[(&str, &str)] = &[
    ("port", "443"),
    ("ports", "[443]"),
    ("allow_uids", "[1000]"),
    ("tokens_per_day", "2000000"),
    ("requests_per_minute", "60"),
    ("connections", "4096"),
    ("requests_per_second", "200"),
    ("max_files", "1000"),
    ("version", "1"),
];

/// What the deserializer's `message` about the place means. Both counts from 1.
pub(crate) fn slip(text: &str, (line, column): (usize, usize), message: &str) -> Slip {
    let key = key_at(text, line, column);
    let section = section(text, line);
    let secret = section.as_deref() == Some("credentials");
    let (what, fix) = said(message, key.as_deref(), section.as_deref());
    Slip { what, fix, secret }
}

fn said(message: &str, key: Option<&str>, section: Option<&str>) -> (String, Option<String>) {
    let example = |table: &[(&str, &str)]| {
        let key = key?;
        let (_, example) = table.iter().find(|(each, _)| *each == key)?;
        Some(format!("write `{key}: {example}`"))
    };
    let kind = message.split(':').next_back().unwrap_or(message).trim();
    match kind {
        "expected sequence start" => {
            let some = key.map(|key| format!("write `{key}: [ … ]`").replace('…', "..."));
            ("a list is expected here".into(), example(LISTS).or(some))
        }
        "expected mapping start" => {
            let named = key.and_then(|key| of_a_name(key, section?));
            let item = || example(LISTS).filter(|example| example.contains('{'));
            let fix = named.or_else(|| example(MAPS)).or_else(item);
            ("keys with values are expected here".into(), fix)
        }
        "expected string scalar" | "expected scalar" => {
            let some = key.map(|key| format!("write `{key}: VALUE`"));
            ("one value is expected here".into(), some)
        }
        _ if kind.starts_with("invalid bool") => {
            let some = key.map(|key| format!("write `{key}: true` or `{key}: false`"));
            ("not true or false".into(), some)
        }
        _ if kind.strip_prefix("invalid ").is_some_and(is_number) => {
            let some = key.map(|key| format!("write `{key}: 1`, in digits alone"));
            let fix = match (key, example(NUMBERS)) {
                (Some("port" | "ports"), Some(fix)) => Some(fix + ", from 1 to 65535"),
                (Some("allow_uids"), Some(fix)) => Some(fix + ": `id -u NAME` prints a user's"),
                (_, fix) => fix.or(some),
            };
            ("not a whole number".into(), fix)
        }
        "missing field `version`" => {
            ("the version is missing".into(), Some("write `version: 1`".into()))
        }
        // The library's own advice is not for whoever writes the file.
        _ => (message.split(", set DuplicateKeyPolicy").next().unwrap_or(message).to_owned(), None),
    }
}

fn is_number(kind: &str) -> bool {
    ["u8", "u16", "u32", "u64", "usize", "i32", "i64"].contains(&kind)
}

/// The example of a key that somebody chose: a sandbox, a credential, an entry.
fn of_a_name(key: &str, section: &str) -> Option<String> {
    let holds = match section {
        _ if MAPS.iter().any(|(each, _)| *each == key) => return None,
        "credentials" => format!("{{ file: ~/secrets/{key} }}"),
        "sandboxes" => "{ policy: [policy.yaml] }".to_owned(),
        "inference" => "{ provider: anthropic, credential: anthropic }".to_owned(),
        "network_policies" => "{ endpoints: [{ host: api.github.com, port: 443 }] }".to_owned(),
        _ => return None,
    };
    Some(format!("write `{key}: {holds}`"))
}

/// The key whose value stands at the place, where it is a plain word.
fn key_at(text: &str, line: usize, column: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let own: String = lines.last()?.chars().take(column.saturating_sub(1)).collect();
    // Inside of a list in brackets the key stands before them.
    let before = match (own.rfind('['), own.rfind(']')) {
        (Some(open), close) if close.is_none_or(|close| close < open) => {
            let inside = &own[open + 1..];
            if inside.contains('{') { own.as_str() } else { &own[..open] }
        }
        _ => own.as_str(),
    };
    let before = before.trim_end_matches(['"', '\'', ' ']);
    if let Some(rest) = before.strip_suffix(':') {
        return word(rest);
    }
    // An item of a block: the key stands above, not further in.
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines.last()?);
    let above = lines.iter().rev().skip(1).find(|above| {
        above.trim_end().ends_with(':') && indent(above) <= depth && !above.trim().starts_with('#')
    })?;
    word(above.trim_end().strip_suffix(':')?)
}

/// The key at the end of `text`.
fn word(text: &str) -> Option<String> {
    let text = text.trim_end_matches(['"', '\'']);
    let outside = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    let word = text.rsplit(outside).next().unwrap_or_default();
    let plain = !word.is_empty() && word.len() <= 63;
    plain.then(|| word.to_owned())
}

/// The key of the document in which the line stands; of a document in braces the last that was begun.
fn section(text: &str, line: usize) -> Option<String> {
    let above: Vec<&str> = text.lines().take(line).collect();
    if text.trim_start().starts_with('{') {
        let above = above.join("\n");
        return ["credentials:", "\"credentials\":"]
            .iter()
            .any(|key| above.contains(key))
            .then(|| "credentials".to_owned());
    }
    let begins = |line: &&&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    above.iter().rev().find(begins)?.split_once(':').map(|(key, _)| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(text: &str, message: &str) -> Option<String> {
        // `^` stands before the place.
        let at = text.find('^').unwrap();
        let text = text.replacen('^', "", 1);
        let line = text[..at].matches('\n').count() + 1;
        let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
        slip(&text, (line, column), message).fix
    }

    #[test]
    fn what_was_meant_is_shown_by_an_example() {
        let (list, map) = ("unexpected event: expected sequence start", "expected mapping start");
        for (text, message, wanted) in [
            ("sandboxes:\n  agent:\n    policy: ^p.yaml", list, "policy: [policy.yaml]"),
            ("listen: ^'127.0.0.1:1'", list, "listen: [{ address: \"127.0.0.1:3128\" }]"),
            ("unheard_of: ^x", list, "unheard_of: [ ... ]"),
            ("sandboxes:\n  a: { approval: ^hold }", map, "approval: { mode: hold }"),
            ("sandboxes:\n  agent: ^p.yaml", map, "agent: { policy: [policy.yaml] }"),
            ("credentials:\n  github: ^x", map, "github: { file: ~/secrets/github }"),
            ("a: { port: \"^443x\" }", "invalid u16", "port: 443`, from 1 to 65535"),
            ("a: { allow_uids: [0, ^root] }", "invalid u32", "allow_uids: [1000]"),
            ("allow_uids:\n  - 0\n  - ^root", "invalid u32", "allow_uids: [1000]"),
            ("x: { tokens_per_day: ^2M }", "invalid u64", "tokens_per_day: 2000000"),
            ("x: { quiet: ^maybe }", "invalid bool", "quiet: true` or `quiet: false"),
            ("x: { quiet: ^maybe }", "invalid boolean (strict)", "quiet: true` or `quiet: false"),
            ("listen:\n  - ^127.0.0.1:1", map, "listen: [{ address: \"127.0.0.1:3128\" }]"),
            ("^listen: []", "missing field `version`", "version: 1"),
        ] {
            let fix = fix(text, message).unwrap_or_else(|| panic!("{text}"));
            assert!(fix.starts_with(&format!("write `{wanted}")), "{text}: {fix}");
        }
        assert_eq!(fix("a: ^x", "something else"), None);
        assert_eq!(fix("\u{e3f}: ^x", list), None);
    }

    #[test]
    fn where_credentials_stand_no_line_is_shown() {
        let at = |text: &str, line| slip(text, (line, 11), "expected mapping start").secret;
        assert!(at("version: 1\ncredentials:\n  github: ghp_0123\n", 3));
        assert!(at("{ version: 1, credentials: { github: ghp_0123 } }", 1));
        assert!(!at("sandboxes:\n  a:\n    credentials: github\n", 3));
    }
}
