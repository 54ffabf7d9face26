//! Dialling: the one place with `TcpStream::connect`. Only addresses of a [`Pinned`] target are
//! dialled, and the parent proxy's, which the operator names.
//!
//! Several addresses race (RFC 8305): families take turns, IPv6 first, a new attempt every 250 ms
//! or as soon as one has failed; the first connection wins and the others are dropped.

use super::Upstream;
use super::error::DialError;
use super::parent::{Answer, Hop, ReplyError};
use super::pinned::{Addresses, Pinned, Way};
use super::stream::stays_here;
use crate::addr::{Authority, Host};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// RFC 8305 §5: the connection attempt delay.
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses that one dial tries: a name with hundreds must not make a flood.
const ATTEMPTS: usize = 10;
/// The most addresses that a parent proxy is asked for, one after the other.
const PARENT_ATTEMPTS: usize = 3;

/// What the caller will send on the connection. It decides how a parent proxy is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Plain HTTP/1 requests that may be sent in absolute-form. A WebSocket handshake is `Raw`
    /// (RFC 6455 §4.1 wants a tunnel).
    Http,
    /// TLS: the client speaks first.
    Tls,
    /// Bytes of which either side may speak first.
    Raw,
}

/// How the connection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// To the target itself. Requests go in origin-form.
    Direct,
    /// Through a tunnel of the parent proxy, as if to the target itself. Requests in origin-form.
    ParentTunnel,
    /// To the parent proxy. Requests go in absolute-form with `Upstream::parent_authorization`;
    /// never with a credential.
    ParentForward,
}

/// Where a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The target's checked address, dialled or asked of the parent.
    Address(SocketAddr),
    /// Wherever the parent proxy resolves the name to.
    ByParent {
        /// The parent's own address.
        parent: SocketAddr,
    },
}

/// A connection, `TCP_NODELAY` set.
#[derive(Debug)]
pub struct Dialed {
    /// The stream; in a tunnel, right behind the parent's reply and `leftover`.
    pub stream: TcpStream,
    /// Where it ends: for the record, and for `Upstream::recheck`.
    pub reached: Reached,
    /// How it runs.
    pub route: Route,
    /// The target's first bytes, where they came with the parent's reply: to be read before
    /// `stream`. Empty but for [`Payload::Raw`] in a tunnel.
    pub leftover: Bytes,
}

impl Reached {
    /// The target's address, where it is known here.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Address(at) => Some(at),
            Self::ByParent { .. } => None,
        }
    }
}

impl Dialed {
    /// Whether the way leads through the parent proxy.
    pub fn via_parent(&self) -> bool {
        match self.route {
            Route::Direct => false,
            Route::ParentTunnel | Route::ParentForward => true,
        }
    }
}

impl Upstream {
    pub(super) async fn dial_within(
        &self,
        pinned: &Pinned,
        payload: Payload,
    ) -> Result<Dialed, DialError> {
        let target = pinned.authority();
        match pinned.way() {
            Way::Direct(addresses) => direct(target, addresses).await,
            Way::Parent(_) | Way::ParentResolves => {
                let parent = self
                    .parent
                    .as_ref()
                    .ok_or_else(|| DialError::ParentGone { target: target.clone() })?;
                Box::pin(self.through(parent, pinned, payload)).await
            }
        }
    }

    async fn through(
        &self,
        parent: &Hop,
        pinned: &Pinned,
        payload: Payload,
    ) -> Result<Dialed, DialError> {
        let target = pinned.authority();
        let addresses = match pinned.way() {
            Way::Direct(addresses) | Way::Parent(addresses) => addresses.as_slice(),
            Way::ParentResolves => &[],
        };
        if payload == Payload::Http && forwards(target, addresses) {
            let (stream, at) = self.to_parent(parent).await?;
            let reached = match addresses.first() {
                Some(ip) => Reached::Address(SocketAddr::new(*ip, target.port.get())),
                None => Reached::ByParent { parent: at },
            };
            let (route, leftover) = (Route::ParentForward, Bytes::new());
            return Ok(Dialed { stream, reached, route, leftover });
        }
        if addresses.is_empty() {
            return self.tunnel(parent, target, None, payload).await;
        }
        let mut result = Err(DialError::ParentGone { target: target.clone() });
        for ip in v4_first(addresses).take(PARENT_ATTEMPTS) {
            let at = SocketAddr::new(ip, target.port.get());
            result = self.tunnel(parent, target, Some(at), payload).await;
            if !matches!(result, Err(DialError::ParentRefused { status: 502..=504, .. })) {
                break;
            }
        }
        result
    }

    /// A tunnel to a checked address, or to the name where the parent resolves.
    async fn tunnel(
        &self,
        parent: &Hop,
        target: &Authority,
        checked: Option<SocketAddr>,
        payload: Payload,
    ) -> Result<Dialed, DialError> {
        let (mut stream, at) = self.to_parent(parent).await?;
        let asked = checked.map_or_else(|| target.to_string(), |at| at.to_string());
        let unusable =
            |reason| DialError::ParentReply { parent: parent.authority().clone(), reason };
        let leftover = match parent.tunnel(&mut stream, &asked).await.map_err(unusable)? {
            Answer::Tunnel(leftover) => leftover,
            Answer::Refused(status) => {
                let (parent, advice) = (parent.authority().clone(), parent.advice(status));
                return Err(DialError::ParentRefused { parent, asked, status, advice });
            }
        };
        if !leftover.is_empty() && payload != Payload::Raw {
            return Err(unusable(ReplyError::SpokeFirst));
        }
        let reached = checked.map_or(Reached::ByParent { parent: at }, Reached::Address);
        Ok(Dialed { stream, reached, route: Route::ParentTunnel, leftover })
    }

