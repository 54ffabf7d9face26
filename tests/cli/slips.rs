//! What a slip is answered with: the cause, in words, and then what would be right.

use assert_cmd::Command;
use std::path::Path;

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn run_with(home: &Path, args: &[&str], variables: &[(&str, &str)], stdin: &str) -> Ran {
    let mut command = Command::cargo_bin("portcullis").unwrap();
    command.env_clear().env("HOME", home).envs(variables.iter().copied()).current_dir(home);
    let output = command.args(args).write_stdin(stdin).output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(home: &Path, args: &[&str]) -> Ran {
    run_with(home, args, &[], "")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_slip_in_the_config_is_told_in_words_with_what_would_be_right() {
    let home = home();
    for (text, what, fix) in [
        (
            "version: 1\nsandboxes:\n  default:\n    policy: p.yaml\n",
            "c.yaml:4:13: a list is expected here",
            "write `policy: [policy.yaml]`",
        ),
        (
            "version: 1\nlisten: '127.0.0.1:1'\n",
            "c.yaml:2:9: a list is expected here",
            "write `listen: [{ address: \"127.0.0.1:3128\" }]`",
        ),
        (
            "version: 1\nsandboxes: { default: { approval: hold } }\n",
            "keys with values are expected here",
            "write `approval: { mode: hold }`",
        ),
        (
            "version: 1\nmetrics: '127.0.0.1:9464'\n",
            "keys with values are expected here",
            "write `metrics: { address: \"127.0.0.1:9464\" }`",
        ),
        (
            "version: 1\ninference:\n  main:\n    routes: [{ provider: openai }]\n    budget: { tokens_per_day: 2M }\n",
            "not a whole number",
            "write `tokens_per_day: 2000000`",
        ),
        (
            "version: 1\nlisten: [{ address: \"127.0.0.1:0\", allow_uids: [root] }]\n",
            "not a whole number",
            "write `allow_uids: [1000]`: `id -u NAME` prints a user's",
        ),
        (
            "version: 1\nlisten:\n  - 127.0.0.1:1\n",
            "keys with values are expected here",
            "write `listen: [{ address: \"127.0.0.1:3128\" }]`",
        ),
        (
            "version: 1\nsandboxes: { default: { agent_api: maybe } }\n",
            "not true or false",
            "write `agent_api: true` or `agent_api: false`",
        ),
        ("listen: []\n", "the version is missing", "write `version: 1`"),
        (
            "version: 1\nsandboxes: { default: { presets: [github=read-write] } }\n",
            "no preset of this build is named `github=read-write`",
            "write { name: github, access: read-write }",
        ),
    ] {
        std::fs::write(home.path().join("c.yaml"), text).unwrap();
        let ran = run(home.path(), &["gateway", "--config", "c.yaml"]);
        assert_eq!(ran.status, 2, "{text}");
        assert!(ran.err.contains(what), "{text}: {}", ran.err);
        assert!(ran.err.trim_end().ends_with(&format!("\n  fix: {fix}")), "{text}: {}", ran.err);
    }
}

#[test]
fn a_secret_that_stands_where_its_source_should_is_not_printed() {
    let home = home();
    for text in [
        "version: 1\ncredentials:\n  github: ghp_0123456789\n",
        "version: 1\ncredentials:\n  github: { value: ghp_0123456789 }\n",
        "{ version: 1, credentials: { github: ghp_0123456789 } }\n",
    ] {
        std::fs::write(home.path().join("c.yaml"), text).unwrap();
        let ran = run(home.path(), &["gateway", "--config", "c.yaml"]);
        assert_eq!(ran.status, 2);
        assert!(!ran.err.contains("ghp_"), "{}", ran.err);
    }
    std::fs::write(home.path().join("c.yaml"), "version: 1\ncredentials:\n  github: ghp_1\n")
        .unwrap();
    let ran = run(home.path(), &["gateway", "--config", "c.yaml"]);
    assert!(ran.err.ends_with("fix: write `github: { file: ~/secrets/github }`\n"), "{}", ran.err);
}

#[test]
fn a_port_of_a_policy_that_is_no_number_says_so() {
    let home = home();
    let text =
        "version: 1\nnetwork_policies:\n  a: { endpoints: [{ host: a.test, port: \"443x\" }] }\n";
    std::fs::write(home.path().join("p.yaml"), text).unwrap();
    let ran = run(home.path(), &["policy", "check", "-o", "json", "p.yaml"]);
    let finding: serde_json::Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(finding["what"], "not a whole number");
    assert_eq!(finding["fix"], "write `port: 443`, from 1 to 65535");
}

#[test]
fn the_cause_stands_before_the_fix() {
    let home = home();
    let ran =
        run(home.path(), &["policy", "explain", "--policy", "no.yaml", "GET", "https://a.test/"]);
    let gone = "No such file or directory (os error 2)";
    let wanted = format!(
        "{}/no.yaml: {gone}\n  fix: name a policy file that is there\n",
        home.path().display()
    );
    assert!(ran.err.ends_with(&wanted), "{}", ran.err);
    let ran = run(home.path(), &["policy", "test", "no.tests.yaml"]);
    let wanted = format!("error: no.tests.yaml: {gone}\n  fix: name a test file that is there\n");
    assert_eq!(ran.err, wanted);
    let config = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nstate_dir: st\nupstream: { ca_files: [no.pem] }\n";
    std::fs::write(home.path().join("roots.yaml"), config).unwrap();
    let ran = run(home.path(), &["gateway", "--config", "roots.yaml"]);
    let wanted = format!(
        "error: {}/no.pem: {gone}\n  fix: correct or remove it in upstream.ca_files or upstream.crl_files\n",
        home.path().display()
    );
    assert_eq!(ran.err, wanted);
    let ran = run(home.path(), &["gateway", "--config", "no.yaml"]);
    let wanted = format!(
        "error: no.yaml: {gone}\n  fix: name the file with --config or PORTCULLIS_CONFIG\n"
    );
    assert_eq!(ran.err, wanted);
}

#[test]
fn every_refusal_of_a_command_ends_with_its_fix() {
    let home = home();
    std::fs::write(home.path().join("file"), "").unwrap();
    let listen = |text: &str| {
        format!(
            "version: 1\nstate_dir: st\nlisten: [{{ address: \"{text}\", sandbox: agent }}]\nsandboxes: {{ agent: {{}} }}\n"
        )
    };
    std::fs::write(home.path().join("unix.yaml"), listen("unix:none/there/a.sock")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    std::fs::write(home.path().join("tcp.yaml"), listen(&taken)).unwrap();
    let missing = format!("mkdir -p {}/none/there", home.path().display());
    for (args, fix) in [
        (&["policy", "check", "no.yaml"][..], "name a policy file that is there, or - for stdin"),
        (
            &["policy", "apply", "-f", "no.yaml", "-s", "a"],
            "name a policy file that is there, or - for stdin",
        ),
        (&["preset", "show", "debian", "--access", "read-write"], "add --access read-only"),
        (
            &["policy", "explain", "--preset", "pypi", "G(T", "https://a.test/"],
            "write one like GET, then the URL",
        ),
        (
            &["policy", "explain", "--preset", "pypi", "GET", "ftp://a.test/"],
            "write http, https, ws, wss or tcp",
        ),
        (&["gateway", "--state-dir", "file/x"], "name another with --state-dir"),
        (&["gateway", "--config", "unix.yaml"], &missing),
        (
            &["gateway", "--config", "tcp.yaml"],
            "name another `address` for agent under `listen` in the config",
        ),
        (
            &["gateway", "--listen", "127.0.0.1:0", "--metrics", &taken],
            "name another: --metrics IP:PORT",
        ),
        (&["gateway", "--listen", &taken], "name another: --listen IP:PORT"),
    ] {
        let ran = run(home.path(), args);
        assert_ne!(ran.status, 0, "{args:?}");
        let last = ran.err.lines().last().unwrap();
        assert!(last.starts_with("  fix: ") && last.contains(fix), "{args:?}: {}", ran.err);
    }
}

#[test]
fn check_reads_a_policy_from_stdin() {
    let home = home();
    let ran = run_with(home.path(), &["policy", "check", "-"], &[], "version: 1\nnope: 1\n");
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert!(ran.out.contains("(stdin):2:1: "), "{}", ran.out);
}

#[test]
fn env_says_which_sandboxes_there_are() {
    let home = home();
    let listen = |names: &[&str]| {
        let each = |(at, name): (usize, &&str)| {
            format!("  - {{ address: \"127.0.0.1:{}\", sandbox: {name} }}\n", 3128 + at)
        };
        let all: String = names.iter().enumerate().map(each).collect();
        let sandboxes: Vec<String> = names.iter().map(|name| format!("{name}: {{}}")).collect();
        format!("version: 1\nlisten:\n{all}sandboxes: {{ {} }}\n", sandboxes.join(", "))
    };
    std::fs::write(home.path().join("two.yaml"), listen(&["agent", "ci"])).unwrap();
    std::fs::write(home.path().join("one.yaml"), listen(&["agent"])).unwrap();
    let none = run(home.path(), &["env", "--config", "two.yaml"]);
    assert_eq!(none.err, "error: which sandbox? agent, ci: add -s NAME\n");
    let misspelt = run(home.path(), &["env", "--config", "two.yaml", "-s", "agnet"]);
    assert!(misspelt.err.contains("no sandbox is named `agnet`"), "{}", misspelt.err);
    assert!(misspelt.err.contains("which sandbox? agent, ci: add -s NAME"), "{}", misspelt.err);
    let ci = run(home.path(), &["env", "--config", "two.yaml", "-s", "ci"]);
    assert!(ci.out.contains("HTTPS_PROXY='http://127.0.0.1:3129'"), "{}{}", ci.out, ci.err);
    let only = run(home.path(), &["env", "--config", "one.yaml"]);
    assert!(only.out.contains("HTTPS_PROXY='http://127.0.0.1:3128'"), "{}{}", only.out, only.err);
}

#[test]
fn a_variable_says_yes_in_many_ways_and_nothing_where_it_is_empty() {
    let home = home();
    let text =
        "version: 1\nnetwork_middlewares: { dlp: { middleware: x } }\nnetwork_policies: {}\n";
    std::fs::write(home.path().join("m.yaml"), text).unwrap();
    let check = |value: &str| {
        let variables = [("PORTCULLIS_IGNORE_MIDDLEWARES", value), ("PORTCULLIS_OUTPUT", "")];
        run_with(home.path(), &["policy", "check", "m.yaml"], &variables, "").status
    };
    for (value, status) in
        [("1", 0), ("true", 0), ("yes", 0), ("0", 1), ("no", 1), ("false", 1), ("", 1)]
    {
        assert_eq!(check(value), status, "{value}");
    }
    assert_eq!(check("perhaps"), 2);
    let empty = [("PORTCULLIS_CONFIG", ""), ("PORTCULLIS_LISTEN", ""), ("PORTCULLIS_SANDBOX", "")];
    let ran = run_with(home.path(), &["env"], &empty, "");
    assert!(ran.out.contains("HTTPS_PROXY='http://127.0.0.1:3128'"), "{}", ran.err);
}

#[test]
fn an_address_in_another_form_is_told_the_right_one() {
    let home = home();
    for (text, right) in [
        ("20201", "127.0.0.1:20201"),
        (":20201", "127.0.0.1:20201"),
        ("localhost:20201", "127.0.0.1:20201"),
        ("unix:/run/p.sock", "listen: [{ address: \"unix:/run/p.sock\" }]"),
    ] {
        for command in ["gateway", "env"] {
            let ran = run(home.path(), &[command, "--listen", text]);
            assert!(ran.status == 2 && ran.err.contains(right), "{command} {text}: {}", ran.err);
        }
    }
}

#[test]
fn flags_before_a_command_are_told_where_they_go() {
    let home = home();
    let ran = run(home.path(), &["requests", "-s", "agent", "approve", "r1"]);
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.ends_with("  fix: write flags behind the command: approve ...\n"),
        "{}",
        ran.err
    );
}

#[test]
fn what_credentials_set_says_can_be_pasted() {
    let home = home();
    let args = ["credentials", "set", "github", "--state-dir", "st\u{e4}te dir"];
    let ran = run_with(home.path(), &args, &[], "token-of-the-test");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let file = home.path().join("st\u{e4}te dir/secrets/github");
    assert!(ran.out.starts_with(&format!("stored in {}\n", file.display())), "{}", ran.out);
    let state = home.path().join("st\u{e4}te dir");
    let flags = format!(
        "use it: portcullis gateway --credential github --state-dir '{}', or ",
        state.display()
    );
    let line = ran
        .out
        .lines()
        .find_map(|line| line.strip_prefix(&flags))
        .unwrap_or_else(|| panic!("{}", ran.out));
    let config: serde_json::Value = serde_saphyr::from_str(line).unwrap();
    assert_eq!(config["credentials"]["github"]["file"], file.to_str().unwrap());
    let json = [&args[..], &["-o", "json"]].concat();
    let ran = run_with(home.path(), &json, &[], "token-of-the-test");
    let stored: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(stored["file"], file.to_str().unwrap());
}

#[test]
fn what_is_printed_for_people_can_be_had_for_scripts() {
    let home = home();
    let json = |args: &[&str]| -> serde_json::Value {
        let ran = run(home.path(), &[args, &["-o", "json"]].concat());
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.err))
    };
    assert_eq!(json(&["env"])["HTTPS_PROXY"], "http://127.0.0.1:3128");
    let preset = json(&["preset", "show", "pypi"]);
    assert_eq!((&preset["name"], &preset["access"]), (&"pypi".into(), &"read-only".into()));
    assert!(preset["policy"].as_str().unwrap().contains("files.pythonhosted.org"));
    let state = home.path().join(".local/state/portcullis");
    std::fs::create_dir_all(&state).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap();
    std::fs::write(state.join("ca.pem"), certificate.self_signed(&key).unwrap().pem()).unwrap();
    assert_eq!(json(&["ca"]), json(&["ca", "show"]));
    assert_eq!(json(&["ca"])["file"], state.join("ca.pem").to_str().unwrap());
    // A shell that runs what `env` prints is given no JSON.
    let ran = run_with(home.path(), &["env"], &[("PORTCULLIS_OUTPUT", "json")], "");
    assert!(ran.out.starts_with("export "), "{}", ran.out);
}

#[test]
fn completions_offer_presets_and_tiers() {
    let home = home();
    let script = run(home.path(), &["completions", "bash"]).out;
    for name in ["github=read-write", "restricted", "\"cargo debian"] {
        assert!(script.contains(name), "{name}");
    }
    let ran = run(home.path(), &["gateway", "--preset", "nope"]);
    assert!(ran.err.contains("no preset of this build is named `nope`"), "{}", ran.err);
    let list = run(home.path(), &["preset", "list"]);
    assert!(list.out.starts_with("PRESET "), "{}", list.out);
}
