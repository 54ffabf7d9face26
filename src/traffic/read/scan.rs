//! The quick way through a line that a gateway wrote.
//!
//! An optimisation and no law: a line that is in any way unusual (keys in another order, an
//! escape, a value of another type) is left to serde, whose reading is the right one. Invariant,
//! held by a property test: what this reads, it reads as serde would.

use super::{Facts, Names, Recorded, Seen, Stamp};
use crate::record::{Judged, LineScheme, Outcome};
use std::borrow::Cow;

/// How deep values that nobody asked for may be nested.
const DEEPEST: usize = 16;

/// The record on a line without its newline; `None` where serde is to read it.
pub(super) fn record(line: &[u8]) -> Option<Recorded<'_>> {
    // Once for the line, not for each of its strings.
    let text = std::str::from_utf8(line).ok()?;
    let mut from = Cursor { text, bytes: line, at: 0 };
    let mut record = Recorded::new(LineScheme::Http);
    let mut said = Said::default();
    from.expect(b'{')?;
    let mut last = 0;
    loop {
        let key = from.string()?;
        from.expect(b':')?;
        let place = place(key)?;
        if place > 0 {
            // Keys in the writer's order are given once.
            if place <= last {
                return None;
            }
            last = place;
        }
        member(&mut from, &mut record, (key, &mut said))?;
        match from.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    if from.at != line.len() || !said.enough(&record) {
        return None;
    }
    if !said.scheme {
        record.scheme = super::line::scheme_of(record.port);
    }
    Some(record)
}

/// What `RecordLine::check` asks for.
#[derive(Default)]
struct Said {
    host: bool,
    scheme: bool,
}

impl Said {
    fn enough(&self, record: &Recorded<'_>) -> bool {
        let request = record.method.is_some() && record.path.is_some();
        let tunnel = self.scheme && record.scheme == LineScheme::Tcp;
        // A port that is given is not 0.
        record.verdict.is_some() || self.host && record.port > 0 && (request || tunnel)
    }
}

/// A key's place in the writer's order; 0 for one that says nothing here. `None` for a key that
/// makes the line something else than a record.
fn place(key: &str) -> Option<u8> {
    Some(match key {
        "v" => 1,
        "time" => 2,
        "id" => 3,
        "request" => 4,
        "sandbox" => 5,
        "client" => 6,
        "scheme" => 7,
        "http" => 8,
        "host" => 9,
        "port" => 10,
        "method" => 11,
        "path" => 12,
        "query" => 13,
        "verdict" => 14,
        "code" => 15,
        "rule" => 16,
        "outcome" => 17,
        "by" => 18,
        "sent" => 19,
        "address" => 20,
        "status" => 21,
        "upload" => 22,
        "download" => 23,
        "ms" => 24,
        "policy" => 25,
        "graphql" => 26,
        "rpc" => 27,
        "websocket" => 28,
        "repeat" => 29,
        "event" | "class_uid" => return None,
        _ => 0,
    })
}

/// Reads the value of one member.
fn member<'a>(
    from: &mut Cursor<'a>,
    record: &mut Recorded<'a>,
    (key, said): (&str, &mut Said),
) -> Option<()> {
    match key {
        "time" => record.time = Some(Stamp::parse(from.string()?)?),
        "id" => record.id = Some(from.text()?),
        "sandbox" => record.sandbox = Some(from.text()?),
        "client" => record.process = client(from)?,
        "scheme" => {
            record.scheme = scheme(from.string()?)?;
            said.scheme = true;
        }
        "host" => {
            record.host = from.text()?;
            said.host = true;
        }
        "port" => record.port = u16::try_from(from.number()?).ok().filter(|port| *port > 0)?,
        "method" => record.method = Some(from.text()?),
        "path" => record.path = Some(from.text()?),
        "query" => record.query = Some(from.text()?),
        "verdict" => record.verdict = Some(verdict(from.string()?)?),
        "code" => record.code = Some(from.text()?),
        "rule" => record.rule = Some(from.text()?),
        "outcome" => record.outcome = Some(outcome(from.string()?)?),
        "by" => record.by = Some(from.text()?),
        "repeat" => record.repeat = from.number()?.max(1),
        "websocket" => record.websocket = from.flag()?,
        "graphql" => record.facts = Facts::Graphql(from.list(Cursor::text)?),
        "rpc" => record.facts = Facts::Rpc(from.list(call)?),
        "v" => drop(u8::try_from(from.number()?).ok()?),
        "status" => drop(u16::try_from(from.number()?).ok()?),
        "upload" | "download" => drop(from.number()?),
        "sent" => drop(from.flag()?),
        "http" | "address" | "policy" => drop(from.string()?),
        "request" => from.string_or_null()?,
        "ms" => timings(from)?,
        _ => from.skip(DEEPEST)?,
    }
    Some(())
}

fn scheme(word: &str) -> Option<LineScheme> {
    match word {
        "https" => Some(LineScheme::Https),
        "http" => Some(LineScheme::Http),
        "tcp" => Some(LineScheme::Tcp),
        _ => None,
    }
}

fn verdict(word: &str) -> Option<Judged> {
    [Judged::Allow, Judged::Audit, Judged::Deny, Judged::Unknown, Judged::None]
        .into_iter()
        .find(|judged| judged.as_str() == word)
}

fn outcome(word: &str) -> Option<Outcome> {
    [Outcome::Passed, Outcome::Refused, Outcome::Failed]
        .into_iter()
        .find(|outcome| outcome.as_str() == word)
}

