//! The gateway while it runs: signals, changed files, metrics, and the way to stop.

use super::lock::StateLock;
use super::operator::{self, Operator};
use super::policies::{Floor, Order, Policies, Why};
use super::watch::Watched;
use crate::config::Loaded;
use crate::control::Change;
use crate::control::feed::Feed;
use crate::control::server::{Placed, serve as serve_control};
use crate::control::wire::{Changed, Problem};
use crate::metrics::{Health, Registry, serve};
use crate::proxy::{Bound, Gate, Listener, Sandbox, Workers};
use crate::record::Event;
use crate::tls::Origins;
use crate::traffic::{Recorder, WriterThread, Writing};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Files are often written in several steps: this long after the first they are read.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the writer may take for its last batch.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// A gateway that serves.
pub(super) struct Running {
    pub(super) loaded: Loaded,
    pub(super) gate: Arc<Gate>,
    pub(super) workers: Workers,
    pub(super) sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    pub(super) listeners: Vec<Listener>,
    pub(super) recorder: Recorder,
    pub(super) writer: WriterThread,
    pub(super) registry: Registry,
    pub(super) metrics: Option<std::net::TcpListener>,
    /// System roots and the gateway's CA in one file.
    pub(super) bundle: PathBuf,
    /// Held until the last record stands.
    pub(super) lock: StateLock,
    pub(super) policies: Policies,
    pub(super) operator: Arc<Operator>,
    /// What a person orders.
    pub(super) ordered: mpsc::Receiver<Order>,
    /// Where operators reach it.
    pub(super) control: (std::os::unix::net::UnixListener, Placed),
    pub(super) feed: Feed,
}

/// What woke the gateway.
enum Woken {
    Reload(&'static str),
    Changed,
    Stop,
    Count,
    Ordered(Order),
}

/// The signals that the gateway heeds.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Heeds them from now on. Needs a runtime.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Woken {
        tokio::select! {
            _ = self.terminate.recv() => Woken::Stop,
            _ = self.interrupt.recv() => Woken::Stop,
            _ = self.hangup.recv() => Woken::Reload("SIGHUP"),
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Woken::Stop) {}
    }
}

