//! When the next picture is due: sixty times a second on the average.
//!
//! Owns the beat. A timer wakes up to a millisecond and more after its time; measured from each
//! picture to the next, that would add up. Invariant: after a pause no pictures are made up for,
//! so that two of them are never much closer than a sixtieth of a second.

use std::time::Duration;
use tokio::time::Instant;

/// From one picture to the next.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// How late a picture may be for the next one to come the sooner.
const LATE: Duration = Duration::from_millis(4);

/// The beat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    due: Instant,
}

impl Frames {
    /// A beat that has just been given.
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + FRAME }
    }

    /// When the next picture may be drawn.
    pub(super) fn due(self) -> Instant {
        self.due
    }

    /// A picture is drawn now.
    pub(super) fn drawn(&mut self, now: Instant) {
        self.due = (self.due + FRAME).max(now + FRAME - LATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_timers_do_not_add_up() {
        let mut frames = Frames::new();
        let first = frames.due();
        for late in [1_100, 900, 1_999, 300].into_iter().cycle().take(600) {
            let woken = frames.due() + Duration::from_micros(late);
            frames.drawn(woken);
        }
        assert_eq!(frames.due(), first + FRAME * 600);
    }

    #[test]
    fn after_a_pause_the_beat_begins_anew() {
        let mut frames = Frames::new();
        let now = frames.due() + Duration::from_secs(5);
        frames.drawn(now);
        assert_eq!(frames.due(), now + FRAME - LATE);
        frames.drawn(frames.due());
        assert_eq!(frames.due(), now + FRAME * 2 - LATE);
    }
}
