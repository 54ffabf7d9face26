//! Fingerprints: enough to tell two values apart, nothing to try guesses against.

use crate::secret::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The key of a gateway's fingerprints. Without it a fingerprint says nothing of a value; a plain
/// hash would let whoever sees it try passwords.
#[derive(Clone)]
pub struct FingerprintKey(Zeroizing<[u8; 32]>);

impl FingerprintKey {
    /// A key of its own, so that fingerprints can be compared while it is kept.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A random key.
    pub fn random() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut *key)
            .expect("the system's random source does not fail once the process runs");
        Self(key)
    }

    /// Writes it to a file of its own, for nobody else to read.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&*self.0)
    }

    /// Twelve hexadecimal digits.
    pub(super) fn of(&self, secret: &Secret) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        mac.update(secret.expose().as_bytes());
        mac.finalize().into_bytes()[..6].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
