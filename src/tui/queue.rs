//! What waits for an answer: the entries, their order, the cursor and the marks.
//!
//! Owns which entry a key acts on. Invariants: entries are known by their number, never by their
//! row; an entry whose digest changed loses its mark, and shakes the cursor where that stands on it.

use super::clock::{self, Now};
use super::cursor::Cursor;
use crate::addr::Host;
use crate::control::wire::{Request, State};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// At most this many entries are kept; a gateway holds back far earlier.
const MOST: usize = 20_000;

/// A request's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

impl Number {
    /// `r41`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('r')?.parse().ok().map(Self)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// An entry of the queue, with what is worked out once.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub number: Number,
    /// What the gateway said.
    pub request: Request,
    /// Its host, where that is one.
    pub host: Option<Host>,
    /// When it was first asked, in milliseconds.
    pub first: i64,
    /// Until when its clients are held.
    pub until: Option<i64>,
    /// What a search looks at, in lower case.
    hay: String,
}

impl Entry {
    /// `None` where its number is none.
    pub fn new(request: Request) -> Option<Self> {
        let binary = request.client.as_ref().map_or("", |client| &client.binary);
        let method = request.method.as_deref().unwrap_or("");
        let path = request.path.as_deref().unwrap_or("");
        let hay = [
            &*request.request,
            &request.sandbox,
            binary,
            method,
            &request.host,
            request.unicode.as_deref().unwrap_or(""),
            path,
        ]
        .join(" ")
        .to_lowercase();
        Some(Self {
            number: Number::parse(&request.request)?,
            host: Host::parse(&request.host).ok(),
            first: clock::parse(&request.first_seen).unwrap_or(0),
            until: request.held_until.as_deref().and_then(clock::parse),
            hay,
            request,
        })
    }

    fn found(&self, words: &str) -> bool {
        words.split_whitespace().all(|word| self.hay.contains(word))
    }
}

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// What holds a client first; in that the sandboxes take turns, each with its oldest first, so
    /// that what one of them floods the queue with stands before nobody else's.
    #[default]
    Turn,
    /// The oldest first.
    Number,
    /// What is held for the shortest time first.
    Deadline,
    /// By the host's labels from the right, then by path.
    Host,
    /// Most risk notes first.
    Risk,
    /// Most often asked first.
    Count,
}

impl Sort {
    /// Its word in the header.
    pub fn word(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Number => "number",
            Self::Deadline => "time left",
            Self::Host => "host",
            Self::Risk => "risk",
            Self::Count => "count",
        }
    }

    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Turn => Self::Deadline,
            Self::Deadline => Self::Host,
            Self::Host => Self::Risk,
            Self::Risk => Self::Count,
            Self::Count => Self::Number,
            Self::Number => Self::Turn,
        }
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    entries: BTreeMap<Number, Entry>,
    rows: Vec<Number>,
    cursor: Cursor<Number>,
    marks: BTreeSet<Number>,
    sort: Sort,
    search: String,
    /// What events said while the list was on its way: newer than the list.
    touched: BTreeSet<Number>,
    /// How many entries hold a client.
    held: usize,
    /// More wait than are kept.
    beyond: bool,
    /// `rows` is out of date.
    stale: bool,
}

impl Queue {
    /// An entry by its number.
    pub fn get(&self, number: Number) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// All entries, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many there are, found by the search or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of them hold a client.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether more wait than are kept: those are not shown before the list is read again.
    pub fn is_short(&self) -> bool {
        self.beyond
    }

    /// What the list shows, in its order.
    pub fn rows(&self) -> &[Number] {
        &self.rows
    }

    /// The cursor.
    pub fn cursor(&self) -> &Cursor<Number> {
        &self.cursor
    }

    /// What the cursor stands on.
    pub fn selected(&self) -> Option<&Entry> {
        self.get(*self.cursor.selected()?)
    }

    /// Whether it is marked.
    pub fn marked(&self, number: Number) -> bool {
        self.marks.contains(&number)
    }

    /// What is marked, the oldest first.
    pub fn marks(&self) -> &BTreeSet<Number> {
        &self.marks
    }

    /// What it is sorted by.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// The words that are searched for.
    pub fn search(&self) -> &str {
        &self.search
    }

    /// Takes in how an entry stands now. True where it was not known.
    pub fn put(&mut self, request: Request, now: Now) -> bool {
        let Some(entry) = Entry::new(request) else { return false };
        self.touched.insert(entry.number);
        self.insert(entry, now)
    }

