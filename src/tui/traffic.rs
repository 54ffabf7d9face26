//! Traffic as it goes by: a bounded ring of rows, and what of it is shown.
//!
//! Owns the filter and the pause. Invariant: memory is bounded by [`KEPT`] rows twice, and a row
//! costs one look at the filter when it comes and nothing afterwards.

use crate::control::wire::{Batch, Requests, Row};
use std::collections::VecDeque;

/// Rows that are kept, and as many again while it is held still.
pub(super) const KEPT: usize = 2000;

/// What of the traffic is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// This verdict alone.
    pub verdict: Option<&'static str>,
    /// This sandbox alone.
    pub sandbox: Option<String>,
    /// Words that stand in host, method, path or process, in lower case.
    pub words: String,
}

/// The verdicts, in the order in which a key goes through them.
const VERDICTS: [&str; 5] = ["allow", "audit", "deny", "unknown", "none"];

impl Filter {
    /// The next verdict alone; all after the last.
    pub fn next_verdict(&mut self) {
        self.verdict = match self.verdict {
            None => VERDICTS.first().copied(),
            Some(now) => VERDICTS.iter().copied().skip_while(|v| *v != now).nth(1),
        };
    }

    /// The next of `names` alone; all after the last.
    pub fn next_sandbox(&mut self, names: &[String]) {
        self.sandbox = match &self.sandbox {
            None => names.first().cloned(),
            Some(now) => names.iter().skip_while(|name| *name != now).nth(1).cloned(),
        };
    }

    /// Whether a row passes.
    fn passes(&self, row: &Row) -> bool {
        self.verdict.is_none_or(|verdict| verdict == row.verdict)
            && self.sandbox.as_ref().is_none_or(|sandbox| *sandbox == row.sandbox)
            && self.words.split_whitespace().all(|word| has(row, word))
    }
}

fn has(row: &Row, word: &str) -> bool {
    [&row.host, &row.method, &row.path, &row.binary]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(word))
}

/// The traffic.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    kept: VecDeque<Row>,
    /// The number of the row at the front of `kept`.
    first: u64,
    /// The numbers of the rows that pass the filter.
    shown: VecDeque<u64>,
    filter: Filter,
    /// What came while it is held still.
    later: Option<VecDeque<Row>>,
    /// How many rows the view stands above the newest.
    back: usize,
    rate: Rate,
    /// Requests that had no row here.
    missed: u64,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    second: i64,
    now: Requests,
    last: Requests,
}

impl Traffic {
    /// Takes in a batch at `wall` milliseconds.
    pub fn take(&mut self, batch: Batch, wall: i64) {
        self.turn(wall);
        self.rate.now.passed += batch.counts.passed;
        self.rate.now.refused += batch.counts.refused;
        self.rate.now.failed += batch.counts.failed;
        self.missed += batch.missed;
        for row in batch.rows {
            match &mut self.later {
                Some(later) => {
                    if later.len() == KEPT {
                        later.pop_front();
                    }
                    later.push_back(row);
                }
                None => self.push(row),
            }
        }
    }

    /// A second may have passed.
    pub fn turn(&mut self, wall: i64) {
        let second = wall.div_euclid(1000);
        if second != self.rate.second {
            let adjacent = second == self.rate.second + 1;
            let last = if adjacent { self.rate.now } else { Requests::default() };
            self.rate = Rate { second, now: Requests::default(), last };
        }
    }

