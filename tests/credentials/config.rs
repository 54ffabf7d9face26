//! `credentials`, `inject` and `sandboxes.*.credentials`: what they mean, and how a wrong one is
//! refused.

use portcullis::config::{Config, ConfigError, Flags, Loaded, Surroundings};
use portcullis::proxy::inject::{Place, Spot, Within};
use portcullis::vault::Source;
use std::path::Path;
use std::time::Duration;

fn around() -> Surroundings {
    Surroundings {
        home: Some("/home/ana".into()),
        state_home: None,
        config_home: None,
        runtime_dir: None,
        current_dir: "/srv".into(),
        euid: 1000,
        keys: Default::default(),
    }
}

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    Config::parse(Path::new("/etc/portcullis/config.yaml"), text, &Flags::default(), &around())
}

const SOURCES: &str = "version: 1\ncredentials:\n  github: { file: ~/secrets/github }\n";

#[test]
fn sources_and_bindings_mean_what_the_page_says() {
    let text = format!(
        "{SOURCES}  token: {{ env: TOKEN }}\n  gcloud: {{ command: [gcloud, print], ttl: 30m }}\n\
         sandboxes:\n  defaults: {{ credentials: [token] }}\n  default: {{ credentials: [github, token] }}\n\
         inject:\n  - {{ credential: github, host: API.github.com, header: Authorization, format: \"Bearer {{}}\" }}\n\
         \x20 - {{ credential: token, host: b.test, port: 8443, methods: [get], path: \"/x/*\", placeholder: SOME_TOKEN, in: [path, json] }}\n\
         \x20 - {{ credential: token, host: c.test, placeholder: SOME_TOKEN }}\n"
    );
    let config = parse(&text).unwrap().config;
    assert_eq!(config.credentials["github"], Source::File("/home/ana/secrets/github".into()));
    assert_eq!(config.credentials["token"], Source::Env("TOKEN".into()));
    let argv = vec!["gcloud".to_owned(), "print".to_owned()];
    let (ttl, timeout) = (Some(Duration::from_secs(1800)), Duration::from_secs(10));
    assert_eq!(config.credentials["gcloud"], Source::Command { argv, ttl, timeout });
    let names: Vec<&str> =
        config.sandboxes["default"].credentials.iter().map(|name| &**name).collect();
    assert_eq!(names, ["token", "github"]);
    let [github, some, usual] = &config.inject[..] else { panic!("{:?}", config.inject) };
    assert_eq!((github.host.to_string().as_str(), github.port.get()), ("api.github.com", 443));
    assert!(github.methods.is_empty() && github.path.is_everything() && !github.websocket);
    let (name, format) = ("authorization".parse().unwrap(), "Bearer {}".into());
    assert_eq!(github.place, Place::Header { name, format });
    assert_eq!(some.port.get(), 8443);
    assert_eq!(some.methods, [http::Method::GET]);
    let within = [Spot::Path, Spot::Json].into_iter().collect();
    assert_eq!(some.place, Place::Placeholder { word: "SOME_TOKEN".into(), within });
    let within = Within::USUAL;
    assert_eq!(usual.place, Place::Placeholder { word: "SOME_TOKEN".into(), within });
}

#[test]
fn a_wrong_binding_is_refused_with_its_line_and_the_fix() {
    let usual = "credential: github, host: a.test, header: X-Key";
    for (entry, what, fix) in [
        (
            "credential: other, host: a.test, header: X-Key",
            "no credential is named `other`",
            "add it: credentials:",
        ),
        (
            "credential: github, host: \"*.a.test\", header: X-Key",
            "`*.a.test` is not a host",
            "name one host",
        ),
        (
            "credential: github, host: policy.local, header: X-Key",
            "answered by the gateway itself",
            "name the host",
        ),
        ("credential: github, host: a.test", "exactly one place", "write one of header"),
        (&format!("{usual}, query: key"), "exactly one place", "write one of header"),
        (&format!("{usual}, port: 0"), "0 is not a port", "leave it out: 443"),
        (&format!("{usual}, methods: []"), "no method gets", "[\"*\"]"),
        (&format!("{usual}, path: repos"), "`repos` is not a path pattern", "/api/**"),
        (&format!("{usual}, format: Bearer"), "`Bearer` has no place for the value", "Bearer {}"),
        (&format!("{usual}, in: [path]"), "`in` belongs to `placeholder`", "remove it"),
        (
            "credential: github, host: a.test, query: key, format: \"{}\"",
            "`format` belongs to `header`",
            "remove it",
        ),
        (
            "credential: github, host: a.test, header: Host",
            "no credential goes into `Host`",
            "name the header",
        ),
        (
            "credential: github, host: a.test, header: \"a b\"",
            "`a b` is not a header's name",
            "Authorization",
        ),
        (
            "credential: github, host: a.test, placeholder: short",
            "8 to 128 characters",
            "TELEGRAM_TOKEN",
        ),
        (
            "credential: github, host: a.test, placeholder: SOME_TOKEN, in: []",
            "looked for nowhere",
            "leave `in` out",
        ),
        (
            "credential: github, host: a.test, placeholder: SOME_TOKEN, in: [websocket]",
            "need a binding for WebSockets",
            "websocket: true",
        ),
        (
            "credential: github, host: a.test, basic: { user: \"a:b\" }",
            "not a user of Basic",
            "without a colon",
        ),
        (
            "credential: github, host: a.test, sigv4: { service: s3, region: EU/1 }",
            "`EU/1` is not a service or region",
            "eu-west-1",
        ),
        (
            "credential: github, host: fixed.test, header: X-Key",
            "does not list the address",
            "addresses: [127.0.0.1]",
        ),
    ] {
        let text = format!(
            "{SOURCES}upstream: {{ hosts: {{ fixed.test: [127.0.0.1] }} }}\ninject:\n  - {{ {entry} }}\n"
        );
        let error = parse(&text).expect_err(entry).to_string();
        assert!(error.contains(what) && error.contains(fix), "{entry}:\n{error}");
        assert!(error.starts_with("/etc/portcullis/config.yaml:6:"), "{entry}:\n{error}");
    }
}

#[test]
fn a_wrong_source_is_refused_with_its_line_and_the_fix() {
    for (entry, what, fix) in [
        ("x: {}", "exactly one source", "write file: PATH"),
        ("x: { file: a, env: B }", "exactly one source", "write file: PATH"),
        ("x: { command: [] }", "exactly one source", "command: [PROGRAM"),
        ("x: { command: [\"\"] }", "exactly one source", "command: [PROGRAM"),
        ("x: { env: \"A=B\" }", "`A=B` is not the name of a variable", "GITHUB_TOKEN"),
        ("x: { file: a, ttl: 5m }", "`ttl` and `timeout` belong to `command`", "remove them"),
        ("x: { command: [a], ttl: 0s }", "0 is no time", "leave it out"),
        ("\"a/b\": { file: a }", "`a/b` is not a credential's name", "letters, digits"),
        ("\"..\": { file: a }", "`..` is not a credential's name", "letters, digits"),
    ] {
        let error = parse(&format!("version: 1\ncredentials:\n  {entry}\n")).expect_err(entry);
        let error = error.to_string();
        assert!(error.contains(what) && error.contains(fix), "{entry}:\n{error}");
        assert!(error.starts_with("/etc/portcullis/config.yaml:3:"), "{entry}:\n{error}");
    }
    let text = "version: 1\nsandboxes:\n  agent: { credentials: [nobody] }\n";
    let error = parse(text).unwrap_err().to_string();
    assert!(error.contains("no credential is named `nobody`"), "{error}");
}
