//! Origins: verification always, each failure with its code and a sentence, sessions that resume.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::tls_kit::{fetch, serve};
use portcullis::policy::Code;
use portcullis::tls::{Offer, Origins, RootsError, Settings, classify, explain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const HOUR: Duration = Duration::from_secs(3600);

/// A root of the test's own, in a file.
struct World {
    dir: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
}

fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(SerialNumber::from(vec![0x41; 8]));
    params
}

fn server(certificate: rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), root: ca("test root") };
        fs::write(world.file("root.pem"), world.root.pem()).unwrap();
        world
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self) -> Settings {
        Settings { ca_files: vec![self.file("root.pem")], crl_files: Vec::new() }
    }

    fn origins(&self) -> Origins {
        Origins::new(&self.settings()).unwrap()
    }

    fn server(&self, params: &CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        server(params.signed_by(&key, &self.root).unwrap(), &key)
    }

    fn crl(&self, signer: &CertifiedIssuer<'static, KeyPair>, serial: u8) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(vec![serial; 8]),
            revocation_time: (SystemTime::now() - HOUR).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - 2 * HOUR).into(),
            // Past its time on purpose: a stale list still revokes.
            next_update: (SystemTime::now() - HOUR).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(signer).unwrap().pem().unwrap()
    }
}

fn connect(origins: &Origins, server: Arc<ServerConfig>, name: &str) -> io::Result<bool> {
    let (address, serving) = serve(server);
    let result = fetch(origins.config(Offer::Http1), address, name);
    assert_eq!(serving.join().unwrap().is_ok(), result.is_ok());
    result
}

fn refused(origins: &Origins, server: Arc<ServerConfig>, name: &str) -> (Code, String) {
    let error = connect(origins, server, name).unwrap_err();
    let sentence = explain(&error);
    assert!(sentence.chars().all(|c| (' '..='~').contains(&c)), "{sentence}");
    (classify(&error), sentence)
}

#[test]
fn a_root_from_a_file_is_trusted_and_sessions_resume() {
    let world = World::new();
    let origins = world.origins();
    let server = world.server(&leaf(&["origin.test", "192.0.2.9"]));
    for name in ["origin.test", "192.0.2.9"] {
        assert!(!connect(&origins, Arc::clone(&server), name).unwrap());
        assert!(connect(&origins, Arc::clone(&server), name).unwrap(), "{name} resumes");
    }
    let (address, serving) = serve(Arc::clone(&server));
    let resumed = fetch(origins.config(Offer::Http2AndHttp1), address, "origin.test").unwrap();
    assert!(resumed, "the sessions are shared by both offers");
    assert_eq!(serving.join().unwrap().unwrap().alpn.as_deref(), Some(&b"h2"[..]));
    assert!(!connect(&world.origins(), server, "origin.test").unwrap(), "a reload forgets");
}

#[test]
fn another_name_is_the_wrong_host() {
    let world = World::new();
    let server = world.server(&leaf(&["a.test", "192.0.2.1", "c.test", "d.test"]));
    let (code, sentence) = refused(&world.origins(), server, "origin.test");
    assert_eq!(code, Code::TlsWrongHost);
    assert_eq!(
        sentence,
        "the origin's certificate is for a.test, 192.0.2.1, c.test and 1 more, not for origin.test"
    );
}

#[test]
fn an_expired_and_a_future_certificate_are_told_with_the_date() {
    let world = World::new();
    let mut params = leaf(&["origin.test"]);
    params.not_after = rcgen::date_time_ymd(2024, 2, 3);
    let (code, sentence) = refused(&world.origins(), world.server(&params), "origin.test");
    assert_eq!(code, Code::TlsExpired);
    assert!(sentence.ends_with("expired on 2024-02-03 00:00:00 UTC"), "{sentence}");
    params.not_before = (SystemTime::now() + 24 * HOUR).into();
    params.not_after = (SystemTime::now() + 48 * HOUR).into();
    let (code, sentence) = refused(&world.origins(), world.server(&params), "origin.test");
    assert_eq!(code, Code::TlsExpired);
    assert!(sentence.contains("not valid before"), "{sentence}");
}