    fn push(&mut self, row: Row) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            if self.shown.front() == Some(&self.first) {
                self.shown.pop_front();
            }
            self.first += 1;
        }
        if self.filter.passes(&row) {
            self.shown.push_back(self.first + self.kept.len() as u64);
        }
        self.kept.push_back(row);
    }

    /// What happened in the last whole second.
    pub fn per_second(&self) -> Requests {
        self.rate.last
    }

    /// How many requests had no row here.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many rows pass the filter.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether no row passes the filter.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Whether no row came at all.
    pub fn is_silent(&self) -> bool {
        self.kept.is_empty()
    }

    /// The last `count` rows above where the view stands, the oldest first.
    pub fn window(&self, count: usize) -> impl Iterator<Item = &Row> {
        let end = self.shown.len() - self.back.min(self.shown.len());
        let start = end.saturating_sub(count);
        self.shown.range(start..end).filter_map(|number| {
            let at = number.checked_sub(self.first)?;
            self.kept.get(usize::try_from(at).ok()?)
        })
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Shows something else.
    pub fn show(&mut self, filter: Filter) {
        self.back = 0;
        let numbers = self.kept.iter().zip(self.first..);
        self.shown = numbers.filter(|(row, _)| filter.passes(row)).map(|(_, n)| n).collect();
        self.filter = filter;
    }

    /// How many rows came while it is held still; `None` where it is not.
    pub fn paused(&self) -> Option<usize> {
        self.later.as_ref().map(VecDeque::len)
    }

    /// Holds it still.
    pub fn pause(&mut self) {
        self.later.get_or_insert_default();
    }

    /// Goes on, at the newest.
    pub fn go_on(&mut self) {
        self.back = 0;
        for row in self.later.take().into_iter().flatten() {
            self.push(row);
        }
    }

    /// Moves the view on a screen of `height` rows; upwards it is held still, since else the rows
    /// would run away.
    pub fn scroll(&mut self, rows: isize, height: usize) {
        if rows < 0 {
            self.pause();
        }
        let most = self.shown.len().saturating_sub(height);
        self.back = self.back.saturating_add_signed(-rows).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(host: &str, verdict: &str) -> Row {
        serde_json::from_value(serde_json::json!({
            "time": "2026-11-24T10:00:00.000Z", "id": "x", "sandbox": "agent", "verdict": verdict,
            "outcome": "passed", "code": "allowed", "by": "policy", "scheme": "https",
            "host": host, "upload": 0, "download": 0, "total_ms": 1.0,
        }))
        .unwrap()
    }

    fn batch(rows: Vec<Row>) -> Batch {
        Batch { counts: Requests::default(), rows, missed: 0 }
    }

    fn hosts(traffic: &Traffic, count: usize) -> Vec<&str> {
        traffic.window(count).map(|row| row.host.as_deref().unwrap()).collect()
    }

    #[test]
    fn the_ring_is_bounded_and_the_window_shows_its_end() {
        let mut traffic = Traffic::default();
        traffic.show(Filter { verdict: Some("deny"), ..Filter::default() });
        for at in 0..3 * KEPT {
            let verdict = if at % 2 == 0 { "deny" } else { "allow" };
            traffic.take(batch(vec![row(&format!("h{at}"), verdict)]), 0);
        }
        assert_eq!((traffic.kept.len(), traffic.len()), (KEPT, KEPT / 2));
        assert_eq!(hosts(&traffic, 2), ["h5996", "h5998"]);
        traffic.show(Filter::default());
        assert_eq!(hosts(&traffic, 2), ["h5998", "h5999"]);
    }

    #[test]
    fn what_comes_while_it_is_held_still_is_shown_afterwards() {
        let mut traffic = Traffic::default();
        traffic.take(batch(vec![row("a", "allow"), row("b", "allow")]), 0);
        traffic.scroll(-1, 1);
        traffic.take(batch(vec![row("c", "allow")]), 0);
        assert_eq!((hosts(&traffic, 5), traffic.paused()), (vec!["a"], Some(1)));
        traffic.go_on();
        assert_eq!(hosts(&traffic, 5), ["a", "b", "c"]);
    }

    #[test]
    fn the_rate_is_that_of_the_last_whole_second() {
        let mut traffic = Traffic::default();
        let counts = Requests { passed: 30, refused: 2, failed: 1 };
        traffic.take(Batch { counts, ..Batch::default() }, 1_500);
        assert_eq!(traffic.per_second(), Requests::default());
        traffic.turn(2_000);
        assert_eq!(traffic.per_second(), counts);
        traffic.turn(9_000);
        assert_eq!(traffic.per_second(), Requests::default());
    }
}
