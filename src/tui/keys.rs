//! The keys: one table for dispatch, footer, help and docs.
//!
//! Owns which key does what where. `docs/approval.md` carries the table as [`markdown`] prints it
//! (a test holds them together).

use super::line::Edit;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::fmt;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character, shift included: `X`.
    Char(char),
    /// With Ctrl.
    Ctrl(char),
    /// One that types nothing.
    Code(KeyCode),
}

impl Key {
    /// The key of a terminal's event; `None` for a release and for what has no meaning here.
    pub fn of(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release || event.modifiers.contains(KeyModifiers::ALT) {
            return None;
        }
        Some(match event.code {
            KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Self::Ctrl(c),
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => {
                Self::Code(KeyCode::BackTab)
            }
            code => Self::Code(code),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(' ') => f.write_str("Space"),
            Self::Char(c) => write!(f, "{c}"),
            Self::Ctrl(c) => write!(f, "Ctrl-{}", c.to_ascii_uppercase()),
            Self::Code(KeyCode::BackTab) => f.write_str("Shift-Tab"),
            Self::Code(KeyCode::PageUp) => f.write_str("PgUp"),
            Self::Code(KeyCode::PageDown) => f.write_str("PgDn"),
            Self::Code(KeyCode::Up) => f.write_str("↑"),
            Self::Code(KeyCode::Down) => f.write_str("↓"),
            Self::Code(KeyCode::Left) => f.write_str("←"),
            Self::Code(KeyCode::Right) => f.write_str("→"),
            Self::Code(code) => write!(f, "{code}"),
        }
    }
}

/// Where a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The queue.
    Pending,
    /// Everything about one request.
    Detail,
    /// Live traffic.
    Traffic,
    /// Grants in force.
    Grants,
    /// The effective policy.
    Policy,
    /// The sandboxes.
    Sandboxes,
    /// Wherever one request is looked at: the queue and the detail.
    Request,
    /// Anything that scrolls.
    Scroll,
    /// Any pane.
    Anywhere,
    /// The question whether to approve or deny one request.
    Answer,
    /// A question about many things, or about taking a grant back.
    Confirm,
    /// The search line.
    Search,
    /// A line that is typed.
    Text,
    /// The help.
    Help,
}

