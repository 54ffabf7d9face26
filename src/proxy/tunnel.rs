//! Tunnels: CONNECT, SOCKS5 and transparent connections, and what is inside them.
//!
//! `data-path.md`, "When is a CONNECT answered?": a tunnel that is relayed is dialled before it is
//! answered; one that is inspected is answered first and dials nothing before it is judged.

use super::asking;
use super::body::DownBody;
use super::carry::{cut, unless_cut, unless_ended};
use super::gate::Connection;
use super::hello;
use super::io::{ClientIo, Prefixed, Raw};
use super::judge::take_name;
use super::live::{Answered, Asked, End, Subject};
use super::local;
use super::open::OpenRecord;
use super::refuse::{Form, Refusal};
use super::relay::{self, Ended};
use super::sandbox::{Reach, Unknown};
use super::serve;
use super::sniff::{Place, Spoken, resembles_http, sniff};
use super::target::{Inside, Via};
use crate::addr::Authority;
use crate::policy::{
    Ask, Code, Denial, Intent, OwnedAsk, OwnedIntent, Permit, Scheme, TunnelVerdict, Verdict,
};
use crate::record::Outcome;
use crate::tls::{AlpnSet, ClientFailure};
use crate::upstream::http::Version;
use crate::upstream::{Dialed, Payload};
use bytes::BytesMut;
use http::{Request, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsAcceptor;

/// Silence this long where a `tcp` endpoint covers the port means that the server speaks first.
const SERVER_FIRST: Duration = Duration::from_millis(300);

/// What is to be done with a tunnel after it was answered.
pub(crate) enum Next {
    /// Relay raw bytes to an origin that was dialled.
    Relay(Box<Relayed>),
    /// Find out what is inside and judge that.
    Inspect(Authority),
}

/// A raw tunnel, dialled.
pub(crate) struct Relayed {
    open: OpenRecord,
    dialed: Dialed,
    /// Its place among the connections to origins.
    reach: Reach,
    /// What the client's TLS must say, if it speaks TLS.
    demand: Option<hello::Demand>,
}

/// Opens a record for a tunnel to `target`.
fn opened(connection: &Connection, target: &Authority) -> Result<OpenRecord, Refusal> {
    let slot = connection.sandbox.recorder().reserve().map_err(|_| {
        connection.gate.unrecorded();
        Refusal::unjudged(Code::RecordFailure, "the traffic record can't be written").closing()
    })?;
    let name = connection.sandbox.name().clone();
    let mut open = OpenRecord::new(slot, name, connection.client.clone(), Scheme::Tcp);
    open.asks(target);
    Ok(open)
}

/// Judges a tunnel, and dials it where it is relayed. `Err` has its record.
pub(crate) async fn plan(
    connection: &Arc<Connection>,
    target: Authority,
) -> Result<Next, (Refusal, Option<OpenRecord>)> {
    if let Some(code) = connection.refuses {
        let refusal = Refusal::unjudged(code, "the sandbox has too many connections");
        return Err((refusal.closing(), opened(connection, &target).ok()));
    }
    if connection.gate.tasks.draining() {
        let refusal = Refusal::unjudged(Code::Draining, "the gateway is stopping");
        return Err((refusal.closing(), opened(connection, &target).ok()));
    }
    if local::is_reserved(&target.host) {
        return Ok(Next::Inspect(target));
    }
    let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
    let policy = &rules.policy;
    let started = Instant::now();
    let now = std::time::SystemTime::now();
    let ticket = connection.sandbox.queue().opaque_ticket(&connection.client, &target, now);
    let spent = ticket.as_deref().map(crate::policy::TicketUse::Spend);
    let verdict = rules.judge_tunnel(&connection.client, &target, now, spent);
    let took = started.elapsed();
    let refused = |refusal: Refusal| {
        let open = opened(connection, &target).ok().map(|mut open| {
            open.record().policy = crate::record::PolicyId(policy.id());
            open.record().ms.judge = took;
            open
        });
        Err((refusal, open))
    };
    let permit = match verdict {
        TunnelVerdict::Inspect => return Ok(Next::Inspect(target)),
        TunnelVerdict::Unknown(question) => {
            return match connection.sandbox.settings().unknown {
                Unknown::Inspect => Ok(Next::Inspect(target)),
                Unknown::Deny => refused(question.into()),
            };
        }
        TunnelVerdict::Deny(denial) => return refused(denial.into()),
        TunnelVerdict::Relay(permit) => permit,
    };
    let mut open = opened(connection, &target).map_err(|refusal| (refusal, None))?;
    open.permitted(permit.permit(), policy.id(), took);
    let demand = permit.checks_sni().then(|| hello::Demand {
        host: target.host.clone(),
        allows_ech: permit.allows_ech(),
        tls_alone: permit.must_be_tls(),
    });
    if let crate::policy::Source::Grant { by: crate::policy::GrantRef::Once(number), .. } =
        permit.permit().source()
    {
        open.record().request = Some(*number);
    }
    let answered = ticket.map(|ticket| Answered { shown: None, ticket: Some(ticket) });
    match dial(connection, permit.permit(), (Asked::Tunnel, answered), &mut open).await {
        Ok((dialed, reach)) => Ok(Next::Relay(Box::new(Relayed { open, dialed, reach, demand }))),
        Err(refusal) => {
            let judged = open.record().verdict;
            Err((refusal.allowed(judged, permit.permit().rule()), Some(open)))
        }
    }
}

/// Pins and dials a raw tunnel, on the wheel from here on.
async fn dial(
    connection: &Arc<Connection>,
    permit: &Permit,
    (asked, answered): (Asked, Option<Answered>),
    open: &mut OpenRecord,
) -> Result<(Dialed, Reach), Refusal> {
    take_name(connection, &connection.sandbox.rules(), permit)?;
    let (client, target) = (connection.client.clone(), permit.target().clone());
    let answered = answered.map(Box::new);
    let subject = Subject { client, scheme: Scheme::Tcp, target, asked, answered };
    let wheel = &connection.worker.wheel;
    let watch = wheel.judged(connection.sandbox.clone(), subject, permit.epoch());
    watch.due(connection.gate.settings.timeouts.connect);
    let live = watch.live().clone();
    open.set_watch(watch);
    let started = Instant::now();
    let upstream = &connection.gate.upstream;
    let dialing = async {
        let pinned = upstream.pin(permit).await?;
        let reach = connection.reach().await?;
        Ok::<_, Refusal>((upstream.dial(&pinned, Payload::Raw).await?, reach))
    };
    let (dialed, reach) = match unless_cut(&live, dialing).await {
        Ok(dialed) => dialed?,
        Err(end) => return Err(cut(end, Code::ConnectTimeout)),
    };
    open.connected(dialed.reached, started.elapsed());
    // A permit from before a reload is stale: it is judged again before a byte leaves.
    if let Some(end) = live.recheck() {
        return Err(cut(end, Code::PolicyChanged));
    }
    open.record().sent = true;
    Ok((dialed, reach))
}

/// Answers a CONNECT.
pub(crate) async fn connect<B>(
    connection: &Arc<Connection>,
    request: &Request<B>,
) -> (Response<DownBody>, Option<Next>) {
    let target = match authority(request) {
        Ok(target) => target,
        Err(refusal) => {
            serve::record(connection, &refusal, Some(refusal.status()));
            return (answer(&refusal, None, None), None);
        }
    };
    match plan(connection, target.clone()).await {
        Ok(next) => (Response::new(DownBody::empty()), Some(next)),
        Err((refusal, open)) => {
            let response = answer(&refusal, open.as_ref(), Some(&target));
            if let Some(mut open) = open {
                open.requested(request.version(), http::Method::CONNECT);
                open.refuse(&refusal, Some(response.status().as_u16()));
            }
            (response, None)
        }
    }
}

/// The one authority of a CONNECT (RFC 9112 §3.2.3): its `Host`, if there, must be the same.
fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let named = request.uri().authority().ok_or_else(|| {
        Refusal::unjudged(Code::BadTarget, "CONNECT needs host:port as its target")
    })?;
    let target = Authority::parse(named.as_str(), None)?;
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    if let Some(host) = hosts.next() {
        let text = host.to_str().map_err(|_| {
            Refusal::unjudged(Code::BadHost, "the Host field is not ASCII").closing()
        })?;
        let host = Authority::parse(text, Some(target.port))?;
        if hosts.next().is_some() {
            return Err(Refusal::unjudged(Code::SecondHost, "more than one Host field"));
        }
        // Some clients leave the port away.
        if host != target {
            let detail = format!("CONNECT names {target}, Host names {host}");
            return Err(Refusal::unjudged(Code::HostMismatch, detail).closing());
        }
    }
    Ok(target)
}

