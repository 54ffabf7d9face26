//! Patience with a peer that takes nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Ends a write that waits too long. A peer's system acknowledges probes of its closed window for ever
/// (RFC 9293 §3.8.6.1), so TCP does not.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    /// Runs while something waits.
    over: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// What waits, waits so long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, over: None }
    }

    /// What came of a write, unless that waits for too long.
    pub fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.over = None;
            return written;
        }
        let over = self.over.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        ready!(over.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The peer has done something else: whoever was told of it looks at what waits, too.
    pub fn heard(&mut self) {
        self.over = None;
    }
}
