//! What a sandbox has spent: its budget, and the counts that `inference usage` prints.
//!
//! Time is an argument. A call reserves what it may cost when it is let through, prompt and answer,
//! so that many at once do not overdraw the day together; what it did cost is known at its end. A
//! call alone is let through while anything is left: the day is overdrawn by one call at most.

use super::meter::Tokens;
use super::routes::Budget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// Routes and models that are counted apart; what comes later is counted together.
const APART: usize = 256;
/// Characters of an error that are kept.
const KEPT: usize = 300;

/// The accounts of one sandbox.
#[derive(Debug)]
pub struct Ledger {
    day: u64,
    today: Today,
    /// Tokens of requests under way.
    reserved: u64,
    /// Requests that may still be made at once.
    requests: f64,
    refilled: Option<SystemTime>,
    usage: BTreeMap<(Arc<str>, Arc<str>), Usage>,
    errors: BTreeMap<Arc<str>, Errors>,
    /// The day has changed since it was last taken to be kept.
    changed: bool,
}

/// What was counted for a call whose cost nobody knows yet: it is worked on in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Its route.
    pub route: Arc<str>,
    /// Its model.
    pub model: Arc<str>,
    /// What was counted.
    pub counted: Tokens,
    /// When.
    pub at: SystemTime,
}

/// What was spent in a day (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Today {
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens made.
    pub output: u64,
}

impl Today {
    /// Tokens of both kinds.
    pub const fn tokens(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// How often a route gave no answer that a model made, and why it last did not: also where another
/// route stood in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// How often.
    pub count: u64,
    /// When it last was.
    pub at: SystemTime,
    /// Why, safe for a terminal.
    pub text: String,
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
    /// What is left is held by calls under way.
    #[error(
        "what is left of the sandbox's budget of {limit} tokens for today (UTC) is held by its \
         calls under way: try again when one has ended"
    )]
    Held {
        /// The budget.
        limit: u64,
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

impl Usage {
    /// Counts what a call cost.
    pub fn add(&mut self, tokens: Tokens) {
        self.input = self.input.saturating_add(tokens.input);
        self.output = self.output.saturating_add(tokens.output);
        self.estimated += u64::from(tokens.estimated);
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            day: 0,
            today: Today::default(),
            reserved: 0,
            requests: f64::MAX,
            refilled: None,
            usage: BTreeMap::new(),
            errors: BTreeMap::new(),
            changed: false,
        }
    }
}