fn answer(
    refusal: &Refusal,
    open: Option<&OpenRecord>,
    target: Option<&Authority>,
) -> Response<DownBody> {
    match open {
        Some(open) => refusal.response(&open.asker(target), &Form::Problem),
        None => {
            let id = crate::record::Id::new(std::time::SystemTime::now());
            let asker = super::refuse::Asker { id, target, method: None, path: None, binary: None };
            refusal.response(&asker, &Form::Problem)
        }
    }
}

/// Does what is left to do with an answered tunnel.
pub(crate) async fn run(connection: Arc<Connection>, next: Next, io: Prefixed) {
    match next {
        Next::Relay(relayed) => {
            let idle = connection.gate.settings.timeouts.idle;
            drop(connection);
            // Boxed, as what is inspected lives long and needs little.
            Box::pin(relayed.run(io, idle)).await;
        }
        Next::Inspect(target) => {
            if let Some((inside, io, spoken)) = Box::pin(inspect(connection, &target, io)).await {
                Box::pin(speak(inside, target, io, spoken)).await;
            }
        }
    }
}

impl Relayed {
    /// Relays, after the client's first bytes have passed the SNI check where there is one.
    async fn run(self, mut io: Prefixed, idle: Duration) {
        let Self { mut open, dialed, reach: _reach, demand } = self;
        let Some(live) = open.watch().map(|w| w.live().clone()) else { return };
        live.extend(idle);
        let mut origin = Raw::Tcp(dialed.stream);
        let mut leftover = BytesMut::from(&dialed.leftover[..]);
        if let Some(demand) = &demand {
            let met = demand.met(&mut io, &mut origin, (&mut leftover, &live));
            match open.journalled(&live, unless_cut(&live, met)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    open.record().sent = false;
                    open.refuse(&refusal, None);
                    drop(origin);
                    return hello::alert(&mut io, &refusal).await;
                }
                Err(end) => return open.fail(cut(end, Code::IdleTimeout).code),
            }
        }
        let first = (std::mem::take(&mut io.prefix), leftover);
        let relayed = relay::relay(&mut io.raw, &mut origin, first, &live, idle);
        match open.journalled(&live, relayed).await {
            Ended::Closed => open.close(Outcome::Passed),
            Ended::Broken => open.fail(Code::UpstreamClosed),
            Ended::Over(code) => {
                let judged = open.record().verdict;
                let refusal = Refusal::unjudged(code, "the sandbox's upload for today is used up");
                open.refuse(&Refusal { judged, ..refusal }, None);
            }
            Ended::Cut(end) => {
                let code = match end {
                    End::Deadline => Code::IdleTimeout,
                    other => cut(other, Code::IdleTimeout).code,
                };
                open.fail(code);
            }
        }
    }
}

