//! Leaves: what stands in them, for how long, and how many are minted.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::tls_kit::{Gateway, gateway, host, roots};
use portcullis::tls::Leaves;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: i64 = 24 * 3600;

fn der(gateway: &Gateway, name: &str) -> CertificateDer<'static> {
    let leaf = gateway.intercept.leaves().leaf(&host(name)).unwrap();
    assert_eq!(leaf.cert.len(), 1, "a root is not sent");
    leaf.cert[0].clone()
}

fn verify(gateway: &Gateway, leaf: &str, name: &str, now: SystemTime) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new(roots(gateway.ca.certificate()));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&der(gateway, leaf), &[], &name, &[], now).map(drop)
}

#[test]
fn a_leaf_says_server_no_ca_and_the_two_key_identifiers() {
    let gateway = gateway();
    let der = der(&gateway, "api.example.com");
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let (_, ca) = X509Certificate::from_der(gateway.ca.certificate()).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=api.example.com");
    assert_eq!(leaf.issuer().as_raw(), ca.subject().as_raw());
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName("api.example.com")]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature alone");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let identifiers: Vec<String> = leaf.extensions().iter().map(|e| e.oid.to_id_string()).collect();
    for identifier in ["2.5.29.14", "2.5.29.35"] {
        assert!(identifiers.iter().any(|i| i == identifier), "{identifier} is missing");
    }
    assert_ne!(leaf.public_key().raw, ca.public_key().raw, "another key than the CA's");
}

#[test]
fn a_leaf_lives_at_most_a_week_and_began_a_day_or_two_ago() {
    let gateway = gateway();
    let der = der(&gateway, "example.com");
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let now =
        i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
            .unwrap();
    let (from, to) =
        (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert!((DAY..=2 * DAY).contains(&(now - from)));
    assert!(to - from < 7 * DAY && to - now > 4 * DAY);
}

#[test]
fn clients_with_a_clock_that_is_a_day_off_accept_it() {
    let gateway = gateway();
    let day = Duration::from_secs(24 * 3600);
    for now in [SystemTime::now() - day, SystemTime::now(), SystemTime::now() + day] {
        verify(&gateway, "example.com", "example.com", now).unwrap();
    }
    let now = SystemTime::now();
    assert!(verify(&gateway, "example.com", "other.com", now).is_err());
}

#[test]
fn an_address_stands_in_the_san_as_an_address() {
    let gateway = gateway();
    for text in ["192.0.2.7", "2001:db8::7"] {
        let der = der(&gateway, text);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        let octets = match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        assert_eq!(*names, [GeneralName::IPAddress(&octets)]);
        verify(&gateway, text, text, SystemTime::now()).unwrap();
    }
}

#[test]
fn a_name_too_long_for_a_common_name_stands_in_the_san_alone() {
    let gateway = gateway();
    let label = "a".repeat(63);
    for name in [format!("{label}.b"), format!("{label}.{label}.{label}.{}", "c".repeat(61))] {
        let der = der(&gateway, &name);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        assert!(name.len() > 64 && leaf.subject().iter().next().is_none());
        assert!(leaf.subject_alternative_name().unwrap().unwrap().critical);
        verify(&gateway, &name, &name, SystemTime::now()).unwrap();
    }
    let fits = format!("{}.b", "a".repeat(62));
    let der = der(&gateway, &fits);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.subject().to_string(), format!("CN={fits}"));
}

#[test]
fn serials_are_random_positive_and_sixteen_bytes() {
    let gateway = gateway();
    let mut serials = HashSet::new();
    for n in 0..200 {
        let der = der(&gateway, &format!("n{n}.example.com"));
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let serial = leaf.raw_serial().to_vec();
        assert_eq!(serial.len(), 16);
        assert!((0x40..0x80).contains(&serial[0]));
        assert!(serials.insert(serial[..8].to_vec()), "the first half alone is unique");
    }
}

#[test]
fn a_stampede_on_a_thousand_names_mints_each_once() {
    let leaves = Arc::new(Leaves::new(&gateway().ca).unwrap());
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (leaves, barrier) = (Arc::clone(&leaves), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                for n in 0..1000 {
                    leaves.leaf(&host(&format!("n{n}.example.com"))).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((leaves.minted(), leaves.cached()), (1000, 1000));
}

#[test]
fn a_hundred_askers_for_one_name_get_one_leaf() {
    let leaves = Arc::new(Leaves::new(&gateway().ca).unwrap());
    let barrier = Arc::new(Barrier::new(100));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (leaves, barrier) = (Arc::clone(&leaves), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                leaves.leaf(&host("example.com")).unwrap()
            })
        })
        .collect();
    let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(all.iter().all(|leaf| Arc::ptr_eq(leaf, &all[0])));
    assert_eq!(leaves.minted(), 1);
}

#[test]
fn the_cache_is_bounded_and_not_cleared_when_full() {
    let leaves = Leaves::new(&gateway().ca).unwrap();
    let used = host("used.example.com");
    let first = leaves.leaf(&used).unwrap();
    for n in 0..Leaves::CAPACITY + 500 {
        leaves.leaf(&host(&format!("n{n}.example.com"))).unwrap();
        assert!(Arc::ptr_eq(&first, &leaves.leaf(&used).unwrap()));
    }
    assert!(leaves.cached() <= Leaves::CAPACITY);
    assert!(leaves.cached() > Leaves::CAPACITY / 2);
}
