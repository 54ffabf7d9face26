//! One line that the operator types: a reason, a path pattern, a search.
//!
//! Owns the editing. Control characters never get in, whether typed or pasted.

/// At most this many characters.
const LONGEST: usize = 1000;

/// A line and the place where the next character goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    text: Vec<char>,
    at: usize,
}

/// What an editing key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// One character back.
    Left,
    /// One character on.
    Right,
    /// To the start.
    Start,
    /// To the end.
    End,
    /// The character before goes.
    Backspace,
    /// The character here goes.
    Delete,
    /// Everything goes.
    Clear,
}

impl Line {
    /// A line with the cursor at its end.
    pub fn new(text: &str) -> Self {
        let mut line = Self::default();
        line.insert(text);
        line
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// What stands before the cursor, at it, and after it; a blank where it is at the end.
    pub fn parts(&self) -> (String, char, String) {
        let after = self.text.iter().skip(self.at + 1).collect();
        let here = self.text.get(self.at).copied().unwrap_or(' ');
        (self.text[..self.at].iter().collect(), here, after)
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Types or pastes text at the cursor; line ends become blanks.
    pub fn insert(&mut self, text: &str) {
        for c in text.chars() {
            let c = if c == '\n' { ' ' } else { c };
            if !c.is_control() && self.text.len() < LONGEST {
                self.text.insert(self.at, c);
                self.at += 1;
            }
        }
    }

    /// Does what an editing key does.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Left => self.at = self.at.saturating_sub(1),
            Edit::Right => self.at = (self.at + 1).min(self.text.len()),
            Edit::Start => self.at = 0,
            Edit::End => self.at = self.text.len(),
            Edit::Backspace if self.at > 0 => {
                self.at -= 1;
                self.text.remove(self.at);
            }
            Edit::Delete if self.at < self.text.len() => drop(self.text.remove(self.at)),
            Edit::Backspace | Edit::Delete => {}
            Edit::Clear => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paste_brings_no_control_characters_and_has_a_bound() {
        let line = Line::new("a\u{1b}[2Jb\nc\r");
        assert_eq!(line.text(), "a[2Jb c");
        assert_eq!(Line::new(&"x".repeat(5000)).text().len(), LONGEST);
    }

    #[test]
    fn editing_keeps_to_the_line() {
        let mut line = Line::new("ab");
        for edit in [Edit::Right, Edit::Delete, Edit::Left, Edit::Backspace, Edit::Backspace] {
            line.edit(edit);
        }
        assert_eq!(line.parts(), (String::new(), 'b', String::new()));
        line.insert("x");
        line.edit(Edit::End);
        assert_eq!(line.parts(), ("xb".into(), ' ', String::new()));
    }
}
