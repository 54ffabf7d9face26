//! The config file: what it means, and how a wrong one is refused.

use portcullis::config::{
    ApprovalMode, Config, ConfigError, Flags, Identity, ListenAddress, ListenMode, Loaded, NoProxy,
    Resolve, Surroundings,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn around() -> Surroundings {
    Surroundings {
        home: Some("/home/ana".into()),
        state_home: None,
        config_home: None,
        runtime_dir: None,
        current_dir: "/work".into(),
        euid: 1000,
        keys: Default::default(),
    }
}

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    Config::parse(Path::new("/etc/portcullis/config.yaml"), text, &Flags::default(), &around())
}

fn config(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}\n---\n{text}"),
    }
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn nothing_said_is_loopback_3128_for_the_own_uid_with_tier_restricted() {
    let loaded = Config::defaults(&Flags::default(), &around()).unwrap();
    let config = loaded.config;
    assert_eq!(config.state_dir, PathBuf::from("/home/ana/.local/state/portcullis"));
    assert_eq!(config.listeners.len(), 1);
    let listener = &config.listeners[0];
    assert_eq!(listener.address.to_string(), "127.0.0.1:3128");
    assert_eq!(listener.allow_uids, Some(vec![1000]));
    let sandbox = &config.sandboxes["default"];
    assert_eq!(&*sandbox.tier, "restricted");
    assert!(sandbox.policies.is_empty() && sandbox.presets.is_empty());
    assert_eq!(sandbox.identity, Identity::Required);
    assert_eq!(sandbox.approval.mode, ApprovalMode::Hold);
    assert_eq!(sandbox.limits, Default::default());
    assert_eq!(config.timeout.idle, Duration::from_secs(600));
    assert_eq!(config.traffic.max_size, 10 << 30);
    assert_eq!(config.metrics, None);
}

const EVERY_KEY: &str = r#"
version: 1
state_dir: ~/state
listen:
  - { address: "127.0.0.1:3128", allow_uids: [1000, 1001] }
  - { address: "unix:/run/portcullis/agent.sock", sandbox: agent }
  - { address: "172.18.0.1:3129", mode: transparent, sandbox: agent, allow_from: [172.18.0.0/16] }
sandboxes:
  defaults: { policy: [base.yaml], limits: { connections: 10 } }
  agent:
    policy: [policy.yaml, /abs/p.yaml]
    presets: [pypi, { name: github, access: read-write }]
    identity: ignore
    approval: { mode: deny, timeout: 5s, ask: new-hosts, max_held: 3 }
    agent_api: false
    limits: { request_body: 1GiB, upload_per_day: 5GB }
credentials:
  corp: { file: secrets/proxy }
upstream:
  ca_files: [corp-root.pem]
  hosts: { Origin.test: [127.0.0.1, "::1"] }
  allow_internal: ["127.0.0.1/32", 10.0.0.1]
  nameservers: [10.0.0.53, "10.0.0.54:5353"]
  proxy: { url: "http://proxy.corp:3128", credential: corp, no_proxy: [.corp, 10.0.0.0/8, one.test], resolve: proxy }
timeout: { header: 500ms, total: 1h }
buffer: { graphql: 1KiB }
traffic: { rotate: 1MiB, keep_for: 12h, max_size: 2MiB }
metrics: { address: "127.0.0.1:9464" }
"#;

#[test]
fn every_key_arrives_where_it_is_meant() {
    let config = config(EVERY_KEY);
    assert_eq!(config.state_dir, PathBuf::from("/home/ana/state"));
    assert_eq!(config.listeners[0].allow_uids, Some(vec![1000, 1001]));
    assert_eq!(
        config.listeners[1].address,
        ListenAddress::Unix("/run/portcullis/agent.sock".into())
    );
    assert_eq!(config.listeners[1].unix_mode, 0o600);
    assert_eq!(config.listeners[2].mode, ListenMode::Transparent);
    assert_eq!(config.listeners[2].allow_uids, None, "a container's uid says nothing");
    let agent = &config.sandboxes["agent"];
    let files: Vec<_> = agent.policies.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(files, ["/etc/portcullis/base.yaml", "/etc/portcullis/policy.yaml", "/abs/p.yaml"]);
    assert_eq!(agent.presets[1].access.as_str(), "read-write");
    assert_eq!(agent.identity, Identity::Ignore);
    assert_eq!(agent.approval.mode, ApprovalMode::Deny);
    assert_eq!(agent.approval.max_held, 3);
    assert_eq!(agent.approval.max_pending, 1000);
    assert!(!agent.agent_api);
    assert_eq!(agent.limits.connections, Some(10), "a limit of the defaults holds");
    assert_eq!(agent.limits.upload_per_day, Some(5_000_000_000));
}

