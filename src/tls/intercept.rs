//! Server configurations for intercepted connections.
//!
//! Owns what a client may negotiate with the gateway, and resumption. Does not read the
//! ClientHello: the caller has, and has checked that SNI and target agree (I3). Invariants: the
//! certificate is for the target the caller names; a ticket resumes only at the host it was given
//! for; no early data.
//!
//! A configuration is kept beside the leaf it shows, one for each set of protocols, and all share
//! one rotating ticketer: a known host costs one look-up and no allocation, a client without SNI
//! is served like any other, and sessions survive the renewal or eviction of a leaf. (One
//! configuration for all with a resolver by SNI would need a second way for clients without SNI,
//! and its tickets would be bound by what the client says, not by what the caller judged.)

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::leaf::{Leaf, Leaves, MintError};
use super::{AlpnSet, DOWNSTREAM};
use crate::addr::Host;

/// Tickets given after a TLS 1.3 handshake: enough for a client that uses each once and opens two
/// connections. Between none and two the cost is lost in that of the handshake
/// (`benches/mint.rs`).
const TICKETS: usize = 2;

/// Makes the server side of intercepted connections.
pub struct Intercept {
    leaves: Arc<Leaves>,
    ticketer: Arc<dyn ProducesTickets>,
    bases: [ServerConfig; AlpnSet::ALL.len()],
}

impl Intercept {
    /// An interceptor that shows `leaves`. Its ticket keys are new, and change every six hours.
    pub fn new(leaves: Arc<Leaves>) -> Result<Self, MintError> {
        let ticketer = Ticketer::new()?;
        let mut base = ServerConfig::builder_with_provider(Arc::clone(&DOWNSTREAM))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = TICKETS;
        base.max_early_data_size = 0;
        base.ignore_client_order = true;
        let bases = AlpnSet::ALL.map(|alpn| {
            let mut base = base.clone();
            base.alpn_protocols = alpn.protocols();
            base
        });
        Ok(Self { leaves, ticketer, bases })
    }

    /// The configuration for one connection to `host` (the tunnel's target, with which the caller
    /// has compared the SNI if there was one). `alpn` is what may be negotiated; a client that
    /// offers ALPN without any of it is refused, unless it is [`AlpnSet::None`].
    pub fn config(&self, host: &Host, alpn: AlpnSet) -> Result<Arc<ServerConfig>, MintError> {
        let leaf = self.leaves.entry(host, SystemTime::now())?;
        let config = leaf.configs[alpn.index()].get_or_init(|| self.build(host, alpn, &leaf));
        Ok(Arc::clone(config))
    }

    /// The leaves it shows.
    pub fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    fn build(&self, host: &Host, alpn: AlpnSet, leaf: &Leaf) -> Arc<ServerConfig> {
        let mut config = self.bases[alpn.index()].clone();
        config.cert_resolver = Arc::new(Shows(Arc::clone(&leaf.key)));
        config.ticketer = Arc::new(Bound::new(host, Arc::clone(&self.ticketer)));
        Arc::new(config)
    }
}

impl fmt::Debug for Intercept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercept").field("leaves", &self.leaves).finish_non_exhaustive()
    }
}

/// Shows one certificate, whatever the client says.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The resolver of a configuration that is never served.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Tickets that open only at the host they were made for (RFC 8446 §4.6.1 binds them to the
/// server's identity; rustls binds them to the SNI alone, which a client may leave out).
#[derive(Debug)]
struct Bound {
    host: [u8; 32],
    ticketer: Arc<dyn ProducesTickets>,
}

impl Bound {
    fn new(host: &Host, ticketer: Arc<dyn ProducesTickets>) -> Self {
        Self { host: Sha256::digest(host.to_string()).into(), ticketer }
    }
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        self.ticketer.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.ticketer.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ticketer.encrypt(&[&self.host, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.ticketer.decrypt(cipher)?;
        if !plain.starts_with(&self.host) {
            return None;
        }
        plain.drain(..self.host.len());
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_only_at_its_own_host() {
        let ticketer = Ticketer::new().unwrap();
        let bound = |host| Bound::new(&Host::parse(host).unwrap(), Arc::clone(&ticketer));
        let (one, same, other) = (bound("a.test"), bound("A.test."), bound("b.test"));
        let ticket = one.encrypt(b"secret").unwrap();
        assert_eq!(same.decrypt(&ticket).as_deref(), Some(&b"secret"[..]));
        assert_eq!(other.decrypt(&ticket), None);
        let bare = ticketer.encrypt(b"short").unwrap();
        assert_eq!(one.decrypt(&bare), None);
    }
}
