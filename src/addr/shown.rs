//! Untrusted text made visible: the only road by which it reaches a terminal, a log or an error.

use std::fmt;

/// Untrusted text whose `Display` escapes everything outside printable ASCII visibly.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(&'a str);

impl<'a> Shown<'a> {
    /// Wraps untrusted text.
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                ' '..='~' => fmt::Write::write_char(f, c)?,
                c => write!(f, "{}", c.escape_default())?,
            }
        }
        Ok(())
    }
}
