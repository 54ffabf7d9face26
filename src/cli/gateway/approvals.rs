//! The queues of questions: one a sandbox, with what they need of the rest of the house.

use crate::approval::{self, Numbers, Parts, Queue};
use crate::config::{self, ApprovalMode, Config};
use crate::policy::{Grant, Policy};
use crate::proxy::Ruling;
use std::sync::Arc;
use tokio::sync::watch;

/// What all queues share.
pub(super) struct Shared {
    /// Where numbers come from.
    pub(super) numbers: Arc<Numbers>,
    /// How many panes and watchers listen for questions.
    pub(super) attended: watch::Sender<usize>,
    /// What nothing knows is let through and marked.
    pub(super) observe: bool,
}

impl Shared {
    /// The rules of a sandbox and its queue, with the grants of an earlier run in force.
    pub(super) fn open(
        &self,
        config: &Config,
        name: &Arc<str>,
        policy: Arc<Policy>,
        grants: Vec<Arc<Grant>>,
    ) -> (Arc<Ruling>, Arc<Queue>) {
        let ruling = Ruling::new(policy, self.observe);
        let meant = &config.sandboxes[name];
        let publishes = ruling.clone();
        let queue = Queue::new(Parts {
            sandbox: name.clone(),
            settings: settings(&meant.approval),
            numbers: self.numbers.clone(),
            attended: self.attended.subscribe(),
            publish: Box::new(move |overlay| publishes.set_overlay(overlay)),
            risk: Box::new(|_| Vec::new()),
            grants,
        });
        (ruling, queue)
    }
}

fn settings(meant: &config::Approval) -> approval::Settings {
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    approval::Settings {
        mode: match meant.mode {
            ApprovalMode::Hold => approval::Mode::Hold,
            ApprovalMode::Queue => approval::Mode::Queue,
            ApprovalMode::Deny => approval::Mode::Deny,
        },
        about: match meant.ask {
            config::Ask::Any => approval::About::Any,
            config::Ask::NewHosts => approval::About::NewHosts,
        },
        timeout: meant.timeout,
        unattended: meant.unattended,
        session: meant.session,
        keep: meant.keep,
        max_held: count(meant.max_held),
        max_pending: count(meant.max_pending),
    }
}
