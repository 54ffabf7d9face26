//! The loop: what happens goes into `update`, what comes of it is done, and the screen is drawn
//! when it is out of date, at most sixty times a second.

use super::clock::Now;
use super::frames::Frames;
use super::link::{Gateway, Outbox};
use super::model::{Effect, Focus, Model, Msg, Setting};
use super::terminal::Tty;
use super::theme::Theme;
use super::update::update;
use crate::control::client::Client;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

/// So many messages at most are taken in before keys and the screen get their turn.
const BATCH: usize = 256;
/// How long answers that were given may take when the pane closes.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the pane needs.
#[derive(Debug)]
pub struct Options {
    /// The gateway.
    pub client: Client,
    /// This sandbox alone.
    pub only: Option<String>,
    /// How it looks.
    pub theme: Theme,
}

/// Why the pane closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The user left.
    Quit,
    /// A signal, by its number.
    Signal(i32),
}

/// The time since the pane was opened, and that of the day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn now(self) -> Now {
        let steady = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { steady, wall: Timestamp::now().as_millisecond() }
    }

    fn at(self, steady: u64) -> Instant {
        self.0 + Duration::from_millis(steady)
    }
}

/// Shows the pane until the user leaves or a signal ends it. Needs a Tokio runtime.
pub async fn run(options: Options) -> io::Result<Ended> {
    let clock = Clock(Instant::now());
    let mut signals = Signals::new()?;
    let (outbox, messages) = Gateway::open(options.client, options.only.clone(), clock);
    let mut tty = Tty::take()?;
    let setting = Setting {
        only: options.only,
        zone: TimeZone::system(),
        theme: options.theme,
        size: tty.size()?,
    };
    let model = Model::new(setting, clock.now());
    tty.draw(&model)?;
    let pane =
        Pane { model, tty: &mut tty, clock, outbox: &outbox, messages, frames: Frames::new() };
    let ended = pane.run(&mut signals).await;
    drop(tty);
    outbox.close(FAREWELL).await;
    ended
}

struct Pane<'a> {
    model: Model,
    tty: &'a mut Tty,
    clock: Clock,
    outbox: &'a Outbox,
    messages: Receiver<Msg>,
    frames: Frames,
}

/// Whether the loop goes on.
enum Then {
    On,
    End(Ended),
}

impl Pane<'_> {
    async fn run(mut self, signals: &mut Signals) -> io::Result<Ended> {
        let mut keys = EventStream::new();
        let mut stale = true;
        loop {
            let then = tokio::select! {
                biased;
                key = keys.next() => match key {
                    Some(event) => self.key(event?)?,
                    None => Then::End(Ended::Signal(libc::SIGHUP)),
                },
                got = signals.next() => self.signal(got)?,
                () = sleep_until(self.frames.due()), if stale => {
                    self.draw()?;
                    Then::On
                }
                msg = self.messages.recv() => match msg {
                    Some(msg) => self.batch(msg)?,
                    None => Then::End(Ended::Quit),
                },
                () = sleep_until(self.clock.at(self.model.wake())) => {
                    self.tick()?;
                    Then::On
                }
            };
            if let Then::End(ended) = then {
                return Ok(ended);
            }
            stale = self.model.stale();
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        self.model.take_stale();
        self.frames.drawn(Instant::now());
        self.tty.draw(&self.model)
    }

    fn tick(&mut self) -> io::Result<Then> {
        let now = self.clock.now();
        self.take(Msg::Tick(now))
    }

    fn key(&mut self, event: Event) -> io::Result<Then> {
        self.tick()?;
        self.take(match event {
            Event::Key(key) => Msg::Key(key),
            Event::Mouse(mouse) => Msg::Mouse(mouse),
            Event::Paste(text) => Msg::Paste(text),
            Event::Resize(columns, rows) => Msg::Resize(columns, rows),
            Event::FocusGained => Msg::Focus(Focus::Here),
            Event::FocusLost => Msg::Focus(Focus::Elsewhere),
        })
    }

    fn batch(&mut self, first: Msg) -> io::Result<Then> {
        self.tick()?;
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(msg) = next else { break };
            if let Then::End(ended) = self.take(msg)? {
                return Ok(Then::End(ended));
            }
            next = self.messages.try_recv().ok();
        }
        match next {
            Some(msg) => self.take(msg),
            None => Ok(Then::On),
        }
    }

    /// Takes a message in, and does what comes of it.
    fn take(&mut self, msg: Msg) -> io::Result<Then> {
        let mut todo = update(&mut self.model, msg);
        while let Some(effect) = (!todo.is_empty()).then(|| todo.remove(0)) {
            match effect {
                Effect::Quit => return Ok(Then::End(Ended::Quit)),
                Effect::Suspend => self.tty.suspend()?,
                Effect::Redraw => self.tty.clear()?,
                Effect::Call(text) => self.tty.call(&text)?,
                Effect::Decide(_)
                | Effect::Undo(_)
                | Effect::Revoke(_)
                | Effect::ReadRequests
                | Effect::ReadRequest(_)
                | Effect::ReadGrants
                | Effect::ReadStatus
                | Effect::ReadPolicy(_)
                | Effect::ReadInference(_) => {
                    for msg in self.outbox.send(effect) {
                        todo.extend(update(&mut self.model, msg));
                    }
                }
            }
        }
        Ok(Then::On)
    }

    fn signal(&mut self, got: Got) -> io::Result<Then> {
        match got {
            Got::End(number) => return Ok(Then::End(Ended::Signal(number))),
            Got::Stop => self.tty.suspend()?,
            Got::Continue => self.tty.resume()?,
        }
        // The terminal may have another size by now.
        let (columns, rows) = self.tty.size()?;
        self.tick()?;
        self.take(Msg::Resize(columns, rows))
    }
}

/// A signal that came.
enum Got {
    End(i32),
    Stop,
    Continue,
}

/// The signals that the pane heeds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stop: Signal,
    resume: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    async fn next(&mut self) -> Got {
        tokio::select! {
            _ = self.terminate.recv() => Got::End(libc::SIGTERM),
            _ = self.interrupt.recv() => Got::End(libc::SIGINT),
            _ = self.hangup.recv() => Got::End(libc::SIGHUP),
            _ = self.stop.recv() => Got::Stop,
            _ = self.resume.recv() => Got::Continue,
        }
    }
}
