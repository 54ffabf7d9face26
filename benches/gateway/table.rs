//! The table: one Markdown row a run.

use crate::scenario::{Ran, Scenario};
use std::time::Duration;

/// A row.
pub(crate) struct Row<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) through: &'a str,
    pub(crate) ran: &'a Ran,
}

/// The table's head.
pub(crate) fn head() -> &'static str {
    "| scenario | through | op/s | p50 | p99 | CPU µs/op | RSS MiB | |\n|---|---|--:|--:|--:|--:|--:|---|"
}

impl Row<'_> {
    /// The row, with what went wrong at its end.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn line(&self) -> String {
        let Self { scenario, through, ran } = self;
        let operations = ran.tally.operations as f64 / scenario.scale();
        let rate = operations / ran.elapsed.as_secs_f64();
        let rate = if ran.elapsed.is_zero() { String::new() } else { figure(rate) };
        let cpu = ran.cpu.filter(|_| operations > 0.0);
        let cpu = cpu.map(|cpu| figure(cpu.as_secs_f64() * 1e6 / operations));
        let rss = ran.rss_kib.map(|kib| figure(kib as f64 / 1024.0));
        let mut note = ran.each_kib.map(|kib| format!("{kib:.1} KiB each")).unwrap_or_default();
        if ran.tally.failed > 0 {
            let why = ran.tally.failure.as_deref().unwrap_or_default();
            note = format!("{note} {} FAILED: {why}", ran.tally.failed);
        }
        format!(
            "| {} | {through} | {rate} | {} | {} | {} | {} | {note} |",
            scenario.name(),
            span(ran.p50),
            span(ran.p99),
            cpu.unwrap_or_default(),
            rss.unwrap_or_default(),
        )
    }
}

/// Three digits that count, or all of a large number.
fn figure(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn span(span: Option<Duration>) -> String {
    span.map(|span| format!("{} ms", figure(span.as_secs_f64() * 1e3))).unwrap_or_default()
}
