//! A value in use, and what all values of a vault are found by.

use super::fingerprint::FingerprintKey;
use crate::secret::{Needles, Secret, Watchlist};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// How many values of one credential are still looked for: the present one and those that long
/// requests began with.
const REMEMBERED: usize = 4;

/// A value as a request holds it: what it began with stays, whatever becomes of the source.
#[derive(Debug)]
pub struct Held {
    secret: Secret,
    needles: Arc<Needles>,
    fingerprint: Box<str>,
    since: SystemTime,
}

/// The values that a vault has given.
#[derive(Debug)]
pub(super) struct Known {
    key: FingerprintKey,
    values: Mutex<BTreeMap<Arc<str>, VecDeque<Arc<Held>>>>,
    watchlist: Watchlist,
}

impl Held {
    /// The value.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// What it is found by, and it alone.
    pub fn needles(&self) -> &Arc<Needles> {
        &self.needles
    }

    /// Tells it from another value, and says nothing of it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When it was first read.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

impl Known {
    pub(super) fn new(key: FingerprintKey) -> Self {
        Self { key, values: Mutex::default(), watchlist: Watchlist::default() }
    }

    pub(super) fn fingerprint(&self, secret: &Secret) -> String {
        self.key.of(secret)
    }

    pub(super) fn watchlist(&self) -> &Watchlist {
        &self.watchlist
    }

    /// Takes a value that was read for `name`. Nobody gets it before it is looked for.
    pub(super) fn take(&self, name: &Arc<str>, secret: Secret) -> Arc<Held> {
        let needles = Arc::new(Needles::new([&secret]));
        let fingerprint = self.key.of(&secret).into();
        let held = Arc::new(Held { secret, needles, fingerprint, since: SystemTime::now() });
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let own = values.entry(name.clone()).or_default();
        own.push_back(held.clone());
        // One that a request still holds is never forgotten.
        while own.len() > REMEMBERED
            && let Some(at) = own.iter().position(|held| Arc::strong_count(held) == 1)
        {
            own.remove(at);
        }
        let all = Needles::new(values.values().flatten().map(|held| &held.secret));
        self.watchlist.set(all);
        held
    }
}
