//! Which endpoints cover a client and a target: host, port and process. Paths come later.

use crate::addr::{Authority, Host};
use crate::policy::compile::{Endpoint, Entry, Policy};
use crate::policy::intent::Client;

/// Up to this many covering endpoints are kept without allocating.
const INLINE: usize = 32;

/// The endpoints that cover: exact names first, then wildcards, then those without a host.
pub(in crate::policy) struct Covering {
    inline: [u32; INLINE],
    count: usize,
    /// All of them, once there are more than [`INLINE`].
    spilled: Vec<u32>,
}

impl Covering {
    pub(in crate::policy) fn of(policy: &Policy, client: &Client, target: &Authority) -> Self {
        Self::where_entries(policy, target, |entry| policy.entries[entry as usize].admits(client))
    }

    /// As [`of`](Self::of), where `admits` says which entries match the process.
    pub(super) fn where_entries(
        policy: &Policy,
        target: &Authority,
        admits: impl Fn(u32) -> bool,
    ) -> Self {
        let mut covering = Self { inline: [0; INLINE], count: 0, spilled: Vec::new() };
        let port = target.port.get();
        // Endpoints of one entry stand together: its binaries are matched once.
        let mut last: Option<(u32, bool)> = None;
        each(policy, &target.host, port, |id| {
            let endpoint = &policy.endpoints[id as usize];
            if !endpoint.is_on(port) {
                return;
            }
            let matches = match last {
                Some((entry, matches)) if entry == endpoint.entry => matches,
                _ => admits(endpoint.entry),
            };
            last = Some((endpoint.entry, matches));
            if matches {
                covering.push(id);
            }
        });
        covering
    }

    fn push(&mut self, id: u32) {
        if self.count < INLINE {
            self.inline[self.count] = id;
        } else {
            if self.spilled.is_empty() {
                self.spilled.extend_from_slice(&self.inline);
            }
            self.spilled.push(id);
        }
        self.count += 1;
    }

    pub(in crate::policy) fn ids(&self) -> &[u32] {
        if self.spilled.is_empty() { &self.inline[..self.count] } else { &self.spilled }
    }
}

/// Every endpoint that names the host, or names none and has the port.
pub(super) fn each(policy: &Policy, host: &Host, port: u16, mut found: impl FnMut(u32)) {
    let table = &policy.table;
    table.exact(host).iter().for_each(|id| found(*id));
    table.wild(host, |id| {
        if policy.endpoints[id as usize].host.as_ref().is_some_and(|h| h.matches(host)) {
            found(id);
        }
    });
    table.hostless(port).iter().for_each(|id| found(*id));
}

impl Entry {
    /// Whether the entry's binaries match the client: the executable or any ancestor.
    pub(in crate::policy) fn admits(&self, client: &Client) -> bool {
        let Some(binaries) = &self.binaries else { return true };
        match client {
            Client::Ignored => true,
            Client::Unseen => false,
            Client::Seen(process) => binaries.iter().any(|binary| {
                binary.matches(&process.binary)
                    || process.ancestors.iter().any(|ancestor| binary.matches(ancestor))
            }),
        }
    }
}

impl Policy {
    /// The endpoints that name the host, and those that name none but have the port; for `diff`.
    pub(in crate::policy) fn naming(&self, host: &Host, port: u16) -> Vec<&Endpoint> {
        let mut found = Vec::new();
        each(self, host, port, |id| found.push(&self.endpoints[id as usize]));
        found
    }

    /// Whether a rule names the host, on whatever port and for whatever process.
    pub fn names_host(&self, host: &Host) -> bool {
        let mut named = false;
        each(self, host, 0, |id| named |= !self.endpoints[id as usize].flags.deny_only);
        named
    }

    /// Whether the target's name is covered by wildcards alone (or by endpoints without a host),
    /// so that its labels are the client's to choose: the caller caps distinct names.
    pub fn covered_by_wildcard(&self, target: &Authority) -> bool {
        let port = target.port.get();
        let speaks = |id: u32| {
            let endpoint = &self.endpoints[id as usize];
            !endpoint.flags.deny_only && endpoint.is_on(port)
        };
        if self.table.exact(&target.host).iter().any(|id| speaks(*id)) {
            return false;
        }
        // Of exact names there is none that counts.
        let mut wild = false;
        each(self, &target.host, port, |id| wild |= speaks(id));
        wild
    }
}
