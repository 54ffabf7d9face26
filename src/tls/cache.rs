//! A bounded cache whose locks are held for a look-up only.
//!
//! Owns which entries stay: each shard is a clock (second chance), so that one full turn of names
//! asked for once never pushes out a name that is in use, and the cache is never cleared whole.
//! Does not own what an entry holds: that is filled by whoever got it, outside these locks.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;

pub(super) struct Cache<K, V> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
    // Seeded at random: the names are the sandbox's choice.
    hasher: RandomState,
}

struct Shard<K, V> {
    places: HashMap<K, usize>,
    seats: Vec<Seat<K, V>>,
    hand: usize,
    capacity: usize,
}

struct Seat<K, V> {
    key: K,
    value: Arc<V>,
    used: bool,
}

impl<K: Clone + Eq + Hash, V: Default> Cache<K, V> {
    /// A cache of at most `capacity` entries (rounded down to a multiple of 16, at least 16).
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = (capacity / SHARDS).max(1);
        let shard = |_| {
            let (places, seats) = (HashMap::new(), Vec::new());
            Mutex::new(Shard { places, seats, hand: 0, capacity })
        };
        Self { shards: std::array::from_fn(shard), hasher: RandomState::new() }
    }

    /// The entry of `key`, a new and empty one where there is none.
    pub(super) fn entry(&self, key: &K) -> Arc<V> {
        let hash = self.hasher.hash_one(key).to_le_bytes();
        let shard = &self.shards[usize::from(hash[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).entry(key)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard<K, V>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).seats.len()
        };
        self.shards.iter().map(count).sum()
    }
}

impl<K: Clone + Eq + Hash, V: Default> Shard<K, V> {
    fn entry(&mut self, key: &K) -> Arc<V> {
        if let Some(&place) = self.places.get(key) {
            let seat = &mut self.seats[place];
            seat.used = true;
            return Arc::clone(&seat.value);
        }
        let value = Arc::new(V::default());
        let seat = Seat { key: key.clone(), value: Arc::clone(&value), used: false };
        let place = if self.seats.len() < self.capacity {
            self.seats.push(seat);
            self.seats.len() - 1
        } else {
            let place = self.vacate();
            self.seats[place] = seat;
            place
        };
        self.places.insert(key.clone(), place);
        value
    }

    /// Takes the first seat from the hand on that was not used since the hand last passed.
    fn vacate(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.seats.len();
            let seat = &mut self.seats[place];
            if seat.used {
                seat.used = false;
            } else {
                self.places.remove(&seat.key);
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_stays_bounded_and_does_not_push_out_one_in_use() {
        let cache: Cache<u32, Mutex<u32>> = Cache::new(256);
        *cache.entry(&0).lock().unwrap() = 7;
        for name in 1..50_000 {
            cache.entry(&name);
            assert_eq!(*cache.entry(&0).lock().unwrap(), 7, "evicted at {name}");
        }
        assert_eq!(cache.len(), 256);
    }

    #[test]
    fn an_entry_is_the_same_for_all_who_ask() {
        let cache: Cache<&str, Mutex<u32>> = Cache::new(16);
        assert!(Arc::ptr_eq(&cache.entry(&"a"), &cache.entry(&"a")));
        assert!(!Arc::ptr_eq(&cache.entry(&"a"), &cache.entry(&"b")));
    }
}
