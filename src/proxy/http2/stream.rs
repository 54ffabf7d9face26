//! One stream of an HTTP/2 client: a request, what is said before its answer, and the answer.

use super::super::body::{ClientBody, DownBody};
use super::super::gate::Connection;
use super::super::io::{LINGER, LINGER_IDLE, LINGER_UPLOAD};
use super::super::request;
use super::socket::Socket;
use crate::upstream::http2::pipe;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Bytes of interim responses for one request, as RFC 9113 §6.5.2 counts a header list: what a client
/// does not read waits here.
const MOST_INTERIM: usize = 16 * 1024;

/// A stream whose answer has not begun.
pub(crate) struct Stream {
    /// There until the answer begins.
    reply: Mutex<Option<SendResponse<Bytes>>>,
    interim: AtomicUsize,
    /// Who takes the stream when it has become a tunnel (RFC 8441).
    taker: Mutex<Option<oneshot::Sender<Socket>>>,
    /// The `:protocol` of an extended CONNECT.
    protocol: Option<h2::ext::Protocol>,
    rest: Mutex<Rest>,
    /// Woken when the rest of the body is let go.
    waker: AtomicWaker,
}

/// What is left of a request's body.
enum Rest {
    /// Somebody has it.
    Held,
    /// Nobody wants it.
    Left(RecvStream),
    /// Nothing.
    Nothing,
}

/// A request's body.
pub(crate) struct RequestBody {
    /// There until it is dropped.
    recv: Option<RecvStream>,
    stream: Arc<Stream>,
    /// Of what was announced, what has not come.
    left: Option<u64>,
    /// All data has come, but for trailers.
    data_done: bool,
    /// The client waits for `100 Continue` (RFC 9110 §10.1.1).
    waits: bool,
}

/// Serves one request to the end of its answer. What is spawned is small: it is moved about.
pub(super) fn serve(
    connection: Arc<Connection>,
    request: Request<RecvStream>,
    reply: SendResponse<Bytes>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (mut head, recv) = request.into_parts();
    let stream = Arc::new(Stream {
        reply: Mutex::new(Some(reply)),
        interim: AtomicUsize::new(0),
        taker: Mutex::default(),
        protocol: head.extensions.remove(),
        rest: Mutex::new(Rest::Nothing),
        waker: AtomicWaker::new(),
    });
    let (connects, heads) = (head.method == Method::CONNECT, head.method == Method::HEAD);
    let (body, recv) = match connects {
        // What follows an extended CONNECT is no body.
        true => (ClientBody::None(stream.clone()), Some(recv)),
        false => (ClientBody::Http2(RequestBody::new(&head.headers, recv, stream.clone())), None),
    };
    let serving = request::serve(connection, Request::from_parts(head, body));
    Box::pin(async move {
        let Some(response) = stream.answer(serving).await else { return };
        let status = response.status();
        let Some((mut send, body)) = stream.begin(response, (heads, recv)) else { return };
        if let Some(body) = body
            && let Err(stopped) = pipe(body, &mut send, Reason::INTERNAL_ERROR).await
        {
            return tracing::debug!(?stopped, "an answer broke off");
        }
        // There are clients (curl 7.88) that stop sending for an error, and at any other early answer
        // wait for the reset.
        if status.is_client_error() || status.is_server_error() {
            stream.linger(send).await;
        }
    })
}

impl Stream {
    fn reply(&self) -> MutexGuard<'_, Option<SendResponse<Bytes>>> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taker(&self) -> MutexGuard<'_, Option<oneshot::Sender<Socket>>> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer; `None` where the client took its request back.
    async fn answer(
        &self,
        serving: impl Future<Output = Response<DownBody>>,
    ) -> Option<Response<DownBody>> {
        let mut serving = std::pin::pin!(serving);
        poll_fn(|cx| {
            if let Poll::Ready(response) = serving.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            let mut reply = self.reply();
            if let Some(waiting) = &mut *reply {
                // However it ended.
                let _ = ready!(waiting.poll_reset(cx));
            }
            // Nothing may be said on it any more.
            *reply = None;
            Poll::Ready(None)
        })
        .await
    }

    /// Begins the answer; what follows its head comes back.
    fn begin(
        &self,
        response: Response<DownBody>,
        (heads, recv): (bool, Option<RecvStream>),
    ) -> Option<(SendStream<Bytes>, Option<DownBody>)> {
        let (mut head, body) = response.into_parts();
        // Refusals have it, and it is HTTP/1's alone (RFC 9113 §8.2.2).
        head.headers.remove(header::CONNECTION);
        dated(&mut head.headers);
        let taker = self.taker().take().filter(|_| head.status.is_success());
        let bare = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let whole = taker.is_none() && (bare || heads || body.is_end_stream());
        if taker.is_none() && !bare {
            measured(&mut head.headers, &body, heads);
        }
        let mut reply = self.reply().take()?;
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
        let send = match reply.send_response(response, whole) {
            Ok(send) => send,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                reply.send_reset(Reason::INTERNAL_ERROR);
                return None;
            }
        };
        if let (Some(taker), Some(recv)) = (taker, recv) {
            // Who asked for it may have left.
            let _ = taker.send(Socket::new(send, recv));
            return None;
        }
        Some((send, (!whole).then_some(body)))
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the client still sends behind its answer, for a while: there are clients that look at
    /// no answer before they have sent all. Then its stream is let go, which resets it with `NO_ERROR`
    /// when the answer has left (RFC 9113 §8.1).
    async fn linger(&self, send: SendStream<Bytes>) {
        if matches!(*self.rest(), Rest::Nothing) {
            return;
        }
        let ended = async {
            let mut read = 0;
            while read < LINGER {
                match tokio::time::timeout(LINGER_IDLE, poll_fn(|cx| self.poll_rest(cx))).await {
                    Ok(Some(n)) => read += n,
                    Ok(None) | Err(_) => return,
                }
            }
        };
        // Whichever ends it.
        let _ = tokio::time::timeout(LINGER_UPLOAD, ended).await;
        drop((send, std::mem::replace(&mut *self.rest(), Rest::Nothing)));
    }

