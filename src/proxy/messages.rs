//! A WebSocket after its handshake: bytes both ways, and where the rules judge messages, each
//! text message of the client judged before it leaves. Where the origin got a credential, what it
//! says is scrubbed of it.

use super::gate::Connection;
use super::inject::Messages;
use super::live::{End, Live};
use super::open::OpenRecord;
use super::target::Target;
use super::websocket::{
    Decoder, Event, FrameError, Opcode, Place, Scrubbed, Side, encode, encode_close,
};
use crate::addr::{Path, Shown};
use crate::policy::body::ws_graphql;
use crate::policy::{Ask, Body, Client, Code, Intent, Ticket, TicketUse, Verdict};
use crate::record::{By, Outcome};
use crate::secret::Watchlist;
use bytes::{Buf, Bytes, BytesMut};
use http::uri::PathAndQuery;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

/// RFC 6455 §7.4.1: policy violation.
const POLICY_VIOLATION: u16 = 1008;
/// RFC 6455 §7.4.1: protocol error.
const PROTOCOL_ERROR: u16 = 1002;
/// RFC 6455 §7.4.1: a message is too big.
const TOO_BIG: u16 = 1009;
/// RFC 6455 §7.4.1: going away.
const GOING_AWAY: u16 = 1001;
/// How long both sides may take to hear of the end: with the clock's turn below a second (I7).
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// An origin's end, which speaks HTTP/1.1.
type Io = TokioIo<Upgraded>;

/// Judges a client's text messages.
pub(crate) struct Judge {
    sandbox: Arc<super::sandbox::Sandbox>,
    client: Client,
    target: Target,
    path: PathAndQuery,
    graphql: bool,
    limit: usize,
    /// The answer for this one WebSocket.
    ticket: Option<Arc<Ticket>>,
    /// The rules are about messages.
    judges: bool,
    /// Placeholders in messages are filled.
    messages: Option<Messages>,
}

/// Why a direction stopped.
enum Stop {
    End,
    Broken(Code),
    Refused(Code, String),
    Malformed(FrameError),
    /// Over a limit.
    Over(Code),
}

/// The four halves of a relayed WebSocket.
struct Ends<C> {
    from_client: ReadHalf<C>,
    to_client: WriteHalf<C>,
    from_origin: ReadHalf<Io>,
    to_origin: WriteHalf<Io>,
}

/// A direction under way: what was read and not written yet, and where it stands.
struct Way<'a> {
    buffer: BytesMut,
    place: Place,
    count: &'a AtomicU64,
    live: &'a Live,
    idle: Duration,
    /// It goes up, and so against the sandbox's day.
    up: bool,
    /// Who is to blame when reading, and when writing fails.
    blame: (Code, Code),
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
            client: connection.client().clone(),
            target: target.clone(),
            path: open.record().target.clone().unwrap_or(PathAndQuery::from_static("/")),
            graphql,
            limit: connection.sandbox.settings().bodies.graphql,
            ticket: open.watch().and_then(|watch| watch.live().ticket()),
            judges: true,
            messages: None,
        }
    }

    /// The same, filling the placeholders of messages, and judging them where `judges`.
    pub(crate) fn filling(self, judges: bool, messages: Option<Messages>) -> Self {
        Self { judges, messages, ..self }
    }

    /// What goes up for a text message that came as `wire`.
    fn pass(&self, text: &str, wire: Bytes) -> Result<Bytes, (Code, String)> {
        if self.judges {
            self.judge(text)?;
        }
        let Some(messages) = &self.messages else { return Ok(wire) };
        match messages.fill(text) {
            Ok(None) => Ok(wire),
            Ok(Some(filled)) => Ok(encode(Opcode::Text, &filled, Some(mask()))),
            Err(text) => {
                let text = Shown::new(&text).limit(80).to_string();
                let detail = format!("the placeholder {text} is not filled here");
                Err((Code::PlaceholderMisuse, detail))
            }
        }
    }

    fn judge(&self, text: &str) -> Result<(), (Code, String)> {
        let path =
            Path::parse(self.path.path()).map_err(|e| (Code::MessageNotAllowed, e.to_string()))?;
        let intent = |body| Intent {
            client: &self.client,
            scheme: self.target.scheme,
            target: &self.target.authority,
            ask: Ask::Message { path: &path, query: self.path.query(), body },
        };
        let rules = self.sandbox.rules();
        // Some servers speak GraphQL also where no subprotocol was agreed on: where a rule is about
        // operations, whatever is sent is read for them.
        let graphql = self.graphql || rules.policy.body_need(&intent(Body::Unread)).is_some();
        let message = graphql.then(|| ws_graphql::message(text));
        let body = match &message {
            Some(Ok(ws_graphql::Message::Operation(operation))) => {
                Body::Graphql(std::slice::from_ref(operation))
            }
            Some(Err(why)) => Body::Invalid(why),
            Some(Ok(ws_graphql::Message::Control)) | None => Body::Opaque,
        };
        // They ride on the answer about their handshake.
        let ticket = self.ticket.as_deref().map(TicketUse::Again);
        match rules.judge(&intent(body), std::time::SystemTime::now(), None, ticket) {
            Verdict::Allow(_) | Verdict::Audit(_) => Ok(()),
            Verdict::Deny(denial) => Err((denial.code, denial.detail)),
            Verdict::Unknown(question) => Err((question.code, question.detail)),
        }
    }
}

