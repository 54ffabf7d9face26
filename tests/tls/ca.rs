//! The CA's files: made once, private, whole, and refused when something is wrong with them.

use crate::tls_kit;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime};

use portcullis::tls::{Ca, CaError, Leaves};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use x509_parser::prelude::FromDer;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Puts an operator's own CA into a directory.
fn own_ca(dir: &Path, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Own CA");
    params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3600 * 1000)).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    fs::write(dir.join("ca.pem"), params.self_signed(key).unwrap().pem()).unwrap();
    fs::write(dir.join("ca-key.pem"), key.serialize_pem()).unwrap();
    set_mode(&dir.join("ca-key.pem"), 0o600);
}

#[test]
fn a_first_start_makes_a_private_directory_and_key_and_a_second_start_keeps_them() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state/portcullis");
    let first = Ca::load_or_create(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("ca-key.pem")), 0o600);
    assert_eq!(mode(&dir.join("ca.pem")), 0o644);
    let second = Ca::load_or_create(&dir).unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert_eq!(first.certificate_pem(), fs::read_to_string(dir.join("ca.pem")).unwrap());
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca-key.pem", "ca.lock", "ca.pem"], "no temporary file is left");
}

#[test]
fn the_ca_can_sign_leaves_only_and_its_name_is_its_own() {
    let (one, two) = (tls_kit::gateway(), tls_kit::gateway());
    let (_, parsed) =
        x509_parser::certificate::X509Certificate::from_der(one.ca.certificate()).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    let (_, other) =
        x509_parser::certificate::X509Certificate::from_der(two.ca.certificate()).unwrap();
    assert!(parsed.subject().to_string().starts_with("CN=Portcullis CA "));
    assert_ne!(parsed.subject(), other.subject());
    let left = one.ca.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left <= Ca::LIFETIME && left > Ca::LIFETIME - Duration::from_secs(60));
}

#[test]
fn many_starts_at_once_give_one_ca() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Arc::new(Barrier::new(16));
    let starts: Vec<_> = (0..16)
        .map(|_| {
            let (dir, barrier) = (dir.path().to_owned(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                Ca::load_or_create(&dir).unwrap().fingerprint()
            })
        })
        .collect();
    let mut prints: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    prints.dedup();
    assert_eq!(prints.len(), 1);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    Ca::load_or_create(dir.path()).unwrap();
    for bits in [0o640, 0o604, 0o660, 0o602] {
        set_mode(&dir.path().join("ca-key.pem"), bits);
        let error = Ca::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, CaError::KeyMode { mode, .. } if mode == bits));
        assert!(error.to_string().contains("chmod 600 "), "{error}");
    }
    set_mode(&dir.path().join("ca-key.pem"), 0o400);
    Ca::load_or_create(dir.path()).unwrap();
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bits in [0o770, 0o707, 0o1777] {
        set_mode(dir.path(), bits);
        let error = Ca::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, CaError::Directory { .. }), "{error}");
    }
    assert!(!dir.path().join("ca-key.pem").exists());
}

#[test]
fn half_a_pair_is_refused_and_never_replaced() {
    for missing in ["ca.pem", "ca-key.pem"] {
        let dir = tempfile::tempdir().unwrap();
        Ca::load_or_create(dir.path()).unwrap();
        fs::remove_file(dir.path().join(missing)).unwrap();
        let error = Ca::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, CaError::Half { .. }) && error.to_string().contains(missing));
        assert!(!dir.path().join(missing).exists());
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Ca::load_or_create(dir.path()).unwrap();
    fs::write(dir.path().join("ca-key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::Mismatch { .. })));
    Ca::rotate(dir.path()).unwrap();
    Ca::load_or_create(dir.path()).unwrap();
}

#[test]
fn an_expired_a_future_and_a_plain_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let minute = Duration::from_secs(60);
    own_ca(dir.path(), &key, |p| p.not_after = (SystemTime::now() - minute).into());
    let error = Ca::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, CaError::Expired { .. }));
    assert!(error.to_string().contains("portcullis ca rotate"), "{error}");
    own_ca(dir.path(), &key, |p| p.not_before = (SystemTime::now() + minute).into());
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::NotYetValid { .. })));
    own_ca(dir.path(), &key, |p| p.is_ca = IsCa::ExplicitNoCa);
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::NotCa { .. })));
    own_ca(dir.path(), &key, |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(matches!(Ca::load_or_create(dir.path()), Err(CaError::NotCa { .. })));
}

