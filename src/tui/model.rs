//! Everything the pane knows, and the messages and effects that change it and come of it.
//!
//! Owns the state alone: `update` changes it, `view` draws it, and neither does anything else.

use super::clock::Now;
use super::cursor::{Cursor, GUARD};
use super::keys::Place;
use super::page::Page;
use super::prompt::{Answer, Prompt};
use super::queue::{Number, Queue};
use super::theme::{Theme, Tone};
use super::traffic::Traffic;
use crate::control::wire::{
    Decided, Decision, EffectivePolicy, Event, Grant, Inference, Request, SandboxStatus, Status,
    Verdict,
};
use crossterm::event::{KeyEvent, MouseEvent};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// How long, in milliseconds, a remark stands in the footer.
const REMARK: u64 = 6_000;
/// How many answers can be taken back.
pub(super) const UNDOABLE: usize = 100;

/// What the pane is started with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// This sandbox alone.
    pub only: Option<String>,
    /// The time zone that times are shown in.
    pub zone: TimeZone,
    /// How tones look.
    pub theme: Theme,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
}

/// A screen, with what is its own. What events change while another screen is shown (the queue
/// with its cursor, the ring of traffic) belongs to the model.
#[derive(Clone, Debug)]
pub enum Screen {
    /// The queue.
    Pending,
    /// Everything about one request.
    Detail(Detail),
    /// Live traffic.
    Traffic,
    /// Grants in force; the cursor stands on one of them.
    Grants(Cursor<String>),
    /// The effective policy of a sandbox.
    Policy(Policy),
    /// The sandboxes and inference.
    Sandboxes(Page),
}

/// The screen of one request.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Which.
    pub number: Number,
    /// The digest of what is shown.
    pub digest: String,
    /// The text.
    pub page: Page,
    /// When what is shown last changed without the user's doing.
    pub shaken: Option<u64>,
    /// It waits no longer.
    pub gone: bool,
}

/// The screen of a policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whose; `None` before a sandbox is known.
    pub sandbox: Option<String>,
    /// What the gateway said.
    pub policy: Option<EffectivePolicy>,
    /// Words that entries must have, in lower case.
    pub search: String,
    /// The text.
    pub page: Page,
}

/// How the pane and the gateway stand to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Nothing was heard yet.
    #[default]
    Connecting,
    /// Events come in.
    Up,
    /// Nothing answers; it is tried again at this time on the steady clock.
    Gone {
        /// When.
        again: u64,
    },
}

/// Whether the terminal has the user's eyes, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// It does, or does not tell.
    #[default]
    Here,
    /// It does not.
    Elsewhere,
}

/// A remark in the footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What is said, safe for a terminal.
    pub text: String,
    /// How it looks.
    pub tone: Tone,
    /// Until when it stands.
    pub until: u64,
}

/// What comes back from answers that were sent together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) done: Vec<Number>,
    pub(super) refused: u64,
}

/// What the gateway said about itself, as far as it is shown.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    /// Its status when last heard.
    pub status: Option<Status>,
    /// The grants in force; `None` before they were read.
    pub grants: Option<Vec<Grant>>,
    /// The queue was read.
    pub queue_read: bool,
    /// What is behind each sandbox's `inference.local`, as far as it was looked at.
    pub inference: BTreeMap<String, Reading>,
}

/// What was read of a sandbox's model routes.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What the gateway last said.
    pub known: Option<Inference>,
    /// Why it said nothing the last time, safe for a terminal.
    pub failed: Option<String>,
}

impl Gateway {
    /// The sandboxes.
    pub fn sandboxes(&self) -> &[SandboxStatus] {
        self.status.as_ref().map_or(&[], |status| &status.sandboxes)
    }
}

