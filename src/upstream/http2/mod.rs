//! HTTP/2 connections to origins (RFC 9113): many requests share one.
//!
//! Stands on `h2` itself: a request is sent and its answer awaited in the task of whoever asks, and
//! only what is left of its body when the answer begins gets a task of its own.

mod answer;
mod life;
mod pipe;

pub use answer::Answer;
pub use pipe::{Revocable, Stopped, pipe};

use super::http::{HttpError, UpstreamIo, Windows, unsaid_length};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use life::{Found, Life};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Streams on one connection before another is opened, where the origin takes as many.
pub(super) const STREAMS: usize = 100;

/// How many streams `h2` would begin before the origin has said how many it takes: no number that an
/// origin says, and so a sign that it has not.
const UNSETTLED: usize = usize::MAX - 1;

/// What an origin's small DATA frames may take beside their bytes, in windows of the connection: `h2` counts
/// 256 bytes for each that nobody has read, and ends the connection with all that share it.
const FRAMING: usize = 2;

/// Streams that were cancelled are remembered, so many and so long: what an origin had sent of them by
/// then still comes, and is no error of its.
const RESET: usize = 1_000;
const RESET_FOR: Duration = Duration::from_secs(10);
/// Frames for streams that are forgotten, before the connection ends; and cancelled streams, before it
/// gets no new ones.
const LATE: usize = 100_000;
const WORN: usize = 10_000;

/// The longest header list of an answer: as long as HTTP/1.1's, and 32 bytes for each field (RFC 9113
/// §6.5.2).
const HEAD: u32 = 104 * 1024;

/// What is left of a request's body when its answer begins.
pub type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that requests share.
#[derive(Clone)]
pub struct Channel {
    h2: h2::client::SendRequest<Bytes>,
    state: Arc<State>,
}

/// The right to send one request on a connection; its stream counts until this is dropped, and until
/// the rest of its body has gone.
pub struct SendRequest {
    channel: Channel,
    #[expect(dead_code, reason = "held for its drop")]
    place: Place,
}

/// A stream that counts until this is dropped.
struct Place(Arc<State>);

struct State {
    closed: AtomicBool,
    /// Cancelled when the origin's SETTINGS are there, or nothing more will come.
    settled: CancellationToken,
    streams: AtomicUsize,
    /// The origin was heard since this was last looked at.
    heard: AtomicBool,
    /// Bytes of answers that were read on.
    read: AtomicU64,
    /// Answers whose clients did not take more when there was more.
    held_up: AtomicUsize,
    /// Answers that nobody wanted to the end.
    cancelled: AtomicUsize,
    spawn: Box<dyn Fn(Rest) + Send + Sync>,
}

/// Called with each interim response (RFC 9110 §15.2) to a request.
#[derive(Clone)]
pub struct OnInterim(Arc<Hear>);

type Hear = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;