    /// A connection to the parent itself: the operator's address, so only the check for our own
    /// listeners applies.
    async fn to_parent(&self, parent: &Hop) -> Result<(TcpStream, SocketAddr), DialError> {
        let authority = parent.authority();
        let addresses = match &authority.host {
            Host::Ip(ip) => Addresses::One(*ip),
            Host::Name(name) => self.names.resolve(name).await.map_err(DialError::ParentLookup)?,
        };
        let port = authority.port.get();
        if addresses.as_slice().iter().any(|ip| self.own.covers(*ip, port)) {
            return Err(DialError::ParentOwn { parent: authority.clone() });
        }
        race(addresses.as_slice(), port).await.map_err(|lost| DialError::ParentConnect {
            parent: authority.clone(),
            address: lost.address,
            source: lost.source,
        })
    }
}

/// Whether a plain request may go to the parent in absolute-form: where the parent resolves the
/// name anyway, or the target is a literal, so that what it is asked for is what was checked.
fn forwards(target: &Authority, addresses: &[IpAddr]) -> bool {
    addresses.is_empty() || target.host.ip().is_some()
}

async fn direct(target: &Authority, addresses: &Addresses) -> Result<Dialed, DialError> {
    match race(addresses.as_slice(), target.port.get()).await {
        Ok((stream, at)) => Ok(Dialed {
            stream,
            reached: Reached::Address(at),
            route: Route::Direct,
            leftover: Bytes::new(),
        }),
        Err(Lost { tried, address, source }) => {
            Err(DialError::Connect { target: target.clone(), tried, address, source })
        }
    }
}

/// How a race ended without a winner.
#[derive(Debug)]
struct Lost {
    tried: usize,
    address: SocketAddr,
    source: io::Error,
}

async fn race(addresses: &[IpAddr], port: u16) -> Result<(TcpStream, SocketAddr), Lost> {
    if let [one] = addresses {
        let address = SocketAddr::new(*one, port);
        return connect(address).await.map_err(|(_, source)| Lost { tried: 1, address, source });
    }
    let mut waiting = take_turns(addresses).map(|ip| SocketAddr::new(ip, port)).take(ATTEMPTS);
    let mut running = FuturesUnordered::new();
    let mut lost = Lost {
        tried: 0,
        address: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port),
        source: io::Error::from(io::ErrorKind::AddrNotAvailable),
    };
    loop {
        let next = waiting.next();
        let more = next.is_some();
        if let Some(address) = next {
            lost.tried += 1;
            running.push(connect(address));
        }
        let pause = tokio::time::sleep(STAGGER);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                ended = running.next() => match ended {
                    Some(Ok(won)) => return Ok(won),
                    Some(Err((address, source))) => {
                        lost.address = address;
                        lost.source = source;
                        if more {
                            break;
                        }
                    }
                    None if more => break,
                    None => return Err(lost),
                },
                () = &mut pause, if more => break,
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
    dial(address).await.map(|stream| (stream, address)).map_err(|error| (address, error))
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    if address.ip().to_canonical().is_loopback() {
        stays_here(SockRef::from(&socket));
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that dials: what was checked")]
    socket.connect(address).await
}

/// RFC 8305 §4: the families by turns, IPv6 first, each in the order of the answer.
fn take_turns(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let mut v6 = addresses.iter().copied().filter(IpAddr::is_ipv6);
    let mut v4 = addresses.iter().copied().filter(IpAddr::is_ipv4);
    let mut turn_of_v6 = false;
    std::iter::from_fn(move || {
        turn_of_v6 = !turn_of_v6;
        if turn_of_v6 { v6.next().or_else(|| v4.next()) } else { v4.next().or_else(|| v6.next()) }
    })
}

/// A parent is asked for IPv4 first: it can't race, and more of them have that.
fn v4_first(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let v4 = addresses.iter().copied().filter(IpAddr::is_ipv4);
    v4.chain(addresses.iter().copied().filter(IpAddr::is_ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_with_ipv6_first() {
        let mixed = ips(&["1.0.0.1", "1.0.0.2", "1.0.0.3", "2::1", "2::2"]);
        let order: Vec<IpAddr> = take_turns(&mixed).collect();
        assert_eq!(order, ips(&["2::1", "1.0.0.1", "2::2", "1.0.0.2", "1.0.0.3"]));
        assert_eq!(v4_first(&mixed).next(), Some(mixed[0]));
    }

    #[tokio::test]
    async fn a_dead_address_costs_no_wait_when_another_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stream, at) =
            race(&ips(&["127.0.0.3", "127.0.0.2", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(at, listener.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).tcp_congestion().unwrap().starts_with(b"reno\0"));
    }

    #[tokio::test]
    async fn when_all_addresses_fail_the_last_error_and_the_count_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let lost = race(&ips(&["127.0.0.1", "127.0.0.2"]), port).await.unwrap_err();
        assert_eq!((lost.tried, lost.source.kind()), (2, io::ErrorKind::ConnectionRefused));
        let lost = race(&[], port).await.unwrap_err();
        assert_eq!(lost.tried, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_is_overtaken_after_the_stagger() {
        // A full backlog swallows SYNs: the first address neither answers nor refuses.
        let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let silent = tcp();
        silent.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let fill: Vec<Socket> = (0..4).map(|_| tcp()).collect();
        for socket in &fill {
            socket.set_nonblocking(true).unwrap();
            let _in_progress = socket.connect(&full.into());
        }
        let listener = TcpListener::bind(("127.0.0.1", full.port())).await.unwrap();
        let (_, at) = race(&ips(&["127.0.0.2", "127.0.0.1"]), full.port()).await.unwrap();
        assert_eq!(at, listener.local_addr().unwrap());
    }
}
