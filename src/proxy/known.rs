//! Who the client of a connection is: as it was told when it was accepted, which may be from a second's
//! memory (ADR 0010), and for certain from the moment that a rule or an answer depends on it.

use super::gate::Connection;
use super::open::OpenRecord;
use super::sandbox::Identity;
use crate::policy::{Client, Process, Rules};
use std::sync::{Arc, OnceLock};

/// The client of a connection, and of what is inside it.
#[derive(Clone, Debug)]
pub(crate) struct Known(Arc<Told>);

#[derive(Debug)]
struct Told {
    first: Client,
    certain: OnceLock<Client>,
}

impl Known {
    /// A client that was looked up now, or that nothing is known of.
    pub(crate) fn certain(client: Client) -> Self {
        let known = Self::likely(client.clone());
        drop(known.0.certain.set(client));
        known
    }

    /// A client that was seen a moment ago.
    pub(crate) fn likely(client: Client) -> Self {
        Self(Arc::new(Told { first: client, certain: OnceLock::new() }))
    }

    fn get(&self) -> &Client {
        self.0.certain.get().unwrap_or(&self.0.first)
    }

    fn is_certain(&self) -> bool {
        self.0.certain.get().is_some()
    }
}

/// What is said of a client whose process was looked for.
pub(super) fn client(process: Option<Arc<Process>>, identity: Identity) -> Client {
    match process {
        Some(process) => Client::Seen(process),
        None if identity == Identity::Ignore => Client::Ignored,
        None => Client::Unseen,
    }
}

/// Whether it matters which process asks.
pub(super) fn matters(rules: &Rules) -> bool {
    rules.policy.tells_processes_apart() || !rules.overlay.is_empty()
}

impl Connection {
    /// The client.
    pub(crate) fn client(&self) -> &Client {
        self.known.get()
    }

    /// Makes certain who the client is, where `rules` depend on it.
    pub(crate) async fn ascertain(&self, rules: &Rules) -> bool {
        !self.known.is_certain() && matters(rules) && Box::pin(self.look_up()).await
    }

    /// The same for a request or tunnel under way, whose record says it; without rules because somebody
    /// will be asked about it.
    pub(crate) async fn ascertain_in(&self, open: &mut OpenRecord, rules: Option<&Rules>) {
        let found = match rules {
            Some(rules) => self.ascertain(rules).await,
            None => Box::pin(self.look_up()).await,
        };
        if found {
            open.record().client = self.client().clone();
        }
    }

    /// Makes certain who the client is; true where it was not before.
    pub(super) async fn look_up(&self) -> bool {
        if self.known.is_certain() {
            return false;
        }
        let Some(socket) = self.held.socket() else { return false };
        let peers = self.gate.peers.clone();
        let found = self.gate.tasks.blocking(move || peers.process(socket)).await;
        let client = client(found.flatten(), self.sandbox.settings().identity);
        // Of two that look the first one's word holds.
        self.known.0.certain.set(client).is_ok()
    }
}