/// The HTTP/2 handshake over `io`. The second value carries the connection: it must be polled until it
/// ends. `spawn` runs what is left of request bodies.
pub(super) async fn handshake(
    mut io: UpstreamIo,
    windows: Windows,
    spawn: Box<dyn Fn(Rest) + Send + Sync>,
) -> Result<(SendRequest, impl Future<Output = Result<(), HttpError>> + Send), HttpError> {
    // h2 writes the preface by itself: it leaves with the SETTINGS and the first request.
    io.cork();
    let (h2, mut connection) = h2::client::Builder::new()
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_send_buffer_size(64 * 1024)
        .max_header_list_size(HEAD)
        .initial_max_send_streams(UNSETTLED)
        .data_frame_budget(FRAMING * windows.connection as usize)
        .max_concurrent_reset_streams(RESET)
        .reset_stream_duration(RESET_FOR)
        .max_local_error_reset_streams(Some(LATE))
        .enable_push(false)
        .handshake::<_, Bytes>(io)
        .await?;
    let state = Arc::new(State {
        closed: AtomicBool::new(false),
        settled: CancellationToken::new(),
        streams: AtomicUsize::new(0),
        heard: AtomicBool::new(true),
        read: AtomicU64::new(0),
        held_up: AtomicUsize::new(0),
        cancelled: AtomicUsize::new(0),
        spawn,
    });
    let channel = Channel { h2, state: state.clone() };
    let mut life = connection.ping_pong().map(|pings| Life::new(pings, windows, state.clone()));
    let carried = async move {
        let mut unsettled = true;
        let ended = std::future::poll_fn(|cx| {
            match life.as_mut().map(|life| (life.poll(cx), life)) {
                Some((Poll::Ready(Found::Lost), _)) => {
                    tracing::debug!("an origin fell silent");
                    return Poll::Ready(Ok(()));
                }
                Some((Poll::Ready(Found::Narrow(wider)), life)) => {
                    // Fails while the last SETTINGS are not acknowledged: another round trip will do.
                    if connection.set_initial_window_size(wider.stream).is_ok() {
                        life.widened(wider);
                    }
                }
                Some((Poll::Pending, _)) | None => {}
            }
            let polled = Pin::new(&mut connection).poll(cx).map_err(HttpError::Http2);
            if unsettled && connection.max_concurrent_send_streams() != UNSETTLED {
                unsettled = false;
                state.settled.cancel();
            }
            polled
        })
        .await;
        state.closed.store(true, Ordering::Relaxed);
        state.settled.cancel();
        ended
    };
    Ok((SendRequest { place: Place::of(&channel.state), channel }, carried))
}

impl State {
    /// Whether anybody waits for the origin.
    fn waits(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }
}

impl Channel {
    /// A place for one more request, if there is one. Until the origin has said how many it takes there is
    /// none but for the request that it was opened for: what is too much would be refused (RFC 9113 §5.1.2).
    pub fn place(&self) -> Option<SendRequest> {
        let taken = self.h2.current_max_send_streams();
        if taken == UNSETTLED {
            return None;
        }
        let most = STREAMS.min(taken);
        let worn = self.state.cancelled.load(Ordering::Relaxed) >= WORN;
        if worn || self.state.streams.load(Ordering::Relaxed) >= most {
            return None;
        }
        Some(SendRequest { place: Place::of(&self.state), channel: self.clone() })
    }

    /// Whether nothing more can be sent on it.
    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Relaxed)
    }

    /// Cancelled when the origin has said how many streams it takes.
    pub fn settled(&self) -> &CancellationToken {
        &self.state.settled
    }

    /// How many of its answers wait for clients that take no more: what they don't take fills the
    /// window that all share (RFC 9113 §5.2.1).
    pub fn held_up(&self) -> usize {
        self.state.held_up.load(Ordering::Relaxed)
    }

    /// Whether there is a request on it.
    pub fn is_busy(&self) -> bool {
        self.state.waits()
    }
}

impl SendRequest {
    /// The connection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Whether it can be sent on: an origin that is about to close takes no more.
    pub async fn ready(&mut self) -> Result<(), HttpError> {
        let ready = std::future::poll_fn(|cx| self.channel.h2.poll_ready(cx)).await;
        if ready.is_err() {
            self.channel.state.closed.store(true, Ordering::Relaxed);
        }
        Ok(ready?)
    }

    /// Sends `request` and awaits the head of its answer; the body goes up meanwhile, and on from there.
    pub(super) async fn send<B>(
        &mut self,
        request: Request<B>,
        interim: Option<&OnInterim>,
    ) -> Result<Response<Answer>, HttpError>
    where
        B: Revocable + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        if let Some(length) = unsaid_length(&head.method, &head.headers, &body) {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let whole = body.is_end_stream();
        let is_head = head.method == http::Method::HEAD;
        let (mut response, mut stream) =
            self.channel.h2.send_request(Request::from_parts(head, ()), whole)?;
        let mut upload = (!whole)
            .then(|| Box::pin(async move { pipe(body, &mut stream, Reason::CANCEL).await }));
        let response = std::future::poll_fn(|cx| {
            if let Some(going) = &mut upload {
                match going.as_mut().poll(cx) {
                    Poll::Ready(Err(Stopped::Body(error))) => {
                        return Poll::Ready(Err(HttpError::Body(error)));
                    }
                    Poll::Ready(_) => upload = None,
                    Poll::Pending => {}
                }
            }
            poll_response(&mut response, interim, cx).map_err(HttpError::Http2)
        })
        .await?;
        let state = &self.channel.state;
        state.heard.store(true, Ordering::Relaxed);
        let bare = is_head
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let announced = length(response.headers())?;
        let length = if bare { Some(0) } else { announced };
        if let Some(upload) = upload {
            let place = Place::of(state);
            (state.spawn)(Box::pin(async move {
                // The answer has begun: whatever becomes of the rest is no part of it.
                let _ = upload.await;
                drop(place);
            }));
        }
        Ok(response.map(|stream| Answer::new(stream, length, bare, state.clone())))
    }
}

