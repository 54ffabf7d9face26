//! The gateway's certificate authority: two files in the state directory, and what they sign with.
//!
//! Owns `ca.pem`, `ca-key.pem` and `ca-bundle.pem`. Does not mint (`leaf` does). Invariants: the
//! key is 0600 and stays on this side of the process; a CA that could not issue a chain that
//! verifies is refused at start, not at the first handshake.
//!
//! A CA that Portcullis makes lives [`Ca::LIFETIME`]. An operator may put an own pair in its place:
//! ECDSA, RSA or Ed25519, PKCS#8, PKCS#1 or SEC 1. If that is an intermediate, the certificates
//! after the first one in `ca.pem` are sent along with each leaf.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{files, leaf};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const BUNDLE: &str = "ca-bundle.pem";
const LOCK: &str = "ca.lock";

/// A new CA is valid since before its making, for clients whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The certificate authority whose leaves the sandboxes' clients see.
pub struct Ca {
    signer: Arc<Signer>,
    certificates: Vec<CertificateDer<'static>>,
}

/// What minting needs of the CA.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// Sent after the leaf: nothing where the CA is a root, itself and what follows where not.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// Why there is no CA. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file or directory could not be read, written or locked.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could replace the files in it.
    #[error("{0} is writable by others (mode {mode:04o}); run: chmod 700 {0}", path.display())]
    Directory {
        /// The state directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others can read the key.
    #[error("{0} can be read by others (mode {mode:04o}); run: chmod 600 {0}, and if others did read it: portcullis ca rotate", path.display())]
    KeyMode {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else put the key there.
    #[error("{0} belongs to uid {owner}, not to the gateway's; run: chown {user} {0}", path.display())]
    KeyOwner {
        /// The key file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// One of the two files is missing.
    #[error("{} is there but {} is missing; put it back, or remove the one that is there for a new CA", present.display(), missing.display())]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Not PEM, or not a certificate.
    #[error("{} holds no readable PEM certificate; put a CA certificate there, or remove it and the key for a new CA", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// Not PEM, encrypted, or of a kind that can't sign here.
    #[error("{} holds no private key that can be used (unencrypted PEM; ECDSA P-256, P-384 or P-521, RSA of 2048 bits or more, or Ed25519)", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The two files are not a pair.
    #[error("{} is not the key of {}; put the pair back together, or run: portcullis ca rotate", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate that may not sign others.
    #[error("{} is not a CA certificate (basicConstraints CA:TRUE and, where keyUsage is given, keyCertSign)", path.display())]
    NotCa {
        /// The file.
        path: PathBuf,
    },
    /// Its time is over.
    #[error("the CA in {} expired on {}; run: portcullis ca rotate", path.display(), leaf::date(*not_after))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        not_after: SystemTime,
    },
    /// Its time has not come.
    #[error("the CA in {} is not valid before {}; is this machine's clock right?", path.display(), leaf::date(*not_before))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it begins.
        not_before: SystemTime,
    },
    /// What it signs does not verify.
    #[error("certificates signed by the CA in {} do not verify ({reason}); use another CA, or remove both files for a new one", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the verifier said.
        reason: rustls::Error,
    },
    /// No CA could be made.
    #[error("a new CA could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// No leaf could be signed.
    #[error("the CA can't sign: {0}")]
    Sign(#[from] leaf::MintError),
}

impl Ca {
    /// How long a CA made here is valid: two years. It is not renewed by itself, since every
    /// client would have to be told; [`Ca::not_after`] lets the caller warn ahead.
    pub const LIFETIME: Duration = Duration::from_secs(730 * 24 * 3600);

    /// Loads the CA of `state_dir`, or makes directory and CA where there is none. Of two
    /// processes that start at once, one makes it and both have it.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, CaError> {
        let _lock = prepare(state_dir)?;
        let (certificate, key) = (state_dir.join(CERTIFICATE), state_dir.join(KEY));
        match (exists(&certificate)?, exists(&key)?) {
            (true, true) => {}
            (false, false) => create(state_dir)?,
            (true, false) => return Err(CaError::Half { present: certificate, missing: key }),
            (false, true) => return Err(CaError::Half { present: key, missing: certificate }),
        }
        load(&certificate, &key)
    }

    /// Makes a new CA in `state_dir` in place of the one that is there. Clients that trusted the
    /// old one must be given the new one; a running gateway keeps the old one until it restarts.
    pub fn rotate(state_dir: &Path) -> Result<Self, CaError> {
        let _lock = prepare(state_dir)?;
        create(state_dir)?;
        load(&state_dir.join(CERTIFICATE), &state_dir.join(KEY))
    }

    /// The certificates of `ca.pem`: what clients are to trust. Never the key.
    pub fn certificate_pem(&self) -> String {
        self.certificates.iter().map(|certificate| pem(certificate)).collect()
    }

    /// The CA's certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.certificate());
        let mut out = String::with_capacity(digest.len() * 3);
        for (at, byte) in digest.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(out, "{colon}{byte:02X}").expect("a String takes everything");
        }
        out
    }

    /// When it expires.
    pub fn not_after(&self) -> SystemTime {
        self.signer.not_after
    }

    /// Writes `ca-bundle.pem` into `dir` (system roots and ours, 0644), in one step and only if
    /// that changes it. Returns its path.
    pub fn write_bundle(
        &self,
        dir: &Path,
        system_roots: &[CertificateDer<'_>],
    ) -> Result<PathBuf, CaError> {
        let path = dir.join(BUNDLE);
        let mut bundle = self.certificate_pem();
        bundle.extend(system_roots.iter().map(|root| pem(root)));
        if fs::read(&path).is_ok_and(|present| present == bundle.as_bytes()) {
            return Ok(path);
        }
        files::replace(&path, files::PUBLIC, bundle.as_bytes()).map_err(at(&path))?;
        Ok(path)
    }

    pub(super) fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.signer)
    }
}

