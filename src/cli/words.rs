//! Small texts that several commands print: ages, what an entry asks, times.

use crate::addr::Shown;
use crate::control::wire::{Client, Request};
use std::time::Duration;

/// Text that the gateway made visible already; shown anew only where it was not.
pub(super) fn told(text: &str) -> String {
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => text.to_owned(),
        false => shown(text),
    }
}

/// Text from the wire, safe for a terminal.
pub(super) fn shown(text: &str) -> String {
    Shown::new(text).to_string()
}

/// The same, or nothing.
pub(super) fn maybe(text: Option<&str>) -> String {
    text.map(shown).unwrap_or_default()
}

/// `POST https://api.github.com/repos/a/b?state=open`, `tcp://host:22`. A port that goes without
/// saying is left out.
pub(super) fn asks(request: &Request) -> String {
    let Request { scheme, host, port, method, path, query, .. } = request;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let usual = matches!((scheme.as_str(), port), ("https", 443) | ("http", 80));
    let port = if usual { String::new() } else { format!(":{port}") };
    let method = method.as_deref().map(|method| format!("{method} ")).unwrap_or_default();
    let path = path.as_deref().unwrap_or_default();
    let query = query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    shown(&format!("{method}{scheme}://{host}{port}{path}{query}"))
}

/// The executable.
pub(super) fn process(client: Option<&Client>) -> String {
    client.map_or_else(|| "(not seen)".to_owned(), |client| shown(&client.binary))
}

/// How long ago, or how long until, a time of the wire is: `5s`, `3m`, `2h`, `4d`. What is no time
/// is shown as it is.
pub(super) fn distance(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(then) => {
            let apart = jiff::Timestamp::now().duration_since(then).unsigned_abs();
            lasts(apart)
        }
        Err(_) => shown(time),
    }
}

/// The greatest unit alone. What lacks a hundredth of it counts as whole: an hour that was granted a
/// moment ago.
pub(super) fn lasts(time: Duration) -> String {
    match (time + time / 100 + Duration::from_millis(500)).as_secs() {
        seconds @ 0..=59 => format!("{seconds}s"),
        seconds @ 60..=3_599 => format!("{}m", seconds / 60),
        seconds @ 3_600..=86_399 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `1 request`, `2 requests`.
pub(super) fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A word of the wire: `pending`, `session`.
pub(super) fn word<T: serde::Serialize>(word: T) -> String {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_has_just_begun_is_an_hour() {
        let said = |millis| lasts(Duration::from_millis(millis));
        assert_eq!((said(3_599_900), said(3_540_000)), ("1h".to_owned(), "59m".to_owned()));
        assert_eq!((said(59_900), said(5_000), said(0)), ("1m".into(), "5s".into(), "0s".into()));
        assert_eq!((said(86_399_000), said(5_400_000)), ("1d".to_owned(), "1h".to_owned()));
    }
}
