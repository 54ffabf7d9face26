//! Reads recorded traffic back: our own lines, HAR files, OpenShell's OCSF lines.
//!
//! Owns how a recording is found, opened and told apart (by content, never by its name), and what
//! a record of any kind comes to: a [`Recorded`]. It judges nothing. What a record does not say is
//! left unsaid ([`Seen::Unsaid`], [`Facts::Unsaid`]), never filled in.
//!
//! Invariant: memory stays flat whatever the size of a file. Lines come in blocks, which the
//! caller may take apart on other threads; a line that can't be read is an [`Item::Broken`] and
//! stops nothing.

mod blocks;
mod har;
mod line;
mod ocsf;
mod scan;
mod sources;

pub use blocks::{Block, Items, Progress, read};
pub use har::Har;
pub use line::parse;
pub use sources::{Source, sources};

use crate::record::{Judged, LineScheme, Outcome};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// A request or tunnel as somebody recorded it. Text is borrowed from the line where it stands
/// there without escapes. Nothing in it has been checked but its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<'a> {
    /// When it began.
    pub time: Option<Stamp>,
    /// The record's id.
    pub id: Option<Cow<'a, str>>,
    /// Whose traffic it was.
    pub sandbox: Option<Cow<'a, str>>,
    /// The process behind it.
    pub process: Seen<'a>,
    /// The scheme; `Tcp` for a raw tunnel, and for a CONNECT of which only the tunnel is known.
    pub scheme: LineScheme,
    /// The host as it was written. Empty where the head never named one.
    pub host: Cow<'a, str>,
    /// The port; 0 where the head never named one.
    pub port: u16,
    /// The method; `None` for a raw tunnel.
    pub method: Option<Cow<'a, str>>,
    /// The path without the query; `None` for a raw tunnel.
    pub path: Option<Cow<'a, str>>,
    /// The query without `?`. A value may be `***`, which stands for one that is not known.
    pub query: Option<Cow<'a, str>>,
    /// It opened a WebSocket.
    pub websocket: bool,
    /// What is known of its body.
    pub facts: Facts<'a>,
    /// What a policy said then; `None` where none was asked.
    pub verdict: Option<Judged>,
    /// Why, as it was written.
    pub code: Option<Cow<'a, str>>,
    /// The rule that decided then.
    pub rule: Option<Cow<'a, str>>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Who let it through or stopped it: `policy`, `grant:ID`, `observe`, `guard`, `limit`.
    pub by: Option<Cow<'a, str>>,
    /// How many identical requests it stands for; at least 1.
    pub repeat: u64,
}

/// What a record says of the process behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seen<'a> {
    /// Nothing: it may have been any, or none that could be seen.
    #[default]
    Unsaid,
    /// A gateway looked, and could not see it.
    Unseen,
    /// The executable, and all of its ancestors.
    Whole(Cow<'a, str>, Names<'a>),
    /// The executable, and ancestors among which some may be missing.
    Partly(Cow<'a, str>, Names<'a>),
}

