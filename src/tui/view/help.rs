//! The help: the table of keys, as it is.

use crate::tui::keys;
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;

/// The width of the keys' column.
const KEYS: usize = 19;

/// The page.
pub(in crate::tui) fn lines(width: u16) -> Vec<Strip> {
    let width = usize::from(width);
    let mut lines = Vec::new();
    for (title, rows) in keys::sections() {
        if !lines.is_empty() {
            lines.push(Strip::new());
        }
        lines.push(Strip::of(Tone::Strong, title));
        for row in rows {
            let label = row.label();
            let column = if width < 60 { 9 } else { KEYS };
            let mut line = Strip::of(Tone::Plain, "  ");
            if label.chars().count() < column {
                line.push(Tone::Key, cell(&label, column));
            } else {
                line.push(Tone::Key, label);
                lines.extend(line.wrap(width, 2));
                line = Strip::of(Tone::Plain, " ".repeat(column + 2));
            }
            lines.extend(line.then(Tone::Plain, row.does).wrap(width, column + 2));
        }
    }
    lines
}
