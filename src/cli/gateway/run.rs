//! The gateway while it runs: signals, changed files, metrics, and the way to stop.

use super::assemble::{parent_credential, trust};
use super::lock::StateLock;
use super::operator::{self, Operator};
use super::policies::{Floor, Order, Policies, Why};
use super::watch::{Look, Watched};
use crate::config::Loaded;
use crate::control::Change;
use crate::control::feed::Feed;
use crate::control::server::{Placed, serve as serve_control};
use crate::control::wire::{Changed, Problem};
use crate::metrics::{Health, Registry, serve};
use crate::proxy::{Gate, Listener, Sandbox, Workers};
use crate::record::Event;
use crate::tls::{Ca, Origins};
use crate::traffic::{Recorder, WriterThread, Writing};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How soon after something happened near the files they are looked at: however often that is.
const NEAR: Duration = Duration::from_millis(10);
/// How long the writer may take for its last batch.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// A gateway that serves.
pub(super) struct Running {
    pub(super) loaded: Loaded,
    pub(super) gate: Arc<Gate>,
    pub(super) workers: Workers,
    pub(super) sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    pub(super) listeners: Vec<Listener>,
    /// The files of listeners that have one.
    pub(super) placed: Vec<Placed>,
    pub(super) recorder: Recorder,
    pub(super) writer: WriterThread,
    pub(super) registry: Registry,
    pub(super) metrics: Option<std::net::TcpListener>,
    pub(super) ca: Ca,
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
    /// Something happened near the files.
    Near,
    /// The files are to be looked at.
    Look,
    Stop,
    Count,
    Ordered(Order),
}

/// The signals that the gateway heeds.
pub(super) struct Signals {
    /// There is a terminal that it was started at, whose end is to be its own.
    attached: bool,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Heeds them from now on. Needs a runtime.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            attached: has_terminal() && !ignores_hangup(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Woken {
        tokio::select! {
            _ = self.terminate.recv() => Woken::Stop,
            _ = self.interrupt.recv() => Woken::Stop,
            _ = self.hangup.recv() => match self.attached && !has_terminal() {
                true => Woken::Stop,
                false => Woken::Reload("SIGHUP"),
            },
        }
    }

    /// A second order to stop. A terminal that has gone may say so more than once.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Looks whether the terminal went without a word: whoever left the gateway running then wants it to
    /// run, and SIGHUP means a reload again.
    fn look(&mut self) {
        self.attached = self.attached && has_terminal();
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
        let mut look: Option<Instant> = None;
        loop {
            let woken = tokio::select! {
                woken = signals.next() => woken,
                () = sleep_until(look), if look.is_some() => Woken::Look,
                Some(()) = changes.recv(), if look.is_none() => Woken::Near,
                _ = every.tick() => Woken::Count,
                Some(order) = self.ordered.recv() => Woken::Ordered(order),
            };
            match woken {
                Woken::Stop => break,
                Woken::Near => look = Some(Instant::now() + NEAR),
                Woken::Look => look = self.look(&reread, &mut watched).await,
                Woken::Count => {
                    signals.look();
                    self.count();
                    // Not every change has an event.
                    if look.is_none() {
                        look = self.look(&reread, &mut watched).await;
                    }
                }
                Woken::Reload(why) => drop(self.reload(why, &reread, &mut watched).await),
                Woken::Ordered(order) => self.order(order, &reread, &mut watched).await,
            }
        }
        drop(watched);
        self.stop(signals).await
    }

    /// Reads the files where they changed and are still; gives when to look again.
    async fn look(
        &mut self,
        reread: &impl Fn() -> anyhow::Result<Loaded>,
        watched: &mut Watched,
    ) -> Option<Instant> {
        match watched.look(Instant::now()) {
            Look::Unchanged => None,
            Look::Again(at) => Some(at),
            Look::Read => {
                drop(self.reload("a file changed", reread, watched).await);
                None
            }
        }
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
            if loaded.config.state_dir != self.loaded.config.state_dir {
                anyhow::bail!("`state_dir` can't change while the gateway runs: restart it");
            }
            watched.watch(&loaded.files);
            let policies = self.policies.compiled(&loaded)?;
            let origins = Origins::new(&trust(&loaded.config))?;
            let parent = parent_credential(&loaded.config)?;
            Ok::<_, anyhow::Error>((loaded, policies, origins, parent))
        };
        match read() {
            Err(error) => {
                // A directory that is gone, or that another one took the place of, is watched as
                // soon as it can be.
                watched.follow();
                self.policies.rejected(&self.loaded.config, &error);
                Err(Problem::conflict(format!("the last good policy stays in force: {error:#}")))
            }
            Ok((loaded, compiled, origins, parent)) => {
                let later = waits_for_restart(&self.loaded, &loaded);
                if !later.is_empty() {
                    let changed = later.join(", ");
                    tracing::warn!(changed, "in force with a restart");
                }
                self.trust(origins);
                if let Some(proxy) = &loaded.config.upstream.proxy {
                    self.gate.upstream.set_parent_credential(&proxy.address, parent.as_ref());
                }
                let why = Why::itself("reload");
                self.operator.models.reload(&loaded.config);
                self.policies.swap(&loaded.config, &self.sandboxes, compiled, &why).await;
                self.loaded = loaded;
                Ok(())
            }
        }
    }

