//! Which endpoints name a host: exact names and wildcard tails by hash, the rest by port.

use super::endpoint::Endpoint;
use crate::addr::Host;
use crate::policy::pattern::HostPattern;
use hashbrown::HashMap;

type Ids = Box<[u32]>;

/// The index from a host to the endpoints that may name it. Look-ups cost the same however many
/// endpoints there are.
#[derive(Debug)]
pub(in crate::policy) struct Table {
    exact: HashMap<Host, Ids>,
    /// By the longest tail without a wildcard.
    suffixes: HashMap<Box<str>, Ids>,
    /// Which tail lengths, in labels, occur: bit `n`; 63 stands for that and more.
    depths: u64,
    hostless: HashMap<u16, Ids>,
}

impl Table {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let mut exact: HashMap<Host, Vec<u32>> = HashMap::new();
        let mut suffixes: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut hostless: HashMap<u16, Vec<u32>> = HashMap::new();
        let mut depths = 0;
        for (id, endpoint) in (0_u32..).zip(endpoints) {
            match &endpoint.host {
                Some(HostPattern::Exact(host)) => {
                    exact.entry(host.clone()).or_default().push(id);
                }
                Some(HostPattern::Wild(wild)) => {
                    depths |= bit(wild.depth());
                    suffixes.entry(wild.suffix().into()).or_default().push(id);
                }
                None => {
                    for port in &endpoint.ports {
                        let ids = hostless.entry(*port).or_default();
                        if ids.last() != Some(&id) {
                            ids.push(id);
                        }
                    }
                }
            }
        }
        Self { exact: boxed(exact), suffixes: boxed(suffixes), depths, hostless: boxed(hostless) }
    }

    /// The endpoints that name exactly this host.
    pub(in crate::policy) fn exact(&self, host: &Host) -> &[u32] {
        self.exact.get(host).map_or(&[], |ids| ids)
    }

    /// Calls `each` with every endpoint whose wildcard may name the host.
    pub(in crate::policy) fn wild(&self, host: &Host, mut each: impl FnMut(u32)) {
        let Some(name) = host.name() else { return };
        if self.depths == 0 {
            return;
        }
        let name = name.as_str();
        let dots = name.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'.');
        for (labels, (dot, _)) in (1..).zip(dots) {
            if self.depths >> labels.min(63) == 0 {
                return; // No tail is as long as that.
            }
            if self.depths & bit(labels) != 0
                && let Some(ids) = self.suffixes.get(&name[dot + 1..])
            {
                ids.iter().for_each(|id| each(*id));
            }
        }
    }

    /// The endpoints without a host on this port.
    pub(in crate::policy) fn hostless(&self, port: u16) -> &[u32] {
        self.hostless.get(&port).map_or(&[], |ids| ids)
    }
}

fn bit(labels: usize) -> u64 {
    1 << labels.min(63)
}

fn boxed<K: std::hash::Hash + Eq>(map: HashMap<K, Vec<u32>>) -> HashMap<K, Ids> {
    map.into_iter().map(|(key, ids)| (key, ids.into_boxed_slice())).collect()
}
