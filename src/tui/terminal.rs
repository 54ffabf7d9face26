//! The user's terminal: taken, drawn on, called, and handed back.
//!
//! Owns the promise that the terminal is handed back as it was, however the pane ends: by a key, a
//! signal, an error or a panic.

use super::ansi::Ansi;
use super::model::Model;
use super::view;
use crossterm::cursor::Show;
use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste,
    EnableFocusChange, EnableMouseCapture,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::layout::Position;
use rustix::process::{Signal, getpid, kill_process};
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that a picture may have before it is written in parts.
const PICTURE: usize = 256 << 10;

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The panic hook is set once.
static HOOK: Once = Once::new();

/// The terminal, ours until it is dropped.
pub(super) struct Tty(Terminal<Ansi<BufWriter<Stdout>>>);

impl Tty {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                hand_back();
                before(panic);
            }));
        });
        take()?;
        let out = BufWriter::with_capacity(PICTURE, io::stdout());
        Terminal::new(Ansi::new(out)).map(Self).inspect_err(|_| hand_back())
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.0.size().map(|size| (size.width, size.height))
    }

    /// Draws what changed, in one go where the terminal can. An error once a panic, anywhere, has
    /// handed the terminal back.
    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Err(io::Error::other("the pane has closed: something in it panicked"));
        }
        queue!(self.0.backend_mut(), BeginSynchronizedUpdate)?;
        self.0.draw(|frame| view::view(model, frame))?;
        queue!(self.0.backend_mut(), EndSynchronizedUpdate)?;
        io::Write::flush(self.0.backend_mut())
    }

    /// Draws everything again next time. (`Terminal::clear` would ask the terminal where its
    /// cursor is, and the answer would be read as keys.)
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let size = self.0.size()?;
        self.0.resize((Position::ORIGIN, size).into())
    }

    /// Rings the bell and shows a notice (OSC 9), where the terminal does that. `text` is
    /// printable ASCII.
    pub(super) fn call(&mut self, text: &str) -> io::Result<()> {
        write!(self.0.backend_mut(), "\u{7}\u{1b}]9;{text}\u{1b}\\")?;
        io::Write::flush(self.0.backend_mut())
    }

    /// Hands the terminal back and stops, until somebody continues us.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        hand_back();
        kill_process(getpid(), Signal::STOP)?;
        self.resume()
    }

    /// Takes the terminal again, whatever was done to it meanwhile.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        hand_back();
        take()?;
        self.clear()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        hand_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        EnableMouseCapture,
        EnableFocusChange,
        EnableBracketedPaste
    )
    .inspect_err(|_| hand_back())
}

/// Hands the terminal back, once. What fails here has nobody left to be told.
fn hand_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(
        io::stdout(),
        EndSynchronizedUpdate,
        DisableBracketedPaste,
        DisableFocusChange,
        DisableMouseCapture,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}
