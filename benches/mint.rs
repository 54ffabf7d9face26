//! What TLS costs the gateway: minting, a known host, handshakes, and the key exchange upstream.
//!
//! Handshakes run in memory, client and server on one thread: the figures are the CPU of both ends
//! together, except `client/…`, which times the client's share alone.
#![expect(missing_docs, reason = "criterion's macro makes a function without any")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::addr::Host;
use portcullis::tls::{AlpnSet, Ca, Intercept, Leaves, hello};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

struct Bench {
    ca: Ca,
    intercept: Intercept,
    _dir: tempfile::TempDir,
}

fn setup() -> Bench {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ca = Ca::load_or_create(dir.path()).expect("a CA");
    let leaves = Arc::new(Leaves::new(&ca).expect("a leaf key"));
    let intercept = Intercept::new(leaves).expect("ticket keys");
    Bench { ca, intercept, _dir: dir }
}

fn host(text: &str) -> Host {
    Host::parse(text).expect("a host")
}

type Groups = Vec<&'static dyn SupportedKxGroup>;

fn provider(kx_groups: Groups) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups, ..default_provider() })
}

fn client(bench: &Bench, groups: Groups, resumption: Resumption) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(bench.ca.certificate().clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider(groups))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}

/// A whole handshake and the tickets after it; returns the time spent in the client.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Duration {
    let mut spent = Duration::ZERO;
    let name = "example.com".try_into().expect("a name");
    let start = Instant::now();
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    spent += start.elapsed();
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut wire = Vec::with_capacity(16 * 1024);
    while client.wants_write() || server.wants_write() {
        let start = Instant::now();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("a write");
        }
        spent += start.elapsed();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("a read");
            server.process_new_packets().expect("a good client");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("a write");
        }
        let start = Instant::now();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("a read");
            client.process_new_packets().expect("a good server");
        }
        spent += start.elapsed();
        wire.clear();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    spent
}

fn minting(c: &mut Criterion) {
    let bench = setup();
    let mut n = 0_u64;
    c.bench_function("mint/new", |b| {
        b.iter(|| {
            n += 1;
            bench.intercept.leaves().leaf(&host(&format!("n{n}.example.com"))).expect("a leaf")
        });
    });
    let known = host("example.com");
    c.bench_function("mint/known", |b| {
        b.iter(|| bench.intercept.leaves().leaf(black_box(&known)).expect("a leaf"));
    });
    c.bench_function("config/known", |b| {
        b.iter(|| bench.intercept.config(black_box(&known), AlpnSet::Http1).expect("a config"));
    });
}

fn reading(c: &mut Criterion) {
    let bench = setup();
    let groups = provider(vec![kx_group::X25519MLKEM768, kx_group::X25519]).kx_groups.clone();
    let config = client(&bench, groups, Resumption::disabled());
    let name = "example.com".try_into().expect("a name");
    let mut bytes = Vec::new();
    ClientConnection::new(config, name).expect("a client").write_tls(&mut bytes).expect("a write");
    c.bench_function("hello/parse", |b| b.iter(|| hello::parse(black_box(&bytes))));
}

fn downstream(c: &mut Criterion) {
    let bench = setup();
    let server = bench.intercept.config(&host("example.com"), AlpnSet::None).expect("a config");
    let full = client(&bench, vec![kx_group::X25519], Resumption::disabled());
    c.bench_function("downstream/full", |b| b.iter(|| handshake(&full, &server)));
    let resuming = client(&bench, vec![kx_group::X25519], Resumption::in_memory_sessions(64));
    handshake(&resuming, &server);
    c.bench_function("downstream/resumed", |b| b.iter(|| handshake(&resuming, &server)));
    for tickets in [0, 1, 2, 4] {
        let mut server = ServerConfig::clone(&server);
        server.send_tls13_tickets = tickets;
        let server = Arc::new(server);
        c.bench_function(&format!("downstream/full-{tickets}-tickets"), |b| {
            b.iter(|| handshake(&full, &server));
        });
    }
}

fn upstream(c: &mut Criterion) {
    let bench = setup();
    let base = bench.intercept.config(&host("example.com"), AlpnSet::None).expect("a config");
    let server = |groups: Groups| {
        let mut config = ServerConfig::builder_with_provider(provider(groups))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&base.cert_resolver));
        config.send_tls13_tickets = 0;
        Arc::new(config)
    };
    let classical: Groups = vec![kx_group::X25519, kx_group::SECP256R1];
    let hybrid: Groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    let cases = [
        ("x25519", &classical, &classical),
        ("hybrid-first-origin-has-it", &hybrid, &hybrid),
        ("hybrid-first-origin-lacks-it", &hybrid, &classical),
    ];
    for (name, offered, served) in cases {
        let (client, server) =
            (client(&bench, offered.clone(), Resumption::disabled()), server(served.clone()));
        c.bench_function(&format!("both/{name}"), |b| b.iter(|| handshake(&client, &server)));
        c.bench_function(&format!("client/{name}"), |b| {
            b.iter_custom(|times| (0..times).map(|_| handshake(&client, &server)).sum());
        });
    }
}

criterion_group!(benches, minting, reading, downstream, upstream);
criterion_main!(benches);
