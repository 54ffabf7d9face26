//! Every kind of load at once, for minutes: nothing may grow with time.

use crate::clock::Clock;
use crate::gateway::{Gateway, Usage};
use crate::load::{Lab, Target};
use crate::scenario::{Scenario, gather, usage};
use std::time::Duration;

/// What runs together.
const TOGETHER: [Scenario; 8] = [
    Scenario::Plain,
    Scenario::InterceptedHttp1,
    Scenario::InterceptedHttp2,
    Scenario::Tunnel,
    Scenario::NewFull,
    Scenario::NewResumed,
    Scenario::Sse,
    Scenario::Websocket,
];

/// How much memory may differ from the first minute's, as a share and in KiB.
const SLACK: (f64, u64) = (1.1, 8 << 10);
/// How many files may be open more.
const FILES: usize = 64;

/// Runs for `minutes`; says whether it ended where it was after the first.
pub(crate) async fn run(lab: &Lab, minutes: u64) -> bool {
    println!("{}", lab.describe());
    println!("| minute | RSS MiB | open files | threads | CPU s |\n|--:|--:|--:|--:|--:|");
    let target = Target::Through(Gateway::start(lab));
    let (way, clock) = (lab.way(&target), Clock::default());
    let workers: Vec<_> = TOGETHER.iter().map(|scenario| scenario.start(&way, &clock)).collect();
    clock.count();
    let (mut first, mut last) = (Usage::default(), Usage::default());
    for minute in 1..=minutes.max(1) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        last = usage(&target).expect("a gateway");
        if minute == 1 {
            first = last;
        }
        println!("{}", line(minute, &last));
    }
    clock.stop();
    let mut failed = 0;
    for (scenario, workers) in TOGETHER.iter().zip(workers) {
        let tally = gather(workers).await;
        println!("{}: {} operations, {} failed", scenario.name(), tally.operations, tally.failed);
        if let Some(why) = &tally.failure {
            println!("  {why}");
        }
        failed += tally.failed;
    }
    let steady = is_steady(&first, &last);
    println!("{}", if steady { "nothing grew" } else { "IT GREW" });
    steady && failed == 0
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of kibibytes"
)]
fn is_steady(first: &Usage, last: &Usage) -> bool {
    let bound = (first.rss_kib as f64 * SLACK.0) as u64 + SLACK.1;
    let files = first.files.zip(last.files).is_none_or(|(first, last)| last <= first + FILES);
    last.rss_kib <= bound && files
}

fn line(minute: u64, usage: &Usage) -> String {
    let files = usage.files.map_or_else(|| "?".to_owned(), |files| files.to_string());
    let (rss, cpu) = (usage.rss_kib / 1024, usage.cpu.as_secs());
    format!("| {minute} | {rss} | {files} | {} | {cpu} |", usage.threads)
}
