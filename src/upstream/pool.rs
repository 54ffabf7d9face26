//! Connections kept for the next request: one pool a worker, keyed by sandbox, origin and profile.
//!
//! A pooled connection's address is checked against the guard again when it is taken.

mod dials;

pub use dials::{Dialling, Join, WAIT};

use super::dial::{Reached, Route};
use super::http::Sender;
use super::http2::{Channel, SendRequest};
use crate::addr::Authority;
use dials::Dials;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Idle HTTP/1 connections kept for one key.
const IDLE_PER_KEY: usize = 128;
/// Idle HTTP/1 connections kept in all.
const IDLE_IN_ALL: usize = 2048;
/// How many HTTP/2 connections of one key are opened because clients hold the others up.
const SPREAD: usize = 8;
/// How long a connection may idle.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// What a connection may be used for: by whom, to whom, in which way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The sandbox: connections are never shared between two.
    pub sandbox: Arc<str>,
    /// The origin.
    pub origin: Authority,
    /// TLS, and what was offered in it.
    pub profile: Profile,
}

/// How a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Plain HTTP/1.1.
    Plain,
    /// TLS with HTTP/1.1.
    Tls,
    /// TLS, HTTP/2 where the origin speaks it.
    TlsHttp2,
    /// HTTP/2 without TLS (prior knowledge).
    PlainHttp2,
}

/// A connection with the right to send one request on it.
#[derive(Debug)]
pub struct Connection<B> {
    /// The sending half.
    pub sender: Sender<B>,
    /// Where it ends.
    pub reached: Reached,
    /// How it runs.
    pub route: Route,
    /// It carried a request before.
    pub reused: bool,
    generation: Generation,
}

/// Under which settings a connection was opened; [`Pool::clear`] begins another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

/// What is known of a connection before it is shared.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Where it ends.
    pub reached: Reached,
    /// How it runs.
    pub route: Route,
    /// The pool's generation before it was dialled.
    pub generation: Generation,
}

/// The pool of one worker.
#[derive(Debug)]
pub struct Pool<B> {
    inner: Mutex<Inner<B>>,
    dials: Arc<Dials>,
}

#[derive(Debug)]
struct Inner<B> {
    idle: HashMap<Key, Vec<Idle<B>>>,
    shared: HashMap<Key, Vec<Shared>>,
    count: usize,
    generation: Generation,
    /// Nothing is kept any more.
    closed: bool,
}

#[derive(Debug)]
struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    channel: Channel,
    reached: Reached,
    route: Route,
    used: Instant,
}

impl<B> Connection<B> {
    /// A fresh HTTP/1 connection.
    pub fn http1(
        sender: hyper::client::conn::http1::SendRequest<B>,
        Opened { reached, route, generation }: Opened,
    ) -> Self {
        let sender = Sender::Http1(sender);
        Self { sender, reached, route, reused: false, generation }
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                idle: HashMap::new(),
                shared: HashMap::new(),
                count: 0,
                generation: Generation::default(),
                closed: false,
            }),
            dials: Arc::default(),
        }
    }
}

