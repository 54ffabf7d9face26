//! Requests that are sent again: what the origin has not begun to answer, where nothing was done with it.

use super::body::{Pace, UpBody};
use super::carry::{Carrier, Failed, Unsent, Use, Versions};
use super::gate::Connection;
use super::headers;
use super::inject::Plan;
use super::outbound::for_parent;
use super::refuse::Refusal;
use super::request::{Exchange, Up};
use crate::policy::{Code, Permit, Scheme};
use crate::upstream::http::Received;
use bytes::Bytes;
use http::{Request, Response, header};
use std::sync::Arc;

/// A request that can be sent again.
pub(super) struct Spare {
    head: http::request::Parts,
    again: Again,
}

/// Where its body then comes from.
pub(super) enum Again {
    /// It has none.
    Bare,
    /// The client's, which waits in its pace for the origin to ask for it.
    Parked(UpBody),
    /// What the try that failed gives back.
    Kept,
}

/// A try that failed.
pub(super) struct Tried {
    pub(super) failed: Box<Failed>,
    pub(super) carrier: Carrier,
    pub(super) spare: Option<Spare>,
    pub(super) kind: (Scheme, Versions),
}

impl Spare {
    /// Of what goes up over HTTP/2, whose origins say what they did nothing with; over HTTP/1.1 of methods
    /// that may be repeated (RFC 9110 §9.2.2), on a connection that was used before.
    pub(super) fn of(head: &http::request::Parts, again: Again, carrier: &Carrier) -> Option<Self> {
        let stale = carrier.lease.connection.reused
            && head.method.is_idempotent()
            && !matches!(again, Again::Kept);
        (carrier.is_http2() || stale).then(|| Self { head: copy(head), again })
    }

    /// Whether it has no body to go up again with.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.again, Again::Bare)
    }

    /// With the body that goes up passed through `shape`.
    pub(super) fn shaped(self, shape: impl Fn(UpBody) -> UpBody) -> Self {
        let again = match self.again {
            Again::Parked(body) => Again::Parked(shape(body)),
            again => again,
        };
        Self { again, ..self }
    }

    fn body(&mut self, pace: &Arc<Pace>) -> Option<UpBody> {
        match std::mem::replace(&mut self.again, Again::Kept) {
            Again::Bare => {
                self.again = Again::Bare;
                Some(UpBody::whole(Bytes::new(), Some(pace.clone())))
            }
            Again::Parked(body) => Some(body),
            Again::Kept => UpBody::again(pace),
        }
    }
}

impl Tried {
    /// The request once more, where that is safe: not a byte of it was written, or the origin says that
    /// it did nothing with it (RFC 9113 §8.7), or the connection may have been closed before it came, and
    /// it may be repeated.
    fn again(&mut self, pace: &Arc<Pace>) -> Option<Request<UpBody>> {
        if let Some(request) = self.failed.unsent.take() {
            return Some(*request);
        }
        let spare = self.spare.as_mut()?;
        // Of a response that had begun nothing is sent again.
        if pace.heard() || self.failed.refusal.code == Code::UpstreamProtocol {
            return None;
        }
        let stale = self.carrier.lease.connection.reused || self.failed.http1;
        let repeats = stale && spare.head.method.is_idempotent() && !pace.polled();
        if !self.failed.unprocessed && !repeats {
            return None;
        }
        let body = spare.body(pace)?;
        Some(Request::from_parts(copy(&spare.head), body))
    }
}

/// A head, but for what libraries attach to it.
fn copy(head: &http::request::Parts) -> http::request::Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers.clone_from(&head.headers);
    copy
}

impl Exchange {
    /// Sends it again, if it may be.
    pub(super) async fn again(
        &mut self,
        connection: &Arc<Connection>,
        (permit, plan): (&Permit, Option<&Plan>),
        mut tried: Tried,
        up: &mut Up,
    ) -> Result<(Response<Received>, Carrier), Refusal> {
        let first_byte = connection.gate.settings.timeouts.first_byte;
        let mut before: Vec<Use> = Vec::new();
        loop {
            if tried.failed.http1 {
                connection.gate.require_http1(permit.target());
                tried.kind.1 = Versions::Http1;
            }
            let request = tried.again(&up.pace);
            let Tried { failed, carrier, spare, kind } = tried;
            drop(carrier);
            let (Some(request), Some(way)) = (request, failed.way(&before)) else {
                return Err(failed.refusal);
            };
            before.push(way);
            let mut carrier = connection.carrier(permit, &mut self.open, kind, way).await?;
            if let Some(plan) = plan {
                carrier.fits(plan)?;
            }
            let request = self.reshaped(request, connection, &carrier)?;
            self.leaves(first_byte)?;
            match self.send(&mut carrier, request, up).await {
                Ok(response) => return Ok((response, carrier)),
                Err(Unsent::Refused(refusal)) => return Err(refusal),
                Err(Unsent::Failed(failed)) => tried = Tried { failed, carrier, spare, kind },
            }
        }
    }

    /// The request in the form that it has on the connection it now goes on.
    fn reshaped(
        &self,
        request: Request<UpBody>,
        connection: &Connection,
        carrier: &Carrier,
    ) -> Result<Request<UpBody>, Refusal> {
        let (mut head, body) = request.into_parts();
        carrier.takes(headers::is_grpc(&head.headers))?;
        // The first try may have gone through a parent proxy: they are for it alone.
        head.headers.remove(headers::LOOP);
        head.headers.remove(header::PROXY_AUTHORIZATION);
        for_parent(&mut head.headers, connection, carrier);
        head.headers.insert(header::HOST, self.target.host.clone());
        if carrier.is_http2() {
            // What the first try may have had over HTTP/1.1 (RFC 9113 §8.2.2).
            head.headers.remove(header::CONNECTION);
            head.headers.remove(header::TRANSFER_ENCODING);
        }
        self.shape(&mut head, carrier)?;
        if !http_body::Body::is_end_stream(&body) {
            self.chunked(&mut head, carrier.is_http2());
        }
        Ok(Request::from_parts(head, body))
    }
}
