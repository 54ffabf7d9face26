//! Sources as they behave: changing, failing, slow.

use super::*;
use crate::secret::SecretError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn vault(sources: Vec<(&str, Source)>, env: &[(&str, &str)]) -> Vault {
    let sources = sources.into_iter().map(|(name, source)| (name.into(), source));
    let look = |name: &str| {
        env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
    };
    Vault::new(sources, look, FingerprintKey::new([7; 32]), &Tasks::new())
}

fn file(path: &Path) -> Source {
    Source::File(path.to_owned())
}

fn script(text: &str, ttl: Option<Duration>) -> Source {
    let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
    Source::Command { argv, ttl, timeout: Duration::from_secs(10) }
}

async fn value(vault: &Vault, name: &str) -> Result<String, Cause> {
    let held = vault.find(name).unwrap().value().await;
    held.map(|held| held.secret().expose().to_owned()).map_err(|error| error.cause)
}

/// A directory and a command that counts its runs in it and says `value`.
fn counting(value: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    (dir, format!("echo run >> {}; {value}", runs.display()))
}

fn runs(dir: &tempfile::TempDir) -> usize {
    fs::read_to_string(dir.path().join("runs")).map_or(0, |text| text.lines().count())
}

fn write(dir: &tempfile::TempDir, value: &str) -> PathBuf {
    let path = dir.path().join("value");
    // As an editor does: another file in its place.
    let beside = dir.path().join("beside");
    fs::write(&beside, value).unwrap();
    fs::rename(&beside, &path).unwrap();
    path
}

#[tokio::test]
async fn a_variable_is_read_at_the_start_and_stays() {
    let vault = vault(
        vec![("github", Source::Env("TOKEN".into())), ("none", Source::Env("NONE".into()))],
        &[("TOKEN", "ghp_abcdefgh\n")],
    );
    assert_eq!(value(&vault, "github").await, Ok("ghp_abcdefgh".into()));
    assert!(vault.needles().found_in(b"say ghp_abcdefgh"));
    assert_eq!(value(&vault, "none").await, Err(Cause::Unset("NONE".into())));
    let error = vault.find("none").unwrap().value().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential `none`: the variable NONE is not set; set it and start the gateway again"
    );
    assert!(vault.find("other").is_none());
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_never_served_stale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value");
    let vault = vault(vec![("github", file(&path))], &[]);
    let missing = Cause::File(path.clone(), std::io::ErrorKind::NotFound);
    assert_eq!(value(&vault, "github").await, Err(missing.clone()));
    write(&dir, "first-value\n");
    assert_eq!(value(&vault, "github").await, Ok("first-value".into()));
    let begun = vault.find("github").unwrap().value().await.unwrap();
    write(&dir, "other-value\n");
    assert_eq!(value(&vault, "github").await, Ok("other-value".into()));
    // In place and of the same length.
    fs::write(&path, "third-value\n").unwrap();
    assert_eq!(value(&vault, "github").await, Ok("third-value".into()));
    assert_eq!(begun.secret().expose(), "first-value", "what a request began with stays");
    for known in ["first-value", "other-value", "third-value"] {
        assert!(vault.needles().found_in(known.as_bytes()), "{known}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(value(&vault, "github").await, Err(missing));
}

#[tokio::test]
async fn a_file_that_holds_no_value_is_an_error_that_does_not_show_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "two-lines\nof-text");
    let vault = vault(vec![("github", file(&path)), ("dir", file(dir.path()))], &[]);
    assert_eq!(value(&vault, "github").await, Err(Cause::Value(SecretError::Control)));
    assert_eq!(value(&vault, "dir").await, Err(Cause::NotAFile(dir.path().into())));
    let errors = vault.check().await;
    assert_eq!(errors.len(), 2);
    let shown = format!("{errors:?} {vault:?} {:?}", vault.list());
    assert!(!shown.contains("two-lines") && !shown.contains("of-text"), "{shown}");
}

#[tokio::test]
async fn many_who_wait_share_one_run() {
    let (dir, command) = counting("sleep 0.2; echo from-command");
    let vault = vault(vec![("gcloud", script(&command, None))], &[]);
    let all = futures_util::future::join_all((0..50).map(|_| value(&vault, "gcloud"))).await;
    assert!(all.iter().all(|value| value.as_deref() == Ok("from-command")));
    assert_eq!(value(&vault, "gcloud").await.unwrap(), "from-command");
    assert_eq!(runs(&dir), 1);
    assert_eq!(vault.list()[0].uses, 51);
}

#[tokio::test]
async fn a_waiter_who_leaves_does_not_end_the_run_for_the_others() {
    let (dir, command) = counting("sleep 0.2; echo from-command");
    let vault = vault(vec![("gcloud", script(&command, None))], &[]);
    let leaver = tokio::time::timeout(Duration::from_millis(50), value(&vault, "gcloud")).await;
    assert!(leaver.is_err());
    assert_eq!(value(&vault, "gcloud").await.unwrap(), "from-command");
    assert_eq!(runs(&dir), 1);
}