#[test]
fn a_self_signed_and_a_strangers_certificate_have_an_unknown_issuer() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let own = leaf(&["origin.test"]).self_signed(&key).unwrap();
    let (code, sentence) = refused(&world.origins(), server(own, &key), "origin.test");
    assert_eq!(code, Code::TlsUnknownIssuer);
    assert!(sentence.contains("upstream.ca_files"), "{sentence}");

    // As `openssl req -x509` makes them: self-signed and CA:TRUE.
    let mut params = leaf(&["origin.test"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    let (code, sentence) = refused(&world.origins(), server(own, &key), "origin.test");
    assert_eq!(code, Code::TlsUnknownIssuer);
    assert!(sentence.contains("CA certificate"), "{sentence}");

    let stranger = leaf(&["origin.test"]).signed_by(&key, &ca("test root")).unwrap();
    let (code, _) = refused(&world.origins(), server(stranger, &key), "origin.test");
    assert!(matches!(code, Code::TlsUnknownIssuer | Code::TlsFailed), "same name, other key");
    let stranger = leaf(&["origin.test"]).signed_by(&key, &ca("other root")).unwrap();
    let (code, _) = refused(&world.origins(), server(stranger, &key), "origin.test");
    assert_eq!(code, Code::TlsUnknownIssuer);
}

#[test]
fn a_certificate_on_the_operators_list_is_revoked_and_others_are_not() {
    let world = World::new();
    let mut settings = world.settings();
    settings.crl_files = vec![world.file("crl.pem"), world.file("other.pem")];
    fs::write(world.file("crl.pem"), world.crl(&world.root, 0x41)).unwrap();
    fs::write(world.file("other.pem"), world.crl(&ca("other root"), 0x42)).unwrap();
    let origins = Origins::new(&settings).unwrap();
    let mut params = leaf(&["origin.test"]);
    let (code, _) = refused(&origins, world.server(&params), "origin.test");
    assert_eq!(code, Code::TlsRevoked);
    params.serial_number = Some(SerialNumber::from(vec![0x42; 8]));
    connect(&origins, world.server(&params), "origin.test").unwrap();
}

#[test]
fn an_origin_that_breaks_off_or_talks_nonsense_has_failed() {
    use std::io::Write as _;
    let origins = World::new().origins();
    for nonsense in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            io::Read::read(&mut socket, &mut [0; 4096]).unwrap();
            socket.write_all(nonsense).unwrap();
        });
        let error = fetch(origins.config(Offer::Http1), address, "origin.test").unwrap_err();
        assert_eq!(classify(&error), Code::TlsFailed);
        assert!(explain(&error).contains("handshake"), "{}", explain(&error));
        serving.join().unwrap();
    }
}

#[test]
fn an_origin_that_sends_an_alert_has_failed_with_its_name() {
    let world = World::new();
    let mut config = ServerConfig::clone(&world.server(&leaf(&["origin.test"])));
    config.alpn_protocols = vec![b"imap".to_vec()];
    let (address, serving) = serve(Arc::new(config));
    let origins = world.origins();
    let error = fetch(origins.config(Offer::Http1), address, "origin.test").unwrap_err();
    assert_eq!(classify(&error), Code::TlsFailed);
    assert!(explain(&error).contains("NoApplicationProtocol"), "{}", explain(&error));
    assert!(serving.join().unwrap().is_err());
}

#[test]
fn no_early_data_is_offered_and_the_hybrid_key_exchange_and_the_cheapest_suite_come_first() {
    let origins = World::new().origins();
    for offer in [Offer::Http1, Offer::Http2AndHttp1] {
        let config = origins.config(offer);
        assert!(!config.enable_early_data);
        let groups: Vec<_> = config.crypto_provider().kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(groups[..2], [rustls::NamedGroup::X25519MLKEM768, rustls::NamedGroup::X25519]);
        let suites = &config.crypto_provider().cipher_suites;
        assert_eq!(suites[0].suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let default = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        assert_eq!(suites.len(), default.len(), "none is left out");
    }
}

#[test]
fn a_file_that_is_missing_empty_cut_off_or_something_else_is_an_error_that_names_it() {
    let world = World::new();
    let pem = world.root.pem();
    let cut = &pem[..pem.len() / 2];
    let wrong = pem.replace("CERTIFICATE", "PUBLIC KEY");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let crl_junk = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let missing = world.file("missing.pem");
    for content in ["", "hello", cut, &wrong, junk] {
        let path = world.file("bad.pem");
        fs::write(&path, content).unwrap();
        let ca_files = vec![path.clone()];
        let error = Origins::new(&Settings { ca_files, crl_files: Vec::new() }).unwrap_err();
        assert!(error.to_string().contains("bad.pem"), "{error}");
        assert!(error.to_string().contains("upstream.ca_files"), "{error}");
    }
    for content in ["", "hello", &pem, crl_junk] {
        let path = world.file("bad.crl");
        fs::write(&path, content).unwrap();
        let error =
            Origins::new(&Settings { crl_files: vec![path], ..world.settings() }).unwrap_err();
        assert!(error.to_string().contains("bad.crl"), "{error}");
    }
    for settings in [
        Settings { ca_files: vec![missing.clone()], crl_files: Vec::new() },
        Settings { crl_files: vec![missing.clone()], ..world.settings() },
        Settings { ca_files: vec![world.dir.path().to_owned()], crl_files: Vec::new() },
    ] {
        let error = Origins::new(&settings).unwrap_err();
        assert!(matches!(error, RootsError::Read { .. }), "{error}");
    }
}

#[test]
fn der_files_are_read_too_and_every_root_of_a_file_counts() {
    let world = World::new();
    let without = Origins::new(&Settings::default()).unwrap();
    fs::write(world.file("root.der"), world.root.der()).unwrap();
    fs::write(world.file("two.pem"), format!("{}{}", world.root.pem(), ca("b").pem())).unwrap();
    let ca_files = vec![world.file("root.der"), world.file("two.pem")];
    let origins = Origins::new(&Settings { ca_files, crl_files: Vec::new() }).unwrap();
    assert_eq!(origins.root_count(), without.root_count() + 3);
    assert_eq!(origins.roots().len(), without.roots().len() + 3);
    connect(&origins, world.server(&leaf(&["origin.test"])), "origin.test").unwrap();
}
