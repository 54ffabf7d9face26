//! The start: what it says, what it needs, and how it says what is wrong. Exit 2 for what it was
//! given, never a half-started gateway.

use crate::approval_kit::Control;
use crate::common::{self, Origin, Setup};
use crate::operation_kit::{self, full, once};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a gateway that can't start, and gives what it said on stderr.
fn fails(dir: &Path, args: &[&str]) -> String {
    let Output { status, stderr, stdout } = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("gateway")
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stdout.is_empty(), "no banner of a gateway that does not run");
    stderr
}

#[test]
fn a_state_directory_has_one_gateway_and_is_free_once_that_ends() {
    let mut gateway = Setup::allow_all(&["origin.test"], 80).start();
    let text = fails(gateway.dir.path(), &["--config", "config.yaml"]);
    let state = gateway.state();
    assert!(text.contains(&format!("pid {}", gateway.pid())), "{text}");
    assert!(text.contains(state.to_str().unwrap()) && text.contains("--state-dir"), "{text}");
    // One that was killed holds nothing.
    gateway.restart(&[]);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.restart(&[]);
}

#[test]
fn an_address_that_is_taken_is_named_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let text = fails(dir.path(), &["--state-dir", "state", "--listen", &at]);
    assert!(text.contains(&at) && text.contains("in use"), "{text}");
    let text =
        fails(dir.path(), &["--state-dir", "state", "--listen", "127.0.0.1:0", "--metrics", &at]);
    assert!(text.contains("metrics") && text.contains(&at) && text.contains("in use"), "{text}");
}

#[test]
fn a_start_that_fails_at_an_address_leaves_neither_records_nor_a_version_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let mut gateway = Setup::allow_all(&["origin.test"], 80).start();
    let count = |gateway: &common::Gateway| {
        let files = fs::read_dir(gateway.state().join("traffic/default")).unwrap().count();
        let whole = fs::read_dir(gateway.state().join("traffic/_gateway")).unwrap().count();
        (files, whole)
    };
    operation_kit::event(&gateway, "default", "policy.loaded", 1);
    gateway.signal("TERM");
    gateway.wait();
    let before = count(&gateway);
    for more in [["--listen", &at], ["--metrics", &at], ["--socket", "policy.yaml"]] {
        fails(gateway.dir.path(), &[&["--config", "config.yaml"], &more[..]].concat());
    }
    assert_eq!(count(&gateway), before);
    // Nor does a start under the same policy.
    gateway.restart(&[]);
    let history = Control::of(&gateway).get("/v1/policy/history?sandbox=default");
    assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
    let status = Control::of(&gateway).get("/v1/sandboxes/default/policy");
    assert_eq!(status["version"], 1, "{status}");
}

/// A socket whose owner takes no connection, with as many waiting as may.
fn full_socket(at: &Path) -> (UnixListener, Vec<Socket>) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(at).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            return (listener.into(), waiting);
        }
        waiting.push(client);
    }
}

#[test]
fn a_socket_whose_owner_takes_no_connection_is_taken_and_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let _owner = full_socket(&dir.path().join("agent.sock"));
    fs::write(
        dir.path().join("config.yaml"),
        "version: 1\nstate_dir: state\nlisten: [{ address: \"unix:agent.sock\", sandbox: default }]\n",
    )
    .unwrap();
    let text = fails(dir.path(), &["--config", "config.yaml"]);
    assert!(text.contains("agent.sock") && text.contains("listens"), "{text}");
    let _owner = full_socket(&dir.path().join("own.sock"));
    let args = ["--state-dir", "state", "--listen", "127.0.0.1:0", "--socket", "own.sock"];
    let text = fails(dir.path(), &args);
    assert!(text.contains("own.sock") && text.contains("another gateway"), "{text}");
}

