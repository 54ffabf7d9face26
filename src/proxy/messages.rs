//! A WebSocket after its handshake: bytes both ways, and where the rules judge messages, each
//! text message of the client judged before it leaves.

use super::gate::Connection;
use super::live::{End, Live};
use super::open::OpenRecord;
use super::target::Target;
use super::websocket::{Decoder, Event, FrameError, Side, encode_close};
use crate::addr::Path;
use crate::policy::body::ws_graphql;
use crate::policy::{Ask, Body, Client, Code, Intent, Verdict};
use crate::record::Outcome;
use http::uri::PathAndQuery;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

/// RFC 6455 §7.4.1: policy violation.
const POLICY_VIOLATION: u16 = 1008;
/// RFC 6455 §7.4.1: protocol error.
const PROTOCOL_ERROR: u16 = 1002;

type Io = TokioIo<Upgraded>;

/// Judges a client's text messages.
pub(crate) struct Judge {
    sandbox: Arc<super::sandbox::Sandbox>,
    client: Client,
    target: Target,
    path: PathAndQuery,
    graphql: bool,
    limit: usize,
}

/// Why a direction stopped.
enum Stop {
    End,
    Broken,
    Refused(Code, String),
    Malformed(FrameError),
}

impl Judge {
    pub(crate) fn new(
        connection: &Connection,
        target: &Target,
        open: &mut OpenRecord,
        protocol: Option<String>,
    ) -> Self {
        let graphql = protocol.is_some_and(|p| p == "graphql-transport-ws" || p == "graphql-ws");
        Self {
            sandbox: connection.sandbox.clone(),
            client: connection.client.clone(),
            target: target.clone(),
            path: open.record().target.clone().unwrap_or(PathAndQuery::from_static("/")),
            graphql,
            limit: connection.sandbox.settings().bodies.graphql,
        }
    }

    fn judge(&self, text: &str) -> Result<(), (Code, String)> {
        let message = self.graphql.then(|| ws_graphql::message(text));
        let body = match &message {
            Some(Ok(ws_graphql::Message::Control)) => return Ok(()),
            Some(Ok(ws_graphql::Message::Operation(operation))) => {
                Body::Graphql(std::slice::from_ref(operation))
            }
            Some(Err(why)) => Body::Invalid(why),
            None => Body::Opaque,
        };
        let path =
            Path::parse(self.path.path()).map_err(|e| (Code::MessageNotAllowed, e.to_string()))?;
        let intent = Intent {
            client: &self.client,
            scheme: self.target.scheme,
            target: &self.target.authority,
            ask: Ask::Message { path: &path, query: self.path.query(), body },
        };
        match self.sandbox.policy().judge(&intent) {
            Verdict::Allow(_) | Verdict::Audit(_) => Ok(()),
            Verdict::Deny(denial) => Err((denial.code, denial.detail)),
            Verdict::Unknown(question) => Err((question.code, question.detail)),
        }
    }
}

/// Relays until both sides have ended, and closes the record.
pub(crate) async fn relay(
    (client, origin): (Io, Io),
    open: OpenRecord,
    judge: Option<Judge>,
    idle: Duration,
) {
    let Some(live) = open.watch().map(|w| w.live().clone()) else { return };
    if let Some(watch) = open.watch() {
        watch.due(idle);
    }
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = tokio::io::split(origin);
    let stop = {
        let mut upward = std::pin::pin!(async {
            match &judge {
                Some(judge) => {
                    judged(&mut client_read, &mut origin_write, judge, (&live, idle), &live.upload).await
                }
                None => {
                    let to = &mut origin_write;
                    copied(&mut client_read, to, (&live, idle), &live.upload).await
                }
            }
        });
        let mut downward = std::pin::pin!(copied(
            &mut origin_read,
            &mut client_write,
            (&live, idle),
            &live.download
        ));
        let (mut up_done, mut down_done) = (false, false);
        poll_fn(|cx| {
            if let Poll::Ready(end) = live.poll_cut(cx) {
                return Poll::Ready(Err(end));
            }
            if live.draft_due() {
                open.draft();
            }
            if !up_done && let Poll::Ready(stop) = upward.as_mut().poll(cx) {
                match stop {
                    Stop::End => up_done = true,
                    stop => return Poll::Ready(Ok(stop)),
                }
            }
            if !down_done && let Poll::Ready(stop) = downward.as_mut().poll(cx) {
                match stop {
                    Stop::End => down_done = true,
                    stop => return Poll::Ready(Ok(stop)),
                }
            }
            if up_done && down_done { Poll::Ready(Ok(Stop::End)) } else { Poll::Pending }
        })
        .await
    };
    end(open, stop, &mut client_write, &mut origin_write).await;
}

