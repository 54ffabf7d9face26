//! A request body on its way to the origin.

use super::super::inject::{self, Unframed};
use super::super::live::Live;
use super::super::sandbox::Sandbox;
use super::{BodyError, ClientBody, len};
use crate::policy::Code;
use crate::upstream::http2::Revocable;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A request body on its way to the origin.
#[derive(Debug)]
pub(crate) struct UpBody {
    source: Source,
    pace: Option<Arc<Pace>>,
    /// Fields that its trailers may not have: their headers hold what the gateway put there.
    without: Option<Box<[HeaderName]>>,
    /// It comes in chunks that the client signed, and goes up without them.
    unframed: Option<Box<Unframed>>,
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

/// What the road and the body going up tell each other.
#[derive(Debug)]
pub(crate) struct Pace {
    live: Arc<Live>,
    sandbox: Arc<Sandbox>,
    limit: Option<u64>,
    /// The limit that stopped it, as an index into [`STOPS`] plus 1.
    stopped: AtomicU8,
    /// The body was polled: from here on the request can't be sent again.
    polled: AtomicBool,
    /// The origin's connection would take more of it, and the client has sent no more.
    starved: AtomicBool,
    /// The origin sent an interim response.
    heard: AtomicBool,
    /// The client waits for `100 Continue`, and so does the body.
    waits: AtomicBool,
    /// The body that waits: it can still go up with another try.
    parked: Mutex<Option<Box<ClientBody>>>,
    /// Its record is closed: nothing more goes up.
    over: AtomicBool,
    waker: AtomicWaker,
    /// How long the origin may take after the last byte that went up.
    patience: Duration,
}

const STOPS: [Code; 2] = [Code::BodyTooLarge, Code::UploadLimit];

impl Pace {
    pub(crate) fn new(
        live: Arc<Live>,
        sandbox: Arc<Sandbox>,
        waits: bool,
        patience: Duration,
    ) -> Arc<Self> {
        let limit = sandbox.settings().limits.request_body;
        Arc::new(Self {
            live,
            sandbox,
            limit,
            stopped: AtomicU8::new(0),
            polled: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            waits: AtomicBool::new(waits),
            parked: Mutex::new(None),
            over: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            patience,
        })
    }

    /// The limit that stopped the body, if one did.
    pub(crate) fn stopped(&self) -> Option<Code> {
        STOPS.get(usize::from(self.stopped.load(Ordering::Relaxed)).wrapping_sub(1)).copied()
    }

    /// Whether any of the body was asked for.
    pub(crate) fn polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// Whether the client is the one who is waited for.
    pub(crate) fn starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// The origin has said something before its answer.
    pub(crate) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(crate) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Lets a waiting body go: the origin said 100, or took too long to say anything.
    pub(crate) fn go(&self) {
        if self.waits.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    fn parked(&self) -> MutexGuard<'_, Option<Box<ClientBody>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, bytes: u64) -> Result<(), BodyError> {
        let before = self.live.upload.fetch_add(bytes, Ordering::Relaxed);
        self.live.extend(self.patience);
        let over = self.limit.is_some_and(|limit| before + bytes > limit);
        let stop = if over { Some(0) } else { self.sandbox.take_upload(bytes).err().map(|_| 1) };
        match stop {
            None => Ok(()),
            Some(which) => {
                self.stopped.store(which + 1, Ordering::Relaxed);
                Err(BodyError::Cut(STOPS[usize::from(which)]))
            }
        }
    }
}

/// A request body for as long as its record is open: what did not go up by then never does.
#[derive(Debug)]
pub(crate) struct Upload {
    pace: Arc<Pace>,
    /// Its answer came whole: what was handed on of the body may still leave.
    answered: bool,
}

impl Upload {
    pub(crate) fn of(pace: &Arc<Pace>) -> Self {
        Self { pace: pace.clone(), answered: false }
    }

    /// Ends it with its answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.answered || !self.pace.live.sent_all.load(Ordering::Relaxed) {
            self.pace.over.store(true, Ordering::Relaxed);
            self.pace.waker.wake();
        }
    }
}

