//! A request body on its way to the origin.

use super::super::inject::{self, Unframed};
use super::kept::Kept;
use super::pace::Pace;
use super::{BodyError, ClientBody, len};
use crate::policy::Code;
use crate::upstream::http2::Revocable;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// A request body on its way to the origin.
#[derive(Debug)]
pub(crate) struct UpBody {
    source: Source,
    pace: Option<Arc<Pace>>,
    /// Fields that its trailers may not have: their headers hold what the gateway put there.
    without: Option<Box<[HeaderName]>>,
    /// It comes in chunks that the client signed, and goes up without them.
    unframed: Option<Box<Unframed>>,
    /// What went up before, and goes up again first.
    again: Bytes,
}

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    Stream(ClientBody),
    /// The client's body, which waits in its [`Pace`] until it may go up.
    Parked,
    /// A beginning that was read before it was let through.
    Peeked(Box<Peeked>),
}

/// A body whose beginning was read: it goes up before the rest.
#[derive(Debug)]
pub(crate) struct Peeked {
    pub(crate) first: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) rest: Option<ClientBody>,
}

impl Revocable for UpBody {
    fn poll_revoked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pace) = &self.pace else { return Poll::Pending };
        pace.waker.register(cx.waker());
        if pace.over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl UpBody {
    fn of(source: Source, pace: Option<Arc<Pace>>) -> Self {
        if let Some(pace) = &pace {
            pace.gone.store(false, Ordering::Relaxed);
        }
        Self { source, pace, without: None, unframed: None, again: Bytes::new() }
    }

    /// No body, or one that was read to judge.
    pub(crate) fn whole(bytes: Bytes, pace: Option<Arc<Pace>>) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        let body = Self::of(Source::Whole(bytes), pace);
        if body.is_end_stream() {
            // hyper does not poll a body that is at its end.
            body.finished();
        }
        body
    }

    /// The client's body as it comes.
    pub(crate) fn stream(body: ClientBody, pace: Arc<Pace>) -> Self {
        Self::of(Source::Stream(body), Some(pace))
    }

    /// The client's body, which is not asked for before [`Pace::go`].
    pub(crate) fn park(body: ClientBody, pace: &Arc<Pace>) {
        *pace.parked() = Some(Box::new(body));
    }

    /// What was parked. Of several of these the first that is let go has it.
    pub(crate) fn parked(pace: Arc<Pace>) -> Self {
        Self::of(Source::Parked, Some(pace))
    }

    /// The client's body, whose beginning was read.
    pub(crate) fn peeked(peeked: Box<Peeked>, pace: Arc<Pace>) -> Self {
        Self::of(Source::Peeked(peeked), Some(pace))
    }

    /// The same, with none of these fields among its trailers, in any spelling.
    pub(crate) fn without(mut self, names: Vec<HeaderName>) -> Self {
        self.without = (!names.is_empty()).then(|| names.into());
        self
    }

    /// The same, taken out of its signed chunks where it has them: this many bytes.
    pub(crate) fn unframed(mut self, length: Option<u64>) -> Self {
        self.unframed = length.map(|length| Box::new(Unframed::new(length)));
        self
    }

    /// The same, which can go up again while it is short and its answer has not begun.
    pub(crate) fn kept(self) -> Self {
        if let Some(pace) = &self.pace {
            *pace.kept() = Some(Kept::of(pace.sandbox.kept()));
        }
        self
    }

    /// The body of a try that failed, from its beginning, if all of it is there.
    pub(crate) fn again(pace: &Arc<Pace>) -> Option<Self> {
        let mut body = pace.kept().as_mut()?.take_back()?;
        pace.starved.store(false, Ordering::Relaxed);
        pace.gone.store(false, Ordering::Relaxed);
        body.pace = Some(pace.clone());
        Some(body)
    }

    /// With what is known to have gone up before: `gone` in pieces, or all as `whole`.
    pub(super) fn with_beginning(mut self, gone: Bytes, whole: Option<Bytes>) -> Self {
        self.again = gone;
        if whole.is_some() {
            self.source = Source::Whole(whole);
        }
        self
    }

    /// A piece as it goes up.
    fn shaped(&mut self, piece: Bytes) -> Result<Frame<Bytes>, BodyError> {
        let piece = match &mut self.unframed {
            None => Some(piece),
            Some(unframed) => unframed.push(piece),
        };
        let piece = piece.ok_or_else(|| self.misframed())?;
        if let Some(pace) = &self.pace {
            pace.keep(|kept| kept.push(&piece));
        }
        Ok(Frame::data(piece))
    }

    fn misframed(&self) -> BodyError {
        match &self.pace {
            Some(pace) => pace.stop(Code::BadFraming),
            None => BodyError::Cut(Code::BadFraming),
        }
    }

    /// Whether it may end here.
    fn may_end(&self) -> bool {
        self.unframed.as_ref().is_none_or(|unframed| unframed.is_whole())
    }

    fn clean(without: Option<&[HeaderName]>, trailers: &mut HeaderMap) {
        super::super::headers::clean_trailers(trailers);
        let Some(without) = without else { return };
        let own = |name: &&HeaderName| without.iter().any(|other| inject::same(name, other));
        let own: Vec<HeaderName> = trailers.keys().filter(own).cloned().collect();
        own.iter().for_each(|name| {
            trailers.remove(name);
        });
    }

    /// What was read before goes first; then the source is what is left.
    fn unpeek(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Source::Peeked(peeked) = &mut self.source else { return None };
        let pace = self.pace.as_ref()?;
        pace.polled.store(true, Ordering::Relaxed);
        let first = std::mem::take(&mut peeked.first);
        if !first.is_empty() {
            let counted = pace.count(first.len() as u64);
            return Some(counted.and_then(|()| self.shaped(first)));
        }
        if peeked.trailers.is_some() && self.unframed.as_ref().is_some_and(|u| !u.is_whole()) {
            return Some(Err(self.misframed()));
        }
        if let Some(mut trailers) = peeked.trailers.take() {
            pace.forget();
            Self::clean(self.without.as_deref(), &mut trailers);
            peeked.rest = None;
            self.source = Source::Whole(None);
            self.finished();
            return Some(Ok(Frame::trailers(trailers)));
        }
        self.source = match peeked.rest.take() {
            Some(rest) => Source::Stream(rest),
            None => Source::Whole(None),
        };
        None
    }

    /// The next of the client's body, or of what was read to judge.
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let may_end = self.may_end();
        let Source::Stream(body) = &mut self.source else {
            let Source::Whole(bytes) = &mut self.source else { return Poll::Ready(None) };
            let bytes = bytes.take();
            if self.unframed.is_some() {
                return Poll::Ready(self.whole_unframed(bytes));
            }
            if let (Some(bytes), Some(pace)) = (&bytes, &self.pace) {
                // What goes up again was counted.
                if !pace.polled.swap(true, Ordering::Relaxed) {
                    pace.count(bytes.len() as u64)?;
                }
                pace.keep(|kept| kept.all(bytes));
            }
            self.finished();
            return Poll::Ready(bytes.map(|b| Ok(Frame::data(b))));
        };
        let Some(pace) = &self.pace else { return Poll::Ready(None) };
        pace.polled.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut *body).poll_frame(cx);
        pace.starved.store(polled.is_pending(), Ordering::Relaxed);
        match ready!(polled) {
            None if !may_end => Poll::Ready(Some(Err(self.misframed()))),
            None => {
                self.finished();
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    pace.count(data.len() as u64)?;
                    let ends = body.is_end_stream();
                    let shaped = self.shaped(data);
                    if ends && self.may_end() {
                        self.finished();
                    }
                    Poll::Ready(Some(shaped))
                }
                Err(_) if !may_end => Poll::Ready(Some(Err(self.misframed()))),
                Err(frame) => {
                    pace.forget();
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    Self::clean(self.without.as_deref(), &mut trailers);
                    // Nothing is polled behind trailers.
                    self.finished();
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
            },
        }
    }

    /// What was read to judge, or to be shown, out of its signed chunks.
    fn whole_unframed(&mut self, bytes: Option<Bytes>) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Some(bytes) = bytes else {
            let ended = self.may_end();
            self.finished();
            return (!ended).then(|| Err(self.misframed()));
        };
        if let Some(pace) = &self.pace {
            pace.polled.store(true, Ordering::Relaxed);
            if let Err(error) = pace.count(bytes.len() as u64) {
                return Some(Err(error));
            }
        }
        let shaped = self.shaped(bytes);
        if self.may_end() {
            self.finished();
        }
        Some(shaped)
    }

    fn finished(&self) {
        if let Some(pace) = &self.pace {
            pace.live.sent_all.store(true, Ordering::Relaxed);
        }
    }
}

