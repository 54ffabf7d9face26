//! The origin's answer on its way to the client: cleaned, scrubbed where it has to be, and begun.

use super::body::{DownBody, Lease, Streaming, Upload};
use super::carry::sentence;
use super::gate::Connection;
use super::headers::{self, Marks};
use super::inject::Plan;
use super::refuse::Refusal;
use super::request::Exchange;
use super::scrub;
use crate::policy::Code;
use crate::upstream::http::Received;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use std::task::Poll;

/// A response this long or shorter leaves in one write with its head, if it is there in time.
pub(super) const AHEAD: u64 = 16 * 1024;

impl Exchange {
    /// The origin's answer as the client gets it. Its connection is kept where there is a lease, and its
    /// record is open as long as an upload goes on.
    pub(super) async fn respond(
        &mut self,
        connection: &Connection,
        response: Response<Received>,
        (lease, upload): (Option<Lease>, Option<Upload>),
        plan: Option<&Plan>,
    ) -> Result<Response<DownBody>, Refusal> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let detail = "the origin switched protocols without being asked";
            return Err(Refusal::unjudged(Code::BadUpgrade, detail));
        }
        let marks = Marks::of(&head.headers);
        if marks.codings() && !headers::decoded(&head.headers) {
            let detail = "the origin's answer has a transfer coding beside `chunked`";
            return Err(Refusal::unjudged(Code::UpstreamProtocol, detail));
        }
        let bound = self.framing.bound()
            || (marks.challenge() && headers::binds(&head.headers, &header::WWW_AUTHENTICATE));
        headers::clean_marked_response(marks, &mut head.headers);
        one_length(&mut head)?;
        head.version = Version::HTTP_11;
        head.extensions = hyper_reason(&head.extensions);
        let body = match plan {
            Some(plan) => {
                let headed = self.head.method == Method::HEAD;
                plan.receive(&mut head, body, (connection.sandbox.calls(), headed))?
            }
            None => scrub::Answer::plain(body),
        };
        let mut streaming = Box::new(Streaming {
            body,
            first: None,
            broken: None,
            open: None,
            lease: lease.filter(|_| !bound),
            upload,
            idle: connection.gate.settings.timeouts.idle,
            tee: None,
            trailers: self.framing.trailers,
            done: false,
        });
        let short = http_body::Body::size_hint(&streaming.body)
            .exact()
            .is_some_and(|n| n <= AHEAD && n > 0);
        if short && self.head.method != Method::HEAD {
            ahead(&mut streaming).await;
            if let Some(error) = streaming.broke() {
                return Err(Refusal::unjudged(error.code(), sentence(&error)));
            }
        }
        let started = self.open.started();
        let record = self.open.record();
        record.status = Some(head.status.as_u16());
        record.ms.first_byte = Some(started.elapsed());
        if let Some(watch) = self.open.watch() {
            watch.due(connection.gate.settings.timeouts.idle);
        }
        streaming.open = Some(self.open.take());
        Ok(Response::from_parts(head, DownBody::stream(streaming)))
    }
}

/// Gives an answer one length, as it may be passed on (RFC 9110 §8.6): a list of equal ones is one, and
/// where there is no content (204) or none that can be told (304), a wrong one is none.
pub(super) fn one_length(head: &mut http::response::Parts) -> Result<(), Refusal> {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    if lengths.next().is_none() && headers::decimal(first).is_some() {
        return Ok(());
    }
    match common_length(&head.headers) {
        Some(length) => {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None if head.status == StatusCode::NOT_MODIFIED => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        None => {
            let detail = "the origin's answer has two lengths, or one that is none";
            return Err(Refusal::unjudged(Code::UpstreamProtocol, detail));
        }
    }
    Ok(())
}

/// The one length that all fields say, each of which may be a list.
fn common_length(fields: &HeaderMap) -> Option<u64> {
    let values = fields.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = values.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let first = number(lengths.next()?.trim_ascii())?;
    lengths.all(|length| number(length.trim_ascii()) == Some(first)).then_some(first)
}

/// `1*DIGIT`, as far as a length can be.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Waits at most two turns of the runtime for the first frame.
pub(super) async fn ahead(streaming: &mut Streaming) {
    let mut turns = 0;
    std::future::poll_fn(|cx| {
        if streaming.poll_ahead(cx).is_ready() || turns == 2 {
            return Poll::Ready(());
        }
        turns += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Of the origin's extensions only the reason phrase goes on.
pub(super) fn hyper_reason(extensions: &http::Extensions) -> http::Extensions {
    let mut kept = http::Extensions::new();
    if let Some(reason) = extensions.get::<hyper::ext::ReasonPhrase>() {
        kept.insert(reason.clone());
    }
    kept
}