/// Relays until both sides have ended, and closes the record.
pub(crate) async fn relay<C: AsyncRead + AsyncWrite + Send>(
    (client, origin): (C, Io),
    mut open: OpenRecord,
    (judge, known): (Option<Judge>, Option<Watchlist>),
    idle: Duration,
) {
    let Some(live) = open.watch().map(|watch| {
        watch.due(idle);
        watch.live().clone()
    }) else {
        return;
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_origin, to_origin) = tokio::io::split(origin);
    let mut ends = Ends { from_client, to_client, from_origin, to_origin };
    let mut up = Way::new((&live, idle), &live.upload, (Code::ClientGone, Code::UpstreamClosed));
    up.up = true;
    let mut down =
        Way::new((&live, idle), &live.download, (Code::UpstreamClosed, Code::ClientGone));
    let stop = {
        let mut upward = pin!(async {
            let (from, to) = (&mut ends.from_client, &mut ends.to_origin);
            match &judge {
                Some(judge) => judged(from, to, judge, &mut up).await,
                None => copied(from, to, &mut up).await,
            }
        });
        let mut downward = pin!(async {
            let (from, to) = (&mut ends.from_origin, &mut ends.to_client);
            match known {
                Some(known) => scrubbed(from, to, known, &mut down).await,
                None => copied(from, to, &mut down).await,
            }
        });
        both((&live, &mut open), upward.as_mut(), downward.as_mut()).await
    };
    let closed = up.place.closed && down.place.closed;
    let (code, outcome, close) = meaning(stop, closed);
    if let Some((status, reason)) = &close {
        let tell = ends.tell(*status, reason, (&up, &mut down));
        drop(tokio::time::timeout(CLOSE_WITHIN, tell).await);
    }
    if let Some(code) = code {
        open.record().code = code;
        if outcome == Outcome::Refused && code == Code::UploadLimit {
            open.record().by = By::Limit;
        }
    }
    open.close(outcome);
}

/// Runs both directions until each has come to its end, or one of them or the clock ends both.
async fn both(
    (live, open): (&Live, &mut OpenRecord),
    mut upward: Pin<&mut impl Future<Output = Stop>>,
    mut downward: Pin<&mut impl Future<Output = Stop>>,
) -> Result<Stop, End> {
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
}

impl<C: AsyncRead + AsyncWrite + Send> Ends<C> {
    /// Ends both sides with a close frame, where none would stand inside another frame.
    async fn tell(&mut self, status: u16, reason: &str, (up, down): (&Way<'_>, &mut Way<'_>)) {
        if !up.place.is_inside() {
            let masked = encode_close(status, "", Some([0x5a, 0x13, 0xc7, 0x2e]));
            drop(self.to_origin.write_all(&masked).await);
        }
        drop(self.to_origin.shutdown().await);
        down.finish_frame(&mut self.from_origin, &mut self.to_client).await;
        if !down.place.is_inside() {
            let reason = super::refuse::clip(reason, 120);
            drop(self.to_client.write_all(&encode_close(status, reason, None)).await);
        }
        drop(self.to_client.shutdown().await);
        // What the client still sends would reset the connection, and it would lose the frame.
        let mut rest = [0; 1024];
        while self.from_client.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    }
}

/// What the end of a WebSocket means: its code, its outcome, and the close frame that both sides
/// are told it with.
fn meaning(
    stop: Result<Stop, End>,
    closed: bool,
) -> (Option<Code>, Outcome, Option<(u16, String)>) {
    let told = |status, reason: &str| Some((status, reason.to_owned()));
    match stop {
        Ok(Stop::End) => (None, Outcome::Passed, None),
        // After the closing handshake it is all one how the sockets end.
        Ok(Stop::Broken(_)) if closed => (None, Outcome::Passed, None),
        Ok(Stop::Broken(code)) => (Some(code), Outcome::Failed, None),
        Ok(Stop::Refused(code, detail)) => {
            (Some(code), Outcome::Refused, Some((POLICY_VIOLATION, detail)))
        }
        Ok(Stop::Over(code)) => {
            let why = "the sandbox's upload for today is used up";
            (Some(code), Outcome::Refused, told(POLICY_VIOLATION, why))
        }
        Ok(Stop::Malformed(error @ FrameError::TooLong)) => {
            let close = told(TOO_BIG, &error.to_string());
            (Some(Code::JudgedBodyTooLarge), Outcome::Refused, close)
        }
        Ok(Stop::Malformed(error)) => {
            (Some(Code::BadFrame), Outcome::Refused, told(PROTOCOL_ERROR, &error.to_string()))
        }
        Err(End::Revoked) => {
            let close = told(POLICY_VIOLATION, "the policy changed");
            (Some(Code::PolicyChanged), Outcome::Failed, close)
        }
        Err(end @ (End::Drain | End::Stop)) => {
            (Some(end.code()), Outcome::Failed, told(GOING_AWAY, "going away"))
        }
        Err(end @ (End::Deadline | End::TooLong)) => (Some(end.code()), Outcome::Failed, None),
    }
}