/// Everything the pane knows.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it was started with; `size` follows the terminal.
    pub setting: Setting,
    /// The time of the last tick.
    pub now: Now,
    /// The connection.
    pub link: Link,
    /// The user's eyes.
    pub focus: Focus,
    /// What waits.
    pub queue: Queue,
    /// What goes by.
    pub traffic: Traffic,
    /// What else the gateway said.
    pub gateway: Gateway,
    /// The screen.
    pub screen: Screen,
    /// What is asked.
    pub prompt: Option<Prompt>,
    /// The help, where it is open.
    pub help: Option<Page>,
    /// The footer's remark.
    pub remark: Option<Remark>,
    /// Answers that are on their way.
    pub sent: BTreeSet<Number>,
    /// Answers that can be taken back, the last one last; those given together are together.
    pub(super) given: Vec<Vec<Number>>,
    pub(super) tally: Tally,
    /// When the user was last called.
    pub(super) called: Option<u64>,
    /// The screen is out of date.
    pub(super) stale: bool,
}

/// What happens to the pane.
#[derive(Debug)]
pub enum Msg {
    /// Time goes on. Every other message is of the time of the last tick.
    Tick(Now),
    /// A key.
    Key(KeyEvent),
    /// Text that was pasted.
    Paste(String),
    /// A click or a wheel.
    Mouse(MouseEvent),
    /// The terminal has another size: columns, rows.
    Resize(u16, u16),
    /// The terminal got or lost the user's eyes.
    Focus(Focus),
    /// Events will come in from now on, or don't any more.
    Link(Link),
    /// An event of the gateway.
    Event(Box<Event>),
    /// An answer of the gateway to something that was asked.
    Read(Read),
    /// What became of something that was sent.
    Done(Done),
}

/// What was read.
#[derive(Debug)]
pub enum Read {
    /// The queue.
    Requests(Vec<Request>),
    /// One entry, whatever its state.
    Request(Box<Request>),
    /// The grants.
    Grants(Vec<Grant>),
    /// The status, with the sandboxes.
    Status(Box<Status>),
    /// A policy.
    Policy(Box<EffectivePolicy>),
    /// The model routes of sandboxes, or why they could not be read.
    Inference(Vec<(String, Result<Inference, Refusal>)>),
    /// It could not be read.
    Failed(Refusal),
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code: `changed`, `decided`, `not_found`; `unreachable` where no gateway answered.
    pub code: String,
    /// One sentence, safe for a terminal.
    pub text: String,
}

/// What became of something that was sent.
#[derive(Debug)]
pub enum Done {
    /// An answer.
    Decided {
        /// To which request.
        number: Number,
        /// Yes or no.
        verdict: Verdict,
        /// What the gateway made of it.
        result: Result<Box<Decided>, Refusal>,
        /// How many of those sent together are still to come.
        left: usize,
    },
    /// An answer was taken back.
    Undone {
        /// The answer to which request.
        number: Number,
        /// The entry as it stands now.
        result: Result<Box<Request>, Refusal>,
    },
    /// A grant was taken back.
    Revoked {
        /// Its id.
        grant: String,
        /// What the gateway made of it.
        result: Result<(), Refusal>,
    },
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send answers, one after the other.
    Decide(Vec<(Number, Decision)>),
    /// Take answers back.
    Undo(Vec<Number>),
    /// Take a grant back.
    Revoke(String),
    /// Read the queue.
    ReadRequests,
    /// Read one entry.
    ReadRequest(Number),
    /// Read the grants.
    ReadGrants,
    /// Read the status.
    ReadStatus,
    /// Read a sandbox's policy.
    ReadPolicy(String),
    /// Read the model routes of these sandboxes.
    ReadInference(Vec<String>),
    /// Call the user: bell and notice, with this text.
    Call(String),
    /// Hand the terminal back until the shell continues us.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// Leave.
    Quit,
}

impl Model {
    /// A pane that has heard nothing yet.
    pub fn new(setting: Setting, now: Now) -> Self {
        Self {
            setting,
            now,
            link: Link::Connecting,
            focus: Focus::Here,
            queue: Queue::default(),
            traffic: Traffic::default(),
            gateway: Gateway::default(),
            screen: Screen::Pending,
            prompt: None,
            help: None,
            remark: None,
            sent: BTreeSet::new(),
            given: Vec::new(),
            tally: Tally::default(),
            called: None,
            stale: true,
        }
    }

