//! What an earlier run left: grants, numbers that were given out, policies that were changed while
//! it ran. And what listens to the records of this one.

use super::approvals::Shared;
use super::operator::{BLOCK, Kept, Seen, SeenSink, Tally, TallySink};
use super::policies::{self, Compiled, Policies, Standing};
use crate::approval::Numbers;
use crate::config::Config;
use crate::policy::Grant;
use crate::record::Sink;
use crate::secret::Watchlist;
use crate::state::{self, State};
use crate::traffic::Recorder;
use anyhow::Context;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// How many events a slow listener may lag behind before it is told how many it missed. An event
/// may carry an entry with its preview and its head: what a listener that does not read keeps in
/// memory stays below 128 MiB.
const EVENTS: usize = 512;

/// What an earlier run left.
pub(super) struct Earlier {
    state: State,
    standing: BTreeMap<Arc<str>, Standing>,
    grants: Vec<state::Grant>,
    numbers: Arc<Numbers>,
}

impl Earlier {
    /// Reads it, or makes an empty state.
    pub(super) async fn read(config: &Config) -> anyhow::Result<Self> {
        for dir in ["approved", "secrets"] {
            let dir = config.state_dir.join(dir);
            policies::make_dir(&dir)
                .with_context(|| format!("the directory {} can't be made", dir.display()))?;
        }
        let state = State::open(&config.state_dir.join("state.db"))?;
        let requests = state.reserve("request", BLOCK).await?;
        let grants = state.reserve("grant", BLOCK).await?;
        Ok(Self {
            standing: policies::earlier(&state, config).await?,
            grants: state.grants().await?,
            numbers: Arc::new(Numbers::new(requests, grants, BLOCK)),
            state,
        })
    }

    /// Every sandbox's policy: of one that is pinned the version that it is pinned to.
    pub(super) async fn compile(
        &self,
        config: &Config,
    ) -> anyhow::Result<BTreeMap<Arc<str>, Compiled>> {
        let runtime = |name: &str| self.standing.get(name).and_then(|s| s.runtime.clone());
        let mut compiled = policies::compile(config, &runtime)?;
        for (name, standing) in &self.standing {
            if let Some(number) = standing.pinned {
                let pinned = policies::version(&self.state, config, name, number).await;
                let pinned = pinned.with_context(|| {
                    format!("sandbox {name} is pinned to version {number} of its policy")
                })?;
                compiled.insert(name.clone(), pinned);
            }
        }
        Ok(compiled)
    }

    /// What keeps and changes the policies from now on.
    pub(super) fn policies(&self, recorder: &Recorder) -> Policies {
        Policies {
            state: self.state.clone(),
            shown: Arc::new(ArcSwap::from_pointee(self.standing.clone())),
            recorder: recorder.clone(),
            events: broadcast::Sender::new(EVENTS),
        }
    }

    /// What the queues share.
    pub(super) fn shared(&self, observe: bool, seen: Arc<Seen>, secrets: Watchlist) -> Shared {
        let attended = watch::Sender::new(0);
        let (numbers, changed) = (self.numbers.clone(), Arc::default());
        Shared { numbers, attended, changed, observe, seen, secrets }
    }

    /// The grants of a sandbox. Those that ended meanwhile let nothing through; they are among them
    /// so that the first sweep records their end.
    pub(super) fn grants(&self, sandbox: &str) -> Vec<Arc<Grant>> {
        let own = self.grants.iter().filter(|grant| grant.sandbox == sandbox);
        own.filter_map(Kept::grant).collect()
    }
}

/// Who listens to the records, beside the metrics.
pub(super) struct Sinks {
    pub(super) seen: Arc<Seen>,
    pub(super) tally: Arc<Tally>,
}

impl Sinks {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { seen: Seen::load(state_dir), tally: Arc::default() }
    }

    pub(super) fn sinks(&self, mut others: Vec<Box<dyn Sink>>) -> Vec<Box<dyn Sink>> {
        others.push(Box::new(TallySink(self.tally.clone())));
        others.push(Box::new(SeenSink::new(self.seen.clone())));
        others
    }
}
