//! `policy check`: what a reader of a policy file would miss.
//!
//! Owns the findings: each has a stable code, a place and a fix. It judges nothing and changes
//! nothing; what makes a file wrong is `document`'s, what makes it unwise or other than it looks
//! is found here. Where it can't be sure (do two globs overlap?) it stays silent.

mod dead;
mod endpoint;
mod hosts;
mod looks;
mod openshell;
mod overlap;

use super::document::{At, Document, Endpoint, Entry};
use crate::addr::Shown;
use serde::Serialize;

macro_rules! findings {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $severity:ident;)+) => {
        /// What was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FindingCode { $($(#[doc = $doc])+ $name,)+ }

        impl FindingCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable spelling.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)+ } }

            /// How grave it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }

            /// The meaning, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

findings! {
    /// The file is not a policy.
    Invalid = "invalid", Error;
    /// Two files have an entry of the same key: both hold, under longer names.
    SameKey = "same_key", Note;
    /// A rule that can match nothing.
    NeverMatches = "never_matches", Warning;
    /// A rule or endpoint that another one covers already.
    Shadowed = "shadowed", Warning;
    /// What is allowed here is always denied there.
    AlwaysDenied = "always_denied", Warning;
    /// A deny rule that no allow overlaps: what it should forbid has another shape, or nothing allows it.
    DenyOverlapsNothing = "deny_overlaps_nothing", Warning;
    /// What a `websocket` endpoint says of messages, beside a `rest` endpoint that allows the handshake: messages pass.
    UnseenMessages = "unseen_messages", Warning;
    /// What a `graphql`, `json-rpc` or `mcp` endpoint says of bodies, or a `websocket` endpoint forbids of GraphQL, beside a `rest` endpoint that allows the POST: they pass.
    UnseenBodies = "unseen_bodies", Warning;
    /// `rules`, `deny_rules` or `access` without `protocol`: it means `protocol: rest`.
    RulesWithoutProtocol = "rules_without_protocol", Note;
    /// `access: full` without `protocol`: host and port decide alone.
    FullWithoutProtocol = "full_without_protocol", Note;
    /// Host and port decide alone on a port that speaks HTTP: method and path go unseen.
    UnseenHttp = "unseen_http", Warning;
    /// Everything is allowed on a host where whoever uploads can show it to others.
    UploadsLeak = "uploads_leak", Warning;
    /// A model provider's host is allowed directly: it bypasses `inference.local`.
    InferenceHost = "inference_host", Warning;
    /// An entry without binaries: any process.
    AnyProcess = "any_process", Note;
    /// A wildcard host: each label that the agent chooses is a DNS channel.
    WildcardHost = "wildcard_host", Warning;
    /// A wildcard host that spans other people's names.
    SharedDomain = "shared_domain", Warning;
    /// `allowed_ips` wider than a /16 (IPv6: a /48).
    WideNetwork = "wide_network", Warning;
    /// `allowed_ips` names addresses that a policy file can't open.
    NetworkNeverOpened = "network_never_opened", Warning;
    /// `tls: skip`: on a shared front (a CDN) the name inside may be another's.
    DomainFronting = "domain_fronting", Warning;
    /// `enforcement: audit`: what no rule allows is let through and recorded.
    AuditLetsThrough = "audit_lets_through", Warning;
    /// A key that has no effect here.
    NoEffect = "no_effect", Note;
    /// A middleware that does not run here.
    MiddlewareIgnored = "middleware_ignored", Warning;
    /// Nothing is allowed and nothing is denied: every request is unknown.
    SaysNothing = "says_nothing", Note;
    /// OpenShell: `enforcement` left out meant audit there, and means enforce here.
    OpenshellEnforcement = "openshell_enforcement", Note;
    /// OpenShell: rules without `protocol` were ignored there, and hold here.
    OpenshellIgnoredRules = "openshell_ignored_rules", Note;
    /// OpenShell: a private address behind an exact host needs `allowed_ips` here.
    OpenshellPrivateAddress = "openshell_private_address", Note;
    /// OpenShell: what rewrites credentials there stands in the gateway's config here.
    OpenshellCredentials = "openshell_credentials", Note;
    /// OpenShell: `host.openshell.internal` is not a name here.
    OpenshellHost = "openshell_host", Warning;
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what is meant, or more than it looks.
    Warning,
    /// The file can't be used.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// What.
    pub code: FindingCode,
    /// The file, as the caller named it.
    pub file: String,
    /// 1-based; 0 where no line can be named.
    pub line: u32,
    /// 1-based.
    pub column: u32,
    /// The entry, endpoint or rule: `github/endpoints[0]/rules[2]`; empty for the whole file.
    pub rule: String,
    /// What was found, one sentence without the period. What the file says is escaped.
    pub what: String,
    /// What would be right.
    pub fix: String,
}