impl Place {
    fn of(state: &Arc<State>) -> Self {
        state.streams.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn poll_response(
    response: &mut ResponseFuture,
    interim: Option<&OnInterim>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, h2::Error>> {
    if let Some(interim) = interim {
        while let Some(said) = ready!(response.poll_informational(cx)) {
            let said = said?;
            interim.hear(said.status(), said.headers());
        }
    }
    Pin::new(response).poll(cx)
}

/// How long an answer says that its body is; two lengths make it malformed (RFC 9113 §8.1.1).
fn length(fields: &HeaderMap) -> Result<Option<u64>, HttpError> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(None) };
    let malformed = || HttpError::Http2(Reason::PROTOCOL_ERROR.into());
    let digits = first.as_bytes().iter().all(u8::is_ascii_digit);
    let length = first.to_str().ok().filter(|_| digits).and_then(|text| text.parse().ok());
    if lengths.any(|other| other != first) {
        return Err(malformed());
    }
    length.map(Some).ok_or_else(malformed)
}

impl OnInterim {
    /// Calls `hear`.
    pub fn new(hear: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(super) fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        (self.0)(status, fields);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.state.streams.load(Ordering::Relaxed);
        f.debug_struct("Channel")
            .field("closed", &self.is_closed())
            .field("streams", &streams)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SendRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendRequest").field(&self.channel).finish()
    }
}

impl fmt::Debug for OnInterim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnInterim")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use std::io::{Read, Write};

    impl Revocable for Empty<Bytes> {
        fn poll_revoked(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn the_preface_leaves_with_the_settings_behind_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let origin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut first = [0; 1024];
            let length = stream.read(&mut first).unwrap();
            first[..length].to_vec()
        });
        #[expect(clippy::disallowed_methods, reason = "a test dials its own origin")]
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let io = UpstreamIo::plain(stream, (Duration::from_secs(60), Box::new(())));
        let (sender, carried) = handshake(io, Windows::NARROW, Box::new(|_| {})).await.unwrap();
        let carried = tokio::spawn(carried);
        let first = tokio::task::spawn_blocking(|| origin.join().unwrap()).await.unwrap();
        let behind = first.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        assert_eq!(behind.get(3), Some(&4), "SETTINGS in the same segment: {behind:?}");
        drop(sender);
        carried.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_falls_silent_on_a_shared_connection_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let origin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Its SETTINGS, and then not a word, whatever it is asked.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
            let mut heard = Vec::new();
            drop(stream.read_to_end(&mut heard));
            // A PING: type 6, eight bytes.
            heard.windows(9).any(|frame| frame == [0, 0, 8, 6, 0, 0, 0, 0, 0])
        });
        #[expect(clippy::disallowed_methods, reason = "a test dials its own origin")]
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let io = UpstreamIo::plain(stream, (Duration::from_secs(60), Box::new(())));
        let spawn = Box::new(|_: Rest| {});
        let (mut sender, carried) = handshake(io, Windows::NARROW, spawn).await.unwrap();
        let carried = tokio::spawn(carried);
        let request =
            ::http::Request::get("http://origin.test/").body(Empty::<bytes::Bytes>::new());
        let began = tokio::time::Instant::now();
        assert!(sender.send(request.unwrap(), None).await.is_err());
        assert!(began.elapsed() >= life::ANSWER_WITHIN);
        assert!(sender.channel().is_closed());
        drop((sender, carried.await));
        assert!(origin.join().unwrap());
    }
}
