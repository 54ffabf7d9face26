//! The list of what waits: its order, and what is said of what it does not show (security.md 20).

use crate::tui_kit::{Pane, samples};
use portcullis::control::wire::*;
use portcullis::tui::{Number, Read};

fn number(text: &str) -> Number {
    Number::parse(text).unwrap()
}

#[test]
fn a_flood_of_one_sandbox_stands_before_nobody_elses_held_one() {
    let mut pane = Pane::new(80, 24);
    let of = |number: u64, sandbox: &str, held: u64| {
        let mut entry = samples::request(number, "GET", "example.com", &format!("/{number}"));
        entry.sandbox = sandbox.to_owned();
        entry.held = held;
        entry
    };
    let mut all: Vec<Request> = (1..=900).map(|n| of(n, "agent", u64::from(n > 700))).collect();
    all.extend([of(901, "ci", 0), of(902, "ci", 1), of(903, "web", 1), of(904, "ci", 1)]);
    pane.read(Read::Requests(all));
    let rows: Vec<String> = pane.model.queue.rows().iter().map(Number::to_string).collect();
    assert_eq!(rows[..6], ["r701", "r902", "r903", "r702", "r904", "r703"]);
    assert_eq!(rows[203..206], ["r1", "r901", "r2"], "then what holds nobody, in turn too");
    assert_eq!(rows.len(), 904);
    pane.press("sssss");
    assert_eq!(pane.model.queue.rows()[..2], [number("r1"), number("r2")]);
    assert!(pane.screen().contains("by number"));
}

#[test]
fn more_than_can_be_shown_is_said() {
    let mut pane = Pane::new(80, 24);
    pane.read(Read::Requests(samples::many(20_001)));
    assert!(pane.screen().contains("20000 wait and more, not shown"), "{}", pane.screen());
    pane.read(Read::Requests(samples::many(20_000)));
    assert!(!pane.screen().contains("more, not shown"));
    pane.event(Event::Pending(Box::new(samples::request(20_001, "GET", "a.example.com", "/"))));
    assert!(pane.screen().contains("20000 wait and more, not shown"));
}
