//! Interim responses (1xx, RFC 9110 §15.2) from an origin to a client.
//!
//! An HTTP/2 client gets them on the stream of its request. Towards HTTP/1.1 clients hyper has no way to
//! send one: they are written into the client's stream beside hyper, where nothing of its own is under
//! way, behind the end of the last response and before the head of the next. What finds no such moment,
//! or is more than fits, is left out, as a client may never see an interim response anyway. `100` is not
//! among them: it is sent when the body is asked for. HTTP/1.0 knows none.
//!
//! Of HTTP/1.1 they go into tunnels alone, where all answers are one origin's. A client that takes any
//! response for the final one (there are such) would take the answer behind it for that of its next
//! request: on a connection of many origins, one origin could then answer for another.

use super::body::Pace;
use super::gate::Connection;
use super::headers;
use super::http2::Stream;
use super::scrub;
use super::target::Via;
use crate::secret::Watchlist;
use crate::upstream::http2::OnInterim;
use bytes::BytesMut;
use http::{StatusCode, Version};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What may wait to be written.
const MOST: usize = 16 * 1024;

/// What origins said before their answers, for one connection of a client.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    waits: AtomicBool,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Which request of the connection it is about.
    exchange: u64,
    /// Its answer has begun: nothing may come before it any more.
    answered: bool,
    bytes: BytesMut,
}

/// Hears what an origin says before its answer.
struct Ear {
    connection: Arc<Connection>,
    /// Where the client takes interim responses.
    to: Option<To>,
    pace: Arc<Pace>,
    /// What must not reach the client.
    known: Option<Watchlist>,
}

/// A request whose client takes interim responses.
#[derive(Clone)]
enum To {
    /// The request of this number on an HTTP/1.1 connection.
    Http1(u64),
    /// An HTTP/2 stream.
    Http2(Arc<Stream>),
}

/// An answer is waited for; dropped when it begins.
pub(crate) struct Awaited<'a> {
    connection: &'a Arc<Connection>,
    to: Option<To>,
}

impl<'a> Awaited<'a> {
    /// From here on an answer is waited for: that of a request in `version`, on `stream` if it has one.
    pub(crate) fn new(
        connection: &'a Arc<Connection>,
        version: Version,
        stream: Option<&Arc<Stream>>,
    ) -> Self {
        let inside = matches!(connection.via, Via::Inside(_));
        let to = match stream {
            Some(stream) => Some(To::Http2(stream.clone())),
            None if inside && version == Version::HTTP_11 => {
                Some(To::Http1(connection.phase.interim.begin()))
            }
            None => None,
        };
        Self { connection, to }
    }

    /// Whether the client takes interim responses.
    pub(crate) fn takes(&self) -> bool {
        self.to.is_some()
    }

    /// Hears what the origin says. A body that waits for `100 Continue` goes when it is heard; what is
    /// `known` does not reach the client.
    pub(crate) fn ear(&self, pace: &Arc<Pace>, known: Option<&Watchlist>) -> OnInterim {
        let ear = Ear {
            connection: self.connection.clone(),
            to: self.to.clone(),
            pace: pace.clone(),
            known: known.cloned(),
        };
        OnInterim::new(move |status, fields| {
            ear.pace.hear();
            match status {
                StatusCode::CONTINUE => ear.pace.go(),
                // Nobody asked for it here (RFC 9110 §15.2.2), and HTTP/2 has none (RFC 9113 §8.6).
                StatusCode::SWITCHING_PROTOCOLS => {}
                _ => ear.hear(status, fields),
            }
        })
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if let Some(To::Http1(exchange)) = self.to {
            self.connection.phase.interim.answered(exchange);
        }
    }
}

impl Ear {
    fn hear(&self, status: StatusCode, fields: &http::HeaderMap) {
        let Some(to) = &self.to else { return };
        let mut fields = fields.clone();
        headers::clean_response(&mut fields);
        // It has no body (RFC 9112 §6.3).
        fields.remove(http::header::CONTENT_LENGTH);
        if let Some(known) = &self.known {
            scrub::fields(&mut fields, &known.needles());
        }
        let exchange = match to {
            To::Http1(exchange) => *exchange,
            To::Http2(stream) => return stream.interim(status, fields),
        };
        let mut bytes = BytesMut::from("HTTP/1.1 ");
        bytes.extend_from_slice(status.as_str().as_bytes());
        bytes.extend_from_slice(b" ");
        bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &fields {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        if self.connection.phase.interim.say(exchange, &bytes) {
            self.connection.watch.live().wake();
        }
    }
}

impl Interim {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> u64 {
        let mut said = self.said();
        said.exchange += 1;
        said.answered = false;
        said.bytes.clear();
        self.waits.store(false, Ordering::Relaxed);
        said.exchange
    }

    fn answered(&self, exchange: u64) {
        let mut said = self.said();
        said.answered |= said.exchange == exchange;
    }

    fn say(&self, exchange: u64, bytes: &[u8]) -> bool {
        let mut said = self.said();
        if said.exchange != exchange || said.answered || said.bytes.len() + bytes.len() > MOST {
            return false;
        }
        said.bytes.extend_from_slice(bytes);
        self.waits.store(true, Ordering::Relaxed);
        true
    }

    /// Whether anything waits to be written.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// What is to be written now that all of hyper's has left. No answer has begun by then: its first
    /// bytes would have taken what waits along, and nothing is added behind them.
    pub(crate) fn between(&self) -> BytesMut {
        self.waits.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.said().bytes)
    }

    /// What is to be written before hyper's next bytes; all that it had before has left if `clean`.
    pub(crate) fn before(&self, clean: bool) -> BytesMut {
        let mut said = self.said();
        if !clean && !said.answered {
            // The end of the last response.
            return BytesMut::new();
        }
        self.waits.store(false, Ordering::Relaxed);
        let bytes = std::mem::take(&mut said.bytes);
        // Behind what has not left, the answer may have begun.
        if clean { bytes } else { BytesMut::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bytes: &[u8]) -> (Interim, u64) {
        let interim = Interim::default();
        let exchange = interim.begin();
        assert!(interim.say(exchange, bytes));
        (interim, exchange)
    }

    #[test]
    fn it_is_written_once_and_only_before_its_answer() {
        let (interim, exchange) = with(b"103");
        assert!(interim.waits());
        assert_eq!(interim.between(), "103");
        assert!(!interim.waits());
        assert!(interim.between().is_empty());
        assert!(interim.say(exchange, b"again"));
        interim.answered(exchange);
        assert_eq!(interim.before(true), "again", "the head is not written yet");
        assert!(!interim.say(exchange, b"late"));
        assert!(interim.before(true).is_empty());
    }

    #[test]
    fn it_waits_for_the_end_of_the_last_response() {
        let (interim, exchange) = with(b"103");
        assert!(interim.before(false).is_empty());
        assert!(interim.waits());
        assert_eq!(interim.between(), "103");
        assert!(interim.say(exchange, b"more"));
        interim.answered(exchange);
        assert!(interim.before(false).is_empty(), "the answer may have begun");
        assert!(!interim.waits());
        assert!(interim.between().is_empty());
    }

    #[test]
    fn what_was_said_of_another_request_is_nothing() {
        let (interim, first) = with(b"103");
        let second = interim.begin();
        assert!(interim.before(true).is_empty());
        assert!(!interim.say(first, b"late"));
        interim.answered(first);
        assert!(interim.say(second, b"103"));
        assert!(!interim.say(second, &[b'x'; MOST]), "it is bounded");
        assert_eq!(interim.between(), "103");
    }
}
