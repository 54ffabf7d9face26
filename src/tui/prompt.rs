//! What the pane asks before it answers anything.
//!
//! Owns the questions. Invariants: a question carries the digests of what was on the screen when it
//! was put, and an answer carries them on; a question whose entry changed or went takes no yes; for
//! its first [`GUARD`] it is deaf.

use super::cursor::GUARD;
use super::line::Line;
use super::page::Page;
use super::queue::{Entry, Number, Queue};
use super::strip::Strip;
use crate::control::wire::{Breadth, Decision, Grant, Scope, Verdict};
use globset::{GlobBuilder, GlobMatcher};

/// For how long a session answer may hold, from narrow to wide; the first is the session itself.
const LASTS: [Option<&str>; 5] = [None, Some("15m"), Some("1h"), Some("8h"), Some("24h")];

/// A question on the screen.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// About one request.
    Answer(Answer),
    /// About many.
    Many(Many),
    /// Whether to take a grant back.
    Revoke {
        /// The grant as it was shown.
        grant: Grant,
        /// When it was asked.
        opened: u64,
    },
    /// What to search for; not a question, and never deaf.
    Search {
        /// What is typed.
        line: Line,
    },
}

impl Prompt {
    /// Whether keys do nothing yet at `now`.
    pub fn deaf(&self, now: u64) -> bool {
        let opened = match self {
            Self::Answer(answer) => answer.opened,
            Self::Many(many) => many.opened,
            Self::Revoke { opened, .. } => *opened,
            Self::Search { .. } => return false,
        };
        now < opened.saturating_add(GUARD)
    }

    /// The line that is typed, where one is.
    pub fn line(&mut self) -> Option<&mut Line> {
        match self {
            Self::Answer(answer) if answer.types() => Some(&mut answer.line),
            Self::Search { line, .. } => Some(line),
            Self::Answer(_) | Self::Many(_) | Self::Revoke { .. } => None,
        }
    }
}

/// What became of the entry while it was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It stands as it was shown.
    #[default]
    Same,
    /// It shows something else now.
    Changed,
    /// It waits no longer.
    Gone,
}

/// The question about one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request.
    pub number: Number,
    /// The digest of what was shown.
    pub digest: String,
    /// Yes or no.
    pub verdict: Verdict,
    /// How long it holds.
    pub scope: Scope,
    /// How much it covers.
    pub breadth: Breadth,
    /// The place in [`LASTS`].
    lasts: usize,
    /// For any process.
    pub any_process: bool,
    /// The path pattern of an approval, the reason of a denial.
    pub line: Line,
    /// When it was asked.
    pub opened: u64,
    /// What became of the entry.
    pub fate: Fate,
}

impl Answer {
    /// Asks about an entry as it stands.
    pub fn new(entry: &Entry, verdict: Verdict, scope: Scope, now: u64) -> Self {
        Self {
            number: entry.number,
            digest: entry.request.digest.clone(),
            verdict,
            scope,
            breadth: Breadth::Exact,
            lasts: 0,
            any_process: false,
            line: Line::default(),
            opened: now,
            fate: Fate::Same,
        }
    }

    /// Whether characters go into the line.
    pub fn types(&self) -> bool {
        match self.verdict {
            Verdict::Deny => true,
            Verdict::Approve => self.breadth == Breadth::Path,
        }
    }

