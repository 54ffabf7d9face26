//! When something counts, and how long each operation took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How long load runs before it counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// How many operations' times one worker keeps; later ones are only counted.
const SAMPLES: usize = 2_000_000;

// Before that it is 0: warming up.
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Shared by the workers of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<AtomicU8>);

/// What the workers did while the clock was counting.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Operations.
    pub(crate) operations: u64,
    /// Operations that failed, counted from the first.
    pub(crate) failed: u64,
    /// What the last one failed with.
    pub(crate) failure: Option<String>,
    micros: Vec<u32>,
}

impl Clock {
    /// A clock that counts from the start and never ends.
    pub(crate) fn counting() -> Self {
        Self(Arc::new(AtomicU8::new(COUNTING)))
    }

    /// Counts from now on.
    pub(crate) fn count(&self) {
        self.0.store(COUNTING, Ordering::Relaxed);
    }

    /// Ends.
    pub(crate) fn stop(&self) {
        self.0.store(OVER, Ordering::Relaxed);
    }

    /// Whether workers go on.
    pub(crate) fn runs(&self) -> bool {
        self.0.load(Ordering::Relaxed) != OVER
    }

    /// Warms up, counts for `span`, and ends. `at_start` is asked when counting begins and ends.
    pub(crate) async fn run<T>(
        &self,
        span: Duration,
        mut sample: impl FnMut() -> T,
    ) -> (T, T, Duration) {
        tokio::time::sleep(WARM_UP).await;
        let (first, began) = (sample(), Instant::now());
        self.count();
        tokio::time::sleep(span).await;
        self.stop();
        (first, sample(), began.elapsed())
    }

    /// Counts one operation that took `took`.
    pub(crate) fn note(&self, tally: &mut Tally, took: Duration) {
        if self.0.load(Ordering::Relaxed) != COUNTING {
            return;
        }
        tally.operations += 1;
        if tally.micros.len() < SAMPLES {
            tally.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Counts `operations` without a time of their own.
    pub(crate) fn add(&self, tally: &mut Tally, operations: u64) {
        if self.0.load(Ordering::Relaxed) == COUNTING {
            tally.operations += operations;
        }
    }
}

impl Tally {
    /// Remembers a failure; nothing is measured by what fails.
    pub(crate) fn fail(&mut self, error: &impl ToString) {
        self.failed += 1;
        self.failure = Some(error.to_string());
    }

    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.failure = other.failure.or(self.failure.take());
        self.micros.extend(other.micros);
    }

    /// The time that a share of the operations stayed below.
    pub(crate) fn quantile(&mut self, share: f64) -> Option<Duration> {
        if self.micros.is_empty() {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into the samples"
        )]
        let at = ((self.micros.len() - 1) as f64 * share) as usize;
        let (_, found, _) = self.micros.select_nth_unstable(at);
        Some(Duration::from_micros(u64::from(*found)))
    }
}
