//! Chains of certificates that were verified before.
//!
//! Owns what is remembered of them. Does not decide: whether a chain leads to a root is webpki's to say, once
//! for the same bytes, and whether its certificate is for the name that is asked for, each time. Invariants: a
//! chain is remembered as long as each certificate in it is valid, and an hour at most; what was refused is
//! looked at again; a new list of roots or of revoked certificates makes a new memory (`Origins`); that the
//! origin has the certificate's key is verified in each handshake.

use super::cache::Cache;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// How many are remembered.
const CHAINS: usize = 1024;
/// For how many seconds, at most.
const HOUR: u64 = 3600;

/// Verifies origins, a chain that is the same byte for byte once in a while.
pub(super) struct Chains {
    webpki: Arc<WebPkiServerVerifier>,
    verified: Cache<[u8; 32], Mutex<Option<Span>>>,
}

/// From when to when a chain counts as verified, the last second excluded. Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u64,
    until: u64,
}

impl Chains {
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>) -> Self {
        Self { webpki, verified: Cache::new(CHAINS) }
    }
}

impl ServerCertVerifier for Chains {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verified.entry(&digest(end_entity, intermediates));
        let span = *verified.lock().unwrap_or_else(PoisonError::into_inner);
        if span.is_some_and(|span| (span.from..span.until).contains(&now.as_secs())) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let said = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        *verified.lock().unwrap_or_else(PoisonError::into_inner) =
            span_from(now.as_secs(), end_entity, intermediates);
        Ok(said)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.webpki.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.webpki.root_hint_subjects()
    }
}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chains").field("verified", &self.verified.len()).finish_non_exhaustive()
    }
}

/// Of all certificates in their order, each with its length before it.
fn digest(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        digest.update((certificate.len() as u64).to_be_bytes());
        digest.update(certificate);
    }
    digest.finalize().into()
}

/// From `now` to the end of the first of them that ends. `None` where one can't be read: webpki may not have
/// needed it.
fn span_from(
    now: u64,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Option<Span> {
    let mut until = now.checked_add(HOUR)?;
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let ends = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        until = until.min(ends);
    }
    Some(Span { from: now, until })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs::default_provider;
    use std::slice::from_ref;
    use std::time::Duration;

    const DAY: u64 = 24 * HOUR;
    /// 2026-01-01T00:00:00Z.
    const THEN: u64 = 1_767_225_600;

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    fn params(names: &[&str], days: u64) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let time = |secs: u64| {
            time::OffsetDateTime::from_unix_timestamp(i64::try_from(secs).unwrap()).unwrap()
        };
        (params.not_before, params.not_after) = (time(THEN), time(THEN + days * DAY));
        params
    }

    struct House {
        chains: Chains,
        leaf: CertificateDer<'static>,
        issuer: CertificateDer<'static>,
        /// The same names and issuer's name, signed by another key.
        forged: CertificateDer<'static>,
    }

    /// A root, one issuer for two days, and a leaf for a day.
    fn house() -> House {
        let authority = |days| {
            let mut params = params(&[], days);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, issuer_key, leaf_key) = (
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
        );
        let root = authority(900).self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority(900), root_key);
        let issuer = authority(2).signed_by(&issuer_key, &root_issuer).unwrap();
        let issuing = Issuer::new(authority(2), issuer_key);
        let leaf = params(&["a.test", "*.b.test"], 1).signed_by(&leaf_key, &issuing).unwrap();
        let other = Issuer::new(authority(2), KeyPair::generate().unwrap());
        let forged = params(&["a.test", "*.b.test"], 1).signed_by(&leaf_key, &other).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let chains = Chains::new(webpki.build().unwrap());
        let [leaf, issuer, forged] = [leaf, issuer, forged].map(|c| c.der().clone());
        House { chains, leaf, issuer, forged }
    }

    impl House {
        fn ask(&self, leaf: &CertificateDer<'_>, name: &str, now: u64) -> Result<(), Error> {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let issuers = [self.issuer.clone()];
            self.chains.verify_server_cert(leaf, &issuers, &name, &[], at(now)).map(drop)
        }

        fn remembers(&self, leaf: &CertificateDer<'_>) -> Option<Span> {
            *self.chains.verified.entry(&digest(leaf, from_ref(&self.issuer))).lock().unwrap()
        }
    }

    #[test]
    fn a_name_is_looked_for_in_a_chain_that_is_known_each_time() {
        let house = house();
        let noon = THEN + DAY / 2;
        house.ask(&house.leaf, "a.test", noon).unwrap();
        assert_eq!(house.remembers(&house.leaf), Some(Span { from: noon, until: noon + HOUR }));
        house.ask(&house.leaf, "a.test", noon + 1).unwrap();
        house.ask(&house.leaf, "x.b.test", noon + 1).unwrap();
        for other in ["c.test", "x.y.b.test", "b.test", "127.0.0.1"] {
            assert!(house.ask(&house.leaf, other, noon + 1).is_err(), "{other}");
        }
        // What is known is not verified again: were another known, it would pass.
        let known = house.chains.verified.entry(&digest(&house.forged, from_ref(&house.issuer)));
        *known.lock().unwrap() = Some(Span { from: noon, until: noon + 1 });
        house.ask(&house.forged, "a.test", noon).unwrap();
        assert!(house.ask(&house.forged, "c.test", noon).is_err());
        assert!(house.ask(&house.forged, "a.test", noon + 1).is_err());
    }

    #[test]
    fn what_is_not_verified_is_not_remembered() {
        let house = house();
        let noon = THEN + DAY / 2;
        for _ in 0..2 {
            assert!(house.ask(&house.forged, "a.test", noon).is_err());
            assert!(house.ask(&house.leaf, "c.test", noon).is_err());
        }
        assert_eq!((house.remembers(&house.forged), house.remembers(&house.leaf)), (None, None));
        // A known chain lends nothing to one with another leaf, nor to its leaf without the issuer.
        house.ask(&house.leaf, "a.test", noon).unwrap();
        assert!(house.ask(&house.forged, "a.test", noon).is_err());
        let name = ServerName::try_from("a.test").unwrap();
        assert!(house.chains.verify_server_cert(&house.leaf, &[], &name, &[], at(noon)).is_err());
    }

    #[test]
    fn a_chain_is_known_no_longer_than_it_is_valid() {
        let house = house();
        let late = THEN + DAY - 10;
        house.ask(&house.leaf, "a.test", late).unwrap();
        assert_eq!(house.remembers(&house.leaf), Some(Span { from: late, until: THEN + DAY }));
        house.ask(&house.leaf, "a.test", THEN + DAY - 1).unwrap();
        assert!(house.ask(&house.leaf, "a.test", THEN + DAY + 1).is_err());
        // A clock that was set back is not in what was seen.
        assert!(house.ask(&house.leaf, "a.test", THEN - 1).is_err());
        // What one of its issuers outlives counts too.
        let span = span_from(THEN + DAY, &house.issuer, from_ref(&house.leaf));
        assert_eq!(span, Some(Span { from: THEN + DAY, until: THEN + DAY }));
    }

    #[test]
    fn where_one_certificate_ends_and_the_next_begins_counts() {
        let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
        assert_ne!(digest(&der(b"ab"), &[der(b"c")]), digest(&der(b"a"), &[der(b"bc")]));
        assert_ne!(digest(&der(b"ab"), &[]), digest(&der(b"ab"), &[der(b"")]));
    }
}
