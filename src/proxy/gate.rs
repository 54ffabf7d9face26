//! What all connections share, what a worker's connections share, and what one connection is.

use super::body::UpBody;
use super::interim::Interim;
use super::known::Known;
use super::live::{Watch, Wheel};
use super::sandbox::{Place, Sandbox};
use super::target::Via;
use crate::addr::Authority;
use crate::identity::{Peers, Socket};
use crate::metrics::Gauges;
use crate::policy::Code;
use crate::tasks::Tasks;
use crate::tls::{Intercept, Origins};
use crate::upstream::Upstream;
use crate::upstream::http::Version;
use crate::upstream::pool::Pool;
use crate::vault::Vault;
use arc_swap::ArcSwap;
use hashbrown::HashMap;
use http::{HeaderName, HeaderValue};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long a kept HTTP/1 connection is idle before it gives its buffers back.
const REST: Duration = Duration::from_secs(1);
/// How many origins' ALPN answers are remembered.
const ALPN_CACHE: usize = 4096;

/// Deadlines of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A request's head, and the first bytes of a connection.
    pub header: Duration,
    /// Resolving, connecting and the TLS handshake with an origin.
    pub connect: Duration,
    /// From the end of the request to the first byte of its response.
    pub first_byte: Duration,
    /// A stream or tunnel without a byte in either direction, a kept connection without a request.
    pub idle: Duration,
    /// How long a stop waits for what is under way.
    pub drain: Duration,
    /// A whole request, from its head to its response's last byte; `None`: as long as it takes.
    pub total: Option<Duration>,
}

/// What the gate is made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Connections of clients in all, over all sandboxes and listeners; as many to origins.
    pub connections: usize,
    /// Gives freed memory of the calling thread back to the system. Called on a worker at most
    /// once a second, after connections there have come to rest.
    pub give_back: fn(),
}

/// Everything that connections share.
pub struct Gate {
    /// Deadlines and bounds.
    pub settings: Settings,
    /// Resolve, guard, dial.
    pub upstream: Arc<Upstream>,
    /// Whom upstream TLS trusts.
    pub origins: ArcSwap<Origins>,
    /// TLS towards clients.
    pub intercept: Arc<Intercept>,
    /// Who stands at the other end of a socket.
    pub peers: Arc<Peers>,
    /// Counts of the moment.
    pub gauges: Arc<Gauges>,
    /// Every task.
    pub tasks: Tasks,
    /// Where secret values come from.
    pub vault: Arc<Vault>,
    /// The value by which a request that comes back through a parent proxy is known.
    pub loop_token: http::HeaderValue,
    /// Places of connections to origins: as many as of clients'.
    pub(crate) places: Arc<tokio::sync::Semaphore>,
    /// Every worker's pool.
    pub(crate) pools: Mutex<Vec<Arc<Pool<UpBody>>>>,
    spoken: Mutex<HashMap<Authority, Spoken>>,
    /// Whether there is an origin that requires HTTP/1.1: most gateways know none.
    some_require: AtomicBool,
}

/// One runtime: its clock, its pool.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) pool: Arc<Pool<UpBody>>,
    /// A connection has come to rest since memory was last given back.
    pub(crate) rested: AtomicBool,
}

/// What a client connection holds until all that came of it has ended: a WebSocket outlives the
/// HTTP that it began as.
pub(crate) struct Held {
    gate: Arc<Gate>,
    /// The client's end, where it is on this host.
    socket: Option<Socket>,
    #[expect(dead_code, reason = "held for its drop")]
    place: Place,
    #[expect(dead_code, reason = "held for its drop")]
    slot: OwnedSemaphorePermit,
}

/// One client connection, and later what is inside it.
pub(crate) struct Connection {
    pub(crate) gate: Arc<Gate>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) known: Known,
    pub(crate) via: Via,
    /// Every request is refused with this: the connection is over a limit.
    pub(crate) refuses: Option<Code>,
    /// What the connection itself waits for.
    pub(crate) watch: Watch,
    pub(crate) phase: Phase,
    pub(crate) held: Arc<Held>,
}

/// Where a connection stands, for its deadline.
#[derive(Debug)]
pub(crate) struct Phase {
    /// Requests under way.
    serving: AtomicUsize,
    /// Of these, those whose bodies outlive their answers.
    outlived: AtomicUsize,
    /// Requests ever.
    served: AtomicUsize,
    /// A head was begun and not finished.
    head: AtomicBool,
    /// All that was written has left.
    flushed: AtomicBool,
    /// The last request had a body, of which some may still come after its answer.
    bodied: AtomicBool,
    /// There is a record of the connection itself.
    told: AtomicBool,
    /// Clients of it that are held: nobody reads from the socket meanwhile.
    held: AtomicUsize,
    /// The client was seen to have left.
    left: AtomicBool,
    /// What is said before the answer.
    pub(crate) interim: Interim,
}

