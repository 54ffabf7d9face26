//! What a sandbox has spent: its budget, and the counts that `inference usage` prints.
//!
//! Time is an argument. A request reserves what its prompt is thought to cost when it is let
//! through, so that many at once do not overdraw the day together; what it did cost is known at
//! its end.

use super::meter::Tokens;
use super::routes::Budget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// Routes and models that are counted apart; what comes later is counted together.
const APART: usize = 256;

/// The accounts of one sandbox.
#[derive(Debug)]
pub struct Ledger {
    day: u64,
    /// Tokens of the day.
    spent: u64,
    /// Tokens of requests under way.
    reserved: u64,
    /// Requests that may still be made at once.
    requests: f64,
    refilled: Option<SystemTime>,
    usage: BTreeMap<(Arc<str>, Arc<str>), Usage>,
}

/// Why a request is refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// The tokens of the day are used up.
    #[error("the sandbox's budget of {limit} tokens for today (UTC) is used up")]
    Tokens {
        /// The budget.
        limit: u64,
        /// How long until there are more.
        wait: Duration,
    },
    /// Too many requests within a minute.
    #[error("the sandbox's budget of {limit} model calls a minute is used up")]
    Requests {
        /// The budget.
        limit: u32,
        /// How long until there are more.
        wait: Duration,
    },
}

/// What one model of one route has cost since the gateway started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
    /// Calls whose tokens are estimated.
    pub estimated: u64,
    /// The sum of the times to the first token.
    pub first_token: Duration,
    /// The sum of the times from the first token to the end, where there was one.
    pub making: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            day: 0,
            spent: 0,
            reserved: 0,
            requests: f64::MAX,
            refilled: None,
            usage: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Takes one request from the budget, and reserves `tokens` for it.
    pub fn admit(&mut self, budget: Budget, tokens: u64, now: SystemTime) -> Result<(), Spent> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.day != since / DAY {
            self.day = since / DAY;
            self.spent = 0;
        }
        if let Some(limit) = budget.tokens_per_day
            && self.spent.saturating_add(self.reserved) >= limit
        {
            let wait = Duration::from_secs(DAY - since % DAY);
            return Err(Spent::Tokens { limit, wait });
        }
        if let Some(limit) = budget.requests_per_minute {
            self.take_request(limit, now)?;
        }
        self.reserved = self.reserved.saturating_add(tokens);
        Ok(())
    }

    fn take_request(&mut self, limit: u32, now: SystemTime) -> Result<(), Spent> {
        let (most, passed) = match self.refilled {
            Some(then) => (f64::from(limit), now.duration_since(then).unwrap_or_default()),
            None => (f64::from(limit), Duration::ZERO),
        };
        self.refilled = Some(now);
        let refill = most / 60.0;
        self.requests = (self.requests + passed.as_secs_f64() * refill).min(most);
        if self.requests < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.requests) / refill);
            return Err(Spent::Requests { limit, wait });
        }
        self.requests -= 1.0;
        Ok(())
    }

    /// Gives a reservation back.
    pub fn release(&mut self, reserved: u64) {
        self.reserved = self.reserved.saturating_sub(reserved);
    }

    /// Counts what a call cost.
    pub fn spend(&mut self, tokens: Tokens) {
        self.spent = self.spent.saturating_add(tokens.total());
    }

    /// The counts of a model on a route.
    pub fn usage(&mut self, route: &Arc<str>, model: &Arc<str>) -> &mut Usage {
        let key = (route.clone(), model.clone());
        let apart = self.usage.len() < APART || self.usage.contains_key(&key);
        let key = if apart { key } else { (route.clone(), "(others)".into()) };
        self.usage.entry(key).or_default()
    }

    /// All counts, by route and model.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, Usage)> {
        self.usage.iter().map(|((route, model), usage)| (route, model, *usage))
    }

    /// Tokens spent in the day of `now`.
    pub fn spent_today(&self, now: SystemTime) -> u64 {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.day == since / DAY { self.spent } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY + seconds)
    }

    const TOKENS: Budget = Budget { tokens_per_day: Some(100), requests_per_minute: None };
    const REQUESTS: Budget = Budget { tokens_per_day: None, requests_per_minute: Some(2) };

    #[test]
    fn a_days_tokens_are_for_the_day() {
        let mut ledger = Ledger::default();
        ledger.admit(TOKENS, 10, at(0)).unwrap();
        ledger.release(10);
        ledger.spend(Tokens { input: 60, output: 40, estimated: false });
        let wait = Duration::from_secs(DAY - 5);
        assert_eq!(ledger.admit(TOKENS, 1, at(5)), Err(Spent::Tokens { limit: 100, wait }));
        assert_eq!(ledger.spent_today(at(5)), 100);
        assert_eq!(ledger.admit(TOKENS, 1, at(DAY)), Ok(()));
        assert_eq!(ledger.spent_today(at(DAY)), 0);
    }

    #[test]
    fn requests_under_way_hold_what_they_may_cost() {
        let mut ledger = Ledger::default();
        ledger.admit(TOKENS, 60, at(0)).unwrap();
        ledger.admit(TOKENS, 60, at(0)).unwrap();
        assert!(ledger.admit(TOKENS, 60, at(0)).is_err());
        ledger.release(60);
        assert_eq!(ledger.admit(TOKENS, 60, at(0)), Ok(()));
    }

    #[test]
    fn requests_a_minute_come_back_one_by_one() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.admit(REQUESTS, 0, at(0)), Ok(()));
        assert_eq!(ledger.admit(REQUESTS, 0, at(0)), Ok(()));
        let wait = Duration::from_secs(30);
        assert_eq!(ledger.admit(REQUESTS, 0, at(0)), Err(Spent::Requests { limit: 2, wait }));
        assert_eq!(ledger.admit(REQUESTS, 0, at(30)), Ok(()));
        assert!(ledger.admit(REQUESTS, 0, at(31)).is_err());
        // A clock that goes back gives nothing.
        assert!(ledger.admit(REQUESTS, 0, at(0)).is_err());
    }

    #[test]
    fn a_client_that_makes_up_models_does_not_fill_memory() {
        let mut ledger = Ledger::default();
        for n in 0..2 * APART {
            ledger.usage(&"r".into(), &n.to_string().into()).requests += 1;
        }
        assert_eq!(ledger.all().count(), APART + 1);
    }
}
