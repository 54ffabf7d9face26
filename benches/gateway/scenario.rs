//! The scenarios: what one operation is, and how many run at once.

use crate::clock::{Clock, Tally};
use crate::gateway::{NAMES, Usage, name};
use crate::load::{Failure, Lab, ORIGIN, TUNNEL, Target, Way, ask, finish, get, over_http1};
use crate::streams;
use http::Uri;
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Idle connections that are opened.
const IDLE: usize = 1000;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    Plain,
    #[value(name = "intercepted-h1")]
    InterceptedHttp1,
    #[value(name = "intercepted-h2")]
    InterceptedHttp2,
    Tunnel,
    NewFull,
    NewResumed,
    NewName,
    Bulk,
    Idle,
    Sse,
    Websocket,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// The gateway's, while it counted.
    pub(crate) cpu: Option<Duration>,
    pub(crate) rss_kib: Option<u64>,
    /// KiB a connection, for those that stand idle.
    pub(crate) each_kib: Option<f64>,
}

impl Scenario {
    pub(crate) fn all() -> &'static [Self] {
        use clap::ValueEnum;
        Self::value_variants()
    }

    pub(crate) fn name(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Plain => "plain HTTP, absolute-form, 64 kept connections",
            Self::InterceptedHttp1 => "HTTPS ended and judged, HTTP/1.1, 64 kept connections",
            Self::InterceptedHttp2 => "the same over HTTP/2, 8 connections of 32 streams",
            Self::Tunnel => "a new raw tunnel each, with one request in it, 16 at once",
            Self::NewFull => "a new intercepted connection each, full handshake, 16 at once",
            Self::NewResumed => "the same, the client resumes",
            Self::NewName => {
                "a first visit to a new name each, 8 at once; then names that are known"
            }
            Self::Bulk => "bytes through one raw tunnel; an operation is a GiB",
            Self::Idle => "memory of 1,000 idle intercepted connections",
            Self::Sse => "64 event streams; an operation is an event delivered",
            Self::Websocket => "64 WebSockets; an operation is a message delivered",
        }
    }

    /// Whether it says something without the gateway.
    pub(crate) fn has_direct(self) -> bool {
        self != Self::Idle
    }

    /// Operations that make the one that is shown.
    pub(crate) fn scale(self) -> f64 {
        if self == Self::Bulk { 1024.0 } else { 1.0 }
    }

    /// The rows through a gateway: for first visits a later pass shows what they cost more.
    pub(crate) async fn rows(
        self,
        lab: &Lab,
        target: &Target,
        span: Duration,
    ) -> Vec<(&'static str, Ran)> {
        let first = self.run(lab, target, span).await;
        if self != Self::NewName {
            return vec![("gateway", first)];
        }
        // Each worker has connections of its own to an origin: by now most have been there.
        for _ in 0..2 {
            visits(lab, target).await;
        }
        vec![("gateway", first), ("known name", visits(lab, target).await)]
    }

    /// Runs it for `span`.
    pub(crate) async fn run(self, lab: &Lab, target: &Target, span: Duration) -> Ran {
        match self {
            Self::NewName => return visits(lab, target).await,
            Self::Idle => return idle(lab, target).await,
            _ => {}
        }
        let (way, clock) = (lab.way(target), Clock::default());
        let workers = self.start(&way, &clock);
        let (before, after, elapsed) = clock.run(span, || usage(target)).await;
        Ran::between(before, after).did(gather(workers).await, elapsed)
    }

    /// Starts its workers; they run until the clock says so.
    pub(crate) fn start(self, way: &Way, clock: &Clock) -> JoinSet<Tally> {
        let mut workers = JoinSet::new();
        let count = match self {
            Self::Plain | Self::InterceptedHttp1 | Self::Sse | Self::Websocket => 64,
            Self::Tunnel | Self::NewFull | Self::NewResumed => 16,
            Self::InterceptedHttp2 => 8,
            Self::Bulk => 1,
            Self::NewName | Self::Idle => 0,
        };
        for _ in 0..count {
            let (way, clock) = (way.clone(), clock.clone());
            workers.spawn(async move {
                let mut tally = Tally::default();
                let ended = self.work(&way, &clock, &mut tally).await;
                if let Err(error) = ended {
                    tally.fail(&error);
                }
                tally
            });
        }
        workers
    }

    async fn work(self, way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
        match self {
            Self::Plain => {
                let host = format!("{ORIGIN}:{}", way.origin.plain.port());
                kept(way.plain().await?, &host, (clock, tally)).await
            }
            Self::InterceptedHttp1 => {
                let sender = over_http1(way.tls(ORIGIN, &way.http1).await?).await?;
                kept((sender, Uri::from_static("/a")), &way.authority(), (clock, tally)).await
            }
            Self::InterceptedHttp2 => http2(way, clock, tally).await,
            Self::Tunnel => tunnels(way, clock, tally).await,
            Self::NewFull => connections((way, &way.http1), clock, tally).await,
            Self::NewResumed => connections((way, &way.resuming), clock, tally).await,
            Self::Bulk => streams::bulk(way, clock, tally).await,
            Self::Sse => streams::events(way, clock, tally).await,
            Self::Websocket => streams::messages(way, clock, tally).await,
            Self::NewName | Self::Idle => Ok(()),
        }
    }
}

