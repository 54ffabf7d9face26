//! An answer's body: as it comes, or decoded and scrubbed on the way.

use super::decode::{Coding, DecodeError, Decoder};
use super::messages::Messages;
use crate::secret::{Scrubber, Watchlist};
use crate::upstream::http::{HttpError, Received};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;

/// The most that is decoded at a time, in bytes that came.
const PIECE: usize = 4 * 1024;

/// An answer's body.
#[derive(Debug)]
pub(crate) enum Answer {
    /// As it comes.
    Plain(Received),
    /// Scrubbed.
    Scrubbed(Box<Scrubbed>),
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The origin's connection.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It can't be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A body that is scrubbed.
#[derive(Debug)]
pub(crate) struct Scrubbed {
    body: Received,
    decoder: Option<Decoder>,
    _room: Option<OwnedSemaphorePermit>,
    known: Watchlist,
    /// The body is one of messages, each of which leaves when it came.
    messages: Option<Messages>,
    scrubber: Scrubber,
    /// What came and was not decoded yet.
    came: Bytes,
    /// The decoder may have more without more coming.
    more: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    Data,
    Trailers(HeaderMap),
    End,
}

impl Answer {
    /// `room` is what the decoder has of the sandbox's, for as long as it is there.
    pub(super) fn scrubbed(
        body: Received,
        (coding, room): (Coding, Option<OwnedSemaphorePermit>),
        known: Watchlist,
    ) -> Self {
        Self::Scrubbed(Box::new(Scrubbed {
            body,
            decoder: Decoder::new(coding),
            _room: room,
            scrubber: Scrubber::new(known.needles()),
            known,
            messages: None,
            came: Bytes::new(),
            more: false,
            at: At::Data,
        }))
    }

    /// The same for a body of gRPC messages, which say how long they and their parts are.
    pub(super) fn in_messages(self) -> Self {
        match self {
            Self::Scrubbed(scrubbed) => Self::Scrubbed(Box::new(Scrubbed {
                messages: Some(Messages::default()),
                scrubber: scrubbed.scrubber.counting(),
                ..*scrubbed
            })),
            Self::Plain(_) => self,
        }
    }

    pub(crate) fn plain(body: Received) -> Self {
        Self::Plain(body)
    }
}

impl Scrubbed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        loop {
            match std::mem::replace(&mut self.at, At::End) {
                At::End => return Poll::Ready(None),
                At::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                At::Data => self.at = At::Data,
            }
            while !self.came.is_empty() || self.more {
                let out = match self.decode() {
                    Ok(out) => out,
                    Err(error) => return self.fail(error.into()),
                };
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(out))));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return self.fail(error.into()),
                None => match self.finish(None) {
                    Ok(last) if last.is_empty() => continue,
                    Ok(last) => return Poll::Ready(Some(Ok(Frame::data(last)))),
                    Err(error) => return self.fail(error.into()),
                },
            };
            match frame.into_data() {
                Ok(data) => self.came = data,
                Err(frame) => match self.finish(frame.into_trailers().ok()) {
                    Ok(last) if last.is_empty() => {}
                    Ok(last) => return Poll::Ready(Some(Ok(Frame::data(last)))),
                    Err(error) => return self.fail(error.into()),
                },
            }
        }
    }

    /// One step of what came, scrubbed.
    fn decode(&mut self) -> Result<Bytes, DecodeError> {
        self.scrubber.renew(&self.known.needles());
        let Some(decoder) = &mut self.decoder else {
            let came = std::mem::take(&mut self.came);
            return Ok(self.pushed(came));
        };
        let piece = &self.came[..self.came.len().min(PIECE)];
        let mut out = Vec::new();
        let taken = decoder.step(piece, &mut out)?;
        // It neither takes nor makes anything: it waits for what has not come.
        let stuck = taken == 0 && out.is_empty();
        if stuck && !self.came.is_empty() {
            return Err(DecodeError::Malformed);
        }
        self.came.advance(taken);
        self.more = !stuck && !out.is_empty();
        Ok(if out.is_empty() { Bytes::new() } else { self.scrubber.push(out.into()) })
    }

    /// What may leave now that `data` came as it is.
    fn pushed(&mut self, mut data: Bytes) -> Bytes {
        let end = self.messages.as_mut().and_then(|messages| messages.ended(&data));
        let Some(end) = end else { return self.scrubber.push(data) };
        let mut out = BytesMut::from(self.scrubber.push(data.split_to(end)));
        out.extend_from_slice(&self.scrubber.finish());
        out.extend_from_slice(&self.scrubber.push(data));
        out.freeze()
    }

    /// The end of the body: what was held back, if it may end here.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, DecodeError> {
        if self.decoder.as_ref().is_some_and(|decoder| !decoder.may_end()) {
            return Err(DecodeError::Truncated);
        }
        let needles = self.known.needles();
        self.scrubber.renew(&needles);
        self.at = match trailers {
            Some(mut trailers) => {
                super::fields(&mut trailers, &needles);
                At::Trailers(trailers)
            }
            None => At::End,
        };
        Ok(self.scrubber.finish())
    }

    fn fail(&mut self, error: Unread) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        self.at = At::End;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Unread;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx).map_err(Unread::Http),
            Self::Scrubbed(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Scrubbed(body) => matches!(body.at, At::End),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Scrubbed(_) => SizeHint::default(),
        }
    }
}