async fn end(
    open: OpenRecord,
    stop: Result<Stop, End>,
    client: &mut WriteHalf<Io>,
    origin: &mut WriteHalf<Io>,
) {
    let (code, close, reason) = match stop {
        Ok(Stop::End) => return open.close(Outcome::Passed),
        Ok(Stop::Broken) => (Code::UpstreamClosed, None, String::new()),
        Ok(Stop::Refused(code, detail)) => (code, Some(POLICY_VIOLATION), detail),
        Ok(Stop::Malformed(error)) => (Code::BadFrame, Some(PROTOCOL_ERROR), error.to_string()),
        Err(End::Deadline) => (Code::IdleTimeout, None, String::new()),
        Err(End::TooLong) => (Code::TotalTimeout, None, String::new()),
        Err(End::Revoked) => {
            (Code::PolicyChanged, Some(POLICY_VIOLATION), "the policy changed".to_owned())
        }
        Err(End::Drain | End::Stop) => (Code::Draining, Some(1001), "going away".to_owned()),
    };
    if let Some(status) = close {
        let reason = super::refuse::clip(&reason, 120);
        let frame = encode_close(status, reason, None);
        let masked = encode_close(status, "", Some([0x5a, 0x13, 0xc7, 0x2e]));
        let tell = async {
            drop(client.write_all(&frame).await);
            drop(client.shutdown().await);
            drop(origin.write_all(&masked).await);
            drop(origin.shutdown().await);
        };
        drop(tokio::time::timeout(Duration::from_secs(1), tell).await);
    }
    open.fail(code);
}

async fn copied(
    from: &mut ReadHalf<Io>,
    to: &mut WriteHalf<Io>,
    (live, idle): (&Live, Duration),
    count: &AtomicU64,
) -> Stop {
    let mut buffer = bytes::BytesMut::new();
    loop {
        let step = poll_fn(|cx| super::relay::poll_copy(cx, from, to, &mut buffer)).await;
        match step {
            Ok(super::relay::Copied::Some(n)) => {
                count.fetch_add(n as u64, Ordering::Relaxed);
                live.extend(idle);
            }
            Ok(super::relay::Copied::End) => {
                drop(to.shutdown().await);
                return Stop::End;
            }
            Err(_) => return Stop::Broken,
        }
    }
}

async fn judged<R, W>(
    from: &mut R,
    to: &mut W,
    judge: &Judge,
    (live, idle): (&Live, Duration),
    count: &AtomicU64,
) -> Stop
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut decoder = Decoder::new(Side::Client, judge.limit);
    let mut buffer = vec![0; 8192];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => {
                drop(to.shutdown().await);
                return Stop::End;
            }
            Ok(n) => n,
            Err(_) => return Stop::Broken,
        };
        decoder.push(&buffer[..n]);
        live.extend(idle);
        loop {
            let wire = match decoder.next() {
                Err(error) => return Stop::Malformed(error),
                Ok(None) => break,
                Ok(Some(Event::Text { text, wire })) => match judge.judge(&text) {
                    Ok(()) => wire,
                    Err((code, detail)) => return Stop::Refused(code, detail),
                },
                Ok(Some(Event::Binary { .. })) => {
                    let detail = "binary messages can't be judged, and the rules judge messages";
                    return Stop::Refused(Code::MessageNotAllowed, detail.to_owned());
                }
                Ok(Some(Event::Beat { wire } | Event::Close { wire, .. })) => wire,
            };
            if to.write_all(&wire).await.is_err() || to.flush().await.is_err() {
                return Stop::Broken;
            }
            count.fetch_add(wire.len() as u64, Ordering::Relaxed);
        }
    }
}
