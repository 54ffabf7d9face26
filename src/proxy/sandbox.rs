//! A sandbox as the gateway sees it: its policy, its records, its limits.
//!
//! One sandbox can't starve another: every bound here is per sandbox.

use super::inference::Calls;
use super::inject::Injector;
use super::refuse::Refusal;
use super::ruling::Ruling;
use crate::addr::Name;
use crate::approval::Queue;
use crate::inference::Routes;
use crate::policy::{BodyLimits, Code, Policy, Rules};
use crate::traffic::SandboxRecorder;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Distinct names a minute under wildcard hosts: each label the agent chooses is a DNS channel.
const WILDCARD_NAMES_A_MINUTE: usize = 512;
/// HTTP/2 connections with wide windows, of clients and of origins each: 128 MiB at the worst, and
/// what small frames take beside their bytes.
const WIDE: usize = 8;

/// What is done about a request that no rule knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Refused where it is known earliest: at the CONNECT.
    Deny,
    /// Intercepted first, so that the refusal (and later the question) names method and path.
    Inspect,
}

/// Whether entries with `binaries` need the process to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An entry with `binaries` does not match where the process can't be seen.
    Required,
    /// The binary part is dropped.
    Ignore,
}

/// Limits of one sandbox; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: Option<usize>,
    /// Bytes of one request body.
    pub request_body: Option<u64>,
    /// Requests a second, with a burst of one second's worth.
    pub requests_per_second: Option<u32>,
    /// Body bytes that go up in a UTC day.
    pub upload_per_day: Option<u64>,
}

/// What a sandbox is made with.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Its name.
    pub name: Arc<str>,
    /// What is done about the unknown.
    pub unknown: Unknown,
    /// Whether the process must be seen.
    pub identity: Identity,
    /// Its limits.
    pub limits: Limits,
    /// How much of a body is read to judge.
    pub bodies: BodyLimits,
    /// Whether it may ask about itself at `http://policy.local`.
    pub agent_api: bool,
}

/// A sandbox, for as long as the gateway runs.
pub struct Sandbox {
    settings: SandboxSettings,
    ruling: Arc<Ruling>,
    queue: Arc<Queue>,
    recorder: SandboxRecorder,
    connections: AtomicUsize,
    origins: AtomicUsize,
    /// HTTP/2 connections with wide windows, at the place of their [`End`].
    wide: [AtomicUsize; 2],
    rate: Mutex<Bucket>,
    upload: Mutex<Day>,
    names: Mutex<Names>,
    /// The policy as its agent may see it.
    agent_view: ArcSwap<serde_json::Value>,
    calls: Calls,
    injector: ArcSwapOption<Injector>,
    /// Bytes of bodies that are kept to go up again.
    kept: Arc<AtomicUsize>,
}

/// A connection's place in the sandbox's count; dropping it gives the place back.
pub(crate) struct Place(Arc<Sandbox>);

/// A place among the connections to origins; dropping it gives it back.
pub(crate) struct Reach {
    sandbox: Arc<Sandbox>,
    place: OwnedSemaphorePermit,
}

/// An HTTP/2 connection that has wide windows.
#[derive(Debug)]
pub(crate) struct Wide(Arc<Sandbox>, End);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Origin,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

#[derive(Debug, Default)]
struct Day {
    number: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Names {
    since: Instant,
    seen: HashSet<Name>,
}

impl Sandbox {
    /// A sandbox under `ruling`, whose unknown requests are asked about in `queue`.
    pub fn new(
        settings: SandboxSettings,
        (ruling, queue): (Arc<Ruling>, Arc<Queue>),
        recorder: SandboxRecorder,
    ) -> Arc<Self> {
        let tokens = settings.limits.requests_per_second.map_or(0.0, f64::from);
        Arc::new(Self {
            ruling,
            queue,
            recorder,
            connections: AtomicUsize::new(0),
            origins: AtomicUsize::new(0),
            wide: Default::default(),
            rate: Mutex::new(Bucket { tokens, at: Instant::now() }),
            upload: Mutex::default(),
            names: Mutex::new(Names { since: Instant::now(), seen: HashSet::new() }),
            agent_view: ArcSwap::from_pointee(serde_json::Value::Null),
            calls: Calls::default(),
            injector: ArcSwapOption::empty(),
            kept: Arc::default(),
            settings,
        })
    }

    /// Counts the bytes of bodies that are kept to go up again.
    pub(crate) fn kept(&self) -> Arc<AtomicUsize> {
        self.kept.clone()
    }

    /// Gives it the bindings of its credentials, in place of those before; `None`: it has none.
    /// What is under way keeps what it began with.
    pub fn attach(&self, injector: Option<Arc<Injector>>) {
        self.injector.store(injector);
    }

    /// The bindings of its credentials; `None` where it has none.
    pub fn injector(&self) -> Option<Arc<Injector>> {
        arc_swap::Guard::into_inner(self.injector.load())
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// The rules in force.
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.ruling.load()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.ruling.load().policy.clone()
    }

    /// The epoch of the rules in force.
    pub fn epoch(&self) -> u64 {
        self.ruling.epoch()
    }

    /// The policy as its agent may see it.
    pub(crate) fn agent_view(&self) -> Arc<serde_json::Value> {
        self.agent_view.load_full()
    }