fn gone() -> Refusal {
    Refusal::unjudged(Code::ClientGone, "the client left")
}

/// Finds out what a tunnel carries. `None` where nothing is to be served, with its record.
async fn inspect(
    connection: Arc<Connection>,
    target: &Authority,
    mut io: Prefixed,
) -> Option<(Arc<Connection>, Prefixed, Spoken)> {
    let now = std::time::SystemTime::now();
    let tcp = connection.sandbox.rules().covers_tcp(&connection.client, target, now);
    let inside = connection.inside(Via::Inside(Box::new(Inside::new(target.clone(), Scheme::Tcp))));
    drop(connection);
    inside.head_due();
    let live = inside.watch.live().clone();
    let sniffed = async {
        if !tcp {
            return sniff(&mut io, Place::Inside).await;
        }
        match tokio::time::timeout(SERVER_FIRST, sniff(&mut io, Place::Inside)).await {
            Ok(spoken) => spoken,
            Err(_) if io.prefix.is_empty() => Ok(Spoken::Other),
            // A beginning of HTTP or TLS is no silence, however slowly the rest of it comes.
            Err(_) => sniff(&mut io, Place::Inside).await,
        }
    };
    match unless_ended(&live, sniffed).await {
        Ok(Ok(spoken)) => return Some((inside, io, spoken)),
        Ok(Err(_)) => serve::record(&inside, &gone(), None),
        Err(end) => {
            let code = if end == End::Deadline { Code::HeaderTimeout } else { Code::Draining };
            serve::record(&inside, &Refusal::unjudged(code, "nothing came"), None);
        }
    }
    None
}