impl Running {
    /// Serves until SIGTERM or SIGINT, then drains; a second one cuts. `reread` reads config and
    /// flags anew.
    pub(super) async fn run(
        mut self,
        mut signals: Signals,
        mut watched: Watched,
        reread: impl Fn() -> anyhow::Result<Loaded>,
    ) -> anyhow::Result<()> {
        let (changed, mut changes) = mpsc::channel(1);
        watched.watch(&self.loaded.files);
        watched.start(changed);
        let mut every = tokio::time::interval(Duration::from_secs(1));
        if let Some(listener) = self.metrics.take() {
            self.serve_metrics(listener)?;
        }
        self.serve_operator()?;
        loop {
            let woken = tokio::select! {
                woken = signals.next() => woken,
                Some(()) = changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    Woken::Changed
                }
                _ = every.tick() => Woken::Count,
                Some(order) = self.ordered.recv() => Woken::Ordered(order),
            };
            match woken {
                Woken::Stop => break,
                Woken::Count => self.count(),
                Woken::Changed if !watched.changed() => {}
                Woken::Changed => drop(self.reload("a file changed", &reread, &mut watched).await),
                Woken::Reload(why) => drop(self.reload(why, &reread, &mut watched).await),
                Woken::Ordered(order) => self.order(order, &reread, &mut watched).await,
            }
        }
        drop(watched);
        self.stop(signals).await
    }

    /// Does what a person ordered.
    async fn order(
        &mut self,
        order: Order,
        reread: &impl Fn() -> anyhow::Result<Loaded>,
        watched: &mut Watched,
    ) {
        // Who ordered it may have left: it is done all the same.
        if let Order::Change(_, Change::Reload, reply) = order {
            let reloaded = self.reload("ordered", reread, watched).await;
            drop(reply.send(reloaded.map(|()| self.versions())));
            return;
        }
        let (policies, config, sandboxes) = (&self.policies, &self.loaded.config, &self.sandboxes);
        let floor = Floor { policies, config, sandboxes };
        match order {
            Order::Change(who, change, reply) => {
                let changed = match change {
                    Change::Apply { sandbox, apply } => floor.apply(&who, &sandbox, apply).await,
                    Change::Rollback { sandbox, version } => {
                        floor.rollback(&who, &sandbox, version).await
                    }
                    Change::Unpin { sandbox } => floor.unpin(&who, &sandbox).await,
                    Change::Reload => return,
                };
                drop(reply.send(changed));
            }
            Order::Answer(queue, plan, reply) => {
                let answered = floor.answer(&queue, plan).await;
                // What was written here is no change of the operator's own. Every other file may
                // have changed meanwhile, and is still to be read.
                watched.wrote(&config.approved(queue.sandbox()));
                drop(reply.send(answered));
            }
            Order::Unanswer(queue, number, who, reply) => {
                let taken_out = floor.unanswer(&queue, number, &who).await;
                watched.wrote(&config.approved(queue.sandbox()));
                drop(reply.send(taken_out));
            }
        }
    }

    fn versions(&self) -> Changed {
        let shown = self.policies.shown.load();
        let versions = shown.iter().map(|(name, s)| (name.to_string(), s.version)).collect();
        Changed { versions, notes: Vec::new() }
    }

    /// Reads everything anew and swaps it, or keeps all as it is.
    async fn reload(
        &mut self,
        why: &str,
        reread: &impl Fn() -> anyhow::Result<Loaded>,
        watched: &mut Watched,
    ) -> Result<(), Problem> {
        tracing::info!(why, "reloading");
        let mut read = || {
            // What changes while it is read is read again: the files are noted first.
            watched.note();
            let loaded = reread()?;
            watched.watch(&loaded.files);
            let policies = self.policies.compiled(&loaded)?;
            let origins = Origins::new(&crate::tls::Settings {
                ca_files: loaded.config.upstream.ca_files.clone(),
                crl_files: loaded.config.upstream.crl_files.clone(),
            })?;
            Ok::<_, anyhow::Error>((loaded, policies, origins))
        };
        match read() {
            Err(error) => {
                self.policies.rejected(&self.loaded.config, &error);
                Err(Problem::conflict(format!("the last good policy stays in force: {error:#}")))
            }
            Ok((loaded, compiled, origins)) => {
                if needs_restart(&self.loaded, &loaded) {
                    tracing::warn!(
                        "listeners, limits, timeouts and the sources of credentials change with a restart"
                    );
                }
                let trust = &loaded.config.upstream;
                let old = &self.loaded.config.upstream;
                if trust.ca_files != old.ca_files || trust.crl_files != old.crl_files {
                    self.gate.origins.store(Arc::new(origins));
                    self.workers.forget_pooled();
                }
                let why = Why::itself("reload");
                self.operator.models.reload(&loaded.config);
                self.policies.swap(&loaded.config, &self.sandboxes, compiled, &why).await;
                self.loaded = loaded;
                Ok(())
            }
        }
    }

    /// Tells operators what happens, and serves them.
    fn serve_operator(&self) -> anyhow::Result<()> {
        let notify = self.loaded.config.sandboxes.iter();
        let notify = notify.map(|(name, s)| (name.clone(), s.approval.notify.clone())).collect();
        let tasks = self.gate.tasks.clone();
        tasks.spawn(operator::pump(self.operator.clone(), notify, tasks.clone()));
        tasks.spawn(operator::reserve(self.operator.clone(), tasks.clone()));
        let (accounts, ends) = (self.operator.accounts.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = accounts.keep() => {}
                () = ends.drained() => {}
            }
        });
        let listener = tokio::net::UnixListener::from_std(self.control.0.try_clone()?)?;
        let (backend, feed) = (self.operator.clone(), self.feed.clone());
        let ends = tasks.clone();
        tasks.spawn(async move {
            serve_control(listener, backend, feed, ends.drained()).await;
        });
        Ok(())
    }

    fn count(&self) {
        let gauges = &self.gate.gauges;
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        gauges.pooled.store(number(self.workers.pooled()), Ordering::Relaxed);
        gauges.tunnels.store(number(self.workers.tunnels()), Ordering::Relaxed);
        gauges.records.store(number(self.recorder.queued()), Ordering::Relaxed);
        let minted = i64::try_from(self.gate.intercept.leaves().minted()).unwrap_or(i64::MAX);
        gauges.leaves.store(minted, Ordering::Relaxed);
    }

    fn serve_metrics(&self, listener: std::net::TcpListener) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (registry, recorder) = (self.registry.clone(), self.recorder.clone());
        let tasks = self.gate.tasks.clone();
        let ends = tasks.clone();
        tasks.spawn(async move {
            let health = || match recorder.writing() {
                Writing::Failing => Health::NotRecording,
                _ => Health::Ok,
            };
            serve(listener, registry, health, ends.drained()).await;
        });
        Ok(())
    }

    async fn stop(self, mut signals: Signals) -> anyhow::Result<()> {
        tracing::info!(
            connections = self.gate.gauges.connections.load(Ordering::Relaxed),
            "stopping: waiting for what is under way"
        );
        // Closed before the drain: who comes now is refused by the system, at once.
        for listener in self.listeners {
            if let Bound::Unix(_, path) = &listener.socket {
                drop(std::fs::remove_file(path));
            }
        }
        // What ends meanwhile is kept too: who stops us may not wait as long as we do.
        let accounts = self.operator.accounts.clone();
        tokio::select! {
            () = self.workers.drain(self.loaded.config.timeout.drain, signals.stop()) => {}
            () = accounts.keep() => {}
        }
        if let Err(error) = self.operator.accounts.save().await {
            tracing::error!(%error, "what models cost since the last second is not kept");
        }
        if self.recorder.event(Event::GatewayStop).is_err() {
            tracing::error!("the stop could not be recorded");
        }
        self.writer.stop(LAST_RECORDS)?;
        drop(self.lock);
        tracing::info!("stopped");
        Ok(())
    }
}

fn needs_restart(old: &Loaded, new: &Loaded) -> bool {
    let (old, new) = (&old.config, &new.config);
    let sandboxes = |config: &crate::config::Config| -> Vec<_> {
        let each = |(name, s): (&Arc<str>, &crate::config::Sandbox)| {
            (name.clone(), s.limits, s.identity, s.approval.mode)
        };
        config.sandboxes.iter().map(each).collect()
    };
    old.listeners != new.listeners
        || old.state_dir != new.state_dir
        || old.timeout != new.timeout
        || old.metrics != new.metrics
        || old.buffer != new.buffer
        || old.traffic != new.traffic
        || old.credentials != new.credentials
        || old.upstream.hosts != new.upstream.hosts
        || old.upstream.proxy != new.upstream.proxy
        || old.upstream.allow_internal != new.upstream.allow_internal
        || sandboxes(old) != sandboxes(new)
}
