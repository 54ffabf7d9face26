//! What is the case now, and what has happened that no record tells: set by the house, read when
//! scraped.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How much there is of what the house holds. Each is counted up and down by who holds it.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Client connections.
    pub connections: AtomicI64,
    /// Requests held for an answer.
    pub held: AtomicI64,
    /// Idle upstream connections.
    pub pooled: AtomicI64,
    /// Raw tunnels and WebSockets.
    pub tunnels: AtomicI64,
    /// Records that are open or wait to be written.
    pub records: AtomicI64,
    /// Leaves in the cache.
    pub leaves: AtomicI64,
    /// Requests and tunnels ever refused because they could not be recorded.
    pub unrecorded: AtomicU64,
    /// Connections ever turned away without a word.
    pub turned_away: AtomicU64,
}

impl Gauges {
    /// Name, help and value of what only goes up.
    pub(super) fn totals(&self) -> [(&'static str, &'static str, u64); 2] {
        [
            (
                "portcullis_unrecorded_total",
                "Requests and tunnels refused because they could not be recorded.",
                self.unrecorded.load(Ordering::Relaxed),
            ),
            (
                "portcullis_turned_away_total",
                "Connections that a listener does not serve, or far more than a sandbox may have.",
                self.turned_away.load(Ordering::Relaxed),
            ),
        ]
    }

    /// Name, help and value of each.
    pub(super) fn read(&self) -> [(&'static str, &'static str, i64); 6] {
        let of = |gauge: &AtomicI64| gauge.load(Ordering::Relaxed);
        [
            ("portcullis_connections", "Client connections.", of(&self.connections)),
            ("portcullis_held_requests", "Requests held for an answer.", of(&self.held)),
            ("portcullis_pooled_connections", "Idle upstream connections.", of(&self.pooled)),
            ("portcullis_tunnels", "Raw tunnels and WebSockets.", of(&self.tunnels)),
            (
                "portcullis_record_queue_length",
                "Records that are open or wait to be written.",
                of(&self.records),
            ),
            ("portcullis_leaf_certificates", "Leaf certificates in the cache.", of(&self.leaves)),
        ]
    }
}
