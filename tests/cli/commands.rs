//! The commands, as a shell sees them: what they print, and how they exit.

use crate::common::{self, Setup};
use assert_cmd::Command;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn portcullis(home: &Path) -> Command {
    let mut command = Command::cargo_bin("portcullis").unwrap();
    command.env_clear().env("HOME", home).current_dir(home);
    command
}

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn run(home: &Path, args: &[&str]) -> Ran {
    let output = portcullis(home).args(args).output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

const POLICY: &str = "version: 1
network_policies:
  github:
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: { method: GET, path: \"/repos/**\" }
        deny_rules:
          - { method: GET, path: \"/repos/*/*/secret\" }
    binaries: [{ path: /usr/bin/gh }]
";

#[test]
fn check_exits_0_without_errors_1_with_and_2_where_it_cannot_read() {
    let home = home();
    std::fs::write(home.path().join("good.yaml"), POLICY).unwrap();
    std::fs::write(home.path().join("bad.yaml"), "version: 1\nnope: 1\n").unwrap();
    let good = run(home.path(), &["policy", "check", "good.yaml"]);
    assert_eq!(good.status, 0, "{}{}", good.out, good.err);
    assert!(good.out.contains("0 errors, 0 warnings, 0 notes"), "{}", good.out);
    let bad = run(home.path(), &["policy", "check", "good.yaml", "bad.yaml"]);
    assert_eq!(bad.status, 1);
    assert!(bad.out.contains("bad.yaml:2:1: "), "{}", bad.out);
    let missing = run(home.path(), &["policy", "check", "nowhere.yaml"]);
    assert_eq!(missing.status, 2);
    assert!(missing.err.contains("nowhere.yaml"), "{}", missing.err);
    assert_eq!(run(home.path(), &["policy", "check"]).status, 2);
    assert_eq!(run(home.path(), &["policy", "check", "good.yaml", "--from", "x"]).status, 2);
}

#[test]
fn check_prints_one_json_object_a_line() {
    let home = home();
    let wide = POLICY.replace("protocol: rest", "allowed_ips: [10.0.0.0/8]");
    std::fs::write(home.path().join("wide.yaml"), wide).unwrap();
    std::fs::write(home.path().join("bad.yaml"), "version: 1\nnope: 1\n").unwrap();
    let ran = run(home.path(), &["policy", "check", "-o", "json", "wide.yaml", "bad.yaml"]);
    assert_eq!(ran.status, 1);
    let lines: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["code"], "invalid");
    assert_eq!(lines[0]["file"], "bad.yaml");
    let network = lines.iter().find(|line| line["code"] == "wide_network").unwrap();
    assert_eq!(network["severity"], "warning");
    assert_eq!(network["line"], 7);
    assert_eq!(network["rule"], "github/endpoints[0]");
}

#[test]
fn a_middleware_that_fails_closed_is_an_error_unless_it_is_ignored() {
    let home = home();
    let text =
        "version: 1\nnetwork_middlewares: { dlp: { middleware: x } }\nnetwork_policies: {}\n";
    std::fs::write(home.path().join("m.yaml"), text).unwrap();
    assert_eq!(run(home.path(), &["policy", "check", "m.yaml"]).status, 1);
    let ignored = run(home.path(), &["policy", "check", "--ignore-middlewares", "m.yaml"]);
    assert_eq!(ignored.status, 0, "{}", ignored.out);
    assert!(ignored.out.contains("middleware_ignored"), "{}", ignored.out);
}

#[test]
fn explain_names_the_rule_or_the_nearest_miss() {
    let home = home();
    std::fs::write(home.path().join("p.yaml"), POLICY).unwrap();
    let explain = |args: &[&str]| {
        let base = ["policy", "explain", "--policy", "p.yaml", "-o", "json"];
        let ran = run(home.path(), &[&base, args].concat());
        assert_eq!(ran.status, 0, "{}", ran.err);
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()
    };
    let gh = "--binary=/usr/bin/gh";
    let said = explain(&[gh, "GET", "https://api.github.com/repos/a/b"]);
    assert_eq!(said["verdict"], "allow");
    assert_eq!(said["rule"], "github/endpoints[0]/rules[0]");
    assert_eq!(said["considered"][0]["line"], 5);
    let said = explain(&[gh, "POST", "https://api.github.com/repos/a/b"]);
    assert_eq!(
        (&said["verdict"], &said["code"]),
        (&"unknown".into(), &"method_not_allowed".into())
    );
    let said = explain(&[gh, "GET", "https://api.github.com/repos/a/b/secret"]);
    assert_eq!((&said["verdict"], &said["code"]), (&"deny".into(), &"denied_by_rule".into()));
    let said = explain(&["--binary=/usr/bin/curl", "GET", "https://api.github.com/repos/a/b"]);
    assert_eq!(said["code"], "process_not_allowed");
    let said = explain(&["GET", "https://api.github.com/repos/a/b"]);
    assert_eq!(said["code"], "process_unknown");
    let said = explain(&["GET", "https://elsewhere.test/"]);
    assert_eq!(
        (&said["code"], &said["considered"]),
        (&"host_unknown".into(), &serde_json::json!([]))
    );
    let text = run(
        home.path(),
        &["policy", "explain", "--preset", "pypi", "GET", "https://pypi.org/simple/six/"],
    );
    assert!(
        text.out.contains("allow") && text.out.contains("pypi/endpoints[0]/rules["),
        "{}",
        text.out
    );
    for wrong in
        ["pypi.org/simple", "ftp://pypi.org/", "https://pypi.org/a/../b", "https://u@pypi.org/"]
    {
        let ran = run(home.path(), &["policy", "explain", "--preset", "pypi", "GET", wrong]);
        assert_eq!(ran.status, 2, "{wrong}: {}", ran.out);
    }
}

#[test]
fn explain_without_files_asks_the_configs_policy() {
    let home = home();
    std::fs::create_dir_all(home.path().join(".config/portcullis")).unwrap();
    std::fs::write(home.path().join(".config/portcullis/p.yaml"), POLICY).unwrap();
    std::fs::write(
        home.path().join(".config/portcullis/config.yaml"),
        "version: 1\nlisten: [{ address: \"127.0.0.1:1\", sandbox: agent }]\nsandboxes: { defaults: { deny_rules: [{ host: api.github.com, path: /repos/x/** }] }, agent: { policy: [p.yaml], presets: [npm] } }\n",
    )
    .unwrap();
    let ran = run(
        home.path(),
        &[
            "policy",
            "explain",
            "-s",
            "agent",
            "--binary",
            "/usr/bin/gh",
            "GET",
            "https://api.github.com/repos/a/b",
        ],
    );
    assert!(ran.out.contains("verdict  allow"), "{}{}", ran.out, ran.err);
    let ran = run(
        home.path(),
        &[
            "policy",
            "explain",
            "-s",
            "agent",
            "--binary",
            "/usr/bin/gh",
            "GET",
            "https://api.github.com/repos/x/b",
        ],
    );
    assert!(ran.out.contains("verdict  deny"), "{}{}", ran.out, ran.err);
    let ran = run(home.path(), &["policy", "explain", "-s", "nobody", "GET", "https://a.test/"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("use one of: agent"), "{}", ran.err);
}

/// Who sets `PORTCULLIS_OUTPUT` sets it for every command.
#[test]
fn what_is_json_a_line_is_yaml_a_document() {
    let home = home();
    std::fs::write(home.path().join("p.yaml"), POLICY).unwrap();
    let wide = POLICY.replace("protocol: rest", "allowed_ips: [10.0.0.0/8]");
    std::fs::write(home.path().join("wide.yaml"), wide).unwrap();
    let suite = "version: 1\ntests:\n  - { name: a, request: { method: GET, url: \"https://api.github.com/x\" }, expect: unknown }\n";
    std::fs::write(home.path().join("p.tests.yaml"), suite).unwrap();
    for args in [
        &["policy", "check", "wide.yaml"][..],
        &["policy", "explain", "--policy", "p.yaml", "GET", "https://api.github.com/repos/a/b"],
        &["policy", "diff", "wide.yaml", "p.yaml"],
        &["policy", "test", "p.tests.yaml"],
        &["preset", "list"],
    ] {
        let json = run(home.path(), &[args, &["-o", "json"]].concat());
        let lines: Vec<serde_json::Value> =
            json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!lines.is_empty(), "{args:?}: {}", json.err);
        let output = portcullis(home.path()).args(args).env("PORTCULLIS_OUTPUT", "yaml").output();
        let yaml = String::from_utf8(output.unwrap().stdout).unwrap();
        let documents: Vec<serde_json::Value> =
            yaml.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
        assert_eq!(documents, lines, "{args:?}");
    }
}

#[test]
fn presets_are_listed_and_shown() {
    let home = home();
    let list = run(home.path(), &["preset", "list"]);
    assert!(
        list.out.contains("github") && list.out.contains("read-only, read-write"),
        "{}",
        list.out
    );
    let json = run(home.path(), &["preset", "list", "-o", "json"]);
    assert_eq!(json.out.lines().count(), 5);
    let show = run(home.path(), &["preset", "show", "pypi"]);
    assert!(show.out.contains("files.pythonhosted.org"), "{}", show.out);
    // What a credential can be of use for is said where it is, and the file stays a policy.
    assert!(!show.out.contains("--credential"), "{}", show.out);
    let carries = run(home.path(), &["preset", "show", "pypi", "--access", "read-write"]);
    assert!(carries.out.contains("# `gateway --credential pypi` puts UV_PUBLISH_TOKEN or"));
    let github = run(home.path(), &["preset", "show", "github"]).out;
    assert!(github.contains("#     - { credential: github, host: api.github.com"), "{github}");
    std::fs::write(home.path().join("github.yaml"), github).unwrap();
    assert_eq!(run(home.path(), &["policy", "check", "github.yaml"]).status, 0);
    let github = json.out.lines().find(|line| line.contains("\"github\"")).unwrap();
    assert!(github.contains("\"credential\":[\"GH_TOKEN\",\"GITHUB_TOKEN\"]"), "{github}");
    assert_eq!(run(home.path(), &["preset", "show", "nope"]).status, 2);
    assert_eq!(run(home.path(), &["preset", "show", "debian", "--access", "read-write"]).status, 2);
}

#[test]
fn env_points_at_the_listener_of_the_config() {
    let home = home();
    let plain = run(home.path(), &["env"]);
    assert!(plain.out.contains("export HTTPS_PROXY='http://127.0.0.1:3128'\n"), "{}", plain.out);
    assert!(plain.out.contains("/.local/state/portcullis/ca-bundle.pem'"), "{}", plain.out);
    let docker = run(home.path(), &["env", "--docker"]);
    assert_eq!(docker.status, 2);
    assert!(docker.err.contains("allow_from"), "{}", docker.err);
    std::fs::write(
        home.path().join("c.yaml"),
        "version: 1\nstate_dir: /st\nlisten: [{ address: \"127.0.0.1:3128\" }, { address: \"172.17.0.1:3129\", allow_from: [172.17.0.0/16] }]\n",
    )
    .unwrap();
    let docker = run(home.path(), &["env", "--docker", "--config", "c.yaml"]);
    assert!(docker.out.contains("--env HTTPS_PROXY=http://172.17.0.1:3129\n"), "{}", docker.out);
    assert!(docker.out.contains("--volume /st/ca-bundle.pem:"), "{}", docker.out);
    let shell = run(home.path(), &["env", "--config", "c.yaml"]);
    assert!(shell.out.contains("http_proxy='http://127.0.0.1:3128'"), "{}", shell.out);
    assert_eq!(run(home.path(), &["env", "--docker", "--k8s"]).status, 2);
}

#[test]
fn the_ca_is_shown_and_exported_and_its_key_never() {
    let home = home();
    let none = run(home.path(), &["ca", "export"]);
    assert_eq!(none.status, 2);
    assert!(none.err.contains("portcullis gateway"), "{}", none.err);
    let state = home.path().join(".local/state/portcullis");
    std::fs::create_dir_all(&state).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap().self_signed(&key).unwrap();
    let text = format!("{}{}", key.serialize_pem(), certificate.pem());
    std::fs::write(state.join("ca.pem"), text).unwrap();
    let export = run(home.path(), &["ca", "export"]);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&export.out), lines(&certificate.pem()));
    assert!(!export.out.contains("PRIVATE"));
    let show = run(home.path(), &["ca", "show"]);
    assert!(show.out.contains("sha256") && show.out.contains("not after"), "{}", show.out);
}

