//! What is known about jobs: one by its id, the numbers of a task.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::scripts as lua;
use super::{RedisQueue, wire};
use crate::queue::contract::{Change, Counts, JobBook, QueueError, ResultsFilter, ResultsMark, ResultsPage};
use crate::queue::job::{Entry, JobState};

#[async_trait]
impl JobBook for RedisQueue {
    async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(job_id).arg(super::to_millis(self.0.config.result_ttl));
        };
        let known: Vec<Value> = self.invoke(&lua::JOB, task, add).await?;
        let read = |value: &Value| redis::from_redis_value_ref::<Option<String>>(value);
        let texts: Result<Vec<Option<String>>, _> = known.iter().map(read).collect();
        let texts = texts.map_err(|error| QueueError::Corrupt(error.to_string()))?;
        match texts.as_slice() {
            [] => Ok(None),
            [Some(state), Some(attempt), Some(waited), Some(failures)] => Ok(Some(JobState {
                state: state.clone(),
                attempt: attempt.parse().unwrap_or_default(),
                failures: wire::failures(failures.as_bytes()).unwrap_or_default(),
                waited: waited.parse().ok().map(Duration::from_millis),
                ..JobState::default()
            })),
            [Some(result), callback @ ..] => Ok(Some(JobState {
                state: wire::outcome_of(result)?,
                result: Some(raw(result.clone())?),
                callback: callback.first().cloned().flatten(),
                ..JobState::default()
            })),
            _ => Err(wire::corrupt("a job's state")),
        }
    }

    async fn entry(&self, task: &str, job_id: &str) -> Result<Option<Entry>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(job_id);
        };
        let body: Option<Vec<u8>> = self.invoke(&lua::ENTRY, task, add).await?;
        body.map(|body| Entry::from_body(&body).map_err(QueueError::Corrupt)).transpose()
    }

    async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError> {
        self.newest_results(tasks, filter).await
    }

    async fn results_page(
        &self,
        task: &str,
        after: Option<&ResultsMark>,
        limit: usize,
    ) -> Result<ResultsPage, QueueError> {
        self.page_of_results(task, after, limit).await
    }

    async fn counts(&self, task: &str) -> Result<Counts, QueueError> {
        // A script, and no transaction: of those Redis takes none when its memory is full.
        type Found = (Vec<(String, i64)>, Vec<(String, i64)>, u64, u64, Vec<Option<u64>>, String);
        let (depths, running, delayed, dead, counted, name): Found = self.invoke(&lua::COUNTS, task, |_| {}).await?;
        let counted = |i: usize| counted.get(i).copied().flatten().unwrap_or_default();
        let counts = Counts {
            depths: wire::depths(depths),
            running: wire::depths(running),
            delayed,
            bytes: counted(0),
            settled: counted(1),
            lost: counted(2),
            unrun: counted(3),
            dead,
        };
        self.saw_depth(task, &name, &counts.depths);
        Ok(counts)
    }

    async fn watch(&self, task: &str) -> Result<broadcast::Receiver<Change>, QueueError> {
        self.changes(task).await
    }
}

/// A stored text as the JSON it is.
pub(super) fn raw(text: String) -> Result<Box<RawValue>, QueueError> {
    RawValue::from_string(text).map_err(|error| QueueError::Corrupt(error.to_string()))
}
