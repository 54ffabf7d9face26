//! A gateway that is killed loses nothing that was answered: not a grant, not a revocation, not a
//! number that was given out.

use portcullis::state::{Grant, State};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the child that is to be killed keeps its state; unset in the parent.
const CHILD: &str = "PORTCULLIS_TEST_STATE_CHILD";

fn grant(id: u64) -> Grant {
    Grant { id, sandbox: "agent".into(), body: "{}".into(), made_ms: 0, expires_ms: None }
}

/// Grants without end, and revokes every second one; says each when it was answered.
async fn granting(db: &Path) {
    let state = State::open(db).unwrap();
    loop {
        let id = state.next_grant_id().await.unwrap();
        state.save_grant(grant(id)).await.unwrap();
        eprintln!("saved {id}");
        if id.is_multiple_of(2) {
            state.remove_grant(id).await.unwrap();
            eprintln!("removed {id}");
        }
    }
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    if let Some(db) = std::env::var_os(CHILD) {
        return granting(Path::new(&db)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("state.db");
    let (mut saved, mut removed) = (BTreeSet::new(), BTreeSet::new());
    for run in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::what_was_answered_survives_kill_9", "--exact", "--nocapture"])
            .env(CHILD, &db)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut hear = |line: String| match line.split_once(' ') {
            Some(("saved", id)) => saved.insert(id.parse::<u64>().unwrap()),
            Some(("removed", id)) => removed.insert(id.parse::<u64>().unwrap()),
            _ => false,
        };
        for _ in 0..40 {
            hear(said.next().expect("the child lives").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        for line in said {
            hear(line.unwrap());
        }
        let state = State::open(&db).unwrap();
        let kept: BTreeSet<u64> =
            state.grants().await.unwrap().iter().map(|grant| grant.id).collect();
        for id in saved.iter().filter(|id| !id.is_multiple_of(2)) {
            assert!(kept.contains(id), "g{id} is lost in run {run}: {kept:?}");
        }
        assert!(kept.is_disjoint(&removed), "revoked grants are back: {kept:?}");
        let last = saved.last().expect("something was saved");
        let next = state.next_grant_id().await.unwrap();
        assert!(next > *last, "g{next} was given out before");
        state.close().await;
    }
}