    /// From now on these are whom origins are verified by. What was opened under others is not used
    /// again, and clients find the operator's roots in the bundle.
    fn trust(&self, origins: Origins) {
        // Also where nothing changed: it may have failed the last time, and is left as it is otherwise.
        if let Err(error) = self.ca.write_bundle(&self.loaded.config.state_dir, origins.roots()) {
            tracing::warn!(%error, "the bundle for clients keeps the roots of before");
        }
        if origins.trusts_as(&self.gate.origins.load()) {
            return;
        }
        self.gate.origins.store(Arc::new(origins));
        self.workers.forget_pooled();
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
        gauges.leaves.store(number(self.gate.intercept.leaves().cached()), Ordering::Relaxed);
        let held = self.sandboxes.values().map(|sandbox| sandbox.queue().counts().held).sum();
        gauges.held.store(number(held), Ordering::Relaxed);
    }

    fn serve_metrics(&self, listener: std::net::TcpListener) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (registry, recorder) = (self.registry.clone(), self.recorder.clone());
        let tasks = self.gate.tasks.clone();
        let ends = tasks.clone();
        tasks.spawn(async move {
            let health = || match recorder.writing() {
                Writing::Failing | Writing::Stopped => Health::NotRecording,
                Writing::Fine => Health::Ok,
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
        drop(self.listeners);
        drop(self.placed);
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

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Whether there is a terminal that this process belongs to (tty(4): there is none, ENXIO).
fn has_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    !matches!(rustix::fs::open("/dev/tty", flags, Mode::empty()), Err(Errno::NXIO))
}

/// Whether whoever started it (`nohup`) wants it to outlive the terminal.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    set & 1 != 0
}

/// What changed in the config and is not in force before a restart, by its keys.
fn waits_for_restart(old: &Loaded, new: &Loaded) -> Vec<&'static str> {
    let (old, new) = (&old.config, &new.config);
    let (up, other) = (&old.upstream, &new.upstream);
    let proxy = |upstream: &crate::config::Upstream| {
        upstream.proxy.clone().map(|proxy| (proxy.address, proxy.no_proxy, proxy.resolve))
    };
    let timeout = |config: &crate::config::Config| {
        // The drain's is read when it begins.
        crate::config::Timeout { drain: Duration::ZERO, ..config.timeout }
    };
    [
        ("listen", old.listeners != new.listeners),
        ("timeout", timeout(old) != timeout(new)),
        ("metrics", old.metrics != new.metrics),
        ("buffer", (old.buffer.graphql, old.buffer.rpc) != (new.buffer.graphql, new.buffer.rpc)),
        ("traffic", old.traffic != new.traffic),
        ("credentials", old.credentials != new.credentials),
        ("upstream.hosts", up.hosts != other.hosts),
        ("upstream.proxy", proxy(up) != proxy(other)),
        ("upstream.allow_internal", up.allow_internal != other.allow_internal),
        ("upstream.nameservers", up.nameservers != other.nameservers),
        ("sandboxes", !old.sandboxes.keys().eq(new.sandboxes.keys())),
        ("limits", differ(old, new, |sandbox| &sandbox.limits)),
        ("identity", differ(old, new, |sandbox| &sandbox.identity)),
        ("approval", differ(old, new, |sandbox| &sandbox.approval)),
        ("agent_api", differ(old, new, |sandbox| &sandbox.agent_api)),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

/// Whether a sandbox of both has two values of this.
fn differ<T: PartialEq>(
    old: &crate::config::Config,
    new: &crate::config::Config,
    value: impl Fn(&crate::config::Sandbox) -> &T,
) -> bool {
    let both = old.sandboxes.iter().filter_map(|(name, was)| Some((was, new.sandboxes.get(name)?)));
    both.into_iter().any(|(was, is)| value(was) != value(is))
}
