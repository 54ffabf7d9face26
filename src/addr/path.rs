//! Canonical request paths.
//!
//! The path that is judged is the path that is forwarded: unreserved escapes decoded, other
//! escapes upper-cased (RFC 3986 §6.2.2). Refused: dot segments in any spelling, control bytes,
//! raw non-ASCII, a fragment, a bad escape, a backslash in any spelling. "Any spelling" counts
//! what an origin would read that decodes once more than it should (`escape`). Escapes of bytes
//! at and above 0x80 must be well-formed UTF-8: overlong forms (`%C0%AF`) and Latin-1 are bad
//! escapes. Trailing dots and blanks of a segment (`...`, `..%20`) are not dot segments here.
//!
//! Invariant: a canonical path parses to itself without an allocation, and none of its readings
//! holds a dot segment. Time is linear in the length. Owns paths, not what rules say of them.

use super::escape;
use std::borrow::Cow;

/// A canonical request path, without the query. Starts with `/`, or is exactly `*`.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    text: Cow<'a, str>,
    marks: Marks,
}

/// The readings of a path that an origin may take: as it came, with repeated slashes collapsed,
/// with `;parameters` stripped, with both. All of them must pass. At most four.
#[derive(Clone, Debug)]
pub struct Readings<'a> {
    first: &'a str,
    others: Vec<String>,
}

/// What an origin may make of a path that undoes its escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The path.
    pub path: String,
    /// The query that begins in it, where an escaped `?` is one.
    pub query: Option<String>,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `.` or `..` as a segment, also escaped, also before `;parameters`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A control byte or a space, raw; a control byte, escaped.
    #[error("the path has a control byte")]
    Control,
    /// A raw byte outside ASCII.
    #[error("the path has a raw byte outside ASCII")]
    NonAscii,
    /// `#`.
    #[error("the path has a fragment")]
    Fragment,
    /// `%` without two hex digits, escapes that are not UTF-8, escapes nested over three deep, or
    /// a `?` that should be an escape (the query is no part of a path).
    #[error("the path has a bad percent escape")]
    BadEscape,
    /// `\`, raw or `%5C`.
    #[error("the path has a backslash")]
    Backslash,
    /// It does not start with `/`.
    #[error("the path does not start with '/'")]
    NotAbsolute,
}

impl<'a> Path<'a> {
    /// Makes `raw` canonical, borrowing it where it already is.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if raw == "*" {
            return Ok(Self { text: Cow::Borrowed(raw), marks: Marks::default() });
        }
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let mut marks = scan(raw.as_bytes())?;
        let text = match marks.has(Marks::CHANGED) {
            true => Cow::Owned(rewrite(raw)),
            false => Cow::Borrowed(raw),
        };
        if marks.has(Marks::DOTS) && escape::has_dot_segment(text.as_bytes()) {
            return Err(PathError::DotSegment);
        }
        if marks.has(Marks::DEEP) && escape::hides_slash(text.as_bytes())? {
            marks.set(Marks::ENCODED_SLASH);
        }
        Ok(Self { text, marks })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether canonicalising changed the text.
    pub fn changed(&self) -> bool {
        self.marks.has(Marks::CHANGED)
    }

    /// Whether a `%2F` stands in it, also escaped again (`%252F`): refused unless the endpoint
    /// keeps it.
    pub fn has_encoded_slash(&self) -> bool {
        self.marks.has(Marks::ENCODED_SLASH)
    }

    /// Every reading that must pass. Allocates only where there is more than one.
    pub fn readings(&self) -> Readings<'_> {
        let first = self.as_str();
        let others = if self.marks.has(Marks::READINGS) { others(first) } else { Vec::new() };
        Readings { first, others }
    }

    /// Whether an escape of a printable byte stands in it, so that there is something in
    /// [`decoded`](Self::decoded).
    pub fn has_escapes(&self) -> bool {
        self.marks.has(Marks::ESCAPED)
    }

    /// What an origin may make of it that undoes the escapes left in it, in all its readings, also
    /// as one that splits off the query only then: none of these may be what is denied. Allocates
    /// nothing where there are none.
    pub fn decoded(&self) -> impl Iterator<Item = Decoded> {
        let texts = match self.has_escapes() {
            true => escape::undone(self.as_str()),
            false => Vec::new(),
        };
        let cut = |path: String| {
            let before = path.find(['?', '#']).map(|at| {
                let (path, rest) = path.split_at(at);
                let query = rest.strip_prefix('?').and_then(|rest| rest.split('#').next());
                Decoded { path: path.to_owned(), query: query.map(str::to_owned) }
            });
            before.into_iter().chain([Decoded { path, query: None }])
        };
        let read = |Decoded { path, query }: Decoded| {
            let others = others(&path).into_iter().chain([path]);
            others.map(move |path| Decoded { path, query: query.clone() })
        };
        texts.into_iter().flat_map(cut).flat_map(read)
    }

    /// The same path, owning its text.
    pub fn into_owned(self) -> Path<'static> {
        Path { text: Cow::Owned(self.text.into_owned()), marks: self.marks }
    }
}

impl PartialEq for Path<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Path<'_> {}