/// The fingerprint and nothing of the key.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CaError {
    move |source| CaError::File { path: path.to_owned(), source }
}

fn prepare(state_dir: &Path) -> Result<fs::File, CaError> {
    let mode = files::make_dir(state_dir).map_err(at(state_dir))?;
    if mode & 0o022 != 0 {
        return Err(CaError::Directory { path: state_dir.to_owned(), mode });
    }
    let path = state_dir.join(LOCK);
    files::lock(&path).map_err(at(&path))
}

fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(at(path))
}

fn create(state_dir: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate()?;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATE;
    params.not_after = now + Ca::LIFETIME;
    let serial = leaf::serial()?;
    params.distinguished_name = DistinguishedName::new();
    let tag = u32::from_be_bytes([serial[1], serial[2], serial[3], serial[4]]);
    params.distinguished_name.push(DnType::CommonName, format!("Portcullis CA {tag:08x}"));
    params.serial_number = Some(leaf::serial()?.to_vec().into());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    for (name, mode, text) in [
        (KEY, files::PRIVATE, key.serialize_pem()),
        (CERTIFICATE, files::PUBLIC, certificate.pem()),
    ] {
        let path = state_dir.join(name);
        files::replace(&path, mode, text.as_bytes()).map_err(at(&path))?;
    }
    Ok(())
}

fn load(certificate: &Path, key: &Path) -> Result<Ca, CaError> {
    let key_pair = load_key(key)?;
    let text = files::read(certificate).map_err(at(certificate))?.text;
    let bad = || CaError::Certificate { path: certificate.to_owned() };
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad())?;
    let first = certificates.first().ok_or_else(bad)?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| bad())?;
    check(&parsed, &key_pair, certificate, key)?;
    let is_root = parsed.subject().as_raw() == parsed.issuer().as_raw();
    let signer = Signer {
        chain: if is_root { Vec::new() } else { certificates.clone() },
        not_before: instant(parsed.validity().not_before.timestamp()),
        not_after: instant(parsed.validity().not_after.timestamp()),
        issuer: Issuer::from_ca_cert_der(first, key_pair)?,
    };
    prove(&signer, first, certificate)?;
    Ok(Ca { signer: Arc::new(signer), certificates })
}

fn load_key(path: &Path) -> Result<KeyPair, CaError> {
    let file = files::read(path).map_err(at(path))?;
    if file.mode & 0o077 != 0 {
        return Err(CaError::KeyMode { path: path.to_owned(), mode: file.mode });
    }
    let user = rustix::process::geteuid().as_raw();
    if file.owner != user && file.owner != 0 {
        return Err(CaError::KeyOwner { path: path.to_owned(), owner: file.owner, user });
    }
    let bad = || CaError::Key { path: path.to_owned() };
    let der = PrivateKeyDer::from_pem_slice(file.text.as_bytes()).map_err(|_| bad())?;
    KeyPair::try_from(&der).map_err(|_| bad())
}

fn check(
    parsed: &X509Certificate<'_>,
    key_pair: &KeyPair,
    certificate: &Path,
    key: &Path,
) -> Result<(), CaError> {
    let path = certificate.to_owned();
    if parsed.public_key().raw != key_pair.subject_public_key_info() {
        return Err(CaError::Mismatch { certificate: path, key: key.to_owned() });
    }
    let may_sign =
        parsed.key_usage().is_ok_and(|usage| usage.is_none_or(|u| u.value.key_cert_sign()));
    if !parsed.is_ca() || !may_sign {
        return Err(CaError::NotCa { path });
    }
    let now = SystemTime::now();
    let not_after = instant(parsed.validity().not_after.timestamp());
    if now >= not_after {
        return Err(CaError::Expired { path, not_after });
    }
    let not_before = instant(parsed.validity().not_before.timestamp());
    if now < not_before {
        return Err(CaError::NotYetValid { path, not_before });
    }
    Ok(())
}

/// Signs a certificate for no name and verifies it: an issuer name that is not written again byte
/// for byte, or an algorithm that clients refuse, shows here.
fn prove(signer: &Signer, ca: &CertificateDer<'_>, path: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate()?;
    let leaf = leaf::sign(signer, &key, None, SystemTime::now())?;
    let verified = (|| {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(&leaf.der)?;
        let algorithms = super::DOWNSTREAM.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], UnixTime::now(), algorithms)
    })();
    verified.map_err(|reason| CaError::Unusable { path: path.to_owned(), reason })
}

fn instant(timestamp: i64) -> SystemTime {
    let seconds = Duration::from_secs(timestamp.unsigned_abs());
    let instant = if timestamp < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    instant.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(str::from_utf8(line).expect("base64 is ASCII"));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