/// Whose meaning the file was written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenFor {
    /// Portcullis.
    #[default]
    Portcullis,
    /// OpenShell: each way in which the file means something else here is noted.
    Openshell,
}

/// A document and its file's name.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'d> {
    /// What it says.
    pub document: &'d Document,
    /// Its name in findings.
    pub file: &'d str,
}

impl Serialize for FindingCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Every finding in the union of the documents, in the order of files and lines.
pub fn lint(checked: &[Checked<'_>], written_for: WrittenFor) -> Vec<Finding> {
    let spots: Vec<Spot<'_>> = checked.iter().flat_map(Spot::all).collect();
    let mut found = Found::default();
    for each in checked {
        document(each, &mut found);
        for (key, entry) in &each.document.network_policies {
            self::entry(each, key, entry, &mut found);
        }
    }
    same_keys(checked, &mut found);
    for spot in &spots {
        endpoint::check(spot, &spots, &mut found);
        hosts::check(spot, &mut found);
        dead::check(spot, &spots, &mut found);
        looks::check(spot, &mut found);
        if written_for == WrittenFor::Openshell {
            openshell::endpoint(spot, &mut found);
        }
    }
    let order = |finding: &Finding| checked.iter().position(|c| c.file == finding.file);
    found.0.sort_by_key(|finding| (order(finding), finding.line, finding.column));
    found.0
}

/// One endpoint, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Spot<'d> {
    file: &'d str,
    key: &'d str,
    entry: &'d Entry,
    index: usize,
    endpoint: &'d At<Endpoint>,
}

impl<'d> Spot<'d> {
    fn all(checked: &Checked<'d>) -> Vec<Self> {
        let file = checked.file;
        let mut spots = Vec::new();
        for (key, entry) in &checked.document.network_policies {
            for (index, endpoint) in entry.endpoints.iter().enumerate() {
                spots.push(Self { file, key, entry: &entry.value, index, endpoint });
            }
        }
        spots
    }

    /// `github/endpoints[0]`, escaped.
    fn name(&self) -> String {
        format!("{}/endpoints[{}]", Shown::new(self.key), self.index)
    }

    /// The host as written, escaped; `*` where there is none.
    fn host(&self) -> String {
        self.endpoint.host.as_ref().map_or("*".into(), |host| Shown::new(host).to_string())
    }

    fn place(&self) -> Place<'d> {
        Place { file: self.file, line: self.endpoint.line, column: self.endpoint.column }
    }

    fn at<T>(&self, at: &At<T>) -> Place<'d> {
        Place { file: self.file, line: at.line, column: at.column }
    }
}

/// Where a finding stands.
#[derive(Clone, Copy, Debug)]
struct Place<'d> {
    file: &'d str,
    line: u32,
    column: u32,
}

/// What is found, and what would be right.
#[derive(Clone, Debug)]
struct Says {
    what: String,
    fix: String,
}

