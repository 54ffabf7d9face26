//! The server side: the certificate is the target's, ALPN is what was asked for, sessions resume
//! at their own host and nowhere else.

use std::sync::Arc;

use crate::tls_kit::{Gateway, client, fetch, gateway, host, serve};
use portcullis::tls::{AlpnSet, Ca, ClientFailure, Intercept, Leaves, client_failure};
use rustls::ClientConfig;
use rustls::client::Resumption;

fn once(gateway: &Gateway, config: &Arc<ClientConfig>, name: &str) -> bool {
    let (address, server) = serve(gateway.config(name));
    let resumed = fetch(Arc::clone(config), address, name).unwrap();
    assert_eq!(server.join().unwrap().unwrap().resumed, resumed);
    resumed
}

fn only(config: ClientConfig, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let provider = Arc::clone(config.crypto_provider());
    let mut narrowed = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    narrowed.dangerous().set_certificate_verifier(Arc::new(AcceptsAll));
    narrowed
}

/// For clients that are about something else than trust.
#[derive(Debug)]
struct AcceptsAll;

impl rustls::client::danger::ServerCertVerifier for AcceptsAll {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn a_client_that_trusts_the_ca_is_served_and_the_next_connection_resumes() {
    let gateway = gateway();
    let config = Arc::new(client(gateway.ca.certificate()));
    for name in ["a.test", "192.0.2.7", "2001:db8::1"] {
        assert!(!once(&gateway, &config, name), "{name}");
        assert!(once(&gateway, &config, name), "{name}");
        assert!(once(&gateway, &config, name), "{name}");
    }
}

#[test]
fn tls_1_2_is_served_and_resumes() {
    let gateway = gateway();
    let config = Arc::new(only(client(gateway.ca.certificate()), &rustls::version::TLS12));
    assert!(!once(&gateway, &config, "a.test"));
    assert!(once(&gateway, &config, "a.test"));
}

#[test]
fn sessions_survive_the_eviction_of_the_leaf() {
    let gateway = gateway();
    let config = Arc::new(client(gateway.ca.certificate()));
    assert!(!once(&gateway, &config, "a.test"));
    for n in 0..3 * Leaves::CAPACITY {
        gateway.intercept.leaves().leaf(&host(&format!("n{n}.test"))).unwrap();
    }
    let minted = gateway.intercept.leaves().minted();
    assert!(once(&gateway, &config, "a.test"));
    assert_eq!(gateway.intercept.leaves().minted(), minted + 1, "it had been evicted");
}

#[test]
fn the_certificate_is_the_targets_also_without_sni_and_with_another() {
    let gateway = gateway();
    let mut config = client(gateway.ca.certificate());
    config.enable_sni = false;
    let (address, server) = serve(gateway.config("a.test"));
    fetch(Arc::new(config), address, "a.test").unwrap();
    assert_eq!(server.join().unwrap().unwrap().sni, None);

    let (address, server) = serve(gateway.config("a.test"));
    let error = fetch(Arc::new(client(gateway.ca.certificate())), address, "b.test").unwrap_err();
    assert_eq!(portcullis::tls::classify(&error), portcullis::policy::Code::TlsWrongHost);
    assert!(server.join().unwrap().is_err());
    assert_eq!(gateway.intercept.leaves().minted(), 1, "none is minted for what the client said");
}

#[test]
fn a_session_of_one_host_never_resumes_in_a_tunnel_to_another() {
    let gateway = gateway();
    for sni in [true, false] {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            // It offers its ticket for a.test wherever it is told that a.test is.
            let mut config = only(client(gateway.ca.certificate()), version);
            config.enable_sni = sni;
            config.resumption = Resumption::in_memory_sessions(64);
            let config = Arc::new(config);
            let through = |target: &str| {
                let (address, server) = serve(gateway.config(target));
                fetch(Arc::clone(&config), address, "a.test").unwrap();
                server.join().unwrap().unwrap().resumed
            };
            assert!(!through("a.test"));
            assert!(through("a.test"), "sni {sni} {version:?}");
            assert!(!through("b.test"), "sni {sni} {version:?}");
        }
    }
}

