//! The counters and histograms, and the page that shows them.
//!
//! Counted on the writer's thread, one lock a record; read under the same lock when scraped.

use super::gauges::Gauges;
use super::histogram::{Histogram, JUDGING, WAITS, line};
use crate::policy::{Code, Scheme};
use crate::record::{Judged, Outcome, Record, Sink};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many sandboxes have series of their own; what further ones do counts as `other`.
const SANDBOXES: usize = 256;

/// Everything that `/metrics` shows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    table: Arc<Mutex<Table>>,
    gauges: Arc<Gauges>,
}

/// The sink that counts: give it to the traffic writer.
#[derive(Debug)]
pub struct Counts {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    sandboxes: HashMap<Arc<str>, Sandbox>,
}

/// What one sandbox did.
#[derive(Debug, Default)]
struct Sandbox {
    requests: HashMap<Kind, u64>,
    schemes: BTreeMap<&'static str, Traffic>,
}

/// The labels of a counted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Kind {
    scheme: &'static str,
    verdict: Judged,
    outcome: Outcome,
    code: Code,
}

/// What went through under one scheme.
#[derive(Debug)]
struct Traffic {
    upload: u64,
    download: u64,
    tokens_read: u64,
    tokens_made: u64,
    first_token: Histogram,
    total: Histogram,
    first_byte: Histogram,
    connect: Histogram,
    held: Histogram,
    judge: Histogram,
}

type PickCount = fn(&Traffic) -> u64;
type PickTimes = for<'a> fn(&'a Traffic) -> &'a Histogram;

const BYTES: [(&str, &str, PickCount); 4] = [
    ("portcullis_upload_bytes_total", "Body bytes to origins.", |t| t.upload),
    ("portcullis_download_bytes_total", "Body bytes from origins.", |t| t.download),
    ("portcullis_tokens_read_total", "Tokens that models read.", |t| t.tokens_read),
    ("portcullis_tokens_made_total", "Tokens that models made.", |t| t.tokens_made),
];

const TIMES: [(&str, &str, PickTimes); 6] = [
    ("portcullis_request_seconds", "From the start to the end of what was let through.", |t| {
        &t.total
    }),
    ("portcullis_first_byte_seconds", "From the start to the first byte of the response.", |t| {
        &t.first_byte
    }),
    ("portcullis_connect_seconds", "Resolving and connecting, without pooled connections.", |t| {
        &t.connect
    }),
    (
        "portcullis_first_token_seconds",
        "From the start to the first token of a model's answer.",
        |t| &t.first_token,
    ),
    ("portcullis_held_seconds", "Held for an answer.", |t| &t.held),
    ("portcullis_judge_seconds", "Judging.", |t| &t.judge),
];

impl Registry {
    /// A registry that shows these gauges, and the sink that fills it.
    pub fn new(gauges: Arc<Gauges>) -> (Self, Counts) {
        let table = Arc::default();
        (Self { table: Arc::clone(&table), gauges }, Counts { table })
    }

    /// The page, in the text format 0.0.4 of Prometheus, the same order every time.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(8 << 10);
        head(&mut out, "portcullis_build_info", "The version that runs.", "gauge");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut out, format_args!("portcullis_build_info{{version=\"{version}\"}} 1"));
        for (name, help, value) in self.gauges.read() {
            head(&mut out, name, help, "gauge");
            line(&mut out, format_args!("{name} {value}"));
        }
        for (name, help, value) in self.gauges.totals() {
            head(&mut out, name, help, "counter");
            line(&mut out, format_args!("{name} {value}"));
        }
        lock(&self.table).render(&mut out);
        out
    }
}

impl Sink for Counts {
    fn record(&mut self, record: &Record) {
        lock(&self.table).count(record);
    }
}

impl Table {
    fn count(&mut self, record: &Record) {
        let full = self.sandboxes.len() >= SANDBOXES;
        let sandbox = match self.sandboxes.get_mut(&record.sandbox) {
            Some(sandbox) => sandbox,
            None => {
                let name = if full { "other".into() } else { record.sandbox.clone() };
                self.sandboxes.entry(name).or_default()
            }
        };
        let scheme = match record.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
        };
        let Record { verdict, outcome, code, .. } = *record;
        *sandbox.requests.entry(Kind { scheme, verdict, outcome, code }).or_default() += 1;
        sandbox.schemes.entry(scheme).or_insert_with(Traffic::new).count(record);
    }

    fn render(&self, out: &mut String) {
        let mut sandboxes: Vec<_> =
            self.sandboxes.iter().map(|(name, sandbox)| (label(name), sandbox)).collect();
        sandboxes.sort_by(|a, b| a.0.cmp(&b.0));
        let name = "portcullis_requests_total";
        head(out, name, "Requests and tunnels that have ended.", "counter");
        for (sandbox, of) in &sandboxes {
            let mut requests: Vec<_> = of.requests.iter().collect();
            requests.sort();
            for (Kind { scheme, verdict, outcome, code }, count) in requests {
                let (verdict, outcome) = (verdict.as_str(), outcome.as_str());
                let code = code.as_str();
                line(
                    out,
                    format_args!(
                        "{name}{{sandbox=\"{sandbox}\",scheme=\"{scheme}\",verdict=\"{verdict}\",\
                         outcome=\"{outcome}\",code=\"{code}\"}} {count}"
                    ),
                );
            }
        }
        let series = || {
            sandboxes.iter().flat_map(|(sandbox, of)| {
                of.schemes.iter().map(move |(scheme, traffic)| {
                    (format!("sandbox=\"{sandbox}\",scheme=\"{scheme}\""), traffic)
                })
            })
        };
        for (name, help, pick) in BYTES {
            head(out, name, help, "counter");
            for (labels, traffic) in series() {
                line(out, format_args!("{name}{{{labels}}} {}", pick(traffic)));
            }
        }
        for (name, help, pick) in TIMES {
            head(out, name, help, "histogram");
            series().for_each(|(labels, traffic)| pick(traffic).render(name, &labels, out));
        }
    }
}

impl Traffic {
    fn new() -> Self {
        Self {
            upload: 0,
            download: 0,
            tokens_read: 0,
            tokens_made: 0,
            first_token: Histogram::new(WAITS),
            total: Histogram::new(WAITS),
            first_byte: Histogram::new(WAITS),
            connect: Histogram::new(WAITS),
            held: Histogram::new(WAITS),
            judge: Histogram::new(JUDGING),
        }
    }

    fn count(&mut self, record: &Record) {
        let ms = &record.ms;
        self.upload = self.upload.saturating_add(record.upload);
        self.download = self.download.saturating_add(record.download);
        if let Some(call) = &record.call {
            let tokens = call.tokens.unwrap_or_default();
            self.tokens_read = self.tokens_read.saturating_add(tokens.input);
            self.tokens_made = self.tokens_made.saturating_add(tokens.output);
            if let Some(first) = call.ttft {
                self.first_token.observe(first);
            }
        }
        if record.verdict != Judged::None {
            self.judge.observe(ms.judge);
        }
        if record.outcome != Outcome::Refused {
            self.total.observe(ms.total);
        }
        if let Some(first_byte) = ms.first_byte {
            self.first_byte.observe(first_byte);
        }
        if !ms.connect.is_zero() {
            self.connect.observe(ms.connect);
        }
        if !ms.held.is_zero() {
            self.held.observe(ms.held);
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

/// A label's value as the format wants it: backslash, quote and newline escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
