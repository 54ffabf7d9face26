//! The queues of questions: one a sandbox, with what they need of the rest of the house.

use super::operator::Seen;
use crate::approval::{self, Asked, Kind, Numbers, Parts, Queue, risk};
use crate::config::{self, ApprovalMode, Config};
use crate::policy::{Grant, Policy};
use crate::proxy::Ruling;
use crate::secret::Watchlist;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What all queues share.
pub(super) struct Shared {
    /// Where numbers come from.
    pub(super) numbers: Arc<Numbers>,
    /// How many panes and watchers listen for questions.
    pub(super) attended: watch::Sender<usize>,
    /// Told when something has changed in a queue.
    pub(super) changed: Arc<Notify>,
    /// What nothing knows is let through and marked.
    pub(super) observe: bool,
    /// Which hosts something went to before today.
    pub(super) seen: Arc<Seen>,
    /// The credentials, to be found in what is asked.
    pub(super) secrets: Watchlist,
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
        let secrets = self.secrets.clone();
        let meant = &config.sandboxes[name];
        let (publishes, judges, seen) = (ruling.clone(), ruling.clone(), self.seen.clone());
        let queue = Queue::new(Parts {
            sandbox: name.clone(),
            settings: settings(&meant.approval),
            numbers: self.numbers.clone(),
            attended: self.attended.subscribe(),
            changed: self.changed.clone(),
            publish: Box::new(move |overlay| publishes.set_overlay(overlay)),
            risk: Box::new(move |asked| notes(asked, &judges, &seen, &secrets)),
            grants,
        });
        (ruling, queue)
    }
}

/// What may be wrong with what is asked.
fn notes(asked: &Asked, ruling: &Ruling, seen: &Seen, secrets: &Watchlist) -> Vec<risk::Note> {
    let needles = secrets.needles();
    let policy = ruling.load().policy.clone();
    let target = &asked.intent.target;
    let (method, path, query) = asked.request().unwrap_or_default();
    let headers: Vec<(&str, &[u8])> =
        asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let length = asked.body.length;
    let seen_bytes = asked.preview.bytes.len() as u64;
    let about = risk::Asked {
        scheme: asked.intent.scheme,
        host: &target.host,
        port: target.port,
        method,
        path,
        query,
        upload: length.or((seen_bytes > 0).then_some(seen_bytes)),
        headers: &headers,
        body: &asked.preview.bytes,
        longer: asked.body.longer,
        opaque: matches!(asked.kind, Kind::Opaque | Kind::Tcp),
    };
    let known = risk::Known {
        allowed: &policy.allowed_hosts(),
        first_seen_today: seen.is_new(&target.host),
        secret: &|bytes| needles.found_in(bytes).then(|| "of this gateway".to_owned()),
    };
    risk::notes(&about, &known)
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
        // A notify command is somebody who listens.
        unattended: if meant.notify.is_empty() { meant.unattended } else { meant.timeout },
        session: meant.session,
        keep: meant.keep,
        max_held: count(meant.max_held),
        max_pending: count(meant.max_pending),
    }
}
