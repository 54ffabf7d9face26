//! Waiting for something, unless what waits for it must end.

use super::live::{End, Live};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Ends with [`End`] if the live thing is cut before `future` ends.
pub(crate) fn unless_cut<F: Future>(live: &Live, future: F) -> Unless<'_, F> {
    Unless { future, live, begun: true }
}

/// As [`unless_cut`], for what has not begun yet: it ends in a drain too.
pub(crate) fn unless_ended<F: Future>(live: &Live, future: F) -> Unless<'_, F> {
    Unless { future, live, begun: false }
}

pin_project! {
    /// See [`unless_cut`]. An `async fn` would have room for its future twice: before and after it is pinned.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Unless<'a, F> {
        #[pin]
        future: F,
        live: &'a Live,
        begun: bool,
    }
}

impl<F: Future> Future for Unless<'_, F> {
    type Output = Result<F::Output, End>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let ended = if *this.begun { this.live.poll_cut(cx) } else { this.live.poll_ended(cx) };
        ended.map(Err)
    }
}
