//! `dry-run` over a generated recording, beside `jq` and Python's `json` that only count the
//! verdicts of the same file. Goals: a million records a second from JSONL and 300,000 from gzip
//! on two cores, and memory that does not grow with the file.
//!
//! `cargo bench --bench replay -- --records 10000000`: 10 million records are some 7.5 GB in the
//! directory for temporary files; `--no-others` leaves `jq` and Python out, `--program PATH` measures another
//! build.

use portcullis::addr::{Host, Port};
use portcullis::policy::{Client, Code, Process, Scheme};
use portcullis::record::{By, Http, Id, Judged, Outcome, PolicyId, Record, Timings};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Host, path (`{}` is a number that changes), query, how many numbers.
const ASKED: [(&str, &str, Option<&str>, u64); 8] = [
    ("api.github.com", "/repos/acme/site/issues/{}", Some("state=open&per_page=100"), 5000),
    ("api.github.com", "/repos/acme/lib/pulls/{}/files", None, 800),
    ("pypi.org", "/simple/package-{}/", None, 3000),
    ("files.pythonhosted.org", "/packages/b7/ce/six-{}.whl", None, 3000),
    ("registry.npmjs.org", "/left-pad-{}", None, 4000),
    ("api.anthropic.com", "/v1/messages", None, 1),
    ("index.crates.io", "/se/rd/serde-{}", None, 2000),
    ("example.com", "/unknown/{}", Some("q=x"), 9000),
];

