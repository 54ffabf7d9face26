//! What changes, grouped: so that a million records are a page to read.

use super::judge::{Now, Outcome};
use crate::record::Judged;
use crate::traffic::read::{Recorded, Source, Stamp};
use hashbrown::HashMap;
use std::sync::Arc;

/// What becomes of a record that was something else before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// It would be let through, and was not.
    Allowed,
    /// It would be denied, and was not.
    Denied,
    /// It would be asked about, and was not.
    Asked,
    /// It can't be said.
    Undecidable,
}

/// What a record was: as it was recorded, or under the old policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Was {
    /// It went through: allowed, audited, or nobody was asked.
    Through,
    /// Denied.
    Denied,
    /// Unknown.
    Unknown,
    /// The old policy's verdict can't be said.
    Undecidable,
}

/// What records of one group have in common. Texts are as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What changes.
    pub change: Change,
    /// What it was.
    pub was: Was,
    /// The sandbox; empty where the record names none.
    pub sandbox: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The method; empty for a tunnel.
    pub method: String,
    /// The shape of the path; empty for a tunnel.
    pub shape: String,
    /// The code.
    pub code: &'static str,
    /// The rule, or the nearest.
    pub rule: Option<String>,
}

/// Records that change alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// What changes.
    pub change: Change,
    /// What they have in common; `None` of those past the bound on groups.
    pub key: Option<Key>,
    /// How many requests.
    pub count: u64,
    /// How many of them a grant had let through.
    pub granted: u64,
    /// The earliest.
    pub first: Option<Stamp>,
    /// The latest.
    pub last: Option<Stamp>,
    /// The first in the input.
    pub example: Example,
}

/// One record of a group.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its place in the input, to order by: block, and number in it.
    pub order: (u64, u64),
    /// The file.
    pub source: Arc<Source>,
    /// The line or entry.
    pub number: u64,
    /// Whether `number` counts entries of a HAR.
    pub har: bool,
    /// Its path, as recorded.
    pub path: String,
    /// One sentence on why; may be empty. Safe for a terminal.
    pub detail: String,
    /// The grant that it relied on, if one.
    pub grant: Option<String>,
}

/// More groups than these are counted as one.
const MOST_GROUPS: usize = 20_000;

/// The groups of one worker.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_key: HashMap<Key, u32>,
    groups: Vec<Group>,
    /// What did not fit.
    rest: Vec<(Change, u32)>,
}

impl Was {
    /// As it was recorded.
    pub fn recorded(verdict: Option<Judged>) -> Self {
        match verdict {
            Some(Judged::Allow | Judged::Audit) | None => Self::Through,
            Some(Judged::Deny) => Self::Denied,
            Some(Judged::Unknown | Judged::None) => Self::Unknown,
        }
    }

    /// As a policy has it.
    pub fn judged(now: Now) -> Self {
        match now {
            Now::Allow | Now::Audit => Self::Through,
            Now::Deny => Self::Denied,
            Now::Unknown => Self::Unknown,
            Now::Undecidable => Self::Undecidable,
        }
    }

    /// What changes from this, if anything does.
    pub fn change(self, now: Now) -> Option<Change> {
        let is = Self::judged(now);
        (is != self).then_some(match is {
            Self::Through => Change::Allowed,
            Self::Denied => Change::Denied,
            Self::Unknown => Change::Asked,
            Self::Undecidable => Change::Undecidable,
        })
    }

    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Through => "allowed",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
            Self::Undecidable => "undecidable",
        }
    }
}

impl Change {
    /// Every change, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Allowed, Self::Denied, Self::Asked, Self::Undecidable];

    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "newly allowed",
            Self::Denied => "newly denied",
            Self::Asked => "newly asked",
            Self::Undecidable => "newly undecidable",
        }
    }
}

/// One record that changes, for the table.
pub(super) struct Changed<'r> {
    pub(super) change: Change,
    pub(super) was: Was,
    pub(super) record: &'r Recorded<'r>,
    pub(super) outcome: &'r Outcome,
    pub(super) order: (u64, u64),
    pub(super) source: &'r Arc<Source>,
    pub(super) number: u64,
    pub(super) har: bool,
}