impl Revocable for UpBody {
    fn poll_revoked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pace) = &self.pace else { return Poll::Pending };
        pace.waker.register(cx.waker());
        if pace.over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl UpBody {
    /// No body, or one that was read to judge.
    pub(crate) fn whole(bytes: Bytes, pace: Option<Arc<Pace>>) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        let body = Self { source: Source::Whole(bytes), pace, without: None, unframed: None };
        if body.is_end_stream() {
            // hyper does not poll a body that is at its end.
            body.finished();
        }
        body
    }

    /// The client's body as it comes.
    pub(crate) fn stream(body: ClientBody, pace: Arc<Pace>) -> Self {
        Self { source: Source::Stream(body), pace: Some(pace), without: None, unframed: None }
    }

    /// The client's body, which is not asked for before [`Pace::go`].
    pub(crate) fn park(body: ClientBody, pace: &Arc<Pace>) {
        *pace.parked() = Some(Box::new(body));
    }

    /// What was parked. Of several of these the first that is let go has it.
    pub(crate) fn parked(pace: Arc<Pace>) -> Self {
        Self { source: Source::Parked, pace: Some(pace), without: None, unframed: None }
    }

    /// The client's body, whose beginning was read.
    pub(crate) fn peeked(peeked: Box<Peeked>, pace: Arc<Pace>) -> Self {
        Self { source: Source::Peeked(peeked), pace: Some(pace), without: None, unframed: None }
    }

    /// The same, with none of these fields among its trailers, in any spelling.
    pub(crate) fn without(mut self, names: Vec<HeaderName>) -> Self {
        self.without = (!names.is_empty()).then(|| names.into());
        self
    }

    /// The same, taken out of its signed chunks where `unframed`.
    pub(crate) fn unframed(mut self, unframed: bool) -> Self {
        self.unframed = unframed.then(Box::default);
        self
    }

    /// A piece as it goes up.
    fn shaped(
        unframed: &mut Option<Box<Unframed>>,
        piece: Bytes,
    ) -> Result<Frame<Bytes>, BodyError> {
        let piece = match unframed {
            None => Some(piece),
            Some(unframed) => unframed.push(piece),
        };
        piece.map(Frame::data).ok_or(BodyError::Cut(Code::BadFraming))
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
            return Some(counted.and_then(|()| Self::shaped(&mut self.unframed, first)));
        }
        if let Some(mut trailers) = peeked.trailers.take() {
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
        let Source::Stream(body) = &mut this.source else {
            let Source::Whole(bytes) = &mut this.source else { return Poll::Ready(None) };
            let bytes = bytes.take();
            if let (Some(bytes), Some(pace)) = (&bytes, &this.pace) {
                pace.polled.store(true, Ordering::Relaxed);
                pace.count(bytes.len() as u64)?;
            }
            this.finished();
            return Poll::Ready(bytes.map(|b| Ok(Frame::data(b))));
        };
        let Some(pace) = &this.pace else { return Poll::Ready(None) };
        pace.polled.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut *body).poll_frame(cx);
        pace.starved.store(polled.is_pending(), Ordering::Relaxed);
        match ready!(polled) {
            None => {
                this.finished();
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    pace.count(data.len() as u64)?;
                    if body.is_end_stream() {
                        pace.live.sent_all.store(true, Ordering::Relaxed);
                    }
                    Poll::Ready(Some(Self::shaped(&mut this.unframed, data)))
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    Self::clean(this.without.as_deref(), &mut trailers);
                    // Nothing is polled behind trailers.
                    this.finished();
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
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
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, len)),
            Source::Stream(body) => body.size_hint(),
            Source::Parked => match &self.pace {
                Some(pace) => {
                    pace.parked().as_ref().map(|body| body.size_hint()).unwrap_or_default()
                }
                None => SizeHint::default(),
            },
            Source::Peeked(peeked) => peeked.size_hint(),
        }
    }
}

impl Peeked {
    fn at_end(&self) -> bool {
        self.first.is_empty()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = len(&self.first);
        let Some(rest) = &self.rest else { return SizeHint::with_exact(first) };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(first.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(first.saturating_add(upper));
        }
        hint
    }
}