    /// How long a session answer holds; `None`: until the session ends.
    pub fn lasts(&self) -> Option<&'static str> {
        LASTS[self.lasts]
    }

    /// Covers more, or less again; `once` covers one request and nothing else.
    pub fn widen(&mut self, entry: &Entry, narrower: bool) {
        if self.scope == Scope::Once {
            return;
        }
        let has_path = entry.request.proposal.path.is_some();
        let (exact, path, host) = (Breadth::Exact, Breadth::Path, Breadth::Host);
        self.breadth = match (self.breadth, narrower) {
            (Breadth::Exact, false) | (Breadth::Host, true) if has_path => path,
            (Breadth::Exact | Breadth::Path, false) | (Breadth::Exact, true) => host,
            (Breadth::Path | Breadth::Host, _) => exact,
        };
        if self.verdict == Verdict::Approve && self.breadth == Breadth::Path {
            self.line = Line::new(entry.request.proposal.path.as_deref().unwrap_or("/"));
        }
    }

    /// Holds for longer, or for less long.
    pub fn lengthen(&mut self, shorter: bool) {
        if self.scope == Scope::Session {
            let count = LASTS.len();
            self.lasts = (self.lasts + if shorter { count - 1 } else { 1 }) % count;
        }
    }

    /// How many other entries that wait the answer would cover.
    pub fn also(&self, queue: &Queue, entry: &Entry) -> u64 {
        let proposal = &entry.request.proposal;
        match self.breadth {
            Breadth::Exact => 0,
            Breadth::Host => proposal.also_host,
            Breadth::Path => match self.edited(entry) {
                None => proposal.also,
                Some(pattern) => covered(&pattern, queue, entry),
            },
        }
    }

    /// The pattern, where it is not the proposed one.
    fn edited(&self, entry: &Entry) -> Option<String> {
        let text = self.line.text();
        let proposed = entry.request.proposal.path.as_deref();
        (self.types()
            && self.breadth == Breadth::Path
            && Some(&*text) != proposed
            && self.verdict == Verdict::Approve)
            .then_some(text)
    }

    /// Why it can't be answered like this; `None` where it can.
    pub fn objection(&self, entry: &Entry) -> Option<&'static str> {
        let pattern = self.edited(entry)?;
        if !pattern.starts_with('/') {
            return Some("a path pattern begins with /");
        }
        glob(&pattern).is_none().then_some("the pattern is not well formed: mind [ ] { } and \\")
    }

    /// The answer as it is sent.
    pub fn decision(&self, entry: &Entry) -> Decision {
        let reason = (self.verdict == Verdict::Deny && !self.line.is_empty())
            .then(|| self.line.text().trim().to_owned());
        let session = self.scope == Scope::Session;
        Decision {
            decision: self.verdict,
            scope: self.scope,
            breadth: self.breadth,
            path: self.edited(entry),
            methods: None,
            any_process: self.any_process,
            lasts: self.lasts().filter(|_| session).map(str::to_owned),
            reason: reason.filter(|text| !text.is_empty()),
            digest: self.digest.clone(),
            via: Some("term".to_owned()),
        }
    }
}

/// How many other entries of the same sandbox, host, port and methods a pattern covers.
fn covered(pattern: &str, queue: &Queue, entry: &Entry) -> u64 {
    let Some(glob) = glob(pattern) else { return 0 };
    let own = &entry.request;
    let others = queue.entries().filter(|other| {
        let other = &other.request;
        let same = (&other.sandbox, &other.scheme, &other.host, other.port)
            == (&own.sandbox, &own.scheme, &own.host, own.port);
        let method = other.method.as_ref().is_some_and(|m| own.proposal.methods.contains(m));
        let path = other.path.as_deref().unwrap_or("");
        same && method && other.request != own.request && glob.is_match(path)
    });
    others.count() as u64
}

fn glob(pattern: &str) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.ok().map(|glob| glob.compile_matcher())
}

/// The question about many requests, each exactly as listed, for the session.
#[derive(Clone, Debug)]
pub struct Many {
    /// Yes or no.
    pub verdict: Verdict,
    /// How long it holds.
    pub scope: Scope,
    /// The requests, and the digests of what is listed.
    pub picks: Vec<(Number, String)>,
    /// The list, as it is shown.
    pub page: Page,
    /// How many of its lines have been on the screen.
    pub seen: usize,
    /// When it was asked.
    pub opened: u64,
}

impl Many {
    /// Moves the list on a screen of `height` rows.
    pub fn scroll(&mut self, rows: isize, height: usize) {
        // Seen is what was scrolled through: a jump to the end passes over nothing unseen.
        self.seen = self.seen.max(self.page.top() + height);
        let top = self.page.top().saturating_add_signed(rows).min(self.seen);
        self.page.go(top, height);
        self.seen = self.seen.max(self.page.top() + height);
    }

    /// How many lines have not been on a screen of `height` rows yet.
    pub fn unseen(&self, height: usize) -> usize {
        self.page.len().saturating_sub(self.seen.max(height))
    }

    /// The list is written again; what was seen of it was seen at another width.
    pub fn rewrite(&mut self, lines: Vec<Strip>, resized: bool) {
        self.page.rewrite(lines);
        if resized {
            self.seen = 0;
        }
    }

    /// The answers as they are sent.
    pub fn decisions(&self) -> Vec<(Number, Decision)> {
        let decision = |digest: &str| Decision {
            decision: self.verdict,
            scope: self.scope,
            breadth: Breadth::Exact,
            path: None,
            methods: None,
            any_process: false,
            lasts: None,
            reason: None,
            digest: digest.to_owned(),
            via: Some("term".to_owned()),
        };
        self.picks.iter().map(|(number, digest)| (*number, decision(digest))).collect()
    }
}
