//! The state on the disk: what was answered is there after a restart, numbers are given once, and
//! a database that is not ours is left as it is.

use portcullis::state::{Decision, Grant, ModelDay, NewPolicy, Response, State, StateError};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn db(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    fn open(&self) -> State {
        State::open(&self.db()).unwrap()
    }
}

fn grant(id: u64, sandbox: &str) -> Grant {
    Grant { id, sandbox: sandbox.into(), body: "{}".into(), made_ms: 7, expires_ms: Some(i64::MAX) }
}

fn policy(sandbox: &str, at_ms: i64) -> NewPolicy {
    NewPolicy {
        sandbox: sandbox.into(),
        at_ms,
        digest: format!("sha256:{at_ms}"),
        why: "reload".into(),
        by: None,
        layers: "[]".into(),
    }
}

#[tokio::test]
async fn grants_are_there_after_a_restart_and_revoked_ones_are_not() {
    let dir = Dir::new();
    let state = dir.open();
    for sandbox in ["agent", "ci"] {
        let id = state.next_grant_id().await.unwrap();
        state.save_grant(grant(id, sandbox)).await.unwrap();
    }
    assert!(state.remove_grant(1).await.unwrap());
    assert!(!state.remove_grant(1).await.unwrap());
    state.close().await;
    assert!(matches!(state.grants().await, Err(StateError::Closed)));
    let state = dir.open();
    assert_eq!(state.grants().await.unwrap(), [grant(2, "ci")]);
    assert_eq!(state.next_grant_id().await.unwrap(), 3, "the number of a revoked grant stays used");
}

#[tokio::test]
async fn a_number_is_given_out_once_in_every_run() {
    let dir = Dir::new();
    let state = dir.open();
    assert_eq!(state.reserve("request", 64).await.unwrap(), 1);
    assert_eq!(state.reserve("request", 64).await.unwrap(), 65);
    assert_eq!(state.reserve("other", 1).await.unwrap(), 1);
    let many = (0..50).map(|_| state.reserve("many", 1));
    let mut given = futures_util::future::try_join_all(many).await.unwrap();
    given.sort_unstable();
    assert_eq!(given, (1..=50).collect::<Vec<u64>>());
    drop(state);
    let state = dir.open();
    assert_eq!(state.reserve("request", 64).await.unwrap(), 129);
    assert!(state.reserve("request", u64::MAX).await.is_err());
    let last = state.reserve("request", i64::MAX as u64).await;
    assert!(last.is_err(), "a counter never wraps: {last:?}");
    assert_eq!(state.reserve("request", 1).await.unwrap(), 193);
}

#[tokio::test]
async fn versions_count_per_sandbox_and_the_pinned_one_outlives_two_hundred() {
    let dir = Dir::new();
    let state = dir.open();
    for at in 1..=3 {
        assert_eq!(state.append_policy(policy("agent", at)).await.unwrap(), at as u64);
    }
    assert_eq!(state.append_policy(policy("ci", 2)).await.unwrap(), 1);
    state.set_pinned("agent", Some(2)).await.unwrap();
    for at in 4..=300 {
        state.append_policy(policy("agent", at)).await.unwrap();
    }
    let kept = state.policies(Some("agent")).await.unwrap();
    assert_eq!(kept.len(), 201);
    assert_eq!(kept[0].version, 300);
    assert_eq!(kept[199].version, 101);
    assert_eq!(kept[200].version, 2, "pinned");
    assert_eq!(state.policies(None).await.unwrap().len(), 202);
    assert_eq!(state.policy("agent", 2).await.unwrap().unwrap().digest, "sha256:2");
    assert!(state.policy("agent", 3).await.unwrap().is_none());
    assert!(state.set_pinned("agent", Some(3)).await.is_err(), "it is not kept");
    assert_eq!(state.pinned("agent").await.unwrap(), Some(2));
    state.set_pinned("agent", None).await.unwrap();
    assert_eq!(state.append_policy(policy("agent", 301)).await.unwrap(), 301);
    assert!(state.policy("agent", 2).await.unwrap().is_none());
    assert_eq!(state.pinned("ci").await.unwrap(), None);
}

