//! Long text that scrolls: written once, drawn by the screen.

use super::strip::Strip;

/// Lines that are wrapped already, and which of them is on top.
#[derive(Clone, Debug, Default)]
pub struct Page {
    lines: Vec<Strip>,
    top: usize,
}

impl Page {
    /// A page at its top.
    pub fn new(lines: Vec<Strip>) -> Self {
        Self { lines, top: 0 }
    }

    /// Other lines, at the same place.
    pub fn rewrite(&mut self, lines: Vec<Strip>) {
        self.lines = lines;
    }

    /// Moves by `rows` on a screen of `height` rows.
    pub fn scroll(&mut self, rows: isize, height: usize) {
        let last = self.lines.len().saturating_sub(height);
        self.top = self.top.min(last).saturating_add_signed(rows).min(last);
    }

    /// The line on top.
    pub fn top(&self) -> usize {
        self.top
    }

    /// Moves to a line, at most to the last screen.
    pub fn go(&mut self, top: usize, height: usize) {
        self.top = top.min(self.lines.len().saturating_sub(height));
    }

    /// What a screen of `height` rows shows.
    pub fn window(&self, height: usize) -> &[Strip] {
        let top = self.top.min(self.lines.len().saturating_sub(height));
        &self.lines[top..(top + height).min(self.lines.len())]
    }

    /// How many lines stand below what a screen of `height` rows shows.
    pub fn below(&self, height: usize) -> usize {
        self.lines.len().saturating_sub(self.top.min(self.lines.len()) + height)
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