/// A client is held, and its socket looked at meanwhile; dropped when it is not any more.
pub(crate) struct LookedAfter<'a>(&'a Phase);

/// A request under way; dropped when its response has left.
pub(crate) struct Serving {
    connection: Arc<Connection>,
    /// Its body outlives its answer.
    outlived: bool,
}

impl Serving {
    /// A request whose body outlives its answer.
    pub(crate) fn outlived(connection: &Arc<Connection>) -> Self {
        connection.phase.serving.fetch_add(1, Ordering::Relaxed);
        connection.phase.outlived.fetch_add(1, Ordering::Relaxed);
        connection.watch.never_due();
        Self { connection: connection.clone(), outlived: true }
    }

    /// How long it may wait for its client.
    pub(crate) fn idle(&self) -> Duration {
        self.connection.gate.settings.timeouts.idle
    }
}

impl Gate {
    /// A gate; listeners bring it connections.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { settings, upstream, origins, intercept, peers, gauges, tasks, vault, mark } =
            parts;
        Arc::new(Self {
            settings,
            upstream,
            origins: ArcSwap::new(origins),
            intercept,
            peers,
            gauges,
            tasks,
            vault,
            loop_token: mark.1,
            places: Arc::new(tokio::sync::Semaphore::new(settings.connections)),
            pools: Mutex::default(),
            spoken: Mutex::default(),
            some_require: AtomicBool::new(false),
        })
    }

    /// Counts something that was refused because it could not be recorded.
    pub(crate) fn unrecorded(&self) {
        self.gauges.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    fn spoken(&self) -> MutexGuard<'_, HashMap<Authority, Spoken>> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an origin was seen to speak when both were offered.
    pub(crate) fn speaks(&self, origin: &Authority) -> Option<Version> {
        self.spoken().get(origin).map(|spoken| spoken.version)
    }

    /// Remembers what an origin chose when both were offered.
    pub(crate) fn learn(&self, origin: &Authority, version: Version) {
        let mut spoken = self.spoken();
        if spoken.get(origin).is_none_or(|known| !known.required && known.version != version) {
            remember(&mut spoken, origin, Spoken { version, required: false });
        }
    }

    /// Remembers that an origin which offers HTTP/2 takes HTTP/1.1 alone (RFC 9113 §7, HTTP_1_1_REQUIRED).
    pub(crate) fn require_http1(&self, origin: &Authority) {
        let spoken = Spoken { version: Version::Http1, required: true };
        remember(&mut self.spoken(), origin, spoken);
        self.some_require.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(crate) fn requires_http1(&self, origin: &Authority) -> bool {
        self.some_require.load(Ordering::Relaxed)
            && self.spoken().get(origin).is_some_and(|spoken| spoken.required)
    }
}

fn remember(known: &mut HashMap<Authority, Spoken>, origin: &Authority, spoken: Spoken) {
    if known.len() >= ALPN_CACHE
        && !known.contains_key(origin)
        && let Some(any) = known.keys().next().cloned()
    {
        known.remove(&any);
    }
    known.insert(origin.clone(), spoken);
}

/// What is known of the versions that an origin speaks.
#[derive(Clone, Copy)]
struct Spoken {
    version: Version,
    /// It is HTTP/1.1 whatever the origin offers.
    required: bool,
}

/// What a [`Gate`] is made of.
pub struct Parts {
    /// Deadlines and bounds.
    pub settings: Settings,
    /// Resolve, guard, dial.
    pub upstream: Arc<Upstream>,
    /// Whom upstream TLS trusts.
    pub origins: Arc<Origins>,
    /// TLS towards clients.
    pub intercept: Arc<Intercept>,
    /// Who stands at the other end of a socket.
    pub peers: Arc<Peers>,
    /// Counts of the moment.
    pub gauges: Arc<Gauges>,
    /// Every task.
    pub tasks: Tasks,
    /// Where secret values come from.
    pub vault: Arc<Vault>,
    /// By which a request that comes back through a parent proxy is known: see [`loop_mark`].
    pub mark: (HeaderName, HeaderValue),
}

/// A mark that no other gateway has.
pub fn loop_mark() -> (HeaderName, HeaderValue) {
    let token = format!("{:032x}", crate::record::Id::new(std::time::SystemTime::now()).0);
    (super::headers::LOOP, HeaderValue::try_from(token).expect("hex digits are a field value"))
}

impl Worker {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Arc<Self> {
        let wheel = Wheel::new(upstream);
        Arc::new(Self { wheel, pool: Arc::default(), rested: AtomicBool::new(false) })
    }
}

impl Held {
    pub(crate) fn new(
        gate: Arc<Gate>,
        socket: Option<Socket>,
        (place, slot): (Place, OwnedSemaphorePermit),
    ) -> Arc<Self> {
        gate.gauges.connections.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { gate, socket, place, slot })
    }
}

