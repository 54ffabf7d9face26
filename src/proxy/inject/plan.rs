//! A plan: the values that one request gets, and how they go into its head.
//!
//! Whoever holds a plan holds values: it has no `Debug`, and neither has what it makes.

use super::aws_chunked;
use super::binding::{Place, Spot};
use super::draft;
use super::fill::{Filler, Walk};
use super::place;
use super::sigv4::{self, Payload, Scope};
use super::{Bound, Injector};
use crate::policy::{Code, Permit};
use crate::proxy::inference::Calls;
use crate::proxy::refuse::Refusal;
use crate::proxy::scrub::{self, Answer};
use crate::secret::{Secret, Watchlist};
use crate::upstream::http::Received;
use crate::upstream::{Reached, Route};
use crate::vault::Held;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use std::sync::Arc;
use std::time::SystemTime;

/// The values of one request. What it began with stays, whatever becomes of their sources.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(super) injector: Arc<Injector>,
    pub(super) chosen: Vec<Chosen>,
    /// What the answer is scrubbed of; `None` where nothing that could come back goes there.
    pub(super) needles: Option<Watchlist>,
    /// The body that goes up, where it had to be read.
    pub(super) body: Option<Body>,
}

/// A binding with the value that it gets.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) at: usize,
    pub(super) held: Arc<Held>,
}

/// A body that was read whole.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// How placeholders in it are filled.
    pub(super) spot: Option<Spot>,
}

/// A head with its values in it, and its body where that was rewritten. Made here alone; it goes
/// upstream and nowhere else.
pub(crate) struct Outbound {
    pub(crate) head: Parts,
    pub(crate) body: Option<Bytes>,
    /// The names of the headers that hold a value: none of them may come again as a trailer.
    pub(crate) replaced: Vec<HeaderName>,
    /// The body comes in signed chunks, and goes up without them: this many bytes.
    pub(crate) unframed: Option<u64>,
}

/// What fills placeholders in the messages of a WebSocket.
pub(crate) struct Messages(Plan);

/// The second look: each placeholder gets its value.
struct Give<'p>(&'p Plan);

impl<'p> Filler<'p> for Give<'p> {
    fn fill(&mut self, word: usize, spot: Spot) -> Result<Option<&'p Secret>, ()> {
        let found = self.0.chosen.iter().find(|chosen| {
            let bound = &self.0.injector.bound[chosen.at];
            let Place::Placeholder { within, .. } = &bound.binding.place else { return false };
            bound.word == Some(word) && within.has(spot)
        });
        found.map(|chosen| Some(chosen.held.secret())).ok_or(())
    }
}