impl Says {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
struct Found(Vec<Finding>);

impl Found {
    fn push(&mut self, code: FindingCode, place: Place<'_>, rule: impl Into<String>, says: Says) {
        self.0.push(Finding {
            severity: code.severity(),
            code,
            file: place.file.to_owned(),
            line: place.line,
            column: place.column,
            rule: rule.into(),
            what: says.what,
            fix: says.fix,
        });
    }
}

fn document(checked: &Checked<'_>, found: &mut Found) {
    let Document { filesystem_policy, landlock, process, network_middlewares, .. } =
        checked.document;
    let mut idle = |key: &str, line: u32, column: u32| {
        let place = Place { file: checked.file, line, column };
        let what = format!("`{key}` is another program's business and has no effect here");
        found.push(FindingCode::NoEffect, place, key, Says::new(what, "nothing to do"));
    };
    if let Some(at) = filesystem_policy {
        idle("filesystem_policy", at.line, at.column);
    }
    if let Some(at) = landlock {
        idle("landlock", at.line, at.column);
    }
    if let Some(at) = process {
        idle("process", at.line, at.column);
    }
    for (name, at) in network_middlewares {
        let place = Place { file: checked.file, line: at.line, column: at.column };
        let what = format!("the middleware `{}` does not run here", Shown::new(name));
        let fix = "remove it once nothing relies on it";
        found.push(
            FindingCode::MiddlewareIgnored,
            place,
            "network_middlewares",
            Says::new(what, fix),
        );
    }
    if checked.document.network_policies.values().all(|entry| entry.endpoints.is_empty()) {
        let place = Place { file: checked.file, line: 1, column: 1 };
        let what = "no endpoint is named: every request is unknown";
        let fix = "add an entry under `network_policies`";
        found.push(FindingCode::SaysNothing, place, "", Says::new(what, fix));
    }
}

fn entry(checked: &Checked<'_>, key: &str, entry: &At<Entry>, found: &mut Found) {
    let place = Place { file: checked.file, line: entry.line, column: entry.column };
    let shown = Shown::new(key).to_string();
    match &entry.binaries {
        Some(binaries) if binaries.is_empty() => {
            let what = "`binaries` is empty: no process matches, and the entry means nothing";
            let fix = "list the executables, or remove the key for any process";
            found.push(FindingCode::NeverMatches, place, shown, Says::new(what, fix));
        }
        // A preset is for whoever turns it on.
        None if checked.document.preset.is_some() => {}
        None => {
            let what = "no `binaries`: any process of the sandbox may use this entry";
            let fix = "name them: binaries: [{ path: /usr/bin/curl }]";
            found.push(FindingCode::AnyProcess, place, shown, Says::new(what, fix));
        }
        Some(binaries) => {
            let everything = |path: &str| matches!(path, "**" | "/**");
            if let Some(binary) = binaries.iter().find(|binary| everything(&binary.path)) {
                let place = Place { file: checked.file, line: binary.line, column: binary.column };
                let what = "this matches every executable: any process may use this entry";
                let fix = "name them, or leave `binaries` out, which also serves unseen processes";
                found.push(FindingCode::AnyProcess, place, shown, Says::new(what, fix));
            }
        }
    }
}

fn same_keys(checked: &[Checked<'_>], found: &mut Found) {
    for (i, later) in checked.iter().enumerate() {
        for (key, entry) in &later.document.network_policies {
            let earlier =
                checked[..i].iter().find(|c| c.document.network_policies.contains_key(key));
            if let Some(earlier) = earlier {
                let place = Place { file: later.file, line: entry.line, column: entry.column };
                let shown = Shown::new(key).to_string();
                let what =
                    format!("{} has an entry `{shown}` too; both hold", Shown::new(earlier.file));
                let fix = "rename one, so that records tell them apart at a glance";
                found.push(FindingCode::SameKey, place, shown, Says::new(what, fix));
            }
        }
    }
}