impl Held {
    /// The client's end, where it is on this host.
    pub(super) fn socket(&self) -> Option<Socket> {
        self.socket
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.gauges.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(socket) = self.socket {
            self.gate.peers.left(socket);
        }
    }
}

impl Connection {
    /// The connection inside a tunnel: same client, another way of naming targets.
    pub(crate) fn inside(&self, via: Via) -> Arc<Self> {
        Arc::new(Self {
            gate: self.gate.clone(),
            worker: self.worker.clone(),
            sandbox: self.sandbox.clone(),
            known: self.known.clone(),
            via,
            refuses: self.refuses,
            watch: self.worker.wheel.connection(),
            phase: Phase::default(),
            held: self.held.clone(),
        })
    }

    /// Whether a request is under way.
    pub(crate) fn is_serving(&self) -> bool {
        self.phase.serving.load(Ordering::Relaxed) > 0
    }

    /// A head is due: the first of a connection, or one that was begun.
    pub(crate) fn head_due(&self) {
        self.phase.head.store(true, Ordering::Relaxed);
        self.watch.due(self.gate.settings.timeouts.header);
    }

    /// Bytes came from an HTTP/1 client. Between two requests they begin a head.
    pub(crate) fn read_some(&self) {
        let between = self.phase.serving.load(Ordering::Relaxed) == 0;
        if between && !self.phase.head.load(Ordering::Relaxed) {
            self.head_due();
        }
    }

    /// A request is under way, with a body or not: it has deadlines of its own.
    pub(crate) fn serving(self: &Arc<Self>, bodied: bool) -> Serving {
        self.phase.bodied.store(bodied, Ordering::Relaxed);
        self.phase.serving.fetch_add(1, Ordering::Relaxed);
        self.phase.served.fetch_add(1, Ordering::Relaxed);
        self.phase.head.store(false, Ordering::Relaxed);
        self.watch.never_due();
        self.watch.remind(None);
        Serving { connection: self.clone(), outlived: false }
    }

    /// Notes whether all that was written has left.
    pub(crate) fn flushed(&self, flushed: bool) {
        self.phase.flushed.store(flushed, Ordering::Relaxed);
    }

    /// Whether the last request had a body.
    pub(crate) fn had_body(&self) -> bool {
        self.phase.bodied.load(Ordering::Relaxed)
    }

    /// Whether all that was written has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.phase.flushed.load(Ordering::Relaxed)
    }

    /// Whether a body outlives its answer.
    pub(crate) fn is_outlived(&self) -> bool {
        self.phase.outlived.load(Ordering::Relaxed) > 0
    }

    /// Whether an HTTP/1 connection has been idle for a while, with nothing begun or left to
    /// write, or to read: what still comes of a body must never be taken for a request. Says so
    /// once.
    pub(crate) fn rests(&self) -> bool {
        self.watch.live().draft_due()
            && self.phase.serving.load(Ordering::Relaxed) == 0
            && !self.phase.head.load(Ordering::Relaxed)
            && self.phase.flushed.load(Ordering::Relaxed)
            && !self.phase.bodied.load(Ordering::Relaxed)
    }

    /// Whether a head was begun and not finished.
    pub(crate) fn in_head(&self) -> bool {
        self.phase.head.load(Ordering::Relaxed)
    }

    /// There is a record of the connection itself.
    pub(crate) fn tell(&self) {
        self.phase.told.store(true, Ordering::Relaxed);
    }

    /// Whether a record tells of it: a request's, or its own.
    pub(crate) fn told(&self) -> bool {
        self.served() || self.phase.told.load(Ordering::Relaxed)
    }

    /// Whether any request came.
    fn served(&self) -> bool {
        self.phase.served.load(Ordering::Relaxed) > 0
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            serving: AtomicUsize::new(0),
            outlived: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            head: AtomicBool::new(false),
            // Nothing was written yet.
            flushed: AtomicBool::new(true),
            bodied: AtomicBool::new(false),
            told: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            left: AtomicBool::new(false),
            interim: Interim::default(),
        }
    }
}

impl Phase {
    /// From now on the client's socket is looked at whenever its connection is polled.
    pub(crate) fn look_after(&self) -> LookedAfter<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        LookedAfter(self)
    }

    /// Whether the socket is to be looked at.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// The client was seen to have left.
    pub(crate) fn leaves(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether the client was seen to have left.
    pub(crate) fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl Drop for LookedAfter<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let Connection { phase, watch, gate, .. } = &*self.connection;
        if phase.serving.fetch_sub(1, Ordering::Relaxed) == 1 {
            watch.due(gate.settings.timeouts.idle);
            watch.remind(Some(REST));
        }
        if self.outlived {
            phase.outlived.fetch_sub(1, Ordering::Relaxed);
            // A drain may wait for it.
            watch.live().wake();
        }
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}
