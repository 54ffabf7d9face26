//! Listeners: who may connect, how many, and what becomes of a connection.
//!
//! A listener serves only whom it names: anyone else gets nothing, not even a refusal that tells
//! what would be allowed (security.md 7).

use super::away::{SAY_AGAIN, TurnedAway};
use super::bound::{Accepting, Bound};
use super::gate::{Connection, Gate, Held, Phase, Worker};
use super::hello;
use super::http2;
use super::io::{ClientIo, Prefixed, Raw};
use super::known::{self, Known};
use super::live::End;
use super::refuse::Refusal;
use super::sandbox::Sandbox;
use super::serve;
use super::sniff::{Place, Spoken, sniff};
use super::socks;
use super::target::{Last, Via};
use super::tunnel;
use super::unless::unless_ended;
use crate::addr::{Authority, Host, Port};
use crate::identity::Socket;
use crate::policy::Code;
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections over a sandbox's limit that are still told why; beyond them they are closed.
const TOLD: usize = 64;
/// How long to wait where a connection can't be taken: the next could not either.
const AGAIN: Duration = Duration::from_millis(20);

/// How a listener's connections name their targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// HTTP forward, CONNECT, SOCKS5.
    Proxy,
    /// Connections that were routed here: the name comes from SNI or Host.
    Transparent,
}

/// Whom a listener serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The uids of clients on this host, whatever address they come from.
    pub uids: Vec<u32>,
    /// The networks of other clients.
    pub from: Vec<IpNet>,
}

/// A bound listener, to be given to every worker.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: Bound,
    /// How targets are named.
    pub mode: Mode,
    /// Whom it serves.
    pub served: Served,
    /// Whose connections these are.
    pub sandbox: Arc<Sandbox>,
}

/// What is known of a client that is served.
enum Who {
    /// A local TCP client.
    Socket(Socket),
    /// A client of a Unix socket.
    Pid(Option<u32>),
    /// A client elsewhere.
    Remote,
}

impl Who {
    fn socket(&self) -> Option<Socket> {
        match self {
            Self::Socket(socket) => Some(*socket),
            Self::Pid(_) | Self::Remote => None,
        }
    }
}

/// One worker's end of a listener.
pub(crate) struct Door {
    pub(crate) socket: Accepting,
    pub(crate) mode: Mode,
    pub(crate) served: Arc<Served>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) slots: Arc<Semaphore>,
    away: TurnedAway,
}

impl Listener {
    /// A handle of the same socket for one worker.
    pub(crate) fn door(
        &self,
        gate: &Arc<Gate>,
        worker: &Arc<Worker>,
        slots: &Arc<Semaphore>,
    ) -> io::Result<Door> {
        Ok(Door {
            socket: self.socket.accepting()?,
            mode: self.mode,
            served: Arc::new(self.served.clone()),
            sandbox: self.sandbox.clone(),
            gate: gate.clone(),
            worker: worker.clone(),
            slots: slots.clone(),
            away: TurnedAway::default(),
        })
    }
}

impl Door {
    /// Accepts until the gate drains.
    pub(crate) async fn run(self) {
        let tasks = self.gate.tasks.clone();
        tokio::select! {
            () = tasks.drained() => {}
            () = self.accept() => {}
        }
    }