/// Serves what is inside a tunnel, or a transparent connection whose name is known.
pub(crate) async fn speak(
    connection: Arc<Connection>,
    target: Authority,
    mut io: Prefixed,
    spoken: Spoken,
) {
    let via = |scheme| Via::Inside(Box::new(Inside::new(target.clone(), scheme)));
    match spoken {
        Spoken::Http1 => {
            let inside = connection.inside(via(Scheme::Http));
            drop(connection);
            Box::pin(serve::http1(inside, ClientIo::Plain(io))).await;
        }
        Spoken::Http2 => {
            let inside = connection.inside(via(Scheme::Http));
            drop(connection);
            Box::pin(serve::http2(inside, ClientIo::Plain(io))).await;
        }
        Spoken::Tls(hello) => {
            let inside = connection.inside(via(Scheme::Https));
            drop(connection);
            // Boxed by itself, so that what the handshake took is given back.
            let ended = Box::pin(intercept(&inside, &target, io, &hello)).await;
            drop(hello);
            match ended {
                Some((io, Version::Http2)) => Box::pin(serve::http2(inside, io)).await,
                Some((io, Version::Http1)) => drop(Box::pin(serve::http1(inside, io)).await),
                None => {}
            }
        }
        Spoken::BadTls(error) => {
            let refusal = Refusal::unjudged(Code::BadClientHello, error.to_string());
            serve::record(&connection, &refusal, None);
            hello::alert(&mut io, &refusal).await;
        }
        Spoken::Socks | Spoken::Other => Box::pin(bytes(connection, target, io)).await,
        Spoken::Nothing => serve::record(&connection, &gone(), None),
    }
}

/// Ends the client's TLS with a leaf for the target. `None` where it could not, with its record.
async fn intercept(
    connection: &Connection,
    target: &Authority,
    mut io: Prefixed,
    hello: &crate::tls::hello::ClientHello,
) -> Option<(ClientIo, Version)> {
    if let Err(refusal) = hello::names(hello, &target.host) {
        // No handshake, and so no 421: a certificate for either name would be the wrong one.
        serve::record(connection, &refusal, None);
        hello::alert(&mut io, &refusal).await;
        return None;
    }
    let known = match connection.gate.speaks(target) {
        Some(Version::Http1) => AlpnSet::Http1,
        Some(Version::Http2) | None => AlpnSet::Http2AndHttp1,
    };
    // What only the client speaks is translated.
    let offer = match hello.alpn.intersection(known) {
        AlpnSet::None => hello.alpn,
        common => common,
    };
    let config = match connection.gate.intercept.config(&target.host, offer) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, %target, "no certificate could be made");
            let refusal = Refusal::unjudged(Code::ClientTls, "no certificate could be made");
            serve::record(connection, &refusal, None);
            hello::alert(&mut io, &refusal).await;
            return None;
        }
    };
    connection.head_due();
    let live = connection.watch.live().clone();
    let tls = match unless_ended(&live, TlsAcceptor::from(config).accept(io)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let code = match crate::tls::client_failure(&error) {
                ClientFailure::DistrustsCa => Code::ClientDistrustsCa,
                ClientFailure::Other => Code::ClientTls,
            };
            let shown = error.to_string();
            let detail = crate::addr::Shown::new(&shown).to_string();
            let mut refusal = Refusal::unjudged(code, detail);
            if code == Code::ClientDistrustsCa
                && let Some(number) = asking::opaque(connection, target)
            {
                refusal.asked = Some(super::refuse::Asked {
                    number: Some(number),
                    came: super::refuse::Came::Required,
                });
            }
            serve::record(connection, &refusal, None);
            return None;
        }
        Err(_) => {
            let refusal = Refusal::unjudged(Code::ClientTls, "the handshake was not finished");
            serve::record(connection, &refusal, None);
            return None;
        }
    };
    let version = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    Some((ClientIo::Tls(Box::new(tls)), version))
}

