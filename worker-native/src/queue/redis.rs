//! The queue on Redis Streams, for any number of processes.
//!
//! Every transition is one script under `lua/`, so it happens whole or not at all. All keys of a task begin with
//! `prefix:{task}:` and share a slot; what they hold is told at the head of `lua/prelude.lua`. Streams are never
//! trimmed by length: an entry goes when its job is settled. Concurrent hand-ins and settlements of a task share
//! round trips (`grouper`). Where Redis is, and how a connection is mended, is `super::link`'s.

mod book;
mod changes;
mod dead;
mod grouper;
mod jobs;
mod labels;
mod outbox;
mod results;
pub mod scripts;
mod shared;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::FromRedisValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::{Enqueued, NewJob, QueueError, Settled, Settlement};
use crate::config::QueueConfig;
use changes::Hubs;
use grouper::Grouper;
use jobs::Seen;
use scripts::Script;

/// The queue on Redis; cheap to clone.
#[derive(Clone)]
pub struct RedisQueue(Arc<Inner>);

struct Inner {
    config: QueueConfig,
    link: Link,
    hand_ins: Grouper<(NewJob, Instant), Enqueued>,
    settlements: Grouper<Settlement, Settled>,
    waiting: jobs::Waiting,
    /// Claims so far: one that comes too late is known by its number.
    claims: AtomicU64,
    seen: Mutex<HashMap<String, Seen>>,
    hubs: Hubs,
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl std::fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisQueue").field("prefix", &self.0.config.prefix).finish_non_exhaustive()
    }
}

impl RedisQueue {
    /// Prepares the queue; the first command connects.
    ///
    /// # Errors
    /// [`QueueError`] when the URL cannot be used.
    pub fn open(config: &QueueConfig) -> Result<Self, QueueError> {
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            link: Link::open(&config.redis_url, config.command_timeout)?,
            hand_ins: Grouper::default(),
            settlements: Grouper::default(),
            waiting: jobs::Waiting::default(),
            claims: AtomicU64::new(0),
            seen: Mutex::default(),
            hubs: Hubs::default(),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
        })))
    }

    /// What all keys of a task begin with.
    fn base(&self, task: &str) -> String {
        format!("{}:{{{task}}}:", self.0.config.prefix)
    }

    fn key(&self, task: &str, name: &str) -> String {
        format!("{}{name}", self.base(task))
    }

    /// Runs a script on a task's keys.
    async fn invoke<T: FromRedisValue>(
        &self,
        script: &Script,
        task: &str,
        add: impl FnOnce(&mut redis::Cmd),
    ) -> Result<T, QueueError> {
        let command = script.call(&self.base(task), add);
        let mut connection = self.0.link.get();
        let mut found = command.query_async(&mut connection).await;
        if let Err(error) = &found
            && scripts::is_unknown(error)
        {
            found = script.in_full(&command).query_async(&mut connection).await;
        }
        Ok(found?)
    }

    async fn run<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, QueueError> {
        Ok(command.query_async(&mut self.0.link.get()).await?)
    }
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
