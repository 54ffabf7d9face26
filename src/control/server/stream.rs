//! A stream of events: `hello`, then what happens, pulled by the reader's own pace.
//!
//! Nothing waits for a reader: events wait in the backend's bounded channel, rows in the feed's
//! bounded ring, and what did not fit is counted and said (`missed`).

use crate::control::feed::{Feed, Subscription};
use crate::control::wire::{Batch, Event, Listen};
use crate::control::{Attendance, Backend, frame};
use crate::tasks::Tasks;
use futures_util::stream::{self, Stream};
use hyper::body::{Bytes, Frame};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};

/// How long the stream is silent at most.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How far apart batches of traffic are: 30 a second.
const FRAME: Duration = Duration::from_millis(33);

/// One reader's stream.
struct Listener {
    /// What is said before anything is waited for.
    first: Option<Event>,
    events: broadcast::Receiver<Arc<Event>>,
    traffic: Option<Subscription>,
    /// When the next batch may go.
    next_batch: Instant,
    sandbox: Option<String>,
    tasks: Tasks,
    ended: bool,
    _attendance: Option<Attendance>,
}

/// What is said next.
enum Said {
    Event(Arc<Event>),
    Own(Event),
    Heartbeat,
    Last(Event),
}

/// The body of `GET /v1/events`. It ends when `tasks` drain.
pub(super) fn open<B: Backend>(
    backend: &B,
    feed: &Feed,
    listen: Listen,
    tasks: Tasks,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<B> {
    let attendance = listen.attend.then(|| backend.attend());
    // The snapshot comes last: what happens meanwhile is said again rather than lost.
    let events = backend.events();
    let traffic = feed.listen(listen.traffic, listen.sandbox.clone());
    let listener = Listener {
        first: Some(Event::Hello(Box::new(backend.status()))),
        events,
        traffic,
        next_batch: Instant::now(),
        sandbox: listen.sandbox,
        tasks,
        ended: false,
        _attendance: attendance,
    };
    stream::unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok(Frame::data(Bytes::from(text))), listener))
    })
}

impl Listener {
    /// The next text of the stream; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let text = match self.said().await {
            Said::Heartbeat => Ok(":\n\n".to_owned()),
            Said::Event(event) => frame::write(&event),
            Said::Own(event) => frame::write(&event),
            Said::Last(event) => {
                self.ended = true;
                frame::write(&event)
            }
        };
        Some(text.expect("a type of the wire is JSON"))
    }

    async fn said(&mut self) -> Said {
        if let Some(first) = self.first.take() {
            return Said::Own(first);
        }
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            tokio::select! {
                () = self.tasks.drained() => return Said::Last(Event::Stopping {}),
                heard = self.events.recv() => match heard {
                    Ok(event) if matches!(*event, Event::Stopping {}) => {
                        return Said::Last(Event::Stopping {});
                    }
                    Ok(event) if self.wants(&event) => return Said::Event(event),
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => return Said::Own(Event::Missed { missed }),
                    Err(RecvError::Closed) => return Said::Last(Event::Stopping {}),
                },
                batch = batch(self.traffic.as_ref(), self.next_batch) => {
                    self.next_batch = Instant::now() + FRAME;
                    return Said::Own(Event::Traffic(batch));
                }
                () = sleep_until(silent_until) => return Said::Heartbeat,
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let Some(wanted) = &self.sandbox else { return true };
        match event {
            Event::Pending(request)
            | Event::Decided(request)
            | Event::Expired(request)
            | Event::Gone(request) => request.sandbox == *wanted,
            Event::Grants { sandbox }
            | Event::PolicyLoaded { sandbox, .. }
            | Event::PolicyRejected { sandbox, .. } => sandbox == wanted,
            Event::Hello(_) | Event::Traffic(_) | Event::Missed { .. } | Event::Stopping {} => true,
        }
    }
}

/// The traffic since the last batch, not before `from`. Without a subscription it never comes.
async fn batch(traffic: Option<&Subscription>, from: Instant) -> Batch {
    let Some(traffic) = traffic else { return std::future::pending().await };
    sleep_until(from).await;
    loop {
        // A wake that was cancelled is made good by asking first.
        let batch = traffic.take();
        if batch != Batch::default() {
            return batch;
        }
        traffic.filled().await;
    }
}
