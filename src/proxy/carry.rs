//! From a permit to an origin's response head: pin, connect or reuse, send.

use super::body::{self, Lease, Pace, UpBody};
use super::gate::Connection;
use super::inject::Plan;
use super::live::{End, Live};
use super::open::OpenRecord;
use super::refuse::Refusal;
use super::sandbox::{self, Reach};
use super::unless::unless_cut;
use crate::addr::{Authority, Host};
use crate::policy::{Code, ErrorKind, Permit, Scheme};
use crate::upstream::http::{
    self as upstream, Held, HttpError, Received, Sender, UpstreamIo, Version, Windows, handshake,
    tls,
};
use crate::upstream::http2::OnInterim;
use crate::upstream::pool::{self, Join, Key, Opened, Profile};
use crate::upstream::{DialError, Payload, PinError, Pinned, Route};
use futures_util::FutureExt;
use http::{Request, Response};
use rustls::pki_types::ServerName;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a pooled connection may take to become ready after its last response ended.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// How long it may take until a connection that idled has closed, and how often to look.
const ROOM_WITHIN: Duration = Duration::from_millis(20);
const ROOM_ATTEMPTS: usize = 6;

/// How much longer than any request an origin may take nothing.
const STALLED: Duration = Duration::from_secs(5);

/// How many dials of others a request waits for before it dials itself.
const WAITS: usize = 2;

/// How long a body waits for the origin's `100 Continue` (RFC 9110 §10.1.1).
pub(crate) const CONTINUE_WITHIN: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A request; a kept connection will do.
    Any,
    /// A request that must not meet a stale connection again.
    Fresh,
    /// A WebSocket, which keeps the connection.
    Upgrade,
}

/// The versions of HTTP that a request may go up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// HTTP/1.1 alone.
    Http1,
    /// Over TLS: whichever there is a connection for, and on a new one HTTP/2 where the origin speaks it.
    Either,
    /// HTTP/2, where the origin speaks it.
    Http2,
}

/// A connection to send on, with what is needed to keep it.
pub(crate) struct Carrier {
    pub(crate) lease: Lease,
    pub(crate) absolute: bool,
}

impl Carrier {
    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.lease.connection.sender, Sender::Http2(_))
    }

    /// Whether a request that is gRPC, or not, may go over it.
    pub(crate) fn takes(&self, grpc: bool) -> Result<(), Refusal> {
        if grpc && !self.is_http2() {
            let detail = "gRPC needs an origin that speaks HTTP/2";
            return Err(Refusal::unjudged(Code::GrpcNeedsH2, detail));
        }
        Ok(())
    }

    /// Whether the values of `plan` may go over it.
    pub(crate) fn fits(&self, plan: &Plan) -> Result<(), Refusal> {
        // Of TLS there are two profiles, and both verify.
        let verified = matches!(self.lease.key.profile, Profile::Tls | Profile::TlsHttp2);
        let connection = &self.lease.connection;
        plan.fits(verified, (connection.reached, connection.route))
    }
}

impl From<PinError> for Refusal {
    #[cold]
    fn from(error: PinError) -> Self {
        Self::unjudged(error.code(), error.to_string())
    }
}

impl From<DialError> for Refusal {
    #[cold]
    fn from(error: DialError) -> Self {
        Self::unjudged(error.code(), error.to_string())
    }
}

/// The refusal for something cut while it waited for the origin.
#[cold]
pub(crate) fn cut(end: End, late: Code) -> Refusal {
    match end {
        End::Deadline => {
            let what = match late {
                Code::ConnectTimeout => "the origin did not take the connection in time",
                Code::BodyTimeout => "the client's body did not come in time",
                _ => "the origin did not answer in time",
            };
            Refusal::unjudged(late, what)
        }
        End::Revoked => {
            Refusal::unjudged(Code::PolicyChanged, "the policy changed and no longer allows it")
        }
        End::Drain | End::Stop => Refusal::unjudged(Code::Draining, "the gateway is stopping"),
        End::TooLong => {
            Refusal::unjudged(Code::TotalTimeout, "the whole request took longer than is allowed")
        }
    }
}

/// A permit from before a reload is stale: before a byte leaves it is judged again, and so is the
/// address that was reached.
fn still_allowed(open: &OpenRecord) -> Result<(), Refusal> {
    match open.watch().and_then(|watch| watch.live().recheck()) {
        Some(end) => Err(cut(end, Code::ConnectTimeout)),
        None => Ok(()),
    }
}

