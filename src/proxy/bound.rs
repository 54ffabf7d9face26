//! Sockets that are listened on, and what is accepted there.

use super::io::Raw;
use crate::upstream::stream::stays_here;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A bound socket.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket, with its path.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// One worker's handle of it.
pub(crate) enum Accepting {
    /// With whether it is of the loopback: all that it accepts then stays on this host.
    Tcp(TcpListener, bool),
    Unix(UnixListener),
}

impl Bound {
    /// The address of a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Where it listens, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(socket) => {
                socket.local_addr().map_or_else(|e| e.to_string(), |at| at.to_string())
            }
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// A handle of the same socket, for the runtime that this is called in.
    pub(crate) fn accepting(&self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                let loopback = inherited(&socket)?;
                TcpListener::from_std(socket).map(|socket| Accepting::Tcp(socket, loopback))
            }
            Self::Unix(socket, _) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(Accepting::Unix)
            }
        }
    }
}

impl Accepting {
    /// A client that was accepted here is on this host: its connection is as one of the loopback's.
    pub(crate) fn is_local(&self, client: &TcpStream) {
        // One of the loopback's has it from its listener.
        if let Self::Tcp(_, false) = self {
            stays_here(socket2::SockRef::from(client));
        }
    }

    /// The next connection, and where it comes from.
    pub(crate) async fn accept(&self) -> io::Result<(Raw, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket, _) => {
                socket.accept().await.map(|(socket, from)| (Raw::Tcp(socket), Some(from)))
            }
            Self::Unix(socket) => {
                socket.accept().await.map(|(socket, _)| (Raw::Unix(socket), None))
            }
        }
    }
}

/// Sets what an accepted socket has from the one that it was accepted on. Whether that is of the loopback.
fn inherited(listener: &std::net::TcpListener) -> io::Result<bool> {
    let socket = socket2::SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    let loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    if loopback {
        stays_here(socket);
    }
    Ok(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[tokio::test]
    async fn what_is_accepted_has_its_options_from_the_listener() {
        for (address, here) in [("127.0.0.1:0", true), ("0.0.0.0:0", false)] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let usual = SockRef::from(&listener).tcp_congestion().unwrap();
            let port = listener.local_addr().unwrap().port();
            let accepting = Bound::Tcp(listener).accepting().unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test dials itself")]
            let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (Raw::Tcp(socket), Some(_)) = accepting.accept().await.unwrap() else { panic!() };
            assert!(socket.nodelay().unwrap());
            let congestion = SockRef::from(&socket).tcp_congestion().unwrap();
            assert_eq!(congestion.starts_with(b"reno\0"), here || usual.starts_with(b"reno\0"));
            // Over the loopback too, where the listener is of every address.
            accepting.is_local(&socket);
            let congestion = SockRef::from(&socket).tcp_congestion().unwrap();
            assert!(congestion.starts_with(b"reno\0"), "{address}");
        }
    }
}
