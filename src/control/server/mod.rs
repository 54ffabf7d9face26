//! The server of the control API: who may ask, what is well formed, and the answers' shapes.
//!
//! `bind` owns the socket, `place` where one lies in the file system, `peer` who is at the other
//! end, `route` the table of routes, `answer` what each does, `stream` the events, `stall` the
//! patience with readers, `openapi` the description that is made of the table. It decides nothing:
//! that is the `Backend`'s.

mod answer;
mod bind;
mod body;
mod openapi;
mod peer;
mod place;
mod route;
mod stall;
mod stream;

pub use bind::{BindError, bind};
pub use openapi::openapi;
pub use place::{PlaceError, Placed, place};
pub use route::{ROUTES, Route};

use super::Backend;
use super::feed::Feed;
use crate::tasks::Tasks;
use answer::Api;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use peer::Peer;
use stall::Stalling;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How many connections are served at a time.
const CONNECTIONS: usize = 64;
/// How long a head may take, and how long a connection may be idle.
const HEADER: Duration = Duration::from_secs(10);
/// How long answers that are under way may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How many more are told that there is no place; others are closed.
const TURNED_AWAY: usize = 16;
/// How long telling them may take.
const TELLING: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept (no file descriptors): the next would fail too.
const BACKOFF: Duration = Duration::from_millis(100);

/// Serves until `ends` resolves, then lets answers come to their end and closes every stream of
/// events with `stopping`. Needs a runtime.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: Arc<B>,
    feed: Feed,
    ends: impl Future<Output = ()>,
) {
    let tasks = Tasks::new();
    // However this ends, dropped too, no connection outlives it for long.
    let _drain = Drain(&tasks);
    let api = Arc::new(Api { backend, feed, tasks: tasks.clone() });
    let places = Places {
        served: Arc::new(Semaphore::new(CONNECTIONS)),
        turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
    };
    let mut ends = pin!(ends);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut ends => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(stream, &api, &places),
            Err(error) => {
                tracing::warn!(%error, "the control socket can't accept");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
    tasks.drain();
    if timeout(LAST_ANSWERS, tasks.finished()).await.is_err() {
        tracing::debug!(left = tasks.len(), "control connections are left behind");
    }
}

struct Drain<'a>(&'a Tasks);

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// Who is in has a permit of one of them.
struct Places {
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

/// Serves the connection, where its peer is the operator and there is a place.
fn admit<B: Backend>(stream: UnixStream, api: &Arc<Api<B>>, places: &Places) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(refused) => {
            return tracing::warn!("a connection to the control socket was closed: {refused}");
        }
    };
    if let Ok(place) = places.served.clone().try_acquire_owned() {
        return api.tasks.spawn(connection(stream, peer, api.clone(), place));
    }
    tracing::warn!(CONNECTIONS, "the control socket has no place for one more");
    if let Ok(place) = places.turned_away.clone().try_acquire_owned() {
        api.tasks.spawn(async move {
            // Who does not hear it in time finds the connection closed.
            let _ = timeout(TELLING, turn_away(stream)).await;
            drop(place);
        });
    }
}

/// Answers whatever is asked, and reads on until the client has read it.
async fn turn_away(mut stream: UnixStream) -> std::io::Result<()> {
    let mut asked = [0; 4096];
    if stream.read(&mut asked).await? == 0 {
        return Ok(());
    }
    stream.write_all(body::FULL).await?;
    stream.shutdown().await?;
    while stream.read(&mut asked).await? > 0 {}
    Ok(())
}

async fn connection<B: Backend>(
    stream: UnixStream,
    peer: Peer,
    api: Arc<Api<B>>,
    place: OwnedSemaphorePermit,
) {
    let who = Arc::new(peer.who());
    let service = service_fn(|request| {
        let (api, who) = (api.clone(), who.clone());
        async move { Ok::<_, std::convert::Infallible>(api.answer(&who, request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .serve_connection(TokioIo::new(Stalling::new(stream)), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = api.tasks.drained() => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a control connection broke off");
    }
    drop(place);
}
