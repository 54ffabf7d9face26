//! What goes up: built from what was judged, never from the bytes that came.

use super::again::{Again, Spare};
use super::body::{ClientBody, Pace, UpBody};
use super::carry::Carrier;
use super::gate::Connection;
use super::headers;
use super::inject::{Outbound, Plan};
use super::judged::JudgedBody;
use super::refuse::Refusal;
use super::request::Exchange;
use crate::policy::{Code, Permit, Scheme};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri, Version, header};
use std::sync::Arc;

impl Exchange {
    /// What goes up with the values that it gets, on a connection that may carry them.
    pub(super) fn injected(
        &mut self,
        (permit, plan): (&Permit, &Plan),
        (head, judged): (http::request::Parts, JudgedBody),
        pace: &Arc<Pace>,
        carrier: &Carrier,
    ) -> Result<(Request<UpBody>, Option<Spare>), Refusal> {
        carrier.fits(plan)?;
        let Outbound { head, body, replaced, unframed } =
            plan.inject(permit, head, std::time::SystemTime::now())?;
        let body = body.map_or(judged, JudgedBody::seen);
        let (request, spare) = self.outbound(head, body, pace, carrier)?;
        let shaped = |body: UpBody| body.without(replaced.clone()).unframed(unframed);
        // Without a body it can't be what its head says, and is not said again.
        let spare = spare.filter(|spare| unframed.is_none() || !spare.is_bare());
        let spare = spare.map(|spare| spare.shaped(shaped));
        Ok((request.map(shaped), spare))
    }

    /// The head that goes up: built from what was judged, never from the bytes that came.
    pub(super) fn head(
        &mut self,
        connection: &Connection,
        carrier: &Carrier,
    ) -> Result<http::request::Parts, Refusal> {
        let path = self.open.record().target.clone();
        let mut head = Request::new(()).into_parts().0;
        head.method = self.head.method.clone();
        head.headers = std::mem::take(&mut self.head.headers);
        headers::clean_request(&mut head.headers, self.framing.trailers);
        // There is at most one: `Via::target` has seen to that.
        if head.headers.get(header::HOST) != Some(&self.target.host) {
            head.headers.insert(header::HOST, self.target.host.clone());
        }
        head.uri = match path {
            Some(path) if carrier.absolute || carrier.is_http2() => self.absolute(path, carrier)?,
            path => path.map_or_else(Uri::default, Uri::from),
        };
        for_parent(&mut head.headers, connection, carrier);
        Ok(head)
    }

    /// The whole URL of `path`.
    fn absolute(&self, path: PathAndQuery, carrier: &Carrier) -> Result<Uri, Refusal> {
        if path.as_str() == "*" && !carrier.is_http2() {
            // It would be a URL without a path (RFC 9112 §3.2.4), which the `*` can't stand in.
            let detail = "`OPTIONS *` can't be forwarded through the parent proxy: name a path";
            return Err(Refusal::unjudged(Code::BadTarget, detail));
        }
        let scheme = match self.target.scheme {
            Scheme::Https => http::uri::Scheme::HTTPS,
            _ => http::uri::Scheme::HTTP,
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(scheme);
        uri.authority = http::uri::Authority::try_from(self.target.host.as_bytes()).ok();
        uri.path_and_query = Some(path);
        Uri::from_parts(uri)
            .map_err(|_| Refusal::unjudged(Code::BadTarget, "the target can't be forwarded"))
    }

    /// Gives `head`, which has a `Host`, the form that it has in the carrier's version of HTTP.
    pub(super) fn shape(
        &self,
        head: &mut http::request::Parts,
        carrier: &Carrier,
    ) -> Result<(), Refusal> {
        let http2 = carrier.is_http2();
        let absolute = http2 || carrier.absolute;
        if head.uri.authority().is_some() != absolute {
            head.uri = match std::mem::take(&mut head.uri).into_parts().path_and_query {
                Some(path) if absolute => self.absolute(path, carrier)?,
                path => path.map_or_else(Uri::default, Uri::from),
            };
        }
        let fields = &mut head.headers;
        if http2 {
            head.version = Version::HTTP_2;
            // `:authority` says it; a second Host would be a second name.
            fields.remove(header::HOST);
            return Ok(());
        }
        head.version = Version::HTTP_11;
        // Left of it is only what says that trailers are taken (`clean_request`).
        if self.framing.trailers && fields.contains_key(header::TE) {
            // Whoever sends TE says that it is of this connection (RFC 9110 §10.1.4).
            fields.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
        Ok(())
    }

    /// The request for the origin, and what is needed to send it again.
    pub(super) fn outbound(
        &mut self,
        mut head: http::request::Parts,
        mut body: JudgedBody,
        pace: &Arc<Pace>,
        carrier: &Carrier,
    ) -> Result<(Request<UpBody>, Option<Spare>), Refusal> {
        self.shape(&mut head, carrier)?;
        let http2 = carrier.is_http2();
        let streams = |body: &ClientBody| !http_body::Body::is_end_stream(body);
        let (body, again) = if let Some(peeked) = self.peeked.take() {
            self.chunked(&mut head, http2);
            (UpBody::peeked(peeked, pace.clone()), Again::Kept)
        } else if let Some(bytes) = body.take_bytes() {
            (UpBody::whole(bytes, Some(pace.clone())), Again::Kept)
        } else if let Some(incoming) = self.body.take().filter(streams) {
            self.chunked(&mut head, http2);
            if self.framing.expects {
                UpBody::park(incoming, pace);
                let parked = || UpBody::parked(pace.clone());
                (parked(), if http2 { Again::Kept } else { Again::Parked(parked()) })
            } else {
                (UpBody::stream(incoming, pace.clone()), Again::Kept)
            }
        } else {
            head.headers.remove(header::EXPECT);
            (UpBody::whole(Bytes::new(), Some(pace.clone())), Again::Bare)
        };
        let body = if http2 && matches!(again, Again::Kept) { body.kept() } else { body };
        let spare = Spare::of(&head, again, carrier);
        Ok((Request::from_parts(head, body), spare))
    }

    /// hyper leaves the body of a GET away where nothing says that there is one.
    pub(super) fn chunked(&self, head: &mut http::request::Parts, http2: bool) {
        if !http2 && self.framing.length.is_none() {
            let chunked = HeaderValue::from_static("chunked");
            head.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
    }
}

/// What a parent proxy is told that forwards a request.
pub(super) fn for_parent(fields: &mut HeaderMap, connection: &Connection, carrier: &Carrier) {
    if !carrier.absolute {
        return;
    }
    fields.insert(headers::LOOP, connection.gate.loop_token.clone());
    if let Some(value) = connection.gate.upstream.parent_authorization() {
        fields.insert(header::PROXY_AUTHORIZATION, value);
    }
}
