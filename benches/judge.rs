//! Judging and compiling, at 10 and at 10,000 entries: under 500 ns a request, flat; under 100 ms
//! to compile.
#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portcullis::addr::{Authority, Path, Port};
use portcullis::policy::{
    Ask, Body, Client, Document, Intent, Layer, Policy, Process, Scheme, Verdict,
};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

fn layer(entries: usize) -> Layer {
    let mut text = "version: 1\nnetwork_policies:\n".to_owned();
    for i in 0..entries {
        let host = match i % 4 {
            0 => format!("api.host{i}.example.com"),
            1 => format!("*.host{i}.example.com"),
            2 => format!("**.deep{i}.example.org"),
            _ => format!("api-*.host{i}.example.net"),
        };
        let _ = write!(
            text,
            "  e{i}:\n    endpoints:\n      - host: \"{host}\"\n        port: 443\n        rules:\n          - allow: {{ method: GET, path: \"/repos/*/*/pulls\", query: {{ state: \"open*\" }} }}\n          - allow: {{ method: GET, path: \"/repos/**\" }}\n          - allow: {{ method: POST, path: \"/items/{i}/*\" }}\n        deny_rules:\n          - {{ method: DELETE, path: \"/**\" }}\n          - {{ method: \"*\", path: \"/repos/*/secret/**\" }}\n    binaries:\n      - {{ path: /usr/bin/gh }}\n      - {{ path: \"/usr/lib/**/git\" }}\n"
        );
    }
    let document = Document::parse(&text, "bench").unwrap_or_else(|error| panic!("{error}"));
    Layer { document, source: "bench".into(), deny_only: false }
}

fn judging(c: &mut Criterion) {
    let client = Client::Seen(Arc::new(Process {
        pid: 1,
        binary: "/usr/bin/curl".into(),
        ancestors: ["/usr/bin/bash".into(), "/usr/bin/gh".into()].into(),
    }));
    for entries in [10, 10_000] {
        let policy = Policy::compile(&[layer(entries)], 1).expect("it compiles");
        for (name, host) in [
            ("exact", format!("api.host{}.example.com", entries / 2 / 4 * 4)),
            ("wildcard", format!("www.host{}.example.com", entries / 2 / 4 * 4 + 1)),
            ("deep", format!("a.b.c.deep{}.example.org", entries / 2 / 4 * 4 + 2)),
        ] {
            let target = Authority::parse(&host, Some(Port::HTTPS)).expect("a host");
            let path = Path::parse("/repos/owner/name/contents/src/lib.rs").expect("a path");
            let body = Body::Unread;
            let query = Some("ref=main");
            let ask = Ask::Request { method: "GET", path: &path, query, websocket: false, body };
            let intent = Intent { client: &client, scheme: Scheme::Https, target: &target, ask };
            assert!(matches!(policy.judge(&intent), Verdict::Allow(_)), "{host}");
            c.bench_function(&format!("judge/{name}/{entries}"), |b| {
                b.iter(|| policy.judge(black_box(&intent)));
            });
        }
    }
}

fn compiling(c: &mut Criterion) {
    let layers = [layer(10_000)];
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    group.bench_function("10000", |b| {
        b.iter_batched(|| (), |()| Policy::compile(&layers, 1), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, judging, compiling);
criterion_main!(benches);