impl Place {
    /// Its heading in the help.
    fn title(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Detail => "Detail",
            Self::Traffic => "Traffic",
            Self::Grants => "Grants",
            Self::Policy => "Policy",
            Self::Sandboxes => "Sandboxes",
            Self::Request => "Pending and Detail",
            Self::Scroll => "Lists and pages",
            Self::Anywhere => "Everywhere",
            Self::Answer => "While it asks about one request",
            Self::Confirm => "While it asks about many, or a grant",
            Self::Search => "While searching",
            Self::Text => "While typing",
            Self::Help => "This help",
        }
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave.
    Quit,
    /// The help, or away with it.
    Help,
    /// A pane by its digit.
    Pane(u8),
    /// The next pane.
    NextPane,
    /// The pane before.
    LastPane,
    /// So many rows down; up where it is negative.
    Move(isize),
    /// So many screens down.
    Page(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Show all about a request.
    Open,
    /// Back to where one came from.
    Back,
    /// Ask whether to approve, for the session.
    Approve,
    /// Ask whether to approve once.
    Once,
    /// Ask whether to approve for good.
    Always,
    /// Ask whether to deny.
    Deny,
    /// Ask whether to deny for the session.
    DenySession,
    /// Take the last answer back.
    Undo,
    /// List all and ask.
    All,
    /// Mark for an answer to many.
    Mark,
    /// Search, or filter.
    Search,
    /// Sort by something else.
    Sort,
    /// Hold the traffic still, or let it go on.
    Pause,
    /// Another verdict alone.
    Verdict,
    /// The next sandbox alone.
    Sandbox,
    /// Ask whether to take a grant back.
    Revoke,
    /// Cover more.
    Widen,
    /// Cover less.
    Narrow,
    /// Hold for longer.
    Longer,
    /// Hold for less long.
    Shorter,
    /// For any process, or for the one that asked.
    AnyProcess,
    /// Yes to what is shown.
    Confirm,
    /// No.
    Cancel,
    /// Edit the line.
    Edit(Edit),
    /// To the shell, until `fg`.
    Suspend,
    /// Draw everything again.
    Redraw,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where it holds.
    pub place: Place,
    /// The keys; the first ones are those that are shown.
    pub keys: &'static [Key],
    /// What they do, by key where they differ.
    pub actions: &'static [Action],
    /// The same for people.
    pub does: &'static str,
    /// A word for the footer; empty where it does not stand there.
    pub short: &'static str,
}

use Action as A;
use Key::{Char, Code, Ctrl};
use Place as P;

const ENTER: Key = Code(KeyCode::Enter);
const ESC: Key = Code(KeyCode::Esc);
const UP: Key = Code(KeyCode::Up);
const DOWN: Key = Code(KeyCode::Down);

const fn on(
    place: Place,
    keys: &'static [Key],
    actions: &'static [Action],
    does: &'static str,
    short: &'static str,
) -> Binding {
    Binding { place, keys, actions, does, short }
}

/// The table.
#[rustfmt::skip]
pub const KEYS: &[Binding] = &[
    on(P::Pending, &[ENTER], &[A::Open], "show everything about the request", "detail"),
    on(P::Detail, &[ESC, Char('h'), Code(KeyCode::Left)], &[A::Back], "back to the list", "back"),
    on(P::Request, &[Char('a')], &[A::Approve], "approve for the session: a line below shows what that covers, Tab widens it, Enter confirms", "approve"),
    on(P::Request, &[Char('o')], &[A::Once], "approve this one request", "once"),
    on(P::Request, &[Char('p')], &[A::Always], "approve for good: a rule in your own file", "always"),
    on(P::Request, &[Char('x')], &[A::Deny], "deny, with a reason that the agent reads", "deny"),
    on(P::Request, &[Char('X')], &[A::DenySession], "deny for the session: it is not asked again", ""),
    on(P::Request, &[Char('u')], &[A::Undo], "take the last answer back", "undo"),
    on(P::Pending, &[Char('A')], &[A::All], "list all that wait (all marked, all found) and ask", "all"),
    on(P::Pending, &[Char(' ')], &[A::Mark], "mark: a, o, x and X then ask about all marked", "mark"),
    on(P::Pending, &[Char('s')], &[A::Sort], "sort: in turn, by time left, host, risk, count, number", "sort"),
    on(P::Pending, &[Char('/')], &[A::Search], "search in sandbox, process, method, host and path", "search"),
    on(P::Pending, &[ESC], &[A::Cancel], "drop the marks, then the search", ""),
    on(P::Traffic, &[Char(' ')], &[A::Pause], "hold still, and go on", "pause"),
    on(P::Traffic, &[Char('v')], &[A::Verdict], "one verdict alone: allow, audit, deny, unknown, none", "verdict"),
    on(P::Traffic, &[Char('s')], &[A::Sandbox], "one sandbox alone", "sandbox"),
    on(P::Traffic, &[Char('/')], &[A::Search], "filter by host, method, path or process", "filter"),
    on(P::Traffic, &[ESC], &[A::Cancel], "drop the filters", ""),
    on(P::Grants, &[Char('r'), Code(KeyCode::Delete)], &[A::Revoke], "revoke the grant; it asks first", "revoke"),
    on(P::Policy, &[Char('s'), Code(KeyCode::Right)], &[A::Sandbox], "the next sandbox's policy", "sandbox"),
    on(P::Policy, &[Char('/')], &[A::Search], "show only entries in which the words stand", "search"),
    on(P::Policy, &[ESC], &[A::Cancel], "drop the search", ""),
    on(P::Scroll, &[Char('j'), Char('k'), DOWN, UP], &[A::Move(1), A::Move(-1), A::Move(1), A::Move(-1)], "down, up", "move"),
    on(P::Scroll, &[Code(KeyCode::PageDown), Code(KeyCode::PageUp), Ctrl('f'), Ctrl('b')], &[A::Page(1), A::Page(-1), A::Page(1), A::Page(-1)], "a screen down, up", ""),
    on(P::Scroll, &[Char('g'), Char('G'), Code(KeyCode::Home), Code(KeyCode::End)], &[A::First, A::Last, A::First, A::Last], "to the first, to the last", ""),
    on(P::Anywhere, &[Char('1'), Char('2'), Char('3'), Char('4'), Char('5')], &[A::Pane(0), A::Pane(1), A::Pane(2), A::Pane(3), A::Pane(4)], "Pending, Traffic, Grants, Policy, Sandboxes", ""),
    on(P::Anywhere, &[Code(KeyCode::Tab), Code(KeyCode::BackTab)], &[A::NextPane, A::LastPane], "the next pane, the one before", ""),
    on(P::Anywhere, &[Char('?'), Code(KeyCode::F(1))], &[A::Help], "this help", "help"),
    on(P::Anywhere, &[Char('q'), Ctrl('c')], &[A::Quit], "quit; that answers nothing", "quit"),
    on(P::Anywhere, &[Ctrl('z')], &[A::Suspend], "to the shell, until fg", ""),
    on(P::Anywhere, &[Ctrl('l')], &[A::Redraw], "draw the screen again", ""),
    on(P::Answer, &[ENTER], &[A::Confirm], "yes, what is shown", "confirm"),
    on(P::Answer, &[ESC, Ctrl('c')], &[A::Cancel], "no answer", "cancel"),
    on(P::Answer, &[Code(KeyCode::Tab)], &[A::Widen], "cover more: this request, a path pattern that you can edit, the whole host", "wider"),
    on(P::Answer, &[Code(KeyCode::BackTab)], &[A::Narrow], "cover less", ""),
    on(P::Answer, &[DOWN, UP], &[A::Longer, A::Shorter], "hold longer, less long", "how long"),
    on(P::Answer, &[Ctrl('p')], &[A::AnyProcess], "for any process, or for the one that asked", "process"),
    on(P::Confirm, &[Char('y')], &[A::Confirm], "yes, to all that is listed", "yes"),
    on(P::Confirm, &[Char('n'), ESC, ENTER, Char('q'), Ctrl('c')], &[A::Cancel], "no", "no"),
    on(P::Search, &[ENTER], &[A::Confirm], "keep what was found", "keep"),
    on(P::Search, &[ESC, Ctrl('c')], &[A::Cancel], "drop the search", "drop"),
    on(P::Text, &[Code(KeyCode::Left), Code(KeyCode::Right)], &[A::Edit(Edit::Left), A::Edit(Edit::Right)], "in the line", ""),
    on(P::Text, &[Code(KeyCode::Home), Code(KeyCode::End), Ctrl('a'), Ctrl('e')], &[A::Edit(Edit::Start), A::Edit(Edit::End), A::Edit(Edit::Start), A::Edit(Edit::End)], "to its start, its end", ""),
    on(P::Text, &[Code(KeyCode::Backspace), Code(KeyCode::Delete), Ctrl('u')], &[A::Edit(Edit::Backspace), A::Edit(Edit::Delete), A::Edit(Edit::Clear)], "delete before, here, everything", ""),
    on(P::Help, &[ESC, Char('?'), Char('q'), ENTER, Ctrl('c')], &[A::Help], "close", "close"),
];

/// The action of a key in the first of `places` that knows it.
pub(super) fn action(places: &[Place], key: Key) -> Option<Action> {
    places.iter().find_map(|place| {
        let binding = KEYS.iter().find(|b| b.place == *place && b.keys.contains(&key))?;
        binding.action(key)
    })
}

impl Binding {
    /// What one of its keys does.
    fn action(&self, key: Key) -> Option<Action> {
        let at = self.keys.iter().position(|own| *own == key)?;
        self.actions.get(at).or(self.actions.first()).copied()
    }

