//! Bodies in both directions: counted, bounded in time, cut when they must end.
//!
//! [`UpBody`] goes to the origin, [`DownBody`] to the client. The end of a [`DownBody`] closes the
//! record and gives the connection back.

use super::gate::Serving;
use super::inference::Tee;
use super::inject::Unframed;
use super::live::{End, Live};
use super::open::OpenRecord;
use super::sandbox::Sandbox;
use super::scrub::{Answer, DecodeError, Unread};
use crate::policy::Code;
use crate::record::Outcome;
use crate::upstream::pool::{Connection, Key, Pool};
use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side's connection.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// It can't be looked through for what must not reach the client.
    #[error(transparent)]
    Unread(DecodeError),
    /// Cut by the gateway.
    #[error("ended by the gateway: {}", .0.as_str())]
    Cut(Code),
    /// Its record is closed; an HTTP/2 origin hears that the stream was cancelled.
    #[error("its answer is over")]
    Over(#[source] h2::Error),
}

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
    Stream(Incoming),
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
    pub(crate) rest: Option<Incoming>,
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
    /// The client waits for `100 Continue`, and so does the body.
    waits: AtomicBool,
    /// The body that waits: it can still go up with another try.
    parked: Mutex<Option<Box<Incoming>>>,
    /// Its record is closed: nothing more goes up.
    over: AtomicBool,
    waker: AtomicWaker,
    /// How long the origin may take after the last byte that went up.
    patience: Duration,
}

const STOPS: [Code; 2] = [Code::BodyTooLarge, Code::UploadLimit];

impl From<Unread> for BodyError {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Hyper(error) => Self::Hyper(error),
            Unread::Decode(error) => Self::Unread(error),
        }
    }
}

