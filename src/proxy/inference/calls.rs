//! What a sandbox has behind its `inference.local`: its routes, its accounts, and the responses
//! that it may ask for again.

use crate::addr::Host;
use crate::inference::{Errors, Kept, Ledger, Made, Provider, Route, Routes, Today, Usage};
use crate::policy::{Permit, RouteRule};
use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a provider's list of models is good for.
const LISTED_FOR: Duration = Duration::from_secs(300);

/// The model calls of one sandbox. No two of its locks are held at once.
#[derive(Debug, Default)]
pub struct Calls {
    routed: ArcSwapOption<Routed>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) made: Mutex<Made>,
    lists: Mutex<BTreeMap<Arc<str>, Listed>>,
    rooms: Rooms,
    /// What decoders of answers keep; apart, for an answer can't wait as a body can.
    windows: Rooms,
}

/// The bodies of a sandbox's calls that wait for the beginning of their answers, and those that are read to
/// judge or to rewrite them, in KiB; as much again for the windows of answers that are decoded.
const ROOMS: usize = 128 * 1024;

/// Room for bodies.
#[derive(Debug)]
struct Rooms(Arc<Semaphore>);

impl Default for Rooms {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOMS)))
    }
}

/// How many rooms `bytes` take.
pub(crate) fn rooms(bytes: usize) -> usize {
    bytes.div_ceil(1024).clamp(1, ROOMS)
}

/// A provider's models, and when they were read.
type Listed = (Instant, Arc<[String]>);

/// Routes, each with the rule that opens its provider.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) routes: Arc<Routes>,
    rules: Vec<RouteRule>,
}

/// What is to be kept of a sandbox's accounts, so that a restart forgets nothing.
#[derive(Debug, Default)]
pub struct Changed {
    /// The day (since 1970) and what was spent in it.
    pub day: Option<(u64, Today)>,
    /// Responses that were made.
    pub made: Vec<Kept>,
}

/// What a model has cost a sandbox since the gateway started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The route.
    pub route: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The counts.
    pub usage: Usage,
}

impl Calls {
    /// Room for a body of at most `bytes`; waits until there is.
    pub(crate) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let count = u32::try_from(rooms(bytes)).unwrap_or(u32::MAX);
        let room = self.rooms.0.clone().acquire_many_owned(count).await;
        room.expect("it is never closed")
    }

    /// Room for what a decoder keeps, where there is some at once.
    pub(crate) fn window(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(rooms(bytes)).unwrap_or(u32::MAX);
        self.windows.0.clone().try_acquire_many_owned(count).ok()
    }

    /// Puts `routes` in force; whether they are others than before.
    pub(crate) fn set(&self, routes: Option<Arc<Routes>>) -> bool {
        let same = match (&*self.routed.load(), &routes) {
            (None, None) => true,
            (Some(old), Some(new)) => old.routes == *new,
            _ => false,
        };
        if !same {
            lock(&self.lists).clear();
            lock(&self.ledger).forget_errors();
            self.routed.store(routes.map(|routes| Arc::new(Routed::new(routes))));
        }
        !same
    }

    /// The routes in force.
    pub fn routes(&self) -> Option<Arc<Routes>> {
        self.routed.load().as_ref().map(|routed| routed.routes.clone())
    }

    pub(crate) fn routed(&self) -> Option<Arc<Routed>> {
        self.routed.load_full()
    }

    /// The permit of the route of this name, if it is still there.
    pub(crate) fn permit(&self, name: &str, epoch: u64) -> Option<Permit> {
        let routed = self.routed.load();
        let routed = routed.as_ref()?;
        let at = routed.routes.routes.iter().position(|route| *route.name == *name)?;
        Some(routed.rules.get(at)?.judge(epoch))
    }

    /// Which route made a response.
    pub(crate) fn made_by(&self, id: &str) -> Option<Arc<str>> {
        lock(&self.made).route(id).cloned()
    }

    /// What has changed in the accounts since this was last asked, to be kept.
    pub fn changed(&self) -> Changed {
        // One lock after the other: whoever held both could meet one that takes them in turn.
        let day = lock(&self.ledger).changed();
        let made = lock(&self.made).fresh();
        Changed { day, made }
    }

    /// Goes on from what an earlier gateway kept, the oldest response first.
    pub fn restore(&self, day: Option<(u64, Today)>, made: impl Iterator<Item = Kept>) {
        if let Some((day, today)) = day {
            lock(&self.ledger).restore(day, today);
        }
        let mut known = lock(&self.made);
        for made in made {
            known.restore(made);
        }
    }

    /// A provider's models, where they were read a short while ago.
    pub(crate) fn list(&self, route: &str) -> Option<Arc<[String]>> {
        let lists = lock(&self.lists);
        let (at, list) = lists.get(route)?;
        (at.elapsed() < LISTED_FOR).then(|| list.clone())
    }

    /// Remembers a provider's models.
    pub(crate) fn listed(&self, route: &Arc<str>, list: Arc<[String]>) {
        lock(&self.lists).insert(route.clone(), (Instant::now(), list));
    }

    /// What each model has cost.
    pub fn spending(&self) -> Vec<Spending> {
        let ledger = lock(&self.ledger);
        let each = |(route, model, usage): (&Arc<str>, &Arc<str>, Usage)| Spending {
            route: route.clone(),
            model: model.clone(),
            usage,
        };
        ledger.all().map(each).collect()
    }

    /// What was spent in the present day (UTC).
    pub fn today(&self) -> Today {
        lock(&self.ledger).today(SystemTime::now())
    }

    /// Counts an error of a route; `text` is safe for a terminal.
    pub(crate) fn error(&self, route: &Arc<str>, text: &str) {
        lock(&self.ledger).error(route, text, SystemTime::now());
    }

    /// The errors of a route, where there were any.
    pub fn errors(&self, route: &str) -> Option<Errors> {
        lock(&self.ledger).errors(route).cloned()
    }
}

