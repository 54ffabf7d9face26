//! The gateway's own listeners: what must never be dialled, whatever policy or operator open.

use arc_swap::ArcSwap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// The addresses that the gateway listens on (proxy, metrics). Grows, never shrinks: a listener
/// that has closed is still nothing for a sandbox to dial.
#[derive(Debug)]
pub(super) struct Own(ArcSwap<Vec<SocketAddr>>);

impl Own {
    pub(super) fn new(listeners: Vec<SocketAddr>) -> Self {
        let listeners = listeners.into_iter().map(canonical).collect();
        Self(ArcSwap::new(Arc::new(listeners)))
    }

    pub(super) fn add(&self, listener: SocketAddr) {
        let listener = canonical(listener);
        self.0.rcu(|known| {
            let mut all = Vec::clone(known);
            if !all.contains(&listener) {
                all.push(listener);
            }
            all
        });
    }

    /// Whether a connection to `address` (canonical) and `port` would reach a listener of ours.
    /// Connecting to an unspecified address reaches loopback, so it counts for every listener.
    pub(super) fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.0.load().iter().any(|own| {
            own.port() == port
                && (own.ip() == address
                    || address.is_unspecified()
                    || (wildcard_hears(own.ip(), address) && is_local(address)))
        })
    }
}

fn canonical(listener: SocketAddr) -> SocketAddr {
    SocketAddr::new(listener.ip().to_canonical(), listener.port())
}

/// `0.0.0.0` hears IPv4; `::` hears both unless it is IPv6-only, which is not asked.
fn wildcard_hears(listener: IpAddr, address: IpAddr) -> bool {
    listener.is_unspecified() && (address.is_ipv4() || listener == Ipv6Addr::UNSPECIFIED)
}

/// Whether the host answers for `address`: the kernel is asked, by binding a port there, since it
/// alone knows every interface and local route. An answer that is not a clear no is a yes.
fn is_local(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => {
            error.kind() != io::ErrorKind::AddrNotAvailable
                && error.raw_os_error() != Some(libc::EAFNOSUPPORT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(listener: &str, address: &str, port: u16) -> bool {
        let own = Own::new(Vec::new());
        own.add(listener.parse().unwrap());
        own.covers(address.parse().unwrap(), port)
    }

    #[test]
    fn a_listener_is_itself_and_not_its_neighbours() {
        assert!(covers("127.0.0.1:3128", "127.0.0.1", 3128));
        assert!(covers("[::ffff:127.0.0.1]:3128", "127.0.0.1", 3128));
        assert!(!covers("127.0.0.1:3128", "127.0.0.1", 3129));
        assert!(!covers("127.0.0.1:3128", "127.0.0.2", 3128));
    }

    #[test]
    fn a_wildcard_listener_is_every_local_address() {
        assert!(covers("0.0.0.0:3128", "127.0.0.1", 3128));
        assert!(covers("0.0.0.0:3128", "127.8.8.8", 3128));
        assert!(covers("[::]:3128", "127.0.0.1", 3128));
        assert!(covers("[::]:3128", "::1", 3128));
        assert!(!covers("0.0.0.0:3128", "::1", 3128));
        assert!(!covers("0.0.0.0:3128", "93.184.216.34", 3128));
        assert!(!covers("0.0.0.0:3128", "127.0.0.1", 443));
    }

    #[test]
    fn an_unspecified_address_reaches_every_listener() {
        assert!(covers("127.0.0.1:3128", "0.0.0.0", 3128));
        assert!(covers("127.0.0.1:3128", "::", 3128));
    }

    #[test]
    fn the_address_of_an_interface_is_local() {
        // The source address that the kernel would choose is an interface's, where there is one.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        if probe.connect("198.51.100.1:9").is_ok() {
            let interface = probe.local_addr().unwrap().ip();
            let own = Own::new(vec!["0.0.0.0:3128".parse().unwrap()]);
            assert!(own.covers(interface, 3128));
        }
    }
}
