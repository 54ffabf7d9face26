//! Pictures as bytes: the classic codes of ECMA-48 §8.3.117 alone.
//!
//! Owns what a terminal is told of looks. Invariant: a colour is one of 30 to 37 and 90 to 97, a
//! ground one of 40 to 47 and 100 to 107. They choose from the same sixteen as `38;5;0` to
//! `38;5;15`, which crossterm writes and a terminal of 8 or 16 colours does not know.

use crossterm::cursor::MoveTo;
use crossterm::queue;
use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use std::fmt;
use std::io::{self, Write};

/// How far a ground's code is from the colour's.
const GROUND: u8 = 10;

/// A terminal behind a writer.
#[derive(Debug)]
pub(super) struct Ansi<W: Write>(CrosstermBackend<W>);

/// How a cell looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    colour: Color,
    ground: Color,
    attributes: Modifier,
}

impl<W: Write> Ansi<W> {
    pub(super) fn new(out: W) -> Self {
        Self(CrosstermBackend::new(out))
    }
}

impl Look {
    const PLAIN: Self =
        Self { colour: Color::Reset, ground: Color::Reset, attributes: Modifier::empty() };

    fn of(cell: &Cell) -> Self {
        Self { colour: cell.fg, ground: cell.bg, attributes: cell.modifier }
    }
}

/// The whole look, whatever it was before.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CODES: [(Modifier, u8); 9] = [
            (Modifier::BOLD, 1),
            (Modifier::DIM, 2),
            (Modifier::ITALIC, 3),
            (Modifier::UNDERLINED, 4),
            (Modifier::SLOW_BLINK, 5),
            (Modifier::RAPID_BLINK, 6),
            (Modifier::REVERSED, 7),
            (Modifier::HIDDEN, 8),
            (Modifier::CROSSED_OUT, 9),
        ];
        f.write_str("\u{1b}[0")?;
        for (attribute, code) in CODES {
            if self.attributes.contains(attribute) {
                write!(f, ";{code}")?;
            }
        }
        if let Some(code) = code(self.colour) {
            write!(f, ";{code}")?;
        }
        if let Some(code) = code(self.ground) {
            write!(f, ";{}", code + GROUND)?;
        }
        f.write_str("m")
    }
}

/// The code of a colour; none for the terminal's own, and for those beyond the sixteen.
fn code(colour: Color) -> Option<u8> {
    match colour {
        Color::Black => Some(30),
        Color::Red => Some(31),
        Color::Green => Some(32),
        Color::Yellow => Some(33),
        Color::Blue => Some(34),
        Color::Magenta => Some(35),
        Color::Cyan => Some(36),
        Color::Gray => Some(37),
        Color::DarkGray => Some(90),
        Color::LightRed => Some(91),
        Color::LightGreen => Some(92),
        Color::LightYellow => Some(93),
        Color::LightBlue => Some(94),
        Color::LightMagenta => Some(95),
        Color::LightCyan => Some(96),
        Color::White => Some(97),
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => None,
    }
}

impl<W: Write> Write for Ansi<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.0)
    }
}

impl<W: Write> Backend for Ansi<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let (mut look, mut next) = (Look::PLAIN, None);
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                queue!(self.0, MoveTo(x, y))?;
            }
            next = Some((x + 1, y));
            if Look::of(cell) != look {
                look = Look::of(cell);
                write!(self.0, "{look}")?;
            }
            self.0.write_all(cell.symbol().as_bytes())?;
        }
        write!(self.0, "{}", Look::PLAIN)
    }

    fn append_lines(&mut self, lines: u16) -> io::Result<()> {
        self.0.append_lines(lines)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.0.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.0.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        self.0.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.0.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.0.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        self.0.window_size()
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{Theme, Tone};

    fn drawn(cells: &[Cell]) -> String {
        let mut out = Vec::new();
        let row = (0..).zip(cells).map(|(x, cell)| (x, 0, cell));
        Ansi::new(&mut out).draw(row).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn cell(symbol: &'static str, theme: Theme, tone: Tone) -> Cell {
        let mut cell = Cell::new(symbol);
        cell.set_style(theme.style(tone));
        cell
    }

    #[test]
    fn a_look_is_told_once_for_all_that_looks_so() {
        let row = [
            cell("a", Theme::Dark, Tone::Bad),
            cell("b", Theme::Dark, Tone::Bad),
            cell("c", Theme::Dark, Tone::Plain),
        ];
        assert_eq!(drawn(&row), "\u{1b}[1;1H\u{1b}[0;1;31mab\u{1b}[0mc\u{1b}[0m");
    }

    #[test]
    fn every_named_colour_has_a_classic_code_as_text_and_as_ground() {
        let named = [
            (Color::Black, 30),
            (Color::Gray, 37),
            (Color::DarkGray, 90),
            (Color::LightCyan, 96),
            (Color::White, 97),
        ];
        for (colour, code) in named {
            let mut cell = Cell::new("x");
            cell.set_fg(colour).set_bg(colour);
            let told = format!("\u{1b}[0;{code};{}mx", code + 10);
            assert!(drawn(&[cell]).contains(&told), "{colour:?}");
        }
        for colour in [Color::Indexed(200), Color::Rgb(1, 2, 3)] {
            let mut cell = Cell::new("x");
            cell.set_fg(colour).set_bg(colour);
            let told = drawn(&[cell]);
            assert!(!told.contains("38;") && !told.contains("48;"), "{told:?}");
        }
    }
}
