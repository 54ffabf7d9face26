//! git over smart HTTP: clone and fetch pass, a push is refused before anything of it leaves.

use crate::clients_kit::{Answer, Ask, Ran, gateway, program, scratch, site, write};
use crate::common::{self, Gateway, Origin, header, tool};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// As the github preset: fetching is two requests by name, pushing would be two others.
const FETCH: &[&str] = &[
    "method: GET, path: \"/*/info/refs\", query: { service: git-upload-pack }",
    "method: POST, path: \"/*/git-upload-pack\"",
];

/// Runs git as its owner does, outside of any gateway.
fn own(dir: &Path, line: &str) {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@origin.test"])
        .args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"])
        .args(line.split(' '))
        .env("HOME", dir)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository `work` with one commit, and `site/repo.git`, which `git http-backend` serves.
fn repository(dir: &Path) {
    own(dir, "init -q work");
    write(dir.join("work/file"), "one\n");
    own(&dir.join("work"), "add file");
    own(&dir.join("work"), "commit -q -m one");
    own(dir, "clone -q --bare work site/repo.git");
    own(&dir.join("site/repo.git"), "config http.receivepack true");
}

/// The site: each request goes to `git http-backend`, as RFC 3875 has it.
fn serve(dir: &Path) -> Origin {
    let root = dir.join("site");
    site(&["origin.test"], move |ask| backend(&root, ask))
}

fn backend(root: &Path, ask: &Ask) -> Answer {
    let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
    let field = |name| header(&ask.head, name).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", field("git-protocol"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", &ask.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", field("content-type"))
        .env("CONTENT_LENGTH", ask.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", field("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&ask.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = header(&head, "status").map_or(200, |s| s[..3].parse().unwrap());
    let fields = head.lines().filter(|l| l.contains(':') && !l.starts_with("Status:"));
    let fields: String = fields.map(|line| format!("{line}\r\n")).collect();
    Answer { status, fields, body: output[end..].to_vec() }
}

fn git(gateway: &Gateway, dir: &Path, line: &str) -> Ran {
    let git = program(gateway, "git", dir).unwrap();
    git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1").line(line).run()
}

/// The scratch directory, the site and the gateway before it; `None` without git.
fn everything() -> Option<(tempfile::TempDir, Origin, Gateway)> {
    if !tool("git") {
        return None;
    }
    let dir = scratch();
    repository(dir.path());
    let origin = serve(dir.path());
    let gateway = gateway(origin.port(), FETCH);
    Some((dir, origin, gateway))
}

#[test]
fn git_clones_and_fetches() {
    let Some((dir, origin, gateway)) = everything() else { return };
    let url = format!("https://origin.test:{}/repo.git", origin.port());
    git(&gateway, dir.path(), &format!("clone {url} cloned")).passed();
    let cloned = dir.path().join("cloned");
    assert_eq!(common::text(&cloned.join("file")), "one\n");
    write(dir.path().join("work/file"), "two\n");
    own(&dir.path().join("work"), "commit -q -a -m two");
    own(&dir.path().join("work"), "push -q ../site/repo.git main");
    git(&gateway, &cloned, "-c user.name=a -c user.email=a@b pull --ff-only").passed();
    assert_eq!(common::text(&cloned.join("file")), "two\n");
    let records = gateway.records(4);
    assert!(records.iter().all(|r| r["outcome"] == "passed"), "{records:#?}");
    assert!(records.iter().any(|r| r["path"] == "/repo.git/git-upload-pack"));
}

#[test]
fn git_says_that_policy_refused_the_push() {
    let Some((dir, origin, gateway)) = everything() else { return };
    let url = format!("https://origin.test:{}/repo.git", origin.port());
    let work = dir.path().join("work");
    write(work.join("file"), "a secret\n");
    own(&work, "commit -q -a -m secret");
    let ran = git(&gateway, &work, &format!("push {url} main"));
    ran.refused("The requested URL returned error: 403");
    // What git prints of a refusal is the number; with GIT_CURL_VERBOSE it is the sentence.
    let again = program(&gateway, "git", &work).unwrap();
    let ran = again.env("GIT_CURL_VERBOSE", "1").line(&format!("push {url} main")).run();
    ran.refused("problem+json");
    let records = gateway.records(2);
    assert!(records.iter().all(|r| r["outcome"] == "refused" && r["sent"] == false));
    assert_eq!(origin.connections(), 0);
}