/// `null`, or `{"binary":…,"ancestors":[…],"pid":…}`.
fn client<'a>(from: &mut Cursor<'a>) -> Option<Seen<'a>> {
    if from.word(b"null") {
        return Some(Seen::Unseen);
    }
    from.literal(b"{\"binary\":")?;
    let binary = from.text()?;
    from.literal(b",\"ancestors\":[")?;
    let start = from.at;
    if from.peek()? != b']' {
        loop {
            from.string()?;
            if from.peek()? == b']' {
                break;
            }
            from.expect(b',')?;
        }
    }
    let ancestors = from.text.get(start..from.at)?;
    from.expect(b']')?;
    if from.peek()? == b',' {
        from.literal(b",\"pid\":")?;
        u32::try_from(from.number()?).ok()?;
    }
    from.expect(b'}')?;
    Some(Seen::Whole(binary, Names::Raw(ancestors)))
}

/// `{"method":…,"tool":…}`.
fn call<'a>(from: &mut Cursor<'a>) -> Option<(Cow<'a, str>, Option<Cow<'a, str>>)> {
    from.literal(b"{\"method\":")?;
    let method = from.text()?;
    let mut tool = None;
    if from.peek()? == b',' {
        from.literal(b",\"tool\":")?;
        tool = Some(from.text()?);
    }
    from.expect(b'}')?;
    Some((method, tool))
}

/// The timings, which say nothing here and must be well-formed all the same.
fn timings(from: &mut Cursor<'_>) -> Option<()> {
    from.expect(b'{')?;
    for (at, key) in ["judge", "held", "connect", "first_byte", "total"].iter().enumerate() {
        let rest = from.bytes.get(from.at..)?;
        let named = rest.get(usize::from(at > 0)..)?.strip_prefix(b"\"");
        let named = named.and_then(|rest| rest.strip_prefix(key.as_bytes()));
        if !named.is_some_and(|rest| rest.starts_with(b"\":")) {
            continue;
        }
        if at > 0 {
            from.expect(b',')?;
        }
        from.at += key.len() + 3;
        from.decimal()?;
    }
    from.expect(b'}')
}

/// The line as text and as bytes, and how far it is read.
struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.word(text).then_some(())
    }

    fn word(&mut self, text: &[u8]) -> bool {
        let there = self.bytes[self.at..].starts_with(text);
        self.at += if there { text.len() } else { 0 };
        there
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.string().map(Cow::Borrowed)
    }

    /// A string of plain ASCII without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let end = plain(rest);
        if rest.get(end) != Some(&b'"') {
            return None;
        }
        let start = self.at;
        self.at += end + 1;
        self.text.get(start..start + end)
    }

    fn string_or_null(&mut self) -> Option<()> {
        if self.word(b"null") { Some(()) } else { self.string().map(drop) }
    }

    fn flag(&mut self) -> Option<bool> {
        if self.word(b"true") {
            return Some(true);
        }
        self.word(b"false").then_some(false)
    }

    /// An unsigned integer that has at most 19 digits.
    fn number(&mut self) -> Option<u64> {
        let digits = self.digits();
        let plain = (1..=19).contains(&digits.len()) && (digits.len() == 1 || digits[0] != b'0');
        let more = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        (plain && !more)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        &rest[..count]
    }

    /// A number with decimals, of at most 15 digits before them.
    fn decimal(&mut self) -> Option<()> {
        let whole = self.digits();
        if !(1..=15).contains(&whole.len()) || whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits().is_empty() {
                return None;
            }
        }
        (!matches!(self.peek(), Some(b'e' | b'E'))).then_some(())
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(list);
        }
        loop {
            list.push(each(self)?);
            match self.next()? {
                b',' => {}
                b']' => return Some(list),
                _ => return None,
            }
        }
    }

    /// A value of whatever kind.
    fn skip(&mut self, deepest: usize) -> Option<()> {
        let inner = deepest.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'[' => self.list(|from| from.skip(inner)).map(drop),
            b'{' => {
                self.at += 1;
                if self.peek()? == b'}' {
                    self.at += 1;
                    return Some(());
                }
                loop {
                    self.string()?;
                    self.expect(b':')?;
                    self.skip(inner)?;
                    match self.next()? {
                        b',' => {}
                        b'}' => return Some(()),
                        _ => return None,
                    }
                }
            }
            b'0'..=b'9' => self.decimal(),
            _ => {
                let known = self.word(b"true") || self.word(b"false") || self.word(b"null");
                known.then_some(())
            }
        }
    }
}

/// How many bytes stand before the first that ends a plain string: a quote, a backslash, a control
/// byte, or one outside ASCII. Eight at a time (Mycroft's test for a zero byte, on each of them).
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let ends = zero(word ^ (ONES * u64::from(b'"')))
            | zero(word ^ (ONES * u64::from(b'\\')))
            | zero(word & (ONES * 0xe0))
            | word & HIGHS;
        if ends != 0 {
            // Borrows run upwards, so that the lowest mark is a true one.
            return at * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let ends = |b: &u8| !matches!(b, b' '..=0x7f) || matches!(b, b'"' | b'\\');
    words.len() * 8 + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_plain_string_ends_where_a_slow_search_ends_it(bytes in prop::collection::vec(prop_oneof![
            4 => b' '..=b'~', 1 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 1 => 0_u8..40,
        ], 0..80)) {
            let slow = bytes.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20 || *b > 0x7f);
            prop_assert_eq!(plain(&bytes), slow.unwrap_or(bytes.len()));
        }
    }
}