impl Ran {
    fn between(before: Option<Usage>, after: Option<Usage>) -> Self {
        let cpu = before.zip(after).map(|(b, a)| a.cpu.saturating_sub(b.cpu));
        Self { cpu, rss_kib: after.map(|usage| usage.rss_kib), ..Self::default() }
    }

    fn did(self, mut tally: Tally, elapsed: Duration) -> Self {
        let (p50, p99) = (tally.quantile(0.5), tally.quantile(0.99));
        Self { tally, elapsed, p50, p99, ..self }
    }
}

/// What the gateway used, where there is one.
pub(crate) fn usage(target: &Target) -> Option<Usage> {
    match target {
        Target::Direct => None,
        Target::Through(gateway) => Some(gateway.usage()),
    }
}

/// The workers' tallies together.
pub(crate) async fn gather(mut workers: JoinSet<Tally>) -> Tally {
    let mut all = Tally::default();
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(tally) => all.add(tally),
            Err(error) => all.fail(&error),
        }
    }
    all
}

type Kept = (hyper::client::conn::http1::SendRequest<crate::load::NoBody>, Uri);

async fn kept(
    (mut sender, uri): Kept,
    host: &str,
    (clock, tally): (&Clock, &mut Tally),
) -> Result<(), Failure> {
    while clock.runs() {
        let began = Instant::now();
        ask(&mut sender, &uri, host).await?;
        clock.note(tally, began.elapsed());
    }
    Ok(())
}

async fn http2(way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
    let sender = way.http2().await?;
    let uri: Uri = format!("https://{}/a", way.authority()).parse()?;
    let mut streams = JoinSet::new();
    for _ in 0..32 {
        let (mut sender, uri, clock) = (sender.clone(), uri.clone(), clock.clone());
        streams.spawn(async move {
            let mut tally = Tally::default();
            while clock.runs() {
                let began = Instant::now();
                let asked = async {
                    sender.ready().await?;
                    finish(sender.send_request(get(&uri, "")).await?).await
                };
                if let Err(error) = asked.await {
                    tally.fail(&error);
                    break;
                }
                clock.note(&mut tally, began.elapsed());
            }
            tally
        });
    }
    tally.add(gather(streams).await);
    Ok(())
}

async fn tunnels(way: &Way, clock: &Clock, tally: &mut Tally) -> Result<(), Failure> {
    let host = format!("{TUNNEL}:{}", way.origin.plain.port());
    while clock.runs() {
        let began = Instant::now();
        let mut sender = over_http1(way.raw(TUNNEL, way.origin.plain).await?).await?;
        ask(&mut sender, &Uri::from_static("/a"), &host).await?;
        clock.note(tally, began.elapsed());
    }
    Ok(())
}

async fn connections(
    (way, config): (&Way, &Arc<ClientConfig>),
    clock: &Clock,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let host = way.authority();
    while clock.runs() {
        let began = Instant::now();
        let mut sender = over_http1(way.tls(ORIGIN, config).await?).await?;
        ask(&mut sender, &Uri::from_static("/a"), &host).await?;
        clock.note(tally, began.elapsed());
    }
    Ok(())
}

/// One visit to each of the names, whatever time it takes.
async fn visits(lab: &Lab, target: &Target) -> Ran {
    let (way, next) = (lab.way(target), Arc::new(AtomicUsize::new(0)));
    let (before, began) = (usage(target), Instant::now());
    let clock = Clock::counting();
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (way, next, clock) = (way.clone(), next.clone(), clock.clone());
        workers.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= NAMES {
                    return tally;
                }
                let (host, began) = (name(number), Instant::now());
                match visit(&way, &host).await {
                    Ok(()) => clock.note(&mut tally, began.elapsed()),
                    Err(error) => tally.fail(&error),
                }
            }
        });
    }
    let tally = gather(workers).await;
    Ran::between(before, usage(target)).did(tally, began.elapsed())
}

async fn visit(way: &Way, host: &str) -> Result<(), Failure> {
    let mut sender = over_http1(way.tls(host, &way.http1).await?).await?;
    let authority = format!("{host}:{}", way.origin.tls.port());
    ask(&mut sender, &Uri::from_static("/a"), &authority).await
}

/// Connections that asked once and then stand still, one opened after the other.
async fn idle(lab: &Lab, target: &Target) -> Ran {
    let (way, host) = (lab.way(target), lab.way(target).authority());
    let (mut held, mut tally) = (Vec::with_capacity(IDLE), Tally::default());
    let mut before = usage(target);
    // The first hundred fill what is filled once: caches, tables, the allocator's own.
    for number in 0..IDLE + 100 {
        if number == 100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            before = usage(target);
        }
        let opened = async {
            let mut sender = over_http1(way.tls(ORIGIN, &way.http1).await?).await?;
            ask(&mut sender, &Uri::from_static("/a"), &host).await?;
            Ok::<_, Failure>(sender)
        };
        match opened.await {
            Ok(sender) => held.push(sender),
            Err(error) => tally.fail(&error),
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = usage(target);
    let grown = before.zip(after).map(|(b, a)| a.rss_kib.saturating_sub(b.rss_kib));
    #[expect(clippy::cast_precision_loss, reason = "a thousand connections")]
    let each_kib = grown.map(|kib| kib as f64 / IDLE as f64);
    drop(held);
    Ran { tally, each_kib, rss_kib: after.map(|usage| usage.rss_kib), ..Ran::default() }
}