#[test]
fn every_key_of_the_way_out_arrives_where_it_is_meant() {
    let config = config(EVERY_KEY);
    let upstream = &config.upstream;
    assert_eq!(upstream.ca_files, [PathBuf::from("/etc/portcullis/corp-root.pem")]);
    assert_eq!(upstream.hosts.keys().next().unwrap().as_str(), "origin.test");
    assert_eq!(upstream.allow_internal[1].to_string(), "10.0.0.1/32");
    assert_eq!(upstream.nameservers[0].to_string(), "10.0.0.53:53");
    let proxy = upstream.proxy.as_ref().unwrap();
    assert_eq!(proxy.address.to_string(), "proxy.corp:3128");
    assert_eq!(proxy.resolve, Resolve::Proxy);
    assert!(matches!(&proxy.no_proxy[0], NoProxy::Suffix(name) if name.as_str() == "corp"));
    assert!(matches!(proxy.no_proxy[1], NoProxy::Net(_)));
    assert_eq!(config.timeout.header, Duration::from_millis(500));
    assert_eq!(config.timeout.total, Some(Duration::from_secs(3600)));
    assert_eq!(config.timeout.connect, Duration::from_secs(10));
    assert_eq!(config.buffer.graphql, 1024);
    assert_eq!(config.traffic.rotate, 1 << 20);
}

#[test]
fn a_fault_names_file_line_and_column_and_says_what_would_be_right() {
    let error = refusal("version: 1\nsandboxes:\n  agent:\n    tier: balanced\n");
    assert!(error.starts_with("/etc/portcullis/config.yaml:4:11: "), "{error}");
    assert!(error.contains("\n    4 |     tier: balanced\n"), "{error}");
    assert!(error.contains("fix: use one of: restricted"), "{error}");
}

#[test]
fn an_unknown_key_a_key_given_twice_and_a_wrong_type_are_refused_with_their_place() {
    for (text, place, says) in [
        ("version: 1\nlisten_on: x\n", ":2:1: ", "listen_on"),
        ("version: 1\nmetrics: { address: a, adress: b }\n", ":2:24: ", "adress"),
        ("version: 1\nversion: 1\n", ":2:1: ", "duplicate"),
        ("version: one\n", ":1:10: ", "whole number"),
        ("version: 1\ntimeout: { idle: 30 }\n", ":2:18: ", "90s"),
        ("version: 1\nbuffer: { rpc: 64K }\n", ":2:16: ", "64KiB"),
        ("version: 1\nsandboxes: { a: { presets: [{ nam: x }] } }\n", ":2:", "nam"),
        ("version: 1\nsandboxes: { a: { agent_api: yes } }\n", ":2:", "true or false"),
    ] {
        let error = refusal(text);
        assert!(error.contains(place), "{place} not in {error}");
        assert!(error.to_lowercase().contains(&says.to_lowercase()), "{says} not in {error}");
    }
}

#[test]
fn a_listener_that_others_can_reach_says_whom_it_serves() {
    for (listener, says) in [
        ("{ address: \"0.0.0.0:3128\" }", "allow_from: [172.18.0.0/16]"),
        ("{ address: \"[::]:3128\" }", "allow_from"),
        ("{ address: \"127.0.0.1:3129\", mode: transparent }", "allow_from"),
        ("{ address: \"192.168.1.1:3128\", allow_from: [] }", "serves nobody"),
        ("{ address: \"127.0.0.1:3128\", allow_uids: [] }", "serves nobody"),
        ("{ address: \"unix:/x.sock\", mode: \"0666\" }", "allow_uids"),
        ("{ address: \"unix:/x.sock\", mode: proxy }", "octal"),
        ("{ address: \"unix:/x.sock\", allow_from: [10.0.0.0/8] }", "allow_uids"),
        ("{ address: \"localhost:3128\" }", "127.0.0.1:3128"),
        ("{ address: \"127.0.0.1:3128\", sandbox: nobody }", "sandboxes: { nobody:"),
    ] {
        let error = refusal(&format!("version: 1\nlisten:\n  - {listener}\n"));
        assert!(error.contains("config.yaml:3:"), "{error}");
        assert!(error.contains(says), "{says} not in {error}");
    }
    let text = "version: 1\nlisten: [{ address: \"unix:/x\", mode: 0660, allow_uids: [7] }]\n";
    assert_eq!(config(text).listeners[0].unix_mode, 0o660);
}

#[test]
fn the_same_address_twice_is_refused() {
    let error = refusal(
        "version: 1\nlisten: [{ address: \"127.0.0.1:1\" }, { address: \"127.0.0.1:1\" }]\n",
    );
    assert!(error.contains("listened on twice"), "{error}");
}

