//! Which records a suggestion is made from, by host and port.

use super::super::judge::{Judge, Now};
use crate::addr::{Authority, Host, Path, Port, Shown, check_query};
use crate::policy::pattern::{HostPattern, is_reserved};
use crate::record::{Judged, LineScheme};
use crate::traffic::read::{Recorded, Seen, Stamp};
use std::collections::BTreeMap;

/// What is taken, and how it is generalised.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "three independent flags of the command")]
pub struct Options {
    /// As many values of a segment make a `*`; `None`: none do.
    pub merge: Option<usize>,
    /// Also what was denied, and what was unknown and did not pass.
    pub include_denied: bool,
    /// Use a preset for a host that it covers.
    pub presets: bool,
    /// Name the processes.
    pub processes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { merge: Some(3), include_denied: false, presets: true, processes: true }
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Gathered {
    /// How it was.
    pub options: Options,
    /// By host and port.
    pub(super) sites: BTreeMap<(Host, Port), Site>,
    /// Records that were taken.
    pub records: u64,
    /// Records that the base allows already.
    pub known: u64,
    /// Denied, or unknown, and not asked for.
    pub denied: u64,
    /// What no policy can allow: a malformed path or host, TRACE, CONNECT.
    pub impossible: u64,
}

/// One host and port.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: Host,
    pub(super) port: Port,
    pub(super) taken: BTreeMap<Key, Taken>,
}

/// What makes two requests the same: process, method (`None`: raw bytes), path, query, and how it
/// was sent.
type Key = (Option<Box<str>>, Option<Box<str>>, Box<str>, Option<Box<str>>, bool);

/// A distinct request.
#[derive(Debug)]
pub struct Taken {
    pub(super) record: Recorded<'static>,
    pub(super) count: u64,
    pub(super) first: Option<Stamp>,
    pub(super) last: Option<Stamp>,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes a record, or counts why not. `base` allows what is not needed.
    pub fn take(&mut self, record: &Recorded<'_>, base: Option<&Judge>) {
        if Host::recorded(&record.host).is_ok_and(|host| is_reserved(&host)) {
            return;
        }
        let observed = record.by.as_deref() == Some("observe");
        let passed = match record.verdict {
            Some(Judged::Allow | Judged::Audit) | None => true,
            Some(Judged::Unknown) => observed || self.options.include_denied,
            Some(Judged::Deny) => self.options.include_denied,
            Some(Judged::None) => return,
        };
        if !passed {
            self.denied += record.repeat;
            return;
        }
        let allowed = |base: &Judge| matches!(base.judge(record).now, Now::Allow | Now::Audit);
        if base.is_some_and(allowed) {
            self.known += record.repeat;
            return;
        }
        let Some((target, key)) = key(record) else {
            self.impossible += record.repeat;
            return;
        };
        self.records += record.repeat;
        let Authority { host, port } = target;
        let empty = || Site { host: host.clone(), port, taken: BTreeMap::new() };
        let site = self.sites.entry((host.clone(), port)).or_insert_with(empty);
        let taken = site.taken.entry(key).or_insert_with(|| Taken {
            record: kept(record),
            count: 0,
            first: record.time,
            last: record.time,
        });
        taken.count += record.repeat;
        taken.first = taken.first.into_iter().chain(record.time).min();
        taken.last = taken.last.into_iter().chain(record.time).max();
    }
}

/// What of a record counts here. What its body said does not: the suggestion does not look there.
fn kept(record: &Recorded<'_>) -> Recorded<'static> {
    let mut kept = Recorded::new(record.scheme).into_owned();
    let owned = record.clone().into_owned();
    kept.process = owned.process;
    kept.host = owned.host;
    kept.port = owned.port;
    kept.method = owned.method;
    kept.path = owned.path;
    kept.query = owned.query;
    kept.websocket = owned.websocket;
    kept.code = owned.code;
    kept
}

/// `None` where no policy can allow it.
fn key(record: &Recorded<'_>) -> Option<(Authority, Key)> {
    let host = Host::parse(&record.host).ok()?;
    HostPattern::parse(&host.to_string()).ok()?;
    let target = Authority { host, port: Port::new(record.port)? };
    let process = binary(record).map(Into::into);
    let (Some(method), Some(path)) = (&record.method, &record.path) else {
        return Some((target, (process, None, "".into(), None, false)));
    };
    let is = |name: &str| method.eq_ignore_ascii_case(name);
    if is("TRACE") || is("CONNECT") || is("*") || record.scheme == LineScheme::Tcp {
        return None;
    }
    let path = Path::parse(path).ok()?;
    let query = record.query.as_deref();
    query.map_or(Ok(()), check_query).ok()?;
    let method = Some(method.to_ascii_uppercase().into());
    let key = (process, method, path.as_str().into(), query.map(Into::into), record.websocket);
    Some((target, key))
}

/// The executable, where a rule can name it.
pub(super) fn binary<'r>(record: &'r Recorded<'_>) -> Option<&'r str> {
    match &record.process {
        Seen::Whole(binary, _) | Seen::Partly(binary, _) => {
            Some(&**binary).filter(|binary| binary.starts_with('/'))
        }
        Seen::Unsaid | Seen::Unseen => None,
    }
}

impl Site {
    pub(super) fn target(&self) -> String {
        format!("{}:{}", self.host, self.port.get())
    }
}

impl Taken {
    /// The request in one line, safe for a terminal.
    pub fn shown(&self) -> String {
        let record = &self.record;
        let method = record.method.as_deref().unwrap_or("TCP");
        let path = record.path.as_deref().unwrap_or_default();
        let shown = |text| Shown::new(text).limit(120);
        format!("{} {}:{}{}", shown(method), shown(&record.host), record.port, shown(path))
    }
}
