//! A response body on its way to the client.

use super::super::gate::Serving;
use super::super::inference::Tee;
use super::super::live::End;
use super::super::open::OpenRecord;
use super::super::scrub::Answer;
use super::{BodyError, UpBody, Upload, len};
use crate::policy::Code;
use crate::record::Outcome;
use crate::upstream::http2::Revocable;
use crate::upstream::pool::{Connection, Key, Pool};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// A response body on its way to the client.
#[derive(Debug)]
pub(crate) struct DownBody {
    down: Down,
    /// Says that the response has left when it is dropped.
    serving: Option<Serving>,
    /// How long the last of it still waits for its client.
    patience: Option<Pin<Box<Sleep>>>,
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
        Self { down: Down::Whole(Some(bytes)), serving: None, patience: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { down: Down::Whole(None), serving: None, patience: None }
    }

    /// An origin's body.
    pub(crate) fn stream(streaming: Box<Streaming>) -> Self {
        Self { down: Down::Stream(streaming), serving: None, patience: None }
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
        self.done || (self.first.is_none() && !held && self.ended())
    }

    /// Whether all that was announced has gone on, though the origin has not said that it is over: who
    /// counts bytes asks for no more.
    fn is_whole(&self) -> bool {
        let held = self.tee.as_ref().is_some_and(|tee| tee.holds());
        self.first.is_none() && !held && self.body.size_hint().exact() == Some(0)
    }

    /// Whether the origin has said all that it announced.
    fn ended(&self) -> bool {
        self.body.is_end_stream() && !self.is_short()
    }

    /// Whether more was announced than came. Where not a byte came there may have been nothing to
    /// come: the length is that of what a GET would have brought (RFC 9110 §8.6).
    fn is_short(&self) -> bool {
        let came = self.open.as_ref().is_some_and(|open| open.download() > 0);
        came && self.body.size_hint().exact().is_some_and(|rest| rest > 0)
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
            // HTTP/2 has an end that is none (RFC 9113 §8.1).
            None if self.is_short() => {
                self.broken = Some(BodyError::Cut(Code::UpstreamClosed));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                let rest = self.rest();
                self.finish();
                Poll::Ready(rest.map(Ok))
            }
            Some(Err(error)) => {
                // What was not written is dropped when a body fails: a turn lets that leave.
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
                super::super::headers::clean_trailers(&mut trailers);
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
        if self.ended() {
            self.finish();
        }
        Some(frame)
    }

    /// The client takes no more yet: is there a reason to stop waiting?
    fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(open) = &self.open else { return Poll::Pending };
        let Some(watch) = open.watch() else { return Poll::Pending };
        if watch.live().draft_due() {
            open.draft();
        }
        let end = ready!(watch.live().poll_cut(cx));
        self.fail(end.code());
        Poll::Ready(())
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
    fn settle(&mut self, broke: Option<Code>) {
        if let (Some(tee), Some(open)) = (self.tee.take(), &mut self.open) {
            tee.note(open.record(), broke);
        }
    }

    fn finish(&mut self) {
        self.done = true;
        self.settle(None);
        let sent_all = self
            .open
            .as_ref()
            .and_then(OpenRecord::watch)
            .is_none_or(|watch| watch.live().sent_all.load(Ordering::Relaxed));
        if sent_all && let Some(lease) = self.lease.take() {
            lease.pool.give_back(lease.key, lease.connection);
        }
        match (self.upload.take(), self.open.take()) {
            (Some(upload), Some(open)) => upload.answered(open, self.lease.take()),
            (_, Some(open)) => open.close(Outcome::Passed),
            (_, None) => {}
        }
    }

    fn fail(&mut self, code: Code) {
        // Where the gateway ended the request's body, the rest follows from that.
        let code = self.upload.as_ref().and_then(Upload::stopped).unwrap_or(code);
        self.done = true;
        self.settle(Some(code));
        self.lease = None;
        self.upload = None;
        if let Some(open) = self.open.take() {
            open.fail(code);
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(error) = self.broken.take() {
            // The turn in which the client would have heard of it did not come.
            self.fail(error.code());
        } else if !self.done && (self.at_end() || self.is_whole()) {
            self.finish();
        }
        self.settle(None);
    }
}

impl Revocable for DownBody {
    fn poll_revoked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Down::Stream(streaming) = &mut this.down
            && !streaming.done
        {
            return streaming.poll_revoked(cx);
        }
        // The last of it, whose record is closed.
        let Some(serving) = &this.serving else { return Poll::Pending };
        let idle = || Box::pin(tokio::time::sleep(serving.idle()));
        this.patience.get_or_insert_with(idle).as_mut().poll(cx)
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
