//! Tunnels: CONNECT, SOCKS5 and transparent connections, judged, dialled and relayed. What is inside
//! one that is inspected is `inside`'s.
//!
//! `data-path.md`, "When is a CONNECT answered?": a tunnel that is relayed is dialled before it is
//! answered; one that is inspected is answered first and dials nothing before it is judged.

use super::body::DownBody;
use super::carry::cut;
use super::gate::Connection;
use super::headers;
use super::hello;
use super::inside::{self, inspect, speak};
use super::io::{Prefixed, Raw};
use super::judge::take_name;
use super::live::End;
use super::local;
use super::open::OpenRecord;
use super::refuse::{Asker, Form, Refusal};
use super::relay::{self, Ended};
use super::sandbox::{Reach, Unknown};
use super::serve;
use super::subject::{Answered, Asked, Subject};
use super::unless::unless_cut;
use crate::addr::Authority;
use crate::policy::{Code, Denial, Permit, Scheme, TunnelVerdict};
use crate::record::{Id, Outcome};
use crate::upstream::{Dialed, Payload};
use bytes::BytesMut;
use http::{Request, Response, header};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is to be done with a tunnel after it was answered.
pub(crate) enum Next {
    /// Relay raw bytes to an origin that was dialled.
    Relay(Box<Relayed>),
    /// Find out what is inside and judge that.
    Inspect(Authority),
}

/// A raw tunnel, dialled.
pub(crate) struct Relayed {
    pub(super) open: OpenRecord,
    pub(super) dialed: Dialed,
    /// Its place among the connections to origins.
    pub(super) reach: Reach,
    /// What the client's TLS must say, if it speaks TLS.
    pub(super) demand: Option<hello::Demand>,
}

/// Opens a record for a tunnel to `target`.
pub(super) fn opened(connection: &Connection, target: &Authority) -> Result<OpenRecord, Refusal> {
    let slot = connection.sandbox.recorder().reserve().map_err(|_| {
        connection.gate.unrecorded();
        Refusal::unjudged(Code::RecordFailure, "the traffic record can't be written").closing()
    })?;
    let name = connection.sandbox.name().clone();
    let mut open = OpenRecord::new(slot, name, connection.client().clone(), Scheme::Tcp);
    open.asks(target);
    Ok(open)
}

/// Why nothing is judged on a connection, if nothing is.
fn turned_away(connection: &Connection) -> Option<Refusal> {
    if let Some(code) = connection.refuses {
        return Some(Refusal::unjudged(code, "the sandbox has too many connections"));
    }
    let draining = connection.gate.tasks.draining();
    draining.then(|| Refusal::unjudged(Code::Draining, "the gateway is stopping"))
}

fn is_inspected(connection: &Connection, verdict: &TunnelVerdict) -> bool {
    match verdict {
        TunnelVerdict::Inspect => true,
        TunnelVerdict::Unknown(_) => connection.sandbox.settings().unknown == Unknown::Inspect,
        TunnelVerdict::Deny(_) | TunnelVerdict::Relay(_) => false,
    }
}

