//! Changes of jobs as they come: one reader a task and process, for all who watch.
//!
//! Scripts write down which jobs changed only while somebody watches (the key `watched`), and only their ids: what
//! became of them stands with the job. The stream keeps a minute, so a reader whose connection broke misses nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::broadcast;

use super::RedisQueue;
use super::wire::Fields;
use crate::queue::contract::{Change, QueueError};
use crate::queue::link::Connection;

/// Changes that one who watches may be behind.
const CAPACITY: usize = 1_024;
/// How long the key `watched` lasts without the reader, and how often it is renewed.
const WATCHED: Duration = Duration::from_secs(15);
/// How long one read waits.
const BLOCK: Duration = Duration::from_secs(3);
/// Pause while Redis cannot be read.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) type Hubs = Mutex<HashMap<String, broadcast::Sender<Change>>>;

impl RedisQueue {
    /// Changes of a task's jobs from now on.
    pub(super) async fn changes(&self, task: &str) -> Result<broadcast::Receiver<Change>, QueueError> {
        // Before the receiver is handed out, so that no change after it goes unwritten.
        self.keep_watched(task).await?;
        let start = self.last_event(task).await?;
        let mut hubs = self.0.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(task) {
            return Ok(hub.subscribe());
        }
        let (hub, receiver) = broadcast::channel(CAPACITY);
        hubs.insert(task.to_owned(), hub.clone());
        drop(hubs);
        let (queue, task, closed) = (self.clone(), task.to_owned(), self.0.closed.clone());
        self.0.tasks.spawn(async move {
            let reader = async {
                let mut reader = Reader { queue: &queue, task: &task, hub, after: start, connection: None };
                while reader.is_wanted() {
                    reader.read().await;
                }
            };
            closed.run_until_cancelled(reader).await;
        });
        Ok(receiver)
    }

    /// Says that somebody watches; `false` where that had been forgotten.
    async fn keep_watched(&self, task: &str) -> Result<bool, QueueError> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(task, "watched")).arg("1").arg("PX").arg(super::to_millis(WATCHED)).arg("GET");
        let before: Option<String> = self.run(&command).await?;
        Ok(before.is_some())
    }

    async fn last_event(&self, task: &str) -> Result<String, QueueError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.key(task, "events")).arg("+").arg("-").arg("COUNT").arg(1);
        let last: Vec<(String, Value)> = self.run(&command).await?;
        Ok(last.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id))
    }
}

struct Reader<'a> {
    queue: &'a RedisQueue,
    task: &'a str,
    hub: broadcast::Sender<Change>,
    after: String,
    connection: Option<Connection>,
}

impl Reader<'_> {
    /// Does anybody watch? If not, the hub goes, in the same step in which that is found.
    fn is_wanted(&self) -> bool {
        let mut hubs = self.queue.0.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.hub.receiver_count() > 0;
        if !wanted {
            hubs.remove(self.task);
        }
        wanted
    }

    async fn read(&mut self) {
        if let Err(error) = self.try_read().await {
            tracing::debug!(task = self.task, %error, "changes of jobs cannot be read; tried again");
            self.connection = None;
            // Nobody may be there to hear it.
            drop(self.hub.send(Change::Unknown));
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_read(&mut self) -> Result<(), QueueError> {
        if !self.queue.keep_watched(self.task).await? {
            drop(self.hub.send(Change::Unknown));
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.queue.0.link.blocking(BLOCK)?),
        };
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(200).arg("BLOCK").arg(super::to_millis(BLOCK));
        command.arg("STREAMS").arg(self.queue.key(self.task, "events")).arg(&self.after);
        type Streams = Option<Vec<(String, Vec<(String, Vec<Value>)>)>>;
        let found: Streams = command.query_async(connection).await?;
        for (id, fields) in found.into_iter().flatten().flat_map(|(_, entries)| entries) {
            let ids = Fields(&fields).text("ids").unwrap_or_default();
            drop(self.hub.send(Change::Jobs(ids.split(' ').map(str::to_owned).collect())));
            self.after = id;
        }
        Ok(())
    }
}
