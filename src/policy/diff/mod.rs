//! `policy diff`: what a policy allows that another does not, in meaning and not in text.
//!
//! The rules of both policies cut what can be asked into finitely many kinds of requests, within
//! which neither policy tells one request from another: by the patterns that host, path, query
//! and executable match together (found by walking the patterns as automata), by method, by what
//! a body says. One request of each kind is made and both policies judge it, by the same
//! [`Policy::judge`] as the gateway. So a gain is shown by a request that has it, and where no
//! kind has one there is none. Where the kinds are too many, or can't be told, the answer is
//! [`Change::MayGain`].
//!
//! Owns the comparison, not how it is printed. Invariant: whatever NEW lets through and OLD does
//! not is in a row that [`Diff::gains`].

mod askers;
mod compare;
mod paths;
mod rows;
mod walk;

pub use rows::{Aspect, Change, Example, Row};

use super::compile::{CompileError, Layer, Policy};
use crate::addr::{Authority, Port};
use compare::Cell;
use rows::Rows;
use std::collections::BTreeSet;

/// What changes from one policy to another.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// The rows, gains first.
    pub rows: Vec<Row>,
}

impl Diff {
    /// Whether NEW allows, or may allow, anything that OLD does not.
    pub fn gains(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.change, Change::Gained | Change::MayGain))
    }
}

/// Compares the union of the old layers with the union of the new ones.
///
/// # Errors
/// Where layers do not compile.
pub fn diff(old: &[Layer], new: &[Layer]) -> Result<Diff, CompileError> {
    let (old, new) = (Policy::compile(old, 0)?, Policy::compile(new, 0)?);
    Ok(Diff { rows: compared(&old, &new) })
}

fn compared(old: &Policy, new: &Policy) -> Vec<Row> {
    let mut rows = Rows::new(old, new);
    let endpoints = || old.endpoints.iter().chain(&new.endpoints);
    let patterns = endpoints().filter_map(|e| e.host.as_ref()).map(ToString::to_string).collect();
    let (hosts, all) = paths::hosts(&patterns);
    for host in hosts {
        let hostless = endpoints().filter(|endpoint| endpoint.host.is_none());
        let mut ports: BTreeSet<u16> = hostless.flat_map(|e| e.ports.iter().copied()).collect();
        for policy in [old, new] {
            let naming = policy.naming(&host, 0);
            ports.extend(naming.into_iter().flat_map(|endpoint| endpoint.ports.iter().copied()));
        }
        for port in ports.into_iter().filter_map(Port::new) {
            let cell = Cell::new(old, new, Authority { host: host.clone(), port });
            if !cell.same() {
                cell.compare(&mut rows);
            }
        }
    }
    if !all {
        // Which names match which wildcards could not be told: each of NEW's may be wider.
        for endpoint in new.endpoints.iter().filter(|endpoint| !old.has_alike(new, endpoint)) {
            for port in endpoint.ports.iter().filter_map(|port| Port::new(*port)) {
                rows.undecided(port, &[endpoint]);
            }
        }
    }
    rows.finish()
}
