//! What the pane costs: the real binary on a real terminal (tmux), 1,000 entries that wait, 60
//! changes and 5,000 requests a second. Goals: first picture below 100 ms, 60 pictures a second,
//! less than 10% of a core.
//!
//! `cargo bench --bench pane` measures; `cargo bench --bench pane -- serve SOCKET` only serves the
//! control socket, for looking at the pane by hand.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[allow(dead_code, unreachable_pub, reason = "the tests use the rest of it")]
#[path = "../tests/tui/tui_kit/gateway.rs"]
mod gateway;
#[allow(dead_code, unreachable_pub, reason = "the tests use the rest of it")]
#[path = "../tests/tui/tui_kit/samples.rs"]
mod samples;

use gateway::{Fake, Served};
use portcullis::addr::{Host, Port};
use portcullis::control::feed::Feed;
use portcullis::policy::{Client, Code, Process, Scheme};
use portcullis::record::{By, Http, Id, Judged, Outcome, PolicyId, Record, Sink, Timings};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Entries that wait.
const ENTRIES: u64 = 1000;
/// Changes a second.
const CHANGES: u32 = 60;
/// Requests for each change: 5,000 a second.
const REQUESTS: u32 = 5000 / CHANGES;
/// How long each measurement takes.
const SPAN: Duration = Duration::from_secs(10);
/// Clock ticks a second, as /proc counts them on Linux.
const TICKS: f64 = 100.0;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    if args.next().as_deref() == Some("serve") {
        serve(&PathBuf::from(args.next().expect("serve SOCKET")));
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(tmux) = Tmux::open(dir.path()) else {
        println!("skipped: tmux is not installed");
        return;
    };
    let socket = dir.path().join("run/control.sock");
    let served = Served::new(Fake::new(samples::many(ENTRIES)), &socket);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(served.fake.clone(), served.feed.clone(), stop.clone());
    tmux.start(&socket);
    for (pane, name) in [("1", "Pending"), ("2", "Traffic"), ("5", "Sandboxes")] {
        tmux.run(&["send-keys", pane]);
        std::thread::sleep(Duration::from_secs(1));
        tmux.measure(name);
    }
    tmux.run(&["send-keys", "q"]);
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
}

/// Serves the samples, with a little traffic, until it is killed.
fn serve(socket: &Path) -> ! {
    let now = jiff::Timestamp::now();
    let at = |seconds| (now + jiff::SignedDuration::from_secs(seconds)).to_string();
    let mut requests = samples::requests();
    for (request, age) in requests.iter_mut().rev().zip(3..) {
        (request.first_seen, request.last_seen) = (at(-age), at(-age));
        request.held_until = (request.held > 0).then(|| at(60 - age));
        request.expires = at(86_400 - age);
    }
    let served = Served::new(Fake::new(requests), socket);
    let mut feed = served.feed.clone();
    loop {
        feed.record(&record());
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn record() -> Record {
    let now = SystemTime::now();
    Record {
        time: now,
        id: Id::new(now),
        sandbox: "agent".into(),
        client: Client::Seen(Arc::new(Process {
            pid: 812,
            binary: "/usr/bin/curl".into(),
            ancestors: ["/usr/bin/bash".into()].into(),
        })),
        scheme: Scheme::Https,
        http: Some(Http::V1_1),
        host: Some(Host::parse("api.github.com").unwrap()),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some("/repos/a/b?state=open&page=2".parse().unwrap()),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: Some("github/endpoints[0]/rules[0]".into()),
        outcome: Outcome::Passed,
        by: By::Policy,
        sent: true,
        address: "140.82.112.5".parse().ok(),
        status: Some(200),
        upload: 0,
        download: 5120,
        ms: Timings {
            judge: Duration::from_nanos(900),
            held: Duration::ZERO,
            connect: Duration::from_micros(21_400),
            first_byte: Some(Duration::from_micros(88_012)),
            total: Duration::from_micros(90_231),
        },
        policy: PolicyId([0x9f; 32]),
        request: None,
        approval: None,
        credential: None,
        facts: None,
        call: None,
        websocket: false,
    }
}

/// Changes and traffic, until it is told to stop.
fn load(fake: Arc<Fake>, mut feed: Feed, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let record = record();
        let mut entries = samples::many(ENTRIES);
        let started = Instant::now();
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let at = (turn as usize * 7) % entries.len();
            entries[at].count += 1;
            fake.put(entries[at].clone());
            for _ in 0..REQUESTS {
                feed.record(&record);
            }
            let due = started + Duration::from_secs(1) * turn / CHANGES;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    })
}

struct Tmux(PathBuf);

impl Tmux {
    fn open(dir: &Path) -> Option<Self> {
        Command::new("tmux").arg("-V").output().ok()?;
        let tmux = Self(dir.to_owned());
        tmux.run(&["new-session", "-d", "-x", "120", "-y", "40", "env", "PS1=$ ", "sh"]);
        Some(tmux)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.0.join("tmux")).args(["-f", "/dev/null"]).args(args);
        tmux.env_remove("TMUX").output().unwrap()
    }

    fn start(&self, socket: &Path) {
        let raw = self.0.join("raw");
        let binary = env!("CARGO_BIN_EXE_portcullis");
        let command = format!("exec {binary} term --socket {}", socket.display());
        self.run(&["send-keys", "-l", &command]);
        std::thread::sleep(Duration::from_millis(500));
        self.run(&["pipe-pane", "-o", &format!("cat > {}", raw.display())]);
        std::thread::sleep(Duration::from_millis(500));
        let started = Instant::now();
        self.run(&["send-keys", "Enter"]);
        while !std::fs::read(&raw).is_ok_and(|raw| has(&raw, b"Sandboxes")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("first picture: {:.0} ms, with tmux on both sides", ms(started));
        // What is drawn is what changed: only the terminal has the whole.
        let all = format!("{ENTRIES} wait");
        while !has(&self.run(&["capture-pane", "-p"]).stdout, all.as_bytes()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("first picture with all {ENTRIES} entries read: {:.0} ms", ms(started));
    }

    fn measure(&self, name: &str) {
        let raw = self.0.join("raw");
        let pid = self.run(&["display", "-p", "#{pane_pid}"]).stdout;
        let pid = String::from_utf8(pid).unwrap().trim().to_owned();
        let before = (cpu(&pid), pictures(&raw));
        let started = Instant::now();
        std::thread::sleep(SPAN);
        let seconds = started.elapsed().as_secs_f64();
        let (busy, drawn) = (cpu(&pid) - before.0, pictures(&raw) - before.1);
        println!(
            "{name}: {:.1}% of a core, {:.1} pictures a second, {} resident",
            100.0 * busy / TICKS / seconds,
            f64::from(u32::try_from(drawn).unwrap()) / seconds,
            resident(&pid)
        );
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

fn ms(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}

fn has(raw: &[u8], what: &[u8]) -> bool {
    raw.windows(what.len()).any(|window| window == what)
}

/// Pictures that were drawn: each begins a synchronised update.
fn pictures(raw: &Path) -> usize {
    let raw = std::fs::read(raw).unwrap();
    raw.windows(8).filter(|window| *window == b"\x1b[?2026h").count()
}

/// The user's and the system's time of a process, in ticks.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

fn resident(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.trim_start_matches("VmRSS:").trim().to_owned()
}
