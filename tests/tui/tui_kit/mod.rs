//! What the tests of the pane share: entries that a sandbox might ask for, a pane without a
//! terminal, and (`gateway`) a gateway that is only a control socket.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

pub mod gateway;
pub mod samples;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use portcullis::tui::{Effect, Model, Msg, Now, Read, Setting, Theme, update, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

/// 2026-11-24T10:00:00Z.
pub const START: i64 = 1_795_514_400_000;
/// Longer than any guard.
pub const SETTLED: u64 = 300;

/// A pane without a terminal, in a zone two hours east of UTC.
pub struct Pane {
    pub model: Model,
    pub effects: Vec<Effect>,
}

impl Pane {
    pub fn new(columns: u16, rows: u16) -> Self {
        let setting = Setting {
            only: None,
            zone: TimeZone::fixed(jiff::tz::offset(2)),
            theme: Theme::Dark,
            size: (columns, rows),
        };
        let now = Now { steady: 10_000, wall: START };
        Self { model: Model::new(setting, now), effects: Vec::new() }
    }

    /// One that heard of the samples, long enough ago for every guard.
    pub fn with_samples(columns: u16, rows: u16) -> Self {
        let mut pane = Self::new(columns, rows);
        pane.hello();
        pane.read(Read::Requests(samples::requests()));
        pane.read(Read::Grants(samples::grants()));
        pane.pass(SETTLED);
        pane.effects.clear();
        pane
    }

    pub fn hello(&mut self) {
        let status = Box::new(samples::status());
        self.event(portcullis::control::wire::Event::Hello(status));
    }

    pub fn send(&mut self, msg: Msg) {
        self.effects.extend(update(&mut self.model, msg));
    }

    pub fn read(&mut self, read: Read) {
        self.send(Msg::Read(read));
    }

    pub fn event(&mut self, event: portcullis::control::wire::Event) {
        self.send(Msg::Event(Box::new(event)));
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        let now = self.model.now;
        let wall = now.wall + i64::try_from(ms).unwrap();
        self.send(Msg::Tick(Now { steady: now.steady + ms, wall }));
    }

    pub fn key(&mut self, code: KeyCode) {
        self.send(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    pub fn ctrl(&mut self, c: char) {
        self.send(Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)));
    }

    /// Keys one after the other, at once.
    pub fn press(&mut self, keys: &str) {
        for c in keys.chars() {
            self.key(KeyCode::Char(c));
        }
    }

    /// Asks, and waits until the question listens.
    pub fn ask(&mut self, key: char) {
        self.press(&key.to_string());
        self.pass(SETTLED);
    }

    pub fn enter(&mut self) {
        self.key(KeyCode::Enter);
    }

    pub fn buffer(&self) -> Buffer {
        let (columns, rows) = self.model.setting.size;
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| view(&self.model, frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    /// The screen as text, blanks at the ends of lines left out.
    pub fn screen(&self) -> String {
        let buffer = self.buffer();
        let row = |y| {
            let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect::<Vec<_>>().join("\n")
    }

    /// The screen as one line without blanks, as one reads what wraps.
    pub fn run_on(&self) -> String {
        self.screen().split_whitespace().collect()
    }
}