#[test]
fn what_this_build_lacks_is_refused_and_never_ignored() {
    let text = "credentials: { corp: { command: [x] } }\nupstream: { proxy: { url: \"http://p:1\", credential: corp } }\n";
    let error = refusal(&format!("version: 1\n{text}"));
    assert!(error.contains("use file: or env:"), "{error}");
}

#[test]
fn approval_holds_unless_the_file_says_otherwise() {
    let mode = |text: &str| parse(text).unwrap().config.sandboxes["default"].approval.mode;
    assert_eq!(mode("version: 1\n"), ApprovalMode::Hold);
    let queue = "version: 1\nsandboxes: { default: { approval: { mode: queue } } }\n";
    assert_eq!(mode(queue), ApprovalMode::Queue);
    let deny = "version: 1\nsandboxes: { default: { approval: { mode: deny } } }\n";
    assert_eq!(mode(deny), ApprovalMode::Deny);
}

#[test]
fn a_limit_of_zero_is_an_error() {
    for limits in [
        "sandboxes: { a: { limits: { connections: 0 } } }",
        "sandboxes: { a: { limits: { request_body: 0 } } }",
        "sandboxes: { defaults: { limits: { upload_per_day: 0KiB } } , a: {} }",
        "timeout: { idle: 0s }",
        "buffer: { rpc: 0 }",
        "traffic: { rotate: 0 }",
    ] {
        let error = refusal(&format!("version: 1\n{limits}\n"));
        assert!(error.contains("above 0"), "{limits}: {error}");
    }
}

#[test]
fn a_password_in_the_parent_proxys_url_is_refused_and_not_repeated() {
    let error =
        refusal("version: 1\nupstream: { proxy: { url: \"http://u:hunter2@p.corp:1\" } }\n");
    assert!(error.contains("credentials"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_preset_that_is_not_there_or_lacks_the_access_is_refused() {
    let error = refusal("version: 1\nsandboxes: { a: { presets: [pipy] } }\n");
    assert!(error.contains("cargo, debian, github, npm, pypi"), "{error}");
    let error = refusal(
        "version: 1\nsandboxes: { a: { presets: [{ name: debian, access: read-write }] } }\n",
    );
    assert!(error.contains("no read-write access"), "{error}");
}

#[test]
fn flags_win_over_the_file_for_the_sandbox_default() {
    let flags = Flags {
        policies: vec!["p.yaml".into()],
        presets: vec!["pypi".into(), "github=read-write".into()],
        listen: Some("127.0.0.1:4000".parse().unwrap()),
        state_dir: Some("st".into()),
        metrics: Some("127.0.0.1:9".parse().unwrap()),
        ..Flags::default()
    };
    let text = "version: 1\nstate_dir: /var/x\nlisten: [{ address: \"127.0.0.1:3128\" }, { address: \"unix:/a\", sandbox: agent }]\nsandboxes: { agent: {}, default: { policy: [own.yaml] } }\n";
    let path = Path::new("/etc/portcullis/config.yaml");
    let loaded = Config::parse(path, text, &flags, &around()).unwrap();
    let addresses: Vec<_> = loaded.config.listeners.iter().map(|l| l.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:4000", "unix:/a"]);
    assert_eq!(loaded.config.state_dir, PathBuf::from("/work/st"));
    let sandbox = &loaded.config.sandboxes["default"];
    assert_eq!(
        sandbox.policies,
        [PathBuf::from("/etc/portcullis/own.yaml"), PathBuf::from("/work/p.yaml")]
    );
    assert_eq!(sandbox.presets.len(), 2);
    assert!(loaded.config.sandboxes["agent"].policies.is_empty());
    // Two policy files, and each sandbox's answers for good.
    assert_eq!(loaded.files.len(), 4);

    let wide = Flags { listen: Some("0.0.0.0:1".parse().unwrap()), ..Flags::default() };
    let error = Config::defaults(&wide, &around()).unwrap_err().to_string();
    assert!(error.contains("--listen") && error.contains("allow_from"), "{error}");
    for (flags, says) in [
        (Flags { tier: Some("open".into()), ..Flags::default() }, "restricted"),
        (Flags { presets: vec!["github=all".into()], ..Flags::default() }, "read-write"),
        (Flags { presets: vec!["x".into()], ..Flags::default() }, "cargo"),
    ] {
        let error = Config::defaults(&flags, &around()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("nowhere.yaml"), &Flags::default(), &around()).unwrap_err();
    assert!(error.to_string().contains("nowhere.yaml"), "{error}");
}

#[test]
fn no_home_needs_a_state_dir() {
    let around = Surroundings { home: None, ..around() };
    let error = Config::defaults(&Flags::default(), &around).unwrap_err();
    assert!(matches!(error, ConfigError::NoStateDir));
    let flags = Flags { state_dir: Some("/s".into()), ..Flags::default() };
    assert!(Config::defaults(&flags, &around).is_ok());
}