impl Ledger {
    /// Takes one request from the budget, and reserves `tokens` for it.
    pub fn admit(&mut self, budget: Budget, tokens: u64, now: SystemTime) -> Result<(), Spent> {
        let since = since_epoch(now);
        self.turn(now);
        if let Some(limit) = budget.tokens_per_day {
            let spent = self.today.tokens();
            if spent >= limit {
                let wait = Duration::from_secs(DAY - since % DAY);
                return Err(Spent::Tokens { limit, wait });
            }
            let sum = spent.saturating_add(self.reserved).saturating_add(tokens);
            if self.reserved > 0 && sum > limit {
                return Err(Spent::Held { limit });
            }
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

    /// A day that has begun has nothing spent.
    fn turn(&mut self, now: SystemTime) {
        let day = since_epoch(now) / DAY;
        if !self.is_of(day) {
            self.day = day;
            self.today = Today::default();
        }
        self.changed = true;
    }

    /// Whether what was counted is of this day. A clock that goes back over midnight gives no day
    /// anew.
    fn is_of(&self, day: u64) -> bool {
        self.day == day || self.day == day + 1
    }

    /// The day of `now`, with what an earlier gateway counted in it.
    pub fn restore(&mut self, day: u64, today: Today) {
        (self.day, self.today) = (day, today);
    }

    /// The day (since 1970) and what was spent in it, where that changed since this was last asked.
    pub fn changed(&mut self) -> Option<(u64, Today)> {
        std::mem::take(&mut self.changed).then_some((self.day, self.today))
    }

    /// Counts a call that was answered, and what it cost.
    pub fn answer(&mut self, tokens: Tokens, now: SystemTime) {
        self.spend(tokens, now);
        self.today.requests += 1;
    }

    /// Counts tokens.
    pub fn spend(&mut self, tokens: Tokens, now: SystemTime) {
        self.turn(now);
        let today = &mut self.today;
        today.input = today.input.saturating_add(tokens.input);
        today.output = today.output.saturating_add(tokens.output);
    }

    /// Puts what a call did cost in the place of what was counted for it.
    pub fn settle(&mut self, owed: &Owed, cost: Tokens, now: SystemTime) {
        self.turn(now);
        let Tokens { input, output, .. } = owed.counted;
        // What was counted yesterday stays there.
        if since_epoch(owed.at) / DAY == self.day {
            self.today.input = self.today.input.saturating_sub(input);
            self.today.output = self.today.output.saturating_sub(output);
            self.spend(cost, now);
        } else {
            let more = |cost: u64, counted: u64| cost.saturating_sub(counted);
            let (input, output) = (more(cost.input, input), more(cost.output, output));
            self.spend(Tokens { input, output, estimated: false }, now);
        }
        let usage = self.usage(&owed.route, &owed.model);
        usage.input = usage.input.saturating_sub(input).saturating_add(cost.input);
        usage.output = usage.output.saturating_sub(output).saturating_add(cost.output);
        usage.estimated = usage.estimated.saturating_sub(1);
    }

    /// Counts a call that failed.
    pub fn fail(&mut self, route: &Arc<str>, model: &Arc<str>, now: SystemTime) {
        self.turn(now);
        self.today.failed += 1;
        self.usage(route, model).failed += 1;
    }

    /// Counts a call that failed and cost something all the same.
    pub fn lose(&mut self, route: &Arc<str>, model: &Arc<str>, tokens: Tokens, now: SystemTime) {
        self.spend(tokens, now);
        self.fail(route, model, now);
        self.usage(route, model).add(tokens);
    }

    /// Counts an error of a route; `text` is safe for a terminal.
    pub fn error(&mut self, route: &Arc<str>, text: &str, now: SystemTime) {
        let count = self.errors.get(route).map_or(0, |errors| errors.count) + 1;
        let text = text.chars().take(KEPT).collect();
        self.errors.insert(route.clone(), Errors { count, at: now, text });
    }

    /// The errors of a route, where there were any.
    pub fn errors(&self, route: &str) -> Option<&Errors> {
        self.errors.get(route)
    }

    /// The routes are others: errors of the old ones say nothing of them.
    pub fn forget_errors(&mut self) {
        self.errors.clear();
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

    /// What was spent in the day of `now`.
    pub fn today(&self, now: SystemTime) -> Today {
        if self.is_of(since_epoch(now) / DAY) { self.today } else { Today::default() }
    }
}

fn since_epoch(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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
        ledger.answer(Tokens { input: 60, output: 40, estimated: false }, at(1));
        ledger.fail(&"r".into(), &"m".into(), at(2));
        let wait = Duration::from_secs(DAY - 5);
        assert_eq!(ledger.admit(TOKENS, 1, at(5)), Err(Spent::Tokens { limit: 100, wait }));
        let spent = Today { requests: 1, failed: 1, input: 60, output: 40 };
        assert_eq!(ledger.today(at(5)), spent);
        assert_eq!(ledger.today(at(DAY)), Today::default());
        assert_eq!(ledger.admit(TOKENS, 1, at(DAY)), Ok(()));
        assert_eq!(ledger.today(at(DAY)), Today::default());
    }

    #[test]
    fn what_ends_after_midnight_is_of_the_new_day() {
        let mut ledger = Ledger::default();
        ledger.admit(TOKENS, 10, at(DAY - 1)).unwrap();
        ledger.spend(Tokens { input: 60, output: 40, estimated: false }, at(DAY + 1));
        assert_eq!(ledger.today(at(DAY + 2)).tokens(), 100);
    }

    #[test]
    fn errors_are_counted_by_route_and_the_last_is_kept_not_too_long() {
        let mut ledger = Ledger::default();
        let route: Arc<str> = "main[0]".into();
        ledger.error(&route, "first", at(1));
        ledger.error(&route, &"x".repeat(5000), at(2));
        let errors = ledger.errors("main[0]").unwrap();
        assert_eq!((errors.count, errors.at, errors.text.len()), (2, at(2), KEPT));
        assert_eq!(ledger.errors("main[1]"), None);
        ledger.forget_errors();
        assert_eq!(ledger.errors("main[0]"), None);
    }

    #[test]
    fn calls_under_way_hold_what_they_may_cost() {
        let mut ledger = Ledger::default();
        ledger.admit(TOKENS, 60, at(0)).unwrap();
        assert_eq!(ledger.admit(TOKENS, 60, at(0)), Err(Spent::Held { limit: 100 }));
        ledger.admit(TOKENS, 40, at(0)).unwrap();
        assert_eq!(ledger.admit(TOKENS, 1, at(0)), Err(Spent::Held { limit: 100 }));
        ledger.release(60);
        assert_eq!(ledger.admit(TOKENS, 60, at(0)), Ok(()));
    }

    #[test]
    fn a_call_alone_may_use_what_is_left_whatever_it_says_it_may_cost() {
        let mut ledger = Ledger::default();
        ledger.admit(TOKENS, u64::MAX, at(0)).unwrap();
        assert_eq!(ledger.admit(TOKENS, 0, at(0)), Err(Spent::Held { limit: 100 }));
        ledger.release(u64::MAX);
        ledger.spend(Tokens { input: 99, output: 0, estimated: false }, at(0));
        ledger.admit(TOKENS, 5000, at(0)).unwrap();
    }

    #[test]
    fn what_was_counted_beforehand_is_replaced_by_what_it_cost() {
        let counted = Tokens { input: 10, output: 4096, estimated: true };
        let cost = Tokens { input: 12, output: 5, estimated: false };
        let (route, model): (Arc<str>, Arc<str>) = ("r".into(), "m".into());
        let owed = Owed { route: route.clone(), model: model.clone(), counted, at: at(5) };
        let mut ledger = Ledger::default();
        ledger.spend(counted, at(5));
        let usage = ledger.usage(&route, &model);
        (usage.input, usage.output, usage.estimated) = (10, 4096, 1);
        ledger.settle(&owed, cost, at(6));
        assert_eq!(ledger.today(at(6)).tokens(), 17);
        let usage = *ledger.usage(&route, &model);
        assert_eq!((usage.input, usage.output, usage.estimated), (12, 5, 0));
        // After midnight only what is more is counted, and nothing is given back.
        let mut ledger = Ledger::default();
        ledger.spend(counted, at(5));
        ledger.settle(&owed, cost, at(DAY));
        assert_eq!(ledger.today(at(DAY)).tokens(), 2);
    }

    #[test]
    fn a_day_that_was_kept_goes_on() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.changed(), None);
        ledger.spend(Tokens { input: 60, output: 39, estimated: false }, at(1));
        let (day, today) = ledger.changed().unwrap();
        assert_eq!((day, ledger.changed()), (20_000, None));
        let mut next = Ledger::default();
        next.restore(day, today);
        assert_eq!(next.changed(), None);
        assert_eq!(next.today(at(2)).tokens(), 99);
        next.spend(Tokens { input: 1, output: 0, estimated: false }, at(2));
        assert!(next.admit(TOKENS, 1, at(3)).is_err());
        let mut tomorrow = Ledger::default();
        tomorrow.restore(day, today);
        assert_eq!(tomorrow.admit(TOKENS, 1, at(DAY)), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_over_midnight_gives_no_day_anew() {
        let mut ledger = Ledger::default();
        ledger.spend(Tokens { input: 100, output: 0, estimated: false }, at(DAY));
        assert!(ledger.admit(TOKENS, 1, at(DAY - 5)).is_err());
        assert_eq!(ledger.today(at(DAY - 5)).tokens(), 100);
        assert!(ledger.admit(TOKENS, 1, at(DAY + 5)).is_err());
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