    /// The length of the next piece of the body that nobody wants; `None` at its end, or that of its
    /// stream.
    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.waker.register(cx.waker());
        let mut rest = self.rest();
        let polled = match &mut *rest {
            Rest::Held => return Poll::Pending,
            Rest::Left(recv) => match ready!(recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only where the stream is over.
                    let _ = recv.flow_control().release_capacity(data.len());
                    Some(data.len())
                }
                Some(Err(_)) | None => None,
            },
            Rest::Nothing => None,
        };
        if polled.is_none() {
            *rest = Rest::Nothing;
        }
        Poll::Ready(polled)
    }

    /// The `:protocol` of an extended CONNECT (RFC 8441 §4).
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().map(h2::ext::Protocol::as_str)
    }

    /// What the stream becomes when its CONNECT is answered with success.
    pub(crate) fn socket(&self) -> oneshot::Receiver<Socket> {
        let (taker, socket) = oneshot::channel();
        *self.taker() = Some(taker);
        socket
    }

    /// Sends an interim response (RFC 9110 §15.2). What comes behind the answer, or is more than a
    /// client is to wait for, is left out.
    pub(crate) fn interim(&self, status: StatusCode, fields: HeaderMap) {
        // Of `100` there is one, and the client waits for it.
        if status != StatusCode::CONTINUE {
            let size: usize = fields.iter().map(|(name, value)| field(name.as_str(), value)).sum();
            let said = self.interim.load(Ordering::Relaxed) + field(":status", &STATUS) + size;
            if said > MOST_INTERIM {
                return;
            }
            self.interim.store(said, Ordering::Relaxed);
        }
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (status, fields);
        if let Some(reply) = &mut *self.reply()
            && let Err(error) = reply.send_informational(response)
        {
            tracing::debug!(%error, "an interim response could not be sent");
        }
    }
}

/// As long as any.
const STATUS: HeaderValue = HeaderValue::from_static("103");

/// What a field takes in a header list (RFC 9113 §6.5.2).
fn field(name: &str, value: &HeaderValue) -> usize {
    name.len() + value.len() + 32
}

impl RequestBody {
    fn new(fields: &HeaderMap, recv: RecvStream, stream: Arc<Stream>) -> Self {
        let ended = recv.is_end_stream();
        let announced = || fields.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let waits = !ended && fields.contains_key(header::EXPECT);
        let left = if ended { Some(0) } else { announced() };
        if !ended {
            *stream.rest() = Rest::Held;
        }
        Self { recv: Some(recv), stream, left, data_done: false, waits }
    }

    /// The stream that it comes on.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(recv) = &mut self.recv else { return Poll::Ready(None) };
        if !self.data_done {
            let polled = recv.poll_data(cx);
            if polled.is_pending() && std::mem::take(&mut self.waits) {
                self.stream.interim(StatusCode::CONTINUE, HeaderMap::new());
            }
            match ready!(polled) {
                Some(Ok(data)) => {
                    self.waits = false;
                    // Fails only where the stream is over.
                    let _ = recv.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(recv.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.recv.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(recv) = self.recv.take() else { return };
        let mut rest = self.stream.rest();
        if matches!(*rest, Rest::Held) {
            *rest = if recv.is_end_stream() { Rest::Nothing } else { Rest::Left(recv) };
            drop(rest);
            self.stream.waker.wake();
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("protocol", &self.protocol()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Says how long an answer is where that is known. Of HEAD's the length is that of the body it does
/// not have (RFC 9110 §8.6): the origin says it, or the gateway of an answer of its own.
fn measured(fields: &mut HeaderMap, body: &DownBody, heads: bool) {
    let hint = body.size_hint().exact();
    let Some(length) = hint.filter(|length| !body.is_end_stream() && (*length > 0 || !heads))
    else {
        return;
    };
    fields.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
}

thread_local! {
    /// The second that was written last, and how.
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// Says when an answer passed that does not say when it was made (RFC 9110 §6.6.1).
fn dated(fields: &mut HeaderMap) {
    if fields.contains_key(header::DATE) {
        return;
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = DATE.with_borrow_mut(|(written, date)| {
        if *written != second {
            let text = httpdate::fmt_http_date(now);
            (*written, *date) = (second, HeaderValue::try_from(text).expect("a date is a value"));
        }
        date.clone()
    });
    fields.insert(header::DATE, date);
}
