//! Everything that is under way on one worker, and the one clock that watches it.
//!
//! Each connection, request and tunnel registers a [`Live`]. A tick every 250 ms ends what is
//! past its deadline (I6), judges again what began under an older policy (I7) and passes a drain
//! on. No request pays for a timer of its own.

use super::sandbox::Sandbox;
use crate::addr::{Authority, Path};
use crate::policy::{Ask, Body, Client, GraphqlOperation, Intent, RpcCall, Scheme, Verdict};
use futures_util::task::AtomicWaker;
use http::Method;
use http::uri::PathAndQuery;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How often the clock looks.
const TICK: Duration = Duration::from_millis(250);
const NO_DEADLINE: u64 = u64::MAX;

/// Why something live must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its deadline passed.
    Deadline,
    /// The policy changed, and the new one forbids it.
    Revoked,
    /// The gateway drains: end at the next good moment.
    Drain,
    /// The gateway stops: end at once.
    Stop,
}

/// What was asked, kept so that a later policy can judge it again.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) client: Client,
    pub(crate) scheme: Scheme,
    pub(crate) target: Authority,
    pub(crate) asked: Asked,
}

/// The owned form of [`Ask`].
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A raw tunnel that `judge_tunnel` let through.
    Tunnel,
    /// Raw bytes that `judge` let through.
    Bytes,
    /// A request.
    Request { method: Method, path: PathAndQuery, websocket: bool, facts: Option<Box<OwnedFacts>> },
}

/// The owned form of [`Body`], where it was read.
#[derive(Clone, Debug)]
pub(crate) enum OwnedFacts {
    Invalid(&'static str),
    Graphql(Vec<GraphqlOperation>),
    Rpc(Vec<RpcCall>),
}

impl OwnedFacts {
    pub(crate) fn body(&self) -> Body<'_> {
        match self {
            Self::Invalid(why) => Body::Invalid(why),
            Self::Graphql(operations) => Body::Graphql(operations),
            Self::Rpc(calls) => Body::Rpc(calls),
        }
    }
}

/// One live thing: a connection, a request, a tunnel.
#[derive(Debug)]
pub(crate) struct Live {
    start: Instant,
    end: AtomicU8,
    deadline: AtomicU64,
    waker: AtomicWaker,
    epoch: AtomicU64,
    watched: Option<(Arc<Sandbox>, Subject)>,
    /// Body bytes that went up.
    pub(crate) upload: AtomicU64,
    /// Whether the whole request body went up.
    pub(crate) sent_all: AtomicBool,
}

/// The live things of one worker.
#[derive(Debug)]
pub(crate) struct Wheel {
    start: Instant,
    slots: Mutex<Slots>,
    state: AtomicU8,
}

#[derive(Debug, Default)]
struct Slots {
    live: Vec<Option<Arc<Live>>>,
    free: Vec<usize>,
}

/// Keeps a [`Live`] on the wheel; dropping it takes it off.
#[derive(Debug)]
pub(crate) struct Watch {
    live: Arc<Live>,
    wheel: Arc<Wheel>,
    slot: usize,
}

impl Wheel {
    /// A wheel; [`Wheel::run`] turns it.
    pub(crate) fn new() -> Arc<Self> {
        let slots = Mutex::default();
        Arc::new(Self { start: Instant::now(), slots, state: AtomicU8::new(0) })
    }

    /// Puts a connection on the wheel: it has deadlines, but nothing to judge again.
    pub(crate) fn connection(self: &Arc<Self>) -> Watch {
        self.watch(None, 0)
    }

    /// Puts a request or tunnel on the wheel, judged under `epoch`.
    pub(crate) fn judged(
        self: &Arc<Self>,
        sandbox: Arc<Sandbox>,
        subject: Subject,
        epoch: u64,
    ) -> Watch {
        self.watch(Some((sandbox, subject)), epoch)
    }

    fn watch(self: &Arc<Self>, watched: Option<(Arc<Sandbox>, Subject)>, epoch: u64) -> Watch {
        let live = Arc::new(Live {
            start: self.start,
            end: AtomicU8::new(self.state.load(Ordering::Relaxed)),
            deadline: AtomicU64::new(NO_DEADLINE),
            waker: AtomicWaker::new(),
            epoch: AtomicU64::new(epoch),
            watched,
            upload: AtomicU64::new(0),
            sent_all: AtomicBool::new(false),
        });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = if let Some(slot) = slots.free.pop() {
            slots.live[slot] = Some(live.clone());
            slot
        } else {
            slots.live.push(Some(live.clone()));
            slots.live.len() - 1
        };
        drop(slots);
        Watch { live, wheel: self.clone(), slot }
    }