impl Routed {
    fn new(routes: Arc<Routes>) -> Self {
        let rule = |route: &Route| {
            let name = format!("inference/{}", route.name);
            RouteRule::new(name.into(), route.endpoint.authority.clone(), opened(route))
        };
        let rules = routes.routes.iter().map(rule).collect();
        Self { routes, rules }
    }
}

/// The internal addresses that a route opens: the one that the operator wrote down, where it is a
/// provider that people run themselves.
fn opened(route: &Route) -> Vec<IpNet> {
    match route.provider {
        Provider::OpenAi | Provider::Anthropic | Provider::Gemini | Provider::Nvidia => {
            return Vec::new();
        }
        Provider::OpenAiCompatible
        | Provider::AnthropicCompatible
        | Provider::Ollama
        | Provider::Vllm
        | Provider::Nim => {}
    }
    match &route.endpoint.authority.host {
        Host::Ip(ip) => vec![ip.to_canonical().into()],
        Host::Name(_) if route.endpoint.is_loopback() => {
            vec![IpAddr::from(Ipv4Addr::LOCALHOST).into(), IpAddr::from(Ipv6Addr::LOCALHOST).into()]
        }
        Host::Name(_) => Vec::new(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn bodies_beyond_the_room_wait_in_turn_and_what_is_given_back_is_theirs() {
        let calls = Calls::default();
        let room = |bytes| calls.room(bytes).now_or_never();
        let mut held: Vec<_> = (0..4).map(|_| room(32 * MIB).expect("there is room")).collect();
        assert!(room(0).is_none(), "the smallest takes some too");
        let (mut more, mut less) = (Box::pin(calls.room(40 * MIB)), Box::pin(calls.room(1)));
        let mut wait = || (more.as_mut().now_or_never(), less.as_mut().now_or_never());
        assert!(matches!(wait(), (None, None)));
        // A call turns out to need less, and another's answer begins.
        let mut first = held.remove(0);
        drop(first.split(first.num_permits() - rooms(24 * MIB)));
        assert!(matches!(wait(), (None, None)), "who came later does not pass who waits for more");
        held.pop();
        let (large, small) = wait();
        assert_eq!(large.as_ref().map(OwnedSemaphorePermit::num_permits), Some(40 * 1024));
        assert!(small.is_none());
        // Who waits may leave.
        drop((less, first, held, large));
        assert!(room(128 * MIB).is_some(), "all of it came back");
    }

    #[test]
    fn a_body_larger_than_all_the_room_takes_all_of_it() {
        let calls = Calls::default();
        let all = calls.room(usize::MAX).now_or_never().expect("there is room");
        assert_eq!(all.num_permits(), ROOMS);
        assert!(calls.room(1).now_or_never().is_none());
        drop(all);
        assert!(calls.room(1).now_or_never().is_some());
    }

    #[test]
    fn each_sandbox_has_room_of_its_own() {
        let (one, other) = (Calls::default(), Calls::default());
        let _all = one.room(128 * MIB).now_or_never().expect("there is room");
        assert!(other.room(MIB).now_or_never().is_some());
    }
}
