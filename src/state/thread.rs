//! The one thread that has the connection, and the bounded queue before it.

use rusqlite::Connection;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// How many calls may wait; who comes then waits to be queued.
const QUEUE: usize = 1024;

/// What the thread does next.
pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

enum Order {
    Do(Job),
    /// What waits behind it is refused. Told when the connection is closed.
    Close(oneshot::Sender<()>),
}

/// The thread, as its callers see it. It ends when the last of them has gone.
#[derive(Clone)]
pub(super) struct Thread(mpsc::Sender<Order>);

impl Thread {
    pub(super) fn start(mut connection: Connection) -> io::Result<Self> {
        let (orders, mut queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            while let Some(order) = queue.blocking_recv() {
                match order {
                    Order::Do(job) => job(&mut connection),
                    Order::Close(told) => {
                        drop(queue);
                        if let Err((_, error)) = connection.close() {
                            tracing::error!(%error, "the state database could not be closed");
                        }
                        let _ = told.send(());
                        return;
                    }
                }
            }
        })?;
        Ok(Self(orders))
    }

    /// Runs `work` on the thread; `None` where the thread has ended.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(tell.send(work(connection))));
        self.0.send(Order::Do(job)).await.ok()?;
        told.await.ok()
    }

    /// Queues a job that nobody waits for; `false` where there is no room.
    pub(super) fn offer(&self, job: Job) -> bool {
        self.0.try_send(Order::Do(job)).is_ok()
    }

    pub(super) async fn close(&self) {
        let (tell, told) = oneshot::channel();
        if self.0.send(Order::Close(tell)).await.is_ok() {
            let _ = told.await;
        }
    }
}