#[test]
fn garbage_in_either_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, junk) in [("ca.pem", ""), ("ca.pem", "x"), ("ca-key.pem", ""), ("ca-key.pem", "x")] {
        Ca::rotate(dir.path()).unwrap();
        fs::write(dir.path().join(name), junk).unwrap();
        let error = Ca::load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_operators_own_ca_of_any_usual_kind_signs_leaves() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let dir = tempfile::tempdir().unwrap();
        own_ca(dir.path(), &KeyPair::generate_for(algorithm).unwrap(), |_| {});
        let ca = Ca::load_or_create(dir.path()).unwrap_or_else(|e| panic!("{algorithm:?}: {e}"));
        Leaves::new(&ca).unwrap().leaf(&tls_kit::host("example.com")).unwrap();
    }
}

#[test]
fn keys_as_openssl_writes_them_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, certificate) = (path("ca-key.pem"), path("ca.pem"));
    let made: [&[&str]; 3] = [
        &["genrsa", "-traditional", "-out", &key, "2048"],
        &["ecparam", "-name", "prime256v1", "-genkey", "-out", &key],
        &["genpkey", "-algorithm", "ed25519", "-out", &key],
    ];
    for arguments in made {
        let Some(output) = tls_kit::run("openssl", arguments, "") else { return };
        assert!(output.status.success(), "{}", tls_kit::text(&output));
        let request = ["req", "-x509", "-new", "-key", &key, "-out", &certificate, "-days", "30"];
        // Two OUs and a comma: a subject that is easily not written again as it was.
        let subject = ["-subj", "/C=DE/O=Firma, Inc./OU=one/CN=Own CA"];
        let output = tls_kit::run("openssl", &[&request[..], &subject[..]].concat(), "").unwrap();
        assert!(output.status.success(), "{}", tls_kit::text(&output));
        set_mode(&dir.path().join("ca-key.pem"), 0o600);
        Ca::load_or_create(dir.path()).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    }
    let subject = "/O=Firma/OU=one/OU=two/CN=Own CA";
    let request = ["req", "-x509", "-new", "-key", &key, "-out", &certificate, "-subj", subject];
    assert!(tls_kit::run("openssl", &request, "").unwrap().status.success());
    let error = Ca::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, CaError::Unusable { .. }), "{error}");
}

#[test]
fn the_bundle_holds_both_and_is_rewritten_only_when_it_changes() {
    let gateway = tls_kit::gateway();
    let system = tls_kit::gateway();
    let roots = [system.ca.certificate().clone()];
    let path = gateway.ca.write_bundle(gateway.dir.path(), &roots).unwrap();
    assert_eq!(path, gateway.dir.path().join("ca-bundle.pem"));
    assert_eq!(mode(&path), 0o644);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&gateway.ca.certificate_pem()));
    assert!(text.contains(&system.ca.certificate_pem()));
    assert!(!text.contains("PRIVATE"));
    let inode = || fs::metadata(&path).unwrap().ino();
    let before = inode();
    gateway.ca.write_bundle(gateway.dir.path(), &roots).unwrap();
    assert_eq!(inode(), before);
    gateway.ca.write_bundle(gateway.dir.path(), &[]).unwrap();
    assert_ne!(inode(), before);
    assert_eq!(fs::read_to_string(&path).unwrap(), gateway.ca.certificate_pem());
}

#[test]
fn debug_shows_nothing_of_the_key() {
    let gateway = tls_kit::gateway();
    let key = fs::read_to_string(gateway.dir.path().join("ca-key.pem")).unwrap();
    let shown = format!("{:?} {:?}", gateway.ca, gateway.intercept);
    assert!(shown.contains(&gateway.ca.fingerprint()));
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
}
