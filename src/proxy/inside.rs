//! What is inside a tunnel that is inspected: told by its first bytes, its TLS ended, and served.
//!
//! A connection that has come this far may idle for long: what a step needed is given back before
//! the next one is taken.

use super::asking;
use super::gate::Connection;
use super::hello;
use super::io::{ClientIo, Prefixed};
use super::live::End;
use super::local;
use super::open::OpenRecord;
use super::refuse::Refusal;
use super::serve;
use super::sniff::{Place, Spoken, resembles_http, sniff};
use super::subject::Asked;
use super::target::{Inside, Via};
use super::tunnel::{Relayed, dial, opened};
use super::unless::unless_ended;
use crate::addr::Authority;
use crate::policy::{Ask, Code, Intent, OwnedAsk, OwnedIntent, Rules, Scheme, Verdict};
use crate::tls::{AlpnSet, ClientFailure};
use crate::upstream::flights::Flights;
use crate::upstream::http::Version;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsAcceptor;

/// Silence this long where a `tcp` endpoint covers the port means that the server speaks first.
const SERVER_FIRST: Duration = Duration::from_millis(300);

fn gone() -> Refusal {
    Refusal::unjudged(Code::ClientGone, "the client left")
}

/// The record of a tunnel whose client left before anything of it was looked at.
pub(super) fn left(connection: &Connection, target: Authority) {
    let inside = connection.inside(Via::Inside(Box::new(Inside::new(target, Scheme::Tcp))));
    serve::record(&inside, &gone(), None);
}

/// Finds out what a tunnel carries. `None` where nothing is to be served, with its record.
pub(super) async fn inspect(
    connection: Arc<Connection>,
    target: &Authority,
    mut io: Prefixed,
) -> Option<(Arc<Connection>, Prefixed, Spoken)> {
    let now = std::time::SystemTime::now();
    let tcp = connection.sandbox.rules().covers_tcp(connection.client(), target, now);
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
        Ok(Err(_)) => drop(serve::record(&inside, &gone(), None)),
        Err(end) => {
            let code = if end == End::Deadline { Code::HeaderTimeout } else { Code::Draining };
            let detail = "what came is the beginning of no request, nor of a handshake";
            let detail = if io.prefix.is_empty() { "nothing came" } else { detail };
            unfinished(&inside, io, &Refusal::unjudged(code, detail)).await;
        }
    }
    None
}

/// Ends a tunnel of which too little came to know what it carries. Each is told in its own language
/// where that can be guessed: a handshake by an alert, a request by an answer.
async fn unfinished(inside: &Connection, mut io: Prefixed, refusal: &Refusal) {
    match io.prefix.first() {
        Some(_) if hello::is_tls(&io) => {
            serve::record(inside, refusal, None);
            hello::alert(&mut io, refusal).await;
        }
        Some(b'A'..=b'Z') => {
            let id = serve::record(inside, refusal, Some(refusal.status()));
            serve::answer_raw(&mut io, refusal, id).await;
        }
        _ => drop(serve::record(inside, refusal, None)),
    }
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
            Box::pin(super::http2::serve(inside, ClientIo::Plain(io))).await;
        }
        Spoken::Tls(hello) => {
            let inside = connection.inside(via(Scheme::Https));
            drop(connection);
            // Boxed by itself, so that what the handshake took is given back.
            let ended = Box::pin(intercept(&inside, &target, io, &hello)).await;
            drop(hello);
            match ended {
                Some((io, Version::Http2)) => Box::pin(super::http2::serve(inside, io)).await,
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
        Spoken::Nothing => drop(serve::record(&connection, &gone(), None)),
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
    let mut io = Flights::new(io);
    // Session tickets leave with HTTP/2's SETTINGS. Over HTTP/1 nothing follows before the client asks,
    // and some wait for them, or for the acknowledgement that comes along, to do so.
    if matches!(offer, AlpnSet::None | AlpnSet::Http1) {
        io.ended();
    }
    let accept = TlsAcceptor::from(config).accept(io).into_fallible();
    let mut tls = match unless_ended(&live, accept).await {
        Ok(Ok(tls)) => tls,
        Ok(Err((error, mut io))) => {
            io.release().await;
            serve::record(connection, &unshaken(connection, target, &error), None);
            return None;
        }
        Err(_) => {
            let refusal = Refusal::unjudged(Code::ClientTls, "the handshake was not finished");
            serve::record(connection, &refusal, None);
            return None;
        }
    };
    tls.get_mut().0.ended();
    let version = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => {
            tls.get_mut().0.release().await;
            Version::Http1
        }
    };
    Some((ClientIo::Tls(Box::new(tls)), version))
}

/// Why a handshake came to nothing. A client that distrusts the CA may be asked about: it could be relayed.
fn unshaken(connection: &Connection, target: &Authority, error: &std::io::Error) -> Refusal {
    let code = match crate::tls::client_failure(error) {
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
    refusal
}

/// Bytes that are neither TLS nor HTTP: they pass only where an endpoint allows them.
async fn bytes(connection: Arc<Connection>, target: Authority, io: Prefixed) {
    let Ok(mut open) = opened(&connection, &target) else { return };
    if let Err(refusal) = connection.sandbox.counted(open.started()) {
        return unrelayed(open, &target, io, refusal).await;
    }
    if local::is_reserved(&target.host) {
        let detail = "the gateway itself answers for this host, over HTTP alone";
        return unrelayed(open, &target, io, Refusal::unjudged(Code::NotServed, detail)).await;
    }
    let rules = arc_swap::Guard::into_inner(connection.sandbox.rules());
    connection.ascertain_in(&mut open, Some(&rules)).await;
    let now = std::time::SystemTime::now();
    if let Some(refusal) = unscrubbed(&connection, &target, &rules, now) {
        return unrelayed(open, &target, io, refusal).await;
    }
    let intent = Intent {
        client: connection.client(),
        scheme: Scheme::Tcp,
        target: &target,
        ask: Ask::Bytes,
    };
    let started = Instant::now();
    let verdict = rules.judge(&intent, now, None, None);
    let took = started.elapsed();
    open.record().policy = crate::record::PolicyId(rules.policy.id());
    open.record().ms.judge = took;
    let (permit, answered) = match verdict {
        Verdict::Allow(permit) | Verdict::Audit(permit) => (permit, None),
        Verdict::Deny(denial) => return unrelayed(open, &target, io, denial.into()).await,
        Verdict::Unknown(question) => {
            connection.ascertain_in(&mut open, None).await;
            let intent = OwnedIntent {
                client: connection.client().clone(),
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

/// Why bytes that nobody can read do not pass to a host whose answers are scrubbed.
fn unscrubbed(
    connection: &Connection,
    target: &Authority,
    rules: &Rules,
    now: std::time::SystemTime,
) -> Option<Refusal> {
    let scrubs = connection.sandbox.injector().is_some_and(|i| i.scrubs(&target.host));
    if !scrubs || rules.covers_tcp(connection.client(), target, now) {
        return None;
    }
    let detail = "the host gets a credential, and what is neither TLS nor HTTP can't be looked through \
                  for it; an endpoint with `protocol: tcp` lets it pass all the same";
    Some(Refusal::unjudged(Code::ProtocolNotAllowed, detail))
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
