//! The commands on top of the control API, as a shell sees them: a served fake, the real binary.

use crate::control_kit::{DIGEST, Fake, PATIENCE, Served, request, until};
use portcullis::control::wire::Event;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn command(home: &Path, socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap());
    command.env("PORTCULLIS_SOCKET", socket).current_dir(home).stdin(Stdio::null());
    command
}

async fn run(served: &Served, args: &[&str]) -> Ran {
    let mut command = command(served.dir.path(), &served.socket);
    command.args(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn served() -> Served {
    let served = Served::start(Fake::new(&["agent", "ci"]));
    served.fake.requests.lock().unwrap().extend([request("r1", "agent"), request("r2", "ci")]);
    served
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ages depend on the clock of the machine, and the width of a column on its ages.
fn without_ages(out: &str) -> String {
    let age = |word: &str| {
        let (number, unit) = word.split_at(word.len() - 1);
        number.parse::<u64>().is_ok() && matches!(unit, "s" | "m" | "h" | "d")
    };
    let mut text = String::new();
    for line in out.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let head = !line.is_empty() && words.iter().all(|word| *word == word.to_uppercase());
        if head || words.iter().any(|word| age(word)) {
            let words = words.iter().map(|word| if age(word) { "AGE" } else { word });
            text.push_str(&words.collect::<Vec<_>>().join(" "));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_command_prints_is_as_it_was_reviewed() {
    let served = served();
    for (name, args) in [
        ("requests", &["requests"][..]),
        ("requests_show", &["requests", "show", "r1"]),
        ("grants", &["grants"]),
        ("sandboxes", &["sandboxes"]),
        ("sandboxes_show", &["sandboxes", "show", "ci"]),
        ("status", &["status"]),
        ("policy_show", &["policy", "show", "-s", "agent"]),
        ("policy_history", &["policy", "history"]),
        ("reload", &["reload"]),
        ("approve", &["requests", "approve", "r1", "--yes"]),
        ("deny", &["requests", "deny", "r1", "--yes", "--scope", "once", "--reason", "no"]),
        ("undo", &["requests", "undo", "r1"]),
        ("explain", &["policy", "explain", "r1"]),
    ] {
        let ran = run(&served, args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{}", ran.out);
        insta::assert_snapshot!(name, without_ages(&ran.out));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_json_a_line_and_yaml_a_document() {
    let served = served();
    for args in [
        &["requests"][..],
        &["requests", "list", "-s", "ci"],
        &["requests", "show", "r2"],
        &["grants", "list"],
        &["sandboxes"],
        &["status"],
        &["policy", "show"],
        &["policy", "history"],
        &["reload"],
    ] {
        let json = run(&served, &[args, &["-o", "json"]].concat()).await;
        assert_eq!(json.status, 0, "{json:?}");
        let objects = lines(&json.out);
        assert!(!objects.is_empty() && objects.iter().all(Value::is_object), "{args:?}");
        let yaml = run(&served, &[args, &["--format", "yaml"]].concat()).await;
        assert_eq!(yaml.status, 0, "{yaml:?}");
        let documents: Vec<Value> =
            yaml.out.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
        assert_eq!(documents, objects, "{args:?}");
        assert!(json.out.is_ascii() && yaml.out.is_ascii());
    }
    let ci = run(&served, &["requests", "-o", "json", "-s", "ci"]).await;
    assert_eq!(lines(&ci.out)[0]["request"], "r2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_a_terminal_a_digest_or_yes() {
    let served = served();
    for verb in ["approve", "deny"] {
        let ran = run(&served, &["requests", verb, "r1"]).await;
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains("add --digest D") && ran.err.contains("--yes"), "{}", ran.err);
    }
    let ran = run(&served, &["requests", "approve", "r1", "--digest", "sha256:00"]).await;
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("not what was shown"), "{}", ran.err);
    assert!(served.fake.said().is_empty());
    let wide = ["--path", "/repos/*/*", "--method", "GET", "--for", "15m", "--any-process"];
    let args = [&["requests", "approve", "r1", "--digest", DIGEST][..], &wide].concat();
    assert_eq!(run(&served, &args).await.status, 0);
    let said = served.fake.said().remove(0);
    let decision: Value = serde_json::from_str(said.strip_prefix("decide r1 ").unwrap()).unwrap();
    let expected = json!({
        "decision": "approve", "scope": "session", "breadth": "path", "path": "/repos/*/*",
        "methods": ["GET"], "any_process": true, "for": "15m", "digest": DIGEST, "via": "cli",
    });
    assert_eq!(decision, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_entry_is_shown_and_anything_but_yes_is_no() {
    if Command::new("script").arg("--version").output().is_err() {
        return println!("skipped: script is not installed");
    }
    let served = served();
    let typed = |answer: &'static str| {
        let mut command = Command::new("script");
        let inner = format!("{} requests approve r1", env!("CARGO_BIN_EXE_portcullis"));
        command.args(["-q", "-e", "-c", &inner, "/dev/null"]);
        command.env("PORTCULLIS_SOCKET", &served.socket).env("HOME", served.dir.path());
        command.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        })
    };
    for no in ["\n", "n\n", "yep\n"] {
        let (status, out) = typed(no).await.unwrap();
        assert_eq!(status, Some(1), "{out}");
        assert!(out.contains("approve? [y/N]"), "{out}");
    }
    assert!(served.fake.said().is_empty());
    let (status, out) = typed("y\n").await.unwrap();
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("POST https://api.github.com/repos/a/b/issues?state=open"), "{out}");
    assert!(
        out.contains("approve:\r\n  sandbox: agent\r\n  host: \"api.github.com:443\""),
        "{out}"
    );
    assert!(!out.contains("\u{1b}[2J"), "the body's escape reached the terminal: {out:?}");
    assert_eq!(served.fake.said().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_for_one_of_several_sandboxes_says_which() {
    let served = served();
    std::fs::write(served.dir.path().join("p.yaml"), "version: 1\n").unwrap();
    let changes = [
        &["policy", "apply", "-f", "p.yaml"][..],
        &["policy", "rollback", "2"],
        &["policy", "unpin"],
        &["grants", "add", "GET", "https://a.test/**"],
    ];
    for args in changes {
        let ran = run(&served, args).await;
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains("which sandbox? agent, ci: add -s NAME"), "{}", ran.err);
    }
    assert!(served.fake.said().is_empty());
    for args in changes {
        let ran = run(&served, &[args, &["-s", "ci"]].concat()).await;
        assert_eq!(ran.status, 0, "{ran:?}");
    }
    let said = served.fake.said();
    assert!(said[0].contains("version: 1") && said[0].contains("p.yaml"), "{said:?}");
    assert!(said[1].contains("Rollback { sandbox: \"ci\", version: 2 }"), "{said:?}");
    assert!(said[3].contains("\"sandbox\":\"ci\""), "{said:?}");
    let alone = Served::start(Fake::new(&["agent"]));
    assert_eq!(run(&alone, &["policy", "unpin"]).await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_over_other_people_s_names_is_warned_of() {
    let served = served();
    let grant = async |url| run(&served, &["grants", "add", "GET", url, "-s", "ci"]).await;
    let wide = grant("https://*.co.uk/**").await;
    assert_eq!(wide.status, 0, "{wide:?}");
    assert!(wide.err.contains("anyone can have a name under co.uk"), "{wide:?}");
    assert!(wide.err.contains("grants revoke g"), "{wide:?}");
    let own = grant("https://*.corp.co.uk/**").await;
    assert!(own.status == 0 && own.err.is_empty(), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sandbox_alone_is_shown_where_it_is_named() {
    let served = served();
    for command in ["status", "sandboxes"] {
        let ran = run(&served, &[command, "-s", "ci"]).await;
        assert_eq!(ran.status, 0, "{ran:?}");
        let rows = |name: &str| ran.out.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!((rows("ci "), rows("agent ")), (1, 0), "{command}: {}", ran.out);
        assert_eq!(run(&served, &[command, "-s", "nowhere"]).await.status, 2, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses_say_what_was_wrong() {
    let mut served = served();
    let status = async |args: &[&str]| run(&served, args).await.status;
    assert_eq!(status(&["requests", "show", "r9"]).await, 2);
    assert_eq!(status(&["grants", "revoke", "g9"]).await, 2);
    assert_eq!(status(&["requests", "-s", "nowhere"]).await, 2);
    assert_eq!(status(&["policy", "explain", "GET"]).await, 2);
    assert_eq!(status(&["policy", "apply", "-f", "none.yaml", "-s", "ci"]).await, 2);
    assert_eq!(status(&["grants", "revoke", "g1"]).await, 0);
    served.stop().await;
    for args in [
        &["requests"][..],
        &["requests", "watch"],
        &["requests", "approve", "r1", "--yes"],
        &["grants"],
        &["sandboxes"],
        &["status"],
        &["reload"],
        &["logs", "-f"],
        &["policy", "show"],
        &["policy", "explain", "r1"],
    ] {
        let ran = run(&served, args).await;
        assert_eq!(ran.status, 3, "{args:?} {ran:?}");
        let start = "start one with `portcullis gateway`";
        assert!(
            ran.err.contains("no gateway is running at ") && ran.err.contains(start),
            "{ran:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_found_where_the_gateway_puts_it() {
    let served = served();
    let home = tempfile::tempdir().unwrap();
    let ask = |set: &dyn Fn(&mut Command)| {
        let mut command = command(home.path(), &served.socket);
        command.env_remove("PORTCULLIS_SOCKET").args(["status", "-o", "json"]);
        set(&mut command);
        let output = command.output().unwrap();
        output.status.code() == Some(0)
    };
    let state = served.dir.path();
    assert!(!ask(&|_| {}));
    assert!(ask(&|c| {
        c.env("PORTCULLIS_STATE_DIR", state);
    }));
    assert!(ask(&|c| {
        c.arg("--state-dir").arg(state);
    }));
    assert!(ask(&|c| {
        c.arg("--socket").arg(&served.socket);
    }));
    let config = home.path().join("config.yaml");
    std::fs::write(&config, format!("version: 1\nstate_dir: {}\n", state.display())).unwrap();
    assert!(ask(&|c| {
        c.arg("--config").arg(&config);
    }));
    let runtime = home.path().join("run");
    std::fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::symlink(state, runtime.join("portcullis")).unwrap();
    assert!(ask(&|c| {
        c.env("XDG_RUNTIME_DIR", &runtime);
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_told_each_entry_once_and_attends() {
    let served = served();
    let mut command = command(served.dir.path(), &served.socket);
    command.args(["requests", "watch", "-o", "json"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&said.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["request"], "r1");
    assert_eq!(next()["request"], "r2");
    assert_eq!(served.fake.attended.load(Ordering::SeqCst), 1);
    for number in ["r1", "r3", "r3", "r4"] {
        let event = Event::Pending(Box::new(request(number, "agent")));
        served.fake.events.send(Arc::new(event)).unwrap();
    }
    assert_eq!(next()["request"], "r3");
    assert_eq!(next()["request"], "r4");
    child.kill().unwrap();
    child.wait().unwrap();
    until("it left", || served.fake.attended.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchers_command_gets_the_entry_and_no_shell() {
    let served = served();
    let script = served.dir.path().join("decide.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\nread -r entry\nprintf '%s' \"$entry\" > \"$1-$(echo $$)\"\n\
         number=$(printf '%s' \"$entry\" | sed 's/^{\"request\":\"\\(r[0-9]*\\)\".*/\\1/')\n\
         digest=$(printf '%s' \"$entry\" | sed 's/.*\"digest\":\"\\([^\"]*\\)\".*/\\1/')\n\
         exec \"$2\" requests deny \"$number\" --digest \"$digest\" --reason 'no; $(id)'\n",
    )
    .unwrap();
    let exec = format!(
        "sh {} '{}/got it' {}",
        script.display(),
        served.dir.path().display(),
        env!("CARGO_BIN_EXE_portcullis")
    );
    let mut command = command(served.dir.path(), &served.socket);
    command.args(["requests", "watch", "--exec", &exec]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    until("both are answered", || served.fake.said().len() == 2).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let said = served.fake.said().join("\n");
    assert!(said.contains("decide r1 ") && said.contains("decide r2 "), "{said}");
    assert!(said.contains("\"reason\":\"no; $(id)\""), "{said}");
    let got = std::fs::read_dir(served.dir.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("got it-")
    });
    assert_eq!(got.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watchers_command_prints_stands_between_no_objects() {
    let served = served();
    for shape in ["json", "yaml"] {
        let mut command = command(served.dir.path(), &served.socket);
        command.args(["requests", "watch", "-o", shape, "--exec", "echo noise"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut noise = BufReader::new(child.stderr.take().unwrap()).lines();
        let heard = tokio::task::spawn_blocking(move || [noise.next(), noise.next()]);
        let heard = tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap();
        assert!(heard.iter().all(|line| line.as_ref().unwrap().as_ref().unwrap() == "noise"));
        child.kill().unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.contains("r1") && said.contains("r2") && !said.contains("noise"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchers_command_that_hangs_or_fails_is_said_and_holds_nothing_up() {
    let served = served();
    let mut command = command(served.dir.path(), &served.socket);
    command.args(["requests", "watch", "--exec", "sleep 1000", "--exec-timeout", "50ms"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let heard = tokio::task::spawn_blocking(move || {
        [said.next().unwrap().unwrap(), said.next().unwrap().unwrap()]
    });
    let heard = tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap();
    assert!(heard.iter().all(|line| line.contains("was ended: it ran longer than")), "{heard:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = run(&served, &["requests", "watch", "--exec", "a 'b"]).await;
    assert_eq!(ran.status, 2, "{ran:?}");
}
