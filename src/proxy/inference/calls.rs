//! What a sandbox has behind its `inference.local`: its routes, its accounts, and the responses
//! that it may ask for again.

use super::super::sandbox::Sandbox;
use crate::addr::Host;
use crate::inference::{
    Budget, Errors, Ledger, Provider, Route, Routes, Spent, Today, Tokens, Usage,
};
use crate::policy::{Permit, RouteRule};
use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Responses whose route is remembered.
const KEPT: usize = 4096;
/// How long a provider's list of models is good for.
const LISTED_FOR: Duration = Duration::from_secs(300);

/// The model calls of one sandbox.
#[derive(Debug, Default)]
pub struct Calls {
    routed: ArcSwapOption<Routed>,
    ledger: Mutex<Ledger>,
    kept: Mutex<VecDeque<(Box<str>, Arc<str>)>>,
    lists: Mutex<BTreeMap<Arc<str>, Listed>>,
    rooms: Rooms,
}

/// The bodies of a sandbox's calls that wait for the beginning of their answers, in KiB.
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

/// One call's entry in the ledger: opened when it is let through, settled once.
pub(crate) struct Account {
    sandbox: Arc<Sandbox>,
    reserved: u64,
    route: Arc<str>,
    model: Arc<str>,
    opened: bool,
    /// A provider is asked, and has neither answered nor failed.
    due: bool,
}

impl Calls {
    /// Room for a body of at most `bytes`; waits until there is.
    pub(crate) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let count = u32::try_from(rooms(bytes)).unwrap_or(u32::MAX);
        let room = self.rooms.0.clone().acquire_many_owned(count).await;
        room.expect("it is never closed")
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

    /// Remembers which route made a response.
    pub(crate) fn keep(&self, id: &str, route: &Arc<str>) {
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((id.into(), route.clone()));
    }

    /// Which route made a response.
    pub(crate) fn kept(&self, id: &str) -> Option<Arc<str>> {
        let kept = lock(&self.kept);
        kept.iter().rev().find(|(each, _)| **each == *id).map(|(_, route)| route.clone())
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

impl Account {
    /// Opens an account for a call of `bytes`, within the budget.
    pub(crate) fn open(sandbox: &Arc<Sandbox>, paid: bool, bytes: u64) -> Result<Self, Spent> {
        let calls = sandbox.calls();
        let budget = calls.routes().map(|routes| routes.budget).unwrap_or_default();
        let reserved = if paid { bytes.div_ceil(4) } else { 0 };
        // What costs no tokens is a call all the same.
        let tokens_per_day = budget.tokens_per_day.filter(|_| paid);
        let budget = Budget { tokens_per_day, ..budget };
        lock(&calls.ledger).admit(budget, reserved, SystemTime::now())?;
        let none: Arc<str> = Arc::from("-");
        let sandbox = sandbox.clone();
        Ok(Self { sandbox, reserved, route: none.clone(), model: none, opened: paid, due: false })
    }

    /// Notes who is asked.
    pub(crate) fn on(&mut self, route: &Arc<str>, model: Option<&Arc<str>>) {
        self.due = self.opened;
        self.route = route.clone();
        if let Some(model) = model {
            self.model = model.clone();
        }
    }

    /// The call failed.
    pub(crate) fn failed(mut self) {
        self.due = false;
        if self.opened {
            let mut ledger = lock(&self.sandbox.calls().ledger);
            ledger.fail(&self.route, &self.model, SystemTime::now());
        }
    }

    /// The call cost `tokens`; the first came after `first`, the last after `total`.
    pub(crate) fn answered(mut self, tokens: Tokens, (first, total): (Option<Duration>, Duration)) {
        self.due = false;
        let mut ledger = lock(&self.sandbox.calls().ledger);
        ledger.answer(tokens, SystemTime::now());
        let usage = ledger.usage(&self.route, &self.model);
        usage.requests += 1;
        usage.input = usage.input.saturating_add(tokens.input);
        usage.output = usage.output.saturating_add(tokens.output);
        usage.estimated += u64::from(tokens.estimated);
        if let Some(first) = first {
            usage.first_token += first;
            usage.making += total.saturating_sub(first);
        }
    }

    /// A response that may be asked for again was made.
    pub(crate) fn keep(&self, id: &str) {
        self.sandbox.calls().keep(id, &self.route);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.reserved == 0 {
            return;
        }
        let mut ledger = lock(&self.sandbox.calls().ledger);
        ledger.release(self.reserved);
        if self.due {
            // Who leaves before the answer has had what was asked for read all the same.
            let tokens = Tokens { input: self.reserved, output: 0, estimated: true };
            let now = SystemTime::now();
            ledger.spend(tokens, now);
            ledger.fail(&self.route, &self.model, now);
            let usage = ledger.usage(&self.route, &self.model);
            usage.input = usage.input.saturating_add(tokens.input);
            usage.estimated += 1;
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("route", &self.route).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