/// Bytes that are neither TLS nor HTTP: they pass only where an endpoint allows them.
async fn bytes(connection: Arc<Connection>, target: Authority, io: Prefixed) {
    let mut open = match opened(&connection, &target) {
        Ok(open) => open,
        Err(_) => return,
    };
    if local::is_reserved(&target.host) {
        let detail = "the gateway itself answers for this host, over HTTP alone";
        return unrelayed(open, &target, io, Refusal::unjudged(Code::NotServed, detail)).await;
    }
    let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
    let intent = Intent {
        client: &connection.client,
        scheme: Scheme::Tcp,
        target: &target,
        ask: Ask::Bytes,
    };
    let started = Instant::now();
    let verdict = rules.judge(&intent, std::time::SystemTime::now(), None, None);
    let took = started.elapsed();
    open.record().policy = crate::record::PolicyId(rules.policy.id());
    open.record().ms.judge = took;
    let (permit, answered) = match verdict {
        Verdict::Allow(permit) | Verdict::Audit(permit) => (permit, None),
        Verdict::Deny(denial) => return unrelayed(open, &target, io, denial.into()).await,
        Verdict::Unknown(question) => {
            let intent = OwnedIntent {
                client: connection.client.clone(),
                scheme: Scheme::Tcp,
                target: target.clone(),
                ask: OwnedAsk::Bytes,
            };
            let subject = asking::Subject { intent, head: None };
            let raw = &io.raw;
            match asking::ask_raw(&connection, &mut open, (&subject, raw), question).await {
                Ok((permit, answered)) => (permit, Some(answered)),
                Err(refusal) => return unrelayed(open, &target, io, refusal).await,
            }
        }
    };
    open.permitted(&permit, rules.policy.id(), took);
    match dial(&connection, &permit, (Asked::Bytes, answered), &mut open).await {
        Ok((dialed, reach)) => {
            let idle = connection.gate.settings.timeouts.idle;
            drop(connection);
            Relayed { open, dialed, reach, demand: None }.run(io, idle).await;
        }
        Err(refusal) => {
            let judged = open.record().verdict;
            open.refuse(&refusal.allowed(judged, permit.rule()), None);
        }
    }
}

/// Ends a connection whose bytes may not pass. Where they look like a request, the refusal is said
/// as an answer to one; nothing is said into a protocol that is not known.
async fn unrelayed(open: OpenRecord, target: &Authority, mut io: Prefixed, mut refusal: Refusal) {
    if !resembles_http(&io.prefix) {
        return open.refuse(&refusal, None);
    }
    refusal.detail.push_str("; what came looks like a request, but its first line is not HTTP/1's");
    let bytes = refusal.raw(&open.asker(Some(target)));
    open.refuse(&refusal, Some(refusal.status()));
    serve::write_raw(&mut io, &bytes).await;
}

/// A denial's SOCKS reply code (RFC 1928 §6): 2 by rule, 4 and 5 from upstream.
pub(crate) fn socks_reply(refusal: &Refusal) -> u8 {
    if !super::carry::is_upstream(refusal.code) {
        return 2;
    }
    match refusal.code {
        Code::NameNotFound | Code::DnsFailed | Code::ConnectTimeout => 4,
        _ => 5,
    }
}

/// What a refused literal in a transparent connection is told.
pub(crate) fn unnamed() -> Refusal {
    Refusal::from(Denial {
        code: Code::HostUnknown,
        rule: None,
        detail: "the connection names no host, and no rule names its address".to_owned(),
        quiet: false,
        answer: None,
    })
}