#[test]
fn a_known_host_costs_no_new_configuration() {
    let gateway = gateway();
    let config = |alpn| gateway.intercept.config(&host("a.test"), alpn).unwrap();
    assert!(Arc::ptr_eq(&config(AlpnSet::Http1), &config(AlpnSet::Http1)));
    assert!(!Arc::ptr_eq(&config(AlpnSet::Http1), &config(AlpnSet::Http2)));
    assert_eq!(gateway.intercept.leaves().minted(), 1);
    assert_eq!(config(AlpnSet::None).max_early_data_size, 0);
}

#[test]
fn alpn_is_negotiated_from_the_set_and_h2_is_preferred() {
    let gateway = gateway();
    let cases: [(AlpnSet, &[&str], Option<&str>); 5] = [
        (AlpnSet::Http2AndHttp1, &["http/1.1", "h2"], Some("h2")),
        (AlpnSet::Http1, &["h2", "http/1.1"], Some("http/1.1")),
        (AlpnSet::Http2, &["h2"], Some("h2")),
        (AlpnSet::None, &["h3"], None),
        (AlpnSet::Http1, &[], None),
    ];
    for (set, offer, chosen) in cases {
        let mut config = client(gateway.ca.certificate());
        config.alpn_protocols = offer.iter().map(|p| p.as_bytes().to_vec()).collect();
        let (address, server) = serve(gateway.intercept.config(&host("a.test"), set).unwrap());
        fetch(Arc::new(config), address, "a.test").unwrap();
        assert_eq!(server.join().unwrap().unwrap().alpn.as_deref(), chosen.map(str::as_bytes));
    }
}

#[test]
fn a_client_without_the_ca_is_told_apart_from_one_that_fails_otherwise() {
    let (gateway, other) = (gateway(), gateway());
    let (address, server) = serve(gateway.config("a.test"));
    fetch(Arc::new(client(other.ca.certificate())), address, "a.test").unwrap_err();
    let error = server.join().unwrap().err().unwrap();
    assert_eq!(client_failure(&error), ClientFailure::DistrustsCa, "{error}");

    let (address, server) = serve(gateway.config("a.test"));
    drop(std::net::TcpStream::connect(address).unwrap());
    let error = server.join().unwrap().err().unwrap();
    assert_eq!(client_failure(&error), ClientFailure::Other);

    let mut config = client(gateway.ca.certificate());
    config.alpn_protocols = vec![b"h3".to_vec()];
    let (address, server) = serve(gateway.config("a.test"));
    fetch(Arc::new(config), address, "a.test").unwrap_err();
    let error = server.join().unwrap().err().unwrap();
    assert_eq!(client_failure(&error), ClientFailure::Other);
}

#[test]
fn leaves_of_an_operators_intermediate_carry_their_chain() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let root = CertifiedIssuer::self_signed(params("root"), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let intermediate = params("intermediate").signed_by(&key, &root).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("ca-key.pem");
    std::fs::write(dir.path().join("ca.pem"), intermediate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let ca = Ca::load_or_create(dir.path()).unwrap();
    let intercept = Intercept::new(Arc::new(Leaves::new(&ca).unwrap())).unwrap();
    let (address, server) = serve(intercept.config(&host("a.test"), AlpnSet::Http1).unwrap());
    fetch(Arc::new(client(root.der())), address, "a.test").unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn the_cheapest_suite_is_agreed_on_whatever_a_client_prefers() {
    let gateway = gateway();
    for (version, agreed) in [
        (&rustls::version::TLS13, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
        (&rustls::version::TLS12, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ] {
        let config = only(client(gateway.ca.certificate()), version);
        let first = config.crypto_provider().cipher_suites[0].suite();
        assert_eq!(first, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384, "what it prefers");
        let name = "origin.test".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = rustls::ServerConnection::new(gateway.config("origin.test")).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), agreed);
    }
}
