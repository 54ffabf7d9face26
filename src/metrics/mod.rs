//! Prometheus counters and histograms, from records, and the listener that serves them.
//!
//! Owns the names, labels and buckets. Labels come from closed sets (verdict, outcome, code,
//! scheme) and the sandboxes of the config; never a host, a path or anything else that a client
//! chooses, so that the number of series is bounded.
//!
//! The exposition format is a page of text, written here: `metrics-exporter-prometheus` keeps
//! every histogram sample until it is scraped or swept by a task of its own, which a gateway that
//! nobody scrapes pays for in memory, and it looks each label set up through a global registry.

mod gauges;
mod histogram;
mod registry;
mod serve;

pub use gauges::Gauges;
pub use registry::{Counts, Registry};
pub use serve::{Health, serve};