#[test]
fn the_ca_is_rotated_where_no_gateway_signs_with_it() {
    let mut gateway = Setup::allow_all(&["origin.test"], 80).start();
    let dir = gateway.dir.path().to_owned();
    let state = gateway.state();
    let ca = |command: &str| run(&dir, &["ca", command, "--config", "config.yaml"]);
    let fingerprint = |out: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix("sha256 ")).unwrap();
        line.trim().to_owned()
    };
    let old = fingerprint(&ca("show").out);
    let refused = ca("rotate");
    assert_eq!((refused.status, refused.out.as_str()), (2, ""), "{}", refused.err);
    assert!(refused.err.contains(&format!("pid {}", gateway.pid())), "{}", refused.err);
    assert_eq!(fingerprint(&ca("show").out), old);

    gateway.signal("TERM");
    gateway.wait();
    let key = std::fs::read(state.join("ca-key.pem")).unwrap();
    let rotated = ca("rotate");
    assert_eq!(rotated.status, 0, "{}", rotated.err);
    let new = fingerprint(&rotated.out);
    assert_ne!(new, old);
    assert!(rotated.out.contains(&format!("no longer    {old}\n")), "{}", rotated.out);
    assert!(!rotated.out.contains("PRIVATE"), "{}", rotated.out);
    assert_eq!(fingerprint(&ca("show").out), new);
    assert_ne!(std::fs::read(state.join("ca-key.pem")).unwrap(), key);
    let mode = std::fs::metadata(state.join("ca-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let certificate = ca("export").out.replace("\r\n", "\n");
    let bundle = common::text(&state.join("ca-bundle.pem")).replace("\r\n", "\n");
    assert!(bundle.contains(&certificate), "{bundle}");

    // It is the one that the next gateway signs with.
    gateway.restart(&[]);
    assert_eq!(fingerprint(&ca("show").out), new);
    let mut tls = gateway.tls("origin.test:80", "origin.test", &["http/1.1"]);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
}

#[test]
fn a_wrong_config_exits_2_and_ends_with_the_fix() {
    let home = home();
    std::fs::write(home.path().join("c.yaml"), "version: 2\n").unwrap();
    let ran = run(home.path(), &["gateway", "--config", "c.yaml"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("c.yaml:1:10: version 2 of the config is not known"), "{}", ran.err);
    assert!(ran.err.trim_end().ends_with("fix: write `version: 1`"), "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}'), "no colour off a terminal");
}

#[test]
fn completions_and_help_are_there() {
    let home = home();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(home.path(), &["completions", shell]);
        assert!(ran.status == 0 && ran.out.contains("portcullis"), "{shell}");
    }
    assert!(run(home.path(), &["--help"]).out.contains("Examples:"));
    assert_eq!(run(home.path(), &["nonsense"]).status, 2);
}