    /// Whether the screen is out of date; it is not, once this was asked.
    pub fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Whether the screen is out of date.
    pub fn stale(&self) -> bool {
        self.stale
    }

    /// When, on the steady clock, the screen changes by time alone: the next second, the end of a
    /// remark, of a guard, of a prompt's deafness.
    pub fn wake(&self) -> u64 {
        let into = u64::try_from(self.now.wall.rem_euclid(1000)).unwrap_or(0);
        let second = self.now.steady + 1000 - into;
        let remark = self.remark.as_ref().map(|remark| remark.until);
        remark.into_iter().filter(|at| *at > self.now.steady).fold(second, u64::min)
    }

    /// Where keys are looked up, first place first.
    pub fn places(&self) -> &'static [Place] {
        if self.help.is_some() {
            return &[Place::Help, Place::Scroll];
        }
        match &self.prompt {
            Some(Prompt::Answer(answer)) if answer.types() => &[Place::Answer, Place::Text],
            Some(Prompt::Answer(_)) => &[Place::Answer],
            Some(Prompt::Many(_) | Prompt::Revoke { .. }) => &[Place::Confirm, Place::Scroll],
            Some(Prompt::Search { .. }) => &[Place::Search, Place::Text],
            None => match self.screen {
                Screen::Pending => {
                    &[Place::Request, Place::Pending, Place::Scroll, Place::Anywhere]
                }
                Screen::Detail(_) => {
                    &[Place::Request, Place::Detail, Place::Scroll, Place::Anywhere]
                }
                Screen::Traffic => &[Place::Traffic, Place::Scroll, Place::Anywhere],
                Screen::Grants(_) => &[Place::Grants, Place::Scroll, Place::Anywhere],
                Screen::Policy(_) => &[Place::Policy, Place::Scroll, Place::Anywhere],
                Screen::Sandboxes(_) => &[Place::Sandboxes, Place::Scroll, Place::Anywhere],
            },
        }
    }

    /// The digit of the pane that is shown, from 0.
    pub fn pane(&self) -> u8 {
        match self.screen {
            Screen::Pending | Screen::Detail(_) => 0,
            Screen::Traffic => 1,
            Screen::Grants(_) => 2,
            Screen::Policy(_) => 3,
            Screen::Sandboxes(_) => 4,
        }
    }

    /// Whether what a key would act on changed so lately that the key does nothing.
    pub fn guarded(&self) -> bool {
        let now = self.now.steady;
        match &self.screen {
            Screen::Pending => self.queue.cursor().guarded(now),
            Screen::Grants(cursor) => cursor.guarded(now),
            Screen::Detail(detail) => {
                detail.shaken.is_some_and(|at| now < at.saturating_add(GUARD))
            }
            Screen::Traffic | Screen::Policy(_) | Screen::Sandboxes(_) => false,
        }
    }

    /// The question about one request, where it is put.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.prompt {
            Some(Prompt::Answer(answer)) => Some(answer),
            Some(Prompt::Many(_) | Prompt::Revoke { .. } | Prompt::Search { .. }) | None => None,
        }
    }

    /// What is wrong or worth knowing about the gateway, gravest first.
    pub fn warnings(&self) -> Vec<String> {
        let Some(status) = &self.gateway.status else { return Vec::new() };
        let mut out = Vec::new();
        if !status.recording {
            out.push("records can't be written: nothing passes".to_owned());
        }
        if status.observe {
            out.push("observing: unknown requests are let through".to_owned());
        }
        out.extend(status.warnings.iter().cloned());
        for sandbox in &status.sandboxes {
            if let Some(why) = &sandbox.rejected {
                let name = &sandbox.name;
                let said = format!("{name}: the newest policy is not in force: {why}");
                if !status.warnings.iter().any(|warning| warning.contains(why)) {
                    out.push(said);
                }
            }
        }
        out
    }

    /// Says something in the footer.
    pub(super) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        let until = self.now.steady + REMARK;
        self.remark = Some(Remark { text: text.into(), tone, until });
    }
}