#[tokio::test]
async fn a_policy_that_is_the_same_as_the_newest_is_no_new_version() {
    let dir = Dir::new();
    let state = dir.open();
    for at in [1, 2] {
        state.append_policy(policy("agent", at)).await.unwrap();
    }
    let same = NewPolicy { at_ms: 3, why: "start".to_owned(), ..policy("agent", 2) };
    assert_eq!(state.append_policy(same.clone()).await.unwrap(), 2);
    assert_eq!(state.policies(Some("agent")).await.unwrap().len(), 2);
    assert_eq!(state.policy("agent", 2).await.unwrap().unwrap().at_ms, 2);
    // One that was in force before, or that another sandbox has, is one.
    assert_eq!(state.append_policy(policy("agent", 1)).await.unwrap(), 3);
    assert_eq!(
        state.append_policy(NewPolicy { sandbox: "ci".to_owned(), ..same }).await.unwrap(),
        1
    );
}

#[tokio::test]
async fn the_runtime_layer_and_the_pin_are_apart() {
    let dir = Dir::new();
    let state = dir.open();
    assert_eq!(state.runtime("agent").await.unwrap(), None);
    state.set_runtime("agent", Some("version: 1\n".into())).await.unwrap();
    state.append_policy(policy("agent", 1)).await.unwrap();
    state.set_pinned("agent", Some(1)).await.unwrap();
    state.set_runtime("agent", None).await.unwrap();
    assert_eq!(state.pinned("agent").await.unwrap(), Some(1));
    state.set_runtime("agent", Some("x".into())).await.unwrap();
    state.set_pinned("agent", None).await.unwrap();
    assert_eq!(state.runtime("agent").await.unwrap().as_deref(), Some("x"));
}

#[tokio::test]
async fn decisions_are_read_by_time_and_sandbox() {
    let dir = Dir::new();
    let state = dir.open();
    let decision = |at_ms, sandbox: &str| Decision {
        at_ms,
        sandbox: sandbox.into(),
        request: format!("r{at_ms}"),
        body: "{}".into(),
    };
    for at in 1..=4 {
        state.log_decision(decision(at, if at == 2 { "ci" } else { "agent" }));
    }
    let all = state.decisions(2, None).await.unwrap();
    assert_eq!(all, [decision(2, "ci"), decision(3, "agent"), decision(4, "agent")]);
    assert_eq!(state.decisions(0, Some("ci")).await.unwrap(), [decision(2, "ci")]);
}

#[tokio::test]
async fn the_oldest_decisions_go_past_a_hundred_thousand() {
    let dir = Dir::new();
    dir.open().close().await;
    let db = rusqlite::Connection::open(dir.db()).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         INSERT INTO decisions (at_ms, sandbox, request, body) SELECT i, 's', 'r', '{}' FROM n",
    )
    .unwrap();
    drop(db);
    let state = dir.open();
    state.log_decision(Decision {
        at_ms: 200_000,
        sandbox: "s".into(),
        request: "r".into(),
        body: "{}".into(),
    });
    let kept = state.decisions(0, None).await.unwrap();
    assert_eq!(kept.len(), 100_000);
    assert_eq!((kept[0].at_ms, kept[99_999].at_ms), (2, 200_000));
}