#[tokio::test]
async fn a_value_past_its_time_is_fetched_again() {
    let (dir, command) = counting("echo the-value-$(wc -l < DIR/runs)");
    let command = command.replace("DIR", &dir.path().display().to_string());
    let ttl = Some(Duration::from_millis(1));
    let vault =
        vault(vec![("short", script(&command, ttl)), ("long", script(&command, None))], &[]);
    let first = value(&vault, "short").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_ne!(value(&vault, "short").await.unwrap(), first);
    let first = value(&vault, "long").await.unwrap();
    assert_eq!(value(&vault, "long").await.unwrap(), first);
    vault.find("long").unwrap().refresh().await.unwrap();
    assert_ne!(value(&vault, "long").await.unwrap(), first);
}

#[tokio::test]
async fn a_401_reads_the_source_once_for_the_next_request() {
    let (dir, command) = counting("echo from-command");
    let vault = vault(vec![("gcloud", script(&command, None))], &[]);
    let credential = vault.find("gcloud").unwrap();
    let held = credential.value().await.unwrap();
    credential.refused(&held);
    assert_eq!(runs(&dir), 1, "not before the next request");
    credential.value().await.unwrap();
    assert_eq!(runs(&dir), 2);
    for _ in 0..5 {
        let held = credential.value().await.unwrap();
        credential.refused(&held);
    }
    assert_eq!(runs(&dir), 2, "an agent can't make the host run it over and over");
}

#[tokio::test]
async fn a_401_to_a_value_that_was_replaced_says_nothing_of_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "first-value");
    let vault = vault(vec![("github", file(&path))], &[]);
    let credential = vault.find("github").unwrap();
    let old = credential.value().await.unwrap();
    write(&dir, "other-value");
    credential.value().await.unwrap();
    credential.refused(&old);
    let status = credential.status();
    assert!(status.error.is_none());
    assert_eq!(value(&vault, "github").await.unwrap(), "other-value");
}

#[tokio::test]
async fn a_command_that_fails_says_how_and_is_let_be_for_a_moment() {
    let (dir, command) = counting("echo oops >&2; echo leaked-value; exit 3");
    let vault = vault(vec![("gcloud", script(&command, None))], &[]);
    let failed = Cause::Exited("/bin/sh".into(), Some(3));
    for _ in 0..5 {
        assert_eq!(value(&vault, "gcloud").await, Err(failed.clone()));
    }
    assert_eq!(runs(&dir), 1);
    let (_, error) = vault.list().remove(0).error.unwrap();
    assert_eq!(error.cause, failed);
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), text];
    let timeout = Duration::from_millis(500);
    let vault = vault(vec![("slow", Source::Command { argv, ttl: None, timeout })], &[]);
    assert_eq!(value(&vault, "slow").await, Err(Cause::TooSlow("/bin/sh".into(), timeout)));
    let pid = fs::read_to_string(pid).unwrap().trim().to_owned();
    let gone = || {
        // A zombie that its new parent has not collected yet is gone too.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    for _ in 0..200 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the command's child {pid} lives on");
}

#[tokio::test]
async fn a_command_does_not_get_the_other_credentials() {
    // PATH stands for a credential: it is in every environment.
    let sources = vec![
        ("path", Source::Env("PATH".into())),
        (
            "env",
            script("/usr/bin/env | grep -q ^PATH= && echo has-the-path || echo has-no-path", None),
        ),
    ];
    let vault = vault(sources, &[("PATH", "some-secret-value")]);
    assert_eq!(value(&vault, "env").await.unwrap(), "has-no-path");
}

#[tokio::test]
async fn output_that_is_too_long_is_no_value() {
    let command = "head -c 200000 /dev/zero | tr '\\0' a";
    let vault = vault(vec![("long", script(command, None))], &[]);
    assert_eq!(value(&vault, "long").await, Err(Cause::Value(SecretError::TooLong)));
}

#[tokio::test]
async fn a_fingerprint_tells_values_apart_under_its_key_alone() {
    let status = |key: u8, value: &'static str| {
        let sources = [("a".into(), Source::Env("A".into()))];
        let key = FingerprintKey::new([key; 32]);
        let vault = Vault::new(sources, |_| Some(value.into()), key, &Tasks::new());
        vault.list().remove(0).fingerprint.unwrap()
    };
    assert_eq!(status(1, "some-value"), status(1, "some-value"));
    assert_ne!(status(1, "some-value"), status(1, "some-other"));
    assert_ne!(status(1, "some-value"), status(2, "some-value"));
    assert_eq!(status(1, "some-value").len(), 12);
}
