//! Callbacks on Redis: due since the settlement of their job.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::book::raw;
use super::scripts as lua;
use super::{RedisQueue, to_millis};
use crate::queue::contract::{Callback, Outbox, QueueError};

#[async_trait]
impl Outbox for RedisQueue {
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(limit).arg(to_millis(lease));
        };
        type Taken = Vec<(String, u64, String, u32, String)>;
        let (now, taken): (u64, Taken) = self.invoke(&lua::CALLBACKS, task, add).await?;
        let due = taken.into_iter().map(|(job_id, ended_at, url, before, result)| {
            let result = if result.is_empty() { None } else { Some(raw(result)?) };
            let (attempt, age) = (before.saturating_add(1), Duration::from_millis(now.saturating_sub(ended_at)));
            Ok(Callback { job_id, ended_at, url, attempt, age, result })
        });
        due.collect()
    }

    async fn callback_done(&self, task: &str, callback: &Callback, note: &str) -> Result<(), QueueError> {
        self.note_callback(task, callback, note, None).await
    }

    async fn callback_later(
        &self,
        task: &str,
        callback: &Callback,
        delay: Duration,
        note: &str,
    ) -> Result<(), QueueError> {
        self.note_callback(task, callback, note, Some(delay)).await
    }
}

impl RedisQueue {
    async fn note_callback(
        &self,
        task: &str,
        callback: &Callback,
        note: &str,
        delay: Option<Duration>,
    ) -> Result<(), QueueError> {
        let keep = to_millis(self.0.config.result_ttl);
        let add = |command: &mut redis::Cmd| {
            let delay = delay.map(|delay| to_millis(delay).to_string()).unwrap_or_default();
            command.arg(&callback.job_id).arg(callback.ended_at).arg(note).arg(delay).arg(keep);
        };
        self.invoke::<Value>(&lua::CALLBACK, task, add).await.map(drop)
    }
}