fn profile(scheme: Scheme, versions: Versions) -> Profile {
    match (scheme, versions) {
        (Scheme::Https, Versions::Http1) => Profile::Tls,
        (Scheme::Https, Versions::Either | Versions::Http2) => Profile::TlsHttp2,
        (_, Versions::Http2) => Profile::PlainHttp2,
        (_, Versions::Http1 | Versions::Either) => Profile::Plain,
    }
}

impl Connection {
    /// A connection for `permit`: pooled if one is ready and its address still passes the guard,
    /// else pinned and dialled.
    pub(crate) async fn carrier(
        &self,
        permit: &Permit,
        open: &mut OpenRecord,
        (scheme, versions): (Scheme, Versions),
        use_of: Use,
    ) -> Result<Carrier, Refusal> {
        let mut key = Key {
            sandbox: self.sandbox.name().clone(),
            origin: permit.target().clone(),
            profile: profile(scheme, versions),
        };
        if use_of == Use::Any
            && let Some(connection) = self.kept(permit, &mut key, versions).await
        {
            open.connected(connection.reached, Duration::ZERO);
            still_allowed(open)?;
            return Ok(self.lease(key, connection));
        }
        let started = Instant::now();
        let live = open.watch().map(|w| {
            w.due(self.gate.settings.timeouts.connect);
            w.live().clone()
        });
        let connect = Box::pin(self.joined(permit, &mut key, (versions, use_of)));
        let connection = match live {
            Some(live) => {
                unless_cut(&live, connect).await.map_err(|end| cut(end, Code::ConnectTimeout))?
            }
            None => connect.await,
        }?;
        let took = if connection.reused { Duration::ZERO } else { started.elapsed() };
        open.connected(connection.reached, took);
        still_allowed(open)?;
        if versions == Versions::Either && matches!(connection.sender, Sender::Http1(_)) {
            // Kept for whatever goes up in HTTP/1.1.
            key.profile = Profile::Tls;
        }
        Ok(self.lease(key, connection))
    }

    /// A connection where none was there. Of requests that may share one, one dials, and the others
    /// wait for what comes of that.
    async fn joined(
        &self,
        permit: &Permit,
        key: &mut Key,
        (versions, use_of): (Versions, Use),
    ) -> Result<pool::Connection<UpBody>, Refusal> {
        let mut waited = 0;
        let dialling = loop {
            if use_of != Use::Any || waited == WAITS || !self.may_share(key) {
                break None;
            }
            match self.worker.pool.join(key) {
                Join::Dial(dialling) => break Some(dialling),
                // Whichever it was.
                Join::Wait(over) => drop(timeout(pool::WAIT, over.cancelled()).await),
            }
            if let Some(connection) = self.kept(permit, key, versions).await {
                return Ok(connection);
            }
            waited += 1;
        };
        let connection = self.connect(permit, key, use_of).await?;
        if let (Some(dialling), Sender::Http2(sender)) = (dialling, &connection.sender) {
            // Who waits is let on when the origin has said how many it takes.
            let settled = sender.channel().settled().clone();
            self.gate.tasks.spawn(async move {
                drop(timeout(pool::WAIT, settled.cancelled()).await);
                drop(dialling);
            });
        }
        Ok(connection)
    }

    /// Whether a connection that is dialled for `key` is one for many requests, as far as is known.
    fn may_share(&self, key: &Key) -> bool {
        let http2 = matches!(key.profile, Profile::TlsHttp2 | Profile::PlainHttp2);
        http2 && self.gate.speaks(&key.origin) != Some(Version::Http1)
    }

    /// A connection that is there; `key` then says what it is kept under.
    async fn kept(
        &self,
        permit: &Permit,
        key: &mut Key,
        versions: Versions,
    ) -> Option<pool::Connection<UpBody>> {
        let kept = self.pooled(permit, key).await;
        if kept.is_some() || versions != Versions::Either {
            return kept;
        }
        key.profile = Profile::Tls;
        let kept = self.pooled(permit, key).await;
        if kept.is_none() {
            key.profile = Profile::TlsHttp2;
        }
        kept
    }

    fn lease(&self, key: Key, connection: pool::Connection<UpBody>) -> Carrier {
        let absolute = connection.route == Route::ParentForward;
        Carrier { lease: Lease { pool: self.worker.pool.clone(), key, connection }, absolute }
    }

