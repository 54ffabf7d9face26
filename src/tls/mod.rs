//! TLS on both sides: the gateway's CA, leaves minted for intercepted names, the ClientHello
//! reader, and the verification of origins.
//!
//! Owns key material, certificates and rustls configurations. Does not own sockets, does not dial
//! and does not judge: whether a name may be reached, and whether SNI and target agree (I3), is
//! decided by the caller. Invariants: the CA key never leaves [`Ca`]; the certificate shown is for
//! the host the caller names, never for one that the client's bytes name; nothing here can switch
//! the verification of origins off.

mod alpn;
mod ca;
mod cache;
mod chains;
mod failure;
mod files;
pub mod hello;
mod intercept;
mod leaf;
mod origins;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{CipherSuite, SupportedCipherSuite};

pub use alpn::AlpnSet;
pub use ca::{Ca, CaError};
pub use failure::{ClientFailure, classify, client_failure, explain};
pub use intercept::Intercept;
pub use leaf::{Leaves, MintError};
pub use origins::{Offer, Origins, RootsError, Settings, system_roots};

/// For clients: the hop is local, so the hybrid post-quantum exchange would cost time and protect
/// nothing that the loopback or bridge does not.
static DOWNSTREAM: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        cipher_suites: suites(),
        ..default_provider()
    })
});

/// The cipher suites, the cheapest of equal worth first (ADR 0016).
fn suites() -> Vec<SupportedCipherSuite> {
    let mut suites = default_provider().cipher_suites;
    // Stable: the rest stays as the provider has it.
    suites.sort_by_key(|suite| {
        let aes_128 = matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        );
        (suite.tls13().is_none(), !aes_128)
    });
    suites
}