impl Plan {
    /// The names of the credentials in it.
    pub(crate) fn names(&self) -> Option<Arc<str>> {
        let mut names: Vec<&str> = Vec::new();
        for chosen in &self.chosen {
            let name = &**self.bound(chosen).credential.name();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.as_slice() {
            [] => None,
            [_] => Some(self.bound(&self.chosen[0]).credential.name().clone()),
            several => Some(several.join(",").into()),
        }
    }

    /// What the answer is scrubbed of.
    pub(crate) fn needles(&self) -> Option<&Watchlist> {
        self.needles.as_ref()
    }

    /// The answer as the client may see it. After a 401 each source is read again before its value
    /// is used again.
    pub(crate) fn receive(
        &self,
        head: &mut http::response::Parts,
        body: Received,
        (calls, bodyless): (&Calls, bool),
    ) -> Result<Answer, Refusal> {
        if head.status == http::StatusCode::UNAUTHORIZED {
            for chosen in &self.chosen {
                self.bound(chosen).credential.refused(&chosen.held);
            }
        }
        match &self.needles {
            Some(needles) => scrub::scrub(head, body, (needles, calls), bodyless),
            None => Ok(Answer::plain(body)),
        }
    }

    /// Whether the values may go over a connection: one with verified TLS to the origin itself,
    /// at an address that their bindings list where they list any.
    pub(crate) fn fits(
        &self,
        verified: bool,
        (reached, route): (Reached, Route),
    ) -> Result<(), Refusal> {
        let address = reached.address().map(|at| at.ip());
        for chosen in &self.chosen {
            let bound = self.bound(chosen);
            let name = crate::addr::Shown::new(bound.credential.name()).to_string();
            if !verified || route == Route::ParentForward {
                let detail = format!("the credential `{name}` goes over verified TLS alone");
                return Err(Refusal::unjudged(Code::CredentialUnavailable, detail));
            }
            if !bound.binding.goes_to(address) {
                let detail =
                    format!("the credential `{name}` is not bound to the origin's address");
                return Err(Refusal::unjudged(Code::CredentialUnavailable, detail));
            }
        }
        Ok(())
    }

    /// Carries the plan out: the client's own copies go, the values come, and nothing is asked of
    /// the origin that could not be scrubbed. The permit is the proof that it was judged (I4).
    pub(crate) fn inject(
        &self,
        _permit: &Permit,
        head: Parts,
        now: SystemTime,
    ) -> Result<Outbound, Refusal> {
        let places = self.chosen.iter().map(|chosen| &self.bound(chosen).binding.place);
        let replaced = draft::replaced(places);
        let mut out = Outbound { head, body: None, replaced, unframed: None };
        if self.needles.is_some() {
            scrub::ask_plainly(&mut out.head.headers);
        }
        self.fill(&mut out).ok_or_else(|| self.unfit(None))?;
        for chosen in &self.chosen {
            self.put(chosen, &mut out.head).ok_or_else(|| self.unfit(Some(chosen)))?;
        }
        // Last, because it signs all the rest.
        for chosen in &self.chosen {
            self.sign(chosen, &mut out, now).ok_or_else(|| self.unfit(Some(chosen)))?;
        }
        Ok(out)
    }

    /// Whether the messages of a WebSocket are looked through for placeholders.
    pub(crate) fn fills_messages(&self) -> bool {
        self.chosen.iter().any(|chosen| match &self.bound(chosen).binding.place {
            Place::Placeholder { within, .. } => within.has(Spot::Websocket),
            _ => false,
        })
    }

    /// For the messages of a WebSocket, where they are looked through.
    pub(crate) fn into_messages(self) -> Option<Messages> {
        self.fills_messages().then_some(Messages(self))
    }

    fn bound(&self, chosen: &Chosen) -> &Bound {
        &self.injector.bound[chosen.at]
    }

    /// Fills the placeholders. `None`: one that was not there before.
    fn fill(&self, out: &mut Outbound) -> Option<()> {
        out.body = self.body.as_ref().map(|body| body.bytes.clone());
        let Some(words) = &self.injector.words else { return Some(()) };
        let mut walk = Walk { words, filler: Give(self) };
        walk.headers(&mut out.head.headers, &out.replaced).ok()?;
        let mut uri = std::mem::take(&mut out.head.uri).into_parts();
        if let Some(target) = &mut uri.path_and_query {
            walk.target(target).ok()?;
        }
        out.head.uri = http::Uri::from_parts(uri).ok()?;
        let body = self.body.as_ref().and_then(|body| Some((body, body.spot?)));
        if let Some((body, spot)) = body
            && let Some(filled) = walk.body(&body.bytes, spot).ok()?
        {
            for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
                out.head.headers.remove(name);
            }
            if out.head.headers.contains_key(header::CONTENT_LENGTH) {
                out.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(filled.len()));
            }
            out.body = Some(Bytes::copy_from_slice(&filled));
        }
        Some(())
    }

    fn put(&self, chosen: &Chosen, head: &mut Parts) -> Option<()> {
        let secret = chosen.held.secret();
        match &self.bound(chosen).binding.place {
            Place::Header { name, format } => {
                place::header(&mut head.headers, name, &secret.formatted(format))
            }
            Place::Basic { user } => place::basic(&mut head.headers, user, secret),
            Place::Query { name } => {
                let mut uri = std::mem::take(&mut head.uri).into_parts();
                let target = uri.path_and_query.take()?;
                uri.path_and_query = Some(place::query(&target, name, secret)?);
                head.uri = http::Uri::from_parts(uri).ok()?;
                Some(())
            }
            Place::Placeholder { .. } | Place::Sigv4 { .. } => Some(()),
        }
    }

    fn sign(&self, chosen: &Chosen, out: &mut Outbound, now: SystemTime) -> Option<()> {
        let Place::Sigv4 { service, region } = &self.bound(chosen).binding.place else {
            return Some(());
        };
        let scope = Scope { service, region };
        if scope.is_s3() && aws_chunked::is_signed(&out.head.headers) {
            out.unframed = Some(aws_chunked::unframe(&mut out.head.headers)?);
        }
        let payload = match out.head.headers.get(sigv4::CONTENT).map(HeaderValue::as_bytes) {
            _ if !scope.is_s3() => Payload::of(out.body.as_deref().unwrap_or_default()),
            Some(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") => {
                Payload::Word("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            }
            _ => Payload::Word("UNSIGNED-PAYLOAD"),
        };
        sigv4::sign(&mut out.head, chosen.held.secret(), scope, &payload, now)
    }

    /// A value that does not fit where it is to go.
    fn unfit(&self, chosen: Option<&Chosen>) -> Refusal {
        let name =
            chosen.map_or_else(|| self.names(), |c| Some(self.bound(c).credential.name().clone()));
        let name = name.unwrap_or_default();
        let detail = format!(
            "the value of the credential `{}` does not fit its place",
            crate::addr::Shown::new(&name)
        );
        Refusal::unjudged(Code::CredentialUnavailable, detail)
    }
}

impl Messages {
    /// `text` with its placeholders filled; `Ok(None)`: it holds none. An error names one that is
    /// not bound here.
    pub(crate) fn fill(&self, text: &str) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, String> {
        let Some(words) = &self.0.injector.words else { return Ok(None) };
        let mut walk = Walk { words, filler: Give(&self.0) };
        walk.body(text.as_bytes(), Spot::Websocket).map_err(|misuse| misuse.text)
    }
}
