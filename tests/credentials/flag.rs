//! `gateway --credential PRESET`: what it means, how a wrong one is refused, and what goes up.

use crate::common::{self, Gateway, Origin, header, read_head};
use crate::credentials_kit::{Heard, TOKEN, ask, read};
use base64::Engine;
use portcullis::config::{Config, Flags, Loaded, Surroundings, preset_credential};
use portcullis::policy::Document;
use portcullis::proxy::inject::Place;
use portcullis::vault::Source;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn around(keys: &[&str]) -> Surroundings {
    Surroundings {
        home: Some("/home/ana".into()),
        current_dir: "/work".into(),
        euid: 1000,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Surroundings::default()
    }
}

fn flags(credentials: &[&str], presets: &[&str]) -> Flags {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Flags { credentials: owned(credentials), presets: owned(presets), ..Flags::default() }
}

fn parse(text: &str, flags: &Flags, keys: &[&str]) -> Result<Loaded, String> {
    let text = format!("version: 1\n{text}");
    Config::parse(Path::new("/etc/c.yaml"), &text, flags, &around(keys))
        .map_err(|error| error.to_string())
}

#[test]
fn the_flag_attaches_what_the_preset_carries_to_the_sandbox_default_alone() {
    let text = "listen: [{ address: \"127.0.0.1:1\" }, { address: \"unix:/a\", sandbox: agent }]\n\
        sandboxes: { agent: {}, default: { credentials: [own] } }\ncredentials: { own: { file: /s } }\n\
        inject: [{ credential: own, host: api.github.com, header: Authorization }]\n";
    let flags = flags(&["github", "npm", "github"], &["github", "npm"]);
    let keys = ["GITHUB_TOKEN", "NPM_TOKEN", "GH_TOKEN"];
    let Loaded { config, notices, .. } = parse(text, &flags, &keys).unwrap();
    assert_eq!(notices, []);
    let sources: Vec<String> =
        config.credentials.iter().map(|(name, source)| format!("{name} {source}")).collect();
    assert_eq!(sources, ["github env GH_TOKEN", "npm env NPM_TOKEN", "own file /s"]);
    let attached = |sandbox: &str| -> Vec<String> {
        config.sandboxes[sandbox].credentials.iter().map(ToString::to_string).collect()
    };
    assert_eq!(attached("default"), ["own", "github", "npm"]);
    assert!(attached("agent").is_empty());
    // Of two for the same place the first counts, and flags win.
    let at = |host: &str| config.inject.iter().position(|b| b.host.to_string() == host).unwrap();
    assert_eq!(&*config.inject[at("api.github.com")].credential, "github");
    assert!(
        matches!(&config.inject[at("github.com")].place, Place::Basic { user } if &**user == "x-access-token")
    );
    assert_eq!(&*config.inject.last().unwrap().credential, "own");
}

#[test]
fn a_wrong_flag_is_refused_with_the_fix() {
    let hosts = "upstream: { hosts: { github.com: [127.0.0.1] } }\n";
    let own = "credentials: { github: { file: /s } }\n";
    let elsewhere =
        "listen: [{ address: \"unix:/a\", sandbox: agent }]\nsandboxes: { agent: {} }\n";
    for (text, name, keys, what, fix) in [
        ("", "gihtub", &[][..], "no preset of this build is named `gihtub`", "cargo, github, npm"),
        ("", "debian", &[], "the preset `debian` carries no credential", "cargo, github, npm"),
        ("", "github", &["NPM_TOKEN"], "none of GH_TOKEN, GITHUB_TOKEN is set", "export GH_TOKEN="),
        ("", "github", &[], "`github` has no value", "portcullis credentials set github"),
        ("", "cargo", &[], "CARGO_REGISTRY_TOKEN is not set", "export CARGO_REGISTRY_TOKEN="),
        (own, "github", &["GH_TOKEN"], "a credential `github` of its own", "credentials: [github]"),
        (hosts, "github", &["GH_TOKEN"], "says where github.com is", "preset show github"),
        (elsewhere, "github", &["GH_TOKEN"], "the sandbox `default`", "--listen"),
    ] {
        let error = parse(text, &flags(&[name], &[]), keys).unwrap_err();
        assert!(error.contains("--credential"), "{error}");
        assert!(error.contains(what) && error.contains("\n  fix: "), "{name}: {error}");
        assert!(error.contains(fix), "{name}: {error}");
    }
}