impl<B> Pool<B> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<B>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for `key` that is not known to be closed, and whose end `fits`. An HTTP/1 one may
    /// still have to become ready: it was given back when its last response ended, a turn of the
    /// runtime ago.
    pub fn take(&self, key: &Key, fits: impl Fn(Reached) -> bool) -> Option<Connection<B>> {
        let fits = &fits;
        let mut inner = self.lock();
        let generation = inner.generation;
        if let Some(shared) = inner.shared.get_mut(key) {
            shared.retain(|s| !s.channel.is_closed());
            if let Some((s, sender)) = roomy(shared, fits) {
                s.used = Instant::now();
                return Some(Connection {
                    sender: Sender::Http2(sender),
                    reached: s.reached,
                    route: s.route,
                    reused: true,
                    generation,
                });
            }
        }
        let mut found = None;
        let mut gone = 0;
        if let Some(idle) = inner.idle.get_mut(key) {
            while let Some(last) = idle.pop() {
                gone += 1;
                if fits(last.connection.reached) && !is_closed(&last.connection.sender) {
                    found = Some(last.connection);
                    break;
                }
            }
        }
        inner.count -= gone;
        found
    }

    /// What a request is to do that found no connection for `key`, where it may share one.
    pub fn join(&self, key: &Key) -> Join {
        self.dials.join(key)
    }

    /// The present generation: to be asked before a dial.
    pub fn generation(&self) -> Generation {
        self.lock().generation
    }

    /// Takes an HTTP/1 connection back after its response has ended.
    pub fn give_back(&self, key: Key, mut connection: Connection<B>) {
        if is_closed(&connection.sender) || matches!(connection.sender, Sender::Http2(_)) {
            return;
        }
        connection.reused = true;
        let mut inner = self.lock();
        let old = connection.generation != inner.generation;
        if old || inner.closed || inner.count >= IDLE_IN_ALL {
            return;
        }
        let idle = inner.idle.entry(key).or_default();
        if idle.len() >= IDLE_PER_KEY {
            return;
        }
        idle.push(Idle { connection, since: Instant::now() });
        inner.count += 1;
    }

    /// Shares a fresh HTTP/2 connection, on which `sender` has a place.
    pub fn share(
        &self,
        key: Key,
        sender: SendRequest,
        Opened { reached, route, generation }: Opened,
    ) -> Connection<B> {
        let channel = sender.channel().clone();
        let mut inner = self.lock();
        if !inner.closed && generation == inner.generation {
            let shared = Shared { channel, reached, route, used: Instant::now() };
            inner.shared.entry(key).or_default().push(shared);
        }
        drop(inner);
        Connection { sender: Sender::Http2(sender), reached, route, reused: false, generation }
    }

    /// Drops what has idled too long, and what the other side closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        let mut count = 0;
        inner.idle.retain(|_, idle| {
            idle.retain(|i| {
                now.saturating_duration_since(i.since) < IDLE_FOR
                    && !is_closed(&i.connection.sender)
            });
            count += idle.len();
            !idle.is_empty()
        });
        inner.count = count;
        inner.shared.retain(|_, shared| {
            shared.retain(|s| {
                let fresh = now.saturating_duration_since(s.used) < IDLE_FOR;
                !s.channel.is_closed() && (s.channel.is_busy() || fresh)
            });
            !shared.is_empty()
        });
    }

    /// Forgets every connection: those in use, and those that are being dialled, end with their
    /// request.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.generation.0 += 1;
        inner.idle.clear();
        inner.shared.clear();
        inner.count = 0;
    }

    /// Drops what idles for `sandbox`: another of its connections has need of the place.
    pub fn yield_idle(&self, sandbox: &str) {
        let mut inner = self.lock();
        let mut gone = 0;
        inner.idle.retain(|key, idle| {
            let other = *key.sandbox != *sandbox;
            gone += if other { 0 } else { idle.len() };
            other
        });
        inner.count -= gone;
        for (_, shared) in inner.shared.iter_mut().filter(|(key, _)| *key.sandbox == *sandbox) {
            shared.retain(|s| s.channel.is_busy());
        }
    }

    /// Forgets every connection and keeps none from now on: the gateway stops.
    pub fn close(&self) {
        self.lock().closed = true;
        self.clear();
    }

    /// How many connections idle or are shared.
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.count + inner.shared.values().map(Vec::len).sum::<usize>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A place on the one of `shared` that clients hold up least; `None` where one more connection is better
/// than any: they have no room, or are held up and few.
fn roomy(
    shared: &mut [Shared],
    fits: impl Fn(Reached) -> bool,
) -> Option<(&mut Shared, SendRequest)> {
    let few = shared.len() < SPREAD;
    let mut best: Option<(usize, usize, SendRequest)> = None;
    for (at, one) in shared.iter().enumerate().filter(|(_, one)| fits(one.reached)) {
        let held_up = one.channel.held_up();
        if best.as_ref().is_some_and(|(_, least, _)| *least <= held_up) || (few && held_up > 0) {
            continue;
        }
        if let Some(sender) = one.channel.place() {
            best = Some((at, held_up, sender));
            if held_up == 0 {
                break;
            }
        }
    }
    let (at, _, sender) = best?;
    Some((&mut shared[at], sender))
}

fn is_closed<B>(sender: &Sender<B>) -> bool {
    match sender {
        Sender::Http1(sender) => sender.is_closed(),
        Sender::Http2(sender) => sender.channel().is_closed(),
    }
}
