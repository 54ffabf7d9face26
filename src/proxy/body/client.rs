//! A request body as its client sends it, in any version of HTTP.

use super::super::http2::{RequestBody, Stream};
use super::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request body as its client sends it.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// HTTP/1.
    Http1(Incoming),
    /// HTTP/1, when it has broken off: hyper says so once, and tells whoever asks again that the
    /// body is at its end.
    Broken {
        /// The client has gone; otherwise what it sends is malformed.
        left: bool,
    },
    /// HTTP/2.
    Http2(RequestBody),
    /// A CONNECT of HTTP/2, which has none (RFC 9113 §8.5).
    None(Arc<Stream>),
}

impl ClientBody {
    /// The HTTP/2 stream that it comes on.
    pub(crate) fn stream(&self) -> Option<&Arc<Stream>> {
        match self {
            Self::Http1(_) | Self::Broken { .. } => None,
            Self::Http2(body) => Some(body.stream()),
            Self::None(stream) => Some(stream),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Http1(body) => {
                let polled = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(polled.map(|frame| {
                    frame.map_err(|error| {
                        *this = Self::Broken { left: super::has_left(&error) };
                        BodyError::Hyper(error)
                    })
                }))
            }
            Self::Broken { left } => Poll::Ready(Some(Err(BodyError::Broken { left: *left }))),
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyError::Http2),
            Self::None(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Broken { .. } => false,
            Self::Http2(body) => body.is_end_stream(),
            Self::None(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Broken { .. } => SizeHint::default(),
            Self::Http2(body) => body.size_hint(),
            Self::None(_) => SizeHint::with_exact(0),
        }
    }
}
