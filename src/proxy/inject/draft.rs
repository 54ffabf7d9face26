//! Which bindings a request meets, before any value is fetched. Pure.

use super::Injector;
use super::binding::{Binding, Place, Spot};
use super::fill::{Filler, Misuse, Walk};
use super::sigv4;
use crate::addr::{Authority, Path};
use crate::secret::{Placeholders, Secret};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;

/// What decides whether a binding is met.
pub(super) struct Asked<'a> {
    pub(super) target: &'a Authority,
    /// It goes up over TLS, and the policy itself allows it.
    pub(super) eligible: bool,
    pub(super) method: &'a str,
    pub(super) path: &'a PathAndQuery,
    pub(super) websocket: bool,
}

/// The bindings that a request meets, and those that it needs, by their place in the injector.
pub(super) struct Draft<'i> {
    injector: &'i Injector,
    /// Something that goes up whole is bound to the host, here or in another sandbox.
    pub(super) echoes: bool,
    met: Vec<usize>,
    pub(super) needed: Vec<usize>,
}

/// What a binding puts its value into: of two for the same the first in the config counts.
#[derive(PartialEq, Eq)]
enum Slot<'a> {
    Header(&'a HeaderName),
    Query(&'a str),
}

impl<'i> Draft<'i> {
    pub(super) fn new(injector: &'i Injector, asked: &Asked<'_>) -> Self {
        let echoes = injector.elsewhere.contains(&asked.target.host);
        let mut draft = Self { injector, echoes, met: Vec::new(), needed: Vec::new() };
        let mut slots: Vec<Slot<'_>> = Vec::new();
        let path = Path::parse(asked.path.path());
        let covers = |binding: &Binding| {
            path.as_ref().is_ok_and(|path| binding.covers(asked.method, path, asked.websocket))
        };
        for (at, bound) in injector.bound.iter().enumerate() {
            let binding = &bound.binding;
            // Another port of the host may say what was sent to this one.
            draft.echoes |= binding.host == asked.target.host && binding.goes_up_whole();
            if !binding.is_at(asked.target) {
                continue;
            }
            if !asked.eligible || !covers(binding) {
                continue;
            }
            draft.met.push(at);
            let slot = match &binding.place {
                Place::Header { name, .. } => Slot::Header(name),
                Place::Basic { .. } => Slot::Header(&header::AUTHORIZATION),
                Place::Sigv4 { .. } if sigv4::is_presigned(asked.path.query()) => continue,
                Place::Sigv4 { .. } => Slot::Header(&header::AUTHORIZATION),
                Place::Query { name } => Slot::Query(name),
                Place::Placeholder { .. } => continue,
            };
            if !slots.contains(&slot) {
                slots.push(slot);
                draft.needed.push(at);
            }
        }
        draft
    }

    /// The headers that are replaced: what the client has in them does not go up.
    pub(super) fn replaced(&self) -> Vec<HeaderName> {
        replaced(self.needed.iter().map(|at| &self.injector.bound[*at].binding.place))
    }

    /// The kind of body that must be looked through for placeholders.
    pub(super) fn looks_into(&self, headers: &HeaderMap) -> Option<Spot> {
        let spot = body_spot(headers)?;
        self.met.iter().any(|at| self.takes(*at, None, spot)).then_some(spot)
    }

    /// Looks for placeholders in the head. Each must be one that this request may have filled.
    pub(super) fn head(
        &mut self,
        headers: &mut HeaderMap,
        target: &mut PathAndQuery,
    ) -> Result<(), Misuse> {
        let Some(words) = &self.injector.words else { return Ok(()) };
        let replaced = self.replaced();
        let mut walk = self.walk(words);
        walk.headers(headers, &replaced)?;
        walk.target(target)
    }

    /// Looks for placeholders in a body of the kind `spot`.
    pub(super) fn body(&mut self, body: &[u8], spot: Spot) -> Result<(), Misuse> {
        let Some(words) = &self.injector.words else { return Ok(()) };
        self.walk(words).body(body, spot).map(drop)
    }

    fn walk<'d>(&'d mut self, words: &'d Placeholders) -> Walk<'d, &'d mut Self> {
        Walk { words, filler: self }
    }

    /// Whether the binding at `at` fills a placeholder (`word`, or any) at `spot`.
    fn takes(&self, at: usize, word: Option<usize>, spot: Spot) -> bool {
        let bound = &self.injector.bound[at];
        let Place::Placeholder { within, .. } = &bound.binding.place else { return false };
        within.has(spot) && (word.is_none() || bound.word == word)
    }

    /// The bindings whose messages are looked through, for a WebSocket.
    pub(super) fn needs_messages(&mut self) {
        let at: Vec<usize> =
            self.met.iter().copied().filter(|at| self.takes(*at, None, Spot::Websocket)).collect();
        for at in at {
            if !self.needed.contains(&at) {
                self.needed.push(at);
            }
        }
    }
}

/// The first look: nothing is filled, and what will be is noted.
impl<'s> Filler<'s> for &mut Draft<'_> {
    fn fill(&mut self, word: usize, spot: Spot) -> Result<Option<&'s Secret>, ()> {
        let at = self.met.iter().copied().find(|at| self.takes(*at, Some(word), spot)).ok_or(())?;
        if !self.needed.contains(&at) {
            self.needed.push(at);
        }
        Ok(None)
    }
}

/// The headers that a value of these places goes into.
pub(super) fn replaced<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for place in places {
        match place {
            Place::Header { name, .. } => names.push(name.clone()),
            Place::Basic { .. } => names.push(header::AUTHORIZATION),
            Place::Sigv4 { .. } => names.extend(sigv4::OWN.iter().cloned()),
            Place::Query { .. } | Place::Placeholder { .. } => {}
        }
    }
    names
}

/// How a body of this type is looked through; `None`: not at all.
fn body_spot(headers: &HeaderMap) -> Option<Spot> {
    let coding = headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Some(Spot::Json),
        "application/x-www-form-urlencoded" => Some(Spot::Form),
        other if other.ends_with("+json") => Some(Spot::Json),
        other if other.starts_with("text/") => Some(Spot::Text),
        _ => None,
    }
}
