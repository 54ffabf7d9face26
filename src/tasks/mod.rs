//! The one place that spawns: every task has an owner, and a stop finds all of them (I6).
//!
//! A stop has two steps: *drain* asks everything to come to its natural end, *stop* is the
//! deadline after which what is left is cut.

mod stall;

pub use stall::Stall;

use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one gateway. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    drain: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` on the current runtime until it ends or the runtime is dropped.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        drop(tokio::spawn(self.tracker.track_future(future)));
    }

    /// Runs `work`, which blocks, on a thread of its own. `None` where it panicked or the runtime
    /// ends.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let done = tokio::task::spawn_blocking(work);
        done.await.ok()
    }

    /// Asks every task to come to its end.
    pub fn drain(&self) {
        self.tracker.close();
        self.drain.cancel();
    }

    /// Whether [`Tasks::drain`] was called.
    pub fn draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Ends when [`Tasks::drain`] is called.
    pub async fn drained(&self) {
        self.drain.cancelled().await;
    }

    /// Ends when the last task has, after a drain.
    pub async fn finished(&self) {
        self.tracker.wait().await;
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}
