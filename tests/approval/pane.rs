//! The whole of it as a person does it: a real curl waits, the pane is open in a real terminal
//! (tmux), one key and Enter, and curl ends with 200.

use crate::approval_kit::holding;
use crate::common::{Gateway, Origin, PATIENCE, tool};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// A terminal of its own server, with the pane in it.
struct Pane(tempfile::TempDir);

impl Pane {
    fn open(gateway: &Gateway, columns: u16, rows: u16) -> Self {
        let pane = Self(tempfile::tempdir().unwrap());
        let socket = gateway.state().join("control.sock");
        let term =
            format!("{} term --socket {}", env!("CARGO_BIN_EXE_portcullis"), socket.display());
        let (x, y) = (columns.to_string(), rows.to_string());
        pane.run(&["new-session", "-d", "-x", &x, "-y", &y, &term]);
        pane
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.0.path().join("tmux")).args(["-f", "/dev/null"]).args(args);
        tmux.env_remove("TMUX").env("TERM", "screen-256color").output().unwrap()
    }

    fn screen(&self) -> String {
        String::from_utf8(self.run(&["capture-pane", "-p"]).stdout).unwrap()
    }

    fn wait(&self, text: &str) -> String {
        self.press_until(None, text)
    }

    /// Presses the key until the screen says `text`: the pane is deaf to keys that come just after
    /// something changed.
    fn press_until(&self, key: Option<&str>, text: &str) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "no {text:?}:\n{screen}");
            if let Some(key) = key {
                self.run(&["send-keys", key]);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn a_held_curl_goes_on_when_the_pane_says_yes() {
    if !tool("tmux") || !tool("curl") {
        return;
    }
    let origin = Origin::ok("let through");
    let gateway = holding().start();
    let url = format!("http://origin.test:{}/docs/42?q=1", origin.port());
    let proxy = format!("http://{}", gateway.proxy);
    let curl = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60", "-x", &proxy, &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pane = Pane::open(&gateway, 100, 30);
    let screen = pane.wait("/docs/42");
    assert!(screen.contains("origin.test") && screen.contains("curl"), "{screen}");
    assert_eq!(origin.connections(), 0);
    let question = pane.press_until(Some("a"), "session · exact");
    assert!(question.contains("approve r1?"), "{question}");
    pane.press_until(Some("Enter"), "r1 approved");
    let said = curl.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("let through"), "{said}");
    let record = gateway.record(1);
    assert_eq!(record["by"], "grant:g1");
    assert_eq!(record["approval"]["via"], "term");
    // What it made stands under Grants, and can be taken back from there.
    pane.run(&["send-keys", "3"]);
    // The answer's own line names the grant too: this is the row's second line.
    let grants = pane.wait("for r1,");
    assert!(grants.contains("/docs/42"), "{grants}");
}

#[test]
fn a_denied_curl_is_told_why_and_closing_the_pane_answers_nothing() {
    if !tool("tmux") || !tool("curl") {
        return;
    }
    let gateway = holding().start();
    let proxy = format!("http://{}", gateway.proxy);
    let curl = |path: &str| {
        let url = format!("http://origin.test:1{path}");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "-x", &proxy, &url]).stdout(Stdio::piped());
        curl.spawn().unwrap()
    };
    let denied = curl("/denied");
    let pane = Pane::open(&gateway, 80, 24);
    pane.wait("/denied");
    pane.press_until(Some("x"), "deny r1?");
    // A question is deaf for its first moment, to letters too.
    pane.press_until(Some("n"), "reason for the agent: n");
    pane.run(&["send-keys", "-l", "ot today"]);
    pane.wait("ot today");
    pane.press_until(Some("Enter"), "r1 denied");
    let said = String::from_utf8(denied.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("approval_denied") && said.contains("ot today"), "{said}");
    let mut held = curl("/left");
    pane.wait("/left");
    pane.run(&["send-keys", "q"]);
    drop(pane);
    assert!(held.try_wait().unwrap().is_none(), "closing the pane answers nothing");
    held.kill().unwrap();
    held.wait().unwrap();
}
