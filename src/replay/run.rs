//! From files to a report, on all cores: one thread reads, the others judge, the caller's puts
//! what they found in the order of the input.
//!
//! Memory stays flat: a block is read only when one of a fixed number of places is free, what was
//! judged before is remembered up to a bound, and so are groups.

use super::judge::{Judge, Now, Outcome};
use super::key;
use super::table::{Change, Changed, Group, Table, Was};
use crate::addr::Host;
use crate::policy::pattern::{HostPattern, is_reserved};
use crate::record::Judged;
use crate::traffic::read::{self, Block, Item, Progress, ReadError, Recorded, Source, Stamp};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many blocks are under way at once.
const PLACES: usize = 32;
/// From how many different requests on a worker forgets the verdicts on them, between two blocks.
const REMEMBERED: usize = 1 << 15;
/// How many broken lines are kept to be shown.
const SHOWN_BROKEN: usize = 10;
/// How many names of sandboxes are kept to be shown.
const NAMES: usize = 64;
/// How often the caller hears that it goes on.
const TICK: Duration = Duration::from_millis(100);

/// What is to be done with the records.
#[derive(Debug)]
pub struct Plan<'p> {
    /// The policy that judges.
    pub new: &'p Judge,
    /// What it is compared with; `None`: what was recorded.
    pub old: Option<&'p Judge>,
    /// Which records.
    pub filter: Filter,
    /// How each is written.
    pub style: Style,
    /// Only records that change are written.
    pub only_changed: bool,
    /// How many threads judge.
    pub workers: usize,
}

/// Which records are looked at.
#[derive(Debug, Default)]
pub struct Filter {
    /// Of this sandbox, or of none.
    pub sandbox: Option<String>,
    /// From then on, or without a time.
    pub since: Option<Stamp>,
    /// To these hosts.
    pub host: Option<HostPattern>,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all: the report is all that is wanted.
    Report,
    /// A JSON object a line.
    Json,
    /// An item of a YAML list.
    Yaml,
}

/// What it came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What changes, the most frequent first.
    pub groups: Vec<Group>,
    /// Counts.
    pub totals: Totals,
    /// The first lines that could not be read.
    pub broken: Vec<Broken>,
    /// Whose the records are that the filter left out; the first names alone.
    pub sandboxes: BTreeSet<String>,
}

/// Counts of lines, except where it says requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that were judged.
    pub judged: u64,
    /// Requests that they stand for.
    pub requests: u64,
    /// Requests that change, in the order of [`Change::ALL`].
    pub changed: [u64; 4],
    /// Requests whose verdict can't be said, changed or not.
    pub undecidable: u64,
    /// Records that no policy had judged: malformed, a limit.
    pub unjudged: u64,
    /// Records that the filter left out.
    pub left_out: u64,
    /// Events, and lines about something else.
    pub other: u64,
    /// Lines that can't be read.
    pub broken: u64,
}

/// A line that can't be read.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The file.
    pub source: Arc<Source>,
    /// The line or entry.
    pub number: u64,
    /// Whether `number` counts entries of a HAR.
    pub har: bool,
    /// Why; safe for a terminal.
    pub why: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The recording.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was written to.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// What one block came to.
#[derive(Debug, Default)]
struct Done {
    order: u64,
    records: u64,
    /// Which record of the block, and where its text ends.
    rows: Vec<(u64, usize)>,
    text: Vec<u8>,
    totals: Totals,
    broken: Vec<Broken>,
    sandboxes: BTreeSet<String>,
}

impl Done {
    fn leave_out(&mut self, record: &Recorded<'_>) {
        self.totals.left_out += 1;
        if let Some(name) = record.sandbox.as_deref()
            && self.sandboxes.len() < NAMES
            && !self.sandboxes.contains(name)
        {
            self.sandboxes.insert(name.to_owned());
        }
    }
}

/// Judges all of it. Rows go to `out` in the order of the input; `tick` is called now and then.
pub fn run(
    plan: &Plan<'_>,
    sources: &[Source],
    progress: &Progress,
    out: &mut dyn Write,
    tick: &mut dyn FnMut(),
) -> Result<Report, RunError> {
    let workers = plan.workers.max(1);
    let (free, places) = bounded(PLACES);
    (0..PLACES).try_for_each(|_| free.send(())).expect("there is room for all");
    let (to_workers, blocks) = bounded(PLACES);
    let (done, results) = bounded(PLACES);
    thread::scope(|scope| {
        let reader = scope.spawn(move || reader(sources, progress, &places, &to_workers));
        let judging: Vec<_> = (0..workers)
            .map(|_| {
                let (blocks, done) = (blocks.clone(), done.clone());
                scope.spawn(move || Worker::new(plan).work(&blocks, &done))
            })
            .collect();
        drop((blocks, done));
        let merged = merge(plan, (&results, &free), out, tick);
        // Whoever waits for room or for a place waits no more.
        drop((results, free));
        let tables = judging.into_iter().map(joined).collect();
        joined(reader)?;
        Ok(Report { groups: Table::merged(tables), ..merged? })
    })
}

