//! A gateway that nothing asks anything of sleeps: it runs on laptops all day.

use crate::common::{Gateway, Setup};
use std::fs;
use std::time::Duration;

/// How long the gateway is looked at.
const FOR: Duration = Duration::from_secs(3);
/// How often a worker may wake in a second (its clock ticks four times), and all else together.
const A_WORKER: u64 = 6;
const ALL_ELSE: u64 = 8;

/// How often the gateway's threads went to sleep since each began.
fn sleeps(gateway: &Gateway) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let of_one = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
        line.unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    threads.map(|thread| of_one(thread.unwrap().path())).sum()
}

#[test]
fn an_idle_gateway_hardly_wakes() {
    let gateway = Setup::allow_all(&["origin.test"], 80).start();
    // What the start itself left to do.
    std::thread::sleep(Duration::from_secs(1));
    let before = sleeps(&gateway);
    std::thread::sleep(FOR);
    let woken = sleeps(&gateway) - before;
    let workers = std::thread::available_parallelism().unwrap().get() as u64;
    let most = (workers * A_WORKER + ALL_ELSE) * FOR.as_secs();
    assert!(woken <= most, "woken {woken} times in {FOR:?}, {most} are plenty");
}