impl Table {
    /// The group of a record, made where it is new.
    pub(super) fn group(&mut self, changed: &Changed<'_>) -> u32 {
        let (record, outcome) = (changed.record, changed.outcome);
        let key = Key {
            change: changed.change,
            was: changed.was,
            sandbox: record.sandbox.as_deref().unwrap_or_default().to_owned(),
            host: record.host.clone().into_owned(),
            port: record.port,
            method: record.method.as_deref().unwrap_or_default().to_owned(),
            shape: record.path.as_deref().map(super::shape).unwrap_or_default(),
            code: outcome.code,
            rule: outcome.rule.clone(),
        };
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        if self.by_key.len() >= MOST_GROUPS {
            let known = self.rest.iter().find(|(change, _)| *change == changed.change);
            if let Some((_, known)) = known {
                return *known;
            }
            let new = self.add(None, changed);
            self.rest.push((changed.change, new));
            return new;
        }
        let new = self.add(Some(key.clone()), changed);
        self.by_key.insert(key, new);
        new
    }

    fn add(&mut self, key: Option<Key>, changed: &Changed<'_>) -> u32 {
        let new = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.groups.push(Group {
            change: changed.change,
            key,
            count: 0,
            granted: 0,
            first: None,
            last: None,
            example: Example {
                order: changed.order,
                source: changed.source.clone(),
                number: changed.number,
                har: changed.har,
                path: changed.record.path.as_deref().unwrap_or_default().to_owned(),
                detail: changed.outcome.detail.clone(),
                grant: changed.record.grant().map(str::to_owned),
            },
        });
        new
    }

    /// Counts a record.
    pub(super) fn count(&mut self, group: u32, record: &Recorded<'_>) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        group.count += record.repeat;
        if let Some(grant) = record.grant() {
            group.granted += record.repeat;
            if group.example.grant.is_none() {
                group.example.grant = Some(grant.to_owned());
            }
        }
        group.spans(record.time, record.time);
    }

    /// All tables together: by change, the most frequent first.
    pub(super) fn merged(tables: Vec<Self>) -> Vec<Group> {
        let mut all = Self::default();
        let mut rest: HashMap<Change, Group> = HashMap::new();
        for table in tables {
            let lost: HashMap<u32, Change> =
                table.rest.iter().map(|(change, id)| (*id, *change)).collect();
            for (id, group) in (0_u32..).zip(table.groups) {
                if let Some(change) = lost.get(&id) {
                    rest.entry(*change).and_modify(|known| known.add(&group)).or_insert(group);
                } else if let Some(key) = &group.key {
                    match all.by_key.get(key) {
                        Some(at) => all.groups[*at as usize].add(&group),
                        None => {
                            let at = u32::try_from(all.groups.len()).unwrap_or(u32::MAX);
                            all.by_key.insert(key.clone(), at);
                            all.groups.push(group);
                        }
                    }
                }
            }
        }
        let mut groups = all.groups;
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        let mut rest: Vec<_> = rest.into_iter().collect();
        rest.sort_by_key(|(change, _)| *change);
        groups.extend(rest.into_iter().map(|(_, group)| group));
        groups
    }
}

impl Example {
    /// `FILE:LINE`, or `FILE, entry N`. Safe for a terminal.
    pub fn place(&self) -> String {
        super::run::place(&self.source, self.number, self.har)
    }
}

impl Group {
    fn spans(&mut self, first: Option<Stamp>, last: Option<Stamp>) {
        self.first = self.first.into_iter().chain(first).min();
        self.last = self.last.max(last);
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.granted += other.granted;
        self.spans(other.first, other.last);
        let grant = self.example.grant.take().or_else(|| other.example.grant.clone());
        if other.example.order < self.example.order {
            self.example = other.example.clone();
        }
        self.example.grant = self.example.grant.take().or(grant);
    }
}
