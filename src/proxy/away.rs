//! What the log hears of connections that were turned away: anyone who reaches a listener can make as
//! many as they like, so it is told of the first for each reason and then how many there were.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the log is told the same.
pub(super) const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What was told of one listener on one worker.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(Mutex<Vec<Told>>);

#[derive(Debug)]
struct Told {
    why: &'static str,
    at: Instant,
    /// How many came since.
    more: u64,
}

impl TurnedAway {
    /// One more. The log says so, or it is counted for the next time.
    pub(super) fn tell(&self, from: Option<SocketAddr>, why: &'static str) {
        let Some(more) = self.due(why, Instant::now()) else { return };
        if more == 0 {
            tracing::warn!(?from, why, "a connection was turned away");
        } else {
            tracing::warn!(?from, why, more, "a connection was turned away, and more before it");
        }
    }

    /// How many were counted since it was told, if it is to be told now.
    fn due(&self, why: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.iter_mut().find(|last| last.why == why) else {
            told.push(Told { why, at: now, more: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < SAY_AGAIN {
            last.more += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_and_then_counted_each_reason_for_itself() {
        let (away, start) = (TurnedAway::default(), Instant::now());
        let told = |why, after| away.due(why, start + Duration::from_millis(after));
        assert_eq!(told("a", 0), Some(0));
        assert!((1..10_000).all(|after| told("a", after).is_none()));
        assert_eq!(told("b", 10), Some(0), "another reason is another thing");
        assert_eq!(told("a", 10_000), Some(9999));
        assert_eq!((told("a", 10_001), told("a", 20_000)), (None, Some(1)));
    }
}