#[test]
fn a_config_or_policy_that_is_a_pipe_is_refused_with_the_fix() {
    let dir = Setup::allow_all(&["origin.test"], 80).write();
    for flag in ["--config", "--policy"] {
        let script = format!("exec \"$0\" gateway --state-dir state {flag} <(cat policy.yaml)");
        let Output { status, stderr, .. } = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")])
            .current_dir(dir.path())
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{text}");
        assert!(text.contains("not a regular file") && text.contains("fix:"), "{text}");
    }
}

#[test]
fn a_config_or_policy_that_can_not_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = fails(dir.path(), &["--config", "missing.yaml"]);
    assert!(text.contains("missing.yaml") && text.contains("No such file"), "{text}");
    let here = ["--state-dir", "state", "--listen", "127.0.0.1:0"];
    let with = |more: &[&'static str]| [&here[..], more].concat();
    let text = fails(dir.path(), &with(&["--policy", "none.yaml"]));
    assert!(text.contains("none.yaml") && text.contains("No such file"), "{text}");
    fs::write(
        dir.path().join("bad.yaml"),
        "version: 1\nnetwork_policies:\n  a: { endpints: [] }\n",
    )
    .unwrap();
    let text = fails(dir.path(), &with(&["--policy", "bad.yaml"]));
    assert!(text.contains("bad.yaml:3:") && text.contains("endpints"), "{text}");
    let text = fails(dir.path(), &with(&["--preset", "pipy"]));
    assert!(text.contains("pipy"), "{text}");
    fs::create_dir(dir.path().join("dir.yaml")).unwrap();
    let text = fails(dir.path(), &with(&["--policy", "dir.yaml"]));
    assert!(text.contains("dir.yaml"), "{text}");
    fs::write(dir.path().join("config.yaml"), "version: 1\nlisten: nowhere\n").unwrap();
    let text = fails(dir.path(), &["--config", "config.yaml"]);
    assert!(text.contains("config.yaml:2:"), "{text}");
}

