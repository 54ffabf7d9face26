//! Everything that is under way on one worker, and the one clock that watches it.
//!
//! Each connection, request and tunnel registers a [`Live`]. A tick every 250 ms ends what is
//! past its deadline (I6), judges again what began under an older policy (I7) and passes a drain
//! on. No request pays for a timer of its own.

use super::sandbox::Sandbox;
use super::subject::{Asked, Subject};
use crate::policy::{Code, Permit, Ticket};
use crate::record::Record;
use crate::upstream::{Reached, Upstream};
use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How often the clock looks.
const TICK: Duration = Duration::from_millis(250);
const NO_DEADLINE: u64 = u64::MAX;
/// What is open for this long stands in the journal from then on (I5).
const LONG: Duration = Duration::from_secs(10);
/// How often its line there is made anew.
const REDRAFT: Duration = Duration::from_secs(60);

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
    /// The whole request took too long.
    TooLong,
}

impl End {
    /// What the record of something says that was under way when this came.
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Deadline => Code::IdleTimeout,
            Self::Revoked => Code::PolicyChanged,
            Self::Drain => Code::ClientGone,
            Self::Stop => Code::Draining,
            Self::TooLong => Code::TotalTimeout,
        }
    }
}

/// One live thing: a connection, a request, a tunnel.
#[derive(Debug)]
pub(crate) struct Live {
    end: AtomicU8,
    deadline: AtomicU64,
    /// The deadline of the whole, which nothing moves.
    total: AtomicU64,
    /// When its line in the journal is due.
    draft: AtomicU64,
    /// Whether it was told so.
    draft_due: AtomicBool,
    /// The connection that carries it, to be cut where it does not hear that it must end.
    carrier: OnceLock<Weak<Live>>,
    waker: AtomicWaker,
    epoch: AtomicU64,
    watched: Option<Watched>,
    /// Body bytes that went up.
    pub(crate) upload: AtomicU64,
    /// Bytes that a tunnel brought down.
    pub(crate) download: AtomicU64,
    /// Whether the whole request body went up.
    pub(crate) sent_all: AtomicBool,
}

/// What something was judged by, and is judged by again.
#[derive(Debug)]
struct Watched {
    sandbox: Arc<Sandbox>,
    subject: Subject,
    upstream: Arc<Upstream>,
    /// Where its connection ends, once it has one.
    reached: Mutex<Option<Reached>>,
}

