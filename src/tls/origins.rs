//! Verification of origins: the roots, the operator's CRLs, and the client configurations.
//!
//! Owns whom the gateway trusts upstream. Does not dial. Invariants: verification cannot be
//! switched off; a file that the operator names is read whole or is an error; every configuration
//! of one [`Origins`] verifies alike, so they share their sessions; no early data.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::VerifierBuilderError;
use rustls::{ClientConfig, RootCertStore};

use super::AlpnSet;
use super::chains::Chains;

/// Sessions kept for resumption. rustls keeps up to eight for each of an eighth as many names.
const SESSIONS: usize = 2048;

/// Upstream the hop is the open internet, where what is recorded today may be read later: the
/// hybrid X25519MLKEM768 is offered first, with a share of X25519 beside it so that an origin
/// without it answers in the same round trip. It costs the gateway about a quarter more CPU a
/// handshake, full or resumed (`benches/mint.rs`, unoptimised build: 147 µs with X25519 alone,
/// 184 µs where the origin takes the hybrid, 160 µs where it does not), and pooled connections
/// pay it once.
static UPSTREAM: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        cipher_suites: super::suites(),
        ..default_provider()
    })
});

/// What the operator says about upstream TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// PEM (or one DER certificate) files of roots that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// PEM (or one DER list) files of revoked certificates. Only the origin's own certificate is
    /// looked up, an issuer without a list is accepted, and a list past its next update still
    /// counts.
    pub crl_files: Vec<PathBuf>,
}

/// What is offered to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// `http/1.1` (an upgrade, or an origin known not to speak h2).
    Http1,
    /// `h2`, then `http/1.1`.
    Http2AndHttp1,
}

/// Why the roots or CRLs could not be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It can't be read.
    #[error("{}: {why}\n  fix: correct or remove it in upstream.ca_files or upstream.crl_files", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// No certificate in it, or one that is cut off.
    #[error("{} (upstream.ca_files) holds no whole certificate between BEGIN CERTIFICATE and END CERTIFICATE lines", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in it can't be a root.
    #[error("certificate {number} in {} (upstream.ca_files) can't be used as a root: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
        /// What rustls said.
        reason: rustls::Error,
    },
    /// No list in it, or one that is cut off.
    #[error("{} (upstream.crl_files) holds no whole list between BEGIN X509 CRL and END X509 CRL lines", path.display())]
    NoCrl {
        /// The file.
        path: PathBuf,
    },
    /// A list that can't be used.
    #[error("{} (upstream.crl_files) can't be used: {reason}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        reason: VerifierBuilderError,
    },
    /// The verifier could not be built.
    #[error("the verifier of origins could not be built: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// The TLS library refused the configuration.
    #[error("the upstream TLS configuration could not be built: {0}")]
    Tls(#[from] rustls::Error),
}

/// Whom the gateway trusts upstream. Cheap to ask; replaced whole on a reload, which also forgets
/// all sessions, so that a new CRL or a removed root holds for the next handshake.
pub struct Origins {
    roots: Vec<CertificateDer<'static>>,
    /// The operator's lists of revoked certificates.
    crls: Vec<Crl>,
    usable: usize,
    http1: Arc<ClientConfig>,
    http2_and_http1: Arc<ClientConfig>,
}

impl Origins {
    /// Trusts the system's roots and those of `settings`. Without any root it is built all the
    /// same, [`Origins::root_count`] is 0 and every handshake fails.
    pub fn new(settings: &Settings) -> Result<Self, RootsError> {
        let mut roots = system_roots();
        let mut store = RootCertStore::empty();
        // Systems carry roots that webpki can't read; the others are none the worse for it.
        store.add_parsable_certificates(roots.iter().cloned());
        for path in &settings.ca_files {
            for (at, certificate) in read_roots(path)?.into_iter().enumerate() {
                store.add(certificate.clone()).map_err(|reason| RootsError::Certificate {
                    path: path.clone(),
                    number: at + 1,
                    reason,
                })?;
                roots.push(certificate);
            }
        }
        let usable = store.len();
        let store = Arc::new(store);
        let crls = read_crls(&store, &settings.crl_files)?;
        let base = client_config(store, crls.clone())?;
        let with = |alpn: AlpnSet| {
            let mut config = base.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        };
        let (http1, http2_and_http1) = (with(AlpnSet::Http1), with(AlpnSet::Http2AndHttp1));
        Ok(Self { roots, crls, usable, http1, http2_and_http1 })
    }

    /// The configuration for one connection upstream.
    pub fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        match offer {
            Offer::Http1 => Arc::clone(&self.http1),
            Offer::Http2AndHttp1 => Arc::clone(&self.http2_and_http1),
        }
    }

    /// How many roots are trusted.
    pub fn root_count(&self) -> usize {
        self.usable
    }

    /// Whether both were made of the same roots and lists, and so judge alike.
    pub fn trusts_as(&self, other: &Self) -> bool {
        self.roots == other.roots && self.crls == other.crls
    }

    /// The roots, the system's and the operator's: what a sandbox's bundle is made of.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("roots", &self.usable).finish_non_exhaustive()
    }
}

/// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), as far as they can be
/// read; empty where there are none.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

fn client_config(roots: Arc<RootCertStore>, crls: Vec<Crl>) -> Result<ClientConfig, RootsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&UPSTREAM))
        .with_safe_default_protocol_versions()?;
    let builder = if roots.is_empty() {
        builder.with_root_certificates(roots)
    } else {
        let chains = Chains::new(verifier(&roots, crls)?);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(chains))
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.enable_early_data = false;
    Ok(config)
}

type Crl = CertificateRevocationListDer<'static>;

fn verifier(
    roots: &Arc<RootCertStore>,
    crls: Vec<Crl>,
) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&UPSTREAM))
        .with_crls(crls)
        .allow_unknown_revocation_status()
        .only_check_end_entity_revocation()
        .build()
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let bytes = read(path)?;
    if is_der(&bytes) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(RootsError::NoCertificate { path: path.to_owned() }),
    }
}

/// Reads the lists; each file is tried by itself, so that the error names it.
fn read_crls(roots: &Arc<RootCertStore>, paths: &[PathBuf]) -> Result<Vec<Crl>, RootsError> {
    let mut all = Vec::new();
    for path in paths {
        let bytes = read(path)?;
        let crls = if is_der(&bytes) {
            vec![CertificateRevocationListDer::from(bytes)]
        } else {
            let crls: Result<Vec<_>, _> =
                CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
            crls.ok()
                .filter(|crls| !crls.is_empty())
                .ok_or_else(|| RootsError::NoCrl { path: path.clone() })?
        };
        // Without a root nothing verifies, and there is no verifier to try them with.
        if !roots.is_empty() {
            verifier(roots, crls.clone())
                .map_err(|reason| RootsError::Crl { path: path.clone(), reason })?;
        }
        all.extend(crls);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, RootsError> {
    let unreadable = |why| RootsError::Read { path: path.to_owned(), why };
    // To open a pipe is to wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a regular file")));
    }
    fs::read(path).map_err(unreadable)
}

/// DER begins with a SEQUENCE of more than 127 bytes, text does not.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}
