//! The report for people: what changes, grouped, and the totals last.

use crate::addr::Shown;
use crate::cli::output::{self, Tone};
use crate::replay::{Change, Group, Key, Report, Totals, Was};
use crate::traffic::read::Stamp;
use std::fmt::Write;

/// The report, as wide as the terminal.
pub(super) fn text(report: &Report, against: bool) -> String {
    rendered(report, against, output::width())
}

fn rendered(report: &Report, against: bool, width: usize) -> String {
    let mut out = String::new();
    for change in Change::ALL {
        let groups: Vec<&Group> = report.groups.iter().filter(|g| g.change == change).collect();
        if groups.is_empty() {
            continue;
        }
        let head = output::toned(change.as_str(), tone(change));
        let requests = report.totals.of(change);
        let _ = writeln!(out, "{head}: {}, {}", many(requests, "request"), kinds(groups.len()));
        for group in groups {
            entry(&mut out, group, width);
        }
        out.push('\n');
    }
    totals(&mut out, &report.totals, against);
    out
}

fn tone(change: Change) -> Tone {
    match change {
        Change::Allowed => Tone::Good,
        Change::Denied => Tone::Bad,
        Change::Asked | Change::Undecidable => Tone::Doubtful,
    }
}

/// `1 request`, `12 requests`.
fn many(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn kinds(count: usize) -> String {
    if count == 1 { "all of one kind".to_owned() } else { format!("of {count} kinds") }
}

/// A group: what it is, then why, when and where.
fn entry(out: &mut String, group: &Group, width: usize) {
    let Some(key) = &group.key else {
        let _ = writeln!(out, "  {:>7}  others, of more kinds than are told apart", group.count);
        return;
    };
    line(out, &format!("  {:>7}  {}", group.count, asked(key)), width);
    let details =
        [Some(why(key, group)), Some(when(group)), Some(example(key, group)), relied(group)];
    for detail in details.iter().flatten() {
        line(out, &format!("           {detail}"), width);
    }
}

/// `agent  GET api.github.com:443 /repos/*/*`.
fn asked(key: &Key) -> String {
    let shown = |text: &str| Shown::new(text).to_string();
    let sandbox = if key.sandbox.is_empty() { "-" } else { &key.sandbox };
    let sandbox = shown(sandbox);
    let host = match key.host.contains(':') {
        true => format!("[{}]", shown(&key.host)),
        false => shown(&key.host),
    };
    if key.shape.is_empty() {
        return format!("{sandbox}  tunnel to {host}:{}", key.port);
    }
    format!("{sandbox}  {} {host}:{} {}", shown(&key.method), key.port, shown(&key.shape))
}

fn why(key: &Key, group: &Group) -> String {
    let was = match key.was {
        Was::Through => "was allowed",
        Was::Denied => "was denied",
        Was::Unknown => "was unknown",
        Was::Undecidable => "could not be said",
    };
    let decided = matches!(key.change, Change::Allowed) || key.code == "denied_by_rule";
    match (&key.rule, key.change) {
        (_, Change::Undecidable) => format!("{was}; {}", group.example.detail),
        (Some(rule), _) if decided => format!("{was}; {} by {rule}", verb(key.change)),
        (Some(rule), _) => format!("{was}; {}, nearest {rule}", key.code),
        (None, _) => format!("{was}; {}", key.code),
    }
}

fn verb(change: Change) -> &'static str {
    match change {
        Change::Allowed => "allowed",
        Change::Denied => "denied",
        Change::Asked | Change::Undecidable => "judged",
    }
}

fn when(group: &Group) -> String {
    let day = |time: Option<Stamp>| time.map_or("?".to_owned(), |time| time.to_string());
    match (group.first, group.last) {
        (None, None) => "no times recorded".to_owned(),
        (first, last) if first == last => format!("at {}", day(first)),
        (first, last) => format!("from {} to {}", day(first), day(last)),
    }
}

fn example(key: &Key, group: &Group) -> String {
    let example = &group.example;
    let place = example.place();
    match key.shape.is_empty() || example.path == key.shape {
        true => format!("first in {place}"),
        false => format!("first {} in {place}", Shown::new(&example.path).limit(120)),
    }
}

fn relied(group: &Group) -> Option<String> {
    let grant = group.example.grant.as_deref()?;
    let shown = Shown::new(grant).limit(40);
    Some(format!("{} of them relied on a grant ({shown})", group.granted))
}

/// One line, cut to the width; what is cut says so.
fn line(out: &mut String, text: &str, width: usize) {
    if text.len() <= width {
        let _ = writeln!(out, "{text}");
        return;
    }
    // Everything here is ASCII: texts of others were escaped.
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    let _ = writeln!(out, "{kept}...");
}

fn totals(out: &mut String, totals: &Totals, against: bool) {
    let changed: u64 = totals.changed.iter().sum();
    let than = if against { "the old policy's verdicts" } else { "what was recorded" };
    let _ = write!(out, "{} judged", many(totals.judged, "record"));
    if totals.requests != totals.judged {
        let _ = write!(out, " ({})", many(totals.requests, "request"));
    }
    let _ = write!(out, ", {changed} other than {than}");
    let parts: Vec<String> = Change::ALL
        .into_iter()
        .filter(|change| totals.of(*change) > 0)
        .map(|change| format!("{} {}", totals.of(change), change.as_str()))
        .collect();
    if !parts.is_empty() {
        let _ = write!(out, ": {}", parts.join(", "));
    }
    out.push('\n');
    let still = totals.undecidable.saturating_sub(totals.of(Change::Undecidable));
    let aside: Vec<String> = [
        (still, "undecidable before and after"),
        (totals.unjudged, "never judged (malformed, a limit)"),
        (totals.other, "events and the like"),
        (totals.left_out, "left out by -s, --since or --host"),
        (totals.broken, "broken"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !aside.is_empty() {
        let _ = writeln!(out, "besides: {}", aside.join(", "));
    }
}