impl Body for UpBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(pace) = &this.pace {
            pace.waker.register(cx.waker());
            if pace.over.load(Ordering::Relaxed) {
                // The origin's connection ends by this, and the client's body is let go.
                return Poll::Ready(Some(Err(BodyError::Over(h2::Reason::CANCEL.into()))));
            }
        }
        if !this.again.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.again)))));
        }
        if let Some(frame) = this.unpeek() {
            return Poll::Ready(Some(frame));
        }
        if let (Source::Parked, Some(pace)) = (&this.source, &this.pace) {
            if pace.waits.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let Some(body) = pace.parked().take() else {
                // It went up elsewhere.
                return Poll::Ready(Some(Err(BodyError::Over(h2::Reason::CANCEL.into()))));
            };
            this.source = Source::Stream(*body);
        }
        this.poll_source(cx)
    }

    fn is_end_stream(&self) -> bool {
        if !self.again.is_empty() || !self.may_end() {
            return false;
        }
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Stream(body) => body.is_end_stream(),
            Source::Parked => false,
            Source::Peeked(peeked) => peeked.at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.unframed.is_some() {
            return SizeHint::default();
        }
        let again = len(&self.again);
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(again, len)),
            Source::Stream(body) => longer(again, &body.size_hint()),
            Source::Parked => match &self.pace {
                Some(pace) => {
                    pace.parked().as_ref().map(|body| body.size_hint()).unwrap_or_default()
                }
                None => SizeHint::default(),
            },
            Source::Peeked(peeked) => longer(again, &peeked.size_hint()),
        }
    }
}

/// A body that nobody needs any more: where its try failed, the next has it.
impl Drop for UpBody {
    fn drop(&mut self) {
        let Some(pace) = self.pace.take() else { return };
        // Of what waits there may be another.
        if !matches!(self.source, Source::Parked) {
            pace.gone.store(true, Ordering::Relaxed);
            pace.goes.wake();
        }
        if pace.over.load(Ordering::Relaxed) {
            return;
        }
        if let Some(kept) = &mut *pace.kept() {
            let source = std::mem::replace(&mut self.source, Source::Whole(None));
            let mut body = Self::of(source, None);
            (body.without, body.unframed) = (self.without.take(), self.unframed.take());
            kept.give_back(body);
        }
    }
}

/// What a body is known to have, with `more` before it.
fn longer(more: u64, rest: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(more.saturating_add(rest.lower()));
    if let Some(upper) = rest.upper() {
        hint.set_upper(more.saturating_add(upper));
    }
    hint
}

impl Peeked {
    fn at_end(&self) -> bool {
        self.first.is_empty()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = len(&self.first);
        match &self.rest {
            None => SizeHint::with_exact(first),
            Some(rest) => longer(first, &rest.size_hint()),
        }
    }
}