impl BodyError {
    /// What the record of an answer that broke off says.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Hyper(_) | Self::Over(_) => Code::UpstreamClosed,
            Self::Unread(_) => Code::UpstreamProtocol,
            Self::Cut(code) => *code,
        }
    }
}

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

    /// Lets a waiting body go: the origin said 100, or took too long to say anything.
    pub(crate) fn go(&self) {
        if self.waits.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    fn parked(&self) -> MutexGuard<'_, Option<Box<Incoming>>> {
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
pub(crate) struct Upload(Arc<Pace>);

impl Upload {
    pub(crate) fn of(pace: &Arc<Pace>) -> Self {
        Self(pace.clone())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.0.live.sent_all.load(Ordering::Relaxed) {
            self.0.over.store(true, Ordering::Relaxed);
            self.0.waker.wake();
        }
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
    pub(crate) fn stream(body: Incoming, pace: Arc<Pace>) -> Self {
        Self { source: Source::Stream(body), pace: Some(pace), without: None, unframed: None }
    }

    /// The client's body, which is not asked for before [`Pace::go`].
    pub(crate) fn park(body: Incoming, pace: &Arc<Pace>) {
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
        super::headers::clean_trailers(trailers);
        let Some(without) = without else { return };
        let own = |name: &&HeaderName| without.iter().any(|other| super::inject::same(name, other));
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
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
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

fn len(bytes: &Bytes) -> u64 {
    bytes.remaining() as u64
}

/// A response body on its way to the client.
#[derive(Debug)]
pub(crate) struct DownBody {
    down: Down,
    /// Says that the response has left when it is dropped.
    serving: Option<Serving>,
}

#[derive(Debug)]
enum Down {
    Whole(Option<Bytes>),
    Stream(Box<Streaming>),
}

/// An origin's response under way.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) body: Answer,
    /// A frame that was read ahead, so that head and body leave in one write.
    pub(crate) first: Option<Frame<Bytes>>,
    /// The origin broke off, and the client is to hear of it at the next turn.
    pub(crate) broken: Option<BodyError>,
    pub(crate) open: Option<OpenRecord>,
    pub(crate) lease: Option<Lease>,
    /// What may still go up meanwhile.
    pub(crate) upload: Option<Upload>,
    pub(crate) idle: Duration,
    /// Reads along, where it is a model's answer.
    pub(crate) tee: Option<Box<Tee>>,
    /// Trailers reach the client: h2, or an h1 client that said `TE: trailers`.
    pub(crate) trailers: bool,
    pub(crate) done: bool,
}

/// The connection that a response comes on: given back at its end, closed if it is dropped before.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool<UpBody>>,
    pub(crate) key: Key,
    pub(crate) connection: Connection<UpBody>,
}

impl DownBody {
    /// A body that is there as a whole.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { down: Down::Whole(Some(bytes)), serving: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { down: Down::Whole(None), serving: None }
    }

    /// An origin's body.
    pub(crate) fn stream(streaming: Box<Streaming>) -> Self {
        Self { down: Down::Stream(streaming), serving: None }
    }
}

impl DownBody {
    /// The body of the response to `serving`.
    pub(crate) fn with(mut self, serving: Serving) -> Self {
        self.serving = Some(serving);
        self
    }
}

impl Streaming {
    /// Whether nothing follows the head or the frame read ahead.
    fn at_end(&self) -> bool {
        let held = self.tee.as_ref().is_some_and(|tee| tee.holds());
        self.done || (self.first.is_none() && !held && self.body.is_end_stream())
    }

    /// Reads a first frame ahead if it comes within a turn or two of the runtime.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.first = Some(frame),
            Poll::Ready(Some(Err(error))) => self.broken = Some(error.into()),
            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Why the origin broke off before the client got anything, if it did.
    pub(crate) fn broke(&mut self) -> Option<BodyError> {
        let error = self.broken.take()?;
        self.fail(error.code());
        Some(error)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(error) = self.broke() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(open) = &self.open
            && let Some(watch) = open.watch()
        {
            // A body that always has more to give would never be seen to wait.
            if let Some(end) = watch.live().must_end() {
                return Poll::Ready(Some(Err(self.cut(end))));
            }
            if watch.live().draft_due() {
                open.draft();
            }
        }
        let frame = match self.first.take() {
            Some(frame) => Some(Ok(frame)),
            None => match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.poll_cut(cx),
            },
        };
        match frame {
            None => {
                let rest = self.rest();
                self.finish();
                Poll::Ready(rest.map(Ok))
            }
            Some(Err(error)) => {
                // hyper drops what it has not written when a body fails: a turn lets that leave.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(frame)) => Poll::Ready(self.pass(frame).map(Ok)),
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let frame = match frame.into_data() {
            Ok(data) => {
                let data = match &mut self.tee {
                    Some(tee) => tee.read(data, self.body.is_end_stream()),
                    None => data,
                };
                if let Some(open) = &mut self.open {
                    open.record().download += data.len() as u64;
                    if let Some(watch) = open.watch() {
                        watch.due(self.idle);
                    }
                }
                Frame::data(data)
            }
            Err(frame) => {
                let mut trailers: HeaderMap = frame.into_trailers().unwrap_or_default();
                super::headers::clean_trailers(&mut trailers);
                let rest = self.rest();
                self.finish();
                if rest.is_some() {
                    return rest;
                }
                if !self.trailers || trailers.is_empty() {
                    return None;
                }
                return Some(Frame::trailers(trailers));
            }
        };
        if self.body.is_end_stream() {
            self.finish();
        }
        Some(frame)
    }

    /// Nothing to read yet: is there a reason to stop waiting?
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(watch) = self.open.as_ref().and_then(OpenRecord::watch) else {
            return Poll::Pending;
        };
        let end = ready!(watch.live().poll_cut(cx));
        Poll::Ready(Some(Err(self.cut(end))))
    }

    fn cut(&mut self, end: End) -> BodyError {
        let code = end.code();
        self.fail(code);
        BodyError::Cut(code)
    }

    /// What was held back of a model's answer, at its end. There are no trailers behind it.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        let rest = self.tee.as_mut().map(|tee| tee.rest()).unwrap_or_default();
        (!rest.is_empty()).then(|| Frame::data(rest))
    }

    /// What was read along is noted before the record closes.
    fn settle(&mut self) {
        if let (Some(tee), Some(open)) = (self.tee.take(), &mut self.open) {
            tee.note(open.record());
        }
    }

    fn finish(&mut self) {
        self.done = true;
        self.settle();
        let sent_all = self
            .open
            .as_ref()
            .and_then(OpenRecord::watch)
            .is_none_or(|watch| watch.live().sent_all.load(Ordering::Relaxed));
        if let Some(lease) = self.lease.take()
            && sent_all
        {
            lease.pool.give_back(lease.key, lease.connection);
        }
        self.upload = None;
        if let Some(open) = self.open.take() {
            open.close(Outcome::Passed);
        }
    }

    fn fail(&mut self, code: Code) {
        self.done = true;
        self.settle();
        self.lease = None;
        self.upload = None;
        if let Some(open) = self.open.take() {
            open.fail(code);
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if !self.done && self.at_end() {
            self.finish();
        }
        self.settle();
    }
}

impl Body for DownBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().down {
            Down::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Down::Stream(streaming) => streaming.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.down {
            Down::Whole(bytes) => bytes.is_none(),
            Down::Stream(streaming) => streaming.at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.down {
            Down::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, len)),
            Down::Stream(streaming) if streaming.tee.as_ref().is_some_and(|t| t.scrubs()) => {
                SizeHint::default()
            }
            Down::Stream(streaming) => match (&streaming.first, streaming.body.size_hint().exact())
            {
                (Some(first), Some(rest)) => {
                    let first = first.data_ref().map_or(0, len);
                    SizeHint::with_exact(first + rest)
                }
                (None, Some(rest)) => SizeHint::with_exact(rest),
                (_, None) => SizeHint::default(),
            },
        }
    }
}
