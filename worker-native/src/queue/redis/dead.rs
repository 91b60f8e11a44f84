//! Dead letters on Redis: a list by time, and a hash each.

use async_trait::async_trait;
use redis::{AsyncCommands, Value};

use super::RedisQueue;
use super::book::raw;
use super::scripts as lua;
use super::wire::{self, Fields};
use crate::queue::contract::{DeadLetter, DeadLetters, QueueError};
use crate::queue::job::Entry;

#[async_trait]
impl DeadLetters for RedisQueue {
    async fn dead(&self, task: &str, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        if limit == 0 {
            return Ok(vec![]);
        }
        let to_index = |position: usize| isize::try_from(position).unwrap_or(isize::MAX);
        let (first, last) = (to_index(skip), to_index(skip.saturating_add(limit - 1)));
        let ids: Vec<String> = self.0.link.get().zrevrange(self.key(task, "dead"), first, last).await?;
        // The client takes a pipeline without a command for an error.
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let mut pipe = redis::pipe();
        for id in &ids {
            pipe.hgetall(self.key(task, &format!("dead:{id}")));
        }
        let found: Vec<Vec<Value>> = pipe.query_async(&mut self.0.link.get()).await?;
        // One that has just expired or gone is none.
        let letters = ids.into_iter().zip(found).filter(|(_, fields)| !fields.is_empty());
        letters.map(|(id, fields)| letter(id, &fields)).collect()
    }

    async fn dead_letter(&self, task: &str, job_id: &str) -> Result<Option<DeadLetter>, QueueError> {
        let fields: Vec<Value> = self.0.link.get().hgetall(self.key(task, &format!("dead:{job_id}"))).await?;
        if fields.is_empty() { Ok(None) } else { letter(job_id.to_owned(), &fields).map(Some) }
    }

    async fn requeue(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(self.0.config.tenant_max_lines).arg(job_ids);
        };
        let answers: Vec<u8> = self.invoke(&lua::REQUEUE, task, add).await?;
        Ok(answers.into_iter().map(|answer| answer == 1).collect())
    }

    async fn drop_dead(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(job_ids);
        };
        let answers: Vec<u8> = self.invoke(&lua::DROP_DEAD, task, add).await?;
        Ok(answers.into_iter().map(|answer| answer == 1).collect())
    }
}

fn letter(job_id: String, fields: &[Value]) -> Result<DeadLetter, QueueError> {
    let fields = Fields(fields);
    let entry = fields.bytes("b").map_or_else(|| Err("its fields are missing".to_owned()), Entry::from_body);
    Ok(DeadLetter {
        job_id,
        entry,
        result: raw(fields.text("result").ok_or_else(|| wire::corrupt("a dead letter without a result"))?)?,
        failures: fields.bytes("failures").and_then(wire::failures).unwrap_or_default(),
        died_at: fields.number("died").unwrap_or_default(),
    })
}
