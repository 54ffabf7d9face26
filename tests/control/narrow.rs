//! Tables on a terminal of 80 columns: what tells rows apart stays.

use crate::control_kit::{Fake, Served, request};
use std::process::Command;

async fn on_80_columns(served: &Served, args: &str) -> Option<String> {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: script is not installed");
        return None;
    }
    let binary = env!("CARGO_BIN_EXE_portcullis");
    let inner = format!("stty cols 80; {binary} {args}");
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &inner, "/dev/null"]);
    command.env("PORTCULLIS_SOCKET", &served.socket).env("HOME", served.dir.path());
    command.env("NO_COLOR", "1");
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(ran.stdout).unwrap().replace('\r', "");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_host_and_one_directory_do_not_look_alike() {
    let served = Served::start(Fake::new(&["agent"]));
    for (number, (path, binary)) in [
        ("/repos/acme/widget/issues/1/comments", "/usr/local/bin/claude"),
        ("/repos/acme/widget/issues/1/labels", "/usr/local/bin/codex"),
        ("/repos/acme/widget/pulls/2/merge", "/usr/local/bin/gh"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut entry = request(&format!("r{number}"), "agent");
        entry.path = Some(path.into());
        entry.query = None;
        entry.client.as_mut().unwrap().binary = binary.into();
        served.fake.requests.lock().unwrap().push(entry);
    }
    let Some(text) = on_80_columns(&served, "requests").await else { return };
    for end in ["comments", "labels", "merge", "claude", "codex", "/gh"] {
        assert!(text.contains(end), "{end}: {text}");
    }
    assert!(text.contains("HELD") && !text.contains("pending"), "{text}");
    assert!(text.contains("(no room for STATE"), "{text}");
    assert!(text.matches("api.github.com").count() == 3, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_any_query_and_body_says_so_where_it_is_cut() {
    let served = Served::start(Fake::new(&["agent"]));
    let Some(text) = on_80_columns(&served, "grants").await else { return };
    assert!(text.contains("query and body"), "{text}");
}