/// A list of texts, kept as it stands in the line where none of them is escaped.
#[derive(Clone, Debug)]
pub enum Names<'a> {
    /// The inside of a JSON array of strings without escapes: `"a","b"`.
    Raw(&'a str),
    /// One by one.
    List(Vec<Cow<'a, str>>),
}

/// What a record says of the body.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Facts<'a> {
    /// Nothing.
    #[default]
    Unsaid,
    /// There was none.
    Empty,
    /// GraphQL operations, `kind name{field,field}` each, as a gateway wrote them.
    Graphql(Vec<Cow<'a, str>>),
    /// JSON-RPC calls: method and tool; an empty method is an answer.
    Rpc(Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>),
    /// The body itself, and its media type.
    Whole {
        /// `content-type`.
        kind: Option<Cow<'a, str>>,
        /// The body, decoded.
        text: Cow<'a, str>,
    },
}

/// What one line or entry came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// A record.
    Record(Box<Recorded<'a>>),
    /// No request: an event of the gateway, an OCSF class of another kind, a `data:` URL.
    Other,
    /// It can't be read: why, in a sentence that is safe for a terminal.
    Broken(String),
}

/// A moment, in microseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

/// Why a recording can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or directory.
    #[error("{}: {why}\n  fix: name files or directories of recorded traffic, or - for stdin", crate::addr::Shown::new(&.path.to_string_lossy()))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

impl<'a> Names<'a> {
    /// The texts, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (raw, list) = match self {
            Self::Raw(raw) => (*raw, &[][..]),
            Self::List(list) => ("", &list[..]),
        };
        raw.split('"').skip(1).step_by(2).chain(list.iter().map(|name| &**name))
    }

    /// As it outlives its line.
    pub fn into_owned(self) -> Names<'static> {
        Names::List(self.iter().map(|name| Cow::Owned(name.to_owned())).collect())
    }
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self::Raw("")
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Recorded<'_> {
    /// A record of nothing yet.
    pub fn new(scheme: LineScheme) -> Self {
        Self {
            time: None,
            id: None,
            sandbox: None,
            process: Seen::Unsaid,
            scheme,
            host: Cow::Borrowed(""),
            port: 0,
            method: None,
            path: None,
            query: None,
            websocket: false,
            facts: Facts::Unsaid,
            verdict: None,
            code: None,
            rule: None,
            outcome: None,
            by: None,
            repeat: 1,
        }
    }

    /// As it outlives its line.
    pub fn into_owned(self) -> Recorded<'static> {
        let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Recorded {
            time: self.time,
            id: self.id.map(text),
            sandbox: self.sandbox.map(text),
            process: match self.process {
                Seen::Unsaid => Seen::Unsaid,
                Seen::Unseen => Seen::Unseen,
                Seen::Whole(binary, names) => Seen::Whole(text(binary), names.into_owned()),
                Seen::Partly(binary, names) => Seen::Partly(text(binary), names.into_owned()),
            },
            scheme: self.scheme,
            host: text(self.host),
            port: self.port,
            method: self.method.map(text),
            path: self.path.map(text),
            query: self.query.map(text),
            websocket: self.websocket,
            facts: match self.facts {
                Facts::Unsaid => Facts::Unsaid,
                Facts::Empty => Facts::Empty,
                Facts::Graphql(lines) => Facts::Graphql(lines.into_iter().map(text).collect()),
                Facts::Rpc(calls) => Facts::Rpc(
                    calls
                        .into_iter()
                        .map(|(method, tool)| (text(method), tool.map(text)))
                        .collect(),
                ),
                Facts::Whole { kind, text: body } => {
                    Facts::Whole { kind: kind.map(text), text: text(body) }
                }
            },
            verdict: self.verdict,
            code: self.code.map(text),
            rule: self.rule.map(text),
            outcome: self.outcome,
            by: self.by.map(text),
            repeat: self.repeat,
        }
    }

    /// The grant that let it through, if one did.
    pub fn grant(&self) -> Option<&str> {
        self.by.as_deref()?.strip_prefix("grant:")
    }
}

impl Stamp {
    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ours(text.as_bytes())
            .or_else(|| Some(Self(text.parse::<jiff::Timestamp>().ok()?.as_microsecond())))
    }

    /// The one spelling that a gateway writes, `2026-11-22T15:12:24.123456Z`, of every record:
    /// worth a reader of its own. Whatever is odd about it is left to the library.
    fn ours(text: &[u8]) -> Option<Self> {
        let text: &[u8; 27] = text.try_into().ok()?;
        let digits = |from: usize, count: usize| {
            text[from..from + count].iter().try_fold(0_i64, |sum, b| {
                b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'))
            })
        };
        let marks =
            [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
        let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
        let plain = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=28).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !plain {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self(seconds * 1_000_000 + digits(20, 6)?))
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 1970 on: years begin
/// in March, so that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

/// RFC 3339, UTC, to the second.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Err(_) => f.write_str("(no date)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn our_own_spelling_of_a_time_is_read_as_the_library_reads_it(micros in 0_i64..250_000_000_000_000_000) {
            let time = jiff::Timestamp::from_microsecond(micros).unwrap();
            let text = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            prop_assert_eq!(Stamp::parse(&text), Some(Stamp(micros)));
            if let Some(quick) = Stamp::ours(text.as_bytes()) {
                prop_assert_eq!(quick, Stamp(micros));
            } else {
                prop_assert!(text[8..10].parse::<u8>().unwrap() > 28, "{}", text);
            }
        }
    }

    #[test]
    fn a_time_that_is_none_is_not_read() {
        for text in ["", "yesterday", "2026-02-30T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z"]
        {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
        assert_eq!(Stamp::parse("1970-01-01T01:00:00+01:00"), Some(Stamp(0)));
    }

    #[test]
    fn names_are_the_same_raw_and_listed() {
        let list = Names::List(vec!["/usr/bin/bash".into(), "/sbin/init".into()]);
        assert_eq!(Names::Raw(r#""/usr/bin/bash","/sbin/init""#), list);
        assert_eq!(Names::Raw(""), Names::List(Vec::new()));
        assert_eq!(Names::Raw(r#""""#), Names::List(vec!["".into()]));
    }
}
