//! The mistakes that the shape of the file does not show.
//!
//! Owns what makes a policy wrong; what is merely unwise is `lint`'s.

use super::load::{LoadOptions, Mistake};
use super::matcher::{Globs, Matched};
use super::{Access, At, Document, Endpoint, Enforcement, Entry, OnError, Protocol, Tls};
use crate::addr::Shown;
use crate::policy::pattern::{HostPattern, HostPatternError, PathPattern, RESERVED, TextPattern};
use std::fmt::Display;

/// Every mistake in the document.
pub(super) fn mistakes(document: &Document, options: LoadOptions) -> Vec<Mistake> {
    let mut found = Found::default();
    match &document.version {
        Some(version) if **version != 1 => {
            found.at(version, format!("version {} is not known", **version), "version: 1");
        }
        None if document.preset.is_none() => {
            found.push((1, 1), "the version is missing", "version: 1");
        }
        Some(_) | None => {}
    }
    if !options.ignore_middlewares {
        for (name, middleware) in &document.network_middlewares {
            if middleware.on_error.unwrap_or(OnError::FailClosed) == OnError::FailClosed {
                found.at(
                    middleware,
                    format!(
                        "the middleware '{}' fails closed: someone relies on it, and middlewares do not run here",
                        Shown::new(name)
                    ),
                    "remove it, or load with --ignore-middlewares",
                );
            }
        }
    }
    for (key, entry) in &document.network_policies {
        found.entry(key, entry);
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Mistake>);

impl Found {
    fn push(&mut self, place: (u32, u32), problem: impl Display, right: &str) {
        self.0.push(Mistake {
            line: place.0,
            column: place.1,
            problem: problem.to_string(),
            right: right.to_owned(),
            excerpt: String::new(),
        });
    }

    fn at<T>(&mut self, at: &At<T>, problem: impl Display, right: &str) {
        self.push((at.line, at.column), problem, right);
    }

    fn entry(&mut self, key: &str, entry: &At<Entry>) {
        if key.is_empty() {
            self.at(entry, "an entry's key is empty", "give it a name that records can show");
        }
        for binary in entry.binaries.iter().flatten() {
            if let Err(error) = PathPattern::parse_file(&binary.path) {
                let problem = format!("the binary {}: {error}", quoted(&binary.path));
                self.at(binary, problem, "an absolute path such as /usr/bin/git, or a glob");
            }
        }
        for endpoint in &entry.endpoints {
            self.endpoint(endpoint);
        }
    }

    fn endpoint(&mut self, endpoint: &At<Endpoint>) {
        self.host(endpoint);
        self.ports(endpoint);
        if let Some(path) = &endpoint.path {
            self.path_pattern((path.line, path.column), path);
        }
        for ip in endpoint.allowed_ips.iter().flat_map(|ips| ips.iter()) {
            if super::super::compile::parse_network(ip).is_none()
                && let Some(ips) = &endpoint.allowed_ips
            {
                let problem = format!("{} is neither an address nor a network", quoted(ip));
                self.at(ips, problem, "such as 10.0.5.7 or 10.0.5.0/24");
            }
        }
        let protocol = endpoint.protocol_meant();
        self.settings(endpoint, protocol);
        if let (Some(access), Some(_)) = (&endpoint.access, &endpoint.rules) {
            self.at(access, "`access` stands beside `rules`", "keep one of them");
        }
        if let Some(rules) = &endpoint.rules {
            if rules.is_empty() {
                self.at(rules, "`rules` is empty", "list what is allowed, or remove the key");
            }
            for rule in &**rules {
                let place = (rule.line, rule.column);
                self.rule(place, rule.allow.matched(), protocol, Side::Allow);
                self.tool_twice(place, rule.allow.tool_twice());
            }
        }
        for rule in endpoint.deny_rules.iter().flat_map(|rules| rules.iter()) {
            let place = (rule.line, rule.column);
            self.rule(place, rule.matched(), protocol, Side::Deny);
            self.tool_twice(place, rule.tool_twice());
        }
    }

    fn tool_twice(&mut self, place: (u32, u32), twice: bool) {
        if twice {
            self.push(place, "the tool is named twice", "keep `tool`");
        }
    }

    fn host(&mut self, endpoint: &At<Endpoint>) {
        let Some(host) = &endpoint.host else {
            if endpoint.allowed_ips.as_ref().is_none_or(|ips| ips.is_empty()) {
                self.at(
                    endpoint,
                    "an endpoint without `host` needs `allowed_ips`",
                    "add `host: api.example.com`, or `allowed_ips: [10.0.5.0/24]`",
                );
            }
            return;
        };
        match HostPattern::parse(host) {
            Ok(pattern) => {
                for reserved in RESERVED {
                    if crate::addr::Host::parse(reserved).is_ok_and(|name| pattern.matches(&name)) {
                        let problem = format!("{reserved} is the gateway's own name");
                        self.at(host, problem, "remove the endpoint: it is always reachable");
                    }
                }
            }
            Err(error) => {
                let problem = format!("the host {}: {error}", quoted(host));
                let right = match error {
                    HostPatternError::Reserved => "remove the entry",
                    HostPatternError::Bare
                    | HostPatternError::TopLevel
                    | HostPatternError::Later
                    | HostPatternError::Last
                    | HostPatternError::Metacharacter => {
                        "\"*.example.com\" (one label), \"**.example.com\" (one or more), \"api-*.example.com\""
                    }
                    HostPatternError::Host(_) => {
                        "a name such as api.example.com, without scheme, port or path"
                    }
                };
                self.at(host, problem, right);
            }
        }
    }

    fn ports(&mut self, endpoint: &At<Endpoint>) {
        let right = "`port: 443`, or `ports: [443, 8443]`";
        match (&endpoint.port, &endpoint.ports) {
            (None, None) => self.at(endpoint, "the endpoint has no port", right),
            (Some(port), Some(_)) => self.at(port, "`port` stands beside `ports`", right),
            (Some(port), None) if **port == 0 => self.at(port, "0 is not a port", right),
            (None, Some(ports)) if ports.is_empty() || ports.contains(&0) => {
                self.at(ports, "`ports` is empty or holds a 0", right);
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    /// What does not go together.
    fn settings(&mut self, endpoint: &At<Endpoint>, protocol: Option<Protocol>) {
        let rules = endpoint.rules.is_some() || endpoint.deny_rules.is_some();
        if let Some(tls) = &endpoint.tls
            && **tls == Tls::Skip
            && (protocol.is_some_and(|p| p != Protocol::Tcp) || endpoint.path.is_some())
        {
            self.at(
                tls,
                "`tls: skip` lets nothing inside be seen, so no method, path or body can be judged",
                "remove `tls: skip`, or `protocol`, `path`, `rules`, `deny_rules` and `access`",
            );
        }
        match protocol {
            Some(Protocol::Tcp)
                if rules || endpoint.access.is_some() || endpoint.path.is_some() =>
            {
                self.at(
                    endpoint,
                    "`protocol: tcp` is never parsed, so it takes no `path`, `access` or rules",
                    "remove them",
                );
            }
            Some(Protocol::Sql) if endpoint.enforcement != Some(Enforcement::Audit) => {
                self.at(
                    endpoint,
                    "`protocol: sql` can't be enforced: SQL is not parsed",
                    "enforcement: audit (or `protocol: tcp`, which says what happens)",
                );
            }
            Some(Protocol::JsonRpc | Protocol::Mcp)
                if endpoint.access.as_ref().is_some_and(|access| **access != Access::Full) =>
            {
                self.at(
                    endpoint,
                    "a JSON-RPC call does not say whether it reads or writes",
                    "list the methods under `rules`, or `access: full`",
                );
            }
            _ => {}
        }
    }

    fn rule(
        &mut self,
        place: (u32, u32),
        rule: Matched<'_>,
        protocol: Option<Protocol>,
        side: Side,
    ) {
        self.globs(place, rule);
        self.method(place, rule, protocol);
        let http = rule.path.is_some() || !rule.query.is_empty();
        let graphql =
            rule.operation_type.is_some() || rule.operation_name.is_some() || rule.fields.is_some();
        let rpc = rule.tool.is_some();
        let (fits, right) = match protocol {
            None | Some(Protocol::Rest) => (
                !graphql && !rpc && rule.method.is_some() && rule.path.is_some(),
                "{ method: GET, path: \"/repos/**\" }",
            ),
            Some(Protocol::Websocket) => (
                !rpc && if graphql {
                    !http && rule.method.is_none()
                } else {
                    rule.method.is_some() && rule.path.is_some()
                },
                "{ method: WEBSOCKET_TEXT, path: \"/**\" } or { operation_type: query }",
            ),
            Some(Protocol::Graphql) => (
                !rpc && if http || rule.method.is_some() {
                    side == Side::Deny && !graphql && rule.method.is_some() && rule.path.is_some()
                } else {
                    rule.operation_type.is_some()
                },
                "{ operation_type: query, fields: [viewer] }",
            ),
            Some(Protocol::JsonRpc) => (
                !http && !graphql && !rpc && rule.method.is_some(),
                "{ method: reports.search }, or \"*\"",
            ),
            Some(Protocol::Mcp) => (
                !http && !graphql && (rule.method.is_some() || rpc),
                "{ method: tools/call, tool: search }",
            ),
            Some(Protocol::Sql) => (rule.command.is_some(), "{ command: SELECT }"),
            // `settings` says it.
            Some(Protocol::Tcp) => (true, ""),
        };
        let sql = protocol == Some(Protocol::Sql);
        let graphql_without_kind = graphql && rule.operation_type.is_none();
        if !fits || graphql_without_kind || (rule.command.is_some() && !sql) {
            let spoken = protocol.unwrap_or(Protocol::Rest);
            let problem = format!("this is not a whole rule for `protocol: {}`", spoken.as_str());
            self.push(place, problem, right);
        }
        if protocol == Some(Protocol::JsonRpc)
            && rule.method.is_some_and(|method| {
                method != "*" && method.contains(['*', '?', '[', ']', '{', '}', '\\'])
            })
        {
            self.push(place, "a JSON-RPC method is exact, or \"*\"", "{ method: reports.search }");
        }
    }

    fn globs(&mut self, place: (u32, u32), rule: Matched<'_>) {
        if let Some(path) = rule.path {
            self.path_pattern(place, path);
        }
        let values = rule.query.values().chain(rule.tool);
        for globs in values {
            if globs.iter().len() == 0 {
                self.push(place, "`any` is empty, so nothing matches", "{ any: [open, closed] }");
            }
            self.values(place, globs);
        }
        for glob in rule.fields.into_iter().flatten() {
            self.value(place, glob);
        }
        if let Some(name) = rule.operation_name {
            self.value(place, name);
        }
        if rule.fields.is_some_and(<[String]>::is_empty) {
            self.push(place, "`fields` is empty", "list fields, or remove the key: all fields");
        }
    }

    /// A method of HTTP is no glob, although paths and values beside it are: what looks like one would
    /// never match, and a deny rule would deny nothing.
    fn method(&mut self, place: (u32, u32), rule: Matched<'_>, protocol: Option<Protocol>) {
        let Some(method) = rule.method else { return };
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let right = "{ method: GET, … }, and a rule of its own for each further method";
        match protocol {
            Some(Protocol::JsonRpc | Protocol::Mcp | Protocol::Sql | Protocol::Tcp) => {
                if method.is_empty() || method.contains(char::is_whitespace) {
                    self.push(place, "a method is one word, or \"*\"", right);
                }
            }
            Some(Protocol::Rest | Protocol::Websocket | Protocol::Graphql) | None => {
                if method != "*" && (method.is_empty() || !method.bytes().all(named)) {
                    let problem =
                        format!("the method {} is neither one method nor \"*\"", quoted(method));
                    self.push(place, problem, right);
                }
            }
        }
    }

    fn values(&mut self, place: (u32, u32), globs: &Globs) {
        for glob in globs.iter() {
            self.value(place, glob);
        }
    }

    fn value(&mut self, place: (u32, u32), glob: &str) {
        if let Err(error) = TextPattern::parse(glob) {
            self.push(place, format!("the glob {}: {error}", quoted(glob)), "");
        }
    }

    fn path_pattern(&mut self, place: (u32, u32), path: &str) {
        if let Err(error) = PathPattern::parse(path) {
            let right = "\"/repos/*/issues\" (`*` stays in one segment), \"/repos/**\", or \"**\"";
            self.push(place, format!("the path {}: {error}", quoted(path)), right);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Allow,
    Deny,
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    format!("\"{}\"", Shown::new(&cut))
}

impl Endpoint {
    /// The protocol that the endpoint means: `rules`, `deny_rules` and `access: read-only` or
    /// `read-write` without `protocol` mean `rest`; `None` is L4.
    pub fn protocol_meant(&self) -> Option<Protocol> {
        if let Some(protocol) = &self.protocol {
            return Some(**protocol);
        }
        let partial = self.access.as_ref().is_some_and(|access| **access != Access::Full);
        (self.rules.is_some() || self.deny_rules.is_some() || partial).then_some(Protocol::Rest)
    }

    /// `port` or `ports`; none, which a file can't say: every port.
    pub fn ports_meant(&self) -> &[u16] {
        match (&self.port, &self.ports) {
            (Some(port), _) => std::slice::from_ref(&port.value),
            (None, Some(ports)) => ports,
            (None, None) => &[],
        }
    }
}

impl Protocol {
    /// As in a policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Websocket => "websocket",
            Self::Graphql => "graphql",
            Self::JsonRpc => "json-rpc",
            Self::Mcp => "mcp",
            Self::Tcp => "tcp",
            Self::Sql => "sql",
        }
    }
}