/// What the thread came to; its panic is ours.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn reader(
    sources: &[Source],
    progress: &Progress,
    places: &Receiver<()>,
    to_workers: &Sender<(u64, Block)>,
) -> Result<(), ReadError> {
    let mut order = 0;
    read::read(sources, progress, &mut |block| {
        if places.recv().is_err() || to_workers.send((order, block)).is_err() {
            return ControlFlow::Break(());
        }
        order += 1;
        ControlFlow::Continue(())
    })
}

/// Puts results in order, and writes them.
fn merge(
    plan: &Plan<'_>,
    (results, free): (&Receiver<Done>, &Sender<()>),
    out: &mut dyn Write,
    tick: &mut dyn FnMut(),
) -> io::Result<Report> {
    let mut early: BTreeMap<u64, Done> = BTreeMap::new();
    let (mut next, mut records) = (0, 0);
    let mut report = Report::default();
    loop {
        match results.recv_timeout(TICK) {
            Ok(done) => drop(early.insert(done.order, done)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(report),
        }
        tick();
        while let Some(done) = early.remove(&next) {
            next += 1;
            // Nobody waits for a place once the reader has ended.
            let _ = free.try_send(());
            let mut start = 0;
            for (at, end) in &done.rows {
                let number = records + at;
                match plan.style {
                    Style::Report => {}
                    Style::Json => write!(out, "{{\"record\":{number}")?,
                    Style::Yaml => write!(out, "- record: {number}")?,
                }
                out.write_all(&done.text[start..*end])?;
                start = *end;
            }
            records += done.records;
            report.totals.add(&done.totals);
            let room = SHOWN_BROKEN.saturating_sub(report.broken.len());
            report.broken.extend(done.broken.into_iter().take(room));
            report.sandboxes.extend(done.sandboxes);
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.judged += other.judged;
        self.requests += other.requests;
        for (sum, more) in self.changed.iter_mut().zip(other.changed) {
            *sum += more;
        }
        self.undecidable += other.undecidable;
        self.unjudged += other.unjudged;
        self.left_out += other.left_out;
        self.other += other.other;
        self.broken += other.broken;
    }

    /// Requests that change to this.
    pub fn of(&self, change: Change) -> u64 {
        self.changed[change as usize]
    }
}

/// One thread that judges.
struct Worker<'p> {
    plan: &'p Plan<'p>,
    known: HashMap<Vec<u8>, Known>,
    key: Vec<u8>,
    table: Table,
}

/// A request that was judged before.
struct Known {
    /// The filter leaves its host out.
    left_out: bool,
    /// The gateway answers for its host itself: no policy is asked.
    own: bool,
    outcome: Outcome,
    old: Option<Now>,
    /// The end of its row.
    tail: Vec<u8>,
    /// Its group in the table, by what it was.
    groups: [Option<u32>; 4],
}

impl<'p> Worker<'p> {
    fn new(plan: &'p Plan<'p>) -> Self {
        let known = HashMap::with_capacity(1024);
        Self { plan, known, key: Vec::with_capacity(512), table: Table::default() }
    }

    fn work(mut self, blocks: &Receiver<(u64, Block)>, done: &Sender<Done>) -> Table {
        for (order, block) in blocks {
            if done.send(self.block(order, &block)).is_err() {
                break;
            }
        }
        self.table
    }

    fn block(&mut self, order: u64, block: &Block) -> Done {
        let mut done = Done { order, ..Done::default() };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        for (number, item) in block.items() {
            match item {
                Item::Record(record) => {
                    done.records += 1;
                    self.record(&mut done, &record, (block, number));
                }
                Item::Other => done.totals.other += 1,
                Item::Broken(why) => {
                    done.totals.broken += 1;
                    if done.broken.len() < SHOWN_BROKEN {
                        let (source, har) = (block.source.clone(), block.is_har());
                        done.broken.push(Broken { source, number, har, why });
                    }
                }
            }
        }
        done
    }

    fn record(&mut self, done: &mut Done, record: &Recorded<'_>, (block, number): (&Block, u64)) {
        if self.plan.filter.leaves_out(record) {
            done.leave_out(record);
            return;
        }
        if record.verdict == Some(Judged::None) {
            done.totals.unjudged += 1;
            return;
        }
        self.key.clear();
        key::write(record, &mut self.key);
        let plan = self.plan;
        let known = self.known.entry_ref(&self.key[..]).or_insert_with(|| Known::of(plan, record));
        if known.left_out {
            done.leave_out(record);
            return;
        }
        if known.own {
            done.totals.unjudged += 1;
            return;
        }
        let was = known.old.map_or_else(|| Was::recorded(record.verdict), Was::judged);
        let change = was.change(known.outcome.now);
        done.totals.judged += 1;
        done.totals.requests += record.repeat;
        if known.outcome.now == Now::Undecidable {
            done.totals.undecidable += record.repeat;
        }
        if let Some(change) = change {
            done.totals.changed[change as usize] += record.repeat;
            let group = *known.groups[was as usize].get_or_insert_with(|| {
                self.table.group(&Changed {
                    change,
                    was,
                    record,
                    outcome: &known.outcome,
                    order: (done.order, number),
                    source: &block.source,
                    number,
                    har: block.is_har(),
                })
            });
            self.table.count(group, record);
        }
        if self.plan.style != Style::Report && (change.is_some() || !self.plan.only_changed) {
            known.row(self.plan, record, &mut done.text);
            done.rows.push((done.records, done.text.len()));
        }
    }
}

impl Known {
    fn of(plan: &Plan<'_>, record: &Recorded<'_>) -> Self {
        let host = plan.filter.host.as_ref();
        let named = Host::recorded(&record.host).ok();
        let left_out =
            host.is_some_and(|pattern| !named.as_ref().is_some_and(|host| pattern.matches(host)));
        let own = named.as_ref().is_some_and(is_reserved);
        let outcome = plan.new.judge(record);
        let old = plan.old.map(|old| old.judge(record).now);
        let mut tail = Vec::new();
        if plan.style != Style::Report {
            tail_of(plan.style, &outcome, old, &mut tail);
        }
        Self { left_out, own, outcome, old, tail, groups: [None; 4] }
    }

    /// The row, without its beginning.
    fn row(&self, plan: &Plan<'_>, record: &Recorded<'_>, out: &mut Vec<u8>) {
        let recorded = record.verdict.map_or("null", |verdict| match verdict {
            Judged::Allow => "\"allow\"",
            Judged::Audit => "\"audit\"",
            Judged::Deny => "\"deny\"",
            Judged::Unknown => "\"unknown\"",
            Judged::None => "\"none\"",
        });
        let (id, then) = match plan.style {
            Style::Yaml => ("\n  id: ", "\n  recorded: "),
            Style::Json | Style::Report => (",\"id\":", ",\"recorded\":"),
        };
        out.extend_from_slice(id.as_bytes());
        match record.id.as_deref() {
            Some(id) => string(id, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(then.as_bytes());
        out.extend_from_slice(recorded.as_bytes());
        out.extend_from_slice(&self.tail);
    }
}

fn tail_of(style: Style, outcome: &Outcome, old: Option<Now>, out: &mut Vec<u8>) {
    let mut member = |key: &str, value: Option<&str>| {
        match style {
            Style::Yaml => out.extend_from_slice(format!("\n  {key}: ").as_bytes()),
            Style::Json | Style::Report => out.extend_from_slice(format!(",\"{key}\":").as_bytes()),
        }
        match value {
            Some(value) => string(value, out),
            None => out.extend_from_slice(b"null"),
        }
    };
    if let Some(old) = old {
        member("old", Some(old.as_str()));
    }
    member("verdict", Some(outcome.now.as_str()));
    member("code", Some(outcome.code));
    member("rule", outcome.rule.as_deref());
    out.extend_from_slice(if style == Style::Yaml { b"\n" } else { b"}\n" });
}

/// A JSON string in printable ASCII.
fn string(text: &str, out: &mut Vec<u8>) {
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    let quoted = serde_json::Value::from(text).to_string();
    for c in quoted.chars() {
        match c {
            ' '..='~' => out.push(u8::try_from(c).unwrap_or(b'?')),
            odd => {
                for unit in odd.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
}

impl Filter {
    fn leaves_out(&self, record: &Recorded<'_>) -> bool {
        let other = |name: &String| record.sandbox.as_ref().is_some_and(|of| of != name);
        let before = |since: Stamp| record.time.is_some_and(|time| time < since);
        self.sandbox.as_ref().is_some_and(other) || self.since.is_some_and(before)
    }
}

impl Broken {
    /// `FILE:LINE: why`, or `FILE: entry N: why`.
    pub fn shown(&self) -> String {
        let Self { source, number, har, why } = self;
        format!("{}: {why}", place(source, *number, *har))
    }
}

/// `FILE:LINE`, or `FILE, entry N`.
pub(super) fn place(source: &Source, number: u64, har: bool) -> String {
    match har {
        true => format!("{}, entry {number}", source.name()),
        false => format!("{}:{number}", source.name()),
    }
}