    async fn accept(self) {
        let door = Arc::new(self);
        let mut said: Option<Instant> = None;
        loop {
            let Some(slot) = door.slot().await else { return };
            match door.socket.accept().await {
                Ok((raw, from)) => {
                    let (door, tasks) = (door.clone(), door.gate.tasks.clone());
                    tasks.spawn(door.serve(raw, from, slot));
                }
                Err(error) => {
                    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                        said = Some(Instant::now());
                        tracing::warn!(%error, "a connection could not be accepted: they wait");
                    }
                    // Where files ran out, those that are kept for later are the ones to give.
                    door.worker.pool.clear();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// A slot comes before the connection: what can't be served waits in the backlog. A sandbox
    /// has at most as many as are free in all: alone it gets half, and a flood of one never takes
    /// the last from another (the dynamic threshold of Choudhury and Hahne, 1998).
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let slot = self.slots.clone().acquire_owned().await.ok()?;
            if self.sandbox.connections() <= self.slots.available_permits() {
                return Some(slot);
            }
            drop(slot);
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn serve(
        self: Arc<Self>,
        raw: Raw,
        from: Option<SocketAddr>,
        slot: OwnedSemaphorePermit,
    ) {
        let who = match self.admit(&raw, from) {
            Ok(who) => who,
            Err(why) => {
                self.gate.gauges.turned_away.fetch_add(1, Ordering::Relaxed);
                self.away.tell(from, why);
                return;
            }
        };
        // Its place is taken before anything is waited for: a flood is counted as it comes.
        let (place, over) = self.sandbox.enter();
        if over {
            let limit = self.sandbox.settings().limits.connections.unwrap_or(usize::MAX);
            if self.sandbox.connections() > limit.saturating_add(TOLD) {
                self.gate.gauges.turned_away.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let socket = who.socket();
        let known = self.identify(who).await;
        let original = match (&raw, self.mode) {
            (Raw::Tcp(socket), Mode::Transparent) => original(socket),
            _ => None,
        };
        let meant = original.map(meant);
        if matches!(meant, Some(None)) {
            return;
        }
        let meant = meant.flatten();
        let via = match &meant {
            Some(literal) => Via::Transparent(Box::new(literal.clone())),
            None => Via::Forward(Last::default()),
        };
        let held = Held::new(self.gate.clone(), socket, (place, slot));
        let connection = Arc::new(Connection {
            gate: self.gate.clone(),
            worker: self.worker.clone(),
            sandbox: self.sandbox.clone(),
            known,
            via,
            refuses: over.then_some(Code::TooManyConnections),
            watch: self.worker.wheel.connection(),
            phase: Phase::default(),
            held: held.clone(),
        });
        drop(self);
        match meant {
            Some(literal) => {
                Box::pin(transparent(connection, Prefixed::new(raw), literal)).await;
            }
            None => {
                let entered = Box::pin(entrance(connection, Prefixed::new(raw))).await;
                if let Some((connection, next, io)) = entered {
                    Box::pin(tunnel::run(connection, next, io)).await;
                }
            }
        }
        // A tunnel lets its connection go, not its place.
        drop(held);
    }

    /// The process behind a connection that was let in.
    async fn identify(&self, who: Who) -> Known {
        let peers = &self.gate.peers;
        let mut likely = false;
        let process = match who {
            Who::Remote => None,
            Who::Pid(pid) => pid.and_then(|pid| peers.process_of_pid(pid)),
            Who::Socket(socket) => {
                // Where the policy tells processes apart, a second-old answer will not do.
                let rules = self.sandbox.rules();
                let certain = known::matters(&rules);
                drop(rules);
                likely = !certain;
                let recent = if certain { None } else { peers.recent_process(socket) };
                match recent {
                    Some(process) => Some(process),
                    None => {
                        let peers = peers.clone();
                        // It may take milliseconds, which no other connection should wait for.
                        let tasks = &self.gate.tasks;
                        if certain {
                            tasks.blocking(move || peers.process(socket)).await.flatten()
                        } else if let Some(_turn) = peers.turn(socket).await {
                            tasks.blocking(move || peers.probable_process(socket)).await.flatten()
                        } else {
                            None
                        }
                    }
                }
            }
        };
        let client = known::client(process, self.sandbox.settings().identity);
        if likely { Known::likely(client) } else { Known::certain(client) }
    }

    /// What is known of the client, if it is served here.
    fn admit(&self, raw: &Raw, from: Option<SocketAddr>) -> Result<Who, &'static str> {
        match raw {
            Raw::Unix(socket) => {
                let peer = unix_peer(socket).ok_or("its credentials can't be read")?;
                self.uid(peer.uid)?;
                Ok(Who::Pid(peer.pid))
            }
            Raw::Tcp(socket) => {
                let from = from.ok_or("it has no address")?;
                let local = socket.local_addr().map_err(|_| "its socket is broken")?;
                let ip = from.ip().to_canonical();
                // A client on this host is known by its uid, whatever address it comes from. What
                // its socket says of the other end is where it was going before it was routed.
                let to = match self.mode {
                    Mode::Transparent => original(socket).unwrap_or(local),
                    Mode::Proxy => local,
                };
                if let Some(peer) = self.local(to, from)? {
                    self.uid(peer.uid)?;
                    self.socket.is_local(socket);
                    return Ok(Who::Socket(peer));
                }
                if ip.is_loopback() || is_here(ip) {
                    return Err("its socket is closed or not to be seen");
                }
                if self.served.from.iter().any(|net| net.contains(&ip)) {
                    return Ok(Who::Remote);
                }
                Err("its address is not in allow_from")
            }
        }
    }

    fn local(&self, to: SocketAddr, from: SocketAddr) -> Result<Option<Socket>, &'static str> {
        self.gate.peers.tcp_peer(to, from).map_err(|error| {
            tracing::debug!(%error, "the uid of a local client can't be looked up");
            "its uid can't be looked up (-v says why)"
        })
    }

    fn uid(&self, uid: u32) -> Result<(), &'static str> {
        if self.served.uids.contains(&uid) { Ok(()) } else { Err("its uid is not in allow_uids") }
    }
}

/// Whether `ip` is this host's own: a port can be bound there. Where the host lets any address be
/// bound (`ip_nonlocal_bind`; then one that is nobody's too, RFC 5737 and 3849) that says nothing.
/// A client that has closed its socket already must not pass for a remote one.
fn is_here(ip: IpAddr) -> bool {
    let nobodys: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let binds = |ip| UdpSocket::bind((ip, 0)).is_ok();
    binds(ip) && !binds(nobodys)
}

fn unix_peer(socket: &UnixStream) -> Option<crate::identity::UnixPeer> {
    crate::identity::unix_peer(socket).ok()
}

/// Tells what an explicit proxy client speaks, and serves it, up to the tunnel that it asked for.
async fn entrance(
    connection: Arc<Connection>,
    mut io: Prefixed,
) -> Option<(Arc<Connection>, tunnel::Next, Prefixed)> {
    connection.head_due();
    let live = connection.watch.live().clone();
    let sniffed = unless_ended(&live, sniff(&mut io, Place::Entrance)).await;
    match sniffed {
        Ok(Ok(Spoken::Http1)) => {
            let http = Box::pin(serve::http1(connection.clone(), ClientIo::Plain(io)));
            let (next, io) = http.await?;
            return Some((connection, next, io));
        }
        Ok(Ok(Spoken::Http2)) => Box::pin(http2::serve(connection, ClientIo::Plain(io))).await,
        Ok(Ok(Spoken::Socks)) => Box::pin(socks::serve(connection, io)).await,
        Ok(Err(_)) if !io.prefix.is_empty() => {
            // What it began ended with its connection.
            serve::record(&connection, &serve::gone(), None);
        }
        Ok(Ok(Spoken::Nothing) | Err(_)) => {}
        Ok(Ok(Spoken::Tls(_) | Spoken::BadTls(_) | Spoken::Other)) => {
            let detail = "this is an HTTP and SOCKS5 proxy: neither was spoken";
            refuse(&connection, &mut io, Refusal::unjudged(Code::MalformedHead, detail)).await;
        }
        Err(End::Deadline) if io.prefix.is_empty() => {}
        Err(End::Deadline) => {
            let detail = "the request head did not come in time";
            refuse(&connection, &mut io, Refusal::unjudged(Code::HeaderTimeout, detail)).await;
        }
        Err(_) => {}
    }
    None
}

async fn refuse(connection: &Connection, io: &mut Prefixed, refusal: Refusal) {
    let id = serve::record(connection, &refusal, Some(refusal.status()));
    serve::answer_raw(io, &refusal, id).await;
}

/// A connection that was routed here: the name comes from SNI or Host, the port from where it was
/// going, and the address it was going to counts only where there is no name.
async fn transparent(connection: Arc<Connection>, mut io: Prefixed, literal: Authority) {
    connection.head_due();
    let live = connection.watch.live().clone();
    let now = std::time::SystemTime::now();
    let tcp = connection.sandbox.rules().covers_tcp(connection.client(), &literal, now);
    if tcp {
        // Its rule names the address: the server may be the one to speak first.
        return run(connection, literal, io).await;
    }
    match unless_ended(&live, sniff(&mut io, Place::Inside)).await {
        Ok(Ok(Spoken::Http1)) => {
            Box::pin(serve::http1(connection, ClientIo::Plain(io))).await;
        }
        Ok(Ok(Spoken::Http2)) => Box::pin(http2::serve(connection, ClientIo::Plain(io))).await,
        Ok(Ok(Spoken::Tls(hello))) => {
            let target = match &hello.sni {
                Some(host) => Authority { host: host.clone(), port: literal.port },
                None => literal,
            };
            run(connection, target, io).await;
        }
        Ok(Err(_)) if !io.prefix.is_empty() => {
            serve::record(&connection, &serve::gone(), None);
        }
        Ok(Ok(Spoken::Nothing) | Err(_)) => {}
        Ok(Ok(Spoken::Socks | Spoken::Other)) => run(connection, literal, io).await,
        Ok(Ok(Spoken::BadTls(error))) => {
            let refusal = Refusal::unjudged(Code::BadClientHello, error.to_string());
            serve::record(&connection, &refusal, None);
            hello::alert(&mut io, &refusal).await;
        }
        Err(End::Deadline) if io.prefix.is_empty() => {
            serve::record(&connection, &tunnel::unnamed(), None);
        }
        Err(End::Deadline) => {
            let detail = "what came is the beginning of no request, nor of a handshake";
            let refusal = Refusal::unjudged(Code::HeaderTimeout, detail);
            serve::record(&connection, &refusal, None);
            hello::alert(&mut io, &refusal).await;
        }
        Err(_) => {}
    }
}

async fn run(connection: Arc<Connection>, target: Authority, mut io: Prefixed) {
    match tunnel::plan(&connection, target).await {
        Ok(next) => Box::pin(tunnel::run(connection, next, io)).await,
        Err((refusal, open)) => {
            if let Some(open) = open {
                open.refuse(&refusal, None);
            }
            hello::alert(&mut io, &refusal).await;
        }
    }
}

/// The address that a routed client meant, as it could have written it in a URL.
fn meant(to: SocketAddr) -> Option<Authority> {
    let port = Port::new(to.port())?;
    Some(Authority { host: Host::Ip(to.ip().to_canonical()), port })
}

/// Where a routed connection was going: `SO_ORIGINAL_DST` behind NAT, else its local address.
fn original(socket: &TcpStream) -> Option<SocketAddr> {
    let reference = socket2::SockRef::from(socket);
    let nat = match socket.local_addr().ok()?.ip() {
        IpAddr::V4(_) => reference.original_dst_v4(),
        IpAddr::V6(_) => reference.original_dst_v6(),
    };
    let nat = nat.ok().and_then(|address| address.as_socket());
    nat.or_else(|| socket.local_addr().ok())
}
