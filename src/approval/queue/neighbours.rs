//! Who waits beside an entry: counted once for all entries, because a pane shows many.

use super::{Entry, Queue, State};
use crate::policy::Scheme;
use std::collections::HashMap;
use std::sync::Arc;

/// What waits in one queue at one moment, by what wider answers would cover.
#[derive(Debug, Default)]
pub struct Neighbours {
    host: HashMap<Place, usize>,
    path: HashMap<Shape, usize>,
    groups: HashMap<[u8; 32], Vec<u64>>,
}

/// Scheme, host with port, and executable.
type Place = (Scheme, String, Option<String>);

/// A place with method, pattern, and whether it is a WebSocket.
type Shape = (Place, String, Option<Arc<str>>, bool);

impl Queue {
    /// What waits now.
    pub fn neighbours(&self) -> Neighbours {
        let inner = self.lock();
        let mut all = Neighbours::default();
        for entry in inner.entries.values().filter(|entry| entry.state == State::Pending) {
            all.groups.entry(entry.group.0).or_default().push(entry.number);
            if let Some(path) = path(entry) {
                *all.host.entry(place(entry)).or_default() += 1;
                *all.path.entry(path).or_default() += 1;
            }
        }
        all
    }
}

impl Neighbours {
    /// How many other entries a pattern of this entry's method would cover, and how many
    /// everything on its host.
    pub fn also(&self, entry: &Entry) -> (usize, usize) {
        let Some(path) = path(entry) else { return (0, 0) };
        let itself = usize::from(entry.state == State::Pending);
        let others = |count: Option<&usize>| count.copied().unwrap_or(0).saturating_sub(itself);
        (others(self.path.get(&path)), others(self.host.get(&place(entry))))
    }

    /// The entries that differ from this one in query or body alone.
    pub fn variants(&self, entry: &Entry) -> Vec<u64> {
        let group = self.groups.get(&entry.group.0).map(Vec::as_slice).unwrap_or_default();
        group.iter().copied().filter(|number| *number != entry.number).collect()
    }
}

fn place(entry: &Entry) -> Place {
    let intent = &entry.asked.intent;
    (intent.scheme, intent.target.to_string(), entry.asked.binary().map(Into::into))
}

/// What the proposed pattern covers; `None` where there is no path.
fn path(entry: &Entry) -> Option<(Place, String, Option<Arc<str>>, bool)> {
    let (method, ..) = entry.asked.request()?;
    let method = method.to_ascii_uppercase();
    Some((place(entry), method, entry.pattern.clone(), entry.asked.websocket()))
}
