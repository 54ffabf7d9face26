//! A line of text in pieces, each with its tone, before it is drawn.
//!
//! Owns measuring, wrapping and cutting. Everything foreign in it went through [`Shown`] before, so
//! that a character is a column.

use super::theme::{Theme, Tone};
use crate::addr::Shown;
use ratatui::text::{Line, Span};

/// A line in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strip(Vec<(Tone, String)>);

impl Strip {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one piece.
    pub fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self::new().then(tone, text)
    }

    /// One more piece.
    #[must_use]
    pub fn then(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.push(tone, text);
        self
    }

    /// One more piece of foreign text, made visible.
    #[must_use]
    pub fn shown(self, tone: Tone, text: &str) -> Self {
        self.then(tone, Shown::new(text).to_string())
    }

    /// One more piece of text that the gateway made visible already: shown anew only where it was
    /// not, so that no escape is escaped.
    #[must_use]
    pub fn told(self, tone: Tone, text: &str) -> Self {
        match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            true => self.then(tone, text),
            false => self.shown(tone, text),
        }
    }

    /// One more piece.
    pub fn push(&mut self, tone: Tone, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.0.push((tone, text));
        }
    }

    /// The pieces of another, after these.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Its columns.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Its text.
    pub fn text(&self) -> String {
        self.0.iter().map(|(_, text)| &**text).collect()
    }

    /// Blanks up to `width`.
    #[must_use]
    pub fn pad(self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.then(Tone::Plain, " ".repeat(missing))
    }

    /// At most `width` columns, the last one `…` where something is left out.
    #[must_use]
    pub fn cut(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut out = Self::new();
        for (tone, text) in self.0 {
            let piece: String = text.chars().take(left).collect();
            left -= piece.chars().count();
            out.push(tone, piece);
        }
        out.then(Tone::Faint, if width == 0 { "" } else { "…" })
    }

    /// Lines of at most `width` columns with nothing left out; all but the first are indented.
    /// Breaks stand where a blank is, if one is near, and in the middle of a word otherwise.
    pub fn wrap(self, width: usize, indent: usize) -> Vec<Self> {
        let indent = if indent + 8 < width { indent } else { 0 };
        let mut rest: Vec<(Tone, char)> =
            self.0.iter().flat_map(|(tone, text)| text.chars().map(|c| (*tone, c))).collect();
        let mut lines = Vec::new();
        let mut room = width.max(1);
        while rest.len() > room {
            let near = room.saturating_sub(room / 3);
            let blank = (near..=room).rev().find(|at| rest[*at].1 == ' ');
            let after = rest.split_off(blank.unwrap_or(room));
            lines.push(Self::gather(&rest, if lines.is_empty() { 0 } else { indent }));
            rest = after.into_iter().skip(usize::from(blank.is_some())).collect();
            room = width.saturating_sub(indent).max(1);
        }
        lines.push(Self::gather(&rest, if lines.is_empty() { 0 } else { indent }));
        lines
    }

    fn gather(chars: &[(Tone, char)], indent: usize) -> Self {
        let mut out = Self::of(Tone::Plain, " ".repeat(indent));
        for (tone, c) in chars {
            match out.0.last_mut() {
                Some((last, text)) if last == tone => text.push(*c),
                _ => out.push(*tone, *c),
            }
        }
        out
    }

    /// As ratatui draws it.
    pub fn line(self, theme: Theme) -> Line<'static> {
        let span = |(tone, text)| Span::styled(text, theme.style(tone));
        Line::from(self.0.into_iter().map(span).collect::<Vec<_>>())
    }
}

/// `text` in exactly `width` columns.
pub(super) fn cell(text: &str, width: usize) -> String {
    Strip::of(Tone::Plain, text).cut(width).pad(width).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_leaves_nothing_out() {
        let text = "GET api.github.com/repos/a/b?state=open and a word";
        for width in 1..60 {
            let lines = Strip::of(Tone::Plain, text).wrap(width, 2);
            assert!(lines.iter().all(|line| line.width() <= width), "{width}");
            let kept: String = lines.iter().map(Strip::text).collect();
            let bare = |s: &str| s.replace(' ', "");
            assert_eq!(bare(&kept), bare(text), "{width}");
        }
    }

    #[test]
    fn cutting_says_that_something_is_left_out() {
        let strip = || Strip::of(Tone::Strong, "abc").then(Tone::Plain, "def");
        assert_eq!(strip().cut(6).text(), "abcdef");
        assert_eq!(strip().cut(5).text(), "abcd…");
        assert_eq!(strip().cut(2).text(), "a…");
        assert_eq!(strip().cut(0).text(), "");
        assert_eq!(cell("ab", 4), "ab  ");
    }
}
