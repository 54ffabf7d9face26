//! `policy diff`, `policy test` and `suggest` as a shell sees them: every output against its
//! golden file, every exit status; and the law that a suggestion covers what it was made from.

use assert_cmd::Command;
use portcullis::replay::suggest::{Gathered, Options, suggest};
use portcullis::traffic::read::{Item, parse};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy_data")
}

/// What it prints, and the exit status, against the golden file of that name.
fn golden(name: &str, args: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("portcullis").unwrap();
    command.env_clear().env("HOME", home.path()).current_dir(data());
    let output = command.args(args).output().unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let got = format!("{out}--- stderr\n{err}--- exit {}\n", output.status.code().unwrap());
    let path = data().join(format!("{name}.golden"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{name}: UPDATE_GOLDEN=1 writes it anew");
    assert!(got.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{name}");
}

#[test]
fn a_diff_is_printed_as_it_was() {
    let traffic = "../replay_data/agent.jsonl";
    golden("diff-text", &["policy", "diff", "old.yaml", "new.yaml"]);
    golden("diff-json", &["policy", "diff", "-o", "json", "old.yaml", "new.yaml"]);
    golden("diff-markdown", &["policy", "diff", "-o", "markdown", "old.yaml", "new.yaml"]);
    golden("diff-none", &["policy", "diff", "new.yaml", "new.yaml"]);
    golden("diff-lost", &["policy", "diff", "old.yaml,preset:pypi", "old.yaml"]);
    golden("diff-traffic", &["policy", "diff", "old.yaml", "new.yaml", "--traffic", traffic]);
}

#[test]
fn tests_are_printed_as_they_were() {
    golden("test-text", &["policy", "test", "old.tests.yaml"]);
    golden("test-tap", &["policy", "test", "-o", "tap", "old.tests.yaml"]);
    golden("test-junit", &["policy", "test", "-o", "junit", "old.tests.yaml"]);
    golden("test-json", &["policy", "test", "-o", "json", "old.tests.yaml"]);
    golden("test-holds", &["policy", "test", "new.tests.yaml"]);
    golden("test-bad", &["policy", "test", "bad.tests.yaml"]);
    golden("test-empty", &["policy", "test", "../policy_data/nothing"]);
}

#[test]
fn a_case_says_whether_there_is_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let policy = "version: 1\nnetwork_policies:\n  e: { endpoints: [ { host: a.test, port: 443, protocol: mcp, access: full } ] }\n";
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let cases = "version: 1\ntests:\n\
        \x20 - { request: { url: 'https://a.test/mcp' }, expect: allow }\n\
        \x20 - { request: { method: DELETE, url: 'https://a.test/mcp', body: '{}' }, expect: unknown, code: body_not_understood }\n\
        \x20 - { request: { url: 'https://a.test/mcp', body: '{}' }, expect: unknown }\n";
    fs::write(dir.path().join("p.tests.yaml"), cases).unwrap();
    let mut command = Command::cargo_bin("portcullis").unwrap();
    command.env_clear().env("HOME", dir.path()).current_dir(dir.path());
    command.args(["policy", "test", "p.tests.yaml"]).assert().success();
}

#[test]
fn a_suggestion_is_printed_as_it_was() {
    let traffic = "../replay_data/agent.jsonl";
    golden("suggest-text", &["suggest", "--skip-bad", traffic]);
    golden(
        "suggest-denied",
        &["suggest", "--skip-bad", "--include-denied", "--no-presets", traffic],
    );
    golden("suggest-base", &["suggest", "--skip-bad", "--base", "new.yaml,preset:pypi", traffic]);
    golden("suggest-bad-lines", &["suggest", "--strict", traffic]);
    golden("suggest-har", &["suggest", "../replay_data/har"]);
}

#[test]
fn the_suggestion_is_a_policy_that_check_takes() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::cargo_bin("portcullis").unwrap();
        command
            .env_clear()
            .env("HOME", home.path())
            .current_dir(data())
            .args(args)
            .output()
            .unwrap()
    };
    let suggested = run(&["suggest", "--no-presets", "--skip-bad", "../replay_data/agent.jsonl"]);
    let file = home.path().join("suggested.yaml");
    fs::write(&file, &suggested.stdout).unwrap();
    let checked = run(&["policy", "check", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Runs what a step of the workflow in `examples/ci` runs, in a repository whose `origin/main` has
/// `old.yaml` as its policy; the exit status, and what it adds to the summary.
fn step(name: &str, policy: &str, widens: &str) -> (i32, String) {
    let workflow = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci/policy.yml");
    let workflow: serde_json::Value =
        serde_saphyr::from_str(&fs::read_to_string(workflow).unwrap()).unwrap();
    let steps = workflow["jobs"]["review"]["steps"].as_array().unwrap();
    let script = steps.iter().find(|step| step["name"] == name).unwrap()["run"].as_str().unwrap();
    let repository = tempfile::tempdir().unwrap();
    let binary = assert_cmd::cargo::cargo_bin("portcullis");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", binary.parent().unwrap().display());
    let bash = |script: &str| {
        std::process::Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(repository.path())
            .env_clear()
            .envs([("HOME", repository.path().to_str().unwrap()), ("PATH", &path)])
            .envs([("BASE", "main"), ("WIDENS", widens), ("GITHUB_STEP_SUMMARY", "summary.md")])
            .output()
            .unwrap()
    };
    fs::copy(data().join("old.yaml"), repository.path().join("policy.yaml")).unwrap();
    let made = bash(
        "git init -q -b main . && git add policy.yaml && \
         git -c user.name=ana -c user.email=ana@example.com commit -qm policy && \
         git update-ref refs/remotes/origin/main HEAD",
    );
    assert!(made.status.success(), "{made:?}");
    fs::copy(data().join(policy), repository.path().join("policy.yaml")).unwrap();
    let cases = fs::read_to_string(data().join("old.tests.yaml")).unwrap();
    fs::write(repository.path().join("policy.tests.yaml"), cases).unwrap();
    let ran = bash(script);
    let summary = fs::read_to_string(repository.path().join("summary.md")).unwrap_or_default();
    (ran.status.code().unwrap(), summary)
}

#[test]
fn the_workflow_fails_a_pull_request_that_allows_more() {
    let (status, summary) = step("Diff", "new.yaml", "false");
    assert_eq!(status, 1);
    assert!(summary.contains("| **gained** in part | `*.acme.test:443` |"), "{summary}");
    assert_eq!(step("Diff", "new.yaml", "true").0, 0);
    let (status, summary) = step("Diff", "old.yaml", "false");
    assert_eq!(status, 0);
    assert!(summary.contains("No change in what is allowed."), "{summary}");
    assert_eq!(step("Check", "old.yaml", "false").0, 0);
    // One of its cases is there to fail.
    assert_eq!(step("Test", "old.yaml", "false").0, 1);
}

fn record() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["a.test", "b.a.test", "10.1.2.3", "::1", "pypi.org"]);
    let port = prop::sample::select(vec![80_u16, 443, 8443]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "delete", "PROPFIND"]);
    let segment = prop_oneof![
        6 => "[a-c0-9]{0,3}",
        1 => Just("*".to_owned()), 1 => Just("**".to_owned()), 1 => Just("{a,b}".to_owned()),
        1 => Just("[x]".to_owned()), 1 => Just("a;v=1".to_owned()), 1 => Just("a%2Fb".to_owned()),
        1 => Just("%5Bz%5D".to_owned()), 1 => Just("%E2%82%AC".to_owned()), 1 => Just("!a".to_owned()),
    ];
    let path =
        prop::collection::vec(segment, 1..5).prop_map(|parts| format!("/{}", parts.join("/")));
    let query = prop::sample::select(vec![None, Some("q=1"), Some("a=b&c=***")]);
    let binary = prop::sample::select(vec![
        None,
        Some("/usr/bin/curl"),
        Some("/opt/a*b/[x]"),
        Some("/usr/bin/\u{e9}"),
    ]);
    let verdict = prop::sample::select(vec!["allow", "audit", "deny", "unknown"]);
    (host, port, method, path, query, binary, verdict, any::<bool>()).prop_map(
        |(host, port, method, path, query, binary, verdict, websocket)| {
            let client = binary.map(|binary| serde_json::json!({"binary": binary, "ancestors": ["/usr/bin/bash"], "pid": 1}));
            let mut record = serde_json::json!({
                "v": 1, "time": "2026-11-22T15:12:24.123456Z", "id": "x", "sandbox": "agent",
                "scheme": if port == 80 { "http" } else { "https" },
                "host": host, "port": port, "method": method, "path": path, "verdict": verdict,
            });
            let fields = record.as_object_mut().unwrap();
            fields.extend(query.map(|query| ("query".to_owned(), query.into())));
            fields.extend(client.map(|client| ("client".to_owned(), client)));
            if websocket {
                fields.insert("websocket".to_owned(), true.into());
            }
            record.to_string()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_suggestion_covers_what_it_was_made_from(
        lines in prop::collection::vec(record(), 1..40),
        merge in prop::sample::select(vec![None, Some(2), Some(3)]),
        include_denied in any::<bool>(),
        processes in any::<bool>(),
    ) {
        let options = Options { merge, include_denied, processes, ..Options::default() };
        let mut gathered = Gathered::new(options);
        for line in &lines {
            match parse(line.as_bytes()) {
                Item::Record(record) => gathered.take(&record, None),
                other => prop_assert!(false, "{other:?}: {line}"),
            }
        }
        prop_assert_eq!(gathered.impossible, 0);
        let suggestion = suggest(&gathered, &[]).unwrap();
        prop_assert!(suggestion.missed.is_empty(), "{:#?}\n{}", suggestion.missed, suggestion.text);
        prop_assert!(suggestion.text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        if merge.is_none() {
            prop_assert!(suggestion.wider.is_empty());
        }
    }
}