    /// Its keys as the help shows them.
    pub fn label(&self) -> String {
        self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The keys that the footer shows: one for each thing that it does.
    pub fn brief(&self) -> String {
        let mut seen: Vec<Action> = Vec::new();
        let mut label = String::new();
        for key in self.keys {
            if let Some(action) = self.action(*key)
                && !seen.contains(&action)
            {
                if !label.is_empty() {
                    label.push(' ');
                }
                label.push_str(&key.to_string());
                seen.push(action);
            }
        }
        label
    }
}

/// The places in the order of the help, each with its rows.
pub(super) fn sections()
-> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static Binding>)> {
    const ORDER: [Place; 14] = [
        P::Request,
        P::Pending,
        P::Detail,
        P::Answer,
        P::Confirm,
        P::Traffic,
        P::Grants,
        P::Policy,
        P::Sandboxes,
        P::Scroll,
        P::Anywhere,
        P::Search,
        P::Text,
        P::Help,
    ];
    ORDER
        .into_iter()
        .filter(|place| KEYS.iter().any(|b| b.place == *place))
        .map(|place| (place.title(), KEYS.iter().filter(move |b| b.place == place)))
}

/// The table as `docs/approval.md` carries it.
pub fn markdown() -> String {
    let mut out = String::from("| where | keys | what they do |\n|---|---|---|\n");
    for (title, rows) in sections() {
        for row in rows {
            let keys: Vec<String> = row.keys.iter().map(|key| format!("`{key}`")).collect();
            out.push_str(&format!("| {title} | {} | {} |\n", keys.join(" "), row.does));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_one_thing_in_a_place_and_each_has_its_action() {
        for (at, binding) in KEYS.iter().enumerate() {
            let (keys, actions) = (binding.keys.len(), binding.actions.len());
            assert!(actions == 1 || actions == keys, "{}", binding.does);
            for other in &KEYS[at + 1..] {
                let both = other.keys.iter().find(|key| binding.keys.contains(key));
                assert!(other.place != binding.place || both.is_none(), "{both:?} twice");
            }
        }
    }

    #[test]
    fn releases_and_alt_are_no_keys() {
        let mut event = KeyEvent::new(KeyCode::Char('a'), KeyModifiers::NONE);
        assert_eq!(Key::of(event), Some(Char('a')));
        event.kind = KeyEventKind::Release;
        assert_eq!(Key::of(event), None);
        assert_eq!(Key::of(KeyEvent::new(KeyCode::Char('a'), KeyModifiers::ALT)), None);
    }

    #[test]
    fn where_it_asks_about_many_return_and_escape_and_n_are_all_no() {
        for key in [ENTER, ESC, Char('n'), Char('q')] {
            assert_eq!(action(&[P::Confirm], key), Some(A::Cancel), "{key}");
        }
    }
}
