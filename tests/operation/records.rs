//! Nothing passes that can't be recorded (I5); traffic files are rotated and kept; metrics and
//! health say how it is.

use crate::common::{self, Gateway, Origin, PATIENCE, Setup, problem, read_response, wait_for};
use crate::operation_kit::{
    echo, echoes, entry, event, full, get, metric, once, open_tunnel, scrape, status,
};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

const METRICS: &str = "metrics: { address: \"127.0.0.1:0\" }\n";

/// Makes the records of the sandbox `default` unwritable: a file where their directory was.
fn break_records(gateway: &Gateway) {
    let dir = gateway.state().join("traffic/default");
    fs::rename(&dir, gateway.dir.path().join("aside")).unwrap();
    // The file that is open is gone from where anyone would look, and so is not written to.
    for file in fs::read_dir(gateway.dir.path().join("aside")).unwrap() {
        let file = file.unwrap().path();
        let kept = gateway.dir.path().join(file.file_name().unwrap());
        fs::copy(&file, kept).unwrap();
        fs::remove_file(file).unwrap();
    }
    fs::write(dir, "in the way").unwrap();
}

#[test]
fn while_records_can_not_be_written_nothing_passes_and_then_all_is_well_again() {
    let (origin, raw) = (Origin::ok("hi"), echo());
    let port = origin.port();
    let policy =
        full("a", "origin.test", port) + &entry("b", "other.test", raw.port(), "protocol: tcp");
    let gateway = Setup::policy(&policy).more(METRICS).start();
    let mut client = gateway.connect();
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    gateway.records(1);
    let mut tunnel = open_tunnel(&gateway, &format!("other.test:{}", raw.port()));
    assert_eq!(scrape(&gateway, "/healthz").0, 200);
    break_records(&gateway);
    // What meets the failure first may pass: its record is kept and written later.
    let mut passed = 1;
    let refusal = wait_for(PATIENCE, || {
        let (status, body) = once(&gateway, "origin.test", port, "/");
        passed += usize::from(status == 200);
        (status == 503).then_some(body)
    });
    assert_eq!(problem(&refusal)["error"], "record_failure");
    let asked = origin.heard().matches("GET ").count();
    assert_eq!(asked, passed);
    for _ in 0..20 {
        assert_eq!(once(&gateway, "origin.test", port, "/").0, 503);
    }
    let mut connect = gateway.connect();
    let authority = format!("other.test:{}", raw.port());
    write!(connect, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert_eq!(status(&read_response(&mut connect).0), 503);
    assert_eq!(origin.heard().matches("GET ").count(), asked, "not one went up");
    let (health, body) = scrape(&gateway, "/healthz");
    assert_eq!((health, body.contains("records")), (503, true), "{body}");
    assert!(metric(&gateway, "portcullis_unrecorded_total") >= 22);
    assert!(gateway.log().contains("can't be written"), "{}", gateway.log());
    // What is open holds its place already.
    echoes(&mut tunnel);
    fs::remove_file(gateway.state().join("traffic/default")).unwrap();
    wait_for(PATIENCE, || (once(&gateway, "origin.test", port, "/").0 == 200).then_some(()));
    assert_eq!(scrape(&gateway, "/healthz").0, 200);
    // Those that passed during the trouble, and the one after it: each has its record.
    assert_eq!(gateway.records(passed).len(), passed);
    assert!(gateway.log().contains("written again"));
}

#[test]
fn files_are_rotated_at_their_size_and_the_oldest_go() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port))
        .more("traffic: { rotate: 16KiB, max_size: 48KiB }\n")
        .start();
    let mut client = gateway.connect();
    let dir = gateway.state().join("traffic/default");
    let sizes = || -> Vec<u64> {
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect()
    };
    let long = "x".repeat(500);
    let mut most = 0;
    for n in 0..400 {
        assert_eq!(get(&mut client, "origin.test", port, &format!("/{n}/{long}")).0, 200);
        if n % 10 == 9 {
            wait_for(PATIENCE, || {
                let last = gateway.records_now("default").pop()?;
                last["path"].as_str().unwrap().starts_with(&format!("/{n}/")).then_some(())
            });
            let sizes = sizes();
            assert!(sizes.iter().sum::<u64>() <= 48 << 10, "{sizes:?}");
            most = most.max(sizes.len());
        }
    }
    assert!(most >= 3, "{most} files");
    let records = gateway.records_now("default");
    let numbers: Vec<usize> = records
        .iter()
        .map(|r| r["path"].as_str().unwrap().split('/').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(numbers.len() < 400 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(numbers.last(), Some(&399));
}

#[test]
fn there_are_never_more_files_than_a_config_allows() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    for most in [1, 3] {
        let gateway = Setup::policy(&full("a", "origin.test", port))
            .more(&format!("traffic: {{ rotate: 16KiB, max_files: {most} }}\n"))
            .start();
        event(&gateway, "default", "policy.loaded", 1);
        let mut client = gateway.connect();
        let dir = gateway.state().join("traffic/default");
        let files = || -> BTreeSet<std::path::PathBuf> {
            let mut all: BTreeSet<_> =
                fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
            // A list is no one moment: what made room for the last may still be in it.
            all.retain(|file| file.exists());
            all
        };
        let (mut seen, mut fullest) = (files(), 0);
        let long = "x".repeat(500);
        let mut asked = 0;
        // However many are written at once.
        while asked < 200 || (seen.len() <= 4 && asked < 5000) {
            assert_eq!(get(&mut client, "origin.test", port, &format!("/{asked}/{long}")).0, 200);
            let now = files();
            assert!(now.len() <= most, "{now:?}");
            fullest = fullest.max(now.len());
            seen.extend(now);
            asked += 1;
        }
        wait_for(PATIENCE, || {
            let now = files();
            assert!(now.len() <= most, "{now:?}");
            seen.extend(now.iter().cloned());
            // One that has just made room is not there to be read.
            let last = fs::read_to_string(now.last()?).unwrap_or_default();
            last.contains(&format!("/{}/", asked - 1)).then_some(())
        });
        assert_eq!(fullest, most);
        assert!(seen.len() > 4, "{seen:?}");
    }
}

