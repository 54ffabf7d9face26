//! What a piece of text is, and what that looks like.
//!
//! Owns the colours: the sixteen that every terminal has and lets its user choose, so that a
//! terminal of 16 colours, a light and a dark one all show what they can show. Invariant: nothing
//! is said by colour alone; without any (`NO_COLOR`) the attributes and words remain.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Text.
    #[default]
    Plain,
    /// Aside.
    Faint,
    /// What the eye should find first: a host, a title.
    Strong,
    /// Approved, passed, connected.
    Good,
    /// Denied, refused, gone.
    Bad,
    /// Worth a second look: a risk note, a warning.
    Doubtful,
    /// A key that can be pressed.
    Key,
    /// The agent's own words.
    Agent,
}

/// How tones look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Attributes alone.
    Plain,
    /// On a dark ground.
    #[default]
    Dark,
    /// On a light ground.
    Light,
}

impl Theme {
    /// The theme for a terminal: `NO_COLOR`, set and not empty, means none; `COLORFGBG` (`fg;bg`,
    /// as rxvt, Konsole and others set it) tells a light ground from a dark one.
    pub fn detect(no_color: Option<&str>, colorfgbg: Option<&str>) -> Self {
        if no_color.is_some_and(|value| !value.is_empty()) {
            return Self::Plain;
        }
        let ground = colorfgbg.and_then(|value| value.rsplit(';').next()?.parse::<u8>().ok());
        match ground {
            Some(7 | 9..=15) => Self::Light,
            _ => Self::Dark,
        }
    }

    /// The look of a tone.
    pub fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let attribute = match tone {
            Tone::Plain => return plain,
            Tone::Faint => plain.add_modifier(Modifier::DIM),
            Tone::Good => plain,
            Tone::Strong | Tone::Bad | Tone::Key => plain.add_modifier(Modifier::BOLD),
            Tone::Doubtful => plain.add_modifier(Modifier::UNDERLINED),
            Tone::Agent => plain.add_modifier(Modifier::ITALIC),
        };
        match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain | Tone::Faint | Tone::Strong) => attribute,
            (_, Tone::Good) => plain.fg(Color::Green),
            (_, Tone::Bad) => attribute.fg(Color::Red),
            (Self::Dark, Tone::Doubtful) => plain.fg(Color::Yellow),
            (Self::Light, Tone::Doubtful) => attribute.fg(Color::Magenta),
            (Self::Dark, Tone::Key) => attribute.fg(Color::Cyan),
            (Self::Light, Tone::Key) => attribute.fg(Color::Blue),
            (Self::Dark, Tone::Agent) => attribute.fg(Color::Magenta),
            (Self::Light, Tone::Agent) => attribute.fg(Color::Blue),
        }
    }

    /// The look of the row under the cursor: the terminal's own colours the other way round, which
    /// is legible on every ground.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TONES: [Tone; 8] = [
        Tone::Plain,
        Tone::Faint,
        Tone::Strong,
        Tone::Good,
        Tone::Bad,
        Tone::Doubtful,
        Tone::Key,
        Tone::Agent,
    ];

    #[test]
    fn no_color_leaves_attributes_alone() {
        assert_eq!(Theme::detect(Some("1"), Some("0;15")), Theme::Plain);
        assert_eq!(Theme::detect(Some(""), None), Theme::Dark);
        for tone in TONES {
            let style = Theme::Plain.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
    }

    #[test]
    fn a_light_ground_is_seen_and_gets_no_yellow_and_no_cyan() {
        assert_eq!(Theme::detect(None, Some("0;15")), Theme::Light);
        assert_eq!(Theme::detect(None, Some("15;default;0")), Theme::Dark);
        for tone in TONES {
            let fg = Theme::Light.style(tone).fg;
            assert!(!matches!(fg, Some(Color::Yellow | Color::Cyan)), "{tone:?}");
        }
    }

    #[test]
    fn every_colour_is_one_of_the_sixteen_and_no_ground_is_set() {
        for theme in [Theme::Dark, Theme::Light] {
            for style in TONES.map(|tone| theme.style(tone)) {
                assert!(!matches!(style.fg, Some(Color::Rgb(..) | Color::Indexed(_))));
                assert_eq!(style.bg, None);
            }
            assert!(theme.selected().add_modifier.contains(Modifier::REVERSED));
        }
    }
}