impl<'a> Way<'a> {
    fn new((live, idle): (&'a Live, Duration), count: &'a AtomicU64, blame: (Code, Code)) -> Self {
        let (buffer, place) = (BytesMut::new(), Place::default());
        Self { buffer, place, count, live, idle, up: false, blame }
    }

    /// Reads what is there. `Some` is the end of the direction.
    async fn read<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> Option<Stop> {
        let buffer = &mut self.buffer;
        let read = poll_fn(|cx| {
            // On the stack, so that an idle WebSocket holds no buffer.
            let mut space = [MaybeUninit::uninit(); 8192];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
            buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok::<_, io::Error>(read.filled().len()))
        });
        match read.await {
            Ok(0) => Some(Stop::End),
            Ok(_) => {
                self.live.extend(self.idle);
                None
            }
            // TLS that ends without its close_notify: frames delimit themselves.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(Stop::End),
            Err(_) => Some(Stop::Broken(self.blame.0)),
        }
    }

    /// Writes the first `end` bytes of the buffer. They leave it as they are written: the other
    /// direction may end this one at any time, and what is left must be known then.
    async fn write<W: AsyncWrite + Unpin>(&mut self, to: &mut W, end: usize) -> Result<(), Stop> {
        if self.up && end > 0 {
            self.live.take_upload(end as u64).map_err(Stop::Over)?;
        }
        let mut left = end;
        while left > 0 {
            let Ok(n @ 1..) = to.write(&self.buffer[..left]).await else {
                return Err(Stop::Broken(self.blame.1));
            };
            self.place.pass(&self.buffer[..n]);
            self.buffer.advance(n);
            self.count.fetch_add(n as u64, Ordering::Relaxed);
            self.live.extend(self.idle);
            left -= n;
        }
        to.flush().await.map_err(|_| Stop::Broken(self.blame.1))
    }

    /// Carries the frame under way to its end, so that another can follow it.
    async fn finish_frame<R, W>(&mut self, from: &mut R, to: &mut W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.place.is_inside() {
            if self.buffer.is_empty() && self.read(from).await.is_some() {
                return;
            }
            let rest = self.place.clone().step(&self.buffer);
            if self.write(to, rest).await.is_err() {
                return;
            }
        }
    }
}

/// A fresh key for a frame of ours (RFC 6455 §5.3).
fn mask() -> [u8; 4] {
    let [.., a, b, c, d] = crate::record::Id::new(std::time::SystemTime::now()).0.to_be_bytes();
    [a, b, c, d]
}

async fn copied<R, W>(from: &mut R, to: &mut W, way: &mut Way<'_>) -> Stop
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        if let Some(stop) = way.read(from).await {
            drop(to.shutdown().await);
            return stop;
        }
        if let Err(stop) = way.write(to, way.buffer.len()).await {
            return stop;
        }
        way.buffer = BytesMut::new();
    }
}

/// What an origin that got a credential says, without it.
async fn scrubbed<R, W>(from: &mut R, to: &mut W, known: Watchlist, way: &mut Way<'_>) -> Stop
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut frames = Scrubbed::new(known);
    loop {
        if let Some(stop) = way.read(from).await {
            drop(to.shutdown().await);
            return stop;
        }
        frames.push(&std::mem::take(&mut way.buffer));
        loop {
            let frame = match frames.next() {
                Err(error) => return Stop::Malformed(error),
                Ok(None) => break,
                Ok(Some(frame)) => frame,
            };
            way.buffer.extend_from_slice(&frame);
            if let Err(stop) = way.write(to, frame.len()).await {
                return stop;
            }
        }
    }
}

async fn judged<R, W>(from: &mut R, to: &mut W, judge: &Judge, way: &mut Way<'_>) -> Stop
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut decoder = Decoder::new(Side::Client, judge.limit);
    loop {
        if let Some(stop) = way.read(from).await {
            drop(to.shutdown().await);
            return stop;
        }
        decoder.push(&std::mem::take(&mut way.buffer));
        loop {
            let wire = match decoder.next() {
                Err(error) => return Stop::Malformed(error),
                Ok(None) => break,
                Ok(Some(Event::Text { text, wire })) => match judge.pass(&text, wire) {
                    Ok(wire) => wire,
                    Err((code, detail)) => return Stop::Refused(code, detail),
                },
                Ok(Some(Event::Binary { wire, .. })) if !judge.judges => wire,
                Ok(Some(Event::Binary { .. })) => {
                    let detail = "binary messages can't be judged, and the rules judge messages";
                    return Stop::Refused(Code::MessageNotAllowed, detail.to_owned());
                }
                Ok(Some(Event::Beat { wire } | Event::Close { wire, .. })) => wire,
            };
            way.buffer.extend_from_slice(&wire);
            if let Err(stop) = way.write(to, wire.len()).await {
                return stop;
            }
        }
    }
}