#[test]
fn a_credential_that_the_presets_do_not_ask_with_is_said() {
    for (credential, preset, says) in [
        ("github", "npm", Some("`github` is not in use")),
        ("github", "github", None),
        ("github", "github=read-write", None),
        ("cargo", "cargo", Some("--preset cargo=read-write adds the rules")),
        ("cargo", "cargo=read-write", None),
    ] {
        let keys = ["GH_TOKEN", "CARGO_REGISTRY_TOKEN"];
        let loaded = parse("", &flags(&[credential], &[preset]), &keys).unwrap();
        let said: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
        match says {
            None => assert!(said.is_empty(), "{said:?}"),
            Some(says) => assert!(said.len() == 1 && said[0].contains(says), "{said:?}"),
        }
    }
}

#[test]
fn a_stored_value_stands_in_for_a_variable_that_is_not_set() {
    let state = tempfile::tempdir().unwrap();
    let stored = state.path().join("secrets/npm");
    std::fs::create_dir(stored.parent().unwrap()).unwrap();
    std::fs::write(&stored, "npm_12345678").unwrap();
    let flags = Flags { state_dir: Some(state.path().into()), ..flags(&["npm"], &["npm"]) };
    let source = |keys| parse("", &flags, keys).unwrap().config.credentials["npm"].clone();
    assert_eq!(source(&[]), Source::File(stored));
    assert_eq!(source(&["NODE_AUTH_TOKEN"]), Source::Env("NODE_AUTH_TOKEN".into()));
}

#[test]
fn no_policy_file_says_where_a_credential_goes() {
    let text = "version: 1\npreset: { name: x, credential: { variables: [HOME] } }\n";
    let error = Document::parse(text, "p.yaml").unwrap_err().to_string();
    assert!(error.contains("credential"), "{error}");
    // Nor does a preset in use.
    let config = parse("", &flags(&[], &["github"]), &["GH_TOKEN"]).unwrap().config;
    assert!(config.credentials.is_empty() && config.inject.is_empty());
    assert!(preset_credential::find("github").is_some());
}

/// What hosts heard, each with its authority.
type AllHeard = Arc<Mutex<Vec<(String, Heard)>>>;

