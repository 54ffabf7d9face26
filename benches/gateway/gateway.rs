//! The gateway as a process of its own: its config, its start, and what `/proc` says of it.

use crate::load::Lab;
use crate::stop::stop;
use std::fmt::Write;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Names for first visits; each has an entry of its own, which makes the policy one of a thousand.
pub(crate) const NAMES: usize = 1000;
/// Clock ticks a second in `/proc`: fixed for user space on Linux (`USER_HZ`).
const TICKS: u64 = 100;

/// How gateways of this run are started.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) program: PathBuf,
    pub(crate) workers: Option<usize>,
    pub(crate) binaries: bool,
}

/// A running gateway; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) proxy: SocketAddr,
    /// The PEM of its CA.
    pub(crate) ca: String,
    dir: tempfile::TempDir,
}

/// What a process used and holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    /// `None` where they may not be counted.
    pub(crate) files: Option<usize>,
}

/// The name of a first visit.
pub(crate) fn name(number: usize) -> String {
    format!("n{number}.names.test")
}

impl Gateway {
    /// Starts the binary with policy, records and metrics, in a directory of its own.
    pub(crate) fn start(lab: &Lab) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("a file");
        };
        write("policy.yaml", &policy(lab));
        write("origin-ca.pem", &lab.ca.pem);
        write("config.yaml", &config());
        let mut command = Command::new(&lab.choice.program);
        command.args(["gateway", "--config", "config.yaml"]).current_dir(dir.path());
        command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        if let Some(workers) = lab.choice.workers {
            command.env("PORTCULLIS_WORKERS", workers.to_string());
        }
        let errors = std::fs::File::create(dir.path().join("stderr.log")).expect("a file");
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("a process");
        // The banner is one write.
        let mut banner = vec![0; 64 << 10];
        let read = child.stdout.as_mut().map(|out| out.read(&mut banner));
        let banner = String::from_utf8_lossy(&banner[..read.map_or(0, |n| n.unwrap_or(0))]);
        let first = |line: &str| line.split_whitespace().next()?.parse().ok();
        let proxy = banner.lines().find_map(first).unwrap_or_else(|| {
            let log = std::fs::read_to_string(dir.path().join("stderr.log"));
            panic!("the gateway did not start: {banner}{}", log.unwrap_or_default());
        });
        let ca = std::fs::read_to_string(dir.path().join("state/ca.pem")).expect("its CA");
        Self { child, proxy, ca, dir }
    }

    /// What it used and holds now.
    pub(crate) fn usage(&self) -> Usage {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let stat = std::fs::read_to_string(proc.join("stat")).expect("a running gateway");
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Usage {
            cpu: Duration::from_millis((number(11) + number(12)) * 1000 / TICKS),
            rss_kib: rss.unwrap_or(0),
            threads: number(17),
            files: std::fs::read_dir(proc.join("fd")).ok().map(Iterator::count),
        }
    }

    /// What it logged that is no information.
    pub(crate) fn complaints(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("stderr.log")).unwrap_or_default();
        log.lines().filter(|line| !line.contains(" INFO ")).take(5).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        stop(&mut self.child);
        let complaints = self.complaints();
        if !complaints.is_empty() {
            eprintln!("the gateway said:\n{complaints}");
        }
    }
}

fn config() -> String {
    let mut hosts = String::from("    origin.test: [127.0.0.1]\n    tunnel.test: [127.0.0.1]\n");
    for number in 0..NAMES {
        let _ = writeln!(hosts, "    {}: [127.0.0.1]", name(number));
    }
    format!(
        "version: 1\nstate_dir: state\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n\
         sandboxes:\n  default: {{ policy: [policy.yaml] }}\n\
         upstream:\n  ca_files: [origin-ca.pem]\n  allow_internal: [127.0.0.1/32]\n  hosts:\n{hosts}\
         traffic: {{ rotate: 16MiB, max_size: 64MiB }}\nmetrics: {{ address: \"127.0.0.1:0\" }}\n"
    )
}

fn policy(lab: &Lab) -> String {
    let own = std::env::current_exe().expect("this program's path");
    let binaries = match lab.choice.binaries {
        true => format!("    binaries: [{{ path: {:?} }}]\n", own.display().to_string()),
        false => String::new(),
    };
    let rest = |port: u16| {
        format!(
            "port: {port}, protocol: rest, enforcement: enforce, rules: [{{ allow: {{ method: GET, path: \"/**\" }} }}]"
        )
    };
    let (plain, tls, bulk) = (lab.origin.plain, lab.origin.tls.port(), lab.origin.bulk.port());
    let mut text = format!(
        "version: 1\nnetwork_policies:\n  bench:\n    endpoints:\n      \
         - {{ host: origin.test, {plain} }}\n      - {{ host: origin.test, {tls} }}\n      \
         - {{ host: origin.test, port: {bulk}, protocol: tcp }}\n      \
         - {{ host: tunnel.test, port: {port}, protocol: tcp }}\n{binaries}",
        plain = rest(plain.port()),
        tls = rest(tls),
        port = plain.port(),
    );
    for number in 0..NAMES {
        let host = name(number);
        let _ = write!(
            text,
            "  n{number}:\n    endpoints:\n      - {{ host: {host}, {} }}\n{binaries}",
            rest(tls)
        );
    }
    text
}