/// The live things of one worker.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Mutex<Slots>,
    upstream: Arc<Upstream>,
    /// Written under the lock of the slots: nothing is put on the wheel past an end of all.
    state: AtomicU8,
    /// Raw tunnels and WebSockets when it last looked.
    tunnels: AtomicUsize,
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
    pub(crate) fn new(upstream: Arc<Upstream>) -> Arc<Self> {
        let slots = Mutex::default();
        let (state, tunnels) = (AtomicU8::new(0), AtomicUsize::new(0));
        Arc::new(Self { slots, upstream, state, tunnels })
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
        let (upstream, reached) = (self.upstream.clone(), Mutex::default());
        self.watch(Some(Watched { sandbox, subject, upstream, reached }), epoch)
    }

    fn watch(self: &Arc<Self>, watched: Option<Watched>, epoch: u64) -> Watch {
        // The clock may be a tick behind.
        let draft =
            watched.as_ref().map_or(NO_DEADLINE, |_| now().saturating_add(millis(TICK + LONG)));
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let live = Arc::new(Live {
            end: AtomicU8::new(self.state.load(Ordering::Relaxed)),
            deadline: AtomicU64::new(NO_DEADLINE),
            total: AtomicU64::new(NO_DEADLINE),
            draft: AtomicU64::new(draft),
            draft_due: AtomicBool::new(false),
            carrier: OnceLock::new(),
            waker: AtomicWaker::new(),
            epoch: AtomicU64::new(epoch),
            watched,
            upload: AtomicU64::new(0),
            download: AtomicU64::new(0),
            sent_all: AtomicBool::new(false),
        });
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
        let all: Vec<Arc<Live>> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            self.state.store(end as u8 + 1, Ordering::Relaxed);
            slots.live.iter().flatten().cloned().collect()
        };
        // A connection takes what it carries along: that must know by then why it ends.
        let (carried, carriers): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|live| live.watched.is_some());
        for live in carried.into_iter().chain(carriers) {
            live.finish(end);
        }
    }

    /// Raw tunnels and WebSockets, as of its last turn.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    fn tick(&self) {
        let now = turn();
        // Judged outside the lock: a judgement may be slow where thousands are live.
        let mut stale = Vec::new();
        let mut tunnels = 0;
        {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            for live in slots.live.iter().flatten() {
                tunnels += usize::from(live.is_tunnel());
                if live.must_end().is_some() {
                    live.cut_carrier();
                } else if let Some(end) = live.overdue(now) {
                    live.finish(end);
                } else if live.is_stale() {
                    stale.push(live.clone());
                }
                if now >= live.draft.load(Ordering::Relaxed) {
                    live.ask_for_draft(now);
                }
            }
        }
        self.tunnels.store(tunnels, Ordering::Relaxed);
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

    fn overdue(&self, now: u64) -> Option<End> {
        if now >= self.deadline.load(Ordering::Relaxed) {
            Some(End::Deadline)
        } else if now >= self.total.load(Ordering::Relaxed) {
            Some(End::TooLong)
        } else {
            None
        }
    }

    /// It was told to end a turn ago and is still here: a client that reads nothing keeps its
    /// response from being polled. Its connection is.
    fn cut_carrier(&self) {
        if let Some(carrier) = self.carrier.get().and_then(Weak::upgrade) {
            carrier.finish(End::Stop);
        }
    }

    fn ask_for_draft(&self, now: u64) {
        self.draft.store(now.saturating_add(millis(REDRAFT)), Ordering::Relaxed);
        self.draft_due.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Whether its line in the journal is to be made, now. Says so once.
    pub(crate) fn draft_due(&self) -> bool {
        self.draft_due.load(Ordering::Relaxed) && self.draft_due.swap(false, Ordering::Relaxed)
    }

    /// The deadline that is `after` from now.
    fn at(&self, after: Duration) -> u64 {
        // The clock may be a tick behind: nothing ends before its time.
        now().saturating_add(millis(TICK)).saturating_add(millis(after))
    }

    /// Moves the deadline to at least `after` from now.
    pub(crate) fn extend(&self, after: Duration) {
        self.deadline.fetch_max(self.at(after), Ordering::Relaxed);
    }

    fn is_stale(&self) -> bool {
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.watched.as_ref().is_some_and(|watched| watched.sandbox.epoch() != epoch)
    }

    /// Notes where its connection ends: what opened that address must open it as long as it lives.
    pub(crate) fn connected(&self, reached: Reached) {
        if let Some(watched) = &self.watched {
            *watched.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
        }
    }

    /// Judges it again under the policy in force, and the address that it has reached. Before it
    /// has one it stays stale, so that it is judged again when it has.
    fn judge_again(&self) {
        let Some(watched) = &self.watched else { return };
        let rules = arc_swap::Guard::into_inner(watched.sandbox.rules());
        let reached = *watched.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = |permit: &Permit| {
            reached.is_none_or(|reached| watched.upstream.recheck(permit, reached).is_ok())
        };
        if !watched.subject.passes(&watched.sandbox, &rules, opened) {
            self.finish(End::Revoked);
        } else if reached.is_some() {
            self.epoch.store(rules.epoch, Ordering::Relaxed);
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

    /// The operator's answer for it alone, where that let it through.
    pub(crate) fn ticket(&self) -> Option<Arc<Ticket>> {
        self.watched.as_ref()?.subject.answered.as_ref()?.ticket.clone()
    }

    /// Adds the bytes that it counted.
    pub(crate) fn count(&self, record: &mut Record) {
        record.upload += self.upload.load(Ordering::Relaxed);
        record.download += self.download.load(Ordering::Relaxed);
    }

    /// Counts bytes of a tunnel against its sandbox's day, before they go up.
    pub(crate) fn take_upload(&self, bytes: u64) -> Result<(), Code> {
        self.watched.as_ref().map_or(Ok(()), |watched| watched.sandbox.take_upload(bytes))
    }

    fn is_tunnel(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| match watched.subject.asked {
            Asked::Tunnel | Asked::Bytes => true,
            Asked::Route(_) => false,
            Asked::Request { websocket, .. } => websocket,
        })
    }

    /// Why it must end, if it must.
    pub(crate) fn ended(&self) -> Option<End> {
        match self.end.load(Ordering::Acquire) {
            0 => None,
            1 => Some(End::Deadline),
            2 => Some(End::Revoked),
            3 => Some(End::Drain),
            5 => Some(End::TooLong),
            _ => Some(End::Stop),
        }
    }

    /// Why it must be cut, if it must (a drain is not a cut).
    pub(crate) fn must_end(&self) -> Option<End> {
        self.ended().filter(|end| *end != End::Drain)
    }

    /// Why it must end; otherwise the task is woken when it must.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<End> {
        self.waker.register(cx.waker());
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// Wakes the task that waits for its end, to look around.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// As [`Live::poll_ended`], for what finishes its work in a drain.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<End> {
        match self.poll_ended(cx) {
            Poll::Ready(End::Drain) | Poll::Pending => Poll::Pending,
            ready => ready,
        }
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

    /// Ends it for good `after` it `started`, however busy it is; `None` takes that back.
    pub(crate) fn in_all(&self, started: Instant, after: Option<Duration>) {
        let at = after.map_or(NO_DEADLINE, |after| {
            let began = started.saturating_duration_since(*BEGAN.get_or_init(Instant::now));
            // It began within a millisecond: nothing ends before its time.
            millis(began).saturating_add(1).saturating_add(millis(after))
        });
        self.live.total.store(at, Ordering::Relaxed);
    }

    /// Asks to be told, by [`Live::draft_due`], when `after` has passed; `None` takes that back.
    pub(crate) fn remind(&self, after: Option<Duration>) {
        let at = after.map_or(NO_DEADLINE, |after| self.live.at(after));
        self.live.draft.store(at, Ordering::Relaxed);
        self.live.draft_due.store(false, Ordering::Relaxed);
    }

    /// Names the connection that carries it.
    pub(crate) fn carried_by(&self, connection: &Watch) {
        drop(self.live.carrier.set(Arc::downgrade(&connection.live)));
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

/// When the first wheel turned, and the milliseconds from then to the last turn of any wheel: the
/// hot path reads this number rather than the system's clock.
static BEGAN: OnceLock<Instant> = OnceLock::new();
static NOW: AtomicU64 = AtomicU64::new(0);

/// The wheels' own time in milliseconds, at most one tick behind.
fn now() -> u64 {
    NOW.load(Ordering::Relaxed)
}

/// Reads the system's clock for all who ask [`now`].
fn turn() -> u64 {
    let now = millis(BEGAN.get_or_init(Instant::now).elapsed());
    NOW.fetch_max(now, Ordering::Relaxed);
    now
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(NO_DEADLINE / 2)
}