    /// Turns until the runtime ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            interval.tick().await;
            self.tick();
        }
    }

    /// Tells everything live to drain, or to stop, now and from now on.
    pub(crate) fn end_all(&self, end: End) {
        self.state.store(end as u8 + 1, Ordering::Relaxed);
        for live in self.all() {
            live.finish(end);
        }
    }

    fn all(&self) -> Vec<Arc<Live>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.live.iter().flatten().cloned().collect()
    }

    fn tick(&self) {
        let now = millis_since(self.start);
        // Judged outside the lock: a judgement may be slow where thousands are live.
        let mut stale = Vec::new();
        {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            for live in slots.live.iter().flatten() {
                if now >= live.deadline.load(Ordering::Relaxed) {
                    live.finish(End::Deadline);
                } else if live.is_stale() {
                    stale.push(live.clone());
                }
            }
        }
        for live in stale {
            live.judge_again();
        }
    }
}

impl Live {
    fn finish(&self, end: End) {
        let was = self.end.load(Ordering::Relaxed);
        if was == 0 || was == End::Drain as u8 + 1 {
            self.end.store(end as u8 + 1, Ordering::Release);
            self.waker.wake();
        }
    }

    /// The deadline that is `after` from now.
    fn at(&self, after: Duration) -> u64 {
        let after = u64::try_from(after.as_millis()).unwrap_or(NO_DEADLINE / 2);
        millis_since(self.start).saturating_add(after)
    }

    /// Moves the deadline to at least `after` from now.
    pub(crate) fn extend(&self, after: Duration) {
        self.deadline.fetch_max(self.at(after), Ordering::Relaxed);
    }

    fn is_stale(&self) -> bool {
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.watched.as_ref().is_some_and(|(sandbox, _)| sandbox.epoch() != epoch)
    }

    /// Judges it again under the policy in force.
    pub(crate) fn judge_again(&self) {
        let Some((sandbox, subject)) = &self.watched else { return };
        let policy = sandbox.policy();
        if subject.passes(&policy) {
            self.epoch.store(policy.epoch(), Ordering::Relaxed);
        } else {
            self.finish(End::Revoked);
        }
    }

    /// Judges it again if the policy has changed since, and says why it must be cut, if it must:
    /// asked right before the first byte goes up.
    pub(crate) fn recheck(&self) -> Option<End> {
        if self.is_stale() {
            self.judge_again();
        }
        self.ended().filter(|end| *end != End::Drain)
    }

    /// Why it must end, if it must.
    pub(crate) fn ended(&self) -> Option<End> {
        match self.end.load(Ordering::Acquire) {
            0 => None,
            1 => Some(End::Deadline),
            2 => Some(End::Revoked),
            3 => Some(End::Drain),
            _ => Some(End::Stop),
        }
    }

    /// Why it must end; otherwise the task is woken when it must.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<End> {
        self.waker.register(cx.waker());
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// As [`Live::poll_ended`], for what finishes its work in a drain.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<End> {
        match self.poll_ended(cx) {
            Poll::Ready(End::Drain) | Poll::Pending => Poll::Pending,
            ready => ready,
        }
    }

    /// Ends when it must be cut (a drain is not a cut).
    pub(crate) async fn cut(&self) -> End {
        std::future::poll_fn(|cx| self.poll_cut(cx)).await
    }
}

impl Watch {
    /// The live thing.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Moves the deadline to `after` from now.
    pub(crate) fn due(&self, after: Duration) {
        self.live.deadline.store(self.live.at(after), Ordering::Relaxed);
    }

    /// Takes the deadline away.
    pub(crate) fn never_due(&self) {
        self.live.deadline.store(NO_DEADLINE, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut slots = self.wheel.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.live[self.slot] = None;
        slots.free.push(self.slot);
    }
}

impl Subject {
    /// Whether `policy` lets it through.
    fn passes(&self, policy: &crate::policy::Policy) -> bool {
        use crate::policy::TunnelVerdict;
        let intent =
            |ask| Intent { client: &self.client, scheme: self.scheme, target: &self.target, ask };
        let verdict = match &self.asked {
            Asked::Tunnel => {
                let verdict = policy.judge_tunnel(&self.client, &self.target);
                return matches!(verdict, TunnelVerdict::Relay(_));
            }
            Asked::Bytes => policy.judge(&intent(Ask::Bytes)),
            Asked::Request { method, path, websocket, facts } => {
                let Ok(canonical) = Path::parse(path.path()) else { return false };
                policy.judge(&intent(Ask::Request {
                    method: method.as_str(),
                    path: &canonical,
                    query: path.query(),
                    websocket: *websocket,
                    body: facts.as_ref().map_or(Body::Unread, |f| f.body()),
                }))
            }
        };
        matches!(verdict, Verdict::Allow(_) | Verdict::Audit(_))
    }
}

/// Milliseconds since `start`, the wheel's own time.
fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(NO_DEADLINE - 1)
}
