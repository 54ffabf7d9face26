//! `dry-run` as a shell sees it: every output against its golden file, every exit status.

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay_data")
}

struct Ran {
    status: i32,
    out: String,
    err: String,
}

/// Runs in the directory of the recordings, so that places are short and the same everywhere.
fn dry_run(args: &[&str]) -> Ran {
    dry_run_with(args, &data(), Vec::new())
}

fn dry_run_with(args: &[&str], dir: &Path, stdin: Vec<u8>) -> Ran {
    let mut command = Command::cargo_bin("portcullis").unwrap();
    let home = tempfile::tempdir().unwrap();
    command.env_clear().env("HOME", home.path()).current_dir(dir).write_stdin(stdin);
    let output = command.arg("dry-run").args(args).output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn golden(name: &str, ran: &Ran) {
    let got = format!("{}--- stderr\n{}--- exit {}\n", ran.out, ran.err, ran.status);
    let path = data().join(format!("{name}.golden"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{name}: UPDATE_GOLDEN=1 writes it anew");
    assert!(got.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{name}");
}

#[test]
fn every_output_is_as_it_was() {
    let new = ["--policy", "policy.yaml"];
    let with = |more: &[&'static str]| dry_run(&[&new[..], more].concat());
    golden("agent-text", &with(&["agent.jsonl"]));
    golden("agent-json", &with(&["-o", "json", "--skip-bad", "agent.jsonl"]));
    golden("agent-yaml", &with(&["-o", "yaml", "--only-changed", "--skip-bad", "agent.jsonl"]));
    golden("agent-against", &with(&["--against", "old.yaml", "--skip-bad", "agent.jsonl"]));
    golden(
        "agent-against-json",
        &with(&[
            "--against",
            "old.yaml",
            "--skip-bad",
            "-o",
            "json",
            "--host",
            "api.github.com",
            "agent.jsonl",
        ]),
    );
    golden("ocsf-text", &with(&["ocsf.jsonl"]));
    golden("ocsf-json", &with(&["-o", "json", "ocsf.jsonl"]));
    for har in ["mitmproxy", "playwright", "chrome-har"] {
        let file = format!("har/{har}.har");
        let args = ["--policy", "har.yaml", "-o", "json", &file];
        golden(&format!("har-{har}-json"), &dry_run(&args));
    }
    // A folder is read in the order of its files' times, which a checkout does not keep.
    let hars = ["har/chrome-har.har", "har/mitmproxy.har", "har/playwright.har"];
    golden("har-text", &dry_run(&[&["--policy", "har.yaml"][..], &hars].concat()));
    golden("error-no-policy", &dry_run(&["agent.jsonl"]));
    golden("error-no-file", &with(&["nowhere.jsonl"]));
    golden("error-since", &with(&["--since", "yesterday", "agent.jsonl"]));
    golden("error-host", &with(&["--host", "a..b", "agent.jsonl"]));
}

#[test]
fn without_traffic_the_error_says_where_it_was_looked_for() {
    let ran = dry_run(&["--policy", "policy.yaml"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains(".local/state/portcullis/traffic since then\n  fix: "), "{}", ran.err);
}

#[test]
fn nothing_of_a_recording_that_looks_like_a_secret_is_shown() {
    for har in ["har/playwright.har", "har/chrome-har.har"] {
        for format in ["text", "json", "yaml"] {
            let ran = dry_run(&["--preset", "pypi", "-o", format, har]);
            assert_eq!(ran.status, 0, "{}", ran.err);
            assert!(!ran.out.contains("hunter2"), "{}", ran.out);
        }
    }
}

#[test]
fn fail_on_names_what_a_record_may_not_become() {
    let on = |what| {
        dry_run(&["--policy", "policy.yaml", "--skip-bad", "--fail-on", what, "agent.jsonl"])
    };
    for what in ["allow", "deny", "unknown", "undecidable", "deny,allow"] {
        assert_eq!(on(what).status, 1, "{what}");
    }
    let itself = ["--policy", "policy.yaml", "--against", "policy.yaml", "--skip-bad"];
    let all = ["--fail-on", "allow,deny,unknown,undecidable", "agent.jsonl"];
    let ran = dry_run(&[&itself[..], &all].concat());
    assert_eq!(ran.status, 0, "a policy against itself changes nothing: {}", ran.out);
    let broken = dry_run(&["--policy", "policy.yaml", "--fail-on", "deny", "agent.jsonl"]);
    assert_eq!(broken.status, 2, "what was not read may have been worse");
}

#[test]
fn a_recording_is_read_the_same_from_stdin_packed_and_in_directories() {
    let lines = fs::read(data().join("agent.jsonl")).unwrap();
    let args = ["--policy", "policy.yaml", "-o", "json", "--skip-bad"];
    let want = dry_run(&[&args[..], &["agent.jsonl"]].concat()).out;
    assert_eq!(want.lines().count(), 21);
    let from = |name: &str, stdin: Vec<u8>| {
        dry_run_with(&[&args[..], &[name]].concat(), &data(), stdin).out
    };
    assert_eq!(from("-", lines.clone()), want);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &lines).unwrap();
    assert_eq!(from("-", gzip.finish().unwrap()), want);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    assert_eq!(from("-", ruzstd::encoding::compress_to_vec(&lines[..], level)), want);

    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("traffic");
    for (at, line) in lines.split_inclusive(|b| *b == b'\n').enumerate() {
        let sandbox = state.join(if at % 2 == 0 { "a" } else { "b" });
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(sandbox.join(format!("2026-11-22T15{at:02}00.000-0000.jsonl")), line).unwrap();
    }
    fs::copy(data().join("policy.yaml"), dir.path().join("policy.yaml")).unwrap();
    let ran = dry_run_with(&[&args[..], &["traffic"]].concat(), dir.path(), Vec::new());
    assert_eq!(ran.out, want, "in the order of time, whichever sandbox wrote");
    // The state directory's own, without being named.
    let own = ["--state-dir", ".", "--since", "3650d"];
    let ran = dry_run_with(&[&args[..], &own].concat(), dir.path(), Vec::new());
    assert_eq!(ran.out, want);
}

#[test]
fn records_are_left_out_by_sandbox_time_and_host() {
    let count = |more: &[&str]| {
        let args = ["--policy", "policy.yaml", "-o", "json", "--skip-bad", "agent.jsonl"];
        dry_run(&[&args[..], more].concat()).out.lines().count()
    };
    assert_eq!(count(&[]), 21);
    assert_eq!(count(&["-s", "ci"]), 1);
    assert_eq!(count(&["-s", "agent"]), 20);
    assert_eq!(count(&["--host", "pypi.org"]), 3);
    assert_eq!(count(&["--host", "*.github.com"]), 10);
    assert_eq!(count(&["--since", "1s"]), 0);
    assert_eq!(count(&["--since", "36500d"]), 21);
}

#[test]
fn a_sandbox_of_which_there_is_no_record_passes_no_gate() {
    let named = "fix: use one of those that left records: agent, ci";
    for args in
        [&["dry-run", "--policy", "policy.yaml", "--skip-bad"][..], &["suggest", "--skip-bad"]]
    {
        for file in ["agent.jsonl", "-"] {
            let mut command = Command::cargo_bin("portcullis").unwrap();
            let recording = fs::read(data().join("agent.jsonl")).unwrap();
            command.env_clear().current_dir(data()).write_stdin(recording);
            let ran = command.args(args).args(["-s", "nope", file]).output().unwrap();
            let said = String::from_utf8(ran.stderr).unwrap();
            assert_eq!(ran.status.code(), Some(2), "{args:?} {said}");
            assert!(said.contains("no record is of the sandbox `nope`"), "{said}");
            assert!(said.contains(named), "{said}");
            assert!(ran.stdout.is_empty(), "{args:?}");
        }
    }
    // It has records, and none of them is wanted.
    let args = ["--policy", "policy.yaml", "--skip-bad", "agent.jsonl", "-s", "agent"];
    for more in [["--since", "1s"], ["--host", "nowhere.test"]] {
        let ran = dry_run(&[&args[..], &more].concat());
        assert_eq!((ran.status, ran.err.contains("no record")), (0, false), "{}", ran.err);
    }
}

#[test]
fn a_sandbox_that_is_none_has_no_records_in_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let traffic = dir.path().join("traffic/agent");
    fs::create_dir_all(&traffic).unwrap();
    fs::copy(data().join("agent.jsonl"), traffic.join("a.jsonl")).unwrap();
    fs::copy(data().join("policy.yaml"), dir.path().join("policy.yaml")).unwrap();
    let ran = |command: &str, sandbox: &str| {
        let mut run = Command::cargo_bin("portcullis").unwrap();
        run.env_clear().current_dir(dir.path()).arg(command);
        if command == "dry-run" {
            run.args(["--policy", "policy.yaml"]);
        }
        run.args(["--state-dir", ".", "--since", "3650d", "--skip-bad", "-s", sandbox]);
        let ran = run.output().unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    for command in ["dry-run", "suggest"] {
        let (status, said) = ran(command, "nope");
        assert_eq!(status, 2, "{command}: {said}");
        assert!(said.contains("no sandbox is named `nope`, and none left records"), "{said}");
        assert_ne!(ran(command, "agent").0, 2, "{command}");
    }
}

#[test]
fn the_whole_policy_of_a_sandbox_is_taken_from_a_config() {
    let dir = tempfile::tempdir().unwrap();
    let config = "version: 1
listen:
  - { address: \"127.0.0.1:3128\", sandbox: agent }
sandboxes:
  defaults: { tier: restricted }
  agent: { policy: [policy.yaml], presets: [pypi], identity: ignore }
";
    fs::write(dir.path().join("config.yaml"), config).unwrap();
    fs::copy(data().join("policy.yaml"), dir.path().join("policy.yaml")).unwrap();
    let line = r#"{"host":"pypi.org","port":443,"method":"GET","path":"/elsewhere"}"#;
    let args = ["--config", "config.yaml", "-s", "agent", "-o", "json", "-"];
    let ran = dry_run_with(&args, dir.path(), line.as_bytes().to_vec());
    assert!(ran.out.contains(r#""verdict":"allow""#), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(r#""rule":"index/endpoints[0]/access""#), "{}", ran.out);
}

#[test]
fn many_blocks_come_out_in_the_order_in_which_they_went_in() {
    let mut lines = String::new();
    for at in 0..40_000 {
        let path = if at % 7 == 0 { "/repos/a/b/issues/1" } else { "/elsewhere" };
        lines += &format!(
            "{{\"id\":\"{at}\",\"host\":\"api.github.com\",\"port\":443,\"method\":\"GET\",\"path\":\"{path}\"}}\n"
        );
    }
    let args = ["--policy", "policy.yaml", "-o", "json", "-"];
    let ran = dry_run_with(&args, &data(), lines.into_bytes());
    for (at, line) in ran.out.lines().enumerate() {
        let verdict = if at % 7 == 0 { "allow" } else { "unknown" };
        let start = format!(
            "{{\"record\":{},\"id\":\"{at}\",\"recorded\":null,\"verdict\":\"{verdict}\"",
            at + 1
        );
        assert!(line.starts_with(&start), "{line}");
    }
    assert_eq!(ran.out.lines().count(), 40_000);
}

/// What the gateway answers itself is no policy's business, and so no change.
#[test]
fn the_gateways_own_hosts_are_not_judged() {
    let mut lines = String::new();
    for host in ["policy.local", "Inference.Local.", "other.test"] {
        lines += &format!(
            "{{\"host\":\"{host}\",\"port\":80,\"scheme\":\"http\",\"method\":\"GET\",\"path\":\"/v1/policy\",\"verdict\":\"allow\"}}\n"
        );
    }
    let args = ["--policy", "policy.yaml", "--fail-on", "unknown", "-"];
    let ran = dry_run_with(&args, &data(), lines.clone().into_bytes());
    assert!(!ran.out.contains(".local"), "{}", ran.out);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("other.test") && said.contains("2 never judged"), "{said}");
    assert_eq!(ran.status, 1);
    let own: String = lines.lines().take(2).map(|line| format!("{line}\n")).collect();
    let ran = dry_run_with(&args, &data(), own.into_bytes());
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
}
