//! What has changed is told, thirty times a second at most; what has had its time is swept away.
//!
//! Entries note that they changed, and this looks: however fast a sandbox asks, listeners get each
//! entry once a turn. Where nothing changes and nothing waits, nothing is woken.

use super::{Operator, view};
use crate::addr::Shown;
use crate::approval::{Change, Queue};
use crate::control::wire::Event;
use crate::record;
use crate::tasks::Tasks;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// How often changes are told at most.
const TURN: Duration = Duration::from_millis(33);
/// How long after a sweep the next one is, while there is something to sweep: a grant that has
/// expired ends what lives by it within a second.
const SWEEP: Duration = Duration::from_millis(200);
/// How many entries of a sandbox are told of in one turn; the others come in the next ones. A
/// sandbox that asks everything again and again does not keep operators from being served.
const MOST_TOLD: usize = 64;
/// How many numbers are reserved at once.
pub(in crate::cli::gateway) const BLOCK: u64 = 100;
/// How long after a failure that is tried again.
const RESERVED_AGAIN: Duration = Duration::from_secs(1);
/// How long a notify command may take, and how many run at once.
const NOTIFY_WITHIN: Duration = Duration::from_secs(10);
const NOTIFY_AT_ONCE: usize = 4;

/// A sandbox's notify command.
type Notify = BTreeMap<Arc<str>, Vec<String>>;

/// Tells and sweeps until the gateway drains.
pub(in crate::cli::gateway) async fn pump(operator: Arc<Operator>, notify: Notify, tasks: Tasks) {
    let running = Arc::new(Semaphore::new(NOTIFY_AT_ONCE));
    let mut told = Told::default();
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            () = operator.turn(swept) => {}
            () = tasks.drained() => {
                drop(operator.events.send(Arc::new(Event::Stopping {})));
                return;
            }
        }
        let turned = Instant::now();
        let sweeps = turned.duration_since(swept) >= SWEEP;
        for (name, sandbox) in &operator.sandboxes {
            let queue = sandbox.queue();
            if sweeps {
                operator.sweep(queue).await;
            }
            let fresh = operator.tell(queue, &mut told);
            if let Some(command) = notify.get(name).filter(|command| !command.is_empty()) {
                for number in fresh {
                    operator.notify(queue, number, command, (&running, &tasks));
                }
            }
        }
        if sweeps {
            swept = turned;
        }
        tokio::select! {
            () = sleep_until(turned + TURN) => {}
            () = tasks.drained() => {}
        }
    }
}

/// Reserves numbers before they are used up, until the gateway drains: a restart gives none twice.
pub(in crate::cli::gateway) async fn reserve(operator: Arc<Operator>, tasks: Tasks) {
    let (state, sandboxes) = (&operator.state, &operator.sandboxes);
    // All take from the same.
    let Some(numbers) = sandboxes.values().next().map(|s| s.queue().numbers().clone()) else {
        return;
    };
    loop {
        tokio::select! {
            () = numbers.wanted() => {}
            () = tasks.drained() => return,
        }
        let (requests, grants) = numbers.left();
        let mut failed = false;
        if requests < BLOCK {
            match state.reserve("request", BLOCK).await {
                Ok(_) => numbers.more_requests(BLOCK),
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "no more requests can be numbered");
                }
            }
        }
        if grants < BLOCK {
            match state.reserve("grant", BLOCK).await {
                Ok(_) => numbers.more_grants(BLOCK),
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "no more grants can be numbered");
                }
            }
        }
        if failed {
            // Who waits for a number does not ask for it twice: it is tried again unasked.
            tokio::select! {
                () = tokio::time::sleep(RESERVED_AGAIN) => numbers.want(),
                () = tasks.drained() => return,
            }
        }
    }
}

/// The newest entry that was told of in each sandbox: an entry with a higher number is new.
#[derive(Default)]
struct Told(BTreeMap<Arc<str>, u64>);

impl Operator {
    /// Waits until something has changed, or is to be swept.
    async fn turn(&self, swept: Instant) {
        if self.sandboxes.values().all(|sandbox| sandbox.queue().is_empty()) {
            return self.changed.notified().await;
        }
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep_until(swept + SWEEP) => {}
        }
    }

    /// Tells what has changed in a queue. Gives the numbers of new entries.
    fn tell(&self, queue: &Queue, told: &mut Told) -> Vec<u64> {
        let (changes, grants) = queue.take_changes(MOST_TOLD);
        let newest = told.0.entry(queue.sandbox().clone()).or_default();
        let mut fresh = Vec::new();
        for (number, _) in &changes {
            if *number > *newest {
                *newest = *number;
                fresh.push(*number);
            }
        }
        if self.events.receiver_count() == 0 {
            return fresh;
        }
        let neighbours = queue.neighbours();
        let secrets = self.vault.watchlist().needles();
        for (number, change) in changes {
            let Some(entry) = queue.entry(number) else { continue };
            let request = Box::new(view::request(queue, &entry, &neighbours, &secrets));
            let event = match change {
                Change::Pending => Event::Pending(request),
                Change::Gone => Event::Gone(request),
                Change::Decided => Event::Decided(request),
                Change::Expired => Event::Expired(request),
            };
            drop(self.events.send(Arc::new(event)));
        }
        if grants {
            let sandbox = queue.sandbox().to_string();
            drop(self.events.send(Arc::new(Event::Grants { sandbox })));
        }
        fresh
    }

    async fn sweep(&self, queue: &Queue) {
        for grant in queue.sweep(SystemTime::now()) {
            if let Err(error) = self.state.remove_grant(grant.id.0).await {
                tracing::warn!(%error, grant = %grant.id, "a grant that has ended is still kept");
            }
            self.record(record::Event::GrantExpired {
                sandbox: queue.sandbox().clone(),
                grant: grant.id.to_string(),
                covers: Shown::new(&view::covers(&grant.cover)).to_string(),
            });
        }
    }

    /// Runs a sandbox's notify command with the entry as JSON on its standard input.
    fn notify(
        &self,
        queue: &Queue,
        number: u64,
        command: &[String],
        (running, tasks): (&Arc<Semaphore>, &Tasks),
    ) {
        let Some(request) = self.shown(queue, number) else { return };
        let Ok(place) = running.clone().try_acquire_owned() else {
            tracing::warn!(number, "notify was not run: {NOTIFY_AT_ONCE} run already");
            return;
        };
        let Ok(mut json) = serde_json::to_vec(&request) else { return };
        json.push(b'\n');
        let (command, ends) = (command.to_vec(), tasks.clone());
        tasks.spawn(async move {
            let ended = tokio::select! {
                ended = tokio::time::timeout(NOTIFY_WITHIN, run(&command, &json)) => ended,
                // Nobody can answer any more: a stop does not wait for it.
                () = ends.drained() => return,
            };
            match ended {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => tracing::warn!(command = command[0], %status, "notify failed"),
                Ok(Err(error)) => tracing::warn!(command = command[0], %error, "notify failed"),
                Err(_) => {
                    tracing::warn!(command = command[0], "notify took too long and was ended")
                }
            }
            drop(place);
        });
    }
}

async fn run(command: &[String], json: &[u8]) -> std::io::Result<std::process::ExitStatus> {
    let mut child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read its input is not wrong.
        drop(stdin.write_all(json).await);
    }
    child.wait().await
}
