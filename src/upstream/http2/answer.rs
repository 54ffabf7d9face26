//! The body of an HTTP/2 response: what comes of it, and what becomes of its stream.

use super::{HttpError, Place, State};
use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// How long an origin has to say that an answer of which all has come is over.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What may come of a response next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    Content,
    Trailers,
    /// It has no content, whatever its head announces (RFC 9110 §6.4.1).
    Nothing,
}

/// A response's body.
pub struct Answer {
    /// There until it is dropped.
    stream: Option<RecvStream>,
    /// Of what its head announced, what has not come.
    left: Option<u64>,
    comes: Comes,
    /// What was read was passed on, and nobody has come for more.
    held_up: bool,
    state: Arc<State>,
}

impl Answer {
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        bare: bool,
        state: Arc<State>,
    ) -> Self {
        let left = length.or(stream.is_end_stream().then_some(0));
        let comes = if bare { Comes::Nothing } else { Comes::Content };
        Self { stream: Some(stream), left, comes, held_up: false, state }
    }

    fn hold_up(&mut self, held_up: bool) {
        match (self.held_up, held_up) {
            (false, true) => self.state.held_up.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.state.held_up.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.held_up = held_up;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.hold_up(false);
        let Some(stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) else {
            return;
        };
        if self.left == Some(0) {
            await_end(stream, &self.state);
        } else {
            self.state.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An answer that is whole, but for the frame that says so: some origins send it by itself. To reset the
/// stream before that would be to cancel what was done.
fn await_end(mut stream: RecvStream, state: &Arc<State>) {
    let mut ended = move |cx: &mut Context<'_>| loop {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) if data.is_empty() => {}
            _ => return Poll::Ready(()),
        }
    };
    let here = ended(&mut Context::from_waker(Waker::noop())).is_ready();
    if here || tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let place = Place::of(state);
    (state.spawn)(Box::pin(async move {
        // Whichever ends it.
        let _ = tokio::time::timeout(END_WITHIN, std::future::poll_fn(ended)).await;
        drop(place);
    }));
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        this.hold_up(false);
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        if this.comes == Comes::Nothing {
            return Poll::Ready(None);
        }
        if this.comes == Comes::Content {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    this.state.heard.store(true, Ordering::Relaxed);
                    this.state.read.fetch_add(data.len() as u64, Ordering::Relaxed);
                    // Fails only where the stream is over.
                    let _ = stream.flow_control().release_capacity(data.len());
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    let more = this.left != Some(0) && !stream.is_end_stream();
                    this.hold_up(more);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => this.comes = Comes::Trailers,
            }
        }
        let trailers = ready!(stream.poll_trailers(cx)).map_err(HttpError::Http2);
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.comes == Comes::Nothing || self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("left", &self.left).finish_non_exhaustive()
    }
}
