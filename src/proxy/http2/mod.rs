//! HTTP/2 towards the client (RFC 9113), on `h2` itself: what a connection and its streams may cost,
//! and when they end.
//!
//! ```text
//! frames    what may come beside requests and their bodies: a budget
//! stream    one request: its answer, what is said before it, and what ends it
//! socket    a stream that became a WebSocket (RFC 8441)
//! ```

mod frames;
mod socket;
mod stream;

pub(crate) use stream::{RequestBody, Stream};

use super::gate::Connection;
use super::io::ClientIo;
use super::live::End;
use super::refuse::Refusal;
use super::sandbox;
use super::serve::{gone, record};
use crate::policy::Code;
use bytes::Bytes;
use frames::Counted;
use h2::Reason;
use h2::server::Handshake;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Requests that may be under way on one connection.
const STREAMS: u32 = 128;

/// What a client may send before any of it has gone up: bytes a stream, and bytes on all streams of
/// one of its sandbox's first connections and of a further one.
const STREAM_WINDOW: u32 = 256 * 1024;
const WIDE_WINDOW: u32 = 16 * 1024 * 1024;
const NARROW_WINDOW: u32 = 1024 * 1024;

/// What small DATA frames that nobody has taken may come to beside their bytes, in windows of the
/// connection: `h2` counts 256 bytes for each, and ends the connection with all its streams.
const FRAMING: usize = 1;

/// Bytes that wait to be written for one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before they were looked at, all told; and frames for streams that are
/// forgotten, in the life of a connection. A client that stops many uploads or downloads comes to both.
const RESET_AT_ONCE: usize = 200;
const LATE: usize = 10_000;
/// Streams that the gateway reset are remembered, so many and so long: what the client had sent of
/// them by then still comes, and is no error of its.
const RESET: usize = 200;
const RESET_FOR: Duration = Duration::from_secs(10);

/// How long a client whose time is over has to take the last word.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that is served while it is polled.
struct Server {
    connection: Arc<Connection>,
    state: State,
}

enum State {
    Handshaking {
        handshake: Handshake<Counted, Bytes>,
        /// It is to end when it has begun.
        leaves: bool,
    },
    Serving(h2::server::Connection<Counted, Bytes>),
}

/// Serves `io` until it ends.
pub(crate) async fn serve(connection: Arc<Connection>, io: ClientIo) {
    connection.head_due();
    // Held as long as the connection is.
    let wide = connection.sandbox.wide(sandbox::End::Client);
    let mut server = Server::new(connection.clone(), io, wide.is_some());
    let mut drained = false;
    let ended = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = server.poll(cx) {
            return Poll::Ready(Ok(result));
        }
        match connection.watch.live().poll_ended(cx) {
            Poll::Ready(End::Drain) if drained => Poll::Pending,
            // An idle connection is asked to go, a busy one finishes its streams.
            Poll::Ready(End::Drain) => {
                drained = true;
                server.leave();
                server.poll(cx).map(Ok)
            }
            other => other.map(Err),
        }
    })
    .await;
    // Streams of which all has come may still be read.
    connection.phase.leaves();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => unserved(&connection, &error),
        Err(End::Deadline) => {
            if !connection.told() {
                let detail = "the first request did not come in time";
                record(&connection, &Refusal::unjudged(Code::HeaderTimeout, detail), None);
            }
            server.leave();
            farewell(&connection, &mut server).await;
        }
        Err(_) => {}
    }
    if !connection.told() {
        record(&connection, &gone(), None);
    }
}

impl Server {
    fn new(connection: Arc<Connection>, io: ClientIo, wide: bool) -> Self {
        let window = if wide { WIDE_WINDOW } else { NARROW_WINDOW };
        let handshake = h2::server::Builder::new()
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(window)
            .data_frame_budget(FRAMING * window as usize)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(super::headers::HEADER_LIST_READ)
            .max_pending_accept_reset_streams(RESET_AT_ONCE)
            .max_local_error_reset_streams(Some(LATE))
            .max_concurrent_reset_streams(RESET)
            .reset_stream_duration(RESET_FOR)
            .enable_connect_protocol()
            .handshake(Counted::new(io, connection.clone()));
        Self { connection, state: State::Handshaking { handshake, leaves: false } }
    }

    /// Takes no more requests, and ends when those under way have (RFC 9113 §6.8).
    fn leave(&mut self) {
        match &mut self.state {
            State::Handshaking { leaves, .. } => *leaves = true,
            State::Serving(h2) => h2.graceful_shutdown(),
        }
    }

    /// Serves what comes; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.state {
                State::Handshaking { handshake, leaves } => {
                    let mut h2 = ready!(Pin::new(handshake).poll(cx))?;
                    if *leaves {
                        h2.graceful_shutdown();
                    }
                    self.state = State::Serving(h2);
                }
                State::Serving(h2) => match ready!(h2.poll_accept(cx)) {
                    Some(asked) => {
                        let (request, reply) = asked?;
                        let served = stream::serve(self.connection.clone(), request, reply);
                        self.connection.gate.tasks.spawn(served);
                    }
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

/// Polls `server` after its GOAWAY until the client has taken the last word, or its time for that is
/// over. A request that has crossed the GOAWAY is served to its end.
async fn farewell(connection: &Connection, server: &mut Server) {
    let mut over = std::pin::pin!(tokio::time::sleep(GOODBYE));
    std::future::poll_fn(|cx| {
        if server.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let cut = match connection.watch.live().poll_cut(cx) {
            // What brought it here; a request has another one.
            Poll::Ready(End::Deadline) | Poll::Pending => false,
            Poll::Ready(_) => true,
        };
        let over = over.as_mut().poll(cx).is_ready();
        if cut || (over && !connection.is_serving()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The connection ended with an error. Where no request had come of it, that is the record of it.
fn unserved(connection: &Connection, error: &h2::Error) {
    tracing::debug!(%error, "client connection ended");
    if error.is_io() {
        return;
    }
    if let Some(refusal) = broken(connection, error) {
        record(connection, &refusal, None);
    }
}

/// Why a connection was ended, where it was not the client who ended it.
fn broken(connection: &Connection, error: &h2::Error) -> Option<Refusal> {
    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
        let detail = format!("the connection costs too much: {error}");
        return Some(Refusal::unjudged(Code::TooManyRequests, detail));
    }
    let detail = match connection.told() {
        false => "the connection is not HTTP/2".to_owned(),
        true if error.is_library() => format!("the client broke HTTP/2: {error}"),
        true => return None,
    };
    Some(Refusal::unjudged(Code::MalformedHead, detail))
}
