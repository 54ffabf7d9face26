//! Untrusted text made visible: the only road by which it reaches a terminal, a log or an error.
//!
//! Owns how text is shown, not what is shown. Invariants: the output is printable ASCII; two
//! different texts that are shown whole never look alike (a backslash is doubled, so an escape
//! cannot be faked); what is cut says so; of a host name the registrable domain is never cut.

use super::host::{Host, Name};
use std::fmt::{self, Write as _};

/// Untrusted text whose `Display` escapes everything outside printable ASCII visibly.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    text: &'a str,
    limit: usize,
}

/// A host as people should see it: the A-label form, with the U-label form beside it in
/// parentheses where there is one, its letters escaped (`xn--bcher-kva.de (b\u{fc}cher.de)`).
#[derive(Clone, Copy, Debug)]
pub struct ShownHost<'a> {
    host: &'a Host,
    limit: usize,
}

impl<'a> Shown<'a> {
    /// Wraps untrusted text.
    pub fn new(text: &'a str) -> Self {
        Self { text, limit: usize::MAX }
    }

    /// A host: see [`ShownHost`].
    pub fn host(host: &'a Host) -> ShownHost<'a> {
        ShownHost { host, limit: usize::MAX }
    }

    /// Shows at most `limit` characters of output, then how many bytes of the text are left out
    /// (`aaaa...[+8188 bytes]`; the mark is not counted).
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

impl ShownHost<'_> {
    /// Cuts a name over `limit` characters on the left of its registrable domain, which stays
    /// whole whatever the limit (`aaaa[+200 bytes].example.co.uk`; the mark is not counted). The
    /// U-label form is then that of the registrable domain alone.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.limit;
        for (at, c) in self.text.char_indices() {
            let width = width(c);
            if width > left {
                return write!(f, "...[+{} bytes]", self.text.len() - at);
            }
            left -= width;
            match c {
                '\\' => f.write_str("\\\\")?,
                ' '..='~' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_default())?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ShownHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.host {
            Host::Ip(ip) => return write!(f, "{ip}"),
            Host::Name(name) => name,
        };
        let text = name.as_str();
        let kept = name.registrable().unwrap_or(text);
        if text.len() <= self.limit || kept.len() == text.len() {
            f.write_str(text)?;
            return beside(f, name.unicode());
        }
        let before = &text[..text.len() - kept.len() - 1];
        let head = before.len().min(self.limit.saturating_sub(kept.len() + 1));
        write!(f, "{}", &before[..head])?;
        if head < before.len() {
            write!(f, "[+{} bytes]", before.len() - head)?;
        }
        write!(f, ".{kept}")?;
        let registrable = Host::parse(kept).ok();
        beside(f, registrable.as_ref().and_then(Host::name).and_then(Name::unicode))
    }
}

fn beside(f: &mut fmt::Formatter<'_>, unicode: Option<String>) -> fmt::Result {
    match unicode {
        Some(unicode) => write!(f, " ({})", Shown::new(&unicode)),
        None => Ok(()),
    }
}

/// Characters that `c` takes when shown.
fn width(c: char) -> usize {
    match c {
        '\\' => 2,
        ' '..='~' => 1,
        c => c.escape_default().len(),
    }
}