#[tokio::test]
async fn only_the_owner_reads_the_files() {
    let dir = Dir::new();
    std::fs::write(dir.db(), "").unwrap();
    std::fs::set_permissions(dir.db(), PermissionsExt::from_mode(0o644)).unwrap();
    let state = dir.open();
    state.save_grant(grant(1, "agent")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.0.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name());
    }
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_as_it_is() {
    let dir = Dir::new();
    dir.open().close().await;
    let db = rusqlite::Connection::open(dir.db()).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = std::fs::read(dir.db()).unwrap();
    let error = State::open(&dir.db()).unwrap_err().to_string();
    assert!(error.contains("newer version (99; this build knows up to 2)"), "{error}");
    assert!(error.contains("fix: run the newer portcullis"), "{error}");
    assert_eq!(std::fs::read(dir.db()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = Dir::new();
    std::fs::write(dir.db(), "my notes, which are long enough to be a header ".repeat(20)).unwrap();
    let before = std::fs::read(dir.db()).unwrap();
    let error = State::open(&dir.db()).unwrap_err();
    assert!(matches!(error, StateError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("fix: restore it, or move it away"), "{error}");
    assert_eq!(std::fs::read(dir.db()).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let dir = Dir::new();
    let state = dir.open();
    for at in 1..=100 {
        state
            .append_policy(NewPolicy { layers: "x".repeat(4000), ..policy("a", at) })
            .await
            .unwrap();
    }
    state.close().await;
    let mut bytes = std::fs::read(dir.db()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xff);
    std::fs::write(dir.db(), &bytes).unwrap();
    let error = State::open(&dir.db()).unwrap_err();
    assert!(matches!(error, StateError::Broken { .. }), "{error}");
    assert_eq!(std::fs::read(dir.db()).unwrap().len(), bytes.len());
}

#[test]
fn a_database_of_another_program_is_refused() {
    let dir = Dir::new();
    let db = rusqlite::Connection::open(dir.db()).unwrap();
    db.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(db);
    let before = std::fs::read(dir.db()).unwrap();
    let error = State::open(&dir.db()).unwrap_err().to_string();
    assert!(error.contains("a database of another program"), "{error}");
    assert_eq!(std::fs::read(dir.db()).unwrap(), before);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let error = State::open(&Dir::new().0.path().join("none/state.db")).unwrap_err();
    assert!(matches!(error, StateError::Unopenable { .. }), "{error}");
}

#[tokio::test]
async fn a_caller_who_leaves_takes_nothing_back() {
    let dir = Dir::new();
    let state = dir.open();
    {
        let mut call = Box::pin(state.save_grant(grant(1, "agent")));
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(state.grants().await.unwrap(), [grant(1, "agent")]);
}

#[tokio::test]
async fn what_models_cost_and_made_is_there_after_a_restart() {
    let dir = Dir::new();
    let day = |sandbox: &str, day, input| ModelDay {
        sandbox: sandbox.into(),
        day,
        requests: 1,
        failed: 2,
        input,
        output: u64::MAX,
    };
    let made = |id: usize| Response {
        sandbox: "a".into(),
        id: format!("resp_{id}"),
        route: "main".into(),
        tokens: 9,
    };
    let state = dir.open();
    state.save_models(vec![day("a", 1, 5), day("b", 1, 6)], vec![made(0)]).await.unwrap();
    state.save_models(vec![day("a", 2, 7)], vec![]).await.unwrap();
    state.save_models(vec![], (1..5000).map(made).collect()).await.unwrap();
    state.close().await;
    let state = dir.open();
    let mut days = state.model_days().await.unwrap();
    days.sort_by(|a, b| a.sandbox.cmp(&b.sandbox));
    // A sum past all counting is the largest that can be kept.
    let kept = |day: ModelDay| ModelDay { output: i64::MAX.unsigned_abs(), ..day };
    assert_eq!(days, [kept(day("a", 2, 7)), kept(day("b", 1, 6))]);
    let responses = state.responses().await.unwrap();
    assert_eq!((responses.len(), &responses[4095]), (4096, &made(4999)));
    assert_eq!(responses[0], made(904));
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_and_keeps_what_is_in_it() {
    let dir = Dir::new();
    let state = dir.open();
    state.save_grant(grant(1, "a")).await.unwrap();
    state.close().await;
    let db = rusqlite::Connection::open(dir.db()).unwrap();
    db.execute_batch("DROP TABLE model_days; DROP TABLE responses; PRAGMA user_version = 1")
        .unwrap();
    drop(db);
    let state = dir.open();
    assert_eq!(state.grants().await.unwrap(), [grant(1, "a")]);
    assert_eq!(state.model_days().await.unwrap(), []);
}
