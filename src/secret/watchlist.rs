//! What everything that writes looks for: the values that are known at the moment.

use super::needles::Needles;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The needles of all known values, shared by who knows them and who must not write them. Cheap to
/// clone; a clone sees every change.
#[derive(Clone, Debug)]
pub struct Watchlist(Arc<ArcSwap<Needles>>);

impl Watchlist {
    /// The needles of the moment.
    pub fn needles(&self) -> Arc<Needles> {
        self.0.load_full()
    }

    /// Puts others in their place.
    pub fn set(&self, needles: Needles) {
        self.0.store(Arc::new(needles));
    }

    /// Masks what is known in a line that is about to be written, in place.
    pub fn mask_line(&self, line: &mut Vec<u8>, from: usize) {
        let needles = self.0.load();
        if needles.found_in(&line[from..]) {
            let masked = needles.mask(&line[from..]).into_owned();
            line.truncate(from);
            line.extend_from_slice(&masked);
        }
    }
}

/// Two are the same where a change of one is a change of the other.
impl PartialEq for Watchlist {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Watchlist {}

impl Default for Watchlist {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Needles::none())))
    }
}
