//! Which of the endpoints that cover speak for what is asked.

use super::cover::Covering;
use crate::policy::compile::{Endpoint, Policy};

/// Which inspected endpoints cover, and so speak in place of uninspected ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Speaking {
    /// One does.
    any: bool,
    /// One that names the host does.
    named: bool,
}

impl Speaking {
    /// Whether an uninspected endpoint does not count. One that names its host is silenced only by
    /// one that names it too: an endpoint without a host is about whatever resolves into its
    /// addresses, which the other's permit does not reach unless it says so itself.
    pub(super) fn silences(self, uninspected: &Endpoint) -> bool {
        if uninspected.host.is_some() { self.named } else { self.any }
    }
}

impl Policy {
    /// Which inspected endpoints cover host, port and process, whatever their paths.
    pub(super) fn speaking(&self, covering: &Covering) -> Speaking {
        let mut speaking = Speaking::default();
        for endpoint in self.covered(covering) {
            if endpoint.kind.inspected() && !endpoint.flags.deny_only {
                speaking.any = true;
                speaking.named |= endpoint.host.is_some();
            }
        }
        speaking
    }

    /// The endpoints that say how a tunnel is taken: those that name the host, or where none does, those
    /// without one.
    pub(super) fn tunnelling<'p>(
        &'p self,
        covering: &Covering,
    ) -> impl Iterator<Item = &'p Endpoint> {
        let allowing = || self.covered(covering).filter(|e| !e.flags.deny_only);
        let named = allowing().any(|e| e.host.is_some());
        allowing().filter(move |e| e.host.is_some() == named)
    }
}
