//! A body into an HTTP/2 stream, as fast as the other end takes it (RFC 9113 §5.2).

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

/// A body that may be taken back while it waits for the other end to take more.
pub trait Revocable: Body<Data = Bytes> {
    /// Ready when nothing more of it is to go: the stream is then cancelled.
    fn poll_revoked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// Why a body stopped before its end.
#[derive(Debug)]
pub enum Stopped {
    /// It failed itself; the stream was reset.
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The other end wants no more of it, or it was taken back.
    Stream,
}

/// Sends all of `body`. Where it fails itself, or is taken back, its stream is reset with `broken`.
pub async fn pipe<B>(body: B, stream: &mut SendStream<Bytes>, broken: Reason) -> Result<(), Stopped>
where
    B: Revocable,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = pin!(body);
    loop {
        let next = std::future::poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Stream));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        });
        let frame = match next.await? {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                stream.send_reset(broken);
                return Err(Stopped::Body(error.into()));
            }
            None => return sent(stream.send_data(Bytes::new(), true)),
        };
        match frame.into_data() {
            Ok(mut data) => {
                let last = body.is_end_stream();
                while !data.is_empty() {
                    let room = room(stream, body.as_mut(), (data.len(), broken)).await?;
                    let piece = data.split_to(room.min(data.len()));
                    sent(stream.send_data(piece, last && data.is_empty()))?;
                    if last && data.is_empty() {
                        return Ok(());
                    }
                }
                if last {
                    return sent(stream.send_data(data, true));
                }
            }
            Err(frame) => {
                stream.reserve_capacity(0);
                return sent(stream.send_trailers(frame.into_trailers().unwrap_or_default()));
            }
        }
    }
}

/// Waits until the other end takes more of this stream, and says how much. Asked for when there is
/// something to send: what is reserved is taken from the other streams of the connection. No more is
/// given to `h2` than the window takes: what waits there for the window is lost in a reset.
async fn room(
    stream: &mut SendStream<Bytes>,
    mut body: Pin<&mut impl Revocable>,
    (most, broken): (usize, Reason),
) -> Result<usize, Stopped> {
    stream.reserve_capacity(most);
    std::future::poll_fn(|cx| {
        if body.as_mut().poll_revoked(cx).is_ready() {
            stream.send_reset(broken);
            return Poll::Ready(Err(Stopped::Stream));
        }
        while stream.capacity() == 0 {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Stream));
            }
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Stopped::Stream)),
            }
        }
        Poll::Ready(Ok(stream.capacity()))
    })
    .await
}

fn sent(sent: Result<(), h2::Error>) -> Result<(), Stopped> {
    sent.map_err(|_| Stopped::Stream)
}