    /// What its agent may see of the policy from now on.
    pub fn show_agent(&self, policy: serde_json::Value) {
        self.agent_view.store(Arc::new(policy));
    }

    /// Where unknown requests are asked about.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Puts another policy in force. What is live under the old one is judged again (I7), and so
    /// is what waits.
    pub fn swap(&self, policy: Arc<Policy>) {
        self.queue.open();
        self.ruling.set_policy(policy);
        self.queue.rules_changed(&self.ruling.load(), std::time::SystemTime::now());
    }

    /// Lets nothing through and asks about nothing until another policy is put in force; what this
    /// one denies is told as that. What was granted stands beside it again afterwards.
    pub fn close(&self, policy: Arc<Policy>) {
        let now = std::time::SystemTime::now();
        self.queue.close(now);
        self.ruling.close(policy);
        self.queue.rules_changed(&self.ruling.load(), now);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Puts other routes behind its `inference.local`; `None`: there are none. Calls under way on
    /// a route that is gone end (I7).
    pub fn set_inference(&self, routes: Option<Arc<Routes>>) {
        if self.calls.set(routes) {
            self.ruling.renew();
        }
    }

    /// The same sandbox with other routes, and accounts of their own: rules, records and name are
    /// shared. For trying routes before they are in force.
    pub(crate) fn beside(&self, routes: Arc<Routes>) -> Arc<Self> {
        let (ruling, queue) = (self.ruling.clone(), self.queue.clone());
        let beside = Self::new(self.settings.clone(), (ruling, queue), self.recorder.clone());
        beside.calls.set(Some(routes));
        beside
    }

    /// Its model calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn recorder(&self) -> &SandboxRecorder {
        &self.recorder
    }

    pub(crate) fn settings(&self) -> &SandboxSettings {
        &self.settings
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes a place for a connection. `Err` where the limit is reached: the place is counted all
    /// the same, and the connection is told why it is refused.
    pub(crate) fn enter(self: &Arc<Self>) -> (Place, bool) {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let over = self.settings.limits.connections.is_some_and(|limit| before >= limit);
        (Place(self.clone()), over)
    }

    /// Takes one of the `places` of connections to origins, if there is one for this sandbox: it
    /// has at most as many as are free in all, as at the listeners.
    pub(crate) fn reach(self: &Arc<Self>, places: &Arc<Semaphore>) -> Option<Reach> {
        let place = places.clone().try_acquire_owned().ok()?;
        let before = self.origins.fetch_add(1, Ordering::Relaxed);
        let reach = Reach { sandbox: self.clone(), place };
        (before <= places.available_permits()).then_some(reach)
    }

    /// The right to an HTTP/2 connection with wide windows, which cost memory where the other end's
    /// bytes are not taken: the first few have it.
    pub(crate) fn wide(self: &Arc<Self>, end: End) -> Option<Wide> {
        let more = |wide| (wide < WIDE).then_some(wide + 1);
        let taken =
            self.wide[end as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Wide(self.clone(), end))
    }

    /// Counts a request, or what is recorded as one, against the rate.
    pub(crate) fn counted(&self, now: Instant) -> Result<(), Refusal> {
        self.take_request(now)
            .map_err(|code| Refusal::unjudged(code, "the sandbox sends too many requests a second"))
    }

    fn take_request(&self, now: Instant) -> Result<(), Code> {
        let Some(limit) = self.settings.limits.requests_per_second else { return Ok(()) };
        let limit = f64::from(limit);
        let mut bucket = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.at = now;
        bucket.tokens = (bucket.tokens + passed * limit).min(limit);
        if bucket.tokens < 1.0 {
            return Err(Code::TooManyRequests);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Counts `bytes` against the day's upload.
    pub(crate) fn take_upload(&self, bytes: u64) -> Result<(), Code> {
        let Some(limit) = self.settings.limits.upload_per_day else { return Ok(()) };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let number = now.map_or(0, |d| d.as_secs() / 86_400);
        let mut day = self.upload.lock().unwrap_or_else(PoisonError::into_inner);
        if day.number != number {
            *day = Day { number, bytes: 0 };
        }
        day.bytes = day.bytes.saturating_add(bytes);
        if day.bytes > limit { Err(Code::UploadLimit) } else { Ok(()) }
    }

    /// Counts a name that a wildcard covers.
    pub(crate) fn take_name(&self, name: &Name, now: Instant) -> Result<(), Code> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(names.since) >= Duration::from_secs(60) {
            *names = Names { since: now, seen: HashSet::new() };
        }
        if names.seen.contains(name) {
            return Ok(());
        }
        if names.seen.len() >= WILDCARD_NAMES_A_MINUTE {
            return Err(Code::TooManyNames);
        }
        names.seen.insert(name.clone());
        Ok(())
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("name", self.name()).finish_non_exhaustive()
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.0.wide[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reach {
    /// Places for two more descriptors, if there are any that no connection will have need of soon.
    pub(crate) fn two_to_spare(&self) -> Option<[Self; 2]> {
        let places = self.place.semaphore();
        if self.sandbox.origins.load(Ordering::Relaxed) * 4 > places.available_permits() {
            return None;
        }
        Some([self.sandbox.reach(places)?, self.sandbox.reach(places)?])
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.sandbox.origins.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