const POLICY: &str = "version: 1
network_policies:
  github:
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: { method: GET, path: \"/repos/*/*/issues/*\", query: { state: open } }
        deny_rules:
          - { method: DELETE, path: \"/**\" }
    binaries: [{ path: \"/usr/bin/**\" }]
  packages:
    endpoints:
      - { host: pypi.org, port: 443, protocol: rest, enforcement: enforce, access: read-only }
      - { host: files.pythonhosted.org, port: 443, protocol: rest, enforcement: enforce, access: read-only }
      - { host: \"*.crates.io\", port: 443, protocol: rest, enforcement: audit, access: read-only }
      - { host: registry.npmjs.org, port: 443, protocol: rest, enforcement: enforce, rules: [{ allow: { method: GET, path: \"/*\" } }] }
";

struct Args {
    records: u64,
    others: bool,
    program: PathBuf,
}

fn args() -> Args {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_portcullis"));
    let mut args = Args { records: 1_000_000, others: true, program };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--records" => {
                let count = given.next().and_then(|count| count.parse().ok());
                args.records = count.expect("--records takes a number");
            }
            "--no-others" => args.others = false,
            "--program" => args.program = given.next().expect("--program takes a path").into(),
            "--bench" => {}
            other => panic!("{other} is not known: --records N, --no-others, --program PATH"),
        }
    }
    args
}

/// The `at`th record of the recording.
fn record(at: u64, sandboxes: &[Arc<str>], start: SystemTime) -> Record {
    let (host, path, query, many) = ASKED[usize::try_from(at * 7 % 8).expect("small")];
    let number = at * 2_654_435_761 % 4_294_967_296 % many;
    let mut target = path.replace("{}", &number.to_string());
    if let Some(query) = query {
        target = format!("{target}?{query}");
    }
    let time = start + Duration::from_micros(at * 1700);
    let known = host != "example.com";
    Record {
        time,
        id: Id::new(time),
        sandbox: sandboxes[usize::try_from(at % 3).expect("small")].clone(),
        client: Client::Seen(Arc::new(Process {
            pid: u32::try_from(1000 + at % 60_000).expect("small"),
            binary: if at.is_multiple_of(2) {
                "/usr/bin/curl".into()
            } else {
                "/usr/bin/node".into()
            },
            ancestors: ["/usr/bin/bash".into(), "/usr/bin/agent".into()].into(),
        })),
        scheme: Scheme::Https,
        http: Some(Http::V2),
        host: Host::parse(host).ok(),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: target.parse().ok(),
        verdict: if known { Judged::Allow } else { Judged::Unknown },
        code: if known { Code::Allowed } else { Code::HostUnknown },
        rule: known.then(|| "recorded/endpoints[0]/rules[0]".into()),
        outcome: if known { Outcome::Passed } else { Outcome::Refused },
        by: By::Policy,
        request: None,
        approval: None,
        credential: None,
        sent: known,
        address: known.then(|| "140.82.112.5".parse().ok()).flatten(),
        status: Some(if known { 200 } else { 403 }),
        upload: 0,
        download: at % 90_000,
        ms: Timings {
            judge: Duration::from_nanos(900),
            held: Duration::ZERO,
            connect: Duration::from_micros(21_400),
            first_byte: Some(Duration::from_micros(80_000 + at % 9000)),
            total: Duration::from_micros(90_000 + at % 9000),
        },
        policy: PolicyId([0x9f; 32]),
        facts: None,
        call: None,
        websocket: false,
    }
}

fn write(path: &Path, records: u64) {
    let names: [Arc<str>; 3] = ["agent".into(), "ci".into(), "default".into()];
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file"));
    let mut line = Vec::with_capacity(1024);
    for at in 0..records {
        line.clear();
        record(at, &names, start).write_line(1, &mut line);
        file.write_all(&line).expect("room for the recording");
    }
    file.flush().expect("room for the recording");
}

fn pack(from: &Path, to: &Path) {
    let mut file = File::open(from).expect("the recording");
    let packed = BufWriter::new(File::create(to).expect("a file"));
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::default());
    std::io::copy(&mut file, &mut packed).expect("room for the packed recording");
    packed.finish().expect("room").flush().expect("room");
}

/// How long it took, and the most memory it had at once (KiB).
fn timed(command: &mut Command) -> Option<(Duration, u64)> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stdin(Stdio::null()).spawn().ok()?;
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        if let Some(done) = child.try_wait().expect("a child") {
            assert!(done.success(), "{command:?} failed");
            return Some((started.elapsed(), most));
        }
        let now = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = now.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        most = most.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn row(name: &str, records: u64, took: Option<(Duration, u64)>, ours: Option<f64>) -> f64 {
    let Some((took, peak)) = took else {
        println!("{name:<28} not installed");
        return 0.0;
    };
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = records as f64 / seconds;
    let ratio = ours.map(|ours| format!("{:>7.1}x slower", ours / rate)).unwrap_or_default();
    println!("{name:<28} {seconds:>8.2} s {rate:>12.0} records/s {peak:>8} KiB {ratio}");
    rate
}

const COUNT: &str = "import sys, json, collections
counts = collections.Counter()
for line in open(sys.argv[1]): counts[json.loads(line)['verdict']] += 1
print(counts)";

fn main() {
    let args = args();
    let dir = tempfile::tempdir().expect("a directory");
    let (lines, gzip) = (dir.path().join("recording.jsonl"), dir.path().join("recording.jsonl.gz"));
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).expect("room for a policy");
    let count = args.records;
    write(&lines, count);
    let size = std::fs::metadata(&lines).map_or(0, |meta| meta.len());
    println!("{count} records, {} MiB, {} bytes each", size >> 20, size / count.max(1));
    let dry_run = |more: &[&str], file: &Path| {
        let mut command = Command::new(&args.program);
        command.arg("dry-run").arg("--policy").arg(&policy).args(more).arg(file);
        timed(&mut command)
    };
    let ours = row("dry-run, JSONL", count, dry_run(&[], &lines), None);
    row("dry-run -o json, JSONL", count, dry_run(&["-o", "json"], &lines), None);
    let against = policy.to_string_lossy().into_owned();
    row("dry-run --against, JSONL", count, dry_run(&["--against", &against], &lines), None);
    if args.others {
        let program = "reduce inputs as $r ({}; .[$r.verdict] += 1)";
        let jq = timed(Command::new("jq").args(["-n", program]).arg(&lines));
        row("jq, counting verdicts", count, jq, Some(ours));
        let python = timed(Command::new("python3").args(["-c", COUNT]).arg(&lines));
        row("python json, the same", count, python, Some(ours));
    }
    pack(&lines, &gzip);
    row("dry-run, gzip", count, dry_run(&[], &gzip), None);
}
