//! Host patterns, matched label by label.
//!
//! `*.x.com` is one label, `**.x.com` one or more, `api-*.x.com` part of the first; a later label
//! may be just `*`. Invariant: a pattern that spans a whole top-level domain does not exist.

use super::glob::Parsed;
use super::language::{Language, Step};
use crate::addr::{Host, HostError, Name};
use std::fmt;

/// Hosts that the gateway itself answers for, of which no policy says anything.
pub(in crate::policy) const RESERVED: [&str; 2] = ["policy.local", "inference.local"];

/// Whether the gateway itself answers for the host.
pub fn is_reserved(host: &Host) -> bool {
    host.name().is_some_and(|name| RESERVED.contains(&name.as_str()))
}

/// A host as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One name or address.
    Exact(Host),
    /// Names by pattern; never addresses.
    Wild(WildHost),
}

/// A host pattern with a wildcard in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WildHost {
    /// The labels before the suffix, from the last to the first, without a leading `**`.
    labels: Box<[Parsed]>,
    /// Whether `**` stands in front.
    deep: bool,
    /// The longest tail without wildcards, and how many labels it has (at least one).
    suffix: Box<str>,
    depth: usize,
}

/// What is wrong with a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// `*` or `**` alone.
    #[error("a bare wildcard allows every host; name the hosts, or use one like \"*.example.com\"")]
    Bare,
    /// `*.com`.
    #[error(
        "a wildcard host ends in two labels or more without a wildcard: this one spans a whole top-level domain; use one like \"*.example.com\""
    )]
    TopLevel,
    /// `api.v*.example.com`.
    #[error(
        "only the first label may hold a partial wildcard or \"**\"; a later label may be just \"*\""
    )]
    Later,
    /// The last label is a wildcard.
    #[error("the last label of a host can't be a wildcard: anyone may register such a name")]
    Last,
    /// `?`, `[`, `{`.
    #[error("a host pattern knows only \"*\" and \"**\"")]
    Metacharacter,
    /// `policy.local`, `inference.local`.
    #[error("the gateway itself answers for this host: no rule is needed, and none has an effect")]
    Reserved,
    /// A name.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl HostPattern {
    /// Compiles a host or a host pattern.
    pub fn parse(pattern: &str) -> Result<Self, HostPatternError> {
        if !pattern.contains('*') {
            // Brackets are an IPv6 literal's.
            if pattern.contains(['?', '{']) {
                return Err(HostPatternError::Metacharacter);
            }
            let host = Host::parse(pattern)?;
            if is_reserved(&host) {
                return Err(HostPatternError::Reserved);
            }
            return Ok(Self::Exact(host));
        }
        if pattern.contains(['?', '{', '[']) {
            return Err(HostPatternError::Metacharacter);
        }
        let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
        let labels: Vec<&str> = pattern.split('.').collect();
        if labels.iter().all(|label| label.bytes().all(|b| b == b'*')) {
            return Err(HostPatternError::Bare);
        }
        wild(&labels).map(Self::Wild)
    }

    /// The names that it names (text without a trailing dot, no label empty).
    pub(in crate::policy) fn language(&self) -> Language {
        let mut language = Language::new(Some('.'));
        match self {
            Self::Exact(host) => language.add(host.to_string().chars().map(Step::Char)),
            Self::Wild(wild) => language.add(wild.steps()),
        }
        language
    }

    /// Whether it names the host.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Wild(wild) => host.name().is_some_and(|name| wild.matches(name)),
        }
    }
}

/// As it may be written: parsing it gives the same pattern.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Wild(wild) => wild.fmt(f),
        }
    }
}

impl fmt::Display for WildHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deep {
            f.write_str("**.")?;
        }
        for label in self.labels.iter().rev() {
            write!(f, "{label}.")?;
        }
        f.write_str(&self.suffix)
    }
}

fn wild(labels: &[&str]) -> Result<WildHost, HostPatternError> {
    if labels.len() < 3 {
        return Err(HostPatternError::TopLevel);
    }
    let deep = labels[0] == "**";
    let mut compiled = Vec::new();
    for (i, label) in labels.iter().enumerate().skip(usize::from(deep)) {
        compiled.push(match *label {
            "*" => Parsed::Any,
            label if label.contains('*') && (i > 0 || label.contains("**")) => {
                return Err(HostPatternError::Later);
            }
            label if label.contains('*') => partial(label)?,
            label => Parsed::Exact(plain(label)?),
        });
    }
    compiled.reverse();
    let depth = compiled.iter().take_while(|label| matches!(label, Parsed::Exact(_))).count();
    if depth == 0 {
        return Err(HostPatternError::Last);
    }
    if depth == 1 {
        // Whatever stands before it, some name under it is anyone's.
        return Err(HostPatternError::TopLevel);
    }
    let tail: Vec<&str> = compiled[..depth]
        .iter()
        .rev()
        .filter_map(|label| match label {
            Parsed::Exact(text) => Some(&**text),
            Parsed::Any | Parsed::Glob(_) => None,
        })
        .collect();
    // The tail must be a name that a request could have.
    let suffix = match Host::parse(&tail.join("."))? {
        Host::Name(name) => name.as_str().into(),
        Host::Ip(_) => return Err(HostError::OddIpv4.into()),
    };
    Ok(WildHost { labels: compiled.split_off(depth).into(), deep, suffix, depth })
}

fn partial(label: &str) -> Result<Parsed, HostPatternError> {
    let label = label.to_ascii_lowercase();
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*')) {
        return Err(HostError::Byte.into());
    }
    Parsed::parse(&label).map_err(|_| HostPatternError::Metacharacter)
}

/// One literal label, lower case, IDNA to ASCII.
fn plain(label: &str) -> Result<Box<str>, HostPatternError> {
    if label.is_empty() {
        return Err(HostError::Label.into());
    }
    if label.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(label.into());
    }
    match Host::parse(label)? {
        Host::Name(name) => Ok(name.as_str().into()),
        Host::Ip(_) => Err(HostError::OddIpv4.into()),
    }
}

impl WildHost {
    /// Whether it names `name`.
    pub fn matches(&self, name: &Name) -> bool {
        let Some(head) = name.as_str().strip_suffix(&*self.suffix) else { return false };
        let Some(head) = head.strip_suffix('.') else { return false };
        let mut rest = head.rsplit('.');
        for pattern in &self.labels {
            if !rest.next().is_some_and(|label| pattern.matches(label)) {
                return false;
            }
        }
        rest.next().is_some() == self.deep
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.deep {
            steps.extend([Step::All, Step::Char('.')]);
        }
        for label in self.labels.iter().rev() {
            label.steps(&mut steps);
            steps.push(Step::Char('.'));
        }
        steps.extend(self.suffix.chars().map(Step::Char));
        steps
    }

    /// The longest tail without wildcards.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// How many labels the suffix has.
    pub fn depth(&self) -> usize {
        self.depth
    }
}
