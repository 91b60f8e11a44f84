//! Reading what became of jobs: one by its id, or the newest of some tasks.

use std::borrow::Cow;
use std::collections::BTreeSet;

use redis::AsyncCommands;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{JobState, QueueError, RedisQueue, ResultsFilter};

/// How many results one round trip reads while it filters.
const PAGE: usize = 500;
/// How far the order of settlement may differ from that of the finishing times, in milliseconds: consumers' clocks
/// differ, and a result that could not be stored at once is stored with the time at which it was there.
const DISORDER_MS: u64 = 600_000;

/// The fields of a stored result that the listing looks at.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    job_id: Cow<'a, str>,
    finished_at: u64,
    #[serde(borrow, default)]
    sensor_id: Option<Cow<'a, str>>,
}

impl RedisQueue {
    /// A job's state; `None` for an id that never was, or whose result has expired.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError> {
        let key = self.job_key(task, job_id);
        let found = self.link().get().hmget(key, &["state", "result"]).await;
        let (state, result): (Option<String>, Option<String>) = self.link().checked(found)?;
        let result = result.map(|json| parse(json.as_str())).transpose()?;
        Ok(state.map(|state| JobState { state, result }))
    }

    /// The newest results of some tasks, newest first.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError> {
        let mut found = Vec::new();
        for task in tasks {
            found.extend(self.results_of(task, filter).await?);
        }
        found.sort_by_key(|(finished_at, _)| std::cmp::Reverse(*finished_at));
        found.truncate(filter.limit);
        Ok(found.into_iter().map(|(_, result)| result).collect())
    }

    async fn results_of(&self, task: &str, filter: &ResultsFilter) -> Result<Vec<(u64, Box<RawValue>)>, QueueError> {
        let key = self.key(task, "results");
        let whole = filter.sensor_id.is_some() || filter.since.is_some();
        let page = if whole { PAGE } else { filter.limit.clamp(1, PAGE) };
        let mut found = Vec::new();
        // New results move the older ones down while this pages: what was seen is not shown twice.
        let mut seen = BTreeSet::new();
        let mut start = 0;
        loop {
            let range = self.link().get().lrange(&key, to_index(start), to_index(start + page - 1)).await;
            let texts: Vec<String> = self.link().checked(range)?;
            for text in &texts {
                let peek: Peek<'_> = parse(text)?;
                if filter.since.is_some_and(|since| peek.finished_at.saturating_add(DISORDER_MS) < since) {
                    return Ok(found);
                }
                let wanted = filter.since.is_none_or(|since| peek.finished_at >= since)
                    && (filter.sensor_id.is_none() || filter.sensor_id.as_deref() == peek.sensor_id.as_deref());
                if wanted && seen.insert(peek.job_id.into_owned()) {
                    found.push((peek.finished_at, parse(text)?));
                }
                if found.len() >= filter.limit {
                    return Ok(found);
                }
            }
            if texts.len() < page {
                return Ok(found);
            }
            start += page;
        }
    }
}

fn to_index(position: usize) -> isize {
    isize::try_from(position).unwrap_or(isize::MAX)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(error.to_string()))
}
