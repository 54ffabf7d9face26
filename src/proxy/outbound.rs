//! What goes up: built from what was judged, never from the bytes that came.

use super::body::{Pace, Peeked, UpBody};
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
use http::{HeaderValue, Request, Uri, Version, header};
use std::sync::Arc;

impl Exchange {
    /// What goes up with the values that it gets, on a connection that may carry them.
    pub(super) fn injected(
        &mut self,
        (permit, plan): (&Permit, &Plan),
        (head, judged): (http::request::Parts, JudgedBody),
        pace: &Arc<Pace>,
        carrier: &Carrier,
    ) -> Result<(Request<UpBody>, Option<Request<UpBody>>), Refusal> {
        carrier.fits(plan)?;
        let Outbound { head, body, replaced, unframed } =
            plan.inject(permit, head, std::time::SystemTime::now())?;
        let body = body.map_or(judged, JudgedBody::seen);
        let (request, spare) = self.outbound(head, body, pace, carrier)?;
        let shaped = |request: Request<UpBody>| {
            request.map(|body| body.without(replaced.clone()).unframed(unframed))
        };
        Ok((shaped(request), spare.map(shaped)))
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
            Some(path) if carrier.absolute || carrier.is_http2() => self.absolute(path)?,
            path => path.map_or_else(Uri::default, Uri::from),
        };
        if carrier.absolute {
            head.headers.insert(headers::LOOP, connection.gate.loop_token.clone());
            if let Some(value) = connection.gate.upstream.parent_authorization() {
                head.headers.insert(header::PROXY_AUTHORIZATION, value);
            }
        }
        Ok(head)
    }

    /// The whole URL of `path`.
    fn absolute(&self, path: PathAndQuery) -> Result<Uri, Refusal> {
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
                Some(path) if absolute => self.absolute(path)?,
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
        if fields.contains_key(header::TE) {
            // Whoever sends TE says that it is of this connection (RFC 9110 §10.1.4).
            fields.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
        Ok(())
    }

    /// The request for the origin, and a spare for the one retry: see [`spare`]. Its body must not
    /// have been asked for by then.
    pub(super) fn outbound(
        &mut self,
        mut head: http::request::Parts,
        mut body: JudgedBody,
        pace: &Arc<Pace>,
        carrier: &Carrier,
    ) -> Result<(Request<UpBody>, Option<Request<UpBody>>), Refusal> {
        let http2 = carrier.is_http2();
        self.shape(&mut head, carrier)?;
        if let Some(peeked) = self.peeked.take() {
            return Ok((self.outbound_peeked(head, peeked, pace, http2), None));
        }
        let streams = match body.take_bytes() {
            Some(bytes) => {
                let request = Request::from_parts(head, UpBody::whole(bytes, Some(pace.clone())));
                return Ok((request, None));
            }
            None => self.body.take().filter(|body| !http_body::Body::is_end_stream(body)),
        };
        if let Some(incoming) = streams {
            if !http2 && self.framing.length.is_none() {
                // hyper leaves the body of a GET away where nothing says that there is one.
                let chunked = HeaderValue::from_static("chunked");
                head.headers.insert(header::TRANSFER_ENCODING, chunked);
            }
            if self.framing.expects {
                UpBody::park(incoming, pace);
                let spare = spare(&head, carrier).map(|head| waiting(head, pace));
                return Ok((waiting(head, pace), spare));
            }
            let body = UpBody::stream(incoming, pace.clone());
            return Ok((Request::from_parts(head, body), None));
        }
        head.headers.remove(header::EXPECT);
        let whole = || UpBody::whole(Bytes::new(), Some(pace.clone()));
        let spare = spare(&head, carrier).map(|head| Request::from_parts(head, whole()));
        Ok((Request::from_parts(head, whole()), spare))
    }

    /// A request whose body was read in part, for the operator to see.
    fn outbound_peeked(
        &self,
        mut head: http::request::Parts,
        peeked: Box<Peeked>,
        pace: &Arc<Pace>,
        http2: bool,
    ) -> Request<UpBody> {
        if !http2 && self.framing.length.is_none() {
            let chunked = HeaderValue::from_static("chunked");
            head.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
        Request::from_parts(head, UpBody::peeked(peeked, pace.clone()))
    }
}

/// The head for one retry, where that is safe: of a method that may be repeated
/// (RFC 9110 §9.2.2), on a connection that was used before, or whose origin may want it otherwise.
fn spare(head: &http::request::Parts, carrier: &Carrier) -> Option<http::request::Parts> {
    let may_fail = carrier.lease.connection.reused || carrier.is_http2();
    if !may_fail || !head.method.is_idempotent() {
        return None;
    }
    let mut spare = Request::new(()).into_parts().0;
    spare.method = head.method.clone();
    spare.uri = head.uri.clone();
    spare.version = head.version;
    spare.headers.clone_from(&head.headers);
    Some(spare)
}

/// A request whose body goes up when the origin says so (RFC 9110 §10.1.1).
fn waiting(head: http::request::Parts, pace: &Arc<Pace>) -> Request<UpBody> {
    Request::from_parts(head, UpBody::parked(pace.clone()))
}
