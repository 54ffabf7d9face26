//! What the banner says to paste speaks of the gateway that said it, whatever its flags and paths are;
//! `status` what is missing.

use assert_cmd::cargo::cargo_bin;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A gateway of the binary, and its banner.
struct Started {
    child: Child,
    banner: String,
}

impl Started {
    fn new(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(cargo_bin("portcullis"))
            .arg("gateway")
            .args(args)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The banner is one write.
        let mut banner = vec![0; 64 << 10];
        let length = child.stdout.as_mut().unwrap().read(&mut banner).unwrap();
        let banner = String::from_utf8(banner[..length].to_vec()).unwrap();
        assert!(banner.contains("paste:"), "{args:?} did not start: {banner}");
        Self { child, banner }
    }

    /// Where it listens, as the banner says.
    fn address(&self) -> &str {
        let line = self.banner.lines().find(|line| line.contains("  sandbox ")).unwrap();
        line.split_whitespace().next().unwrap()
    }

    fn line(&self, words: &str) -> &str {
        self.banner.lines().map(str::trim).find(|line| line.starts_with(words)).unwrap()
    }

    /// What a shell in another directory has after the line was pasted.
    fn pasted(&self, variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        let bin = cargo_bin("portcullis");
        let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
        let script = format!("{} && env -0", self.line("eval "));
        let shell = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .envs(variables.iter().copied())
            .env("PATH", path)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(shell.stderr.is_empty(), "{script}: {}", String::from_utf8_lossy(&shell.stderr));
        let all = String::from_utf8(shell.stdout).unwrap();
        let pairs = all.split_terminator('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const CONFIG: &str = "version: 1
state_dir: of-the-file
listen: [{ address: \"127.0.0.1:0\" }]
";

#[test]
fn the_line_to_paste_points_a_shell_at_this_gateway_and_its_bundle() {
    for (args, state, at_home) in [
        (&["--listen", "127.0.0.1:0"][..], ".local/state/portcullis", true),
        (&["--state-dir", "with a space", "--listen", "127.0.0.1:0"], "with a space", true),
        (&["--state-dir", "it's", "--listen", "[::1]:0"], "it's", true),
        (&["--state-dir", "homeless", "--listen", "127.0.0.1:0"], "homeless", false),
        (&["--config", "c.yaml"], "of-the-file", true),
        (&["--config", "c.yaml", "--listen", "[::1]:0"], "of-the-file", true),
        (&["--config", "c.yaml", "--state-dir", "of a flag"], "of a flag", true),
        (&["--config", "c.yaml", "--state-dir", "none", "--listen", "127.0.0.1:0"], "none", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let variables = [("HOME", home.as_str())];
        let variables = if at_home { &variables[..] } else { &[] };
        let started = Started::new(dir.path(), args, variables);
        let shell = started.pasted(variables);
        let proxy = format!("http://{}", started.address());
        assert_eq!(shell["HTTPS_PROXY"], proxy, "{args:?}: {}", started.banner);
        let bundle = dir.path().join(state).join("ca-bundle.pem");
        assert_eq!(shell["SSL_CERT_FILE"], bundle.to_str().unwrap(), "{args:?}");
        assert!(bundle.exists() && !started.address().ends_with(":0"), "{}", started.banner);
        // zsh would look for files.
        assert!(!started.line("eval ").contains(" [::1]"), "{}", started.banner);
    }
}

#[test]
fn the_pane_that_is_named_is_the_one_of_this_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--state-dir", "with a space", "--listen", "127.0.0.1:0"];
    let started = Started::new(dir.path(), &args, &[]);
    let socket = dir.path().join("with a space/control.sock");
    let line = format!("portcullis term --socket '{}'", socket.display());
    assert_eq!(started.line("portcullis term"), line);
    let held =
        "What no rule allows is held for 1m while a pane is open, else 5s, and then refused.";
    assert!(started.banner.contains(held), "{}", started.banner);
}

#[test]
fn a_path_that_docker_would_not_get_whole_is_an_error_and_not_a_broken_line() {
    let dir = tempfile::tempdir().unwrap();
    let env = |state: &str| {
        Command::new(cargo_bin("portcullis"))
            .args(["env", "--docker", "--host", "172.17.0.1", "--state-dir", state])
            .env_clear()
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    for state in ["with a space", "it's", "a:b", "star*"] {
        let ran = env(state);
        assert_eq!((ran.status.code(), ran.stdout.len()), (Some(2), 0), "{state}");
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(said.contains("fix: start the gateway with a state directory of"), "{said}");
    }
    assert_eq!(env("plain").status.code(), Some(0));
}

#[test]
fn status_warns_of_a_credential_without_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let config = "version: 1
state_dir: st
listen: [{ address: \"127.0.0.1:0\" }]
sandboxes: { default: { credentials: [github] } }
credentials: { github: { file: none/there } }
inject: [{ credential: github, host: api.github.com, header: Authorization }]
";
    std::fs::write(dir.path().join("c.yaml"), config).unwrap();
    let _started = Started::new(dir.path(), &["--config", "c.yaml"], &[]);
    let status = Command::new(cargo_bin("portcullis"))
        .args(["status", "--config", "c.yaml"])
        .env_clear()
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(said.contains("warning: the credential github has no value: "), "{said}");
    assert!(said.contains("config file c.yaml"), "{said}");
}
