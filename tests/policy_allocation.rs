//! Judging allocates nothing where the answer is *allow*, and an endpoint is small. Alone in their
//! file, because the allocator counts for the whole program (each thread by itself).
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

#[path = "kit/policy/mod.rs"]
mod policy_common;
use policy_common::{ask, policy, seen};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting neither allocates
// (the thread-local is const and has no destructor) nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|count| count.set(count.get() + 1));
        LIVE_BYTES.with(|live| live.set(live.get() + layout.size() as i64));
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.with(|live| live.set(live.get() - layout.size() as i64));
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn allowing_allocates_nothing() {
    let policy = policy(
        r#"
a:
  endpoints:
    - host: x.test
      port: 443
      rules:
        - allow: { method: GET, path: "/repos/*/*/pulls", query: { state: "open*", sort: { any: [created, updated] } } }
        - allow: { method: GET, path: "/**/info/refs*" }
        - allow: { method: GET, path: "/{v1,v[2-3]}/?" }
      deny_rules:
        - { method: DELETE, path: "/**" }
        - { method: GET, path: "/repos/*/secret/**" }
  binaries: [ { path: "/usr/lib/**/gh" }, { path: "/usr/bin/g*" } ]
b: { endpoints: [ { host: "**.x.test", port: 443, access: read-only, allow_encoded_slash: true }, { host: "*.y.test", port: 443, protocol: tcp } ] }
c: { endpoints: [ { port: 8443, allowed_ips: [10.0.0.0/8] } ] }
"#,
    );
    let gh = seen("/bin/sh", &["/usr/bin/bash", "/usr/bin/gh"]);
    for asked in [
        ask("GET", "/repos/a/b/pulls?state=open&sort=created"),
        ask("head", "/a/b/info/refs?service=git-upload-pack"),
        ask("GET", "/v2/x"),
        ask("GET", "/repos/a/b/pulls?x=1;y=2&state=open&Page[a]=1&sort=created"),
        ask("GET", "/repos/a%20b/%C3%BC/pulls?state=open&sort=created"),
        ask("GET", "/anything").on("a.b.c.x.test:443"),
        ask("GET", "/@scope%2Fname").on("npm.x.test:443"),
        ask("GET", "/ws").on("a.x.test:443").handshake(),
        ask("BYTES", "/").on("db.y.test:443"),
        ask("PUT", "/").on("any.test:8443"),
    ] {
        let asked = asked.by(gh.clone());
        asked.with(|intent| {
            let before = ALLOCATED.with(Cell::get);
            let verdict = policy.judge(intent);
            let after = ALLOCATED.with(Cell::get);
            assert!(
                matches!(verdict, portcullis::policy::Verdict::Allow(_)),
                "{} {}: {verdict:?}",
                asked.method,
                asked.path
            );
            assert_eq!(after - before, 0, "{} {}", asked.method, asked.path);
        });
    }
}

#[test]
fn an_endpoint_takes_at_most_two_kibibytes() {
    let entries = 2_000;
    let text: String = (0..entries)
        .map(|i| {
            format!(
                r#"e{i}:
  endpoints:
    - host: "api-*.host{i}.example.com"
      port: 443
      rules:
        - allow: {{ method: GET, path: "/repos/*/*/pulls", query: {{ state: "open*" }} }}
        - allow: {{ method: GET, path: "/own{i}/**/a*b/**" }}
        - allow: {{ method: POST, path: "/items/{i}/*" }}
      deny_rules:
        - {{ method: DELETE, path: "/**" }}
        - {{ method: "*", path: "/repos/*/secret/{{a,b}}/{i}" }}
  binaries: [ {{ path: /usr/bin/gh }}, {{ path: "/usr/lib/**/git" }} ]
"#
            )
        })
        .collect();
    let layers = [policy_common::layer(&text)];
    let before = LIVE_BYTES.with(Cell::get);
    let policy = portcullis::policy::Policy::compile(&layers, 1).unwrap();
    let each = (LIVE_BYTES.with(Cell::get) - before) / entries;
    assert_eq!(policy.endpoint_count() as i64, entries);
    assert!(each <= 2048, "{each} bytes an endpoint");
}