#[test]
fn metrics_tell_of_requests_tunnels_and_of_whom_a_listener_turned_away() {
    let (origin, raw) = (Origin::ok("hello"), echo());
    let port = origin.port();
    let policy =
        full("a", "origin.test", port) + &entry("b", "other.test", raw.port(), "protocol: tcp");
    let gateway = Setup::policy(&policy)
        .more(METRICS)
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  - { address: \"127.0.0.2:0\", sandbox: default, allow_uids: [54321] }\n",
        )
        .start();
    let mut client = gateway.connect();
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    assert_eq!(get(&mut client, "nowhere.test", port, "/").0, 403);
    let mut tunnel = open_tunnel(&gateway, &format!("other.test:{}", raw.port()));
    let mut stranger = std::net::TcpStream::connect(gateway.listeners[1]).unwrap();
    common::limits(&stranger);
    assert_eq!(common::read_all(&mut stranger), b"", "not even a refusal");
    gateway.records(2);
    wait_for(PATIENCE, || (metric(&gateway, "portcullis_tunnels") == 1).then_some(()));
    assert_eq!(metric(&gateway, "portcullis_turned_away_total"), 1);
    assert_eq!(metric(&gateway, "portcullis_connections"), 2);
    let page = wait_for(PATIENCE, || {
        let (_, page) = scrape(&gateway, "/metrics");
        page.contains("code=\"host_unknown\"} 1").then_some(page)
    });
    assert!(page.contains("code=\"allowed\"} 1"), "{page}");
    assert!(
        page.contains("portcullis_download_bytes_total{sandbox=\"default\",scheme=\"http\"} 5")
    );
    assert!(!page.contains("origin.test"), "no name that a client chose");
    echoes(&mut tunnel);
    drop(tunnel);
    wait_for(PATIENCE, || (metric(&gateway, "portcullis_tunnels") == 0).then_some(()));
    assert_eq!(scrape(&gateway, "/").0, 404);
}
