//! What goes up: built from what was judged, never from the bytes that came.

use super::body::{Pace, Peeked, UpBody};
use super::carry::Carrier;
use super::gate::Connection;
use super::headers;
use super::inject::{Outbound, Plan};
use super::judged::JudgedBody;
use super::refuse::Refusal;
use super::request::Exchange;
use crate::policy::{Code, Permit};
use crate::upstream::http::Sender;
use bytes::Bytes;
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
        let (request, spare) = self.outbound(head, body, pace, carrier);
        let shaped = |request: Request<UpBody>| {
            request.map(|body| body.without(replaced.clone()).unframed(unframed))
        };
        Ok((shaped(request), spare.map(shaped)))
    }

    /// The head that goes up: built from what was judged, never from the bytes that came.
    pub(super) fn head(
        &mut self,
        connection: &Connection,
        absolute: bool,
    ) -> Result<http::request::Parts, Refusal> {
        let path = self.open.record().target.clone();
        let mut head = Request::new(()).into_parts().0;
        head.method = self.head.method.clone();
        head.headers = std::mem::take(&mut self.head.headers);
        headers::clean_request(&mut head.headers, self.framing.trailers);
        let http2 = !absolute && self.head.version == Version::HTTP_2;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = path;
        if absolute || http2 {
            uri.scheme = Some(match self.target.scheme {
                crate::policy::Scheme::Https => http::uri::Scheme::HTTPS,
                _ => http::uri::Scheme::HTTP,
            });
            uri.authority = http::uri::Authority::try_from(self.target.host.as_bytes()).ok();
        }
        head.uri = Uri::from_parts(uri)
            .map_err(|_| Refusal::unjudged(Code::BadTarget, "the target can't be forwarded"))?;
        // There is at most one: `Via::target` has seen to that.
        if head.headers.get(header::HOST) != Some(&self.target.host) {
            head.headers.insert(header::HOST, self.target.host.clone());
        }
        if absolute {
            head.headers.insert(headers::LOOP, connection.gate.loop_token.clone());
            if let Some(value) = connection.gate.upstream.parent_authorization() {
                head.headers.insert(header::PROXY_AUTHORIZATION, value);
            }
        }
        Ok(head)
    }

    /// The request for the origin, and a spare for the one retry: see [`spare`]. Its body must not
    /// have been asked for by then.
    pub(super) fn outbound(
        &mut self,
        mut head: http::request::Parts,
        mut body: JudgedBody,
        pace: &Arc<Pace>,
        carrier: &Carrier,
    ) -> (Request<UpBody>, Option<Request<UpBody>>) {
        let http2 = matches!(carrier.lease.connection.sender, Sender::Http2(_));
        if http2 {
            // `:authority` says it; a second Host would be a second name.
            head.headers.remove(header::HOST);
            if head.uri.authority().is_none() {
                let mut parts = std::mem::take(&mut head.uri).into_parts();
                parts.scheme = Some(match self.target.scheme {
                    crate::policy::Scheme::Https => http::uri::Scheme::HTTPS,
                    _ => http::uri::Scheme::HTTP,
                });
                parts.authority = http::uri::Authority::try_from(self.target.host.as_bytes()).ok();
                head.uri = Uri::from_parts(parts).unwrap_or_default();
            }
            head.version = Version::HTTP_2;
        } else if head.headers.contains_key(header::TE) {
            // Whoever sends TE says that it is of this connection (RFC 9110 §10.1.4).
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
        if !http2 && !carrier.absolute && head.uri.scheme().is_some() {
            let path = head.uri.into_parts().path_and_query;
            head.uri = path.map_or_else(Uri::default, Uri::from);
        }
        if let Some(peeked) = self.peeked.take() {
            return (self.outbound_peeked(head, peeked, pace, http2), None);
        }
        let streams = match body.take_bytes() {
            Some(bytes) => {
                let request = Request::from_parts(head, UpBody::whole(bytes, Some(pace.clone())));
                return (request, None);
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
                return (waiting(head, pace), spare);
            }
            return (Request::from_parts(head, UpBody::stream(incoming, pace.clone())), None);
        }
        head.headers.remove(header::EXPECT);
        let whole = || UpBody::whole(Bytes::new(), Some(pace.clone()));
        let spare = spare(&head, carrier).map(|head| Request::from_parts(head, whole()));
        (Request::from_parts(head, whole()), spare)
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
/// (RFC 9110 §9.2.2), on a connection that was used before.
fn spare(head: &http::request::Parts, carrier: &Carrier) -> Option<http::request::Parts> {
    if !carrier.lease.connection.reused || !head.method.is_idempotent() {
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