/// Judges a tunnel, and dials it where it is relayed. `Err` has its record.
pub(crate) async fn plan(
    connection: &Arc<Connection>,
    target: Authority,
) -> Result<Next, (Refusal, Option<OpenRecord>)> {
    if let Some(refusal) = turned_away(connection) {
        return Err((refusal.closing(), opened(connection, &target).ok()));
    }
    if local::is_reserved(&target.host) {
        return Ok(Next::Inspect(target));
    }
    let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
    connection.ascertain(&rules).await;
    let policy = &rules.policy;
    let started = Instant::now();
    let now = std::time::SystemTime::now();
    let ticket = connection.sandbox.queue().opaque_ticket(connection.client(), &target, now);
    let spent = ticket.as_deref().map(crate::policy::TicketUse::Spend);
    let verdict = rules.judge_tunnel(connection.client(), &target, now, spent);
    let took = started.elapsed();
    let refused = |refusal: Refusal| {
        let open = opened(connection, &target).ok().map(|mut open| {
            open.record().policy = crate::record::PolicyId(policy.id());
            open.record().ms.judge = took;
            open
        });
        Err((refusal, open))
    };
    if is_inspected(connection, &verdict) {
        // What comes inside is counted.
        return Ok(Next::Inspect(target));
    }
    // What an operator let through once is spent by now: it is counted, and goes.
    if let Err(refusal) = connection.sandbox.counted(started)
        && ticket.is_none()
    {
        return refused(refusal);
    }
    let permit = match verdict {
        TunnelVerdict::Relay(permit) => permit,
        TunnelVerdict::Deny(denial) => return refused(denial.into()),
        TunnelVerdict::Unknown(question) => return refused(question.into()),
        TunnelVerdict::Inspect => return Ok(Next::Inspect(target)),
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
pub(super) async fn dial(
    connection: &Arc<Connection>,
    permit: &Permit,
    (asked, answered): (Asked, Option<Answered>),
    open: &mut OpenRecord,
) -> Result<(Dialed, Reach), Refusal> {
    take_name(connection, &connection.sandbox.rules(), permit)?;
    let (client, target) = (connection.client().clone(), permit.target().clone());
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
    Ok((dialed, reach))
}

/// Answers a CONNECT.
pub(crate) async fn connect<B>(
    connection: &Arc<Connection>,
    request: &Request<B>,
) -> (Response<DownBody>, Option<Next>) {
    let ours = request.headers().get(headers::LOOP) == Some(&connection.gate.loop_token);
    let target = authority(request).and_then(|target| unlooped(target, ours));
    let target = match target.and_then(|target| bodiless(request).map(|()| target)) {
        Ok(target) => target,
        Err(refusal) => {
            let id = serve::record(connection, &refusal, Some(refusal.status()));
            let asker = Asker { id, target: None, method: None, path: None, binary: None };
            return (refusal.response(&asker, &Form::Problem), None);
        }
    };
    match plan(connection, target.clone()).await {
        Ok(next) => (Response::new(DownBody::empty()), Some(next)),
        Err((refusal, open)) => {
            let Some(mut open) = open else {
                let id = Id::new(std::time::SystemTime::now());
                let target = Some(&target);
                let asker = Asker { id, target, method: None, path: None, binary: None };
                return (refusal.response(&asker, &Form::Problem), None);
            };
            let response = refusal.response(&open.asker(Some(&target)), &Form::Problem);
            open.requested(request.version(), http::Method::CONNECT);
            open.refuse(&refusal, Some(response.status().as_u16()));
            (response, None)
        }
    }
}

/// What comes behind a CONNECT is the tunnel's (RFC 9110 §9.3.6): a length of it would be read in two ways.
fn bodiless<B>(request: &Request<B>) -> Result<(), Refusal> {
    let fields = request.headers();
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    if fields.contains_key(header::TRANSFER_ENCODING) || lengths.any(|length| length != "0") {
        return Err(Refusal::unjudged(Code::BadFraming, "a CONNECT has no body").closing());
    }
    Ok(())
}

/// A tunnel that this gateway asked a parent proxy for, and that has come back.
fn unlooped(target: Authority, ours: bool) -> Result<Authority, Refusal> {
    if ours {
        return Err(Refusal::unjudged(Code::Loop, "the tunnel came through this gateway before"));
    }
    Ok(target)
}

/// The one authority of a CONNECT (RFC 9112 §3.2.3): its `Host`, if there, must be the same.
fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let uri = request.uri();
    // RFC 9112 §3.2.3: the authority alone.
    let alone = uri.scheme().is_none() && uri.path_and_query().is_none();
    let named = uri.authority().filter(|_| alone).ok_or_else(|| {
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

/// The record of an answered tunnel whose client left before it could be served.
pub(crate) fn left(connection: &Connection, next: Next) {
    match next {
        // Ends with its record.
        Next::Relay(_) => {}
        Next::Inspect(target) => inside::left(connection, target),
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
    pub(super) async fn run(self, mut io: Prefixed, idle: Duration) {
        let Self { mut open, dialed, reach, demand } = self;
        let Some(watch) = open.watch() else { return };
        // The dial's deadline may be a later one, and is over.
        watch.due(idle);
        let live = watch.live().clone();
        let mut origin = Raw::Tcp(dialed.stream);
        let mut leftover = BytesMut::from(&dialed.leftover[..]);
        if let Some(demand) = &demand {
            let met = demand.met(&mut io, &mut origin, (&mut leftover, &live));
            match open.journalled(&live, unless_cut(&live, met)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    open.refuse(&refusal, None);
                    drop(origin);
                    return hello::alert(&mut io, &refusal).await;
                }
                Err(end) => return open.fail(cut(end, Code::IdleTimeout).code),
            }
        }
        let first = (std::mem::take(&mut io.prefix), leftover);
        let relayed = relay::relay(&mut io.raw, &mut origin, first, (&live, idle), &reach);
        let ended = open.journalled(&live, relayed).await;
        if !matches!(ended, Ended::Closed) {
            [&io.raw, &origin].into_iter().for_each(Raw::reset_at_close);
        }
        match ended {
            Ended::Closed => open.close(Outcome::Passed),
            Ended::Broken(code) => open.fail(code),
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
