//! What a record costs: on the request's side an id, a slot and its close; on the writer's thread
//! its line and its counters. Goals: reserve and close below 300 ns, a line below 2 µs.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portcullis::addr::{Host, Port};
use portcullis::metrics::Registry;
use portcullis::policy::{Client, Code, Process, Scheme};
use portcullis::record::{By, Http, Id, Judged, Outcome, PolicyId, Record, Sink, Timings};
use portcullis::traffic::{self, Settings};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn record(sandbox: &Arc<str>) -> Record {
    let now = SystemTime::now();
    Record {
        time: now,
        id: Id::new(now),
        sandbox: sandbox.clone(),
        client: Client::Seen(Arc::new(Process {
            pid: 812,
            binary: "/usr/bin/curl".into(),
            ancestors: ["/usr/bin/bash".into()].into(),
        })),
        scheme: Scheme::Https,
        http: Some(Http::V1_1),
        host: Some(Host::parse("api.github.com").expect("a host")),
        port: Some(Port::HTTPS),
        method: Some(http::Method::GET),
        target: Some("/repos/a/b?state=open&page=2".parse().expect("a target")),
        verdict: Judged::Allow,
        code: Code::Allowed,
        rule: Some("github/endpoints[0]/rules[0]".into()),
        outcome: Outcome::Passed,
        by: By::Policy,
        request: None,
        approval: None,
        credential: None,
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
        facts: None,
        call: None,
        websocket: false,
    }
}

fn records(c: &mut Criterion) {
    let name: Arc<str> = "agent".into();
    let record = record(&name);

    let now = SystemTime::now();
    c.bench_function("record/id", |b| b.iter(|| Id::new(black_box(now))));

    let mut line = Vec::with_capacity(1024);
    c.bench_function("record/line", |b| {
        b.iter(|| {
            line.clear();
            black_box(&record).write_line(1, &mut line);
            line.len()
        });
    });

    let (_registry, mut counts) = Registry::new(Arc::default());
    c.bench_function("record/count", |b| b.iter(|| counts.record(black_box(&record))));

    // A queue that the writer empties more slowly than this fills it answers `Full`, as it should;
    // what is measured is the way that a request takes.
    let state = tempfile::tempdir().expect("a directory");
    let settings = Settings { queue: 1 << 22, ..Settings::in_state_dir(state.path()) };
    let (recorder, writer) = traffic::start(settings, Vec::new()).expect("a writer");
    let sandbox = recorder.for_sandbox(&name);
    c.bench_function("record/reserve_and_release", |b| {
        b.iter(|| sandbox.reserve().map(traffic::Slot::release));
    });
    c.bench_function("record/reserve_and_close", |b| {
        b.iter_batched(
            || record.clone(),
            |record| sandbox.reserve().map(|slot| slot.close(record)),
            BatchSize::SmallInput,
        );
    });
    writer.stop(Duration::from_secs(60)).expect("all written");
}

criterion_group!(benches, records);
criterion_main!(benches);
