//! Dials under way. Requests that may share a connection wait for the one that is being dialled: each
//! dialling for itself would open as many connections as there are requests when the first is made.
//! Nobody waits long: what is dialled may be an end that never answers.

use super::Key;
use crate::upstream::http2::STREAMS;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a dial is waited for.
pub const WAIT: Duration = Duration::from_secs(1);

/// The dials of a pool: for each key the last that was begun.
#[derive(Debug, Default)]
pub(super) struct Dials(Mutex<HashMap<Key, Dial>>);

#[derive(Debug)]
struct Dial {
    /// How many wait for it.
    awaited: usize,
    began: Instant,
    over: CancellationToken,
}

/// What a request is to do that found no connection.
#[derive(Debug)]
pub enum Join {
    /// To dial. Others wait for it until this is dropped.
    Dial(Dialling),
    /// To wait until this is cancelled, [`WAIT`] at most, and to look again: a dial is under way.
    Wait(CancellationToken),
}

/// A dial under way.
#[derive(Debug)]
pub struct Dialling {
    dials: Arc<Dials>,
    key: Key,
    over: CancellationToken,
}

impl Dials {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Dial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many wait for a dial as one connection has room for; the next begins another, as does who
    /// finds one that takes long.
    pub(super) fn join(self: &Arc<Self>, key: &Key) -> Join {
        let mut dials = self.lock();
        if let Some(dial) = dials.get_mut(key)
            && dial.awaited + 1 < STREAMS
            && dial.began.elapsed() < WAIT
        {
            dial.awaited += 1;
            return Join::Wait(dial.over.clone());
        }
        let over = CancellationToken::new();
        dials.insert(key.clone(), Dial { awaited: 0, began: Instant::now(), over: over.clone() });
        Join::Dial(Dialling { dials: self.clone(), key: key.clone(), over })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let mut dials = self.dials.lock();
        // It may not be the last that was begun.
        if dials.get(&self.key).is_some_and(|dial| dial.over == self.over) {
            dials.remove(&self.key);
        }
        drop(dials);
        self.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;
    use crate::addr::Authority;

    fn key(origin: &str) -> Key {
        let origin = Authority::parse(origin, None).unwrap();
        Key { sandbox: "s".into(), origin, profile: Profile::TlsHttp2 }
    }

    fn dials(joined: Join) -> Dialling {
        match joined {
            Join::Dial(dialling) => dialling,
            Join::Wait(_) => panic!("it is to wait"),
        }
    }

    fn waits(joined: Join) -> CancellationToken {
        match joined {
            Join::Wait(over) => over,
            Join::Dial(_) => panic!("it is to dial"),
        }
    }

    #[test]
    fn one_dials_and_the_others_wait_for_it() {
        let all = Arc::new(Dials::default());
        let first = dials(all.join(&key("a.test:1")));
        let waiting: Vec<_> = (0..10).map(|_| waits(all.join(&key("a.test:1")))).collect();
        drop(dials(all.join(&key("b.test:1"))));
        assert!(waiting.iter().all(|over| !over.is_cancelled()));
        drop(first);
        assert!(waiting.iter().all(CancellationToken::is_cancelled));
        dials(all.join(&key("a.test:1")));
        assert!(all.lock().is_empty(), "nothing is left of what is over");
    }

    #[test]
    fn more_than_one_connection_has_room_for_begin_another() {
        let all = Arc::new(Dials::default());
        let at = key("a.test:1");
        let first = dials(all.join(&at));
        let of_first: Vec<_> = (1..STREAMS).map(|_| waits(all.join(&at))).collect();
        let second = dials(all.join(&at));
        let of_second = waits(all.join(&at));
        drop(first);
        assert!(of_first.iter().all(CancellationToken::is_cancelled) && !of_second.is_cancelled());
        let more = waits(all.join(&at));
        drop(second);
        assert!(of_second.is_cancelled() && more.is_cancelled() && all.lock().is_empty());
    }
}