#[test]
fn the_banner_says_what_was_read_where_it_listens_and_what_to_paste() {
    let dir = Setup::allow_all(&["origin.test"], 80)
        .sandbox("    presets: [pypi]\n")
        .more("metrics: { address: \"127.0.0.1:0\" }\n")
        .write();
    let out = dir.path().join("banner");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["gateway", "--config", "config.yaml"])
        .current_dir(dir.path())
        .env("HTTPS_PROXY", "http://proxy.corp:3128")
        .stdout(fs::File::create(&out).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let banner = common::wait_for(common::PATIENCE, || {
        let text = fs::read_to_string(&out).unwrap();
        text.contains("is not used").then_some(text)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let state = dir.path().join("state");
    for part in [
        "config: config.yaml",
        "127.0.0.1:",
        "sandbox default, tier restricted, presets pypi, 1 policy file(s)",
        "/metrics and /healthz",
        state.join("ca-bundle.pem").to_str().unwrap(),
        state.join("traffic").to_str().unwrap(),
        // The port is the system's choice.
        paste(&dir.path().join("config.yaml"), " --listen 127.0.0.1:").trim_end_matches(")\""),
        "same uid",
        "HTTPS_PROXY",
    ] {
        assert!(banner.contains(part), "no {part:?} in:\n{banner}");
    }
    assert!(!banner.contains("127.0.0.1:0\n") && !banner.contains(":0 "), "{banner}");
}

/// The line of the banner that is to be pasted, from anywhere.
fn paste(config: &std::path::Path, more: &str) -> String {
    format!("eval \"$(portcullis env --config {}{more})\"", config.display())
}

#[test]
fn what_the_banner_has_one_paste_is_for_a_sandbox_that_there_is() {
    let dir = Setup::allow_all(&["origin.test"], 80).write();
    let file = dir.path().join("config.yaml");
    let config = fs::read_to_string(&file).unwrap();
    let config = config.replace("sandbox: default", "sandbox: ci").replace("  default:", "  ci:");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(&file, config.replace("127.0.0.1:0", &free.to_string())).unwrap();
    let out = dir.path().join("banner");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["gateway", "--config", "config.yaml"])
        .current_dir(dir.path())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let banner = common::wait_for(common::PATIENCE, || {
        let text = fs::read_to_string(&out).unwrap();
        text.contains("same uid").then_some(text)
    });
    assert!(banner.contains(&paste(&file, " -s ci")), "{banner}");
    let ran = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["env", "--config", file.to_str().unwrap(), "-s", "ci"])
        .current_dir("/")
        .output()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn flags_have_variables_and_flags_win() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let text = |host: &str| format!("version: 1\nnetwork_policies:\n{}", full("a", host, port));
    let setup = Setup::allow_all(&["nowhere.test"], 1)
        .file("env.yaml", &text("origin.test"))
        .file("flag.yaml", &text("other.test"));
    let env: Vec<(String, String)> = [
        ("PORTCULLIS_CONFIG", "config.yaml"),
        ("PORTCULLIS_POLICY", "env.yaml"),
        ("PORTCULLIS_METRICS", "127.0.0.1:0"),
        ("PORTCULLIS_LOG_FORMAT", "json"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let gateway = common::Gateway::spawn(setup.write(), &[], &env);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    assert_eq!(operation_kit::scrape(&gateway, "/healthz").0, 200);
    for line in gateway.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    let gateway = common::Gateway::spawn(
        setup.write(),
        &["--policy", "flag.yaml", "--log-format", "text"],
        &env,
    );
    assert_eq!(once(&gateway, "other.test", port, "/").0, 200);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
    assert!(!gateway.log().starts_with('{'), "{}", gateway.log());
}

#[test]
fn logs_say_more_when_asked_and_the_variable_decides() {
    let setup = Setup::allow_all(&["origin.test"], 80);
    let log = |args: &[&str], filter: Option<&str>| {
        let env: Vec<_> =
            filter.map(|f| ("RUST_LOG".to_owned(), f.to_owned())).into_iter().collect();
        let args = [&["--config", "config.yaml"], args].concat();
        let mut gateway = common::Gateway::spawn(setup.write(), &args, &env);
        assert_eq!(once(&gateway, "nowhere.test", 80, "/").0, 403);
        gateway.signal("TERM");
        gateway.wait();
        gateway.log()
    };
    let usual = log(&[], None);
    assert!(usual.contains("INFO") && !usual.contains("DEBUG"), "{usual}");
    assert!(!usual.contains('\u{1b}'), "no colours in a file");
    let more = log(&["-vv"], None);
    assert!(more.contains("DEBUG") || more.contains("TRACE"), "{more}");
    assert_eq!(log(&["-vv"], Some("off")), "");
    let unset = log(&[], Some(""));
    assert!(unset.contains("INFO") && !unset.contains("DEBUG"), "{unset}");
}

#[test]
fn what_the_set_up_does_not_keep_apart_or_see_is_said_in_the_status() {
    let parent = "  proxy: { url: \"http://127.0.0.1:9\", resolve: proxy }\n";
    for (upstream, count) in [("", 1), (parent, 2)] {
        let gateway = Setup::allow_all(&["origin.test"], 80).upstream(upstream).start();
        let status = Control::of(&gateway).get("/v1/status");
        let notes = status["notes"].as_array().unwrap();
        let notes: Vec<&str> = notes.iter().map(|note| note.as_str().unwrap()).collect();
        assert_eq!(notes.len(), count, "{notes:?}");
        assert!(notes[0].contains("the same uid"), "{notes:?}");
        assert!(notes[1..].iter().all(|note| note.contains("sees address literals alone")));
        let printed = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("status")
            .env("PORTCULLIS_SOCKET", gateway.state().join("control.sock"))
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        for note in notes {
            assert!(printed.lines().any(|line| line == format!("note: {note}")), "{printed}");
        }
    }
}
