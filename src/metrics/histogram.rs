//! A histogram of durations with fixed buckets: constant memory, however much is observed.

use std::fmt::Write;
use std::time::Duration;

/// Upper bounds, with the text that Prometheus shows: from what a pooled request costs to what a
/// stream takes. Judging has bounds of its own.
pub(super) const WAITS: Bounds = &[
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
    (300_000_000, "300"),
];

/// Bounds for judging, in microseconds too.
pub(super) const JUDGING: Bounds = &[
    (1, "0.000001"),
    (2, "0.000002"),
    (5, "0.000005"),
    (10, "0.00001"),
    (25, "0.000025"),
    (50, "0.00005"),
    (100, "0.0001"),
    (1_000, "0.001"),
    (10_000, "0.01"),
];

/// Upper bounds in microseconds, rising, each with its text in seconds.
pub(super) type Bounds = &'static [(u64, &'static str)];

/// Counts of durations by bucket.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: Bounds,
    /// One a bound and one for what is over; not yet cumulative.
    counts: Box<[u64]>,
    sum: Duration,
}

impl Histogram {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: Duration::ZERO }
    }

    pub(super) fn observe(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|(bound, _)| bound * 1000 < nanos);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// Appends the series `name{labels,le="…"}`; nothing where nothing was observed.
    pub(super) fn render(&self, name: &str, labels: &str, out: &mut String) {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut below = 0;
        for ((_, bound), count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            line(out, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}"));
        }
        line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {total}"));
        line(out, format_args!("{name}_sum{{{labels}}} {}", self.sum.as_secs_f64()));
        line(out, format_args!("{name}_count{{{labels}}} {total}"));
    }
}

/// Appends a line.
pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every text");
    out.push('\n');
}
