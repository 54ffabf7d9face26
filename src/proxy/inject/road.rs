//! The place on the road: from a permit to a plan, before anything is dialled.

use super::draft::{Asked, Draft};
use super::fill::{Fault, Misuse};
use super::plan::{Body, Chosen, Plan};
use super::{Injector, Place, Spot};
use crate::addr::Shown;
use crate::policy::{Code, Permit, Scheme, Source};
use crate::proxy::carry::cut;
use crate::proxy::gate::Connection;
use crate::proxy::inference::Calls;
use crate::proxy::judged::JudgedBody;
use crate::proxy::refuse::Refusal;
use crate::proxy::request::Exchange;
use crate::proxy::unless::unless_cut;
use crate::record::Event;
use bytes::Bytes;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often misuse of placeholders makes an event; each request has its record besides.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Exchange {
    /// What the request gets on its way up. `None`: its host has nothing to do with credentials.
    pub(crate) async fn plan(
        &mut self,
        connection: &Arc<Connection>,
        injector: &Arc<Injector>,
        permit: &Permit,
        body: &mut JudgedBody,
    ) -> Result<Option<Plan>, Refusal> {
        let mut target =
            self.open.record().target.clone().unwrap_or(PathAndQuery::from_static("/"));
        let method = self.open.record().method.clone().unwrap_or_default();
        let path = target.clone();
        let asked = Asked {
            target: &self.target.authority,
            eligible: self.target.scheme == Scheme::Https
                && permit.code() == Code::Allowed
                && !matches!(permit.source(), Source::Observe(_)),
            method: method.as_str(),
            path: &path,
            websocket: self.upgrade.is_some(),
        };
        let mut draft = Draft::new(injector, &asked);
        draft
            .head(&mut self.head.headers, &mut target)
            .map_err(|misuse| injector.misused(connection, &self.target.authority, &misuse))?;
        if self.upgrade.is_some() {
            draft.needs_messages();
        }
        let body = self.body(connection, (injector, &mut draft), body).await?;
        if draft.needed.is_empty() && !draft.echoes {
            return Ok(None);
        }
        let (needed, echoes) = (draft.needed, draft.echoes);
        let chosen = self.values(injector, &needed).await?;
        // Also where nothing is known yet: a value may be read while the answer comes.
        let needles = echoes.then(|| injector.vault.watchlist());
        let plan = Plan { injector: injector.clone(), chosen, needles, body };
        self.open.record().credential = plan.names();
        Ok(Some(plan))
    }

    /// Reads the body where placeholders are looked for in it, or where it is signed.
    async fn body(
        &mut self,
        connection: &Arc<Connection>,
        (injector, draft): (&Arc<Injector>, &mut Draft<'_>),
        body: &mut JudgedBody,
    ) -> Result<Option<Body>, Refusal> {
        let within = connection.gate.settings.timeouts.header;
        let spot = draft.looks_into(&self.head.headers);
        let signed = draft.needed.iter().any(|at| match &injector.bound[*at].binding.place {
            Place::Sigv4 { service, .. } => &**service != "s3",
            _ => false,
        });
        let (limit, why) = match (spot, signed) {
            (Some(_), _) => (injector.buffers.placeholder, "placeholders are looked for in it"),
            (None, true) => (injector.buffers.sigv4, "it is signed"),
            (None, false) => return Ok(None),
        };
        let calls = connection.sandbox.calls();
        let bytes = self.whole(body, (limit, why), (calls, within)).await?;
        if let Some(spot) = spot {
            draft
                .body(&bytes, spot)
                .map_err(|misuse| injector.misused(connection, &self.target.authority, &misuse))?;
        }
        Ok(Some(Body { bytes, spot }))
    }

    /// The values of the bindings at `needed`, fetched where they must be.
    async fn values(
        &mut self,
        injector: &Arc<Injector>,
        needed: &[usize],
    ) -> Result<Vec<Chosen>, Refusal> {
        let live = self.open.watch().expect("set when it was judged").live().clone();
        let mut chosen = Vec::with_capacity(needed.len());
        for at in needed {
            let credential = &injector.bound[*at].credential;
            let held = unless_cut(&live, credential.value())
                .await
                .map_err(|end| cut(end, Code::ConnectTimeout))?
                // Why is for the operator: it stands in the log and in `credentials list`.
                .map_err(|_| {
                    let name = Shown::new(credential.name());
                    let detail = format!("the credential `{name}` is not available");
                    Refusal::unjudged(Code::CredentialUnavailable, detail)
                })?;
            chosen.push(Chosen { at: *at, held });
        }
        Ok(chosen)
    }

    /// The whole body, wherever it is by now.
    async fn whole(
        &mut self,
        judged: &mut JudgedBody,
        limit: (usize, &str),
        within: (&Calls, Duration),
    ) -> Result<Bytes, Refusal> {
        let bytes = match judged.take_bytes() {
            Some(bytes) => bytes,
            None => {
                let first = self.peeked.take().map(|peeked| *peeked);
                super::super::judged::whole((first, self.body.take()), limit, within).await?
            }
        };
        if bytes.len() > limit.0 {
            return Err(super::super::judged::too_long(limit));
        }
        // What goes up is one piece of this length, however it came.
        self.head.headers.remove(http::header::TRAILER);
        if !bytes.is_empty() || self.framing.length.is_some() {
            let length = HeaderValue::from(bytes.len());
            self.head.headers.insert(http::header::CONTENT_LENGTH, length);
            self.head.headers.remove(http::header::TRANSFER_ENCODING);
        }
        self.framing.expects = false;
        self.head.headers.remove(http::header::EXPECT);
        Ok(bytes)
    }
}

impl Injector {
    /// The refusal for a placeholder that is not for this request, and the event that says so.
    fn misused(
        &self,
        connection: &Connection,
        target: &crate::addr::Authority,
        misuse: &Misuse,
    ) -> Refusal {
        let text = Shown::new(&misuse.text).limit(160).to_string();
        let spot = spot_name(misuse.spot);
        let bound =
            self.bound.iter().filter(|bound| bound.word.is_some() && bound.word == misuse.word);
        let here = bound.clone().any(|bound| bound.binding.is_at(target));
        let detail = match (bound.clone().next(), here) {
            _ if misuse.fault == Fault::InEscape => {
                format!("the placeholder {text} stands in an escape in this request's {spot}")
            }
            (None, _) => format!("nobody here knows the placeholder {text}"),
            (Some(_), true) => {
                format!("the placeholder {text} is not filled in this request's {spot}")
            }
            (Some(bound), false) => {
                format!("the placeholder {text} is for {} alone", Shown::host(&bound.binding.host))
            }
        };
        let name = bound.clone().next().map(|bound| bound.credential.name().clone());
        self.tell(connection, name, target);
        Refusal::unjudged(Code::PlaceholderMisuse, detail)
    }

    fn tell(
        &self,
        connection: &Connection,
        credential: Option<Arc<str>>,
        target: &crate::addr::Authority,
    ) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
                return;
            }
            *told = Some(Instant::now());
        }
        let event = Event::Credential {
            sandbox: connection.sandbox.name().clone(),
            credential,
            what: crate::record::CredentialEvent::PlaceholderMisuse,
            host: Some(Shown::host(&target.host).limit(253).to_string()),
        };
        if connection.sandbox.recorder().event(event).is_err() {
            tracing::warn!("a placeholder's misuse could not be recorded as an event");
        }
    }
}

/// Where a placeholder stood, in a sentence.
fn spot_name(spot: Spot) -> &'static str {
    match spot {
        Spot::Header => "headers",
        Spot::Basic => "Basic credentials",
        Spot::Query => "query",
        Spot::Path => "path",
        Spot::Json | Spot::Form | Spot::Text => "body",
        Spot::Websocket => "messages",
    }
}
