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
        let taken: Vec<(String, String, u32, u64, String)> = self.invoke(&lua::CALLBACKS, task, add).await?;
        let due = taken.into_iter().map(|(job_id, url, before, age, result)| {
            let result = if result.is_empty() { None } else { Some(raw(result)?) };
            let attempt = before.saturating_add(1);
            Ok(Callback { job_id, url, attempt, age: Duration::from_millis(age), result })
        });
        due.collect()
    }

    async fn callback_done(&self, task: &str, job_id: &str, note: &str) -> Result<(), QueueError> {
        self.note_callback(task, job_id, note, None).await
    }

    async fn callback_later(&self, task: &str, job_id: &str, delay: Duration, note: &str) -> Result<(), QueueError> {
        self.note_callback(task, job_id, note, Some(delay)).await
    }
}

impl RedisQueue {
    async fn note_callback(
        &self,
        task: &str,
        job_id: &str,
        note: &str,
        delay: Option<Duration>,
    ) -> Result<(), QueueError> {
        let keep = to_millis(self.0.config.result_ttl);
        let add = |command: &mut redis::Cmd| {
            let delay = delay.map(|delay| to_millis(delay).to_string()).unwrap_or_default();
            command.arg(job_id).arg(note).arg(delay).arg(keep);
        };
        self.invoke::<Value>(&lua::CALLBACK, task, add).await.map(drop)
    }
}