impl Readings<'_> {
    /// The readings, the one as it came first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first).chain(self.others.iter().map(String::as_str))
    }
}

/// Whether a query may be forwarded. It goes as it came; control bytes and spaces, raw bytes
/// outside ASCII and `#` are refused, because what is behind us may end it there.
pub fn check_query(query: &str) -> Result<(), PathError> {
    for b in query.bytes() {
        match KINDS[usize::from(b)] {
            Kind::Control => return Err(PathError::Control),
            Kind::NonAscii => return Err(PathError::NonAscii),
            Kind::Fragment => return Err(PathError::Fragment),
            Kind::Plain
            | Kind::Slash
            | Kind::Semicolon
            | Kind::Percent
            | Kind::Question
            | Kind::Backslash => {}
        }
    }
    Ok(())
}

/// What the first pass saw.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u8);

impl Marks {
    /// An escape is not in its canonical form.
    const CHANGED: u8 = 1;
    /// A segment starts with a dot.
    const DOTS: u8 = 2;
    /// `%25`, `%2F`, `%3B`, `%3F` or `%23`: what it decodes to must be looked at.
    const DEEP: u8 = 4;
    /// `//` or `;`: there is more than one reading.
    const READINGS: u8 = 8;
    /// `%2F`.
    const ENCODED_SLASH: u8 = 16;
    /// The escape of a printable byte, which stays one.
    const ESCAPED: u8 = 32;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u8) {
        self.0 |= mark;
    }
}

/// What a raw byte is in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Slash,
    Semicolon,
    Percent,
    Question,
    Fragment,
    Backslash,
    Control,
    NonAscii,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Plain; 256];
    let mut b = 0;
    while b < 256 {
        kinds[b] = match b as u8 {
            b'/' => Kind::Slash,
            b';' => Kind::Semicolon,
            b'%' => Kind::Percent,
            b'?' => Kind::Question,
            b'#' => Kind::Fragment,
            b'\\' => Kind::Backslash,
            0..=0x20 | 0x7f => Kind::Control,
            0x80.. => Kind::NonAscii,
            _ => Kind::Plain,
        };
        b += 1;
    }
    kinds
};

fn scan(bytes: &[u8]) -> Result<Marks, PathError> {
    let mut marks = Marks::default();
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        match KINDS[usize::from(b)] {
            Kind::Plain => {}
            Kind::Slash => match bytes.get(i + 1) {
                Some(b'.') => marks.set(Marks::DOTS),
                Some(b'/') => marks.set(Marks::READINGS),
                _ => {}
            },
            Kind::Semicolon => marks.set(Marks::READINGS),
            Kind::Percent => {
                i += 3 * scan_escape(&bytes[i..], &mut marks)?;
                continue;
            }
            Kind::Question => return Err(PathError::BadEscape),
            Kind::Fragment => return Err(PathError::Fragment),
            Kind::Backslash => return Err(PathError::Backslash),
            Kind::Control => return Err(PathError::Control),
            Kind::NonAscii => return Err(PathError::NonAscii),
        }
        i += 1;
    }
    Ok(marks)
}

/// Reads the escape that `bytes` starts with, or the escapes of one character: how many they are.
fn scan_escape(bytes: &[u8], marks: &mut Marks) -> Result<usize, PathError> {
    let value = escape::byte(bytes).ok_or(PathError::BadEscape)?;
    let mut count = 1;
    match value {
        0..=0x1f | 0x7f => return Err(PathError::Control),
        b'\\' => return Err(PathError::Backslash),
        b'/' => marks.set(Marks::DEEP | Marks::ENCODED_SLASH),
        b'%' | b';' | b'?' | b'#' => marks.set(Marks::DEEP),
        b'.' => marks.set(Marks::CHANGED | Marks::DOTS),
        value if is_unreserved(value) => marks.set(Marks::CHANGED),
        0x80.. => count = escape::utf8(bytes).ok_or(PathError::BadEscape)?,
        _ => {}
    }
    if value.is_ascii_graphic() && !is_unreserved(value) {
        marks.set(Marks::ESCAPED);
    }
    if bytes[..3 * count].iter().any(u8::is_ascii_lowercase) {
        marks.set(Marks::CHANGED);
    }
    Ok(count)
}

/// The canonical form of what `scan` let through.
fn rewrite(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let (plain, escaped) = rest.split_at(at);
        out.push_str(plain);
        let (digits, tail) = escaped.split_at(3);
        match escape::byte(digits.as_bytes()) {
            Some(value) if is_unreserved(value) => out.push(char::from(value)),
            _ => out.extend(digits.chars().map(|c| c.to_ascii_uppercase())),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// RFC 3986 §2.3.
fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// The readings of a path besides the one as it came.
fn others(path: &str) -> Vec<String> {
    let mut others = Vec::new();
    let stripped = strip(path);
    for reading in [collapse(path), collapse(&stripped), stripped] {
        if reading != path && !others.contains(&reading) {
            others.push(reading);
        }
    }
    others
}

fn collapse(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

fn strip(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        out.push_str(segment.split(';').next().unwrap_or(segment));
    }
    out
}