    fn insert(&mut self, entry: Entry, now: Now) -> bool {
        let number = entry.number;
        if entry.request.state != State::Pending {
            self.remove(number);
            return false;
        }
        let old = self.entries.get(&number);
        if old.is_none() && self.entries.len() >= MOST {
            self.beyond = true;
            return false;
        }
        let changed = old.is_some_and(|old| old.request.digest != entry.request.digest);
        if changed {
            self.marks.remove(&number);
            if self.cursor.selected() == Some(&number) {
                self.cursor.shake(now.steady);
            }
        }
        self.stale = true;
        self.entries.insert(number, entry).is_none()
    }

    /// An entry waits no longer.
    pub fn remove(&mut self, number: Number) {
        self.touched.insert(number);
        self.marks.remove(&number);
        self.stale |= self.entries.remove(&number).is_some();
    }

    /// A list is asked for: what events say from here on is newer than it.
    pub fn asked(&mut self) {
        self.touched.clear();
    }

    /// Takes in the whole list.
    pub fn replace(&mut self, list: Vec<Request>, now: Now) {
        let list: Vec<Entry> = list.into_iter().filter_map(Entry::new).collect();
        let kept: BTreeSet<Number> = list.iter().map(|entry| entry.number).collect();
        let touched = std::mem::take(&mut self.touched);
        self.entries.retain(|number, _| kept.contains(number) || touched.contains(number));
        self.marks.retain(|number| self.entries.contains_key(number));
        (self.stale, self.beyond) = (true, false);
        for entry in list {
            if !touched.contains(&entry.number) {
                self.insert(entry, now);
            }
        }
        self.touched = touched;
    }

    /// Sorts by something else.
    pub fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.stale = true;
    }

    /// Shows only what has these words.
    pub fn search_for(&mut self, words: &str) {
        self.search = words.to_lowercase();
        self.stale = true;
    }

    /// Marks what the cursor stands on, or takes its mark, and moves on.
    pub fn toggle_mark(&mut self) {
        if let Some(number) = self.cursor.selected().copied() {
            if !self.marks.remove(&number) {
                self.marks.insert(number);
            }
            self.cursor.step(&self.rows, 1);
        }
    }

    /// Takes all marks away; false where there was none.
    pub fn unmark(&mut self) -> bool {
        !std::mem::take(&mut self.marks).is_empty()
    }

    /// The user moves the cursor.
    pub fn step(&mut self, steps: isize) {
        self.cursor.step(&self.rows, steps);
    }

    /// The user puts the cursor on a row.
    pub fn go(&mut self, row: usize) {
        self.cursor.go(&self.rows, row);
    }

    /// Brings the list up to date after what happened. Called once a message.
    pub fn settle(&mut self, now: Now) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.held = self.entries.values().filter(|entry| entry.request.held > 0).count();
        let found = self.entries.values().filter(|entry| entry.found(&self.search));
        self.rows = match self.sort {
            Sort::Turn => in_turn(found),
            Sort::Number => found.map(|entry| entry.number).collect(),
            Sort::Deadline => sorted(found, |entry| entry.until.unwrap_or(i64::MAX)),
            Sort::Host => sorted(found, |entry| {
                let labels: Vec<&str> = entry.request.host.rsplit('.').collect();
                (labels, entry.request.path.as_deref())
            }),
            Sort::Risk => sorted(found, |entry| std::cmp::Reverse(entry.request.risk.len())),
            Sort::Count => sorted(found, |entry| std::cmp::Reverse(entry.request.count)),
        };
        self.cursor.settle(&self.rows, now.steady);
    }
}

/// Those that hold a client, then the others; in each, the first of every sandbox, the second of
/// every sandbox, and so on. `entries` come by number.
fn in_turn<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Number> {
    let mut turns: HashMap<(bool, &str), usize> = HashMap::new();
    sorted(entries, |entry| {
        let unheld = entry.request.held == 0;
        let turn = turns.entry((unheld, &entry.request.sandbox)).or_default();
        *turn += 1;
        (unheld, *turn)
    })
}

/// Sorted by `key`, and by number where that is equal.
fn sorted<'a, K: Ord>(
    entries: impl Iterator<Item = &'a Entry>,
    mut key: impl FnMut(&'a Entry) -> K,
) -> Vec<Number> {
    let mut keyed: Vec<(K, Number)> = entries.map(|e| (key(e), e.number)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, number)| number).collect()
}
