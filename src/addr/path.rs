//! Canonical request paths.
//!
//! The path that is judged is the path that is forwarded: unreserved escapes decoded, other
//! escapes upper-cased. Refused: dot segments in any spelling, control bytes, raw non-ASCII, a
//! fragment, a bad escape, a backslash in any spelling.

use std::borrow::Cow;

/// A canonical request path, without the query. Starts with `/`, or is exactly `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a>(Cow<'a, str>);

/// The readings of a path that an origin may take: as it came, with repeated slashes collapsed,
/// with `;parameters` stripped, with both. All of them must pass.
#[derive(Clone, Debug)]
pub struct Readings<'a> {
    first: &'a str,
    others: Vec<String>,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `.` or `..` as a segment, also escaped, also before `;parameters`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A control byte, raw or escaped.
    #[error("the path has a control byte")]
    Control,
    /// A raw byte outside ASCII.
    #[error("the path has a raw byte outside ASCII")]
    NonAscii,
    /// `#`.
    #[error("the path has a fragment")]
    Fragment,
    /// `%` without two hex digits.
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
            return Ok(Self(Cow::Borrowed(raw)));
        }
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let canonical = unescape(raw)?;
        for segment in canonical.split('/') {
            let bare = segment.split(';').next().unwrap_or(segment);
            if bare == "." || bare == ".." {
                return Err(PathError::DotSegment);
            }
        }
        Ok(Self(canonical))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether canonicalising changed the text.
    pub fn changed(&self) -> bool {
        matches!(self.0, Cow::Owned(_))
    }

    /// Whether a `%2F` stands in it (refused unless the endpoint keeps it).
    pub fn has_encoded_slash(&self) -> bool {
        self.0.contains("%2F")
    }

    /// Every reading that must pass.
    pub fn readings(&self) -> Readings<'_> {
        let first = self.as_str();
        let mut others = Vec::new();
        if first.contains("//") || first.contains(';') {
            for reading in [collapse(first), strip(first), collapse(&strip(first))] {
                if reading != first && !others.contains(&reading) {
                    others.push(reading);
                }
            }
        }
        Readings { first, others }
    }
}

impl Readings<'_> {
    /// The readings, the one as it came first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first).chain(self.others.iter().map(String::as_str))
    }
}

fn unescape(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = raw.as_bytes();
    let mut out: Option<Vec<u8>> = None;
    let mut i = 0;
    while i < bytes.len() {
        let b = bytes[i];
        if b == b'%' {
            let (hi, lo) = (bytes.get(i + 1).copied(), bytes.get(i + 2).copied());
            let (Some(hi), Some(lo)) = (hi, lo) else { return Err(PathError::BadEscape) };
            let value =
                hex(hi).zip(hex(lo)).map(|(h, l)| h << 4 | l).ok_or(PathError::BadEscape)?;
            match value {
                0..=0x1f | 0x7f => return Err(PathError::Control),
                b'\\' => return Err(PathError::Backslash),
                _ => {}
            }
            let unreserved =
                value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~');
            if unreserved {
                out.get_or_insert_with(|| bytes[..i].to_vec()).push(value);
            } else if hi.is_ascii_lowercase() || lo.is_ascii_lowercase() {
                let out = out.get_or_insert_with(|| bytes[..i].to_vec());
                out.extend([b'%', hi.to_ascii_uppercase(), lo.to_ascii_uppercase()]);
            } else if let Some(out) = &mut out {
                out.extend([b'%', hi, lo]);
            }
            i += 3;
            continue;
        }
        match b {
            b'#' => return Err(PathError::Fragment),
            b'\\' => return Err(PathError::Backslash),
            0..=0x20 | 0x7f => return Err(PathError::Control),
            0x80.. => return Err(PathError::NonAscii),
            _ => {}
        }
        if let Some(out) = &mut out {
            out.push(b);
        }
        i += 1;
    }
    Ok(match out {
        Some(out) => Cow::Owned(String::from_utf8(out).map_err(|_| PathError::NonAscii)?),
        None => Cow::Borrowed(raw),
    })
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok())
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
    let segments: Vec<&str> = path.split('/').map(|s| s.split(';').next().unwrap_or(s)).collect();
    segments.join("/")
}
