//! The end of a gateway that was started for a bench.

use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;
use std::time::{Duration, Instant};

const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Lets it end by itself: what it counted for a profile (benches/pgo) it writes at its end.
pub(crate) fn stop(child: &mut Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let until = Instant::now() + STOPS_WITHIN;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nothing to do where it is gone already.
    drop(child.kill());
    drop(child.wait());
}
