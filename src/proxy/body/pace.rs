//! What the road of a request and its body going up tell each other.

use super::super::gate::{Connection, Serving};
use super::super::live::Live;
use super::super::open::OpenRecord;
use super::super::sandbox::Sandbox;
use super::super::unless::unless_cut;
use super::kept::Kept;
use super::{BodyError, ClientBody, Lease};
use crate::policy::Code;
use crate::record::Outcome;
use futures_util::task::AtomicWaker;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// What the road and the body going up tell each other.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(super) live: Arc<Live>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) limit: Option<u64>,
    /// What stopped it, as an index into [`STOPS`] plus 1.
    pub(super) stopped: AtomicU8,
    /// The body was polled: from here on the request can't be sent again.
    pub(super) polled: AtomicBool,
    /// The origin's connection would take more of it, and the client has sent no more.
    pub(super) starved: AtomicBool,
    /// The origin sent an interim response.
    pub(super) heard: AtomicBool,
    /// The client waits for `100 Continue`, and so does the body.
    pub(super) waits: AtomicBool,
    /// The body that waits: it can still go up with another try.
    pub(super) parked: Mutex<Option<Box<ClientBody>>>,
    /// What of the body can go up again.
    kept: Mutex<Option<Kept>>,
    /// The body was let go: nothing more of it goes up.
    pub(super) gone: AtomicBool,
    pub(super) goes: AtomicWaker,
    /// Its record is closed: nothing more goes up.
    pub(super) over: AtomicBool,
    pub(super) waker: AtomicWaker,
    /// How long the origin may take after the last byte that went up.
    pub(super) patience: Duration,
}

/// How long what came of a body has to go up when its client has left, and had its answer.
const LEFT: Duration = Duration::from_secs(5);

const STOPS: [Code; 3] = [Code::BodyTooLarge, Code::UploadLimit, Code::BadFraming];

impl Pace {
    pub(crate) fn new(
        live: Arc<Live>,
        sandbox: Arc<Sandbox>,
        waits: bool,
        patience: Duration,
    ) -> Arc<Self> {
        let limit = sandbox.settings().limits.request_body;
        Arc::new(Self {
            live,
            sandbox,
            limit,
            stopped: AtomicU8::new(0),
            polled: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            waits: AtomicBool::new(waits),
            parked: Mutex::new(None),
            kept: Mutex::default(),
            gone: AtomicBool::new(false),
            goes: AtomicWaker::new(),
            over: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            patience,
        })
    }

    /// Why the gateway stopped the body, if it did.
    pub(crate) fn stopped(&self) -> Option<Code> {
        STOPS.get(usize::from(self.stopped.load(Ordering::Relaxed)).wrapping_sub(1)).copied()
    }

    /// Whether any of the body was asked for.
    pub(crate) fn polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// Whether the client is the one who is waited for.
    pub(crate) fn starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// The origin has said something before its answer.
    pub(crate) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(crate) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Lets a waiting body go: the origin said 100, or took too long to say anything.
    pub(crate) fn go(&self) {
        if self.waits.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, Option<Box<ClientBody>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what goes up as `keep` does, while it can be kept.
    pub(super) fn keep(&self, keep: impl FnOnce(&mut Kept) -> bool) {
        let mut kept = self.kept();
        if kept.as_mut().is_some_and(|kept| !keep(kept)) {
            *kept = None;
        }
    }

    /// Nothing goes up again from now on: the answer has begun, or what goes up can't be kept.
    pub(crate) fn forget(&self) {
        *self.kept() = None;
    }

    pub(super) fn count(&self, bytes: u64) -> Result<(), BodyError> {
        let before = self.live.upload.fetch_add(bytes, Ordering::Relaxed);
        self.live.extend(self.patience);
        let over = self.limit.is_some_and(|limit| before + bytes > limit);
        if over {
            return Err(self.stop(Code::BodyTooLarge));
        }
        self.sandbox.take_upload(bytes).map_err(|_| self.stop(Code::UploadLimit))
    }

    /// The gateway stops the body itself.
    pub(super) fn stop(&self, code: Code) -> BodyError {
        let at = STOPS.iter().zip(1..).find(|(stop, _)| **stop == code);
        self.stopped.store(at.map_or(0, |(_, at)| at), Ordering::Relaxed);
        BodyError::Cut(code)
    }
}

/// A request body for as long as its record is open: what did not go up by then never does.
pub(crate) struct Upload {
    pace: Arc<Pace>,
    connection: Arc<Connection>,
}

impl Upload {
    pub(crate) fn of(pace: &Arc<Pace>, connection: &Arc<Connection>) -> Self {
        Self { pace: pace.clone(), connection: connection.clone() }
    }

    /// Why the gateway stopped it, if it did.
    pub(super) fn stopped(&self) -> Option<Code> {
        self.pace.stopped()
    }

    /// Ends it with its answer, which came whole. An origin may answer before it has all and read on:
    /// where it does, and its answer is no error, the record stays open until the rest has gone up.
    pub(crate) fn answered(self, mut open: OpenRecord, lease: Option<Lease>) {
        let goes_on = self.pace.polled.load(Ordering::Relaxed)
            && !self.pace.gone.load(Ordering::Relaxed)
            && open.record().status.is_some_and(|status| status < 400);
        if !goes_on {
            drop((self, lease));
            return open.close(Outcome::Passed);
        }
        let serving = Serving::outlived(&self.connection);
        let tasks = self.connection.gate.tasks.clone();
        tasks.spawn(async move {
            let live = self.pace.live.clone();
            let gone = open.journalled(&live, unless_cut(&live, self.gone()));
            let ended = Box::pin(gone).await;
            let cut = self.pace.stopped();
            // Whatever is left of it goes with these.
            drop((self, lease, serving));
            match ended {
                // However it ended for the two ends: the answer was whole.
                Ok(()) => match cut {
                    None => open.close(Outcome::Passed),
                    Some(code) => open.fail(code),
                },
                Err(end) => open.fail(end.code()),
            }
        });
    }

    /// All has gone up that will: all there is, or what the origin takes, or what came of a client that
    /// left goes up within [`LEFT`].
    async fn gone(&self) {
        let gone = std::future::poll_fn(|cx| {
            self.pace.goes.register(cx.waker());
            if self.pace.gone.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        });
        let left = async {
            // A body of which all has come does not hear that its connection has ended.
            while !self.connection.phase.left() {
                tokio::time::sleep(LEFT).await;
            }
            tokio::time::sleep(LEFT).await;
        };
        tokio::select! {
            () = gone => {}
            () = left => {}
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.pace.over.store(true, Ordering::Relaxed);
        self.pace.waker.wake();
    }
}
