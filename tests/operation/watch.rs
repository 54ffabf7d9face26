//! Files that change in ways that no event tells of, or that are read while they are written: they
//! are seen all the same, and never read half (security.md 23).

use crate::approval_kit::Control;
use crate::common::{Gateway, Origin, PATIENCE, Setup, wait_for};
use crate::operation_kit::{event, full, once, reload};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

fn policy(entries: &str) -> String {
    format!("version: 1\nnetwork_policies:\n{entries}")
}

/// Points the link `at` to `target` with one step.
fn point(at: &Path, target: &str) {
    let fresh = at.with_extension("fresh");
    symlink(target, &fresh).unwrap();
    fs::rename(fresh, at).unwrap();
}

fn reloads(gateway: &Gateway) -> usize {
    gateway.log().matches("reloading").count()
}

#[test]
fn a_directory_that_is_replaced_with_a_gap_is_watched_again() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let dir = Setup::policy(&full("a", "origin.test", port)).write();
    let at = dir.path().to_owned();
    let (conf, fresh) = (at.join("conf"), at.join("fresh"));
    for place in [&conf, &fresh] {
        fs::create_dir(place).unwrap();
        for name in ["config.yaml", "policy.yaml", "origin-ca.pem"] {
            fs::copy(at.join(name), place.join(name)).unwrap();
        }
    }
    fs::write(fresh.join("policy.yaml"), policy(&full("a", "other.test", port))).unwrap();
    let gateway = Gateway::spawn(dir, &["--config", "conf/config.yaml"], &[]);
    fs::rename(&conf, at.join("old")).unwrap();
    event(&gateway, "default", "policy.rejected", 1);
    fs::rename(&fresh, &conf).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
    // What changes in it from now on is seen, too.
    fs::write(conf.join("policy.yaml"), policy(&full("b", "origin.test", port))).unwrap();
    event(&gateway, "default", "policy.loaded", 3);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
}

#[test]
fn a_directory_that_is_a_link_and_is_pointed_elsewhere_is_a_change() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let dir = Setup::policy(&full("a", "origin.test", port)).write();
    let at = dir.path().to_owned();
    for (name, host) in [("v1", "origin.test"), ("v2", "other.test")] {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join("policy.yaml"), policy(&full("a", host, port))).unwrap();
    }
    fs::create_dir(at.join("links")).unwrap();
    point(&at.join("links/current"), "../v1");
    let config = fs::read_to_string(at.join("config.yaml")).unwrap();
    let config = config.replace("[policy.yaml]", "[links/current/policy.yaml]");
    fs::write(at.join("config.yaml"), config).unwrap();
    let gateway = Gateway::spawn(dir, &["--config", "config.yaml"], &[]);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    point(&at.join("links/current"), "../v2");
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
}

#[test]
fn a_link_in_the_middle_that_is_pointed_elsewhere_is_a_change() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let dir = Setup::policy(&full("a", "origin.test", port)).write();
    let at = dir.path().to_owned();
    for (name, host) in [("v1", "origin.test"), ("v2", "other.test")] {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join("policy.yaml"), policy(&full("a", host, port))).unwrap();
    }
    fs::create_dir(at.join("links")).unwrap();
    point(&at.join("links/middle"), "../v1/policy.yaml");
    point(&at.join("policy.yaml"), "links/middle");
    let gateway = Gateway::spawn(dir, &["--config", "config.yaml"], &[]);
    point(&at.join("links/middle"), "../v2/policy.yaml");
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
}

#[test]
fn a_file_that_is_being_written_is_read_when_its_writer_has_closed_it() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let (half, rest) = (policy(&full("a", "other.test", port)), full("b", "origin.test", port));
    let mut file = File::create(gateway.dir.path().join("policy.yaml")).unwrap();
    // The half is a policy, too.
    file.write_all(half.as_bytes()).unwrap();
    let began = Instant::now();
    wait_for(PATIENCE, || {
        assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
        (began.elapsed() > Duration::from_millis(1500)).then_some(())
    });
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "other.test", port, "/").0, 200);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    assert_eq!(reloads(&gateway), 1, "{}", gateway.log());
}

#[test]
fn a_writer_that_never_closes_the_file_keeps_it_from_being_read_for_a_while_only() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut file = File::create(gateway.dir.path().join("policy.yaml")).unwrap();
    file.write_all(policy(&full("a", "other.test", port)).as_bytes()).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    assert!(gateway.log().contains("read all the same"), "{}", gateway.log());
    drop(file);
    // A person who asks for it does not wait.
    let mut file = File::create(gateway.dir.path().join("policy.yaml")).unwrap();
    file.write_all(policy(&full("b", "origin.test", port)).as_bytes()).unwrap();
    gateway.signal("HUP");
    let began = Instant::now();
    event(&gateway, "default", "policy.loaded", 3);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_policy_that_becomes_a_pipe_is_refused_and_nothing_waits_for_its_writer() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let mut gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let at = gateway.dir.path().to_owned();
    for name in ["policy.yaml", "config.yaml"] {
        let (file, kept) = (at.join(name), at.join("kept"));
        fs::rename(&file, &kept).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        let rejected = wait_for(PATIENCE, || {
            let status = Control::of(&gateway).sandbox("default");
            let text = status["rejected"].as_str().map(str::to_owned);
            text.filter(|text| text.contains("not a regular file"))
        });
        assert!(rejected.contains(name) && rejected.contains("fix:"), "{rejected}");
        fs::rename(&kept, &file).unwrap();
        wait_for(PATIENCE, || {
            Control::of(&gateway).sandbox("default")["rejected"].is_null().then_some(())
        });
    }
    reload(&gateway, &full("a", "other.test", port), 2);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}
