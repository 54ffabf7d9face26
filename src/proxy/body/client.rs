//! A request body as its client sends it, in any version of HTTP.

use super::super::http2::{RequestBody, Stream};
use super::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A request body as its client sends it.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// HTTP/1.
    Http1(Incoming),
    /// HTTP/2.
    Http2(RequestBody),
    /// A CONNECT of HTTP/2, which has none (RFC 9113 §8.5).
    None(Arc<Stream>),
}

impl ClientBody {
    /// The HTTP/2 stream that it comes on.
    pub(crate) fn stream(&self) -> Option<&Arc<Stream>> {
        match self {
            Self::Http1(_) => None,
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
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Hyper),
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyError::Http2),
            Self::None(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::None(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::None(_) => SizeHint::with_exact(0),
        }
    }
}
