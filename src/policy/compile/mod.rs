//! What a policy means: documents to immutable tables.
//!
//! Owns [`Policy`] and how layers become one. Equal patterns and rule lists are shared; rule
//! names are built here, so that judging allocates nothing. Invariant: the union of layers holds
//! every deny rule of every layer.

mod endpoint;
mod rules;
mod table;

pub(super) use endpoint::{Allows, Endpoint, Kind};
pub(super) use rules::{Methods, Rule, RuleKind};
pub(super) use table::Table;

use super::document::Document;
use super::pattern::{
    HostPattern, HostPatternError, PathPattern, PathPatternError, TextPatternError,
};
use super::verdict::RuleRef;
use hashbrown::HashMap;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;

/// A document and where it comes from.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it says.
    pub document: Document,
    /// A file's path, `preset:pypi`, `tier:restricted`, `defaults`.
    pub source: Arc<str>,
    /// Only its deny rules count: it allows nothing and speaks for nothing.
    pub deny_only: bool,
}

/// A compiled policy: immutable, cheap to judge by. Swap the whole of it.
#[derive(Debug)]
pub struct Policy {
    pub(super) entries: Box<[Entry]>,
    pub(super) endpoints: Box<[Endpoint]>,
    pub(super) table: Table,
    pub(super) limits: BodyLimits,
    /// Some endpoint looks into bodies or messages: most policies have none.
    pub(super) reads_bodies: bool,
    /// Asked of each connection and request.
    tells_processes_apart: bool,
    id: [u8; 32],
    epoch: u64,
}

/// An entry, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: any process. Empty: none.
    pub(super) binaries: Option<Box<[Arc<PathPattern>]>>,
    /// The binaries as written, for sentences.
    pub(super) written: Arc<[Box<str>]>,
}

impl Entry {
    /// Its binaries are not simply every path.
    fn tells_processes_apart(&self) -> bool {
        let all = |binaries: &[Arc<PathPattern>]| binaries.iter().any(|b| b.is_everything());
        self.binaries.as_ref().is_some_and(|binaries| !all(binaries))
    }
}

/// How much of a body is read in order to judge it, where the endpoint does not say. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// GraphQL.
    pub graphql: usize,
    /// JSON-RPC and MCP.
    pub rpc: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { graphql: 64 * 1024, rpc: 64 * 1024 }
    }
}

/// Why documents do not compile. [`Document::parse`] finds these first; they are left for
/// documents that were built, not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A host.
    #[error("{rule} in {source_name}: {error}")]
    Host {
        /// The endpoint.
        rule: RuleRef,
        /// The layer.
        source_name: Arc<str>,
        /// What is wrong.
        error: HostPatternError,
    },
    /// A path or a binary.
    #[error("{rule} in {source_name}: {error}")]
    Path {
        /// The rule, endpoint or entry.
        rule: RuleRef,
        /// The layer.
        source_name: Arc<str>,
        /// What is wrong.
        error: PathPatternError,
    },
    /// A glob over a value.
    #[error("{rule} in {source_name}: {error}")]
    Text {
        /// The rule.
        rule: RuleRef,
        /// The layer.
        source_name: Arc<str>,
        /// What is wrong.
        error: TextPatternError,
    },
    /// `allowed_ips`, ports, or a rule that says nothing.
    #[error("{rule} in {source_name}: {problem}")]
    Incomplete {
        /// The rule or endpoint.
        rule: RuleRef,
        /// The layer.
        source_name: Arc<str>,
        /// What is wrong.
        problem: &'static str,
    },
    /// The layers do not serialise.
    #[error("the policy can't be written down: {0}")]
    Unwritable(String),
}

/// An address, or a network in CIDR form.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Policy {
    /// Compiles the union of the layers. `epoch` tells this policy's permits from others'.
    pub fn compile(layers: &[Layer], epoch: u64) -> Result<Self, CompileError> {
        let keys = clashes(layers);
        let mut building = Building::default();
        for layer in layers {
            for (key, entry) in &layer.document.network_policies {
                let clash = keys.get(key.as_str()).is_some_and(|count| *count > 1);
                let name = if clash { format!("{}:{key}", layer.source) } else { key.clone() };
                building.entry(&name, entry, layer)?;
            }
        }
        let endpoints: Box<[Endpoint]> = building.endpoints.into();
        Ok(Self {
            table: Table::new(&endpoints),
            reads_bodies: endpoints.iter().any(|endpoint| endpoint.kind.reads_bodies()),
            tells_processes_apart: building.entries.iter().any(Entry::tells_processes_apart),
            entries: building.entries.into(),
            endpoints,
            limits: BodyLimits::default(),
            id: digest(layers)?,
            epoch,
        })
    }

    /// A policy that knows nothing: everything is unknown.
    pub fn empty(epoch: u64) -> Self {
        Self {
            entries: Box::default(),
            endpoints: Box::default(),
            table: Table::new(&[]),
            reads_bodies: false,
            tells_processes_apart: false,
            limits: BodyLimits::default(),
            id: Sha256::digest(b"").into(),
            epoch,
        }
    }

    /// With other limits for bodies whose endpoint names none.
    #[must_use]
    pub fn with_body_limits(mut self, limits: BodyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// SHA-256 over the layers as canonical JSON, with their sources.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The epoch that the caller gave.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether any entry tells processes apart: its `binaries` are not simply every path.
    pub fn tells_processes_apart(&self) -> bool {
        self.tells_processes_apart
    }

    /// The hosts that entries name, deny rules aside; of a wildcard the domain that it stands below.
    pub fn allowed_hosts(&self) -> Vec<crate::addr::Host> {
        let named = self.endpoints.iter().filter(|endpoint| !endpoint.flags.deny_only);
        let mut hosts: Vec<_> = named
            .filter_map(|endpoint| match endpoint.host.as_ref()? {
                HostPattern::Exact(host) => Some(host.clone()),
                HostPattern::Wild(wild) => crate::addr::Host::parse(wild.suffix()).ok(),
            })
            .collect();
        hosts.dedup();
        hosts
    }

    /// How many endpoints it has.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }
}

