//! `suggest`: the narrowest policy that recorded traffic needs.
//!
//! Owns what is taken of a recording (`gather`), how paths become patterns (`paths`) and how the
//! policy is written (`write`). Holds the distinct requests in memory: the same request a million
//! times is one. Invariant: what is given out was judged, and allows every request that it was
//! made from; what no policy can allow is counted, never passed over in silence.

mod gather;
mod paths;
mod write;

pub use gather::{Gathered, Options, Taken};

use super::judge::{Judge, Now};
use crate::policy::preset::{self, Access};
use crate::policy::{CompileError, Document, Layer, LoadError, Policy};
use gather::Site;
use std::collections::BTreeMap;

/// A policy with what there is to say of it.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// The policy file: the presets it stands beside are in its comments. ASCII.
    pub text: String,
    /// Presets that cover whole hosts, read-only.
    pub presets: Vec<&'static str>,
    /// Distinct requests that it was made from, all of which it allows.
    pub covered: usize,
    /// How many records these were.
    pub records: u64,
    /// Requests that it does not allow all the same, with the reason; empty if all is well.
    pub missed: Vec<String>,
    /// Patterns that are wider than what was seen.
    pub wider: Vec<Wider>,
}

/// A pattern, and how much of it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wider {
    /// The host and port.
    pub target: String,
    /// The method.
    pub method: String,
    /// The pattern.
    pub pattern: String,
    /// Distinct paths that it stands for.
    pub seen: usize,
}

/// Why there is no suggestion.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// What was written is no policy.
    #[error("the suggestion is no policy, which is a mistake of this program: {0}")]
    Document(#[from] LoadError),
    /// It does not compile.
    #[error("the suggestion does not compile, which is a mistake of this program: {0}")]
    Policy(#[from] CompileError),
}

/// The policy that what was gathered needs, over `base`.
///
/// # Errors
/// Where the policy that was written is none.
pub fn suggest(gathered: &Gathered, base: &[Layer]) -> Result<Suggestion, SuggestError> {
    let presets = if gathered.options.presets { fitting(gathered)? } else { BTreeMap::new() };
    let own: Vec<&Site> =
        gathered.sites.values().filter(|site| !presets.contains_key(&site.target())).collect();
    let mut names: Vec<&'static str> = presets.values().copied().collect();
    names.sort_unstable();
    names.dedup();
    let (text, wider) = write::written(gathered, &own, &names);
    let mut layers = base.to_vec();
    for name in &names {
        layers.extend(preset::find(name).into_iter().flat_map(|p| p.layers(Access::ReadOnly)));
    }
    let document = Document::parse(&text, "the suggestion")?;
    layers.push(Layer { document, source: "the suggestion".into(), deny_only: false });
    let judge = Judge::new(Policy::compile(&layers, 0)?, false);
    let mut missed = Vec::new();
    let mut covered = 0;
    for taken in gathered.sites.values().flat_map(|site| site.taken.values()) {
        let outcome = judge.judge(&taken.record);
        match outcome.now {
            Now::Allow | Now::Audit => covered += 1,
            Now::Deny | Now::Unknown | Now::Undecidable => {
                missed.push(format!("{}: {}", taken.shown(), outcome.detail));
            }
        }
    }
    Ok(Suggestion { text, presets: names, covered, records: gathered.records, missed, wider })
}

/// For each host and port that a preset covers whole, the preset.
fn fitting(gathered: &Gathered) -> Result<BTreeMap<String, &'static str>, CompileError> {
    let mut fitting = BTreeMap::new();
    for preset in preset::all() {
        let judge = Judge::new(Policy::compile(&preset.layers(Access::ReadOnly), 0)?, false);
        for site in gathered.sites.values() {
            let allowed = |taken: &Taken| judge.judge(&taken.record).now == Now::Allow;
            if site.taken.values().all(allowed) {
                fitting.entry(site.target()).or_insert(preset.name);
            }
        }
    }
    Ok(fitting)
}
