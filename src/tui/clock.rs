//! Time as the pane sees it: handed in, never asked for.
//!
//! Owns how ages, countdowns and local times are written. Invariant: nothing in `tui` but the loop
//! reads a clock, so that every rule about time is tested without sleeping.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back: what waits and guards are measured on.
    pub steady: u64,
    /// Milliseconds since 1970 in UTC: what is shown.
    pub wall: i64,
}

/// The wire's RFC 3339 as milliseconds since 1970.
pub(super) fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// A length of time in at most four characters: `4s`, `12m`, `3h`, `9d`.
pub(super) fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", (seconds / 86_400).min(999)),
    }
}

/// What is left of a wait, in at most five characters: `57s`, `4m05`, `3h12`, `2d`. A second that
/// has begun counts whole, so that nothing that still waits is shown as 0.
pub(super) fn left(ms: i64) -> String {
    let seconds = (ms.max(0) + 999) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", (seconds / 86_400).min(999)),
    }
}

/// The time of day in `zone`: `15:12:24`.
pub(super) fn time_of_day(wall: i64, zone: &TimeZone) -> String {
    format(wall, zone, "%H:%M:%S")
}

/// A moment in `zone`: the time of day where it is of the day of `now`, else with its date.
pub(super) fn moment(wall: i64, now: i64, zone: &TimeZone) -> String {
    let (day, today) = (format(wall, zone, "%Y-%m-%d"), format(now, zone, "%Y-%m-%d"));
    let time = time_of_day(wall, zone);
    if day == today { time } else { format!("{day} {time}") }
}

fn format(wall: i64, zone: &TimeZone, how: &str) -> String {
    let time = Timestamp::from_millisecond(wall).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(zone.clone()).strftime(how).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_waits_is_never_shown_as_nothing_left() {
        assert_eq!(left(1), "1s");
        assert_eq!(left(0), "0s");
        assert_eq!(left(-5), "0s");
        assert_eq!(left(59_001), "1m00");
        assert_eq!(left(11_520_000), "3h12");
    }

    #[test]
    fn ages_and_countdowns_fit_their_columns() {
        for shift in 0..63 {
            let ms = (1_i64 << shift) - 1;
            assert!(age(ms).len() <= 4, "{}", age(ms));
            assert!(left(ms / 2).len() <= 5, "{}", left(ms / 2));
        }
    }

    #[test]
    fn a_moment_of_another_day_has_its_date_in_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = parse("2026-11-24T23:30:00.000Z").expect("a time");
        assert_eq!(moment(at, at, &zone), "01:30:00");
        assert_eq!(moment(at, at - 7_200_000, &zone), "2026-11-25 01:30:00");
    }
}
