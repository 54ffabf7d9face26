//! Leaf certificates for intercepted names, minted on demand.
//!
//! Owns the leaf key (one per start, never the CA's), what stands in a leaf, and the bounded cache.
//! Invariants: a leaf is for exactly one host; it lives at most seven days and began before now;
//! of all who ask for a name at once one mints, and nobody waits for another name.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa};
use rcgen::{KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::AlpnSet;
use super::ca::{Ca, Signer};
use super::cache::Cache;
use crate::addr::Host;

const HOUR: Duration = Duration::from_secs(3600);
/// For clients whose clock is behind.
const BACKDATE: Duration = HOUR.saturating_mul(36);
/// From the minting on; with [`BACKDATE`] six days and a half in all.
const LIFETIME: Duration = HOUR.saturating_mul(120);
/// With less than this left a new one is minted, so that clients whose clock is ahead are served.
const RENEW: Duration = HOUR.saturating_mul(24);
/// X.520 `ub-common-name`.
const LONGEST_COMMON_NAME: usize = 64;

/// Why no leaf was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The CA expired while the gateway ran.
    #[error("the gateway's CA has expired; run: portcullis ca rotate, and restart")]
    CaExpired,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The certificate could not be made.
    #[error("the certificate could not be signed: {0}")]
    Sign(#[from] rcgen::Error),
    /// The leaf key or its ticket keys could not be used.
    #[error("the leaf key could not be used: {0}")]
    Key(#[from] rustls::Error),
}

/// The leaves of one gateway: a key made at its start, and a cache of certificates by host.
pub struct Leaves {
    signer: Arc<Signer>,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    cache: Cache<Host, Slot>,
    minted: AtomicU64,
}

/// One name's place. Its lock is held while minting: those who ask for the same name wait, the
/// cache's locks are not held.
type Slot = Mutex<Option<Arc<Leaf>>>;

/// A minted certificate, and the server configurations made of it.
pub(super) struct Leaf {
    pub(super) key: Arc<CertifiedKey>,
    /// Filled by `Intercept`, one for each set of protocols; they go when the leaf goes.
    pub(super) configs: [OnceLock<Arc<ServerConfig>>; AlpnSet::ALL.len()],
    not_before: SystemTime,
    renew: SystemTime,
}

/// A signed certificate and its time.
pub(super) struct Signed {
    pub(super) der: CertificateDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Leaves {
    /// How many names the cache holds.
    pub const CAPACITY: usize = 4096;

    /// Leaves signed by `ca`, with a new key.
    pub fn new(ca: &Ca) -> Result<Self, MintError> {
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_ecdsa_type(&der)?;
        let (cache, minted) = (Cache::new(Self::CAPACITY), AtomicU64::new(0));
        Ok(Self { signer: ca.signer(), key, signing, cache, minted })
    }

    /// The certificate for `host`: from the cache, or minted now (some 50 µs of CPU; blocks the
    /// caller for that long, or while another mints the same name).
    pub fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, MintError> {
        Ok(Arc::clone(&self.entry(host, SystemTime::now())?.key))
    }

    /// How many certificates were minted since the start.
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// How many names are cached.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn entry(&self, host: &Host, now: SystemTime) -> Result<Arc<Leaf>, MintError> {
        let slot = self.cache.entry(host);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = &*slot
            && leaf.not_before <= now
            && now < leaf.renew
        {
            return Ok(Arc::clone(leaf));
        }
        let leaf = Arc::new(self.mint(host, now)?);
        *slot = Some(Arc::clone(&leaf));
        Ok(leaf)
    }

    fn mint(&self, host: &Host, now: SystemTime) -> Result<Leaf, MintError> {
        let signed = sign(&self.signer, &self.key, Some(host), now)?;
        self.minted.fetch_add(1, Ordering::Relaxed);
        let mut chain = vec![signed.der];
        chain.extend_from_slice(&self.signer.chain);
        // A leaf that ends with the CA can't be bettered by minting again.
        let ends_with_ca = signed.not_after == self.signer.not_after;
        let renew = if ends_with_ca { signed.not_after } else { signed.not_after - RENEW };
        Ok(Leaf {
            key: Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing))),
            configs: Default::default(),
            not_before: signed.not_before,
            renew,
        })
    }
}

/// The counts and nothing of the key.
impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cached, minted) = (self.cached(), self.minted());
        f.debug_struct("Leaves")
            .field("cached", &cached)
            .field("minted", &minted)
            .finish_non_exhaustive()
    }
}

/// Signs a server certificate for `host` and `key` (RFC 5280 §4.2): SAN, serverAuth,
/// digitalSignature, no CA, subject and authority key identifiers, a random serial.
pub(super) fn sign(
    signer: &Signer,
    key: &KeyPair,
    host: Option<&Host>,
    now: SystemTime,
) -> Result<Signed, MintError> {
    if now >= signer.not_after {
        return Err(MintError::CaExpired);
    }
    let not_before = (now - BACKDATE).max(signer.not_before);
    let not_after = (now + LIFETIME).min(signer.not_after);
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial()?.to_vec().into());
    params.distinguished_name = DistinguishedName::new();
    if let Some(host) = host {
        let text = host.to_string();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Ip(ip) => SanType::IpAddress(*ip),
        }];
        if text.len() <= LONGEST_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, text);
        }
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, &signer.issuer)?;
    Ok(Signed { der: certificate.into(), not_before, not_after })
}

/// A serial of 16 bytes, positive and without a leading zero: 126 random bits.
pub(super) fn serial() -> Result<[u8; 16], MintError> {
    let mut serial = [0; 16];
    super::DOWNSTREAM.secure_random.fill(&mut serial).map_err(|_| MintError::Random)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

/// A time as people read it in an error: UTC, whole seconds.
pub(super) fn date(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "a time out of range".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn leaves() -> (tempfile::TempDir, Ca, Leaves) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let leaves = Leaves::new(&ca).unwrap();
        (dir, ca, leaves)
    }

    #[test]
    fn a_leaf_is_kept_until_less_than_a_day_is_left() {
        let (_dir, _ca, leaves) = leaves();
        let host = Host::parse("example.com").unwrap();
        let now = SystemTime::now();
        let first = leaves.entry(&host, now).unwrap();
        let kept = leaves.entry(&host, now + 4 * DAY - HOUR).unwrap();
        assert!(Arc::ptr_eq(&first, &kept));
        let renewed = leaves.entry(&host, now + 4 * DAY).unwrap();
        assert!(!Arc::ptr_eq(&first, &renewed));
        assert_eq!(leaves.minted(), 2);
    }

    #[test]
    fn a_clock_set_back_gets_a_leaf_that_has_begun() {
        let (_dir, _ca, leaves) = leaves();
        let host = Host::parse("example.com").unwrap();
        let now = SystemTime::now();
        leaves.entry(&host, now).unwrap();
        let back = leaves.entry(&host, now - 3 * DAY).unwrap();
        assert!(back.not_before <= now - 3 * DAY);
    }

    #[test]
    fn a_leaf_never_outlives_the_ca_and_is_not_minted_again_and_again_at_its_end() {
        let (_dir, ca, leaves) = leaves();
        let host = Host::parse("example.com").unwrap();
        let late = ca.not_after() - HOUR;
        let leaf = leaves.entry(&host, late).unwrap();
        assert_eq!(leaf.renew, ca.not_after());
        leaves.entry(&host, late + HOUR / 2).unwrap();
        assert_eq!(leaves.minted(), 1);
        assert!(matches!(leaves.entry(&host, ca.not_after()), Err(MintError::CaExpired)));
    }
}
