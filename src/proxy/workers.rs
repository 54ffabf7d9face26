//! The runtimes: one current-thread runtime a core, each with its clock, its pool and a handle of
//! every listener. A connection lives and dies on the worker that accepted it.

use super::gate::{Gate, Worker};
use super::listener::Listener;
use super::live::End;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// How often pools are swept.
const SWEEP: Duration = Duration::from_secs(5);

/// How often memory may be given back.
const TIDY: Duration = Duration::from_secs(1);

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    gate: GateHandle,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    worker: Arc<Worker>,
    stop: Option<oneshot::Sender<()>>,
    join: JoinHandle<()>,
}

struct GateHandle(Arc<Gate>);

impl std::fmt::Debug for GateHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Workers {
    /// Starts `count` workers on `listeners`.
    pub fn start(gate: Arc<Gate>, listeners: &[Listener], count: usize) -> io::Result<Self> {
        let slots = Arc::new(Semaphore::new(gate.settings.connections));
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            threads.push(thread(number, &gate, listeners, &slots)?);
        }
        Ok(Self { gate: GateHandle(gate), threads })
    }

    /// Connections to origins that are kept for the next request.
    pub fn pooled(&self) -> usize {
        self.threads.iter().map(|t| t.worker.pool.len()).sum()
    }

    /// Raw tunnels and WebSockets.
    pub fn tunnels(&self) -> usize {
        self.threads.iter().map(|t| t.worker.wheel.tunnels()).sum()
    }

    /// Forgets kept connections, so that the next request is carried on one that was opened under
    /// the present settings.
    pub fn forget_pooled(&self) {
        for thread in &self.threads {
            thread.worker.pool.clear();
        }
    }

    /// Stops accepting, lets what is under way end until the deadline or until `hurry` ends, then
    /// cuts it.
    pub async fn drain(self, deadline: Duration, hurry: impl Future<Output = ()>) {
        self.gate.0.tasks.drain();
        for thread in &self.threads {
            thread.worker.pool.close();
            thread.worker.wheel.end_all(End::Drain);
        }
        let finished = tokio::select! {
            () = self.gate.0.tasks.finished() => true,
            () = tokio::time::sleep(deadline) => false,
            () = hurry => false,
        };
        if !finished {
            for thread in &self.threads {
                thread.worker.wheel.end_all(End::Stop);
            }
            let second = Duration::from_secs(1);
            drop(tokio::time::timeout(second, self.gate.0.tasks.finished()).await);
        }
        for mut thread in self.threads {
            if let Some(stop) = thread.stop.take() {
                // It may have stopped by itself.
                let _ = stop.send(());
            }
            drop(thread.join.join());
        }
    }
}

fn thread(
    number: usize,
    gate: &Arc<Gate>,
    listeners: &[Listener],
    slots: &Arc<Semaphore>,
) -> io::Result<Thread> {
    let worker = Worker::new(gate.upstream.clone());
    gate.pools.lock().unwrap_or_else(PoisonError::into_inner).push(worker.pool.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    let doors = {
        let _entered = runtime.enter();
        listeners.iter().map(|l| l.door(gate, &worker, slots)).collect::<io::Result<Vec<_>>>()?
    };
    let (stop, stopped) = oneshot::channel();
    let give_back = gate.settings.give_back;
    let (tasks, running) = (gate.tasks.clone(), worker.clone());
    let join = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        runtime.block_on(async move {
            for door in doors {
                tasks.spawn(door.run());
            }
            let (clock, pool) = (running.wheel.clone(), running.pool.clone());
            tokio::select! {
                _ = stopped => {}
                () = clock.run() => {}
                () = sweep(&pool) => {}
                () = tidy(&running, give_back) => {}
            }
        });
    })?;
    Ok(Thread { worker, stop: Some(stop), join })
}

/// Gives memory back a while after connections have come to rest, on the thread that freed it.
async fn tidy(worker: &Worker, give_back: fn()) {
    let mut interval = tokio::time::interval(TIDY);
    loop {
        interval.tick().await;
        if worker.rested.swap(false, Ordering::Relaxed) {
            give_back();
        }
    }
}

async fn sweep<B>(pool: &crate::upstream::pool::Pool<B>) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        pool.sweep();
    }
}