    async fn pooled(&self, permit: &Permit, key: &Key) -> Option<pool::Connection<UpBody>> {
        let fits = |reached| self.gate.upstream.recheck(permit, reached).is_ok();
        while let Some(mut connection) = self.worker.pool.take(key, fits) {
            let ready = match &mut connection.sender {
                Sender::Http1(sender) if sender.is_ready() => true,
                Sender::Http1(sender) => {
                    timeout(READY_WITHIN, sender.ready()).await.is_ok_and(|r| r.is_ok())
                }
                Sender::Http2(sender) => sender.ready().await.is_ok(),
            };
            if ready {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(
        &self,
        permit: &Permit,
        key: &Key,
        use_of: Use,
    ) -> Result<pool::Connection<UpBody>, Refusal> {
        let pinned = self.gate.upstream.pin(permit).await?;
        let payload = match key.profile {
            Profile::Tls | Profile::TlsHttp2 => Payload::Tls,
            // A WebSocket wants a tunnel through a parent (RFC 6455 §4.1), h2 knows no forwarding.
            Profile::Plain if use_of != Use::Upgrade => Payload::Http,
            Profile::Plain | Profile::PlainHttp2 => Payload::Raw,
        };
        let both = key.profile == Profile::TlsHttp2;
        let connected = self.open((&pinned, payload), key, both).await;
        let (sender, at) = match connected {
            // The origin speaks h2 alone: what an h1 client offered is not enough.
            Err(refusal) if key.profile == Profile::Tls && refusal.code == Code::TlsFailed => {
                self.open((&pinned, payload), key, true).await?
            }
            other => other?,
        };
        Ok(match sender {
            Sender::Http1(sender) => pool::Connection::http1(sender, at),
            Sender::Http2(sender) => self.worker.pool.share(key.clone(), sender, at),
        })
    }

    /// A place for one more connection to an origin. Where there is none, what idles for the
    /// sandbox on any worker makes room.
    pub(crate) async fn reach(&self) -> Result<Reach, Refusal> {
        for _ in 0..ROOM_ATTEMPTS {
            if let Some(reach) = self.sandbox.reach(&self.gate.places) {
                return Ok(reach);
            }
            for pool in self.gate.pools.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                pool.yield_idle(self.sandbox.name());
            }
            tokio::time::sleep(ROOM_WITHIN).await;
        }
        let detail = "the sandbox has too many connections to origins";
        Err(Refusal::unjudged(Code::TooManyConnections, detail))
    }

    async fn open(
        &self,
        (pinned, payload): (&Pinned, Payload),
        key: &Key,
        both: bool,
    ) -> Result<(Sender<UpBody>, Opened), Refusal> {
        // Asked before the trust of the moment is.
        let generation = self.worker.pool.generation();
        let reach = self.reach().await?;
        let dialed = self.gate.upstream.dial(pinned, payload).await?;
        let at = Opened { reached: dialed.reached, route: dialed.route, generation };
        let io = match key.profile {
            Profile::Tls | Profile::TlsHttp2 => {
                self.verified(&key.origin, (dialed.stream, reach), both).await?
            }
            Profile::Plain | Profile::PlainHttp2 => {
                UpstreamIo::plain(dialed.stream, self.held(reach))
            }
        };
        let version = match key.profile {
            Profile::PlainHttp2 => Version::Http2,
            _ => io.version(),
        };
        if both {
            self.gate.learn(&key.origin, version);
        }
        // Held as long as the connection is.
        let wide =
            (version == Version::Http2).then(|| self.sandbox.wide(sandbox::End::Origin)).flatten();
        let windows = if wide.is_some() { Windows::WIDE } else { Windows::NARROW };
        let tasks = self.gate.tasks.clone();
        let spawn = move |rest| tasks.spawn(rest);
        let (sender, carried) = handshake(io, (version, windows), spawn)
            .await
            .map_err(|e| Refusal::unjudged(Code::UpstreamProtocol, sentence(&e)))?;
        self.gate.tasks.spawn(async move {
            if let Err(error) = carried.await {
                tracing::debug!(%error, "connection to an origin ended");
            }
            drop(wide);
        });
        Ok((sender, at))
    }

    /// What a connection holds, and how long its origin may take nothing: longer than any request may
    /// wait for it, so that a request ends by its own deadline.
    fn held(&self, reach: Reach) -> (Duration, Held) {
        let timeouts = &self.gate.settings.timeouts;
        (timeouts.idle.max(timeouts.first_byte) + STALLED, Box::new(reach))
    }

    async fn verified(
        &self,
        origin: &Authority,
        (stream, reach): (tokio::net::TcpStream, Reach),
        both: bool,
    ) -> Result<UpstreamIo, Refusal> {
        let name = match &origin.host {
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(|_| {
                Refusal::unjudged(Code::TlsWrongHost, "no certificate can be for this name")
            })?,
        };
        let offer = if both { crate::tls::Offer::Http2AndHttp1 } else { crate::tls::Offer::Http1 };
        let config = self.gate.origins.load().config(offer);
        tls(stream, config, name, self.held(reach)).await.map_err(|error| {
            Refusal::unjudged(crate::tls::classify(&error), crate::tls::explain(&error))
        })
    }
}

/// Sends `request` and waits for the head of its response, under the deadlines of `live`.
pub(crate) fn send<'a>(
    carrier: &'a mut Carrier,
    request: Request<UpBody>,
    live: &'a Live,
    (pace, interim): (Option<&'a Pace>, Option<&'a OnInterim>),
) -> impl Future<Output = Result<Response<Received>, Unsent>> + 'a {
    // What an `async fn` is given it keeps to its end.
    let response = carrier.lease.connection.sender.send(request, interim);
    unless_cut(live, response).map(move |outcome| match outcome {
        Err(end) if pace.is_some_and(Pace::starved) => {
            Err(Unsent::Refused(cut(end, Code::BodyTimeout).closing()))
        }
        Err(end) => Err(Unsent::Refused(cut(end, Code::FirstByteTimeout))),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failed)) => Err(unsent(failed, pace)),
    })
}

