//! What a connection's PINGs tell (RFC 9113 §6.7): whether the origin is still there, and how much it
//! could send in a round trip if it were let.

use super::State;
use crate::upstream::http::Windows;
use h2::{Ping, PingPong};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often an origin is asked for a sign of life while streams wait for it, and how long it has: a
/// connection that died in silence would fail every request it is shared with.
const ASK: Duration = Duration::from_secs(20);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a round trip is not measured again after one in which the window was no limit.
const ENOUGH: Duration = Duration::from_millis(200);

/// Asks an origin that says nothing while streams wait for it, and measures one that says much.
pub(super) struct Life {
    pings: PingPong,
    state: Arc<State>,
    windows: Windows,
    asked: Option<Asked>,
    /// When silence is looked at.
    due: Pin<Box<Sleep>>,
    /// Bytes that had been read on when they were last looked at, and when they may be again.
    seen: u64,
    measure: Option<Instant>,
}

/// A PING under way.
struct Asked {
    /// What had been read on by then.
    read: u64,
    /// It is to show that the origin is there; else how much comes in a round trip.
    silence: bool,
}

/// What is to be done about a connection.
pub(super) enum Found {
    /// The origin has fallen silent: end it.
    Lost,
    /// The window is what holds it up: offer this one.
    Narrow(Windows),
}

impl Life {
    pub(super) fn new(pings: PingPong, windows: Windows, state: Arc<State>) -> Self {
        let due = Box::pin(tokio::time::sleep(ASK));
        Self { pings, state, windows, asked: None, due, seen: 0, measure: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Found> {
        if self.asked.is_some() && self.pings.poll_pong(cx).is_ready() {
            self.state.heard.store(true, Ordering::Relaxed);
            if let Some(wider) = self.answered() {
                return Poll::Ready(Found::Narrow(wider));
            }
        }
        self.measure();
        while self.due.as_mut().poll(cx).is_ready() {
            let heard = self.state.heard.swap(false, Ordering::Relaxed);
            if !heard && self.asked.as_ref().is_some_and(|asked| asked.silence) {
                return Poll::Ready(Found::Lost);
            }
            let wait = if !heard && self.state.waits() { self.ask() } else { ASK };
            self.due.as_mut().reset(Instant::now() + wait);
        }
        if self.asked.is_some() {
            // So that its answer wakes whoever carries the connection.
            let _ = self.pings.poll_pong(cx);
        }
        Poll::Pending
    }

    /// The origin accepts what was offered.
    pub(super) fn widened(&mut self, windows: Windows) {
        self.windows = windows;
        self.measure = None;
    }

    /// Asks for a sign of life.
    fn ask(&mut self) -> Duration {
        match &mut self.asked {
            // The one that measures will tell as well.
            Some(asked) => asked.silence = true,
            None => self.ping(true),
        }
        ANSWER_WITHIN
    }

    fn ping(&mut self, silence: bool) {
        if self.pings.send_ping(Ping::opaque()).is_ok() {
            self.asked = Some(Asked { read: self.state.read.load(Ordering::Relaxed), silence });
        }
    }

    /// What came in the round trip that is over: half a window and more means that the window may be
    /// what held it up.
    fn answered(&mut self) -> Option<Windows> {
        let asked = self.asked.take()?;
        let read = self.state.read.load(Ordering::Relaxed) - asked.read;
        let wider = self.windows.wider().filter(|_| read >= u64::from(self.windows.stream) / 2);
        if wider.is_none() {
            self.measure = Some(Instant::now() + ENOUGH);
        }
        wider
    }

    /// Measures a round trip where much has been read on since the last one.
    fn measure(&mut self) {
        if self.asked.is_some() || self.windows.wider().is_none() {
            return;
        }
        let read = self.state.read.load(Ordering::Relaxed);
        if read - self.seen < u64::from(self.windows.stream) / 2 {
            return;
        }
        self.seen = read;
        if self.measure.is_none_or(|at| at <= Instant::now()) {
            self.ping(false);
        }
    }
}