/// How many layers have each key.
fn clashes(layers: &[Layer]) -> HashMap<&str, usize> {
    let mut keys = HashMap::new();
    for key in layers.iter().flat_map(|layer| layer.document.network_policies.keys()) {
        *keys.entry(key.as_str()).or_insert(0) += 1;
    }
    keys
}

/// One JSON value a layer, maps in key order: equal policies have equal digests.
fn digest(layers: &[Layer]) -> Result<[u8; 32], CompileError> {
    let mut hasher = Sha256::new();
    for layer in layers {
        let record = (&layer.source, layer.deny_only, &layer.document);
        let text = serde_json::to_vec(&record)
            .map_err(|error| CompileError::Unwritable(error.to_string()))?;
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    Ok(hasher.finalize().into())
}

/// The tables while they grow, and what is shared between endpoints.
#[derive(Default)]
pub(super) struct Building {
    entries: Vec<Entry>,
    endpoints: Vec<Endpoint>,
    pub(super) shared: Shared,
}

/// What is built once however often it is written.
#[derive(Default)]
pub(super) struct Shared {
    paths: HashMap<String, Arc<PathPattern>>,
    files: HashMap<String, Arc<PathPattern>>,
    binaries: HashMap<Vec<String>, Arc<[Box<str>]>>,
    networks: HashMap<Vec<String>, Arc<[IpNet]>>,
    rules: HashMap<Arc<[Rule]>, Arc<[Rule]>>,
}

impl Shared {
    pub(super) fn path(&mut self, pattern: &str) -> Result<Arc<PathPattern>, PathPatternError> {
        intern(&mut self.paths, pattern, PathPattern::parse)
    }

    fn file(&mut self, pattern: &str) -> Result<Arc<PathPattern>, PathPatternError> {
        intern(&mut self.files, pattern, PathPattern::parse_file)
    }

    pub(super) fn networks(&mut self, texts: &[String]) -> Option<Arc<[IpNet]>> {
        if let Some(known) = self.networks.get(texts) {
            return Some(known.clone());
        }
        let parsed: Option<Vec<IpNet>> = texts.iter().map(|text| parse_network(text)).collect();
        let parsed: Arc<[IpNet]> = parsed?.into();
        self.networks.insert(texts.to_vec(), parsed.clone());
        Some(parsed)
    }

    pub(super) fn rules(&mut self, rules: Vec<Rule>) -> Arc<[Rule]> {
        if let Some(known) = self.rules.get(&rules[..]) {
            return known.clone();
        }
        let rules: Arc<[Rule]> = rules.into();
        self.rules.insert(rules.clone(), rules.clone());
        rules
    }
}

fn intern(
    known: &mut HashMap<String, Arc<PathPattern>>,
    pattern: &str,
    parse: fn(&str) -> Result<PathPattern, PathPatternError>,
) -> Result<Arc<PathPattern>, PathPatternError> {
    if let Some(compiled) = known.get(pattern) {
        return Ok(compiled.clone());
    }
    let compiled = Arc::new(parse(pattern)?);
    known.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

impl Building {
    fn entry(
        &mut self,
        name: &str,
        entry: &super::document::Entry,
        layer: &Layer,
    ) -> Result<(), CompileError> {
        let mut binaries = None;
        let mut written: Arc<[Box<str>]> = Arc::default();
        if let Some(listed) = &entry.binaries {
            let paths: Vec<String> = listed.iter().map(|binary| binary.path.clone()).collect();
            let compiled: Result<Box<[_]>, _> =
                paths.iter().map(|path| self.shared.file(path)).collect();
            binaries = Some(compiled.map_err(|error| CompileError::Path {
                rule: name.into(),
                source_name: layer.source.clone(),
                error,
            })?);
            written = match self.shared.binaries.get(&paths) {
                Some(known) => known.clone(),
                None => {
                    let new: Arc<[Box<str>]> =
                        paths.iter().map(|path| path.as_str().into()).collect();
                    self.shared.binaries.insert(paths, new.clone());
                    new
                }
            };
        }
        let number = self.entries.len() as u32;
        self.entries.push(Entry { binaries, written });
        for (i, endpoint) in entry.endpoints.iter().enumerate() {
            let place = endpoint::Place {
                name: format!("{name}/endpoints[{i}]").into(),
                entry: number,
                source: &layer.source,
                deny_only: layer.deny_only,
            };
            let compiled = Endpoint::compile(endpoint, place, &mut self.shared)?;
            self.endpoints.push(compiled);
        }
        Ok(())
    }
}