/// What a request that failed has failed by: the gateway, the client's body, or the origin.
#[cold]
fn unsent(failed: upstream::Unsent<UpBody>, pace: Option<&Pace>) -> Unsent {
    let stopped = match pace.and_then(Pace::stopped) {
        Some(code @ Code::UploadLimit) => Some((code, "the sandbox's upload for today is used up")),
        Some(code @ Code::BodyTooLarge) => Some((code, "the body is over the sandbox's limit")),
        _ => None,
    };
    if let Some((code, detail)) = stopped {
        return Unsent::Refused(Refusal::unjudged(code, detail).closing());
    }
    if failed.error.is_body() {
        return Unsent::Refused(body::broken(&failed.error));
    }
    let unprocessed = failed.error.is_unprocessed();
    let detail = match unprocessed {
        true => "the origin did not take the request: its connection takes no more".into(),
        false => sentence(&failed.error),
    };
    Unsent::Failed(Box::new(Failed {
        refusal: Refusal::unjudged(code_of(&failed.error), detail),
        http1: failed.error.wants_http1(),
        unsent: failed.request,
        unprocessed,
    }))
}

/// Why there is no response.
pub(crate) enum Unsent {
    /// Ended by the gateway.
    Refused(Refusal),
    /// The connection failed.
    Failed(Box<Failed>),
}

/// What is known of a request that failed.
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// The request itself where not a byte of it was written.
    pub(crate) unsent: Option<Box<Request<UpBody>>>,
    /// The origin did nothing with it.
    pub(crate) unprocessed: bool,
    /// The origin takes it over HTTP/1.1 alone.
    pub(crate) http1: bool,
}

impl Failed {
    /// Where to try next, if at all: `before` are the ways that were taken when it was tried again.
    /// What an origin did not take goes the usual way, for all the others of its connection go the
    /// same; everything else goes on a connection of its own, once.
    pub(crate) fn way(&self, before: &[Use]) -> Option<Use> {
        match before {
            [] | [Use::Any] if self.unprocessed => Some(Use::Any),
            [] | [Use::Any] => Some(Use::Fresh),
            _ => None,
        }
    }
}

fn code_of(error: &HttpError) -> Code {
    if error.is_protocol() { Code::UpstreamProtocol } else { Code::UpstreamClosed }
}

/// What an origin did, as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    format!("the origin failed: {}", chain(error))
}

/// An error and what is behind it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    crate::addr::Shown::new(super::refuse::clip(&text, 512)).to_string()
}

/// Whether a refusal of this code is about the origin rather than the client.
pub(crate) fn is_upstream(code: Code) -> bool {
    matches!(
        code.error(),
        Some(
            ErrorKind::UpstreamTls
                | ErrorKind::UpstreamUnreachable
                | ErrorKind::UpstreamTimeout
                | ErrorKind::UpstreamProtocol
        )
    )
}