/// A parent proxy behind which GitHub's hosts are, and what they heard.
fn github() -> (Origin, AllHeard) {
    let names = ["api.github.com", "github.com", "raw.githubusercontent.com"];
    let config = common::server_config(&names, &["http/1.1"]);
    let heard = AllHeard::default();
    let all = heard.clone();
    let parent = Origin::plain(move |mut recorded| {
        let head = read_head(&mut recorded);
        let Some(authority) = head.split(' ').nth(1) else { return };
        write!(recorded, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let server = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(server, recorded.stream);
        while let Some(request) = read(&mut stream) {
            let echo = header(&request.head, "authorization").unwrap_or_default();
            all.lock().unwrap().push((authority.to_owned(), request));
            let length = echo.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{echo}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (parent, heard)
}

/// The files of a gateway whose parent proxy `parent` is.
fn prepared(parent: &Origin) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), common::test_ca().pem.as_bytes()).unwrap();
    let config = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n\
         sandboxes: {{ default: {{ approval: {{ mode: deny }} }} }}\n\
         upstream: {{ ca_files: [ca.pem], proxy: {{ url: \"http://{}\", resolve: proxy }} }}\n",
        parent.at
    );
    std::fs::write(dir.path().join("config.yaml"), config).unwrap();
    dir
}

fn start(dir: tempfile::TempDir, args: &[&str], env: &[(&str, &str)]) -> Gateway {
    let args = [&["--config", "config.yaml", "--state-dir", "state"], args].concat();
    // Empty is not set: what this test's own environment holds does not count.
    let env: Vec<(String, String)> = [("GH_TOKEN", ""), ("GITHUB_TOKEN", "")]
        .iter()
        .chain(env)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Gateway::spawn(dir, &args, &env)
}

#[test]
fn requests_of_the_preset_get_the_token_where_it_is_bound_and_nowhere_else() {
    let (parent, heard) = github();
    let args = ["--preset", "github", "--credential", "github"];
    let gateway = start(prepared(&parent), &args, &[("GITHUB_TOKEN", TOKEN)]);
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let (bearer, basic) = (format!("Bearer {TOKEN}"), format!("Basic {basic}"));
    let client = "GET /repos/a/b\r\nAuthorization: Bearer of-the-client";
    for (host, request, wanted) in [
        ("api.github.com", client, Some(&bearer)),
        ("github.com", "GET /a/b.git/info/refs?service=git-upload-pack", Some(&basic)),
        ("github.com", "POST /a/b.git/git-upload-pack\r\nContent-Length: 0", Some(&basic)),
        ("github.com", "POST /a/b.git/info/lfs/objects/batch\r\nContent-Length: 0", Some(&basic)),
        ("github.com", "GET /a/b", None),
        ("raw.githubusercontent.com", "GET /a/b/main/README.md", None),
    ] {
        let (head, body) = ask(&gateway, host, 443, request);
        assert!(head.starts_with("HTTP/1.1 200"), "{host} {request}: {head}");
        let (_, request) = heard.lock().unwrap().pop().unwrap();
        assert_eq!(request.all("authorization"), Vec::from_iter(wanted.cloned()), "{request:?}");
        let body = String::from_utf8(body).unwrap();
        assert!(!body.contains(TOKEN) && !body.contains(&basic), "{body}");
    }
    // What no rule allows gets none, and does not leave.
    let (head, _) = ask(&gateway, "api.github.com", 443, "POST /user/repos\r\nContent-Length: 0");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(heard.lock().unwrap().is_empty());
    let records = gateway.records(7);
    assert_eq!(records[0]["credential"], "github");
    let list = assert_cmd::Command::cargo_bin("portcullis")
        .unwrap()
        .args(["credentials", "list", "-o", "json", "--state-dir", "state"])
        .current_dir(gateway.dir.path())
        .output()
        .unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(
        (&list["credential"], &list["source"]),
        (&"github".into(), &"env GITHUB_TOKEN".into())
    );
    assert_eq!(list["uses"], 4);
    assert_eq!(list["bindings"][1]["place"], "basic x-access-token");
    assert!(!gateway.log().contains(TOKEN) && !gateway.banner.contains(TOKEN));
    assert!(!format!("{records:?}").contains("S3cret"));
}

#[test]
fn a_stored_value_goes_up_and_is_read_again_when_it_changes() {
    let (parent, heard) = github();
    let dir = prepared(&parent);
    let stored = dir.path().join("state/secrets/github");
    std::fs::create_dir_all(stored.parent().unwrap()).unwrap();
    std::fs::write(&stored, TOKEN).unwrap();
    // As variables, this time.
    let env = [("PORTCULLIS_PRESET", "github"), ("PORTCULLIS_CREDENTIAL", "github")];
    let gateway = start(dir, &[], &env);
    for value in [TOKEN, "another-value"] {
        std::fs::write(&stored, value).unwrap();
        ask(&gateway, "api.github.com", 443, "GET /rate_limit");
        let (authority, request) = heard.lock().unwrap().pop().unwrap();
        assert_eq!(authority, "api.github.com:443");
        assert_eq!(request.all("authorization"), [format!("Bearer {value}")]);
    }
}
